//! The default store: one SQLite database in WAL mode.
//!
//! One connection, used by one thread at a time. What must outlive only this process is
//! committed without waiting for the disk; what must outlive a power cut is committed with the log
//! synced, and with it everything committed before. See <https://sqlite.org/wal.html>. The log stays
//! beside the database when the last process leaves: the two are one store, and are copied together.

mod care;
mod inbox;
mod journals;
mod outbox;
mod rows;
mod schema;
mod trouble;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{
    Actor, CommitId, DeploymentId, Durability, Entry, Fence, ProjectName, ReleaseNumber, Seq, offload,
};
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, types::Value};

use self::{
    journals::{journal_of, lift, newest, put_aside, summary},
    rows::{AUTOMATIC_OFF, CANCELS, COUNTERS, DEPLOYMENTS, Key, LEASES, QUARANTINE, RELEASES},
    trouble::Trouble,
};
use crate::{
    Acquired, AutomaticOff, CancelRequest, Delivery, Deployment, DeploymentFilter, Followed, Holder,
    KnownRelease, Lease, Letter, LetterEnd, LetterFilter, NewLetter, Owner, Position, Quarantined, Store,
    StoreError, SystemTicks, Ticks,
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
        work: impl Fn(&Transaction<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.query(move |db| {
            // Has no effect inside a transaction.
            let synchronous = match durability {
                Durability::Process => "NORMAL",
                Durability::Power => "FULL",
            };
            db.pragma_update(None, "synchronous", synchronous)?;
            match attempt(db, &work) {
                // The log need not grow when it can begin anew.
                Err(trouble) if trouble.is_full() && begin_log_anew(db).is_ok() => attempt(db, &work),
                done => done,
            }
        })
        .await
    }

    /// Makes the database and its log as large as they get by a few hundred small changes, so that those go
    /// on when the disk is full, as long as somebody has the database open.
    ///
    /// # Errors
    ///
    /// `store/full`, and what else can fail in a change.
    pub async fn keep_room(&self) -> Result<(), StoreError> {
        /// What is written and removed again: the space stays with the files.
        const ROOM: usize = 512 << 10;
        let key = "store/room".to_owned();
        self.save_states(&[(key.clone(), Some(" ".repeat(ROOM)))], Durability::Process).await?;
        self.save_states(&[(key, None)], Durability::Process).await?;
        self.query(begin_log_anew).await
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
        change: impl Fn(&mut Newest) + Send + 'static,
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

fn attempt<T>(
    db: &mut Connection,
    work: impl Fn(&Transaction<'_>) -> Result<T, Trouble>,
) -> Result<T, Trouble> {
    // Immediate: a transaction that reads first and then writes could not wait its turn.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Moves what the log has into the database, so that the next change is written at the log's beginning
/// (<https://sqlite.org/pragma.html#pragma_wal_checkpoint>).
fn begin_log_anew(db: &mut Connection) -> Result<(), Trouble> {
    let is_busy: bool = db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
    match is_busy {
        true => Err(Trouble::Internal("the log of the database is in use".into())),
        false => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    offload(work).await.unwrap_or_else(|error| Err(StoreError::Internal(error.into())))
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
        self.change(durability, move |db| journals::append(db, &entry, lease.as_ref())).await
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, StoreError> {
        self.query(move |db| {
            let snapshot = db.transaction()?;
            journal_of(&snapshot, deployment, from)
        })
        .await
    }

    async fn follow(&self, after: Position, limit: u32) -> Result<Vec<Followed>, StoreError> {
        let path = self.path.clone();
        self.query(move |db| {
            let snapshot = db.transaction()?;
            journals::follow(&snapshot, &path, after, limit)
        })
        .await
    }

    async fn newest_position(&self) -> Result<Position, StoreError> {
        self.query(|db| journals::newest_position(db)).await
    }

    async fn cursor(&self, follower: &str) -> Result<Option<Position>, StoreError> {
        let follower = follower.to_owned();
        self.query(move |db| outbox::cursor(db, &follower)).await
    }

    async fn post(&self, follower: &str, upto: Position, letters: &[NewLetter]) -> Result<bool, StoreError> {
        let (follower, letters) = (follower.to_owned(), letters.to_vec());
        // A power cut takes letters and cursor together, and they are posted again.
        self.change(Durability::Process, move |db| outbox::post(db, &follower, upto, &letters)).await
    }

    async fn add_letters(&self, follower: &str, letters: &[NewLetter]) -> Result<(), StoreError> {
        let (follower, letters) = (follower.to_owned(), letters.to_vec());
        self.change(Durability::Power, move |db| outbox::add(db, &follower, letters.iter())).await
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, StoreError> {
        let filter = filter.clone();
        self.query(move |db| outbox::letters(db, &filter)).await
    }

    async fn replace(&self, letter: u64, by: &[NewLetter]) -> Result<bool, StoreError> {
        let by = by.to_vec();
        self.change(Durability::Power, move |db| outbox::replace(db, letter, &by)).await
    }

    async fn next_due(&self, follower: &str) -> Result<Option<Timestamp>, StoreError> {
        let follower = follower.to_owned();
        self.query(move |db| outbox::next_due(db, &follower)).await
    }

    async fn begin_sending(&self, letter: u64) -> Result<Option<Letter>, StoreError> {
        self.change(Durability::Power, move |db| outbox::change(db, letter, Letter::begin)).await
    }

    async fn settle(&self, letter: u64, end: LetterEnd) -> Result<bool, StoreError> {
        self.change(Durability::Process, move |db| outbox::settle(db, letter, end.clone())).await
    }

    async fn revive(&self, letter: u64, now: Timestamp) -> Result<bool, StoreError> {
        let revive = move |letter: &mut Letter| letter.revive(now);
        self.change(Durability::Power, move |db| Ok(outbox::change(db, letter, revive)?.is_some())).await
    }

    async fn forget(&self, letter: u64) -> Result<bool, StoreError> {
        self.change(Durability::Power, move |db| outbox::remove(db, letter)).await
    }

    async fn purge_dead(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.change(Durability::Process, move |db| outbox::purge_dead(db, before)).await
    }

    async fn automatic(&self, project: &ProjectName) -> Result<Option<AutomaticOff>, StoreError> {
        let project = project.clone();
        self.query(move |db| AUTOMATIC_OFF.get(db, &[Key::Text(project.as_str())])).await
    }

    async fn set_automatic(
        &self,
        project: &ProjectName,
        off: Option<AutomaticOff>,
    ) -> Result<(), StoreError> {
        let project = project.clone();
        self.change(Durability::Power, move |db| {
            let key = [Key::Text(project.as_str())];
            match &off {
                Some(off) => AUTOMATIC_OFF.put(db, &key, &off),
                None => AUTOMATIC_OFF.remove(db, &key).map(drop),
            }
        })
        .await
    }

    async fn state(&self, key: &str) -> Result<Option<String>, StoreError> {
        let key = key.to_owned();
        self.query(move |db| inbox::state(db, &key)).await
    }

    async fn save_states(
        &self,
        states: &[(String, Option<String>)],
        durability: Durability,
    ) -> Result<(), StoreError> {
        let states = states.to_vec();
        self.change(durability, move |db| inbox::save(db, &states)).await
    }

    async fn take_delivery(
        &self,
        delivery: &Delivery,
        states: &[(String, Option<String>)],
    ) -> Result<bool, StoreError> {
        let (delivery, states) = (delivery.clone(), states.to_vec());
        // Whoever delivered it is told that it arrived, and does not send it again.
        self.change(Durability::Power, move |db| inbox::take(db, &delivery, &states)).await
    }

    async fn deliveries(&self, project: &ProjectName, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let project = project.clone();
        self.query(move |db| inbox::newest(db, &project, limit)).await
    }

    async fn delivery(
        &self,
        project: &ProjectName,
        provider: &str,
        id: &str,
    ) -> Result<Option<Delivery>, StoreError> {
        let (project, provider, id) = (project.clone(), provider.to_owned(), id.to_owned());
        self.query(move |db| inbox::delivery(db, &project, &provider, &id)).await
    }

    async fn forget_project(&self, project: &ProjectName) -> Result<(), StoreError> {
        let project = project.clone();
        self.change(Durability::Power, move |db| outbox::forget_project(db, &project)).await
    }

    async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
        self.query(move |db| Ok(summary(db, id)?.map(|summary| summary.deployment))).await
    }

    async fn deployments(&self, filter: &DeploymentFilter) -> Result<Vec<Deployment>, StoreError> {
        let filter = filter.clone();
        self.query(move |db| {
            let limit = match filter.limit {
                0 => i64::MAX,
                limit => i64::try_from(limit).unwrap_or(i64::MAX),
            };
            let clause = listing(&filter);
            let name = filter.project.map(|project| Value::Text(project.into()));
            let params = rusqlite::params_from_iter(name.into_iter().chain([Value::Integer(limit)]));
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
        // What its holder leaves half done is found by it, also after a power cut; and a target may
        // remember its fence, which must never be given out again.
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

/// Returns the rest of the statement that lists deployments: a walk along an index, newest first.
fn listing(filter: &DeploymentFilter) -> String {
    let open = if filter.open { "open = 1" } else { "1" };
    let project = match &filter.project {
        None => "1",
        // Few are open: the plus keeps SQLite from walking through all of the project's.
        Some(_) if filter.open => "+project = ?",
        Some(_) => "project = ?",
    };
    format!("WHERE {project} AND {open} ORDER BY id DESC LIMIT ?")
}

#[cfg(test)]
mod tests;
