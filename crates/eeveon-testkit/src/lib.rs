//! Fakes, contract suites and real servers for tests. Only ever a dev-dependency.

pub mod action;
pub mod deployer;
pub mod fuzz;
pub mod git;
#[cfg(feature = "health")]
pub mod health;
pub mod journal;
#[cfg(feature = "notify")]
pub mod notify;
pub mod servers;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod store;
