//! What can go wrong with a store, and what to do about it.

use std::{borrow::Cow, error::Error, path::PathBuf};

use eeveon_core::{Class, DeploymentId, Diagnose, JournalError, Retry, Seq, state::IllegalRecord};

/// The store could not do what was asked; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The position is not the next one of that journal, or the lease is not valid any more.
    #[error("another process has taken over deployment {deployment}: entry {at} is not ours to write")]
    Conflict {
        /// Which deployment.
        deployment: DeploymentId,
        /// The contested position.
        at: Seq,
    },
    /// An entry is whole, but this version does not know what it says.
    #[error("entry {at} of deployment {deployment} was written by another version of ee-deploy")]
    Unreadable {
        /// Which deployment.
        deployment: DeploymentId,
        /// Which entry.
        at: Seq,
        /// What is not understood.
        #[source]
        source: serde_json::Error,
    },
    /// A newer version has changed the database's schema.
    #[error("{} is from a newer ee-deploy: it has schema {found}, this version knows {known}", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema this version knows.
        known: i64,
    },
    /// What is stored is damaged, or is not a store at all.
    #[error("{} cannot be used as the store: {defect}", path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        defect: String,
    },
    /// Another process keeps the database locked.
    #[error("another process keeps {} locked", path.display())]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// There is no space left to write.
    #[error("no space is left to write to {}", path.display())]
    Full {
        /// The database.
        path: PathBuf,
    },
    /// The operating system refused to read or write.
    #[error("{} cannot be read or written", path.display())]
    Io {
        /// The database.
        path: PathBuf,
        /// What it said.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// A record was to be appended that cannot follow the ones before it.
    #[error("deployment {deployment} cannot go on with entry {at}")]
    Illegal {
        /// Which deployment.
        deployment: DeploymentId,
        /// Which entry.
        at: Seq,
        /// Why not.
        #[source]
        source: IllegalRecord,
    },
    /// Something was to be kept that is larger than is allowed.
    #[error("{what} has {bytes} bytes, and at most {most} are kept")]
    TooLarge {
        /// What.
        what: String,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        most: usize,
    },
    /// Something happened that never should.
    #[error("the store failed")]
    Internal(#[source] Box<dyn Error + Send + Sync>),
}

impl Diagnose for StoreError {
    fn code(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => "store/conflict",
            Self::Unreadable { .. } => "store/unreadable",
            Self::Newer { .. } => "store/newer",
            Self::Corrupt { .. } => "store/corrupt",
            Self::Busy { .. } => "store/busy",
            Self::Full { .. } => "store/full",
            Self::Io { .. } => "store/io",
            Self::Illegal { .. } => "store/illegal",
            Self::TooLarge { .. } => "store/too-large",
            Self::Internal(_) => "store/internal",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Conflict { .. } => "`ee-deploy status` shows who deploys now".into(),
            Self::Unreadable { .. } | Self::Newer { .. } => {
                "install the ee-deploy that wrote it, or a newer one; nothing was changed".into()
            }
            Self::Corrupt { path, .. } => format!(
                "releases on disk are untouched and go on serving; restore the file from a backup, or move {0}, \
                 {0}-wal and {0}-shm aside, and an empty store is begun",
                path.display()
            )
            .into(),
            Self::Busy { .. } => "wait for the other ee-deploy to finish, then try again".into(),
            Self::Full { .. } => "free some space on that disk, then run the command again".into(),
            Self::Io { .. } => {
                "check that the file and its folder are yours and writable, and that the disk is sound".into()
            }
            Self::Illegal { .. } | Self::TooLarge { .. } | Self::Internal(_) => {
                "this is a fault in ee-deploy: please report it with the output of `ee-deploy check`".into()
            }
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Busy { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::Conflict { .. } | Self::Busy { .. } => Class::Refused,
            _ => Class::Fault,
        }
    }
}

impl From<StoreError> for JournalError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { deployment, at } => Self::Conflict { deployment, at },
            StoreError::Unreadable { deployment, at, source } => {
                Self::Unreadable { deployment, at, source: Box::new(source) }
            }
            other => Self::Unavailable(Box::new(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_learns_what_it_must_tell_apart() {
        let (deployment, at) = (DeploymentId(7), Seq(3));
        let source = serde_json::from_str::<u8>("x").unwrap_err();
        assert!(matches!(
            StoreError::Conflict { deployment, at }.into(),
            JournalError::Conflict { deployment: DeploymentId(7), at: Seq(3) }
        ));
        assert!(matches!(
            StoreError::Unreadable { deployment, at, source }.into(),
            JournalError::Unreadable { deployment: DeploymentId(7), at: Seq(3), .. }
        ));
        assert!(matches!(
            StoreError::Full { path: "/db".into() }.into(),
            JournalError::Unavailable(inner) if inner.to_string().contains("/db")
        ));
    }
}
