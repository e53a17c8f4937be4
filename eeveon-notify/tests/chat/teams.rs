//! Teams, against the shape of an Adaptive Card and the size Teams takes.

use std::sync::Arc;

use eeveon_notify::{EventKind, Markup, Message, Notifier, Teams, Templates};
use eeveon_testkit::notify::{self, Mood, Received, Reply, Rig as _, Service, event};
use serde_json::Value;

use crate::rig::{Chat, Verdict, credential, own_words, refusal, setup};

const HOOK: &str = "/workflows/0123/triggers/manual/paths/invoke?sp=%2Ftriggers&sig=hush-hush-signature";

/// Checks a message as Teams does; returns what people read.
fn read(request: &Received) -> Result<String, String> {
    if request.body.len() > 28 * 1024 {
        return Err(format!("{} bytes", request.body.len()));
    }
    let body = request.json();
    let attachment = &body["attachments"][0];
    let card = &attachment["content"];
    let envelope = body["type"] == "message"
        && attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        && card["type"] == "AdaptiveCard"
        && card["version"] == "1.4";
    if !envelope {
        return Err("no card".to_owned());
    }
    let mut read = Vec::new();
    for block in card["body"].as_array().filter(|body| !body.is_empty()).ok_or("no body")? {
        // The only element in which no Markdown is read.
        if block["type"] != "RichTextBlock" {
            return Err(format!("{} could read Markdown", block["type"]));
        }
        let mut line = String::new();
        for run in block["inlines"].as_array().ok_or("no inlines")? {
            let text = run["text"].as_str().filter(|it| !it.is_empty()).ok_or("a run without text")?;
            if run["type"] != "TextRun" || text.contains('\n') {
                return Err(format!("a run that is none: {run}"));
            }
            line.push_str(text);
        }
        read.push(line);
    }
    for action in card["actions"].as_array().into_iter().flatten() {
        let url = action["url"].as_str().unwrap_or_default();
        if action["type"] != "Action.OpenUrl" || !url.starts_with("http") {
            return Err(format!("an action that is none: {action}"));
        }
    }
    Ok(read.join("\n"))
}

fn judge(request: &Received, mood: Mood) -> Verdict {
    if let Some(reply) = refusal(request, mood) {
        return Verdict::Other(reply);
    }
    if request.path != HOOK {
        return Verdict::Other(Reply::new(401, "DirectApiAuthorizationRequired"));
    }
    match read(request) {
        Ok(text) => Verdict::Accepted(text, Reply::new(202, "")),
        Err(why) => Verdict::Other(Reply::new(400, why)),
    }
}

fn make(service: &Service, templates: Templates) -> Arc<dyn Notifier> {
    let setup = setup("teams", &[("HOOK", &service.url(HOOK))], templates);
    Arc::new(Teams::new(setup, credential("env:HOOK")).unwrap())
}

#[tokio::test]
async fn a_workflow_keeps_the_contract() {
    let chat = Chat::start(judge, &["hush-hush", HOOK], |it| make(it, Templates::default())).await;
    notify::run_all(&chat.without_proof()).await;
}

#[tokio::test]
async fn own_words_keep_the_contract() {
    let source =
        "{{ title }}\n\n{{ subject }} {{ author }} {{ branch }}\n{{ message }} {{ causes | join(' ') }}";
    let templates = own_words(Markup::Plain, source);
    let chat = Chat::start(judge, &["hush-hush"], |it| make(it, templates)).await;
    notify::run_all(&chat.without_proof()).await;
}

#[tokio::test]
async fn a_card_says_what_waits_and_how_to_go_on() {
    let chat = Chat::start(judge, &[], |it| make(it, Templates::default())).await;
    chat.notifier().notify(&Message::of(event(EventKind::WaitingForApproval))).await.unwrap();
    let text = chat.accepted().remove(0);
    assert!(text.starts_with("⚠️ shop: release 12 waits for approval\nProject: shop\n"), "{text}");
    assert!(text.contains("Next: ee-deploy approve shop\nee-deploy reject shop --reason WHY"), "{text}");
    let card: Value = chat.service.received()[0].json()["attachments"][0]["content"].clone();
    assert_eq!(card["body"][0]["inlines"][0]["color"], "Warning");
    assert_eq!(card["actions"][0]["url"], "https://deploy.example.org/shop/42?tab=log&x=%28a%29%5Fb");
}

#[tokio::test]
async fn own_words_of_many_lines_are_cut_so_that_they_fit() {
    let templates = own_words(Markup::Plain, &format!("{{{{ title }}}}\n{}", "x\n".repeat(1500)));
    let chat = Chat::start(judge, &[], |it| make(it, templates)).await;
    chat.notifier().notify(&Message::of(event(EventKind::Succeeded))).await.unwrap();
    let text = chat.accepted().remove(0);
    assert!(text.starts_with("shop: release 12 is live\nx\nx\n"), "{text}");
}
