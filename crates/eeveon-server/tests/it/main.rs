//! Over real sockets: what is answered, what is refused, and what is promised.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests are not seen as tests")]

mod answers;
mod end;
mod flood;
mod framing;
mod limits;
mod support;
mod unix;
