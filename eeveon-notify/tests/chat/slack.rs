//! Slack, against the limits it publishes.

use std::sync::{Arc, LazyLock};

use eeveon_notify::{EventKind, Markup, Message, Notifier, NotifyError, Slack, SlackWay, Templates};
use eeveon_testkit::notify::{self, Mood, Received, Reply, Rig as _, Service, event};
use serde_json::{Value, json};

use crate::rig::{Chat, Verdict, credential, fixture, own_words, refusal, setup, units};

const HOOK: &str = "/services/T0123/B0123/hush-hush-hook";
const TOKEN: &str = "xoxb-hush-hush-token";

/// The numbers in Slack's table of limits: header, section text, fields, field, context.
static LIMITS: LazyLock<[usize; 5]> = LazyLock::new(|| {
    let Some(table) = fixture("slack/block_kit_limits.json") else { return [150, 3000, 10, 2000, 10] };
    let numbers = |kind: &str, field: &str| -> Vec<usize> {
        let rows = table["limits"].as_array().unwrap();
        let row = rows.iter().find(|row| row["type"] == kind && row["field"] == field).unwrap();
        let text = row["limit"].as_str().unwrap().replace(',', "");
        text.split(|c: char| !c.is_ascii_digit()).filter_map(|it| it.parse().ok()).collect()
    };
    let fields = numbers("SectionBlock", "fields");
    [
        numbers("HeaderBlock", "text")[0],
        numbers("SectionBlock", "text")[1],
        fields[0],
        fields[1],
        numbers("ContextBlock", "elements")[0],
    ]
});

/// Checks one text object; returns its text.
fn text_object(object: &Value, longest: usize) -> Result<String, String> {
    let text = object["text"].as_str().ok_or("no text")?;
    if text.is_empty() || units(text) > longest {
        return Err(format!("a text of {} characters, {longest} are allowed", units(text)));
    }
    match object["type"].as_str() {
        Some("plain_text") if object["emoji"] == false => Ok(text.to_owned()),
        Some("mrkdwn") if object["verbatim"] == true => {
            // Every `<` we wrote begins a link; all others must have been escaped.
            let bad = text.split('<').skip(1).any(|rest| !rest.starts_with("http"));
            if bad { Err(format!("markup in {text}")) } else { Ok(text.to_owned()) }
        }
        _ => Err(format!("a text object Slack would interpret: {object}")),
    }
}

/// Checks a message as Slack does; returns what people read.
fn read(body: &Value) -> Result<String, String> {
    let [header, section, fields, field, context] = *LIMITS;
    let fallback = body["text"].as_str().filter(|it| !it.is_empty() && !it.contains('<')).ok_or("no_text")?;
    let mut read = vec![fallback.to_owned()];
    let blocks = body["blocks"].as_array().ok_or("no blocks")?;
    if blocks.is_empty() || blocks.len() > 50 {
        return Err(format!("{} blocks", blocks.len()));
    }
    for block in blocks {
        match block["type"].as_str().unwrap_or_default() {
            "header" if block["text"]["type"] == "plain_text" => {
                read.push(text_object(&block["text"], header)?)
            }
            "section" => {
                if block["text"].is_object() {
                    read.push(text_object(&block["text"], section)?);
                }
                let list = block["fields"].as_array().cloned().unwrap_or_default();
                if list.len() > fields || (list.is_empty() && block["text"].is_null()) {
                    return Err(format!("{} fields", list.len()));
                }
                for object in &list {
                    read.push(text_object(object, field)?);
                }
            }
            "context" => {
                let list = block["elements"].as_array().ok_or("no elements")?;
                if list.is_empty() || list.len() > context {
                    return Err(format!("{} elements", list.len()));
                }
                for object in list {
                    read.push(text_object(object, section)?);
                }
            }
            other => return Err(format!("invalid_blocks: {other}")),
        }
    }
    match units(&body["blocks"].to_string()) {
        0..=13_200 => Ok(read.join("\n")),
        long => Err(format!("msg_blocks_too_long: {long}")),
    }
}

fn webhook(request: &Received, mood: Mood) -> Verdict {
    if let Some(reply) = refusal(request, mood) {
        return Verdict::Other(reply);
    }
    if request.path != HOOK || request.method != "POST" {
        return Verdict::Other(Reply::new(404, "no_service"));
    }
    if request.json() == json!({}) {
        return Verdict::Other(Reply::new(400, "no_text"));
    }
    match read(&request.json()) {
        Ok(text) => Verdict::Accepted(text, Reply::new(200, "ok")),
        Err(why) => Verdict::Other(Reply::new(400, format!("invalid_blocks {why}"))),
    }
}

fn by_webhook(service: &Service, templates: Templates) -> Arc<dyn Notifier> {
    let setup = setup("slack", &[("HOOK", &service.url(HOOK))], templates);
    Arc::new(Slack::new(setup, SlackWay::Webhook { url: credential("env:HOOK") }).unwrap())
}

