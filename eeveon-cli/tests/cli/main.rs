//! The commands as users run them: the real binary, a real repository, real folders. What they
//! print is kept as snapshots; set `INSTA_UPDATE=always` to write them anew.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail; the lints only know functions that are tests themselves"
)]

mod clock;
mod config;
mod daemon;
mod deaths;
mod errors;
mod freezes;
mod gates;
mod handover;
mod health;
mod hooks;
mod hostile;
mod letters;
mod notify;
mod pages;
mod push;
mod running;
mod sandbox;
mod servers;
mod story;
mod troubles;
mod ways_out;
