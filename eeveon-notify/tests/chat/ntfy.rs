//! ntfy, against the limits of its server.

use std::sync::Arc;

use eeveon_notify::{EventKind, Markup, Message, Notifier, Ntfy, NtfyConfig, Templates};
use eeveon_testkit::notify::{self, Mood, Received, Reply, Rig as _, Service, event};
use serde_json::json;

use crate::rig::{Chat, Verdict, credential, own_words, refusal, setup};

const TOKEN: &str = "tk_hush-hush-token";
const TOPIC: &str = "shop-hush-hush";

fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Checks a message as the server does; returns what people read.
fn read(request: &Received) -> Result<String, String> {
    if request.body.len() > 8192 {
        return Err("JSON body too large".to_owned());
    }
    let body = request.json();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let (title, message) = (text("title"), text("message"));
    let fits = body["topic"] == TOPIC
        && is_id(&text("sequence_id"))
        && body["priority"].as_u64().is_some_and(|it| (1..=5).contains(&it))
        && (1..4096).contains(&message.len())
        && title.len() <= 1024
        && body["tags"].to_string().len() <= 512;
    if fits { Ok(format!("{title}\n{message}")) } else { Err(format!("invalid request: {body}")) }
}

fn judge(request: &Received, mood: Mood) -> Verdict {
    if let Some(reply) = refusal(request, mood) {
        return Verdict::Other(reply);
    }
    if request.header("authorization") != Some(&format!("Bearer {TOKEN}")) {
        return Verdict::Other(Reply::new(401, r#"{"code":40101,"http":401,"error":"unauthorized"}"#));
    }
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/base/v1/health") => Verdict::Other(Reply::new(200, r#"{"healthy":true}"#)),
        ("POST", "/base") => match read(request) {
            Ok(text) => Verdict::Accepted(text, Reply::new(200, "{}")),
            Err(why) => Verdict::Other(Reply::new(400, json!({ "code": 40017, "error": why }).to_string())),
        },
        _ => Verdict::Other(Reply::new(404, "page not found")),
    }
}

fn make(service: &Service, templates: Templates) -> Arc<dyn Notifier> {
    let config = NtfyConfig {
        topic: credential("env:TOPIC"),
        token: Some(credential("env:TOKEN")),
        url: Some(service.url("/base/")),
    };
    let setup = setup("ntfy", &[("TOPIC", TOPIC), ("TOKEN", TOKEN)], templates);
    Arc::new(Ntfy::new(setup, config).unwrap())
}

#[tokio::test]
async fn a_topic_keeps_the_contract() {
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, Templates::default())).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn own_words_keep_the_contract() {
    let source =
        "{{ title }} {{ subject }} {{ author }} {{ branch }} {{ message }} {{ causes | join('\n') }}";
    let templates = own_words(Markup::Plain, source);
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, templates)).await;
    notify::run_all(&chat).await;
}

#[tokio::test]
async fn a_failure_is_urgent_and_can_be_sent_twice() {
    let chat = Chat::start(judge, &[], |it| make(it, Templates::default())).await;
    let message = Message::of(event(EventKind::Failed));
    chat.notifier().notify(&message).await.unwrap();
    chat.notifier().notify(&message).await.unwrap();
    let received = chat.service.received();
    let (one, two) = (received[0].json(), received[1].json());
    assert_eq!(one["sequence_id"], "shop-42-7-failed-1772600767000");
    assert_eq!(one, two);
    assert_eq!((&one["priority"], &one["tags"]), (&json!(5), &json!(["x"])));
    assert_eq!(one["click"], "https://deploy.example.org/shop/42?tab=log&x=%28a%29%5Fb");
    assert!(one["message"].as_str().unwrap().contains("Failed: check [health/unhealthy]\nWhy: "));
}
