//! What went wrong, where, whose business it is, and what to try next.

use std::{borrow::Cow, error::Error, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The part of a deployment a step belongs to. People see these names.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// May this deploy at all?
    Admit,
    /// Obtain the revision's source.
    Fetch,
    /// Turn the source into a release.
    Build,
    /// Place the release on each target.
    Ship,
    /// Start the release beside the live one.
    Boot,
    /// Prove that the release is fit to serve.
    Check,
    /// Send traffic to the release.
    Switch,
    /// Stop and remove what is no longer needed.
    Retire,
}

impl Stage {
    /// Returns the word used in lists and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Fetch => "fetch",
            Self::Build => "build",
            Self::Ship => "ship",
            Self::Boot => "boot",
            Self::Check => "check",
            Self::Switch => "switch",
            Self::Retire => "retire",
        }
    }
}

/// Whether the same attempt might succeed later.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retry {
    /// Trying again cannot help.
    Never,
    /// The cause may pass by itself.
    Later,
}

/// Whose business an error is. Exit codes are made from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// EEveon's own: a bug, or the machine under it failing.
    Fault,
    /// The command was used wrongly.
    Usage,
    /// The deployment went wrong; the world is as it was or as the message says.
    Failed,
    /// A gate, a lock or a quarantine said no.
    Refused,
    /// Configuration is invalid.
    Config,
    /// Something needed could not be reached.
    Unreachable,
}

/// An error that can say what the reader should do about it.
///
/// Capability crates implement this once for their error enum, next to it.
pub trait Diagnose: Error + Send + Sync + 'static {
    /// Returns a stable identifier, such as `source/host-key-changed`. `docs/errors/` has a page
    /// for each, the slash written as a dash.
    fn code(&self) -> &'static str;
    /// Returns one sentence telling the reader what to try.
    fn hint(&self) -> Option<Cow<'static, str>> {
        None
    }
    /// Returns whether the engine may try again on its own.
    fn retry(&self) -> Retry {
        Retry::Never
    }
    /// Returns whose business it is.
    fn class(&self) -> Class {
        Class::Failed
    }
    /// Returns what programs may want to know beyond the message, such as what a health check saw.
    fn details(&self) -> Option<Value> {
        None
    }
}

/// Any diagnosable error, on its way from an action to the engine.
#[derive(Debug)]
pub struct StepError(Box<dyn Diagnose>);

impl<E: Diagnose> From<E> for StepError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl StepError {
    /// Returns the error that was wrapped.
    pub fn diagnosis(&self) -> &dyn Diagnose {
        &*self.0
    }

    /// Flattens the error into the form that is journaled and shown.
    pub fn into_failure(self, stage: Stage) -> Failure {
        Failure::of(&*self.0, stage)
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A failure as recorded: plain data, the same in the journal, the API and the terminal.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Where in the deployment it happened.
    pub stage: Stage,
    /// Stable identifier of the kind of failure.
    pub code: String,
    /// Whose business it is.
    pub class: Class,
    /// What happened, in one line.
    pub message: String,
    /// The chain of causes, outermost first.
    pub causes: Vec<String>,
    /// What the reader should try.
    pub hint: Option<String>,
    /// What programs may want to know beyond the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

impl Failure {
    /// Flattens `error`, met in `stage`. The cause chain is cut after 16 links.
    pub fn of(error: &dyn Diagnose, stage: Stage) -> Self {
        let mut causes: Vec<String> = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source.filter(|_| causes.len() < 16) {
            causes.push(cause.to_string());
            source = cause.source();
        }
        Self {
            stage,
            code: error.code().to_owned(),
            class: error.class(),
            message: error.to_string(),
            causes,
            hint: error.hint().map(Cow::into_owned),
            details: error.details(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code)
    }
}
