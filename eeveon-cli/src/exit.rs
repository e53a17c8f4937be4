//! Exit codes: what a script learns from a command without reading its words.

use eeveon_core::{Class, Outcome};

/// The codes `ee-deploy` ends with. They are part of its interface and never change their meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// A bug, or the machine failing.
    Fault = 1,
    /// Wrong usage.
    Usage = 2,
    /// It failed, and what served before never stopped serving.
    Failed = 10,
    /// It failed after the switch and was rolled back.
    RolledBack = 11,
    /// A person must decide.
    Parked = 12,
    /// A gate, a lock or a quarantine said no.
    Refused = 13,
    /// There was nothing to do, and the caller wanted to know.
    Unchanged = 14,
    /// The configuration is invalid.
    Config = 20,
    /// Something needed could not be reached.
    Unreachable = 30,
}

impl From<Class> for Exit {
    fn from(class: Class) -> Self {
        match class {
            Class::Fault => Self::Fault,
            Class::Usage => Self::Usage,
            Class::Failed => Self::Failed,
            Class::Refused => Self::Refused,
            Class::Config => Self::Config,
            Class::Unreachable => Self::Unreachable,
        }
    }
}

impl From<&Outcome> for Exit {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => Self::Done,
            Outcome::Reverted { served: true, .. } => Self::RolledBack,
            Outcome::Reverted { .. } => Self::Failed,
            Outcome::Refused { .. } => Self::Refused,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
