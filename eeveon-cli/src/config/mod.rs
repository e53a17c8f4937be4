//! Project files: what they may say, reading them, changing them without losing a comment.

mod edit;
mod error;
mod health;
mod notify;
mod read;
mod schema;
mod values;

pub(crate) use edit::{get, new_file, paths, set, unset};
pub(crate) use error::ConfigError;
pub(crate) use health::{Health, When};
pub(crate) use notify::Notify;
pub(crate) use read::{OnFailure, ProjectConfig, load, parse};
pub(crate) use schema::{KEYS, Key, SECTIONS, nearest};
pub(crate) use values::{Bytes, HumanDuration};
