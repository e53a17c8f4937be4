//! Checks before real sockets, gates before made-up ones.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod actions;
mod common;
mod contract;
mod golden;
mod hostile;
mod http;
mod patience;
mod secrets;
mod tls;
mod validate;
