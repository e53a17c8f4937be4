//! Git: what is new, fetch it, list it, read it.
//!
//! [`Mirror`] is a bare mirror of one repository. It asks the server what a branch, tag or `HEAD`
//! names ([`Mirror::resolve`]), fetches exactly that commit ([`Mirror::fetch`]), and then says what
//! a release of it consists of (it implements [`eeveon_core::Contents`]). Everything happens in this
//! process through gix; the only programs started are `ssh`, `git upload-pack` for a repository on
//! this machine, and `git pack-objects` for [`Mirror::compact`]. No hook, filter, credential helper or configuration but the mirror's own is ever
//! consulted.
//!
//! [`forge`] understands the webhooks by which forges tell of something new.
//!
//! # `.deployignore`
//!
//! Files of this name, in any folder of what is deployed (none above `dir`), say what is not deployed, with exactly the meaning
//! `.gitignore` has for git; the patterns of [`SourceConfig::ignore`] stand above all of them. The
//! `.deployignore` files themselves are never deployed. One that is a symbolic link is not read.

mod client;
mod clients;
mod compact;
mod config;
mod contents;
mod discover;
mod error;
pub mod forge;
#[cfg(test)]
mod fuzz;
mod history;
mod http;
mod ignore;
mod links;
mod local;
mod mirror;
mod names;
mod nearby;
mod range;
mod refs;
mod submodule;
mod transfer;
mod transport;
mod untracked;
mod url;
mod watch;
mod whole;

pub use clients::HttpClients;
pub use config::{Credentials, Limits, SourceConfig};
pub use discover::{LocalRepository, discover};
pub use error::SourceError;
pub use history::Between;
pub use mirror::{MIRROR_FORMAT, Mirror};
pub use refs::{Want, check_branch};
pub use transfer::Fetched;
pub use url::RepoUrl;
