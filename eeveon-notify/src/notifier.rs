//! The trait every channel implements, and what it is given.

use std::fmt;

use async_trait::async_trait;

use crate::{Event, NotifyError};

/// One event, for one channel.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The same for every attempt to send this message, and different for every other message of this
    /// home: `PROJECT-DEPLOYMENT-SEQ-KIND`.
    pub key: String,
    /// What happened.
    pub event: Event,
}

impl Message {
    /// Makes the message that tells of `event`.
    pub fn of(event: Event) -> Self {
        let Event { project, deployment, seq, kind, .. } = &event;
        Self { key: format!("{project}-{deployment}-{seq}-{kind}"), event }
    }

    /// Returns what others know this message by, the idempotency key where a service knows one: the key,
    /// and when it happened, in milliseconds since 1970. So it is no other message's, not even when
    /// a store was lost or put back from an older copy, and deployments get the same numbers again. It has
    /// no dots, which divide what the signature of a webhook covers.
    pub fn id(&self) -> String {
        format!("{}-{}", self.key, self.event.at.as_millisecond())
    }

    /// Returns what all messages about one deployment have in common, for services that know
    /// threads.
    pub fn thread(&self) -> String {
        format!("{}-{}", self.event.project, self.event.deployment)
    }
}

/// One way of reaching people. Sends once; trying again is its caller's business.
#[async_trait]
pub trait Notifier: fmt::Debug + Send + Sync {
    /// Returns what to call this channel in messages, such as `slack`. Nothing secret.
    fn name(&self) -> &str;

    /// Sends one message. Returns once the service has accepted it.
    ///
    /// # Errors
    ///
    /// It was not accepted, or nobody can tell; [`eeveon_core::Diagnose::retry`] says whether
    /// another attempt may help. An error never holds an address or a token.
    async fn notify(&self, message: &Message) -> Result<(), NotifyError>;

    /// Proves, as far as the service allows it, that a message would be accepted, without sending
    /// one. Returns what could be proven, in one line for people.
    ///
    /// # Errors
    ///
    /// A message would not be accepted.
    async fn check(&self) -> Result<String, NotifyError>;
}
