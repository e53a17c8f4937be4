//! Slack: an incoming webhook, or a bot that calls `chat.postMessage`. Messages are made of Block
//! Kit; text from outside goes into `plain_text` objects only, in which Slack reads no mentions, no
//! links and no formatting.

use async_trait::async_trait;
use reqwest::{Url, header::AUTHORIZATION};
use serde_json::{Value, json};

use crate::{
    Credential, Markup, Message, Notifier, NotifyError, Setup, Templates, Wording,
    http::{Answer, Http, Outgoing},
    text::{fitted, units},
    wording::Fact,
};

/// The longest text of a section, <https://docs.slack.dev/reference/block-kit/blocks/section-block>.
pub(crate) const TEXT_UNITS: usize = 3000;

/// The longest header, <https://docs.slack.dev/reference/block-kit/blocks/header-block>.
const HEADER_UNITS: usize = 150;

/// The most fields of a section, and the longest of them (section-block, as above).
const FIELDS: usize = 10;
const FIELD_UNITS: usize = 2000;

/// The longest message over all blocks. Not in Slack's pages: it answers `msg_blocks_too_long` near
/// 13,200 characters, <https://github.com/slackapi/bolt-js/issues/2509>.
const MESSAGE_UNITS: usize = 12_000;

/// Where Slack's own API is.
const API: &str = "https://slack.com/api";

/// How Slack is reached.
#[derive(Clone, Debug)]
pub enum SlackWay {
    /// Through an incoming webhook, whose address says which channel it is for.
    Webhook {
        /// The address.
        url: Credential,
    },
    /// As a bot, with the scope `chat:write`.
    Bot {
        /// The bot's token, `xoxb-...`.
        token: Credential,
        /// The channel's id, such as `C0123456789`, or its name.
        channel: String,
        /// Where the API is, if not at Slack.
        url: Option<String>,
    },
}

/// Tells a Slack channel.
#[derive(Debug)]
pub struct Slack {
    http: Http,
    templates: Templates,
    way: SlackWay,
}

impl Slack {
    /// Makes the channel.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, way: SlackWay) -> Result<Self, NotifyError> {
        let http = Http::new(&setup.name, setup.secrets, &setup.http)?;
        match &way {
            SlackWay::Webhook { url } => http.check_address(url)?,
            SlackWay::Bot { url, .. } => drop(http.parse(url.as_deref().unwrap_or(API))?),
        }
        Ok(Self { http, templates: setup.templates, way })
    }

    /// Makes the body of the message: what both ways have in common.
    fn body(&self, message: &Message) -> Value {
        let wording = Wording::of(&message.event);
        let title = format!("{} {}", wording.sign(), wording.title);
        let fallback = fitted(&title, TEXT_UNITS, |text| Markup::SlackMrkdwn.escape(text));
        let blocks = match self.templates.render(self.http.channel(), &message.event) {
            // `verbatim`: Slack does not go looking for links and names in it.
            Some(text) => json!([{ "type": "section",
                "text": { "type": "mrkdwn", "text": text, "verbatim": true } }]),
            None => blocks(wording),
        };
        json!({ "text": fallback, "blocks": blocks, "unfurl_links": false, "unfurl_media": false })
    }

    /// Calls one method of the API.
    async fn call(
        &self,
        method: &str,
        token: &Credential,
        url: Option<&str>,
        body: &Value,
    ) -> Result<(), NotifyError> {
        let base = url.unwrap_or(API).trim_end_matches('/');
        let url = self.http.parse(&format!("{base}/{method}"))?;
        let token = self.http.reveal(token).await?;
        let request = Outgoing::post(url, body).secret_header(AUTHORIZATION, "Bearer ", &token);
        let answer = self.http.send(self.http.sendable(request)?).await?;
        answer.accepted(self.http.channel())?;
        self.agreed(&answer)
    }

    /// Reads an answer of the API, which says what went wrong in its body.
    fn agreed(&self, answer: &Answer) -> Result<(), NotifyError> {
        let channel = self.http.channel().to_owned();
        let Some(body) = &answer.json else {
            let why = "it answered without saying whether it agrees".to_owned();
            return Err(NotifyError::Unreachable { channel, why });
        };
        if body.get("ok") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let error = body.get("error").and_then(Value::as_str).unwrap_or_default();
        Err(match error {
            "not_authed"
            | "invalid_auth"
            | "account_inactive"
            | "token_revoked"
            | "token_expired"
            | "missing_scope"
            | "no_permission"
            | "not_allowed_token_type" => NotifyError::Login { channel, answer: answer.shown() },
            "channel_not_found" | "not_in_channel" | "is_archived" | "restricted_action" => {
                NotifyError::Recipient { channel, answer: answer.shown() }
            }
            "ratelimited" | "rate_limited" => answer.throttled(channel),
            "internal_error" | "fatal_error" | "service_unavailable" | "request_timeout" => {
                NotifyError::Unreachable { channel, why: answer.shown().for_terminal() }
            }
            _ => NotifyError::Refused { channel, answer: answer.shown() },
        })
    }

    /// Reads an answer of a webhook: a status, and one word.
    /// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors>
    fn heard(&self, answer: &Answer) -> Result<(), NotifyError> {
        let channel = self.http.channel().to_owned();
        match (answer.status, answer.text().trim()) {
            (403, "action_prohibited" | "posting_to_general_channel_denied") => {
                Err(NotifyError::Recipient { channel, answer: answer.shown() })
            }
            _ => answer.accepted(&channel),
        }
    }
}

