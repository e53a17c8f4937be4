//! E-mail: the settings of the channel, and how a message goes out. `compose.rs` writes the letter,
//! `smtp.rs` speaks to the server.

mod compose;
mod mailbox;
mod received;
mod smtp;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use async_trait::async_trait;
use eeveon_core::{Secrets, Untrusted};

use crate::{Credential, Message, Notifier, NotifyError, Setup, Templates};

pub use mailbox::Mailbox;
use received::Received;
use smtp::{Envelope, Login, Server};

/// How many people one channel tells. More than that is a mailing list's work.
const RECIPIENTS: usize = 50;

/// How many refused recipients an error names.
const NAMED: usize = 5;

/// How the conversation with a mail server is protected.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tls {
    /// It begins in the clear and changes to TLS before anything is said; a server that does not
    /// offer it is left. RFC 3207.
    Starttls,
    /// TLS from the first byte. RFC 8314.
    Implicit,
    /// None: messages can be read on the way. Nobody logs in so, but on this very machine.
    None,
}

impl FromStr for Tls {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "starttls" => Ok(Self::Starttls),
            "implicit" => Ok(Self::Implicit),
            "none" => Ok(Self::None),
            _ => Err("tls is starttls, implicit or none".to_owned()),
        }
    }
}

/// How to log in to a mail server.
#[derive(Clone, Debug)]
pub enum MailLogin {
    /// With a password: AUTH PLAIN (RFC 4616), or LOGIN where there is only that.
    Password {
        /// Who.
        user: String,
        /// The password.
        password: Credential,
    },
    /// With an access token: AUTH XOAUTH2,
    /// <https://developers.google.com/workspace/gmail/imap/xoauth2-protocol>.
    XOAuth2 {
        /// Who.
        user: String,
        /// The token.
        token: Credential,
    },
}

/// How mail is sent, and to whom.
#[derive(Clone, Debug)]
pub struct EmailConfig {
    /// The server's name or address.
    pub host: String,
    /// Its port; by default the usual one: 587, with implicit TLS 465, without TLS 25.
    pub port: Option<u16>,
    /// Protection; by default implicit TLS on port 465, none on this very machine, else STARTTLS.
    pub tls: Option<Tls>,
    /// Certificate authorities, in PEM, trusted beside those of the machine.
    pub ca_file: Option<PathBuf>,
    /// How to log in, if the server wants that.
    pub login: Option<MailLogin>,
    /// The sender.
    pub from: Mailbox,
    /// Whom to tell.
    pub to: Vec<Mailbox>,
    /// What this machine calls itself: in EHLO, and to tell its messages from those of others.
    pub helo: String,
    /// What tells the threads of this installation from those of another on the same machine: letters
    /// and digits, always the same. Empty where there is only one.
    pub origin: String,
    /// How long each step of the conversation may take. All of it may take four times as long.
    pub timeout: Duration,
}

impl EmailConfig {
    /// Returns a configuration with everything that has a default left at it.
    pub fn new(host: impl Into<String>, from: Mailbox, to: Vec<Mailbox>, helo: impl Into<String>) -> Self {
        Self {
            host: host.into(),
            port: None,
            tls: None,
            ca_file: None,
            login: None,
            from,
            to,
            helo: helo.into(),
            origin: String::new(),
            timeout: Duration::from_secs(30),
        }
    }
}

/// Sends e-mail. All messages about one deployment are one thread, with one subject, and a message that is sent again
/// has the same id, by which mail programs show it once.
pub struct Email {
    server: Server,
    login: Option<MailLogin>,
    from: Mailbox,
    to: Vec<Mailbox>,
    origin: String,
    templates: Templates,
    secrets: Arc<dyn Secrets>,
    received: Received,
}

impl Email {
    /// Makes the channel. Reads the authorities to be trusted from disk. Templates are for
    /// [`Markup::Plain`](crate::Markup::Plain): their words go into both parts of the letter.
    ///
    /// # Errors
    ///
    /// The configuration cannot work.
    pub fn new(setup: Setup, config: EmailConfig) -> Result<Self, NotifyError> {
        let Setup { name, secrets, templates, http: _ } = setup;
        let EmailConfig { host, port, tls, ca_file, login, from, to, helo, origin, timeout } = config;
        let config = |why: &str| NotifyError::Config { channel: name.clone(), why: why.to_owned() };
        if to.is_empty() || to.len() > RECIPIENTS {
            return Err(config(&format!("`to` names 1 to {RECIPIENTS} recipients")));
        }
        if !is_helo(&helo) {
            return Err(config("`helo` is a host name: letters, digits, . and -"));
        }
        if !origin.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(config("`origin` has letters and digits only"));
        }
        if let Some(MailLogin::Password { user, .. } | MailLogin::XOAuth2 { user, .. }) = &login
            && (user.is_empty() || user.chars().any(char::is_control))
        {
            return Err(config("`user` is empty or has control characters"));
        }
        let server = Server::new(name.clone(), host, port, tls, ca_file.as_deref(), helo, timeout)?;
        if login.is_some() && server.can_be_overheard() {
            let why = "`tls` is none, and nobody logs in to another machine where it can be overheard";
            return Err(NotifyError::Config { channel: name, why: why.to_owned() });
        }
        Ok(Self { server, login, from, to, origin, templates, secrets, received: Received::default() })
    }

    async fn reveal(&self) -> Result<Option<Login>, NotifyError> {
        let channel = &self.server.channel;
        Ok(match &self.login {
            None => None,
            Some(MailLogin::Password { user, password }) => {
                Some(Login::password(user, password.reveal(channel, &self.secrets).await?))
            }
            Some(MailLogin::XOAuth2 { user, token }) => {
                Some(Login::token(user, token.reveal(channel, &self.secrets).await?))
            }
        })
    }
}

/// Tells whether `text` may stand after EHLO and in a message id: a name of dots, letters, digits
/// and hyphens.
fn is_helo(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        })
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Email").field("channel", &self.server.channel).finish_non_exhaustive()
    }
}

#[async_trait]
impl Notifier for Email {
    fn name(&self) -> &str {
        &self.server.channel
    }

    /// Sends to all recipients at once. When some are refused the others get it, and the error
    /// names those that are refused. Another attempt is for those that did not get it.
    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        let letter = compose::letter(self, message)?;
        let to = self.received.left(&message.key, &self.to);
        let envelope = Envelope { from: &self.from, to: &to, letter: &letter };
        let refused = self.server.converse(self.reveal().await?, Some(&envelope)).await?;
        if refused.is_empty() {
            self.received.forget(&message.key);
            return Ok(());
        }
        let channel = self.server.channel.clone();
        let named: Vec<String> =
            refused.iter().take(NAMED).map(|it| format!("{}: {}", it.address, it.answer)).collect();
        let answer = Untrusted::from(named.join("; "));
        if !refused.iter().any(|it| it.later) {
            self.received.forget(&message.key);
            return Err(NotifyError::Recipient { channel, answer });
        }
        let taken = to.iter().filter(|whom| refused.iter().all(|it| it.address != whom.address()));
        self.received.remember(&message.key, taken);
        Err(NotifyError::Unreachable { channel, why: answer.for_terminal() })
    }

    /// Connects, logs in if there is a login, and leaves.
    async fn check(&self) -> Result<String, NotifyError> {
        let login = self.reveal().await?;
        let logged_in = if login.is_some() { "and accepts the login" } else { "and wants no login" };
        self.server.converse(login, None).await?;
        Ok(format!("the mail server answers {logged_in}"))
    }
}
