//! Discord, against its published description.

use std::sync::{Arc, LazyLock};

use eeveon_notify::{Discord, DiscordConfig, EventKind, Markup, Message, Notifier, NotifyError, Templates};
use eeveon_testkit::notify::{self, Mood, Received, Reply, Rig as _, Service, event};
use serde_json::{Value, json};

use crate::{
    rig::{Chat, Verdict, credential, fixture, own_words, setup, units},
    schema::violation,
};

const HOOK: &str = "/api/webhooks/123456/hush-hush-hook";

static DESCRIPTION: LazyLock<Option<Value>> = LazyLock::new(|| fixture("discord/specs/openapi.json"));

/// Says whether a value could be taken for markup.
fn has_markup(text: &str) -> bool {
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | '@' => return true,
            _ => {}
        }
    }
    // An address is one only while its colon is not escaped.
    text.replace("\\:", "").contains("://")
}

/// Checks a message as Discord does; returns what people read.
fn read(body: &Value) -> Result<String, String> {
    if let Some(description) = &*DESCRIPTION {
        let schema = &description["components"]["schemas"]["IncomingWebhookRequestPartial"];
        if let Some(why) = violation(body, schema, description, "") {
            return Err(why);
        }
    }
    if body["allowed_mentions"] != json!({ "parse": [] }) {
        return Err("mentions are allowed".to_owned());
    }
    let mut texts = Vec::new();
    for embed in body["embeds"].as_array().ok_or("no embeds")? {
        for field in embed["fields"].as_array().into_iter().flatten() {
            for part in ["name", "value"] {
                let text = field[part].as_str().unwrap_or_default();
                if text.trim().is_empty() {
                    return Err("this field is required".to_owned());
                }
                if has_markup(text) {
                    return Err(format!("markup in {text}"));
                }
                texts.push(text.to_owned());
            }
        }
        for part in ["title", "description"] {
            texts.extend(embed[part].as_str().map(str::to_owned));
        }
    }
    match texts.iter().map(|text| units(text)).sum() {
        0 => Err("empty message".to_owned()),
        1..=6000 => Ok(texts.join("\n")),
        long => Err(format!("embed size exceeds the maximum: {long}")),
    }
}

fn judge(request: &Received, mood: Mood) -> Verdict {
    let other = |status, body: Value| Verdict::Other(Reply::new(status, body.to_string()));
    let echo = format!("{} {:?}", request.path, request.headers);
    match mood {
        Mood::Broken => return other(502, json!({ "message": echo })),
        Mood::Denying => return other(401, json!({ "message": echo, "code": 50027 })),
        Mood::Throttling => {
            return other(429, json!({ "message": "slow down", "retry_after": 7.0, "global": false }));
        }
        Mood::Accepting => {}
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if path != HOOK {
        return other(404, json!({ "message": "Unknown Webhook", "code": 10015 }));
    }
    if request.method == "GET" {
        return other(200, json!({ "id": "123456", "name": "eeveon" }));
    }
    match read(&request.json()) {
        Ok(text) if query == "wait=true&thread_id=99" => Verdict::Accepted(text, Reply::new(200, "{}")),
        Ok(_) => other(400, json!({ "message": "no thread" })),
        Err(why) => other(400, json!({ "message": why, "code": 50035 })),
    }
}

fn make(service: &Service, path: &str, templates: Templates) -> Arc<dyn Notifier> {
    let setup = setup("discord", &[("HOOK", &service.url(path))], templates);
    Arc::new(Discord::new(setup, DiscordConfig { url: credential("env:HOOK"), thread: Some(99) }).unwrap())
}

#[tokio::test]
async fn a_webhook_keeps_the_contract() {
    let chat = Chat::start(judge, &["hush-hush", HOOK], |it| make(it, HOOK, Templates::default())).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn own_words_keep_the_contract() {
    let source =
        "**{{ title }}**\n{{ subject }} {{ author }} {{ branch }} {{ message }} {{ causes | join(', ') }}";
    let templates = own_words(Markup::DiscordMarkdown, source);
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, HOOK, templates)).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn an_embed_has_title_link_color_and_fields() {
    let chat = Chat::start(judge, &[], |it| make(it, HOOK, Templates::default())).await;
    chat.notifier().notify(&Message::of(event(EventKind::RolledBack))).await.unwrap();
    let embed = chat.service.received()[0].json()["embeds"][0].clone();
    assert_eq!(
        embed["title"],
        "❌ shop: release 12 failed after the switch and was rolled back, release 11 serves"
    );
    assert_eq!(embed["timestamp"], "2026-03-04T05:06:07Z");
    assert_eq!(embed["url"], "https://deploy.example.org/shop/42?tab=log&x=%28a%29%5Fb");
    assert_eq!(embed["color"], 0xcf_22_2e);
    assert!(embed["fields"].as_array().unwrap().iter().any(|field| field["name"] == "Why"
        && field["inline"] == false
        && field["value"].as_str().unwrap().starts_with("the release did not answer")));
}

#[tokio::test]
async fn an_unknown_webhook_is_a_wrong_recipient() {
    let chat =
        Chat::start(judge, &["hush-hush"], |it| make(it, "/api/webhooks/1/x", Templates::default())).await;
    let error = chat.notifier().notify(&Message::of(event(EventKind::Succeeded))).await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");
    let error = chat.notifier().check().await.unwrap_err();
    assert!(matches!(error, NotifyError::Recipient { .. }), "{error:?}");
}

#[test]
fn the_walker_finds_what_is_wrong() {
    let root = json!({ "a": { "type": "object", "required": ["x"], "properties": {
        "x": { "type": ["string", "null"], "maxLength": 3 }, "y": { "items": { "$ref": "#/b" }, "maxItems": 2 } } },
        "b": { "oneOf": [{ "type": "null" }, { "type": "integer", "maximum": 9 }] } });
    let check = |value: Value| violation(&value, &root["a"], &root, "");
    assert_eq!(check(json!({ "x": "abc", "y": [null, 9] })), None);
    for bad in [
        json!({}),
        json!({ "x": "abcd" }),
        json!({ "x": 1 }),
        json!({ "x": null, "z": 1 }),
        json!({ "x": null, "y": [10] }),
        json!({ "x": null, "y": [1, 2, 3] }),
    ] {
        assert!(check(bad.clone()).is_some(), "{bad}");
    }
}
