//! The check that wants an answer to a request. What the answer holds is nobody's friend: it is
//! bounded in time and size, never decompressed, and what is quoted of it is short.

use std::{error::Error, fs::File, io, io::Read as _, path::Path, sync::Arc};

use async_trait::async_trait;
use eeveon_core::{Secret, SecretError, Secrets, untrusted::printable};
use reqwest::{
    Certificate, Client, Method, Response,
    header::{self, HeaderMap, HeaderName},
    redirect::{Action, Attempt, Policy},
    retry,
};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use crate::{
    HeaderValue, HealthCheck, HealthError, HttpSpec, Pace, ProbeError, Reading, Subject, check::cut,
    reach::Resolver, validate,
};

/// How much of an answer's body is read, and how large a request's body may be, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How many redirects are followed, if any.
const MAX_REDIRECTS: usize = 5;

/// The largest file of certificates that is read, in bytes.
const MAX_CA_BYTES: u64 = 1024 * 1024;

/// Sends a request and looks at the answer.
#[derive(Debug)]
pub(crate) struct HttpCheck {
    name: String,
    spec: HttpSpec,
    url: Url,
    client: Client,
    pace: Pace,
    resolver: Resolver,
    secrets: Arc<dyn Secrets>,
}

impl HttpCheck {
    /// Makes the check from a spec that was validated. Blocks: it reads certificates.
    pub(crate) fn new(
        name: &str,
        spec: &HttpSpec,
        pace: &Pace,
        resolver: Resolver,
        secrets: Arc<dyn Secrets>,
    ) -> Result<Self, HealthError> {
        let invalid = |key: &str, rule: String| HealthError::invalid(name, key, rule);
        let url = validate::url(&spec.url).map_err(|rule| invalid("url", rule.to_owned()))?;
        let mut client = Client::builder()
            .user_agent(concat!("eeveon/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .referer(false)
            // One look, one request, one connection: what answered before the switch does not answer
            // after it.
            .retry(retry::never())
            .pool_max_idle_per_host(0)
            .redirect(if spec.follow { Policy::custom(follow) } else { Policy::none() })
            .dns_resolver(resolver.clone());
        if spec.host.is_some() {
            // Version 2 has its own way to say it, which takes it from the URL.
            client = client.http1_only();
        }
        if let Some(socket) = &spec.socket {
            client = client.unix_socket(socket.as_path());
        }
        if !spec.verify {
            client = client.tls_danger_accept_invalid_certs(true);
        } else if let Some(path) = &spec.ca_file {
            let unusable = |why| invalid("ca_file", format!("{} {why}", path.display()));
            let pem = read(path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
            let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if certificates.is_empty() {
                return Err(unusable("holds no PEM certificates".to_owned()));
            }
            client = client.tls_certs_only(certificates);
        } else if url.scheme() == "http" && !spec.follow {
            // Nothing will be encrypted; a machine without certificates can look as well.
            client = client.tls_certs_only([]);
        }
        let client =
            client.build().map_err(|error| invalid("url", format!("no client: {}", root(&error))))?;
        let (name, spec) = (name.to_owned(), spec.clone());
        Ok(Self { name, spec, url, client, pace: pace.clone(), resolver, secrets })
    }

    async fn look(&self) -> Result<Reading, ProbeError> {
        let late = ProbeError::TimedOut { after_ms: self.pace.timeout_ms };
        let end = Instant::now() + self.pace.timeout();
        let asked = timeout_at(end, self.ask()).await.unwrap_or(Err(late.clone()))?;
        let Asked { mut response, secrets } = asked;
        let status = response.status().as_u16();
        let expected = self.spec.expect.iter().any(|it| it.matches(status));
        let mut body = Vec::new();
        if !expected || self.spec.contains.is_some() || !self.spec.json.is_empty() {
            let ended = timeout_at(end, read_body(&mut response, &mut body)).await;
            // With the wrong status the verdict is clear, and what there is of the body will do.
            if expected {
                ended.unwrap_or(Err(late))?;
            }
        }
        let fault = match expected {
            false => Some(self.wrong_status(status, response.headers(), &body)),
            true => self.wrong_body(&body),
        };
        Ok(fault.map_or(Reading::Healthy, |fault| Reading::unhealthy(without(fault, &secrets))))
    }

    /// Sends the request and waits for the head of the answer.
    async fn ask(&self) -> Result<Asked, ProbeError> {
        // The client resolves names through our resolver, but takes literal addresses as they are.
        if let Some(host @ (Host::Ipv4(_) | Host::Ipv6(_))) = self.url.host() {
            self.resolver.resolve(&host).await?;
        }
        let (headers, secrets) = self.headers().await?;
        let method = Method::from_bytes(self.spec.method.as_bytes()).unwrap_or_default();
        let mut request = self.client.request(method, self.url.clone()).headers(headers);
        if let Some(body) = &self.spec.body {
            request = request.body(body.clone());
        }
        let response = request.send().await.map_err(|error| meaning(&error))?;
        Ok(Asked { response, secrets })
    }

    /// Returns all headers, and the secrets among them.
    async fn headers(&self) -> Result<(HeaderMap, Vec<Secret>), ProbeError> {
        let (spec, store) = (self.spec.clone(), Arc::clone(&self.secrets));
        // A secret may lie in a file.
        let filled = tokio::task::spawn_blocking(move || fill(&spec, &*store)).await;
        let broken = |_| unusable("a secret".to_owned(), "could not be read");
        Ok(filled.map_err(broken)??)
    }

    fn wrong_status(&self, status: u16, headers: &HeaderMap, body: &[u8]) -> String {
        let expected: Vec<_> = self.spec.expect.iter().map(ToString::to_string).collect();
        let mut fault = format!("status {status} instead of {}", expected.join(" or "));
        if let Some(to) = headers.get(header::LOCATION).filter(|_| (300..400).contains(&status)) {
            fault.push_str(", which leads to ");
            fault.push_str(&String::from_utf8_lossy(to.as_bytes()));
        }
        quote(fault, body)
    }

    fn wrong_body(&self, body: &[u8]) -> Option<String> {
        let what = match body.len() < MAX_BODY_BYTES {
            true => "the body",
            false => "the first 64 KiB of the body",
        };
        if let Some(text) = &self.spec.contains
            && !body.windows(text.len().max(1)).any(|window| window == text.as_bytes())
        {
            return Some(quote(format!("{what} has no \"{text}\""), body));
        }
        if self.spec.json.is_empty() {
            return None;
        }
        // Nesting is bounded by the parser, size by what was read.
        let Ok(json) = serde_json::from_slice::<Value>(body) else {
            return Some(quote(format!("{what} is no JSON"), body));
        };
        self.spec.json.iter().find_map(|(pointer, wanted)| match json.pointer(pointer) {
            Some(found) if found == wanted => None,
            Some(found) => Some(format!("the body has {found} at {pointer:?}, not {wanted}")),
            None => Some(quote(format!("the body has nothing at {pointer:?}"), body)),
        })
    }
}

/// An answer that has begun.
struct Asked {
    response: Response,
    secrets: Vec<Secret>,
}

/// Decides whether to go where a redirect leads: only on the same host, where a request without
/// encryption may be sent to its encrypted twin. What is not followed is judged as the answer.
fn follow(attempt: Attempt<'_>) -> Action {
    let to = attempt.url();
    let allowed = attempt.previous().last().is_some_and(|from| {
        let ports = |url: &Url| (url.scheme().to_owned(), url.port_or_known_default());
        let encrypts =
            ports(from) == ("http".to_owned(), Some(80)) && ports(to) == ("https".to_owned(), Some(443));
        from.host() == to.host() && (ports(from) == ports(to) || encrypts)
    });
    let anonymous = to.username().is_empty() && to.password().is_none();
    match allowed && anonymous && attempt.previous().len() <= MAX_REDIRECTS {
        true => attempt.follow(),
        false => attempt.stop(),
    }
}

/// Reads a body to its end or to [`MAX_BODY_BYTES`], whichever comes first.
async fn read_body(response: &mut Response, body: &mut Vec<u8>) -> Result<(), ProbeError> {
    while body.len() < MAX_BODY_BYTES {
        let Some(chunk) = response.chunk().await.map_err(|error| meaning(&error))? else { break };
        let room = MAX_BODY_BYTES.saturating_sub(body.len());
        body.extend(chunk.iter().take(room));
    }
    Ok(())
}

/// Puts the headers together.
fn fill(spec: &HttpSpec, store: &dyn Secrets) -> Result<(HeaderMap, Vec<Secret>), SecretError> {
    let (mut headers, mut secrets) = (HeaderMap::new(), Vec::new());
    for (name, value) in &spec.headers {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { continue };
        let value = match value {
            HeaderValue::Plain(text) => header::HeaderValue::from_str(text).ok(),
            HeaderValue::Secret(at) => {
                let secret = store.reveal(at)?;
                let mut value = header::HeaderValue::from_str(secret.expose()).map_err(|_| {
                    SecretError::Missing { at: at.to_string(), why: "cannot be sent in a header".to_owned() }
                })?;
                value.set_sensitive(true);
                secrets.push(secret);
                Some(value)
            }
        };
        headers.extend(value.map(|value| (name, value)));
    }
    let host = spec.host.as_deref().and_then(|host| header::HeaderValue::from_str(host).ok());
    headers.extend(host.map(|host| (header::HOST, host)));
    Ok((headers, secrets))
}

fn unusable(at: String, why: &str) -> SecretError {
    SecretError::Missing { at, why: why.to_owned() }
}

/// Takes the secrets out of a text: an answer may repeat the question.
fn without(mut text: String, secrets: &[Secret]) -> String {
    for secret in secrets {
        // The scheme of an authorization, such as `Bearer`, stands before the secret itself.
        let words = secret.expose().split_whitespace().filter(|word| word.len() >= 6);
        for word in std::iter::once(secret.expose()).chain(words) {
            text = text.replace(word, "(secret)");
        }
    }
    text
}

/// Adds what was answered to what is wrong with it.
fn quote(fault: String, body: &[u8]) -> String {
    match String::from_utf8_lossy(body).trim() {
        "" => fault,
        said => format!("{fault}: {said}"),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    File::open(path)?.take(MAX_CA_BYTES).read_to_end(&mut pem)?;
    Ok(pem)
}

/// Returns every error of the chain, outermost first.
fn chain<'a>(error: &'a reqwest::Error) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let first: &'a (dyn Error + 'static) = error;
    std::iter::successors(Some(first), |error: &&'a (dyn Error + 'static)| {
        // An input-output error passes over the error it was made from.
        match error.downcast_ref::<io::Error>() {
            Some(outer) => outer.get_ref().map(|inner| inner as &(dyn Error + 'static)),
            None => (*error).source(),
        }
    })
}

/// Returns the innermost cause, in words.
fn root(error: &reqwest::Error) -> String {
    cut(printable(&chain(error).last().map(ToString::to_string).unwrap_or_default()))
}

/// Says why there was no answer.
fn meaning(error: &reqwest::Error) -> ProbeError {
    if let Some(ours) = chain(error).find_map(|cause| cause.downcast_ref::<ProbeError>()) {
        return ours.clone();
    }
    // What TLS has to say comes as invalid data, or as an end in the midst of the handshake.
    let of_tls = |kind| matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
    let mut kinds = chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match error.is_connect() {
        true if kinds.any(of_tls) => ProbeError::Tls(root(error)),
        true => ProbeError::Refused(root(error)),
        false => ProbeError::Protocol(root(error)),
    }
}

#[async_trait]
impl HealthCheck for HttpCheck {
    fn name(&self) -> &str {
        &self.name
    }

    async fn probe(&self, _: &Subject) -> Result<Reading, ProbeError> {
        self.look().await
    }
}