#[async_trait]
impl Notifier for Slack {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let mut body = self.body(message);
        match &self.way {
            SlackWay::Webhook { url } => {
                let url = self.http.address(url).await?;
                self.heard(&self.http.send(Outgoing::post(url, &body)).await?)
            }
            SlackWay::Bot { token, channel, url } => {
                if let Some(body) = body.as_object_mut() {
                    body.insert("channel".to_owned(), json!(channel));
                    body.insert("parse".to_owned(), json!("none"));
                    body.insert("link_names".to_owned(), json!(false));
                }
                self.call("chat.postMessage", token, url.as_deref(), &body).await
            }
        }
    }

    async fn check(&self) -> Result<String, NotifyError> {
        match &self.way {
            SlackWay::Webhook { url } => {
                let url: Url = self.http.address(url).await?;
                // A message without a text is never sent; only an address that exists gets as far
                // as saying so.
                let answer = self.http.send(Outgoing::post(url, &json!({}))).await?;
                match (answer.status, answer.text().trim()) {
                    (400, "no_text" | "invalid_payload") => Ok("the webhook exists".to_owned()),
                    _ => {
                        self.heard(&answer)?;
                        Err(NotifyError::Refused {
                            channel: self.http.channel().to_owned(),
                            answer: answer.shown(),
                        })
                    }
                }
            }
            SlackWay::Bot { token, url, .. } => {
                self.call("auth.test", token, url.as_deref(), &json!({})).await?;
                Ok("the token is valid; whether it may write to the channel only a message shows".to_owned())
            }
        }
    }
}

/// Lays out the default message.
fn blocks(wording: Wording) -> Value {
    let size = |wording: &Wording| units(&lay_out(wording).to_string());
    lay_out(&wording.within(MESSAGE_UNITS, size))
}

fn lay_out(wording: &Wording) -> Value {
    let header = fitted(&format!("{} {}", wording.sign(), wording.title), HEADER_UNITS, str::to_owned);
    let mut blocks = vec![json!({ "type": "header", "text": plain(&header) })];
    let short: Vec<Value> =
        wording.facts.iter().filter(|fact| !fact.wide).map(|it| fact(it, FIELD_UNITS)).collect();
    blocks.extend(short.chunks(FIELDS).map(|fields| json!({ "type": "section", "fields": fields })));
    let wide = wording.facts.iter().filter(|fact| fact.wide);
    blocks.extend(wide.map(|it| json!({ "type": "section", "text": fact(it, TEXT_UNITS) })));
    if let Some(link) = &wording.link {
        let text = format!("<{}|Read more>", Markup::SlackMrkdwn.escape(link));
        let text = json!({ "type": "mrkdwn", "text": text, "verbatim": true });
        blocks.push(json!({ "type": "context", "elements": [text] }));
    }
    Value::Array(blocks)
}

fn fact(fact: &Fact, max: usize) -> Value {
    plain(&fitted(&fact.value, max, |value| format!("{}\n{value}", fact.name)))
}

fn plain(text: &str) -> Value {
    json!({ "type": "plain_text", "text": text, "emoji": false })
}
