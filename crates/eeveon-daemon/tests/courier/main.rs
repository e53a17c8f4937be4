//! The courier, killed between any two moments, and in front of services that misbehave.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bound;
mod deaths;
mod rest;
mod rules;
mod scene;
mod trouble;
mod unknown;
