//! What can keep a message from arriving.

use std::{borrow::Cow, time::Duration};

use eeveon_core::{Class, Diagnose, Retry, SecretError, Untrusted};

/// A message did not arrive, or a channel is not set up so that one could. Never holds an address
/// or a token.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The channel's configuration cannot work.
    #[error("channel `{channel}`: {why}")]
    Config {
        /// The channel.
        channel: String,
        /// What is wrong.
        why: String,
    },
    /// The channel's address, token or password is not to be had.
    #[error("channel `{channel}` lacks a secret")]
    Secret {
        /// The channel.
        channel: String,
        /// Which.
        #[source]
        source: SecretError,
    },
    /// A template is not one, or asks for what there is not.
    #[error("template of channel `{channel}`, line {line}: {why}")]
    Template {
        /// The channel.
        channel: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The service does not know us.
    #[error("channel `{channel}` did not accept the login: {}", answer.for_terminal())]
    Login {
        /// The channel.
        channel: String,
        /// What the service said, shortened.
        answer: Untrusted,
    },
    /// The service does not know whom to tell.
    #[error("channel `{channel}` did not accept a recipient: {}", answer.for_terminal())]
    Recipient {
        /// The channel.
        channel: String,
        /// What the service said, shortened.
        answer: Untrusted,
    },
    /// The service is not who it should be.
    #[error("the certificate of channel `{channel}` is not valid: {why}")]
    Certificate {
        /// The channel.
        channel: String,
        /// What is wrong with it.
        why: String,
    },
    /// The service will not have the message, now or later.
    #[error("channel `{channel}` refused the message: {}", answer.for_terminal())]
    Refused {
        /// The channel.
        channel: String,
        /// What the service said, shortened.
        answer: Untrusted,
    },
    /// The service wants fewer messages.
    #[error("channel `{channel}` asks to wait{}: {}", seconds(*after), answer.for_terminal())]
    Throttled {
        /// The channel.
        channel: String,
        /// For how long, if it said so.
        after: Option<Duration>,
        /// What the service said, shortened.
        answer: Untrusted,
    },
    /// The service could not be reached, or broke down.
    #[error("channel `{channel}` could not be reached: {why}")]
    Unreachable {
        /// The channel.
        channel: String,
        /// Why, without the address.
        why: String,
    },
}

fn seconds(after: Option<Duration>) -> String {
    after.map(|after| format!(" {} s", after.as_secs())).unwrap_or_default()
}

impl NotifyError {
    /// Returns how long the service asked to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { after, .. } => *after,
            _ => None,
        }
    }
}

impl Diagnose for NotifyError {
    fn code(&self) -> &'static str {
        match self {
            Self::Config { .. } => "notify/config",
            Self::Secret { .. } => "notify/secret",
            Self::Template { .. } => "notify/template",
            Self::Login { .. } => "notify/login",
            Self::Recipient { .. } => "notify/recipient",
            Self::Certificate { .. } => "notify/certificate",
            Self::Refused { .. } => "notify/refused",
            Self::Throttled { .. } => "notify/throttled",
            Self::Unreachable { .. } => "notify/unreachable",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Config { .. } | Self::Template { .. } => {
                "mend the [[notify]] section of the project file, or the secret it points to".into()
            }
            Self::Secret { .. } => "set it, or point to another place with env:NAME or file:/PATH".into(),
            Self::Login { .. } => "renew the token or password the channel's configuration points to".into(),
            Self::Recipient { .. } => "correct whom the channel's configuration names".into(),
            Self::Certificate { .. } => {
                "renew the server's certificate, or name the authority it comes from in `ca_file`".into()
            }
            Self::Refused { .. } => {
                "mend what the service's answer names: its address, the channel's settings or its template"
                    .into()
            }
            Self::Throttled { .. } => {
                "wait; what is told of deployments is tried again by itself, a test is not".into()
            }
            Self::Unreachable { .. } => {
                "see whether the service is up and its address right; what is told of deployments is tried \
                 again for a day, a test is not"
                    .into()
            }
        })
    }

    fn retry(&self) -> Retry {
        match self {
            // Another command may have what this one lacks.
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Secret { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Config { .. } | Self::Secret { .. } | Self::Template { .. } => Class::Config,
            Self::Throttled { .. } | Self::Unreachable { .. } | Self::Certificate { .. } => {
                Class::Unreachable
            }
            Self::Login { .. } | Self::Recipient { .. } | Self::Refused { .. } => Class::Failed,
        }
    }
}
