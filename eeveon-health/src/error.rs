//! Everything that can come of looking, beside health.

use std::borrow::Cow;

use eeveon_core::{Class, Diagnose, ReleaseNumber, Untrusted, action::Stopped, untrusted::printable};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Looked, ProbeError, check::seconds};

/// When a gate stands in the way.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Before anything is touched: is what serves now healthy?
    Pre,
    /// The new release is complete and does not serve yet.
    Candidate,
    /// The new release serves.
    Post,
    /// The new release has served for a while.
    Watch,
}

impl Phase {
    fn words(self) -> &'static str {
        match self {
            Self::Pre => "before anything was touched",
            Self::Candidate => "before the switch",
            Self::Post => "after the switch",
            Self::Watch => "some time after the switch",
        }
    }
}

/// A check did not pass, or cannot. `check` is what people call it.
#[expect(missing_docs, reason = "each variant's sentence names its fields")]
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// A check is not as it must be written.
    #[error("check \"{}\": `{}`: {}", printable(.check), printable(.key), printable(.rule))]
    Invalid { check: String, key: String, rule: String },
    /// The release answered, and not as a healthy one does.
    #[error("check \"{}\" did not pass {}: {}", printable(.check), .phase.words(), story(.looked))]
    Unhealthy { check: String, phase: Phase, looked: Box<Looked> },
    /// The last look came to no answer at all.
    #[error("check \"{}\" got no answer {}: {}", printable(.check), .phase.words(), story(.looked))]
    NoAnswer { check: String, phase: Phase, looked: Box<Looked>, source: ProbeError },
    /// The release was healthy after the switch, and then was not.
    #[error("check \"{}\" went bad {}: {}", printable(.check), Phase::Watch.words(), story(.looked))]
    WentBad { check: String, looked: Box<Looked> },
    /// The release that should serve again is not healthy either.
    #[error(
        "release {release}, which served before, does not pass check \"{}\" either: {}",
        printable(.check),
        story(.looked)
    )]
    BothBad { check: String, release: ReleaseNumber, looked: Box<Looked> },
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Stopped),
}

/// Tells in one line how often was looked, and what was seen last.
fn story(looked: &Looked) -> String {
    let looks = match looked.looks {
        1 => "1 look".to_owned(),
        many => format!("{many} looks"),
    };
    let last = looked.last.as_ref().map_or_else(|| "nothing".to_owned(), Untrusted::for_terminal);
    format!("{looks} in {}, at last: {last}", seconds(looked.took_ms))
}

impl HealthError {
    /// Says that what stands at `key` of the check's configuration breaks `rule`.
    pub(crate) fn invalid(check: &str, key: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Invalid { check: check.to_owned(), key: key.into(), rule: rule.into() }
    }

    fn looked(&self) -> Option<&Looked> {
        match self {
            Self::Unhealthy { looked, .. }
            | Self::NoAnswer { looked, .. }
            | Self::WentBad { looked, .. }
            | Self::BothBad { looked, .. } => Some(looked),
            Self::Invalid { .. } | Self::Cancelled(_) => None,
        }
    }
}

impl Diagnose for HealthError {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "health/invalid",
            Self::Unhealthy { .. } => "health/unhealthy",
            Self::NoAnswer { .. } => "health/no-answer",
            Self::WentBad { .. } => "health/went-bad",
            Self::BothBad { .. } => "health/both-bad",
            Self::Cancelled(stopped) => stopped.code(),
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Invalid { .. } => "correct the check in the project file; nothing was touched",
            Self::Unhealthy { .. } => {
                "the release's own log says why; a check that runs a command leaves its output in `ee-deploy logs`"
            }
            Self::NoAnswer { source, .. } => match source {
                ProbeError::Dns { .. } => {
                    "check the name in the check's address, and this machine's resolver"
                }
                ProbeError::Refused(_) => {
                    "nothing listens there: see whether the service runs, and give it more `attempts` if it \
                     starts slowly"
                }
                ProbeError::TimedOut { .. } => "raise `timeout`, or find out what the service waits for",
                ProbeError::Tls(_) => "check the certificate; `ca_file` names another authority",
                ProbeError::Protocol(_) => {
                    "see whether address and port belong to the service that was meant"
                }
                ProbeError::Denied { .. } => {
                    "an address from a repository must be public; put the check into the project file"
                }
                ProbeError::Command(_) => "run the command by hand, as the user ee-deploy runs as",
                ProbeError::Secret(_) => "set the secret that the check's headers refer to",
            },
            Self::WentBad { .. } => "the release's own log says what happened since the switch",
            Self::BothBad { .. } => {
                "what both releases depend on may be down: look at that first, then `ee-deploy resume`"
            }
            Self::Cancelled(_) => return None,
        }))
    }

    // Retry stays `Never`: whoever looked has tried again as often as it was told to.

    fn class(&self) -> Class {
        match self {
            Self::Invalid { .. } => Class::Config,
            Self::Cancelled(stopped) => stopped.class(),
            _ => Class::Failed,
        }
    }

    fn details(&self) -> Option<Value> {
        self.looked().and_then(|looked| serde_json::to_value(looked).ok())
    }
}
