//! What can go wrong in the commands themselves, and how any error is carried to the end of one.

use std::{
    borrow::Cow,
    io,
    path::{Path, PathBuf},
};

use eeveon_core::{
    Class, Diagnose, EngineError, Failure, InvalidName, ProjectName, Retry, SecretError, Stage, StepError,
};

use crate::{config::ConfigError, exit::Exit};

/// A command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The home folder is unknown.
    #[error("no home folder: neither --home nor EEVEON_HOME nor HOME is set")]
    NoHome,
    /// The home's identity is not readable.
    #[error("{} does not hold this home's id any more", path.display())]
    HomeDamaged {
        /// The file.
        path: PathBuf,
    },
    /// A file or folder could not be used.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The verb, such as "write".
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such project.
    #[error("there is no project `{name}`")]
    UnknownProject {
        /// As given.
        name: ProjectName,
        /// The most similar one there is.
        nearest: Option<ProjectName>,
    },
    /// The name is in use for something else.
    #[error("the name `{name}` is taken by a project that deploys {what}")]
    NameTaken {
        /// The name.
        name: ProjectName,
        /// What it deploys.
        what: String,
    },
    /// There is no such deployment.
    #[error("there is no deployment {0}")]
    UnknownDeployment(String),
    /// A name, number or id was not well formed.
    #[error(transparent)]
    Invalid(#[from] InvalidName),
    /// Arguments do not go together, or one is missing.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// A person was to be asked, and there is none.
    #[error("this needs a confirmation, and there is no terminal to ask on")]
    NoTerminal,
    /// The person said no.
    #[error("not confirmed; nothing was changed")]
    Declined,
    /// The project is busy.
    #[error("project `{project}` is in use by {holder}")]
    Busy {
        /// Which.
        project: ProjectName,
        /// Who, since when, and whether it lives.
        holder: String,
        /// What to do.
        hint: String,
    },
    /// A delivery told of a commit, a branch or a tag that the repository does not show.
    #[error("the repository does not show {what} yet, of which the forge told")]
    NotShown {
        /// Which.
        what: String,
    },
    /// One daemon is enough for a home.
    #[error("another daemon works in this home: {holder}")]
    DaemonRuns {
        /// Which, since when, and whether it lives.
        holder: String,
    },
    /// A deployment waits for a person.
    #[error("deployment {deployment} of `{project}` waits for a person")]
    Waiting {
        /// Which project.
        project: ProjectName,
        /// Which deployment.
        deployment: eeveon_core::DeploymentId,
    },
    /// The person or the system told the command to stop before anything was changed.
    #[error("stopped before anything was changed")]
    Interrupted,
    /// The home belongs to another user.
    #[error("the home {} belongs to another user, with the id {uid}", .home.display())]
    OtherUser {
        /// The home.
        home: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// The daemon lost its lease on the home.
    #[error(
        "the daemon lost its lease: the store could not be written for half a minute, or another daemon took over"
    )]
    DaemonLost,
    /// The person or the system told the command to stop, and what it waited for others want, too.
    #[error("request {request} goes on without this command: others want the same")]
    GoesOn {
        /// Which.
        request: eeveon_daemon::RequestId,
    },
    /// Some finding of `check` is not fine.
    #[error("{0} of the checks above need attention")]
    Findings(usize, Exit),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// What the source is to be asked with is missing.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The engine had to stop.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] eeveon_store::StoreError),
    /// The source failed.
    #[error(transparent)]
    Source(#[from] eeveon_source::SourceError),
    /// Nothing to go back to, or a gate of the order said no.
    #[error(transparent)]
    Rollback(#[from] eeveon_rollback::RollbackError),
    /// Removing what was deployed stopped half way.
    #[error("what was deployed is removed only in part: {0}")]
    HalfRemoved(StepError),
    /// Any other library's error.
    #[error("{0}")]
    Step(StepError),
    /// Output could not be written, other than to a closed pipe.
    #[error("cannot write the output")]
    Output(#[source] io::Error),
}

impl From<StepError> for CliError {
    fn from(error: StepError) -> Self {
        Self::Step(error)
    }
}

impl CliError {
    /// Wraps an error of the file system.
    pub fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }

    /// Makes an error about how a command was used.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// Tells whether the store has no room left.
    pub(crate) fn is_full_disk(&self) -> bool {
        let mut error: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(one) = error {
            if matches!(one.downcast_ref(), Some(eeveon_store::StoreError::Full { .. })) {
                return true;
            }
            error = one.source();
        }
        matches!(self, Self::Store(eeveon_store::StoreError::Full { .. }))
    }

    fn inner(&self) -> Option<&dyn Diagnose> {
        match self {
            Self::Config(error) => Some(error),
            Self::Secret(error) => Some(error),
            Self::Engine(error) => Some(error),
            Self::Store(error) => Some(error),
            Self::Source(error) => Some(error),
            Self::Rollback(error) => Some(error),
            Self::Step(error) => Some(error.diagnosis()),
            _ => None,
        }
    }

    /// Returns the form that is shown and written as JSON.
    pub(crate) fn failure(&self) -> Failure {
        // Whatever comes before a deployment is opened is part of letting it in, or of the fetch.
        let stage = match self {
            Self::Source(_) => Stage::Fetch,
            _ => Stage::Admit,
        };
        match self.inner() {
            Some(inner) => Failure::of(inner, stage),
            None => Failure::of(self, stage),
        }
    }

    /// Returns the exit code the command ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Engine(EngineError::Parked(_)) | Self::Waiting { .. } => Exit::Parked,
            Self::Findings(_, exit) => *exit,
            other => other.class().into(),
        }
    }
}

