//! `[[notify]]`: how a project's channels are written, and the channels that come of it.

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use eeveon_core::{Diagnose, Secrets, SystemClock};
use eeveon_notify::{
    Credential, Discord, DiscordConfig, Email, EmailConfig, EventKind, HttpOptions, Level, MailLogin,
    Mailbox, Markup, Notifier, NotifyError, Ntfy, NtfyConfig, Proxies, Route, Setup, Slack, SlackWay, Teams,
    Telegram, TelegramConfig, Template, Templates, Webhook, WebhookConfig, WebhookMethod,
};
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{HumanDuration, health::Fault};

/// One `[[notify]]`. The keys are described in [`super::KEYS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Notify {
    pub channel: Kind,
    pub name: String,
    pub levels: Vec<Level>,
    #[serde(deserialize_with = "events")]
    pub events: Vec<EventKind>,
    pub url: String,
    pub token: String,
    pub to: Recipients,
    pub thread: i64,
    pub method: String,
    pub headers: BTreeMap<String, String>,
    pub secret: String,
    pub previous_secret: String,
    pub host: String,
    pub port: u16,
    pub tls: String,
    pub user: String,
    pub password: String,
    pub from: String,
    pub helo: String,
    pub template: String,
    pub templates: BTreeMap<Level, String>,
    pub timeout: HumanDuration,
    pub ca_file: String,
}

/// What every channel of this home is made with.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    /// Finds addresses and tokens.
    pub secrets: Arc<dyn Secrets>,
    /// What stands between this machine and the services.
    pub proxies: Proxies,
    /// What tells this home from every other one.
    pub home_id: String,
}

/// What kind of service is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    #[default]
    Slack,
    Discord,
    Telegram,
    Email,
    Webhook,
    Teams,
    Ntfy,
}

/// Whom a message is for: one, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a recipient, or a list of them")]
pub(crate) enum Recipients {
    One(String),
    Several(Vec<String>),
}

impl Recipients {
    fn list(&self) -> Vec<&str> {
        match self {
            Self::One(one) if one.is_empty() => Vec::new(),
            Self::One(one) => vec![one],
            Self::Several(several) => several.iter().map(String::as_str).collect(),
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self {
            channel: Kind::default(),
            name: String::new(),
            levels: Route::default().levels,
            events: Vec::new(),
            url: String::new(),
            token: String::new(),
            to: Recipients::One(String::new()),
            thread: 0,
            method: "POST".to_owned(),
            headers: BTreeMap::new(),
            secret: String::new(),
            previous_secret: String::new(),
            host: String::new(),
            port: 0,
            tls: String::new(),
            user: String::new(),
            password: String::new(),
            from: String::new(),
            helo: String::new(),
            template: String::new(),
            templates: BTreeMap::new(),
            timeout: HumanDuration(Duration::from_secs(10)),
            ca_file: String::new(),
        }
    }
}

/// An event whose word is kept for when there are approvals.
const FOR_LATER: EventKind = EventKind::WaitingForApproval;

/// Reads the events a channel wants. What cannot be is answered with those that can.
fn events<'de, D: Deserializer<'de>>(list: D) -> Result<Vec<EventKind>, D::Error> {
    struct Wanted(EventKind);
    struct Name;
    impl de::Visitor<'_> for Name {
        type Value = Wanted;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the name of an event")
        }
        fn visit_str<E: de::Error>(self, name: &str) -> Result<Wanted, E> {
            let known =
                EventKind::ALL.into_iter().filter(|kind| ![FOR_LATER, EventKind::Test].contains(kind));
            let known: Vec<String> = known.map(|kind| format!("`{kind}`")).collect();
            EventKind::from_str(name).map(Wanted).map_err(|_| {
                let name = name.chars().take(80).flat_map(char::escape_debug).collect::<String>();
                E::custom(format!("unknown event `{name}`, expected one of {}", known.join(", ")))
            })
        }
    }
    impl<'de> Deserialize<'de> for Wanted {
        fn deserialize<D: Deserializer<'de>>(one: D) -> Result<Self, D::Error> {
            one.deserialize_str(Name)
        }
    }
    Ok(Vec::<Wanted>::deserialize(list)?.into_iter().map(|wanted| wanted.0).collect())
}

