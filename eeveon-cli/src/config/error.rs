//! What can be wrong with a project file, and where in it.

use std::{borrow::Cow, io, path::PathBuf};

use eeveon_core::{Class, Diagnose};

/// A project file could not be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Something in it is wrong.
    #[error("{}:{line}:{column}: {message}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong.
        message: String,
        /// The nearest valid key, or what would be right.
        hint: Option<String>,
    },
    /// It could not be read or written.
    #[error("cannot {what} {}", file.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such key.
    #[error("there is no key `{key}`")]
    UnknownKey {
        /// As given.
        key: String,
        /// The most similar one.
        nearest: Option<String>,
    },
}

impl Diagnose for ConfigError {
    fn code(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "config/invalid",
            Self::Io { .. } => "config/io",
            Self::UnknownKey { .. } => "config/unknown-key",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Invalid { hint, .. } => hint.clone().map(Cow::from),
            Self::Io { .. } => Some("check that the file is there and yours to read and write".into()),
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                Some(format!("did you mean `{nearest}`?").into())
            }
            Self::UnknownKey { .. } => Some("`ee-deploy config PROJECT` lists all keys".into()),
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::UnknownKey { .. } => Class::Usage,
            _ => Class::Config,
        }
    }
}
