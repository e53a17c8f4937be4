//! Tests of this crate against real repositories and real servers.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests are not seen as tests"
)]

mod common;
mod contents;
mod discover;
mod endless;
mod forge;
mod fuzz;
mod http;
mod ignore;
mod local;
mod mirror;
mod nearby;
mod servers;
mod submodules;
