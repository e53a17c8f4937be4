//! The default store: one SQLite database in WAL mode.
//!
//! One connection, used by one blocking thread at a time. What must outlive only this process is
//! committed without waiting for the disk; what must outlive a power cut is committed with the log
//! synced, and with it everything committed before. See <https://sqlite.org/wal.html>. The log stays
//! beside the database when the last process leaves: the two are one store, and are copied together.

mod care;
mod rows;
mod schema;
mod trouble;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Actor, CommitId, DeploymentId, Durability, Entry, Fence, ProjectName, ReleaseNumber, Seq};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, types::Value};
use tokio::task::spawn_blocking;

use self::{
    rows::{CANCELS, COUNTERS, DEPLOYMENTS, ENTRIES, Key, LEASES, QUARANTINE, RELEASES},
    trouble::Trouble,
};
use crate::{
    Acquired, CancelRequest, Deployment, DeploymentFilter, Holder, KnownRelease, Lease, Owner, Quarantined,
    Store, StoreError, SystemTicks, Ticks,
    lease::{self, Newest},
    project::{self, Summary},
};

pub use schema::SCHEMA_VERSION;

/// Keeps everything in one SQLite database. Several processes may use the same one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SqliteStore {
    ticks: Arc<dyn Ticks>,
    path: PathBuf,
    db: Arc<Mutex<Connection>>,
}