/// The parameters of chat.postMessage, where Slack's description of them lies.
static PARAMETERS: LazyLock<Option<Vec<(String, String)>>> = LazyLock::new(|| {
    let api = fixture("slack-openapi/slack_web_openapi_v2_without_examples.json")?;
    let parameters = api["paths"]["/chat.postMessage"]["post"]["parameters"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Some(parameters.iter().map(|it| (text(&it["name"]), text(&it["type"]))).collect())
});

fn known_parameters(body: &Value) -> Result<(), String> {
    let Some(parameters) = &*PARAMETERS else { return Ok(()) };
    for (name, value) in body.as_object().ok_or("invalid_json")? {
        let (_, kind) =
            parameters.iter().find(|(it, _)| it == name).ok_or(format!("invalid_arg_name {name}"))?;
        let fits = match kind.as_str() {
            "boolean" => value.is_boolean(),
            // Lists of blocks are described as their JSON text.
            _ => value.is_string() || (name == "blocks" && value.is_array()),
        };
        if !fits {
            return Err(format!("{name} is no {kind}"));
        }
    }
    Ok(())
}

fn api(request: &Received, mood: Mood) -> Verdict {
    let no =
        |error: &str| Verdict::Other(Reply::new(200, json!({ "ok": false, "error": error }).to_string()));
    match mood {
        Mood::Broken => return Verdict::Other(Reply::new(503, request.path.clone())),
        Mood::Denying => {
            let echo =
                json!({ "ok": false, "error": "invalid_auth", "echo": request.header("authorization") });
            return Verdict::Other(Reply::new(200, echo.to_string()));
        }
        Mood::Throttling => {
            return Verdict::Other(
                Reply::new(429, r#"{"ok":false,"error":"ratelimited"}"#).with("Retry-After", "7"),
            );
        }
        Mood::Accepting => {}
    }
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return no("invalid_auth");
    }
    if request.header("content-type") != Some("application/json; charset=utf-8") {
        return no("invalid_post_type");
    }
    let body = request.json();
    match request.path.as_str() {
        "/api/auth.test" => Verdict::Other(Reply::new(200, r#"{"ok":true,"team":"T","user":"eeveon"}"#)),
        "/api/chat.postMessage" if body["channel"] != "C0123" => no("channel_not_found"),
        "/api/chat.postMessage" => match known_parameters(&body).and_then(|()| read(&body)) {
            Ok(text) => {
                Verdict::Accepted(text, Reply::new(200, r#"{"ok":true,"channel":"C0123","ts":"1.2"}"#))
            }
            Err(why) => no(&why),
        },
        _ => Verdict::Other(Reply::new(404, "")),
    }
}

fn by_api(service: &Service, token: &str, channel: &str) -> Arc<dyn Notifier> {
    let setup = setup("slack", &[("TOKEN", token)], Templates::default());
    let way = SlackWay::Bot {
        token: credential("env:TOKEN"),
        channel: channel.to_owned(),
        url: Some(service.url("/api")),
    };
    Arc::new(Slack::new(setup, way).unwrap())
}

#[tokio::test]
async fn a_webhook_keeps_the_contract() {
    let chat = Chat::start(webhook, &["hush-hush", HOOK], |it| by_webhook(it, Templates::default())).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn a_bot_keeps_the_contract() {
    let chat = Chat::start(api, &["hush-hush"], |it| by_api(it, TOKEN, "C0123")).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn own_words_keep_the_contract() {
    let source = "*{{ title }}* {{ subject }} {{ author }} {{ branch }}{% if message %}\n{{ message }}{% endif %}\
                  {% for cause in causes %}\n• {{ cause }}{% endfor %}{% if link %} <{{ link }}|more>{% endif %}";
    let chat =
        Chat::start(webhook, &["hush-hush"], |it| by_webhook(it, own_words(Markup::SlackMrkdwn, source)))
            .await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn a_failure_says_the_four_things() {
    let chat = Chat::start(webhook, &[], |it| by_webhook(it, Templates::default())).await;
    chat.notifier().notify(&Message::of(event(EventKind::Failed))).await.unwrap();
    let body = chat.service.received()[0].json();
    assert_eq!(body["text"], "❌ shop: release 12 failed, release 11 still serves");
    let text = chat.accepted().remove(0);
    for part in [
        "Failed\ncheck [health/unhealthy]",
        "Why\nthe release did not answer in time\nconnection refused\nport 3000 is closed",
        "Now\nrelease 11 serves, commit fedcba98",
        "Next\nlook at the log of the service\nee-deploy why 42",
        "More\nand 3 more like it",
        "Commit\n01234567 Fix the checkout of empty carts",
        "<https://deploy.example.org/shop/42?tab=log&amp;x=%28a%29%5Fb|Read more>",
    ] {
        assert!(text.contains(part), "{part}\n--\n{text}");
    }
}

#[tokio::test]
async fn what_slack_answers_tells_login_recipient_and_refusal_apart() {
    let chat = Chat::start(api, &["hush-hush"], |it| by_api(it, "xoxb-other", "C0123")).await;
    let message = Message::of(event(EventKind::Succeeded));
    let error = chat.notifier().notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Login { .. }), "{error:?}");
    let other = by_api(&chat.service, TOKEN, "C9");
    let error = other.notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");

    let gone = Chat::start(
        |_, _| Verdict::Other(Reply::new(410, "channel_is_archived")),
        &[],
        |it| by_webhook(it, Templates::default()),
    )
    .await;
    let error = gone.notifier().notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "channel `slack` did not accept a recipient: status 410: channel_is_archived"
    );
    let error = gone.notifier().check().await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");

    let odd =
        Chat::start(|_, _| Verdict::Other(Reply::new(200, "<html>")), &[], |it| by_api(it, TOKEN, "C")).await;
    let error = odd.notifier().notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Unreachable { .. }), "{error:?}");
}
