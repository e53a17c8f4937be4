//! Telegram, against the tags, entities and lengths it documents.

use std::sync::{Arc, LazyLock};

use eeveon_core::Diagnose as _;
use eeveon_notify::{EventKind, Markup, Message, Notifier, NotifyError, Telegram, TelegramConfig, Templates};
use eeveon_testkit::notify::{self, Mood, Received, Reply, Rig as _, Service, event};
use serde_json::{Value, json};

use crate::rig::{Chat, Verdict, credential, fixture, own_words, setup, units};

const TOKEN: &str = "123456:hush-hush_TOKEN";

static API: LazyLock<Option<Value>> = LazyLock::new(|| fixture("telegram/api.min.json"));

/// Reads the HTML Telegram knows, <https://core.telegram.org/bots/api#html-style>. Returns the text,
/// and what of it stands where Telegram goes looking for links and names.
fn parse(html: &str) -> Result<(String, String), String> {
    let (mut text, mut bare, mut open) = (String::new(), String::new(), Vec::new());
    let mut rest = html;
    while let Some(c) = rest.chars().next() {
        let mut shown = c;
        let mut length = c.len_utf8();
        if c == '<' {
            let end = rest.find('>').ok_or("unclosed start tag")?;
            let tag = &rest[1..end];
            if let Some(name) = tag.strip_prefix('/') {
                if open.pop() != Some(name) {
                    return Err(format!("unexpected end tag {name}"));
                }
            } else {
                let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
                let known =
                    ["b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "code", "pre", "blockquote"];
                let link = name == "a" && attributes.starts_with("href=\"http") && attributes.ends_with('"');
                let plain = known.contains(&name) && attributes.is_empty();
                if !(plain || link && attributes.matches('"').count() == 2) {
                    return Err(format!("unsupported start tag {tag}"));
                }
                if open.iter().any(|it| matches!(*it, "code" | "pre")) {
                    return Err("nothing can stand in code".to_owned());
                }
                open.push(name);
            }
            rest = &rest[end + 1..];
            continue;
        }
        if c == '&' {
            let end = rest.find(';').ok_or("an ampersand")?;
            shown = match &rest[1..end] {
                "lt" => '<',
                "gt" => '>',
                "amp" => '&',
                "quot" => '"',
                "#39" => '\'',
                other => return Err(format!("unknown entity {other}")),
            };
            length = end + 1;
        }
        text.push(shown);
        if !open.iter().any(|it| matches!(*it, "code" | "pre" | "a")) {
            bare.push(shown);
        }
        rest = &rest[length..];
    }
    match open.pop() {
        Some(tag) => Err(format!("{tag} is not closed")),
        None => Ok((text, bare)),
    }
}

/// Checks the parameters against the description of the API.
fn parameters(body: &Value) -> Result<(), String> {
    let Some(api) = &*API else { return Ok(()) };
    let fields = api["methods"]["sendMessage"]["fields"].as_array().unwrap();
    for field in fields.iter().filter(|field| field["required"] == true) {
        body.get(field["name"].as_str().unwrap()).ok_or(format!("{} is empty", field["name"]))?;
    }
    for (name, value) in body.as_object().unwrap() {
        let field =
            fields.iter().find(|field| field["name"] == name.as_str()).ok_or(format!("what is {name}"))?;
        let fits = field["types"].as_array().unwrap().iter().any(|kind| match kind.as_str().unwrap() {
            "Integer" => value.is_i64(),
            "String" => value.is_string(),
            "Boolean" => value.is_boolean(),
            _ => value.is_object(),
        });
        if !fits {
            return Err(format!("{name} is of a wrong type"));
        }
    }
    Ok(())
}

fn judge(request: &Received, mood: Mood) -> Verdict {
    let no = |status: u16, why: &str| {
        let body = json!({ "ok": false, "error_code": status, "description": why });
        Verdict::Other(Reply::new(status, body.to_string()))
    };
    match mood {
        Mood::Broken => return no(502, &request.path),
        Mood::Denying => return no(401, &format!("Unauthorized: {}", request.path)),
        Mood::Throttling => {
            let body = json!({ "ok": false, "error_code": 429, "description": "Too Many Requests: retry after 7",
                "parameters": { "retry_after": 7 } });
            return Verdict::Other(Reply::new(429, body.to_string()));
        }
        Mood::Accepting => {}
    }
    let Some(method) = request.path.strip_prefix(&format!("/bot{TOKEN}/")) else {
        return no(404, "Not Found");
    };
    let body = request.json();
    if body["chat_id"] != -1001 {
        return no(400, "Bad Request: chat not found");
    }
    if method == "getChat" {
        return Verdict::Other(Reply::new(200, r#"{"ok":true,"result":{"id":-1001}}"#));
    }
    let text = body["text"].as_str().unwrap_or_default();
    match parameters(&body).and_then(|()| parse(text)) {
        Err(why) => no(400, &format!("Bad Request: can't parse entities: {why}")),
        Ok((text, _)) if text.trim().is_empty() => no(400, "Bad Request: message text is empty"),
        Ok((text, _)) if units(&text) > 4096 => no(400, "Bad Request: message is too long"),
        Ok((_, bare)) if body["disable_notification"] == false && bare.contains(['@', '/', '.', '$']) => {
            no(400, &format!("links and names would be found in {bare}"))
        }
        Ok((text, _)) => Verdict::Accepted(text, Reply::new(200, r#"{"ok":true,"result":{}}"#)),
    }
}

fn make(service: &Service, token: &str, chat: &str, templates: Templates) -> Arc<dyn Notifier> {
    let config = TelegramConfig {
        token: credential("env:TOKEN"),
        chat: chat.to_owned(),
        thread: Some(5),
        url: Some(service.url("/")),
    };
    Arc::new(Telegram::new(setup("telegram", &[("TOKEN", token)], templates), config).unwrap())
}

#[tokio::test]
async fn a_bot_keeps_the_contract() {
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, TOKEN, "-1001", Templates::default())).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn own_words_keep_the_contract() {
    let source = "<b>{{ title }}</b>\n<code>{{ subject }} {{ author }} {{ branch }}</code>\
                  {% for cause in causes %}\n<code>{{ cause }}</code>{% endfor %}\
                  {% if link %}\n<a href=\"{{ link }}\">more</a>{% endif %}";
    let templates = own_words(Markup::TelegramHtml, source);
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, TOKEN, "-1001", templates)).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn a_message_has_no_preview_and_goes_to_its_topic() {
    let chat = Chat::start(judge, &[], |it| make(it, TOKEN, "-1001", Templates::default())).await;
    chat.notifier().notify(&Message::of(event(EventKind::Succeeded))).await.unwrap();
    let body = chat.service.received()[0].json();
    assert_eq!(body["link_preview_options"], json!({ "is_disabled": true }));
    assert_eq!(body["message_thread_id"], 5);
    assert_eq!(body["parse_mode"], "HTML");
    let text = body["text"].as_str().unwrap();
    assert!(
        text.starts_with("<b>✅ shop: release 12 is live</b>\n\n<b>Project</b> <code>shop</code>"),
        "{text}"
    );
}

#[tokio::test]
async fn what_telegram_answers_tells_login_and_recipient_apart() {
    let message = Message::of(event(EventKind::Succeeded));
    let chat = Chat::start(judge, &[], |it| make(it, "1:another", "-1001", Templates::default())).await;
    let error = chat.notifier().notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Login { .. }), "{error:?}");
    let error =
        make(&chat.service, TOKEN, "@nobody", Templates::default()).notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");
    let error =
        make(&chat.service, "a/../b?", "-1001", Templates::default()).notify(&message).await.unwrap_err();
    assert!(matches!(error, NotifyError::Config { .. }), "{error:?}");
    assert!(!format!("{error:?}{error}").contains("a/../b"), "{error:?}");
}

#[test]
fn the_reader_refuses_what_telegram_refuses() {
    assert_eq!(parse("<b>a</b> <code>&lt;b&gt;</code>"), Ok(("a <b>".to_owned(), "a ".to_owned())));
    for bad in
        ["<b>a", "a</b>", "<b><i>a</b></i>", "<p>a</p>", "a & b", "a < b", "&nbsp;", "<code><b>a</b></code>"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// Something between may answer in its place, and a message that is believed to be there is not sent again.
#[tokio::test]
async fn only_telegram_s_own_word_for_it_is_believed() {
    for (body, code) in [
        (r#"{"ok":true,"result":{}}"#, None),
        (r#"{"ok":false,"description":"no"}"#, Some("notify/refused")),
        (r#"{"result":{}}"#, Some("notify/unreachable")),
        ("<html>Welcome to the hotel</html>", Some("notify/unreachable")),
        ("", Some("notify/unreachable")),
    ] {
        let service = Service::start(move |_| Reply::new(200, body)).await;
        let config = TelegramConfig {
            token: credential("env:TOKEN"),
            chat: "-1001".to_owned(),
            thread: None,
            url: Some(service.url("")),
        };
        let setup = setup("telegram", &[("TOKEN", TOKEN)], Templates::default());
        let telegram = Telegram::new(setup, config).unwrap();
        let sent = telegram.notify(&Message::of(event(EventKind::Succeeded))).await;
        for result in [sent, telegram.check().await.map(drop)] {
            assert_eq!(result.err().map(|it| it.code()), code, "{body}");
        }
    }
}
