//! Runs operator-written commands: as they stand, limited, logged, and ended as a whole.
//!
//! [`Runner`] is the one place of EEveon that starts such a process. [`Command`] is the action
//! built on it. What a command writes goes to its [`StepLog`], which [`log::tail`] and
//! [`log::LogReader`] show. [`reap`] ends what a killed EEveon left running.
//!
//! When a command ends, everything it started ends with it, in the background or not: its process
//! group, its cgroup where there is one, and otherwise whatever still carries its `EEVEON_RUN` in
//! the environment. Services belong to a service manager.
//!
//! Linux only: `/proc`, pidfds and cgroups.

mod cgroup;
mod command;
mod env;
mod error;
mod leftover;
pub mod log;
mod process;
mod runner;
mod watch;

pub use cgroup::{Enforced, Limits};
pub use command::{Command, CommandLine, CommandParams, Place};
pub use env::Environment;
pub use error::BuildError;
pub use leftover::reap;
pub use log::StepLog;
pub use runner::{Job, Ran, Runner};
