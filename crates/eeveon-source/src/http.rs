//! Speaks http for git's packet lines: our own client below gix's protocol, so that a request can
//! be given up at any moment, a token goes to one server only, and connections are kept between
//! looks.

use std::{
    any::Any,
    io::{self, BufRead, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use eeveon_core::{Secret, action::Stopped};
use gix::protocol::transport::{
    Protocol,
    client::blocking_io::http::{GetResponse, Http, PostBodyDataKind, PostResponse, Transport},
};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, USER_AGENT},
};
use tokio::runtime::Handle;

use crate::{
    SourceConfig, SourceError,
    refs::shown,
    transport::Line,
    url::RepoUrl,
    watch::{Watch, chain},
};

/// How often a redirect is followed, and only while asking for the list of refs.
const REDIRECTS: usize = 5;

/// Prepares a connection to `url`; nothing is sent yet.
pub(crate) fn connect(
    client: Client,
    url: &RepoUrl,
    user: Option<&str>,
    config: &SourceConfig,
    watch: &Arc<Watch>,
) -> Result<Line, SourceError> {
    let malformed = |_| SourceError::Url { given: url.to_string(), rule: "it is malformed" };
    let address = Url::parse(&url.to_string()).map_err(malformed)?;
    let login = config.credentials.token.clone().map(|token| Login {
        user: config.credentials.user.as_deref().or(user).unwrap_or("git").to_owned(),
        token,
        home: address.clone(),
    });
    let http = Requests { client, login, moved: None, watch: Arc::clone(watch) };
    let address = gix::Url::try_from(address.as_str())
        .map_err(|_| SourceError::Url { given: url.to_string(), rule: "it is malformed" })?;
    Ok(Line::bare(Box::new(Transport::new_http(http, address, Protocol::V2, false))))
}

/// Who we are to one server.
#[derive(Clone)]
struct Login {
    user: String,
    token: Secret,
    /// An address on the one server this is for.
    home: Url,
}

/// Makes the requests gix asks for.
struct Requests {
    client: Client,
    login: Option<Login>,
    /// Where the repository turned out to be.
    moved: Option<String>,
    watch: Arc<Watch>,
}

impl Requests {
    /// Sends one request; waits for the head of the answer.
    fn send(&self, method: Method, url: &Url, headers: HeaderMap, body: Vec<u8>) -> io::Result<Response> {
        let mut request = self.client.request(method, url.clone()).headers(headers).body(body);
        let login = self.login.as_ref().filter(|login| url.origin() == login.home.origin());
        if let Some(login) = login {
            request = request.basic_auth(&login.user, Some(login.token.expose()));
        }
        let request = request.send();
        let watch = &self.watch;
        let response = Handle::current().block_on(async {
            tokio::select! {
                response = request => response.map_err(|error| watch.fail(refusal(&error, watch))),
                () = watch.permit.cancel.cancelled() => Err(watch.fail(Stopped.into())),
                () = tokio::time::sleep(watch.limits.idle) => Err(watch.silent()),
            }
        })?;
        match verdict(response.status(), login.is_some(), &watch.repo) {
            None => Ok(response),
            Some(error) => Err(watch.fail(error)),
        }
    }

    /// Sends a `GET`, and follows where the answer sends us.
    fn ask(&mut self, url: &str, base: &str, headers: HeaderMap) -> io::Result<Response> {
        let tail = url.strip_prefix(base).unwrap_or_default().to_owned();
        let refused = |text: &str| {
            self.watch.fail(SourceError::Protocol {
                repo: self.watch.repo.clone(),
                detail: format!("a redirect that is not followed: {}", shown(text)),
            })
        };
        let mut url = Url::parse(url).map_err(|_| refused(url))?;
        for _ in 0..=REDIRECTS {
            let response = self.send(Method::GET, &url, headers.clone(), Vec::new())?;
            if !response.status().is_redirection() {
                if response.url().as_str() != format!("{base}{tail}") {
                    self.moved = url.as_str().strip_suffix(&tail).map(str::to_owned);
                }
                return Ok(response);
            }
            let location =
                response.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let next = url.join(location).map_err(|_| refused(location))?;
            // The new place must be one we would have accepted in the first place, and the same
            // kind of answer must be expected there.
            let base = next.as_str().strip_suffix(&tail).unwrap_or_default();
            let downgrade = url.scheme() == "https" && next.scheme() != "https";
            if downgrade || RepoUrl::parse(base).is_err() {
                return Err(refused(location));
            }
            url = next;
        }
        Err(refused("too many"))
    }
}

/// Says what a failed request means.
fn refusal(error: &reqwest::Error, watch: &Watch) -> SourceError {
    let repo = watch.repo.clone();
    let detail = shown(&chain(error));
    let lower = detail.to_lowercase();
    match () {
        () if error.is_timeout() && error.is_connect() => watch.connect_timed_out(),
        () if error.is_timeout() => {
            SourceError::TimedOut { repo, what: "without data", after: watch.limits.idle }
        }
        () if lower.contains("certificate") || lower.contains("unknownissuer") => {
            SourceError::Certificate { repo, detail }
        }
        () => SourceError::Unreachable { repo, detail },
    }
}

/// Says what an answer's status means; `None` when it is fine.
fn verdict(status: StatusCode, authorized: bool, repo: &str) -> Option<SourceError> {
    let repo = repo.to_owned();
    match status.as_u16() {
        200..=399 => None,
        401 | 403 => {
            let with = if authorized { "the token" } else { "a request without a token" };
            Some(SourceError::Credentials { repo, detail: format!("status {} for {with}", status.as_u16()) })
        }
        404 | 410 => Some(SourceError::RepositoryMissing { repo }),
        408 | 429 | 500..=599 => {
            Some(SourceError::Unreachable { repo, detail: format!("status {}", status.as_u16()) })
        }
        other => Some(SourceError::Protocol { repo, detail: format!("status {other}") }),
    }
}

