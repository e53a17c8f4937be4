//! A webhook of the operator's own: JSON to an address, signed so that the receiver can tell it is
//! from us, unaltered, and no replay.

mod body;
mod signing;

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use eeveon_core::{Clock, Secret, Untrusted};
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};

use crate::{
    Credential, Message, Notifier, NotifyError, Setup, Templates,
    http::{Http, Outgoing},
};

pub use body::FORMAT as WEBHOOK_FORMAT;
use signing::Key;

/// How many headers of the operator's a request may have.
const HEADERS: usize = 32;

/// The method of the request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WebhookMethod {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
}

impl FromStr for WebhookMethod {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "POST" => Ok(Self::Post),
            "PUT" => Ok(Self::Put),
            "PATCH" => Ok(Self::Patch),
            _ => Err("the method is POST, PUT or PATCH".to_owned()),
        }
    }
}

impl From<WebhookMethod> for Method {
    fn from(method: WebhookMethod) -> Self {
        match method {
            WebhookMethod::Post => Self::POST,
            WebhookMethod::Put => Self::PUT,
            WebhookMethod::Patch => Self::PATCH,
        }
    }
}

/// How a webhook is called.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where to.
    pub url: Credential,
    /// How.
    pub method: WebhookMethod,
    /// Headers to send along, by name; at most 32.
    pub headers: Vec<(String, Credential)>,
    /// What to sign with, `whsec_` and 24 to 64 bytes in base64: none, one, or two while a secret
    /// is being replaced. Receivers accept a message when either fits.
    pub secrets: Vec<Credential>,
}

impl WebhookConfig {
    /// Returns a configuration with everything that has a default left at it.
    pub fn new(url: Credential) -> Self {
        Self { url, method: WebhookMethod::default(), headers: Vec::new(), secrets: Vec::new() }
    }
}

/// Calls a webhook. Any answer of 2xx means accepted; redirects are not followed.
pub struct Webhook {
    http: Http,
    url: Credential,
    method: WebhookMethod,
    headers: Vec<(HeaderName, Credential)>,
    secrets: Vec<Credential>,
    templates: Templates,
    clock: Arc<dyn Clock>,
}

impl Webhook {
    /// Makes the channel. Values that are only referred to are checked when they are used.
    /// Templates are for [`Markup::Plain`](crate::Markup::Plain): what they say is the field `text`.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, config: WebhookConfig, clock: Arc<dyn Clock>) -> Result<Self, NotifyError> {
        let Setup { name, secrets, templates, http } = setup;
        let WebhookConfig { url, method, headers, secrets: keys } = config;
        let config = |why: String| NotifyError::Config { channel: name.clone(), why };
        if headers.len() > HEADERS {
            return Err(config(format!("more than {HEADERS} headers")));
        }
        let mut named = BTreeSet::new();
        let mut checked = Vec::new();
        for (header, value) in headers {
            let name = allowed(&header).map_err(config)?;
            if !named.insert(name.as_str().to_owned()) {
                return Err(config(format!("the header `{name}` is given twice")));
            }
            if let Credential::Given(value) = &value
                && HeaderValue::try_from(value.expose().trim()).is_err()
            {
                return Err(config(unfit(&name)));
            }
            checked.push((name, value));
        }
        if keys.len() > 2 {
            return Err(config("at most two secrets: the new one and the one it replaces".to_owned()));
        }
        for key in &keys {
            if let Credential::Given(secret) = key {
                Key::read(secret).map_err(|why| config(why.to_owned()))?;
            }
        }
        let http = Http::new(&name, secrets, &http)?;
        http.check_address(&url)?;
        Ok(Self { http, url, method, headers: checked, secrets: keys, templates, clock })
    }

    fn config(&self, why: String) -> NotifyError {
        NotifyError::Config { channel: self.http.channel().to_owned(), why }
    }

    async fn keys(&self) -> Result<Vec<Key>, NotifyError> {
        let mut keys = Vec::new();
        for secret in &self.secrets {
            let secret = self.http.reveal(secret).await?;
            keys.push(Key::read(&secret).map_err(|why| self.config(why.to_owned()))?);
        }
        Ok(keys)
    }

    async fn revealed_headers(&self) -> Result<Vec<(HeaderName, Secret)>, NotifyError> {
        let mut headers = Vec::new();
        for (name, value) in &self.headers {
            let value = self.http.reveal(value).await?;
            if HeaderValue::try_from(value.expose().trim()).is_err() {
                return Err(self.config(unfit(name)));
            }
            headers.push((name.clone(), value));
        }
        Ok(headers)
    }
}

/// Reads the name of a header the operator may set: not those that carry the message itself.
fn allowed(name: &str) -> Result<HeaderName, String> {
    let shown = || name.chars().take(80).flat_map(char::escape_default).collect::<String>();
    let parsed = HeaderName::try_from(name).map_err(|_| format!("`{}` is no name of a header", shown()))?;
    let ours = matches!(
        parsed.as_str(),
        "connection"
            | "content-encoding"
            | "content-length"
            | "content-type"
            | "expect"
            | "host"
            | "keep-alive"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    );
    match ours || parsed.as_str().starts_with("webhook-") || parsed.as_str().starts_with("proxy-") {
        true => Err(format!("the header `{parsed}` is not for a channel to set")),
        false => Ok(parsed),
    }
}

fn unfit(name: &HeaderName) -> String {
    format!("the value of the header `{name}` has characters no header can have")
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("channel", &self.http.channel()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn name(&self) -> &str {
        self.http.channel()
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let text = self.templates.render(self.name(), &message.event);
        let body = body::of(message, text).map_err(|error| self.config(error.to_string()))?;
        let keys = self.keys().await?;
        let mut request = Outgoing::new(self.method.into(), self.http.address(&self.url).await?)
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in self.revealed_headers().await? {
            let unfit = unfit(&name);
            request = request.secret_header(name, "", &value).ok_or_else(|| self.config(unfit))?.untold();
        }
        let signed = signing::headers(&keys, &message.id(), self.clock.now().as_second(), &body);
        for (name, value) in signed {
            let value = HeaderValue::try_from(value).map_err(|error| self.config(error.to_string()))?;
            request = request.header(HeaderName::from_static(name), value);
        }
        let answer = self.http.send(request.body(body)).await?;
        let channel = self.name();
        match answer.status {
            // It wants no more of this, ever: so says Standard Webhooks of 410.
            410 => Err(NotifyError::Refused {
                channel: channel.to_owned(),
                answer: Untrusted::from("status 410: the receiver is gone for good, so remove the channel"),
            }),
            _ => answer.accepted(channel),
        }
    }

    /// Looks whether the settings can work and somebody answers, with a request that changes
    /// nothing (`OPTIONS`, RFC 9110, 9.3.7). It holds no secret but the address.
    async fn check(&self) -> Result<String, NotifyError> {
        self.keys().await?;
        self.revealed_headers().await?;
        let url = self.http.address(&self.url).await?;
        let answer = self.http.send(Outgoing::new(Method::OPTIONS, url)).await?;
        match answer.status {
            300..=399 | 500.. => answer.accepted(self.name()).map(|()| String::new()),
            status => Ok(format!(
                "the receiver answers (status {status} to OPTIONS); only a message shows whether it takes messages"
            )),
        }
    }
}
