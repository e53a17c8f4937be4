//! What can be wrong, and what to do about it.

use std::{borrow::Cow, path::PathBuf};

use eeveon_core::{Class, Diagnose, Retry};
use eeveon_store::StoreError;

use crate::{after::Cycle, window::Shut, words::Refusal};

/// A setting is wrong, or now is not the time.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DaemonError {
    /// A cron expression cannot be read, or names a time that never comes.
    #[error("the schedule `{expression}` is not valid: {why}")]
    Schedule {
        /// What was given, made harmless.
        expression: String,
        /// What is wrong with it.
        why: String,
    },
    /// No time zone has this name.
    #[error("no time zone is called `{name}`")]
    Zone {
        /// What was given, made harmless.
        name: String,
    },
    /// A window cannot be.
    #[error("the window is not valid: {why}")]
    Window {
        /// What is wrong with it.
        why: String,
    },
    /// A calendar file cannot be used.
    #[error("the calendar cannot be used: {why}")]
    Calendar {
        /// What is wrong with it.
        why: String,
    },
    /// Projects wait for each other.
    #[error("projects wait for each other: {0}")]
    Cycle(Cycle),
    /// Windows, holidays or a freeze say no.
    #[error("no deployment may start now: {0}")]
    Shut(Shut),
    /// The queue does not take the request.
    #[error("the request was refused: {0}")]
    Refused(Refusal),
    /// A newer version of EEveon wrote what was to be read.
    #[error("the {what} has format {found}; this version reads up to {known}")]
    Newer {
        /// What was to be read.
        what: &'static str,
        /// The format it has.
        found: u32,
        /// The newest format this version knows.
        known: u32,
    },
    /// The daemon was asked, and is no more.
    #[error("the daemon has ended")]
    Gone,
    /// Nothing is done that could not be saved first.
    #[error("what the daemon was about to do could not be saved: {why}")]
    Store {
        /// Why not.
        why: String,
    },
    /// Commands cannot be listened to.
    #[error("the daemon cannot listen on {}: {why}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// What was stored makes no sense.
    #[error("the {what} cannot be read: {why}")]
    Damaged {
        /// What was to be read.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl From<Cycle> for DaemonError {
    fn from(cycle: Cycle) -> Self {
        Self::Cycle(cycle)
    }
}

impl From<StoreError> for DaemonError {
    fn from(error: StoreError) -> Self {
        let mut why = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            why = format!("{why}: {cause}");
            source = cause.source();
        }
        Self::Store { why }
    }
}

impl Diagnose for DaemonError {
    fn code(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => "daemon/schedule",
            Self::Zone { .. } => "daemon/time-zone",
            Self::Window { .. } => "daemon/window",
            Self::Calendar { .. } => "daemon/calendar",
            Self::Cycle(_) => "daemon/cycle",
            Self::Shut(_) => "daemon/window-shut",
            Self::Refused(_) => "daemon/refused",
            Self::Newer { .. } => "daemon/newer-format",
            Self::Damaged { .. } => "daemon/damaged-state",
            Self::Gone => "daemon/ended",
            Self::Store { .. } => "daemon/store",
            Self::Socket { .. } => "daemon/socket",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Schedule { .. } => "write minute, hour, day, month and weekday, such as `30 4 * * mon-fri`",
            Self::Zone { .. } => "use a name of the IANA database, such as `Europe/Berlin`",
            Self::Window { .. } => "write it as `{ days = [\"mon\"], from = \"09:00\", to = \"17:00\" }`",
            Self::Calendar { .. } => {
                "export the calendar as iCalendar (.ics), below 1 MiB, with the holidays only"
            }
            Self::Cycle(_) => "remove one `after` of those named",
            Self::Shut(Shut { until: Some(_), .. }) => {
                "wait until then; `--outside-window` deploys all the same, and `rollback` always works"
            }
            Self::Shut(_) => {
                "`ee-deploy freeze --lift` ends a freeze; `--outside-window` deploys all the same, and `rollback` always works"
            }
            Self::Refused(refusal) => refusal.hint(),
            Self::Newer { .. } => "use the version of EEveon that wrote it, or a newer one",
            Self::Gone => "start it again: `ee-deploy serve`",
            Self::Store { .. } => {
                "free space or repair the disk under the home folder; a daemon that works goes on by itself"
            }
            Self::Socket { .. } => "look at what is there and remove it: no daemon works in this home now",
            Self::Damaged { .. } => "restore it from a backup, or start with an empty queue and ask again",
        }))
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Shut(_) => Retry::Later,
            Self::Refused(refusal) => refusal.retry(),
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Shut(_) | Self::Refused(_) => Class::Refused,
            Self::Newer { .. } | Self::Damaged { .. } | Self::Store { .. } => Class::Fault,
            Self::Gone => Class::Unreachable,
            _ => Class::Config,
        }
    }
}

/// Returns at most 80 characters of `text`, none of which a terminal acts on.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_default).collect()
}
