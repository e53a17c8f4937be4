//! ntfy, at ntfy.sh or one's own server: messages are plain text, published as JSON.
//! <https://docs.ntfy.sh/publish/#publish-as-json>

use async_trait::async_trait;
use eeveon_core::Secret;
use reqwest::{Method, header::AUTHORIZATION};
use serde_json::{Value, json};

use crate::{
    Credential, Level, Message, Notifier, NotifyError, Setup, Templates, Wording,
    http::{Http, Outgoing},
    text::{shorten, units},
};

/// The longest message, in bytes: a longer one becomes a file. The limit is 4096,
/// <https://docs.ntfy.sh/publish/#limitations>.
const MESSAGE_BYTES: usize = 4000;

/// The largest request, in bytes: a server reads twice its longest message.
const REQUEST_BYTES: usize = 8000;

/// The longest title, in UTF-16 code units. Since 2.28 a server refuses more than 1 KB,
/// <https://github.com/binwiederhier/ntfy/releases/tag/v2.28.0>.
const TITLE_UNITS: usize = 200;

/// The longest id of a message, and of a topic: `[-_A-Za-z0-9]{1,64}`.
const ID_BYTES: usize = 64;

/// Where ntfy's own server is.
const SERVER: &str = "https://ntfy.sh";

/// How a topic is reached.
#[derive(Clone, Debug)]
pub struct NtfyConfig {
    /// The topic. Without logins whoever knows it can read it, so it counts as a secret.
    pub topic: Credential,
    /// An access token, `tk_...`.
    pub token: Option<Credential>,
    /// The server, if not ntfy.sh.
    pub url: Option<String>,
}

/// Tells the subscribers of a topic.
#[derive(Debug)]
pub struct Ntfy {
    http: Http,
    templates: Templates,
    config: NtfyConfig,
}

impl Ntfy {
    /// Makes the channel.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, config: NtfyConfig) -> Result<Self, NotifyError> {
        let http = Http::new(&setup.name, setup.secrets, &setup.http)?;
        let ntfy = Self { http, templates: setup.templates, config };
        ntfy.http.parse(ntfy.server())?;
        if let Credential::Given(topic) = &ntfy.config.topic {
            ntfy.check_topic(topic)?;
        }
        Ok(ntfy)
    }

    fn check_topic(&self, topic: &Secret) -> Result<(), NotifyError> {
        match is_id(topic.expose().trim()) {
            true => Ok(()),
            false => Err(self.http.misfit("`to` is no topic: write 1 to 64 letters, digits, _ and -")),
        }
    }

    fn server(&self) -> &str {
        self.config.url.as_deref().unwrap_or(SERVER).trim_end_matches('/')
    }

    async fn send(&self, mut request: Outgoing) -> Result<(), NotifyError> {
        if let Some(token) = &self.config.token {
            let token = self.http.reveal(token).await?;
            request = self.http.sendable(request.secret_header(AUTHORIZATION, "Bearer ", &token))?;
        }
        self.http.send(request).await?.accepted(self.http.channel())
    }
}

#[async_trait]
impl Notifier for Ntfy {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let topic = self.http.reveal(&self.config.topic).await?;
        self.check_topic(&topic)?;
        let topic = topic.expose().trim();
        let wording = Wording::of(&message.event);
        let publish = |text: &str| request(topic, &message.id(), &wording, text);
        let fits =
            |text: &str| text.len() <= MESSAGE_BYTES && publish(text).to_string().len() <= REQUEST_BYTES;
        let mut text = match self.templates.render(self.http.channel(), &message.event) {
            Some(text) => text,
            None => {
                let size = |it: &Wording| usize::from(!fits(&it.plain()));
                wording.clone().within(0, size).plain()
            }
        };
        while !fits(&text) {
            text = shorten(&text, units(&text).saturating_mul(7) / 8);
        }
        let url = self.http.parse(self.server())?;
        self.send(Outgoing::post(url, &publish(&text)).hiding(topic)).await
    }

    async fn check(&self) -> Result<String, NotifyError> {
        // The server looks at a login before it answers anything, even this.
        let url = self.http.parse(&format!("{}/v1/health", self.server()))?;
        self.check_topic(&self.http.reveal(&self.config.topic).await?)?;
        self.send(Outgoing::new(Method::GET, url)).await?;
        Ok("the server answers; whether the topic may be written only a message shows".to_owned())
    }
}

/// Tells whether `text` can name a topic or a message.
fn is_id(text: &str) -> bool {
    (1..=ID_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

fn request(topic: &str, id: &str, wording: &Wording, text: &str) -> Value {
    let (priority, tag) = match wording.level {
        Level::Success => (3, "white_check_mark"),
        Level::Failure => (5, "x"),
        Level::Warning => (4, "warning"),
        Level::Info => (2, "information_source"),
    };
    let mut body = json!({
        "topic": topic,
        "title": shorten(&wording.title, TITLE_UNITS),
        "message": text,
        "priority": priority,
        "tags": [tag],
    });
    if let Some(body) = body.as_object_mut() {
        // With the same id a second attempt replaces the first, since 2.16; older servers ignore it.
        if is_id(id) {
            body.insert("sequence_id".to_owned(), json!(id));
        }
        if let Some(link) = &wording.link {
            body.insert("click".to_owned(), json!(link));
        }
    }
    body
}
