//! Project files: what they may say, reading them, changing them without losing a comment.

mod edit;
mod error;
#[cfg(test)]
mod fuzz;
mod health;
mod keys;
mod notify;
mod project;
mod read;
mod schema;
mod sense;
mod values;

pub(crate) use edit::{get, new_file, paths, set, unset};
pub(crate) use error::ConfigError;
pub(crate) use health::{Health, When};
pub(crate) use keys::KEYS;
pub(crate) use notify::{Around, Notify};
pub(crate) use project::{OnFailure, ProjectConfig};
pub(crate) use read::{load, parse};
pub(crate) use schema::{Key, SECTIONS, nearest};
pub(crate) use values::{Bytes, HumanDuration};