impl Diagnose for CliError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoHome => "cli/no-home",
            Self::HomeDamaged { .. } => "cli/home-damaged",
            Self::Io { .. } => "cli/io",
            Self::UnknownProject { .. } => "cli/unknown-project",
            Self::NameTaken { .. } => "cli/name-taken",
            Self::UnknownDeployment(_) => "cli/unknown-deployment",
            Self::Invalid(_) => "cli/invalid-name",
            Self::Usage { .. } => "cli/usage",
            Self::NoTerminal => "cli/no-terminal",
            Self::Declined => "cli/declined",
            Self::Busy { .. } => "cli/busy",
            Self::DaemonRuns { .. } => "cli/daemon-runs",
            Self::NotShown { .. } => "cli/not-shown",
            Self::Waiting { .. } => "cli/waiting",
            Self::Interrupted => "cli/interrupted",
            Self::OtherUser { .. } => "cli/other-user",
            Self::DaemonLost => "cli/daemon-lost",
            Self::GoesOn { .. } => "cli/goes-on",
            Self::Findings(..) => "cli/findings",
            Self::Output(_) => "cli/output",
            Self::HalfRemoved(_) => "cli/half-removed",
            Self::Config(error) => error.code(),
            Self::Secret(error) => error.code(),
            Self::Engine(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Source(error) => error.code(),
            Self::Rollback(error) => error.code(),
            Self::Step(error) => error.diagnosis().code(),
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::NoHome => "say where with --home DIR".into(),
            Self::HomeDamaged { .. } => {
                "put the id back: it is also in `.eeveon/target.json` of every folder this home deployed to".into()
            }
            Self::Io { .. } => "check the path's permissions and the space left on its disk".into(),
            Self::HalfRemoved(_) => "mend that, then repeat the command: it goes on from where it stopped".into(),
            Self::UnknownProject { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? `ee-deploy list` shows all").into()
            }
            Self::UnknownProject { .. } => {
                "`ee-deploy list` shows all; `ee-deploy init` adds one".into()
            }
            Self::NameTaken { .. } => "choose another with --name, or change that project with `ee-deploy config NAME KEY VALUE`".into(),
            Self::UnknownDeployment(_) => "`ee-deploy history PROJECT` lists them".into(),
            Self::Invalid(_) => "see `ee-deploy help`".into(),
            Self::Usage { hint, .. } | Self::Busy { hint, .. } => hint.clone().into(),
            Self::DaemonRuns { .. } => {
                "a home has one, `serve` for all projects or `up` for one; stop it first to start another".into()
            }
            Self::NotShown { .. } => "wait: it is tried again by itself; what was taken back again never comes".into(),
            Self::NoTerminal => "add --yes if that is what you want".into(),
            Self::Declined => "run it again when you are sure".into(),
            Self::Waiting { deployment, .. } => format!(
                "`ee-deploy why {deployment}` tells why; then `ee-deploy resume {deployment}`, with --skip to leave out what cannot be taken back"
            )
            .into(),
            Self::OtherUser { uid, .. } => format!("run it as that user: `sudo -u '#{uid}' ee-deploy ...`").into(),
            Self::DaemonLost => "start it again; `ee-deploy check` tells what is wrong with the home".into(),
            Self::Interrupted => "run the command again".into(),
            Self::GoesOn { request } => {
                format!("`ee-deploy queue` shows it; `ee-deploy queue cancel {request}` stops it for all").into()
            }
            Self::Findings(..) => "each finding above says what to do".into(),
            Self::Output(_) => "check the space left on the disk the output goes to".into(),
            _ => return self.inner().and_then(Diagnose::hint),
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } | Self::NotShown { .. } => Retry::Later,
            _ => self.inner().map_or(Retry::Never, Diagnose::retry),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::NoHome
            | Self::UnknownProject { .. }
            | Self::NameTaken { .. }
            | Self::UnknownDeployment(_)
            | Self::Invalid(_)
            | Self::Usage { .. }
            | Self::OtherUser { .. }
            | Self::NoTerminal => Class::Usage,
            Self::Declined | Self::Busy { .. } | Self::DaemonRuns { .. } => Class::Refused,
            Self::Interrupted | Self::GoesOn { .. } | Self::Waiting { .. } | Self::Findings(..) => {
                Class::Failed
            }
            Self::HomeDamaged { .. } | Self::Io { .. } | Self::Output(_) | Self::DaemonLost => Class::Fault,
            Self::NotShown { .. } => Class::Unreachable,
            _ => self.inner().map_or(Class::Fault, Diagnose::class),
        }
    }
}
