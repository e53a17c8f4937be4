//! Runs the contract of every store on the ones of this crate.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use eeveon_core::{DeploymentId, Seq};
use eeveon_store::{MemoryStore, SqliteStore, Store};
use eeveon_testkit::store::{ManualTicks, Subject, run_all};

mod common;

struct Memory {
    store: Arc<MemoryStore>,
    ticks: Arc<ManualTicks>,
}

#[async_trait]
impl Subject for Memory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    fn ticks(&self) -> &ManualTicks {
        &self.ticks
    }

    async fn reopen(&self) -> Option<Arc<dyn Store>> {
        None
    }

    async fn write_future_entry(&self, _deployment: DeploymentId, _at: Seq) -> bool {
        false
    }
}

struct Sqlite {
    path: PathBuf,
    store: SqliteStore,
    ticks: Arc<ManualTicks>,
    _folder: tempfile::TempDir,
}

#[async_trait]
impl Subject for Sqlite {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn ticks(&self) -> &ManualTicks {
        &self.ticks
    }

    async fn reopen(&self) -> Option<Arc<dyn Store>> {
        let ticks = Arc::clone(&self.ticks);
        Some(Arc::new(SqliteStore::open_with(&self.path, ticks).await.unwrap()))
    }

    async fn write_future_entry(&self, deployment: DeploymentId, at: Seq) -> bool {
        let doc = serde_json::json!({
            "deployment": deployment, "seq": at, "at": "2031-01-01T00:00:00Z", "record": { "kind": "transcended" },
        });
        common::replace_entry(&self.path, deployment, at, &doc.to_string());
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory() {
    run_all(async || {
        let ticks = Arc::new(ManualTicks::default());
        Memory { store: Arc::new(MemoryStore::with_ticks(Arc::clone(&ticks) as _)), ticks }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite() {
    run_all(async || {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eeveon.db");
        let ticks = Arc::new(ManualTicks::default());
        let store = SqliteStore::open_with(&path, Arc::clone(&ticks) as _).await.unwrap();
        Sqlite { path, store, ticks, _folder: folder }
    })
    .await;
}
