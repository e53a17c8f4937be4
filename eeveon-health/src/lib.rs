//! Looks whether a release is fit to serve, and decides from many looks.
//!
//! A [`HealthCheck`] looks once: three kinds are made by [`Checks`] from what a plan says, a
//! [`CheckSpec`]; anything else can be one. [`pass`] looks again and again, with the patience of a
//! [`Pace`], until the check has passed or failed. Built on it are the verbs of a plan: [`Gate`]
//! stands before or after the switch, [`Watch`] looks for a while longer, and [`Verify`] proves that
//! the release a deployment turns back to is healthy.
//!
//! No answer and an unhealthy answer are told apart, in words and codes; neither counts as health.

mod check;
mod checks;
mod command;
mod error;
mod gate;
mod http;
mod judge;
mod look;
mod pace;
mod reach;
mod spec;
mod tcp;
mod validate;

pub use check::{HealthCheck, MAX_REASON_BYTES, ProbeError, Reading, Subject};
pub use checks::Checks;
pub use command::{CommandEnd, CommandJob, Commands, Ending, Origin};
pub use error::{HealthError, Phase};
pub use gate::{Bake, Gate, GateParams, LookAt, Place, Verify, VerifyParams, Watch, WatchParams};
pub use http::MAX_BODY_BYTES;
pub use judge::Looked;
pub use look::pass;
pub use pace::Pace;
pub use reach::Reach;
pub use spec::{
    CheckSpec, CommandCheckSpec, CommandSpec, Expected, HeaderValue, HttpSpec, NotAStatus, TcpSpec, What,
};
