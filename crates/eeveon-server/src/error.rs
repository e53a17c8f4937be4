//! What can go wrong before anything is answered.

use std::{borrow::Cow, io};

use eeveon_core::{Class, Diagnose, Retry};

/// The listener cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Somebody else listens there.
    #[error("something already listens on {address}")]
    InUse {
        /// Where.
        address: String,
    },
    /// The system does not let us listen there.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The path of the Unix socket is taken by something else, or it would be open to everybody.
    #[error("the socket {path} cannot be used: {why}")]
    SocketFile {
        /// Which.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit makes no sense.
    #[error("the limit `{what}` is {given}; it has to be between {least} and {most}")]
    Limit {
        /// Which.
        what: &'static str,
        /// What was asked for; times are in milliseconds.
        given: usize,
        /// The least it may be.
        least: usize,
        /// The most it may be.
        most: usize,
    },
}

impl Diagnose for ServerError {
    fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "server/address-in-use",
            Self::Bind { .. } => "server/bind",
            Self::SocketFile { .. } => "server/socket-file",
            Self::Limit { .. } => "server/limit",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::InUse { .. } => "see whether the daemon already runs, or listen on another port",
            Self::Bind { .. } => {
                "listen on an address of this machine and a port above 1023, such as 127.0.0.1:8787"
            }
            Self::SocketFile { .. } => {
                "name a path where no file is, in a folder of EEveon's own, with mode 0600 or 0660"
            }
            Self::Limit { .. } => "leave it out to get the default",
        }))
    }

    fn retry(&self) -> Retry {
        match self {
            Self::InUse { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::InUse { .. } => Class::Refused,
            _ => Class::Config,
        }
    }
}
