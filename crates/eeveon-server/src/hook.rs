//! Deliveries of webhooks: what they are, who takes them, and what can come of them.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    body::{Body, Bytes},
    http::HeaderMap,
};
use eeveon_core::ProjectName;
use tokio::time::{Instant, sleep_until};

use crate::{
    answer::Answer,
    apart::{Apart, Lost},
    routes::Backstage,
};

/// Takes the deliveries of webhooks. Whoever composes the daemon implements this.
#[async_trait]
pub trait Webhooks: fmt::Debug + Send + Sync {
    /// Judges a delivery, and returns what came of it.
    ///
    /// [`Reply::Accepted`] is a promise: what was asked for is durable when this returns. Whether the sender
    /// knows the secret is to be found out before anything of the body is read, and with the same work
    /// whether there is such a hook or not. Every reply but [`Reply::Unknown`] and [`Reply::Refused`] is for
    /// senders who know it.
    ///
    /// A sender who hangs up does not end this. The time limit does, at any `await`; whoever was not told of
    /// success sends the delivery again.
    async fn deliver(&self, to: HookAddress, headers: HeadersView, body: Bytes) -> Reply;
}

/// Where a delivery was sent to: one address for each project and provider.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HookAddress {
    /// The project; it may not exist.
    pub project: ProjectName,
    /// What the sender is said to be, such as `github`: letters, digits and dashes; it may not exist.
    pub provider: String,
}

impl HookAddress {
    pub(crate) fn new(project: &str, provider: String) -> Option<Self> {
        // The rule for a project's name fits the short words that name providers.
        ProjectName::new(provider.as_str()).ok()?;
        Some(Self { project: ProjectName::new(project).ok()?, provider })
    }
}

/// The headers of a delivery, as they came.
pub struct HeadersView(HeaderMap);

impl HeadersView {
    /// Returns all headers, names in lower case. One that was sent twice is there twice.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_bytes()))
    }
}

impl fmt::Debug for HeadersView {
    /// Shows names only: some values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

/// What came of a delivery. `why` is sent to whoever delivered it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply {
    /// It has consequences, and they are durable.
    Accepted {
        /// What they are.
        why: String,
    },
    /// It is genuine and has no consequences.
    Ignored {
        /// Why not.
        why: String,
    },
    /// There is no such hook. The sender is told the same as for [`Reply::Refused`].
    Unknown,
    /// It is not proven that the sender knows the secret.
    Refused,
    /// It is genuine and cannot be understood.
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// It is genuine and cannot be taken now.
    Busy {
        /// When to send it again.
        retry_after: Duration,
    },
    /// Something here went wrong.
    Failed,
}

/// Receives one delivery and has it judged.
pub(crate) async fn receive(
    address: Option<HookAddress>,
    headers: HeaderMap,
    body: Body,
    backstage: &Backstage,
    apart: &Apart,
) -> Answer {
    let body = match backstage.bodies.read(body, &apart.pace).await {
        Ok(body) => body,
        Err(answer) => return answer,
    };
    let refused_at = Instant::now() + backstage.refusal_time;
    let reply = match address {
        None => Reply::Unknown,
        Some(to) => {
            let webhooks = Arc::clone(&backstage.webhooks);
            let delivery = async move { webhooks.deliver(to, HeadersView(headers), body).await };
            match apart.run(delivery).await {
                Ok(reply) => reply,
                Err(Lost::Panicked) => Reply::Failed,
                Err(Lost::TooLong) => Reply::Busy { retry_after: Duration::from_secs(5) },
            }
        }
    };
    if matches!(reply, Reply::Unknown | Reply::Refused) {
        sleep_until(refused_at).await;
    }
    Answer::Delivery(reply)
}
