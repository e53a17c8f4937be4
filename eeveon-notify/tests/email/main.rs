//! E-mail: against a real mail server, and against one that says what real ones seldom do.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod answers;
mod contract;
mod delivered;
mod scripted;
#[path = "../sending/mod.rs"]
mod sending;
mod written;