/// Turns `Name: value` lines into headers.
fn headers(lines: impl IntoIterator<Item = impl AsRef<str>>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in lines {
        if let Some((name, value)) = line.as_ref().split_once(':')
            && let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value.trim()))
        {
            map.insert(name, value);
        }
    }
    // Forges look for `git/` here to tell git from a browser.
    map.insert(USER_AGENT, HeaderValue::from_static(concat!("git/eeveon-", env!("CARGO_PKG_VERSION"))));
    map
}

impl Http for Requests {
    type Headers = io::Cursor<Vec<u8>>;
    type ResponseBody = Body;
    type PostBody = Upload;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        lines: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<Self::Headers, Self::ResponseBody>> {
        let response = self.ask(url, base_url, headers(lines)).map_err(gix::Error::from_error)?;
        let headers = content_type(&response);
        let exchange = Exchange::Answered(response);
        Ok(GetResponse { headers, body: Body::new(exchange, &self.watch) })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        lines: impl IntoIterator<Item = impl AsRef<str>>,
        _kind: PostBodyDataKind,
    ) -> gix::Result<PostResponse<Self::Headers, Self::ResponseBody, Self::PostBody>> {
        let requests = Box::new(Requests {
            client: self.client.clone(),
            login: self.login.clone(),
            moved: None,
            watch: Arc::clone(&self.watch),
        });
        let url = Url::parse(url).map_err(gix::Error::from_error)?;
        // The answer's type is checked when the answer is there, in `Body::answer`.
        let expected = io::Cursor::new(b"content-type: application/x-git-upload-pack-result\n".to_vec());
        let exchange = Exchange::Asking { requests, url, headers: headers(lines), upload: Vec::new() };
        let body = Body::new(exchange, &self.watch);
        Ok(PostResponse { post_body: Upload(Arc::clone(&body.exchange)), headers: expected, body })
    }

    fn configure(&mut self, _config: &dyn Any) -> gix::Result {
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        self.moved.clone()
    }
}

fn content_type(response: &Response) -> io::Cursor<Vec<u8>> {
    let value = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    io::Cursor::new([b"content-type: ", value, b"\n"].concat())
}

/// A request being written, and then its answer being read.
enum Exchange {
    Asking { requests: Box<Requests>, url: Url, headers: HeaderMap, upload: Vec<u8> },
    Answered(Response),
    Over,
}

fn lock(exchange: &Mutex<Exchange>) -> MutexGuard<'_, Exchange> {
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects what a request is to send.
struct Upload(Arc<Mutex<Exchange>>);

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut *lock(&self.0) {
            Exchange::Asking { upload, .. } => upload.extend_from_slice(bytes),
            _ => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads an answer; the first read sends the request.
struct Body {
    exchange: Arc<Mutex<Exchange>>,
    chunk: Vec<u8>,
    at: usize,
    watch: Arc<Watch>,
}

impl Body {
    fn new(exchange: Exchange, watch: &Arc<Watch>) -> Self {
        Self { exchange: Arc::new(Mutex::new(exchange)), chunk: Vec::new(), at: 0, watch: Arc::clone(watch) }
    }
}

impl Exchange {
    /// Sends the request if that has not happened, and returns more of the answer; nothing at its
    /// end.
    fn next(&mut self, watch: &Watch) -> io::Result<Vec<u8>> {
        if let Self::Asking { requests, url, headers, upload } = self {
            let (headers, upload) = (std::mem::take(headers), std::mem::take(upload));
            let response = requests.send(Method::POST, url, headers, upload)?;
            let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
            if !response.status().is_success() || kind != b"application/x-git-upload-pack-result" {
                return Err(watch.fail(SourceError::Protocol {
                    repo: watch.repo.clone(),
                    detail: format!("status {} and not git's content type", response.status().as_u16()),
                }));
            }
            *self = Self::Answered(response);
        }
        let Self::Answered(response) = self else { return Ok(Vec::new()) };
        let chunk = Handle::current().block_on(async {
            tokio::select! {
                chunk = response.chunk() => chunk.map_err(|error| watch.fail(refusal(&error, watch))),
                () = watch.permit.cancel.cancelled() => Err(watch.fail(Stopped.into())),
            }
        })?;
        match chunk {
            Some(bytes) => {
                watch.came(bytes.len())?;
                Ok(bytes.to_vec())
            }
            None => {
                *self = Self::Over;
                Ok(Vec::new())
            }
        }
    }
}

impl Read for Body {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(out)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Body {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at >= self.chunk.len() {
            self.chunk = lock(&self.exchange).next(&self.watch)?;
            self.at = 0;
            if self.chunk.is_empty() {
                break;
            }
        }
        Ok(self.chunk.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

#[cfg(test)]
mod tests {
    use eeveon_core::Diagnose;

    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        let code = |status, authorized| {
            verdict(StatusCode::from_u16(status).unwrap(), authorized, "R").map(|error| error.code())
        };
        assert_eq!(code(200, false), None);
        assert_eq!(code(401, false), Some("source/credentials"));
        assert_eq!(code(403, true), Some("source/credentials"));
        assert_eq!(code(404, true), Some("source/repository-missing"));
        assert_eq!(code(503, true), Some("source/unreachable"));
        assert_eq!(code(418, true), Some("source/protocol"));
    }
}
