//! Speaks HTTP for every channel that does: one place that makes the client, sends one request,
//! reads a bounded answer, and says what the answer means. What it says never holds a secret.

use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::Duration};

use base64::Engine as _;
use eeveon_core::{Secret, Secrets, Untrusted, untrusted::printable};
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::{
    Certificate, Client, Method, Url,
    header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT},
    redirect::Policy,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use crate::{Credential, NotifyError, Proxies, authorities};

/// How much of an answer is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long the rest of an answer is waited for whose status says that the message has arrived.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How much of an answer is shown, in characters.
const SHOWN_CHARS: usize = 300;

/// How channels that speak HTTP reach their services.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// How long one request may take, from the connection to the last byte of the answer.
    pub timeout: Duration,
    /// Certificate authorities, in PEM, trusted beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// What stands between.
    pub proxies: Proxies,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), ca_file: None, proxies: Proxies::default() }
    }
}

/// The way of one channel to its service.
#[derive(Clone)]
pub(crate) struct Http {
    channel: String,
    client: Client,
    secrets: Arc<dyn Secrets>,
    timeout: Duration,
    /// What of the proxies nobody may see.
    hidden: Vec<String>,
}

/// One request, and what in it nobody may see. It has no `Debug` on purpose.
pub(crate) struct Outgoing {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Vec<u8>,
    hidden: Vec<String>,
    /// Nothing of the answer is told but its status.
    untold: bool,
}

/// What a service answered: its text is bounded and free of the request's secrets.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status code, RFC 9110.
    pub(crate) status: u16,
    /// How long the service asks to wait.
    pub(crate) retry_after: Option<Duration>,
    /// The body, as JSON if it is JSON.
    pub(crate) json: Option<Value>,
    text: String,
    /// Where it redirects to, for people.
    leads_to: Option<String>,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Whoever finds secrets may keep them, and not everyone is careful with `Debug`.
        f.debug_struct("Http").field("channel", &self.channel).finish_non_exhaustive()
    }
}

impl Http {
    /// Makes the client. Reads the file of authorities.
    pub(crate) fn new(
        channel: &str,
        secrets: Arc<dyn Secrets>,
        options: &HttpOptions,
    ) -> Result<Self, NotifyError> {
        let config = |why: String| NotifyError::Config { channel: channel.to_owned(), why };
        // A redirect would take a token or a signed body where nobody meant it to go.
        let mut builder = Client::builder()
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .timeout(options.timeout);
        if let Some(path) = &options.ca_file {
            let unusable = |why: &str| config(format!("the authorities in {}: {why}", path.display()));
            let pem = authorities::read(path).map_err(|why| unusable(&why))?;
            let authorities = Certificate::from_pem_bundle(&pem).map_err(|_| unusable("not PEM"))?;
            builder = builder.tls_certs_merge(authorities);
        }
        for proxy in options.proxies.all().map_err(|why| config(why.to_owned()))? {
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| config(chain(&error.without_url())))?;
        let hidden = options.proxies.hidden();
        Ok(Self { channel: channel.to_owned(), client, secrets, timeout: options.timeout, hidden })
    }

    /// Returns the name of the channel.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Returns the secret `credential` stands for.
    pub(crate) async fn reveal(&self, credential: &Credential) -> Result<Secret, NotifyError> {
        credential.reveal(&self.channel, &self.secrets).await
    }

    /// Returns the address `credential` stands for.
    pub(crate) async fn address(&self, credential: &Credential) -> Result<Url, NotifyError> {
        self.parse(self.reveal(credential).await?.expose())
    }

    /// Reads an address, which may be a secret.
    pub(crate) fn parse(&self, url: &str) -> Result<Url, NotifyError> {
        let url = Url::parse(url.trim())
            .ok()
            .filter(|url| matches!(url.scheme(), "https" | "http") && url.has_host());
        url.ok_or_else(|| self.misfit("`url` is no http or https address"))
    }

    /// Makes sure that an address which is written out is one; a reference is read when it is needed.
    pub(crate) fn check_address(&self, url: &Credential) -> Result<(), NotifyError> {
        match url {
            Credential::Given(url) => self.parse(url.expose()).map(drop),
            Credential::At(_) => Ok(()),
        }
    }

    /// Returns a request, unless its secret did not fit into a header.
    pub(crate) fn sendable(&self, request: Option<Outgoing>) -> Result<Outgoing, NotifyError> {
        request.ok_or_else(|| self.misfit("its token has characters no header can hold"))
    }

    /// Says that a setting cannot work: `why` begins with its name if it is one key's fault.
    pub(crate) fn misfit(&self, why: &str) -> NotifyError {
        NotifyError::Config { channel: self.channel.clone(), why: why.to_owned() }
    }