/// The keys that only some kinds of channel have.
const OF_KIND: &[(&str, &[Kind])] = &[
    ("url", &[Kind::Slack, Kind::Discord, Kind::Telegram, Kind::Webhook, Kind::Teams, Kind::Ntfy]),
    ("token", &[Kind::Slack, Kind::Telegram, Kind::Ntfy, Kind::Email]),
    ("to", &[Kind::Slack, Kind::Telegram, Kind::Ntfy, Kind::Email]),
    ("thread", &[Kind::Discord, Kind::Telegram]),
    ("method", &[Kind::Webhook]),
    ("headers", &[Kind::Webhook]),
    ("secret", &[Kind::Webhook]),
    ("previous_secret", &[Kind::Webhook]),
    ("host", &[Kind::Email]),
    ("port", &[Kind::Email]),
    ("tls", &[Kind::Email]),
    ("user", &[Kind::Email]),
    ("password", &[Kind::Email]),
    ("from", &[Kind::Email]),
    ("helo", &[Kind::Email]),
];

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Telegram => "telegram",
            Self::Email => "email",
            Self::Webhook => "webhook",
            Self::Teams => "teams",
            Self::Ntfy => "ntfy",
        }
    }

    fn markup(self) -> Markup {
        match self {
            Self::Slack => Markup::SlackMrkdwn,
            Self::Discord => Markup::DiscordMarkdown,
            Self::Telegram => Markup::TelegramHtml,
            Self::Email | Self::Webhook | Self::Teams | Self::Ntfy => Markup::Plain,
        }
    }
}

