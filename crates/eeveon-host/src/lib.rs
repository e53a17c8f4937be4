//! Releases on this machine: folders, manifests, the link that decides what is live.
//!
//! [`Host`] is a [`Deployer`](eeveon_core::Deployer) and a [`Traffic`](eeveon_core::Traffic) for one
//! project at one path. Below that path:
//!
//! ```text
//! releases/<number>/        one release each; nothing in it changes once it is sealed
//! releases/failed-<number>  a release kept for inspection
//! releases/.new-*, .gone-*, .mend-*   being made, being removed, a file being mended
//! shared/                   what outlives releases
//! current -> releases/<number>
//! .eeveon/                  whose the path is, manifests, the ledger, the lock
//! ```
//!
//! Unchanged files are shared with the release before, as clones or as further names of the same
//! file, so that time and disk grow with what changed. What keeps one release from altering another
//! is that such a file is only ever used after its content was proven: by the ledger or by
//! reading it.

mod changes;
mod crew;
mod disk;
mod error;
#[cfg(test)]
mod fuzz;
mod hash;
mod host;
mod layout;
mod ledger;
mod live;
mod manifest;
mod place;
mod remove;
mod restore;
mod ship;
mod space;
mod target;
mod tree;
mod verify;
mod wanted;

pub use changes::Changes;
pub use error::{Free, HostError, Place, Room};
pub use host::{Host, HostOptions};
pub use remove::Purged;
pub use space::Estimate;
pub use verify::{Change, Difference};
