//! What the plan says about a check: plain data without secrets, validated before anything runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
    str::FromStr,
};

use eeveon_core::{SecretError, SecretRef};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Pace;

/// One check: what to look at, and how patiently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckSpec {
    /// What people call it.
    pub name: String,
    /// What it looks at.
    pub what: What,
    /// How patiently it looks.
    #[serde(default)]
    pub pace: Pace,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// The answer to a request.
    Http(Box<HttpSpec>),
    /// Whether a connection comes about.
    Tcp(TcpSpec),
    /// Whether a command ends with exit code 0.
    Command(CommandCheckSpec),
}

/// A request, and what makes its answer a healthy one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSpec {
    /// Where: `http` or `https`, without user and password.
    pub url: String,
    /// How, such as `GET`.
    #[serde(default = "get")]
    pub method: String,
    /// What is sent along.
    #[serde(default)]
    pub headers: BTreeMap<String, HeaderValue>,
    /// The name the server is asked for, if not the one in the URL.
    #[serde(default)]
    pub host: Option<String>,
    /// What is sent after the headers.
    #[serde(default)]
    pub body: Option<String>,
    /// Which statuses are healthy ones.
    #[serde(default = "successes")]
    pub expect: BTreeSet<Expected>,
    /// What the body must contain.
    #[serde(default)]
    pub contains: Option<String>,
    /// What the body, read as JSON, must have at which place: an RFC 6901 pointer.
    #[serde(default)]
    pub json: BTreeMap<String, Value>,
    /// Whether to follow redirects on the same host.
    #[serde(default)]
    pub follow: bool,
    /// Whether the certificate must be in order.
    #[serde(default = "yes")]
    pub verify: bool,
    /// The only certificates, in PEM, that vouch for the server; those of the system if absent.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The Unix socket to send the request through, in place of the address in the URL.
    #[serde(default)]
    pub socket: Option<PathBuf>,
}

/// Where a connection must come about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpSpec {
    /// `host:port`; an IPv6 address stands in brackets.
    pub address: String,
}

/// A command that must succeed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandCheckSpec {
    /// What to run.
    pub run: CommandSpec,
}

/// What to run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CommandSpec {
    /// A line for the shell, as its operator wrote it.
    Line(String),
    /// A program and its arguments, which no shell reads.
    Args(Vec<String>),
}

impl HttpSpec {
    /// Makes a `GET` of `url` that any success answers.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            method: get(),
            headers: BTreeMap::new(),
            host: None,
            body: None,
            expect: successes(),
            contains: None,
            json: BTreeMap::new(),
            follow: false,
            verify: true,
            ca_file: None,
            socket: None,
        }
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn yes() -> bool {
    true
}

fn successes() -> BTreeSet<Expected> {
    BTreeSet::from([Expected::Class(2)])
}

/// What a header says. As text, `env:NAME` and `file:PATH` refer to a secret, which is read anew at
/// every look and is never part of a plan.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HeaderValue {
    /// This.
    Plain(String),
    /// What is to be found there.
    Secret(SecretRef),
}

impl TryFrom<String> for HeaderValue {
    type Error = SecretError;
    fn try_from(text: String) -> Result<Self, SecretError> {
        Ok(SecretRef::parse(&text)?.map_or(Self::Plain(text), Self::Secret))
    }
}

impl From<HeaderValue> for String {
    fn from(value: HeaderValue) -> Self {
        match value {
            HeaderValue::Plain(text) => text,
            HeaderValue::Secret(at) => at.into(),
        }
    }
}

/// A status, or a class of them, such as `204` or `2xx`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Expected {
    /// Every status with this first digit.
    Class(u8),
    /// This status.
    Status(u16),
}

/// A text names neither a status nor a class of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a status is a number from 200 to 599, or a class such as `2xx`")]
pub struct NotAStatus;

impl Expected {
    /// Returns whether `status` is meant.
    pub fn matches(self, status: u16) -> bool {
        match self {
            Self::Class(class) => status / 100 == u16::from(class),
            Self::Status(one) => status == one,
        }
    }
}

// 1xx statuses announce the answer and are none: RFC 9110, section 15.2.
impl FromStr for Expected {
    type Err = NotAStatus;
    fn from_str(text: &str) -> Result<Self, NotAStatus> {
        if let Some(class) = text.strip_suffix("xx") {
            let class = class.parse().map_err(|_| NotAStatus)?;
            return if (2..=5).contains(&class) { Ok(Self::Class(class)) } else { Err(NotAStatus) };
        }
        let status = text.parse().map_err(|_| NotAStatus)?;
        if (200..=599).contains(&status) { Ok(Self::Status(status)) } else { Err(NotAStatus) }
    }
}

impl TryFrom<String> for Expected {
    type Error = NotAStatus;
    fn try_from(text: String) -> Result<Self, NotAStatus> {
        text.parse()
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Status(status) => write!(f, "{status}"),
        }
    }
}

impl From<Expected> for String {
    fn from(expected: Expected) -> Self {
        expected.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_read_and_matched() {
        for (text, good, bad) in [("2xx", 204, 301), ("200", 200, 201), ("5xx", 500, 499)] {
            let expected: Expected = text.parse().unwrap();
            assert!(expected.matches(good) && !expected.matches(bad), "{text}");
            assert_eq!(expected.to_string(), text);
        }
        for bad in ["", "xx", "1xx", "6xx", "-2xx", "22xx", "199", "600", "2XX", "ok", "200 "] {
            assert_eq!(bad.parse::<Expected>(), Err(NotAStatus), "{bad}");
        }
    }

    #[test]
    fn header_values_refer_to_secrets_by_prefix() {
        let value = |text: &str| HeaderValue::try_from(text.to_owned());
        assert_eq!(value("text/html"), Ok(HeaderValue::Plain("text/html".to_owned())));
        assert_eq!(value("env:TOKEN"), Ok(HeaderValue::Secret(SecretRef::Env("TOKEN".to_owned()))));
        assert!(value("env:").is_err());
        assert!(value("secret:x").is_err());
    }
}
