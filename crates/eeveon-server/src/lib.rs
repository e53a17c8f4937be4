//! The HTTP side of the daemon: the address forges call, and the two that tell whether it lives.
//!
//! Whoever composes the daemon brings what stands behind: [`Webhooks`] takes deliveries, [`Readiness`] knows
//! whether there is anything to wait for. This crate brings the rest: a socket, limits on everything a
//! stranger can send or hold, and the answers. No other crate knows HTTP status codes.
//!
//! Where to start reading: [`ROUTES`] is all there is to call, [`Limits`] all that is bounded, and
//! [`Listener::serve`] what runs.
//!
//! # What holds
//!
//! - A 2xx is sent only after [`Webhooks::deliver`] has returned, so what that made durable first is
//!   durable before the sender hears of it.
//! - A delivery that has begun is carried on when the sender hangs up, and on an orderly end.
//! - No answer to a stranger tells which projects or hooks exist.
//! - Memory is bounded: connections, header bytes, and the bytes of all bodies together.
//!
//! Only HTTP/1.0 and 1.1 are spoken. A proxy in front, which TLS needs anyway, speaks the rest.

mod answer;
mod apart;
mod body;
mod config;
mod connection;
mod error;
mod hook;
mod listener;
mod pace;
mod probe;
mod routes;
mod slots;
mod socket;

pub use axum::body::Bytes;

pub use config::{Limits, ListenAddress, ListenConfig};
pub use error::ServerError;
pub use hook::{HeadersView, HookAddress, Reply, Webhooks};
pub use listener::{App, Listener, Load, Stopped};
pub use probe::Readiness;
pub use routes::{Auth, Endpoint, ROUTES, Route};
