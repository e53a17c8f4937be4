//! Fakes, contract suites and real servers for tests. Only ever a dev-dependency.

pub mod action;
pub mod deployer;
pub mod git;
pub mod journal;
pub mod servers;
pub mod store;
