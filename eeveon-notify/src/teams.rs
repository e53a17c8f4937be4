//! Microsoft Teams: the webhook of a workflow, and messages that are Adaptive Cards. Text from
//! outside goes into `TextRun`s only, in which Teams reads no Markdown:
//! <https://learn.microsoft.com/adaptive-cards/authoring-cards/text-features>.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    Credential, Level, Message, Notifier, NotifyError, Setup, Templates, Wording,
    http::{Http, Outgoing},
};

/// The largest message, in bytes. Teams says 28 KB, counted with what it adds itself:
/// <https://learn.microsoft.com/connectors/teams/#known-issues-and-limitations-with-actions>.
const MESSAGE_BYTES: usize = 20_000;

/// Tells a Teams channel or chat.
#[derive(Debug)]
pub struct Teams {
    http: Http,
    templates: Templates,
    url: Credential,
}

impl Teams {
    /// Makes the channel. `url` is what the workflow "When a Teams webhook request is received" gave.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, url: Credential) -> Result<Self, NotifyError> {
        let http = Http::new(&setup.name, setup.secrets, &setup.http)?;
        http.check_address(&url)?;
        Ok(Self { http, templates: setup.templates, url })
    }
}

#[async_trait]
impl Notifier for Teams {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let wording = Wording::of(&message.event);
        let own = self.templates.render(self.http.channel(), &message.event);
        let body = match own {
            Some(text) => written(&wording, &text),
            None => {
                let size = |wording: &Wording| lay_out(wording).to_string().len();
                lay_out(&wording.within(MESSAGE_BYTES, size))
            }
        };
        let url = self.http.address(&self.url).await?;
        self.http.send(Outgoing::post(url, &body)).await?.accepted(self.http.channel())
    }

    async fn check(&self) -> Result<String, NotifyError> {
        // A workflow starts on every request that reaches it.
        self.http.address(&self.url).await?;
        Ok("an address is set; whether it is right only a message shows".to_owned())
    }
}

/// Lays out what an operator's own template says, cut so that Teams takes it.
fn written(wording: &Wording, text: &str) -> Value {
    let mut kept = text;
    loop {
        let body = envelope(wording, kept.lines().map(|line| block(&[run(line)])).collect());
        if kept.is_empty() || body.to_string().len() <= MESSAGE_BYTES {
            return body;
        }
        let half = kept.len() / 2;
        let end = (0..=half).rev().find(|at| kept.is_char_boundary(*at)).unwrap_or_default();
        kept = kept.get(..end).unwrap_or_default();
    }
}

/// Lays out the default message.
fn lay_out(wording: &Wording) -> Value {
    let mut title = run(&format!("{} {}", wording.sign(), wording.title));
    if let Some(title) = title.as_object_mut() {
        title.insert("weight".to_owned(), json!("Bolder"));
        title.insert("size".to_owned(), json!("Medium"));
        title.insert("color".to_owned(), json!(color(wording.level)));
    }
    let mut body = vec![block(&[title])];
    for fact in &wording.facts {
        let mut name = run(&format!("{}: ", fact.name));
        if let Some(name) = name.as_object_mut() {
            name.insert("weight".to_owned(), json!("Bolder"));
        }
        let mut lines = fact.value.lines();
        body.push(block(&[name, run(lines.next().unwrap_or_default())]));
        // A line break in a run is not shown as one.
        body.extend(lines.map(|line| block(&[run(line)])));
    }
    envelope(wording, body)
}

fn envelope(wording: &Wording, body: Vec<Value>) -> Value {
    let mut card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": wording.title,
        "msteams": { "width": "Full" },
        "body": body,
    });
    if let (Some(card), Some(link)) = (card.as_object_mut(), &wording.link) {
        let open = json!({ "type": "Action.OpenUrl", "title": "Read more", "url": link });
        card.insert("actions".to_owned(), json!([open]));
    }
    json!({
        "type": "message",
        "summary": wording.title,
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        }],
    })
}

fn block(runs: &[Value]) -> Value {
    json!({ "type": "RichTextBlock", "spacing": "Small", "inlines": runs })
}

fn run(text: &str) -> Value {
    // A run without text is not valid.
    json!({ "type": "TextRun", "text": if text.is_empty() { " " } else { text } })
}

fn color(level: Level) -> &'static str {
    match level {
        Level::Success => "Good",
        Level::Failure => "Attention",
        Level::Warning => "Warning",
        Level::Info => "Default",
    }
}
