//! Everything a person or a script sees. The only place that prints and that knows colours.

mod failure;
mod json;
mod progress;
mod step;
mod table;
mod text;
mod ui;

pub(crate) use failure::Serving;
pub(crate) use progress::{Activity, watch};
pub(crate) use step::{describe_step, does_something, label, leaves_something};
pub(crate) use table::Table;
pub(crate) use text::{age, count, duration, size};
pub(crate) use ui::{ColorChoice, Line, Ui};
