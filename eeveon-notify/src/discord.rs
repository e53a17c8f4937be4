//! Discord: a webhook, and messages made of one embed. Mentions are switched off for the whole
//! message, and text from outside is escaped beside that.

use async_trait::async_trait;
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::{
    Credential, Level, Markup, Message, Notifier, NotifyError, Setup, Templates, Wording,
    http::{Answer, Http, Outgoing},
    text::{fitted, shorten, units},
};

/// The longest description of an embed,
/// <https://docs.discord.com/developers/resources/message#embed-object-embed-limits>.
pub(crate) const DESCRIPTION_UNITS: usize = 4096;

/// The longest title (as above).
const TITLE_UNITS: usize = 256;

/// The most fields, and the longest value of one (as above).
const FIELDS: usize = 25;
const VALUE_UNITS: usize = 1024;

/// The longest sum of all texts of all embeds (as above).
const EMBED_UNITS: usize = 6000;

/// How a Discord channel is reached.
#[derive(Clone, Debug)]
pub struct DiscordConfig {
    /// The webhook's address.
    pub url: Credential,
    /// The thread in the webhook's channel, if it is to be one.
    pub thread: Option<u64>,
}

/// Tells a Discord channel.
#[derive(Debug)]
pub struct Discord {
    http: Http,
    templates: Templates,
    config: DiscordConfig,
}

impl Discord {
    /// Makes the channel.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, config: DiscordConfig) -> Result<Self, NotifyError> {
        let http = Http::new(&setup.name, setup.secrets, &setup.http)?;
        http.check_address(&config.url)?;
        Ok(Self { http, templates: setup.templates, config })
    }

    fn body(&self, message: &Message) -> Value {
        let event = &message.event;
        let wording = Wording::of(event);
        let mut embed = match self.templates.render(self.http.channel(), event) {
            Some(text) => json!({ "description": text }),
            None => embed(wording.clone()),
        };
        if let Some(embed) = embed.as_object_mut() {
            embed.insert("color".to_owned(), json!(color(wording.level)));
            embed.insert("timestamp".to_owned(), json!(event.at.to_string()));
        }
        json!({ "embeds": [embed], "allowed_mentions": { "parse": [] } })
    }

    /// Says what an answer means, <https://docs.discord.com/developers/topics/opcodes-and-status-codes>.
    fn heard(&self, answer: &Answer) -> Result<(), NotifyError> {
        let channel = self.http.channel().to_owned();
        let code = answer.json.as_ref().and_then(|body| body.get("code")).and_then(Value::as_u64);
        match (answer.status, code) {
            // Unknown channel, unknown webhook.
            (400..=499, Some(10_003 | 10_015)) => {
                Err(NotifyError::Recipient { channel, answer: answer.shown() })
            }
            // Invalid webhook token.
            (400..=499, Some(50_027)) => Err(NotifyError::Login { channel, answer: answer.shown() }),
            _ => answer.accepted(&channel),
        }
    }
}

#[async_trait]
impl Notifier for Discord {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let mut url: Url = self.http.address(&self.config.url).await?;
        // Without `wait` Discord says yes before it has looked at the message.
        url.query_pairs_mut().append_pair("wait", "true");
        if let Some(thread) = self.config.thread {
            url.query_pairs_mut().append_pair("thread_id", &thread.to_string());
        }
        let answer = self.http.send(Outgoing::post(url, &self.body(message))).await?;
        self.heard(&answer)
    }

    async fn check(&self) -> Result<String, NotifyError> {
        let url = self.http.address(&self.config.url).await?;
        let answer = self.http.send(Outgoing::new(Method::GET, url)).await?;
        self.heard(&answer)?;
        Ok("the webhook exists".to_owned())
    }
}

/// Lays out the default message.
fn embed(wording: Wording) -> Value {
    lay_out(&wording.within(EMBED_UNITS - TITLE_UNITS, |wording| {
        fields(wording).iter().map(|(name, value)| units(name) + units(value)).sum()
    }))
}

fn lay_out(wording: &Wording) -> Value {
    let fields: Vec<Value> = fields(wording)
        .into_iter()
        .zip(&wording.facts)
        .map(|((name, value), fact)| json!({ "name": name, "value": value, "inline": !fact.wide }))
        .collect();
    let title = shorten(&format!("{} {}", wording.sign(), wording.title), TITLE_UNITS);
    let mut embed = json!({ "title": title, "fields": fields });
    if let (Some(embed), Some(link)) = (embed.as_object_mut(), &wording.link) {
        embed.insert("url".to_owned(), json!(link));
    }
    embed
}

fn fields(wording: &Wording) -> Vec<(&'static str, String)> {
    let value = |value: &str| fitted(value, VALUE_UNITS, |text| Markup::DiscordMarkdown.escape(text));
    wording.facts.iter().take(FIELDS).map(|fact| (fact.name, value(&fact.value))).collect()
}

fn color(level: Level) -> u32 {
    match level {
        Level::Success => 0x2e_a0_43,
        Level::Failure => 0xcf_22_2e,
        Level::Warning => 0xd2_99_22,
        Level::Info => 0x57_60_6a,
    }
}