impl Notify {
    /// Returns a key among `given` that a channel of this kind does not have.
    pub(crate) fn stray<'a>(&self, mut given: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let is_stray =
            |key: &str| OF_KIND.iter().any(|(it, kinds)| *it == key && !kinds.contains(&self.channel));
        given.find(|key| is_stray(key))
    }

    /// Returns what the channel is called.
    pub(crate) fn name(&self) -> String {
        match self.name.as_str() {
            "" => self.channel.as_str().to_owned(),
            name => name.to_owned(),
        }
    }

    /// Returns what the channel wants to be told.
    pub(crate) fn route(&self) -> Route {
        Route { levels: self.levels.clone(), events: self.events.clone() }
    }

    /// Makes the channel. Touches no network.
    ///
    /// # Errors
    ///
    /// Says which key is wrong.
    pub(crate) fn notifier(&self, around: &Around) -> Result<Arc<dyn Notifier>, Fault> {
        let name = self.name();
        if eeveon_core::TargetName::new(name.clone()).is_err() {
            let rule = "use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit";
            return Err(("name", format!("`{}` cannot name a channel: {rule}", name.escape_debug())));
        }
        if self.timeout.0.is_zero() || self.timeout.0 > Duration::from_secs(60) {
            return Err(("timeout", "it goes from 1ms to 1m".to_owned()));
        }
        if self.events.contains(&FOR_LATER) {
            let why = format!("this version has no approvals, so `{FOR_LATER}` would never be told");
            return Err(("events", why));
        }
        let proxies = around.proxies.clone();
        let http = HttpOptions { timeout: self.timeout.0, ca_file: path(&self.ca_file), proxies };
        let setup = Setup {
            name: name.clone(),
            secrets: Arc::clone(&around.secrets),
            templates: self.templates(&name)?,
            http,
        };
        let made: Result<Arc<dyn Notifier>, NotifyError> = match self.channel {
            Kind::Slack => Slack::new(setup, self.slack()?).map(|it| Arc::new(it) as _),
            Kind::Discord => {
                let thread = u64::try_from(self.thread);
                let thread = thread.map_err(|_| ("thread", "it is the number of a thread".to_owned()))?;
                let thread = Some(thread).filter(|it| *it > 0);
                let config = DiscordConfig { url: hidden("url", &self.url)?, thread };
                Discord::new(setup, config).map(|it| Arc::new(it) as _)
            }
            Kind::Telegram => {
                let config = TelegramConfig {
                    token: hidden("token", &self.token)?,
                    chat: self.only_one("the chat's number, or @name of a channel")?,
                    thread: Some(self.thread).filter(|it| *it != 0),
                    url: given(&self.url),
                };
                Telegram::new(setup, config).map(|it| Arc::new(it) as _)
            }
            Kind::Email => Email::new(setup, self.email(&around.home_id)?).map(|it| Arc::new(it) as _),
            Kind::Webhook => {
                Webhook::new(setup, self.webhook()?, Arc::new(SystemClock)).map(|it| Arc::new(it) as _)
            }
            Kind::Teams => Teams::new(setup, hidden("url", &self.url)?).map(|it| Arc::new(it) as _),
            Kind::Ntfy => {
                let topic = self.only_one("the topic, or where it is: env:NAME or file:/PATH")?;
                let config = NtfyConfig {
                    topic: credential("to", &topic)?,
                    token: optional("token", &self.token)?,
                    url: given(&self.url),
                };
                Ntfy::new(setup, config).map(|it| Arc::new(it) as _)
            }
        };
        made.map_err(|error| {
            let key = match &error {
                NotifyError::Template { .. } => "template",
                _ if !self.ca_file.is_empty() && error.code() == "notify/certificate" => "ca_file",
                NotifyError::Config { why, .. } => named(why).unwrap_or("channel"),
                _ => "channel",
            };
            (key, error.to_string())
        })
    }

    /// Returns which entry of which table is at fault when the channel cannot be made, if it is one.
    pub(crate) fn entry_at_fault(&self, around: &Around) -> Option<(&'static str, String)> {
        let bare = Self { headers: BTreeMap::new(), templates: BTreeMap::new(), ..self.clone() };
        bare.notifier(around).ok()?;
        let fails = |it: Self| it.notifier(around).is_err();
        let header = self.headers.iter().find(|(name, value)| {
            let one = BTreeMap::from([((*name).clone(), (*value).clone())]);
            fails(Self { headers: one, ..bare.clone() })
        });
        let template = self.templates.iter().find(|(level, source)| {
            let one = BTreeMap::from([(**level, (*source).clone())]);
            fails(Self { templates: one, ..bare.clone() })
        });
        // In the order in which the channel is made.
        let template = template.map(|(level, _)| ("templates", level.as_str().to_owned()));
        template.or_else(|| header.map(|(name, _)| ("headers", name.clone())))
    }

    fn templates(&self, name: &str) -> Result<Templates, Fault> {
        let parse = |key: &'static str, source: &str| {
            let template = Template::parse(name, self.channel.markup(), source);
            template.map_err(|error| (key, error.to_string()))
        };
        let every = match self.template.as_str() {
            "" => None,
            source => Some(parse("template", source)?),
        };
        let levels = self.templates.iter().map(|(level, source)| Ok((*level, parse("templates", source)?)));
        Ok(Templates { every, levels: levels.collect::<Result<_, Fault>>()? })
    }

    fn slack(&self) -> Result<SlackWay, Fault> {
        match (self.url.as_str(), self.token.as_str()) {
            (_, "") if !self.to.list().is_empty() => {
                Err(("to", "an incoming webhook is for one channel; only a bot is told which".to_owned()))
            }
            (_, "") => Ok(SlackWay::Webhook { url: hidden("url", &self.url)? }),
            (url, token) => Ok(SlackWay::Bot {
                token: hidden("token", token)?,
                channel: self.only_one("the channel's id, such as C0123456789")?,
                url: given(url),
            }),
        }
    }

    fn email(&self, home_id: &str) -> Result<EmailConfig, Fault> {
        let mailbox = |key, text: &str| Mailbox::from_str(text).map_err(|why| (key, why));
        if self.host.is_empty() {
            return Err(("host", "the mail server's name is missing".to_owned()));
        }
        let to = self.to.list().into_iter().map(|it| mailbox("to", it)).collect::<Result<Vec<_>, _>>()?;
        let login = match (self.user.as_str(), self.password.as_str(), self.token.as_str()) {
            ("", "", "") => None,
            ("", ..) => return Err(("user", "a password or token needs the user it is for".to_owned())),
            (user, password, "") => {
                Some(MailLogin::Password { user: user.to_owned(), password: hidden("password", password)? })
            }
            (user, "", token) => {
                Some(MailLogin::XOAuth2 { user: user.to_owned(), token: hidden("token", token)? })
            }
            _ => return Err(("token", "either a password or a token, not both".to_owned())),
        };
        let tls = given(&self.tls).map(|it| it.parse()).transpose().map_err(|why| ("tls", why))?;
        let helo = given(&self.helo).unwrap_or_else(host_name);
        Ok(EmailConfig {
            port: Some(self.port).filter(|it| *it > 0),
            tls,
            ca_file: path(&self.ca_file),
            login,
            origin: home_id.to_owned(),
            timeout: self.timeout.0,
            ..EmailConfig::new(self.host.clone(), mailbox("from", &self.from)?, to, helo)
        })
    }

    fn webhook(&self) -> Result<WebhookConfig, Fault> {
        if self.secret.is_empty() && !self.previous_secret.is_empty() {
            return Err(("previous_secret", "without `secret` there is none before it".to_owned()));
        }
        let secrets = [("secret", &self.secret), ("previous_secret", &self.previous_secret)];
        let secrets = secrets.into_iter().filter(|(_, value)| !value.is_empty());
        let headers = self.headers.iter().map(|(name, value)| {
            let lower = name.to_ascii_lowercase();
            let is_secret = ["auth", "token", "secret", "key", "cookie", "passw", "credential"]
                .iter()
                .any(|it| lower.contains(it));
            let value = if is_secret { hidden("headers", value) } else { credential("headers", value) };
            let named = |(key, why)| (key, format!("`{}`: {why}", name.escape_debug()));
            Ok((name.clone(), value.map_err(named)?))
        });
        Ok(WebhookConfig {
            method: WebhookMethod::from_str(&self.method).map_err(|why| ("method", why))?,
            headers: headers.collect::<Result<_, Fault>>()?,
            secrets: secrets.map(|(key, value)| hidden(key, value)).collect::<Result<_, Fault>>()?,
            ..WebhookConfig::new(credential("url", &self.url)?)
        })
    }

    fn only_one(&self, what: &str) -> Result<String, Fault> {
        match self.to.list().as_slice() {
            [one] => Ok((*one).to_owned()),
            _ => Err(("to", format!("it is {what}"))),
        }
    }
}

/// Returns the key at whose name `why` begins.
fn named(why: &str) -> Option<&'static str> {
    let quoted = why.strip_prefix('`')?.split('`').next()?;
    OF_KIND.iter().map(|(key, _)| *key).find(|key| *key == quoted)
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn path(text: &str) -> Option<PathBuf> {
    given(text).map(PathBuf::from)
}

fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

fn credential(key: &'static str, text: &str) -> Result<Credential, Fault> {
    if text.is_empty() {
        return Err((key, "it is missing".to_owned()));
    }
    Credential::parse(text).map_err(|error| (key, error.to_string()))
}

fn optional(key: &'static str, text: &str) -> Result<Option<Credential>, Fault> {
    given(text).map(|text| hidden(key, &text)).transpose()
}

/// Reads what must not be in a project file: it is copied, shown and kept in history.
fn hidden(key: &'static str, text: &str) -> Result<Credential, Fault> {
    match credential(key, text)? {
        Credential::Given(_) => {
            Err((key, "it must not be here itself: write env:NAME or file:/PATH".to_owned()))
        }
        reference => Ok(reference),
    }
}
