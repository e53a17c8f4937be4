//! Releases on a real file system.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;
mod contract;
mod disk_full;
mod foreign;
mod intact;
mod leftovers;
mod links;
mod model;
mod releases;
