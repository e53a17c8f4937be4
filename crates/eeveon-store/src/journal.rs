//! The engine's view of a store: a journal that only the holder of a lease writes to.

use std::sync::Arc;

use async_trait::async_trait;
use eeveon_core::{DeploymentId, Durability, Entry, Journal, JournalError, Seq};

use crate::{Lease, Store};

/// A store's journals, written under a lease: once the lease is lost, every append is refused.
#[derive(Clone, Debug)]
pub struct FencedJournal {
    /// Where the journals are.
    pub store: Arc<dyn Store>,
    /// What allows writing; without one, only positions are checked.
    pub lease: Option<Lease>,
}

#[async_trait]
impl Journal for FencedJournal {
    async fn append(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError> {
        Ok(self.store.append(entry, durability, self.lease.as_ref()).await?)
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, JournalError> {
        Ok(self.store.read(deployment, from).await?)
    }
}
