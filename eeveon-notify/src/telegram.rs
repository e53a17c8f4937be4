//! Telegram: a bot that sends to one chat. Messages are the HTML Telegram knows; text from outside
//! stands in `code`, the one place in which Telegram does not go looking for links and names.

mod html;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::{
    Credential, Level, Markup, Message, Notifier, NotifyError, Setup, Templates, Wording,
    http::{Answer, Http, Outgoing},
    text::units,
};

pub(crate) use html::{flaw, is_empty};

/// The longest text, <https://core.telegram.org/bots/api#sendmessage>. Telegram counts what is left
/// after its tags were read; here they count too.
pub(crate) const TEXT_UNITS: usize = 4096;

/// Where Telegram's own API is.
const API: &str = "https://api.telegram.org";

/// How a chat is reached.
#[derive(Clone, Debug)]
pub struct TelegramConfig {
    /// The bot's token, as @BotFather gave it.
    pub token: Credential,
    /// The chat's number, or `@name` of a channel.
    pub chat: String,
    /// The topic in a group that has topics.
    pub thread: Option<i64>,
    /// Where the API is, if not at Telegram: <https://core.telegram.org/bots/api#using-a-local-bot-api-server>.
    pub url: Option<String>,
}

/// Tells a Telegram chat.
#[derive(Debug)]
pub struct Telegram {
    http: Http,
    templates: Templates,
    config: TelegramConfig,
}

impl Telegram {
    /// Makes the channel.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, config: TelegramConfig) -> Result<Self, NotifyError> {
        let http = Http::new(&setup.name, setup.secrets, &setup.http)?;
        http.parse(config.url.as_deref().unwrap_or(API))?;
        if !is_chat(config.chat.trim()) {
            return Err(http.misfit("`to` is no chat: write its number, or @name of a public channel"));
        }
        if config.thread.is_some_and(|thread| thread <= 0) {
            return Err(http.misfit("`thread` is the number of a topic"));
        }
        Ok(Self { http, templates: setup.templates, config })
    }

    fn chat(&self) -> Value {
        let chat = self.config.chat.trim();
        chat.parse::<i64>().map_or_else(|_| json!(chat), |number| json!(number))
    }

    /// Calls one method of the API.
    async fn call(&self, method: &str, body: &Value) -> Result<(), NotifyError> {
        let token = self.http.reveal(&self.config.token).await?;
        let token = token.expose().trim();
        let base = self.config.url.as_deref().unwrap_or(API).trim_end_matches('/');
        // A token is a number, a colon, and letters that need no escape in an address.
        let well_formed = token.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_'));
        if !well_formed {
            let channel = self.http.channel().to_owned();
            return Err(NotifyError::Config { channel, why: "its token is not one of Telegram".to_owned() });
        }
        let url = self.http.parse(&format!("{base}/bot{token}/{method}"))?;
        let answer = self.http.send(Outgoing::post(url, body).hiding(token)).await?;
        self.heard(&answer)
    }

    /// Says what an answer means: <https://core.telegram.org/bots/api#making-requests>. Telegram
    /// tells most refusals apart by their description alone.
    fn heard(&self, answer: &Answer) -> Result<(), NotifyError> {
        let channel = self.http.channel().to_owned();
        let said = answer.json.as_ref().and_then(|body| body.get("description")).and_then(Value::as_str);
        let said = said.unwrap_or_default().to_lowercase();
        let whom = [
            "chat not found",
            "thread not found",
            "blocked",
            "kicked",
            "not a member",
            "deactivated",
            "upgraded to a supergroup",
            "not enough rights",
            "chat_id is empty",
        ];
        match answer.status {
            400 | 403 if whom.iter().any(|it| said.contains(it)) => {
                Err(NotifyError::Recipient { channel, answer: answer.shown() })
            }
            // A token that does not look like one is no address to Telegram.
            404 => Err(NotifyError::Login { channel, answer: answer.shown() }),
            // Something between may have answered in its place.
            200..=299 => {
                match answer.json.as_ref().and_then(|body| body.get("ok")).and_then(Value::as_bool) {
                    Some(true) => Ok(()),
                    Some(false) => Err(NotifyError::Refused { channel, answer: answer.shown() }),
                    None => {
                        let why = "it answered without saying whether it agrees".to_owned();
                        Err(NotifyError::Unreachable { channel, why })
                    }
                }
            }
            _ => answer.accepted(&channel),
        }
    }
}

#[async_trait]
impl Notifier for Telegram {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let wording = Wording::of(&message.event);
        let silent = wording.level == Level::Info;
        let text = self
            .templates
            .render(self.http.channel(), &message.event)
            .unwrap_or_else(|| lay_out(&wording.within(TEXT_UNITS, |wording| units(&lay_out(wording)))));
        let mut body = json!({
            "chat_id": self.chat(),
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": { "is_disabled": true },
            "disable_notification": silent,
        });
        if let (Some(body), Some(thread)) = (body.as_object_mut(), self.config.thread) {
            body.insert("message_thread_id".to_owned(), json!(thread));
        }
        self.call("sendMessage", &body).await
    }

    async fn check(&self) -> Result<String, NotifyError> {
        self.call("getChat", &json!({ "chat_id": self.chat() })).await?;
        Ok("the bot knows the chat".to_owned())
    }
}

/// Tells whether `text` can be a chat: its number, which is never 0, or the name of a public one, which
/// has up to 32 letters, digits and underscores (<https://core.telegram.org/method/channels.checkUsername>).
fn is_chat(text: &str) -> bool {
    match text.strip_prefix('@') {
        Some(name) => {
            (1..=32).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        }
        None => text.parse::<i64>().is_ok_and(|number| number != 0),
    }
}

/// Lays out the default message.
fn lay_out(wording: &Wording) -> String {
    let escape = |text: &str| Markup::TelegramHtml.escape(text);
    let mut text = format!("<b>{} {}</b>\n", wording.sign(), escape(&wording.title));
    for fact in &wording.facts {
        let between = if fact.value.contains('\n') { '\n' } else { ' ' };
        text.push_str(&format!("\n<b>{}</b>{between}<code>{}</code>", fact.name, escape(&fact.value)));
    }
    if let Some(link) = &wording.link {
        text.push_str(&format!("\n\n<a href=\"{}\">Read more</a>", escape(link)));
    }
    text
}
