//! What a health check is: something that looks once and says what it saw.

use std::{fmt, path::PathBuf};

use async_trait::async_trait;
use eeveon_core::{CommitId, ProjectName, ReleaseNumber, SecretError, Untrusted, untrusted::printable};
use serde::{Deserialize, Serialize};

/// The longest reason that is kept, in bytes. What a release says about itself has no other limit.
pub const MAX_REASON_BYTES: usize = 500;

/// What is looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// Whose release.
    pub project: ProjectName,
    /// Which release.
    pub release: ReleaseNumber,
    /// Of which commit.
    pub commit: CommitId,
    /// Where it lies.
    pub folder: PathBuf,
}

/// What one look saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reading {
    /// Fit to serve.
    Healthy,
    /// An answer that says otherwise.
    Unhealthy {
        /// Why, for people. Whoever answered may have written it.
        reason: Untrusted,
    },
}

impl Reading {
    /// Returns that the subject is not fit to serve, with the reason cut to [`MAX_REASON_BYTES`].
    pub fn unhealthy(reason: impl Into<String>) -> Self {
        Self::Unhealthy { reason: Untrusted::from(cut(reason.into())) }
    }
}

/// Looks once. Waiting and counting are the business of [`pass`](crate::pass).
///
/// The future may be dropped at any moment: then nothing of the look goes on.
#[async_trait]
pub trait HealthCheck: fmt::Debug + Send + Sync {
    /// Returns what people call this check.
    fn name(&self) -> &str;

    /// Looks at `subject` now, for no longer than its own time limit.
    ///
    /// # Errors
    ///
    /// There was no answer to judge: that is no proof of sickness, but none of health either.
    async fn probe(&self, subject: &Subject) -> Result<Reading, ProbeError>;
}

/// A look came to no reading.
#[expect(missing_docs, reason = "each variant's sentence names its fields")]
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// The name has no address.
    #[error("the name `{}` could not be resolved: {}", printable(.host), printable(.why))]
    Dns { host: String, why: String },
    /// No connection came about.
    #[error("no connection: {}", printable(.0))]
    Refused(String),
    /// There was no answer in time.
    #[error("no answer within {}", seconds(*.after_ms))]
    TimedOut { after_ms: u64 },
    /// The two sides could not agree on a secure connection.
    #[error("no secure connection: {}", printable(.0))]
    Tls(String),
    /// The answer was none: not the protocol, or broken off.
    #[error("no valid answer: {}", printable(.0))]
    Protocol(String),
    /// The address is one that this check may not connect to.
    #[error("`{}` leads to {address}, which is no public address", printable(.host))]
    Denied { host: String, address: std::net::IpAddr },
    /// The command could not be run.
    #[error("the command could not be run: {}", printable(.0))]
    Command(String),
    /// A secret the check needs is not there.
    #[error("a secret is missing: {0}")]
    Secret(#[from] SecretError),
}

/// Returns a time for people.
pub(crate) fn seconds(ms: u64) -> String {
    match (ms / 1000, ms % 1000 / 100) {
        (0, _) => format!("{ms} ms"),
        (whole, 0) => format!("{whole} s"),
        (whole, tenths) => format!("{whole}.{tenths} s"),
    }
}

/// Cuts a text to [`MAX_REASON_BYTES`], between two characters.
pub(crate) fn cut(mut text: String) -> String {
    const MARK: &str = " ...";
    if text.len() > MAX_REASON_BYTES {
        let mut end = MAX_REASON_BYTES.saturating_sub(MARK.len());
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        text.push_str(MARK);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_short() {
        let times = [(0, "0 ms"), (999, "999 ms"), (1000, "1 s"), (5234, "5.2 s"), (60_000, "60 s")];
        for (ms, text) in times {
            assert_eq!(seconds(ms), text);
        }
    }

    #[test]
    fn errors_cannot_disturb_a_terminal() {
        let bad = || "\u{1b}[2J\u{202e}".to_owned();
        let errors = [
            ProbeError::Dns { host: bad(), why: bad() },
            ProbeError::Refused(bad()),
            ProbeError::Tls(bad()),
            ProbeError::Protocol(bad()),
            ProbeError::Denied { host: bad(), address: [127, 0, 0, 1].into() },
            ProbeError::Command(bad()),
        ];
        for error in errors {
            assert!(!error.to_string().chars().any(eeveon_core::untrusted::is_hazard), "{error}");
        }
    }

    proptest! {
        #[test]
        fn reasons_are_bounded_and_begin_as_given(text in "\\PC{0,400}") {
            let kept = cut(text.clone());
            prop_assert!(kept.len() <= MAX_REASON_BYTES);
            match text.len() <= MAX_REASON_BYTES {
                true => prop_assert_eq!(kept, text),
                false => prop_assert!(text.starts_with(kept.trim_end_matches(" ..."))),
            }
        }
    }
}
