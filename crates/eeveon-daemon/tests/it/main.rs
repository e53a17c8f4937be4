//! Tests of everything that decides when, in one program.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says what it skips"
)]

mod after;
mod calendar;
mod clock_changes;
mod common;
mod control;
mod cron_tables;
mod deaths;
mod freezes;
mod pages;
mod polling;
mod queue;
mod queue_properties;
mod runtime;
mod schedule;
mod suspects;
mod window;
