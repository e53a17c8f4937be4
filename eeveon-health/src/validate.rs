//! Which checks are refused before anything runs.

use std::path::Path;

use eeveon_core::untrusted::is_hazard;
use reqwest::header;
use url::Url;

use crate::{
    CheckSpec, CommandSpec, HeaderValue, HealthError, HttpSpec, Reach, What, http::MAX_BODY_BYTES, tcp,
};

/// The methods a look may use.
const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];

/// The most headers a request may carry.
const MAX_HEADERS: usize = 50;

/// Headers that belong to the connection, or have a key of their own.
const RESERVED: [&str; 8] =
    ["connection", "content-length", "expect", "host", "te", "trailer", "transfer-encoding", "upgrade"];

/// A key, and the rule its value breaks.
type Fault = (String, String);

impl CheckSpec {
    /// Finds out whether the check can be carried out as it is written. Opens nothing.
    ///
    /// # Errors
    ///
    /// `health/invalid` names the first key that is wrong and the rule it breaks.
    pub fn validate(&self) -> Result<(), HealthError> {
        let fault = self.fault().or_else(|| self.pace.fault().map(|(key, rule)| fault(key, rule)));
        match fault {
            Some((key, rule)) => Err(HealthError::invalid(&self.name, key, rule)),
            None => Ok(()),
        }
    }

    /// Finds out whether somebody who may only reach that far may have this check.
    pub(crate) fn permitted(&self, reach: Reach) -> Result<(), HealthError> {
        let key = match (reach, &self.what) {
            (Reach::Operator, _) | (Reach::Public, What::Tcp(_)) => return Ok(()),
            (Reach::Public, What::Command(_)) => "run",
            (Reach::Public, What::Http(http)) => {
                let is_secret = |value: &HeaderValue| matches!(value, HeaderValue::Secret(_));
                match http {
                    _ if http.socket.is_some() => "socket",
                    _ if http.ca_file.is_some() => "ca_file",
                    _ if http.headers.values().any(is_secret) => "headers",
                    _ => return Ok(()),
                }
            }
        };
        let rule = "commands, files and secrets of this machine are for checks in the project file";
        Err(HealthError::invalid(&self.name, key, rule))
    }

    fn fault(&self) -> Option<Fault> {
        if self.name.trim().is_empty() || self.name.len() > 100 || self.name.contains(is_hazard) {
            return Some(fault("name", "use 1 to 100 characters that can be printed"));
        }
        match &self.what {
            What::Http(http) => http_fault(http),
            What::Tcp(tcp) => tcp::parse(&tcp.address).err().map(|rule| fault("address", rule)),
            What::Command(command) => match &command.run {
                CommandSpec::Line(line) if line.trim().is_empty() => Some(fault("run", "it is empty")),
                CommandSpec::Args(args)
                    if args.first().is_none_or(|program| program.is_empty() || program.starts_with('-')) =>
                {
                    Some(fault("run", "the first word names the program, and there is none"))
                }
                CommandSpec::Line(line) if line.contains('\0') => Some(fault("run", "it holds a NUL byte")),
                CommandSpec::Args(args) if args.iter().any(|it| it.contains('\0')) => {
                    Some(fault("run", "it holds a NUL byte"))
                }
                _ => None,
            },
        }
    }
}

fn fault(key: impl Into<String>, rule: impl Into<String>) -> Fault {
    (key.into(), rule.into())
}

fn http_fault(http: &HttpSpec) -> Option<Fault> {
    let is_relative = |path: &Option<_>| path.as_deref().is_some_and(|path: &Path| !path.is_absolute());
    let url = match url(&http.url) {
        Ok(url) => url,
        Err(rule) => return Some(fault("url", rule)),
    };
    let https = url.scheme() == "https";
    if !METHODS.contains(&http.method.as_str()) {
        return Some(fault("method", format!("use one of {}", METHODS.join(", "))));
    }
    if http.headers.len() > MAX_HEADERS {
        return Some(fault("headers", format!("there are more than {MAX_HEADERS}")));
    }
    if let Some(found) = http.headers.iter().find_map(|(name, value)| header_fault(name, value)) {
        return Some(found);
    }
    if http.host.as_deref().is_some_and(|host| !is_authority(host)) {
        return Some(fault("host", "use a name, or name:port"));
    }
    if http.body.as_ref().is_some_and(|body| body.len() > MAX_BODY_BYTES) {
        return Some(fault("body", format!("it is longer than {MAX_BODY_BYTES} bytes")));
    }
    if http.expect.is_empty() {
        return Some(fault("expect", "name at least one status, such as 200 or \"2xx\""));
    }
    let wants_body = http.contains.is_some() || !http.json.is_empty();
    if wants_body && http.method == "HEAD" {
        return Some(fault("method", "the answer to HEAD has no body that could be looked at"));
    }
    if http.contains.as_ref().is_some_and(String::is_empty) {
        return Some(fault("contains", "it is empty, and every body contains that"));
    }
    if let Some(pointer) = http.json.keys().find(|it| !it.is_empty() && !it.starts_with('/')) {
        return Some(fault(format!("json.{pointer}"), "a JSON pointer begins with `/`, such as /status"));
    }
    if is_relative(&http.ca_file) {
        return Some(fault("ca_file", "use an absolute path"));
    }
    if http.ca_file.is_some() && !http.verify {
        return Some(fault("ca_file", "it has no use while `verify` is false"));
    }
    if is_relative(&http.socket) {
        return Some(fault("socket", "use an absolute path"));
    }
    if http.socket.is_some() && https {
        return Some(fault(
            "socket",
            "write the URL with http: a socket on this machine needs no encryption",
        ));
    }
    None
}

/// Reads an address a request may go to.
pub(crate) fn url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it begins with neither http:// nor https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "it holds a user or a password; put them into `headers.Authorization`, as env:NAME or file:/PATH",
        );
    }
    if url.port() == Some(0) {
        return Err("there is no port 0");
    }
    match text.len() {
        0..=2048 => Ok(url),
        _ => Err("it is longer than 2048 bytes"),
    }
}

/// Tells whether `text` is what can stand in a `Host` header.
fn is_authority(text: &str) -> bool {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b));
    plain && Url::parse(&format!("http://{text}/")).is_ok_and(|url| url.path() == "/")
}

fn header_fault(name: &str, value: &HeaderValue) -> Option<Fault> {
    let key = format!("headers.{name}");
    let lower = name.to_ascii_lowercase();
    if header::HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Some(fault(key, "this cannot name a header"));
    }
    if RESERVED.contains(&lower.as_str()) {
        return Some(fault(key, "this header is set by EEveon; the name of the server goes into `host`"));
    }
    match value {
        HeaderValue::Secret(_) => None,
        HeaderValue::Plain(_) if is_secretive(&lower) => Some(fault(
            key,
            "this would put a secret into the plan, which is stored and shown; write env:NAME or file:/PATH",
        )),
        HeaderValue::Plain(text) => match header::HeaderValue::from_str(text) {
            Ok(_) if text.is_ascii() => None,
            _ => Some(fault(key, "a header's value has no line breaks and only characters of ASCII")),
        },
    }
}

/// Tells whether a header of this name, in small letters, most often holds a secret.
fn is_secretive(name: &str) -> bool {
    name == "cookie"
        || ["token", "secret", "key", "auth", "passw", "credential"].iter().any(|it| name.contains(it))
}