impl SqliteStore {
    /// Opens the database at `path`. It is created, readable for its owner only, if it is not there;
    /// its folder has to be.
    ///
    /// # Errors
    ///
    /// `Newer` or `Corrupt` when the file cannot be used, and then nothing is changed; `Busy`, `Full`
    /// or `Io` when it could not be opened or created.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::open_with(path, Arc::new(SystemTicks::new())).await
    }

    /// Opens the database at `path` and measures leases by another clock.
    ///
    /// # Errors
    ///
    /// As [`SqliteStore::open`].
    pub async fn open_with(path: impl Into<PathBuf>, ticks: Arc<dyn Ticks>) -> Result<Self, StoreError> {
        let path = path.into();
        let db = blocking({
            let path = path.clone();
            move || schema::open(&path)
        })
        .await?;
        Ok(Self { ticks, path, db: Arc::new(Mutex::new(db)) })
    }

    /// Returns where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    async fn query<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (path, db) = (self.path.clone(), Arc::clone(&self.db));
        blocking(move || {
            // A transaction that a panic interrupts is rolled back, so what it leaves is whole.
            let mut db = db.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut db).map_err(|trouble| trouble.at(&path))
        })
        .await
    }

    async fn change<T: Send + 'static>(
        &self,
        durability: Durability,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.query(move |db| {
            // Has no effect inside a transaction.
            let synchronous = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            db.pragma_update(None, "synchronous", synchronous)?;
            // Immediate: a transaction that reads first and then writes could not wait its turn.
            let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        })
        .await
    }

    async fn count_up(&self, counter: String, above: u64) -> Result<u64, StoreError> {
        self.change(Durability::Process, move |db| {
            let key = [Key::Text(&counter)];
            let last: u64 = COUNTERS.get(db, &key)?.unwrap_or(0);
            let next = last.max(above).checked_add(1);
            let next = next.ok_or_else(|| Trouble::Internal("there are no numbers left".into()))?;
            COUNTERS.put(db, &key, &next)?;
            Ok(next)
        })
        .await
    }

    /// Changes a lease that is still the newest of its name; returns whether it was.
    async fn change_lease(
        &self,
        lease: &Lease,
        change: impl FnOnce(&mut Newest) + Send + 'static,
    ) -> Result<bool, StoreError> {
        let lease = lease.clone();
        self.change(Durability::Process, move |db| {
            let Some(mut newest) = newest(db, &lease.name)?.filter(|newest| newest.is(&lease)) else {
                return Ok(false);
            };
            change(&mut newest);
            LEASES.put(db, &[Key::Text(&lease.name)], &newest)?;
            Ok(true)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    spawn_blocking(work).await.unwrap_or_else(|error| Err(StoreError::Internal(error.into())))
}

#[async_trait]
impl Store for SqliteStore {
    async fn reserve_deployment(&self) -> Result<DeploymentId, StoreError> {
        self.count_up("deployment".to_owned(), 0).await.map(DeploymentId)
    }

    async fn reserve_release(
        &self,
        project: &ProjectName,
        above: ReleaseNumber,
    ) -> Result<ReleaseNumber, StoreError> {
        self.count_up(format!("release/{project}"), above.0).await.map(ReleaseNumber)
    }

    async fn append(
        &self,
        entry: &Entry,
        durability: Durability,
        lease: Option<&Lease>,
    ) -> Result<(), StoreError> {
        let (entry, lease) = (entry.clone(), lease.cloned());
        self.change(durability, move |db| append(db, &entry, lease.as_ref())).await
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, StoreError> {
        self.query(move |db| {
            let snapshot = db.transaction()?;
            journal_of(&snapshot, deployment, from)
        })
        .await
    }

    async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
        self.query(move |db| Ok(summary(db, id)?.map(|summary| summary.deployment))).await
    }

    async fn deployments(&self, filter: &DeploymentFilter) -> Result<Vec<Deployment>, StoreError> {
        let filter = filter.clone();
        self.query(move |db| {
            let project = filter.project.as_ref().map_or("1", |_| "project = ?");
            let open = if filter.open { "open = 1" } else { "1" };
            let limit = match filter.limit {
                0 => i64::MAX,
                limit => i64::try_from(limit).unwrap_or(i64::MAX),
            };
            let name = filter.project.map(|project| Value::Text(project.into()));
            let params = rusqlite::params_from_iter(name.into_iter().chain([Value::Integer(limit)]));
            let clause = format!("WHERE {project} AND {open} ORDER BY id DESC LIMIT ?");
            let found: Vec<Summary> = DEPLOYMENTS.list(db, &clause, params)?;
            Ok(found.into_iter().map(|summary| summary.deployment).collect())
        })
        .await
    }

    async fn releases(&self, project: &ProjectName) -> Result<Vec<KnownRelease>, StoreError> {
        let project = project.clone();
        let clause = "WHERE project = ? ORDER BY number DESC";
        self.query(move |db| RELEASES.list(db, clause, [project.as_str()])).await
    }

    async fn pin(
        &self,
        project: &ProjectName,
        release: ReleaseNumber,
        pinned: bool,
    ) -> Result<bool, StoreError> {
        let project = project.clone();
        self.change(Durability::Power, move |db| {
            let key = [Key::Text(project.as_str()), Key::Number(release.0)];
            let Some(known) = RELEASES.get::<KnownRelease>(db, &key)? else { return Ok(false) };
            RELEASES.put(db, &key, &KnownRelease { pinned, ..known })?;
            Ok(true)
        })
        .await
    }

    async fn acquire(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
        dead: Option<Fence>,
        above: Fence,
    ) -> Result<Acquired, StoreError> {
        let (name, owner, ticks) = (name.to_owned(), owner.clone(), Arc::clone(&self.ticks));
        // A target may remember the fence: not even a power cut may make it be given out again.
        self.change(Durability::Power, move |db| {
            let (acquired, granted) =
                lease::acquire(newest(db, &name)?, &name, &owner, ttl, dead, above, ticks.now());
            if let Some(granted) = granted {
                LEASES.put(db, &[Key::Text(&name)], &granted)?;
            }
            Ok(acquired)
        })
        .await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        let ticks = Arc::clone(&self.ticks);
        self.change_lease(lease, move |newest| newest.renew(ttl, ticks.now())).await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.change_lease(lease, Newest::release).await.map(|_| ())
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        let (name, now) = (name.to_owned(), self.ticks.now());
        self.query(move |db| Ok(newest(db, &name)?.and_then(|newest| newest.holder(&now)))).await
    }

    async fn quarantine(&self, project: &ProjectName, what: &Quarantined) -> Result<(), StoreError> {
        let (project, what) = (project.clone(), what.clone());
        self.change(Durability::Power, move |db| put_aside(db, &project, &what)).await
    }

    async fn lift(&self, project: &ProjectName, commit: &CommitId) -> Result<bool, StoreError> {
        let (project, commit) = (project.clone(), commit.clone());
        self.change(Durability::Power, move |db| lift(db, &project, &commit)).await
    }

    async fn quarantined(&self, project: &ProjectName) -> Result<Vec<Quarantined>, StoreError> {
        let project = project.clone();
        let mut quarantined =
            self.query(move |db| QUARANTINE.list(db, "WHERE project = ?", [project.as_str()])).await?;
        project::newest_first(&mut quarantined);
        Ok(quarantined)
    }

    async fn request_cancel(
        &self,
        deployment: DeploymentId,
        by: &Actor,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let request = CancelRequest { by: by.clone(), reason: reason.map(str::to_owned), at };
        self.change(Durability::Power, move |db| {
            CANCELS.add(db, &[Key::Number(deployment.0)], &request)?;
            Ok(())
        })
        .await
    }

    async fn cancel_requested(&self, deployment: DeploymentId) -> Result<Option<CancelRequest>, StoreError> {
        self.query(move |db| CANCELS.get(db, &[Key::Number(deployment.0)])).await
    }

    async fn verify(&self) -> Result<Vec<String>, StoreError> {
        // Takes long for a large database: on a connection of its own, leases are renewed meanwhile.
        let path = self.path.clone();
        blocking(move || {
            let mut db = schema::open(&path)?;
            let verified =
                db.transaction().map_err(Trouble::from).and_then(|snapshot| care::verify(&snapshot));
            verified.map_err(|trouble| trouble.at(&path))
        })
        .await
    }

    async fn vacuum(&self) -> Result<u64, StoreError> {
        let path = self.path.clone();
        self.query(move |db| care::vacuum(db, &path)).await
    }
}

fn append(db: &Connection, entry: &Entry, lease: Option<&Lease>) -> Result<(), Trouble> {
    let conflict = StoreError::Conflict { deployment: entry.deployment, at: entry.seq };
    if let Some(lease) = lease
        && !newest(db, &lease.name)?.is_some_and(|newest| newest.is(lease))
    {
        return Err(conflict.into());
    }
    let follows = project::follow(summary(db, entry.deployment)?, entry)?;
    let (deployment, at) = (Key::Number(entry.deployment.0), Key::Number(entry.seq.0));
    if !ENTRIES.add(db, &[deployment, at], entry)? {
        return Err(conflict.into());
    }
    DEPLOYMENTS.put(db, &[deployment], &follows.summary)?;
    let release = &follows.summary.deployment.release;
    let (project, key) =
        (&release.project, [Key::Text(release.project.as_str()), Key::Number(release.number.0)]);
    if let Some(release) = &follows.release {
        RELEASES.add(db, &key, release)?;
    }
    if let Some(status) = follows.settled
        && let Some(mut known) = RELEASES.get(db, &key)?
    {
        project::settle(&mut known, entry.deployment, status);
        RELEASES.put(db, &key, &known)?;
    }
    for commit in &follows.lift {
        lift(db, project, commit)?;
    }
    for what in &follows.put_aside {
        put_aside(db, project, what)?;
    }
    Ok(())
}

/// Reads a journal. Runs in a transaction: its length is compared with its summary's.
fn journal_of(db: &Connection, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, Trouble> {
    let damaged = || Trouble::Damaged(format!("the journal of deployment {deployment} has lost entries"));
    let end = summary(db, deployment)?.map_or(Seq::default(), |summary| summary.next);
    let Ok(start) = i64::try_from(from.0) else { return Ok(Vec::new()) };
    let id = i64::try_from(deployment.0).unwrap_or(i64::MAX);
    let rows = ENTRIES.select(db, "WHERE deployment = ? AND seq >= ? ORDER BY seq", [id, start])?;
    if u64::try_from(rows.len()) != Ok(end.0.saturating_sub(from.0)) {
        return Err(damaged());
    }
    let mut journal = Vec::with_capacity(rows.len());
    let mut next = from;
    for row in &rows {
        if row.key.get(1) != i64::try_from(next.0).ok().map(Value::Integer).as_ref() {
            return Err(damaged());
        }
        let entry: Entry = serde_json::from_str(&row.doc).map_err(|source| StoreError::Unreadable {
            deployment,
            at: next,
            source,
        })?;
        journal.push(entry);
        next = next.next();
    }
    Ok(journal)
}

fn summary(db: &Connection, id: DeploymentId) -> Result<Option<Summary>, Trouble> {
    DEPLOYMENTS.get(db, &[Key::Number(id.0)])
}

fn newest(db: &Connection, lease: &str) -> Result<Option<Newest>, Trouble> {
    LEASES.get(db, &[Key::Text(lease)])
}

fn put_aside(db: &Connection, project: &ProjectName, what: &Quarantined) -> Result<(), Trouble> {
    QUARANTINE.add(db, &[Key::Text(project.as_str()), Key::Text(what.commit.as_str())], what)?;
    Ok(())
}

fn lift(db: &Connection, project: &ProjectName, commit: &CommitId) -> Result<bool, Trouble> {
    QUARANTINE.remove(db, &[Key::Text(project.as_str()), Key::Text(commit.as_str())])
}

#[cfg(test)]
mod tests {
    use eeveon_core::Diagnose;

    use super::*;

    async fn store() -> (tempfile::TempDir, SqliteStore) {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(folder.path().join("db")).await.unwrap();
        (folder, store)
    }

    fn owner(label: &str) -> Owner {
        Owner { host: "h".into(), boot: "b".into(), pid: 1, started: 1, label: label.into() }
    }

    #[tokio::test]
    async fn without_space_nothing_changes_and_it_is_said() {
        let (_folder, store) = store().await;
        let take = async |name: &str, label: &str| {
            store.acquire(name, &owner(label), Duration::from_secs(9), None, Fence(0)).await
        };
        take("a", "small").await.unwrap();
        let limit = |pages: i64| {
            store.query(move |db| {
                Ok(db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
            })
        };
        // A limit below the present size is that size.
        limit(1).await.unwrap();
        let error = take("b", &"large".repeat(10_000)).await.unwrap_err();
        assert_eq!(error.code(), "store/full", "{error:?}");
        assert!(store.holder("a").await.unwrap().is_some());
        assert!(store.holder("b").await.unwrap().is_none());
        limit(i64::from(u32::MAX) - 1).await.unwrap();
        take("b", &"large".repeat(10_000)).await.unwrap();
    }

    #[tokio::test]
    async fn a_database_that_stays_locked_is_busy() {
        let (_folder, store) = store().await;
        let mut other = schema::open(store.path()).unwrap();
        let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        store.db.lock().unwrap().busy_timeout(Duration::ZERO).unwrap();
        let error = store.reserve_deployment().await.unwrap_err();
        assert_eq!(error.code(), "store/busy", "{error:?}");
        // Reading does not wait for writers.
        assert_eq!(store.deployments(&DeploymentFilter::default()).await.unwrap(), []);
        lock.commit().unwrap();
        store.reserve_deployment().await.unwrap();
    }

    #[tokio::test]
    async fn numbers_that_cannot_be_stored_are_refused() {
        let (_folder, store) = store().await;
        let shop = ProjectName::new("shop").unwrap();
        let error = store.reserve_release(&shop, ReleaseNumber(u64::MAX)).await.unwrap_err();
        assert_eq!(error.code(), "store/internal");
        assert_eq!(store.reserve_release(&shop, ReleaseNumber(0)).await.unwrap(), ReleaseNumber(1));
        let error =
            store.request_cancel(DeploymentId(u64::MAX), &Actor::Engine, None, Timestamp::UNIX_EPOCH).await;
        assert_eq!(error.unwrap_err().code(), "store/internal");
    }

    #[tokio::test]
    async fn what_must_outlive_a_power_cut_is_synced() {
        let (_folder, store) = store().await;
        // See <https://sqlite.org/pragma.html#pragma_synchronous>: 1 is NORMAL, 2 is FULL.
        let synchronous = async || {
            let level = |db: &mut Connection| {
                Ok(db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
            };
            store.query(level).await.unwrap()
        };
        store.reserve_deployment().await.unwrap();
        assert_eq!(synchronous().await, 1);
        for (durability, level) in [(Durability::Power, 2), (Durability::Process, 1), (Durability::Power, 2)]
        {
            store.change(durability, |_| Ok(())).await.unwrap();
            assert_eq!(synchronous().await, level);
        }
    }
}
