//! The commands, one file each; a doc comment of an `Args` struct is the command's help.

pub(crate) mod cancel;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod deploy;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod man;
pub(crate) mod notify;
pub(crate) mod plan;
pub(crate) mod quarantine;
pub(crate) mod releases;
pub(crate) mod remove;
pub(crate) mod resume;
pub(crate) mod rollback;
pub(crate) mod serve;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod up;
pub(crate) mod vacuum;
pub(crate) mod webhook;
pub(crate) mod why;
