//! `[[health]]`: how a project's checks are written, and the checks that come of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use eeveon_health::{
    CheckSpec, CommandCheckSpec, CommandSpec, Expected, HeaderValue, HttpSpec, Pace, TcpSpec, What,
};
use serde::{Deserialize, Serialize};

use super::HumanDuration;

/// One `[[health]]`. The keys are described in [`super::KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Health {
    pub kind: Kind,
    pub name: String,
    pub when: When,
    pub url: String,
    pub method: String,
    pub headers: BTreeMap<String, String>,
    pub host: String,
    pub body: String,
    pub expect: Statuses,
    pub contains: String,
    pub json: BTreeMap<String, toml::Value>,
    pub follow: bool,
    pub verify: bool,
    pub ca_file: String,
    pub socket: String,
    pub address: String,
    pub command: CommandLine,
    pub timeout: HumanDuration,
    pub attempts: u32,
    pub backoff: Backoff,
    pub successes: u32,
    pub deadline: HumanDuration,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// An answer to a request.
    #[default]
    Http,
    /// A connection.
    Tcp,
    /// An exit code.
    Command,
}

/// At which moments of a deploy a check looks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// Before anything changes.
    Pre,
    /// At the new release, before the switch.
    Candidate,
    /// After the switch.
    #[default]
    Post,
    /// Before anything changes, if something serves, and after the switch.
    Both,
}

/// The waits between attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Backoff {
    pub first: HumanDuration,
    pub factor: f64,
    pub max: HumanDuration,
}

/// Statuses that are healthy ones: a number, a class such as `2xx`, or a list of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a status such as 200, a class such as \"2xx\", or a list of them")]
pub(crate) enum Statuses {
    One(Status),
    Several(Vec<Status>),
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a status such as 200, or a class such as \"2xx\"")]
pub(crate) enum Status {
    Number(u16),
    Text(String),
}

/// A line for the shell, or a program and its arguments.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a line for the shell, or a list: a program and its arguments")]
pub(crate) enum CommandLine {
    Line(String),
    Args(Vec<String>),
}

impl Default for Health {
    fn default() -> Self {
        let pace = Pace::default();
        let millis = |millis| HumanDuration(std::time::Duration::from_millis(millis));
        Self {
            kind: Kind::default(),
            name: String::new(),
            when: When::default(),
            url: String::new(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            host: String::new(),
            body: String::new(),
            expect: Statuses::One(Status::Text("2xx".to_owned())),
            contains: String::new(),
            json: BTreeMap::new(),
            follow: false,
            verify: true,
            ca_file: String::new(),
            socket: String::new(),
            address: String::new(),
            command: CommandLine::Line(String::new()),
            timeout: millis(pace.timeout_ms),
            attempts: pace.attempts,
            backoff: Backoff::default(),
            successes: pace.successes,
            deadline: millis(0),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        let (pace, millis) = (Pace::default(), |it| HumanDuration(std::time::Duration::from_millis(it)));
        Self { first: millis(pace.first_ms), factor: pace.factor, max: millis(pace.max_ms) }
    }
}

/// The keys that only one kind of check has.
const OF_KIND: &[(Kind, &[&str])] = &[
    (
        Kind::Http,
        &[
            "url", "method", "headers", "host", "body", "expect", "contains", "json", "follow", "verify",
            "ca_file", "socket",
        ],
    ),
    (Kind::Tcp, &["address"]),
    (Kind::Command, &["command"]),
];

/// A key that is wrong, and what is wrong with it.
pub(crate) type Fault = (&'static str, String);

impl When {
    /// Tells whether a check looks after the switch.
    pub(crate) fn is_after(self) -> bool {
        matches!(self, Self::Post | Self::Both)
    }
}

impl Health {
    /// Returns a key among `given` that a check of this kind does not have.
    pub(crate) fn stray<'a>(&self, mut given: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let others = OF_KIND.iter().filter(|(kind, _)| *kind != self.kind);
        let others: Vec<&str> = others.flat_map(|(_, keys)| keys.iter().copied()).collect();
        given.find(|key| others.contains(key))
    }

    /// Returns the check, which is the `nth` of the file counted from 0.
    ///
    /// # Errors
    ///
    /// Says which key is wrong.
    pub(crate) fn spec(&self, nth: usize) -> Result<CheckSpec, Fault> {
        let kind = match self.kind {
            Kind::Http => "http",
            Kind::Tcp => "tcp",
            Kind::Command => "command",
        };
        let name = match self.name.as_str() {
            "" => format!("{kind}-{}", nth + 1),
            name => name.to_owned(),
        };
        if eeveon_core::TargetName::new(name.clone()).is_err() {
            let rule = "use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit";
            return Err(("name", format!("`{}` cannot name a check: {rule}", name.escape_debug())));
        }
        let what = match self.kind {
            Kind::Http => What::Http(Box::new(self.http()?)),
            Kind::Tcp => What::Tcp(TcpSpec { address: self.address.clone() }),
            Kind::Command => What::Command(CommandCheckSpec {
                run: match &self.command {
                    CommandLine::Line(line) => CommandSpec::Line(line.clone()),
                    CommandLine::Args(args) => CommandSpec::Args(args.clone()),
                },
            }),
        };
        let millis = |it: HumanDuration| u64::try_from(it.0.as_millis()).unwrap_or(u64::MAX);
        let pace = Pace {
            attempts: self.attempts,
            first_ms: millis(self.backoff.first),
            factor: self.backoff.factor,
            max_ms: millis(self.backoff.max),
            timeout_ms: millis(self.timeout),
            deadline_ms: Some(millis(self.deadline)).filter(|it| *it > 0),
            successes: self.successes,
        };
        Ok(CheckSpec { name, what, pace })
    }

    fn http(&self) -> Result<HttpSpec, Fault> {
        let given = |text: &String| (!text.is_empty()).then(|| text.clone());
        let status = |status: &Status| {
            let text = match status {
                Status::Number(number) => number.to_string(),
                Status::Text(text) => text.clone(),
            };
            text.parse::<Expected>().map_err(|error| ("expect", error.to_string()))
        };
        let expect = match &self.expect {
            Statuses::One(one) => BTreeSet::from([status(one)?]),
            Statuses::Several(several) => several.iter().map(status).collect::<Result<_, _>>()?,
        };
        let headers = self.headers.iter().map(|(name, value)| {
            let value = HeaderValue::try_from(value.clone()).map_err(|error| ("headers", error.to_string()));
            Ok((name.clone(), value?))
        });
        let json = self.json.iter().map(|(pointer, value)| {
            let value = serde_json::to_value(value).map_err(|error| ("json", error.to_string()));
            Ok((pointer.clone(), value?))
        });
        Ok(HttpSpec {
            method: self.method.clone(),
            headers: headers.collect::<Result<_, Fault>>()?,
            host: given(&self.host),
            body: given(&self.body),
            expect,
            contains: given(&self.contains),
            json: json.collect::<Result<_, Fault>>()?,
            follow: self.follow,
            verify: self.verify,
            ca_file: given(&self.ca_file).map(PathBuf::from),
            socket: given(&self.socket).map(PathBuf::from),
            ..HttpSpec::new(self.url.clone())
        })
    }
}
