//! The daemon at work in a world of its own, in virtual time.

mod asking;
mod crashes;
mod endings;
mod holding;
mod looking;
mod timing;
pub(crate) mod world;