    /// Sends one request and reads the answer, whatever it says.
    pub(crate) async fn send(&self, request: Outgoing) -> Result<Answer, NotifyError> {
        let Outgoing { method, url, headers, body, mut hidden, untold } = request;
        hidden.extend(self.hidden.iter().cloned());
        let broken = |error| self.broken(error, &hidden);
        let from = url.clone();
        let sent = self.client.request(method, url).headers(headers).body(body).send();
        let mut response = sent.await.map_err(broken)?;
        let mut bytes = Vec::new();
        // When the status has said it already, neither a body that breaks off nor one that does not end
        // may make us tell everything twice.
        let has_it = response.status().is_success();
        let end = Instant::now() + if has_it { LAST_WORDS } else { self.timeout };
        while bytes.len() < ANSWER_BYTES {
            match timeout_at(end, response.chunk()).await {
                Ok(Ok(Some(chunk))) => bytes.extend_from_slice(&chunk),
                Ok(Err(error)) if !has_it => return Err(broken(error)),
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        bytes.truncate(ANSWER_BYTES);
        let json: Option<Value> = serde_json::from_slice(&bytes).ok();
        let retry_after = from_header(response.headers()).or_else(|| from_json(json.as_ref()?));
        let text = if untold { String::new() } else { hide(&String::from_utf8_lossy(&bytes), &hidden) };
        let leads_to = location(&from, response.headers(), untold);
        let leads_to = leads_to.map(|to| hide(&to, &hidden).chars().take(SHOWN_CHARS).collect());
        Ok(Answer { status: response.status().as_u16(), retry_after, json, text, leads_to })
    }

    fn broken(&self, error: reqwest::Error, hidden: &[String]) -> NotifyError {
        let channel = self.channel.clone();
        if error.is_timeout() {
            let why = format!("no answer within {} ms", self.timeout.as_millis());
            return NotifyError::Unreachable { channel, why };
        }
        let why: String = printable(&hide(&chain(&error.without_url()), hidden));
        let why = why.chars().take(SHOWN_CHARS).collect::<String>();
        match why.to_lowercase().contains("certificate") {
            true => NotifyError::Certificate { channel, why },
            false => NotifyError::Unreachable { channel, why },
        }
    }
}

impl Outgoing {
    /// Prepares a request. Whatever the address holds is hidden from errors.
    pub(crate) fn new(method: Method, url: Url) -> Self {
        let mut hidden = vec![url.to_string(), url.path().to_owned()];
        // A service may answer with a part of the address: the last segment alone opens a webhook.
        hidden.extend(url.path_segments().into_iter().flatten().map(str::to_owned));
        hidden.extend(url.query().map(str::to_owned));
        hidden.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        hidden.extend([url.password().unwrap_or_default().to_owned(), url.username().to_owned()]);
        hidden.extend(url.host_str().map(str::to_owned));
        // What is encoded in the address may come back decoded, and user and password as a client
        // sends them (RFC 7617).
        let pair = format!("{}:{}", decoded(url.username()), decoded(url.password().unwrap_or_default()));
        hidden.push(base64::engine::general_purpose::STANDARD.encode(pair));
        let plain: Vec<String> = hidden.iter().map(|it| decoded(it)).collect();
        hidden.extend(plain);
        let mut headers = HeaderMap::new();
        let agent = concat!("eeveon/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        Self { method, url, headers, body: Vec::new(), hidden, untold: false }
    }

    /// Prepares a `POST` of `body`.
    pub(crate) fn post(url: Url, body: &Value) -> Self {
        let mut request = Self::new(Method::POST, url);
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
        request.body = body.to_string().into_bytes();
        request
    }

    /// Sets the body, as it is to be sent.
    pub(crate) fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }

    /// Sets a header anyone may see.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Sets a header that holds a secret. `None` if a header cannot hold it.
    pub(crate) fn secret_header(mut self, name: HeaderName, prefix: &str, secret: &Secret) -> Option<Self> {
        let secret = secret.expose().trim();
        let mut value = HeaderValue::try_from(format!("{prefix}{secret}")).ok()?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Some(self.hiding(secret))
    }

    /// Keeps `secret`, and each word of it, out of what is told about the answer.
    pub(crate) fn hiding(mut self, secret: &str) -> Self {
        self.hidden.push(secret.to_owned());
        self.hidden.extend(secret.split_whitespace().map(str::to_owned));
        self
    }

    /// Tells nothing of the answer but its status: who answers knows a secret whose forms nobody can
    /// list.
    pub(crate) fn untold(mut self) -> Self {
        self.untold = true;
        self
    }
}

impl Answer {
    /// Returns the body as text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Returns the body, shortened, for people.
    pub(crate) fn shown(&self) -> Untrusted {
        let text: String = self.text.trim().chars().take(SHOWN_CHARS).collect();
        match text.is_empty() {
            true => Untrusted::from(format!("status {}", self.status)),
            false => Untrusted::from(format!("status {}: {text}", self.status)),
        }
    }

    /// Says that the service wants to be left alone.
    pub(crate) fn throttled(&self, channel: String) -> NotifyError {
        NotifyError::Throttled { channel, after: self.retry_after, answer: self.shown() }
    }

    /// Says where a redirect leads to.
    fn redirect(&self) -> Untrusted {
        let to = self.leads_to.as_deref().map(|to| format!(" to {to}")).unwrap_or_default();
        let what = "which is not followed: configure the address it leads to";
        Untrusted::from(format!("status {}: a redirect{to}, {what}", self.status))
    }

    /// Says what the status means, where the service has no words of its own.
    pub(crate) fn accepted(&self, channel: &str) -> Result<(), NotifyError> {
        let channel = channel.to_owned();
        Err(match self.status {
            200..=299 => return Ok(()),
            300..=399 => NotifyError::Refused { channel, answer: self.redirect() },
            401 | 403 => NotifyError::Login { channel, answer: self.shown() },
            404 | 410 => NotifyError::Recipient { channel, answer: self.shown() },
            429 => self.throttled(channel),
            503 if self.retry_after.is_some() => self.throttled(channel),
            408 | 425 | 500..=599 => NotifyError::Unreachable { channel, why: self.shown().for_terminal() },
            _ => NotifyError::Refused { channel, answer: self.shown() },
        })
    }
}

/// Reads `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which counts from the answer's own.
fn from_header(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let wanted = text(RETRY_AFTER)?;
    if let Ok(seconds) = wanted.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| DateTimeParser::new().parse_timestamp(text).ok();
    let seconds = date(wanted)?.as_second().saturating_sub(date(text(DATE)?)?.as_second());
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

/// Reads where a redirect from `from` leads to (RFC 9110, 10.2.2), without what may be secret beside the
/// path. Nothing but the host of an answer that is not to be told, and whether there is a path.
fn location(from: &Url, headers: &HeaderMap, untold: bool) -> Option<String> {
    let mut to = from.join(headers.get(LOCATION)?.to_str().ok()?).ok().filter(Url::has_host)?;
    let has_other_query = from.query().unwrap_or_default() != to.query().unwrap_or_default();
    to.set_query(None);
    to.set_fragment(None);
    // Only an address without a host refuses these.
    let (_no_user, _no_password) = (to.set_username(""), to.set_password(None));
    let place = |url: &Url| (url.host_str().map(str::to_owned), url.port(), url.path().to_owned());
    if place(from) == place(&to) {
        let scheme = (from.scheme() != to.scheme()).then(|| format!("{}:", to.scheme()));
        let query = has_other_query.then(|| "another query".to_owned());
        let with: Vec<String> = scheme.into_iter().chain(query).collect();
        let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(" and ")) };
        return Some(format!("the same address{with}"));
    }
    if untold && to.path() != "/" {
        to.set_path("");
        return Some(format!("{to}[hidden]"));
    }
    Some(to.into())
}

/// Reads `retry_after` seconds from an answer of Discord or Slack, or, in `parameters`, of Telegram.
fn from_json(answer: &Value) -> Option<Duration> {
    let found = answer.get("retry_after").or_else(|| answer.pointer("/parameters/retry_after"))?;
    Duration::try_from_secs_f64(found.as_f64()?).ok()
}

/// Undoes the encoding of RFC 3986, section 2.1.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.filter(|_| *first == b'%').and_then(|two| u8::from_str_radix(two, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { after.get(2..).unwrap_or_default() } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Takes secrets out of a text, whatever their case, also as JSON, a URL or HTML writes them. Very
/// short ones are left: they open nothing, and would eat words.
pub(crate) fn hide(text: &str, hidden: &[String]) -> String {
    let encoded = |secret: &String| {
        let url: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let html = html.replace('"', "&quot;").replace('\'', "&#39;");
        [secret.clone(), secret.replace('/', "\\/"), url.replace('+', "%20"), url, html]
    };
    let mut forms: Vec<String> = hidden.iter().filter(|it| it.len() >= 6).flat_map(encoded).collect();
    forms.sort_by_key(|it| std::cmp::Reverse(it.len()));
    forms.dedup();
    forms.iter().fold(text.to_owned(), |text, secret| without(&text, secret))
}

/// Takes every `secret` out of a text, whatever the case of its letters.
fn without(text: &str, secret: &str) -> String {
    // Lower case of ASCII letters alone leaves every other byte where it is.
    let (lower, secret) = (text.to_ascii_lowercase(), secret.to_ascii_lowercase());
    let mut left = String::new();
    let mut end = 0;
    for (at, found) in lower.match_indices(&secret) {
        left.push_str(text.get(end..at).unwrap_or_default());
        left.push_str("[hidden]");
        end = at + found.len();
    }
    left.push_str(text.get(end..).unwrap_or_default());
    left
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_hidden_in_every_form_a_service_may_repeat_it_in() {
        let hidden = ["Hook/Auth+Su&per".to_owned(), "short".to_owned()];
        for text in [
            "Hook/Auth+Su&per",
            "hook/AUTH+su&PER",
            r"Hook\/Auth+Su&per",
            "Hook%2FAuth%2BSu%26per",
            "Hook/Auth+Su&amp;per",
        ] {
            assert_eq!(hide(&format!("bad: {text}, short"), &hidden), "bad: [hidden], short", "{text}");
        }
    }

    #[test]
    fn each_word_of_a_secret_is_hidden() {
        let request = Outgoing::new(Method::POST, Url::parse("https://example.org").unwrap());
        let request = request.hiding("Bearer Sesame123");
        assert_eq!(hide("invalid token Sesame123", &request.hidden), "invalid token [hidden]");
    }
}
