//! The chat channels against servers that refuse what the real ones refuse, and the parts all
//! channels share.
#![cfg(test)]

mod delivery;
mod discord;
mod failures;
mod golden;
mod logs;
mod ntfy;
mod parked;
mod proxy;
mod rig;
mod schema;
mod slack;
mod teams;
mod telegram;
mod template;
mod tls;
mod wording;
