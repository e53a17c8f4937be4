//! A store that forgets everything when it is dropped: for embedders and tests.

mod inbox;
mod outbox;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Actor, CommitId, DeploymentId, Durability, Entry, Fence, ProjectName, ReleaseNumber, Seq};
use jiff::Timestamp;

use crate::{
    Acquired, AutomaticOff, CancelRequest, Delivery, Deployment, DeploymentFilter, Followed, Holder,
    KnownRelease, Lease, Letter, LetterEnd, LetterFilter, LetterState, NewLetter, Owner, Position,
    Quarantined, Store, StoreError, SystemTicks, Ticks,
    lease::{self, Newest},
    memory::{inbox::Inbox, outbox::Outbox},
    project::{self, Summary},
};

/// Keeps everything in memory. Shared by all clones of its `Arc`.
#[derive(Debug)]
pub struct MemoryStore {
    ticks: Arc<dyn Ticks>,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    last_deployment: u64,
    last_release: BTreeMap<ProjectName, u64>,
    journals: BTreeMap<DeploymentId, Vec<Entry>>,
    summaries: BTreeMap<DeploymentId, Summary>,
    releases: BTreeMap<(ProjectName, ReleaseNumber), KnownRelease>,
    quarantine: BTreeMap<(ProjectName, CommitId), Quarantined>,
    leases: BTreeMap<String, Newest>,
    cancels: BTreeMap<DeploymentId, CancelRequest>,
    /// Which entry is at each position, from the first one on.
    order: Vec<(DeploymentId, Seq)>,
    outbox: Outbox,
    inbox: Inbox,
    automatic_off: BTreeMap<ProjectName, AutomaticOff>,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::with_ticks(Arc::new(SystemTicks::new()))
    }

    /// Makes an empty store that measures leases by another clock.
    pub fn with_ticks(ticks: Arc<dyn Ticks>) -> Self {
        Self { ticks, tables: Mutex::default() }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Nothing panics half-way through a change, so what a panicking thread leaves is whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn reserve_deployment(&self) -> Result<DeploymentId, StoreError> {
        let mut tables = self.tables();
        tables.last_deployment = after(tables.last_deployment)?;
        Ok(DeploymentId(tables.last_deployment))
    }

    async fn reserve_release(
        &self,
        project: &ProjectName,
        above: ReleaseNumber,
    ) -> Result<ReleaseNumber, StoreError> {
        let mut tables = self.tables();
        let last = tables.last_release.get(project).copied().unwrap_or(0);
        let number = after(last.max(above.0))?;
        tables.last_release.insert(project.clone(), number);
        Ok(ReleaseNumber(number))
    }

    async fn append(
        &self,
        entry: &Entry,
        _durability: Durability,
        lease: Option<&Lease>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let holds = |lease: &Lease| tables.leases.get(&lease.name).is_some_and(|newest| newest.is(lease));
        if !lease.is_none_or(holds) {
            return Err(StoreError::Conflict { deployment: entry.deployment, at: entry.seq });
        }
        let follows = project::follow(tables.summaries.get(&entry.deployment).cloned(), entry)?;
        tables.journals.entry(entry.deployment).or_default().push(entry.clone());
        tables.order.push((entry.deployment, entry.seq));
        if let Some(release) = follows.release {
            let key = (release.release.project.clone(), release.number());
            tables.releases.entry(key).or_insert(release);
        }
        let release = &follows.summary.deployment.release;
        let project = release.project.clone();
        if let Some(status) = follows.settled
            && let Some(known) = tables.releases.get_mut(&(project.clone(), release.number))
        {
            project::settle(known, entry.deployment, status);
        }
        for commit in follows.lift {
            tables.quarantine.remove(&(project.clone(), commit));
        }
        for what in follows.put_aside {
            tables.quarantine.entry((project.clone(), what.commit.clone())).or_insert(what);
        }
        tables.summaries.insert(entry.deployment, follows.summary);
        Ok(())
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, StoreError> {
        let tables = self.tables();
        let journal = tables.journals.get(&deployment);
        Ok(journal.into_iter().flatten().filter(|entry| entry.seq >= from).cloned().collect())
    }

    async fn follow(&self, after: Position, limit: u32) -> Result<Vec<Followed>, StoreError> {
        let tables = self.tables();
        let entry = |(deployment, seq): &(DeploymentId, Seq)| {
            let journal = tables.journals.get(deployment)?;
            journal.get(usize::try_from(seq.0).ok()?).cloned()
        };
        let numbered = (1..).map(Position).zip(tables.order.iter().filter_map(entry));
        let [skip, limit] = [after.0, u64::from(limit)].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        Ok(numbered.skip(skip).take(limit).map(|(position, entry)| (position, Ok(entry))).collect())
    }

    async fn newest_position(&self) -> Result<Position, StoreError> {
        Ok(Position(u64::try_from(self.tables().order.len()).unwrap_or(u64::MAX)))
    }

    async fn cursor(&self, follower: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.tables().outbox.cursor(follower))
    }

    async fn post(&self, follower: &str, upto: Position, letters: &[NewLetter]) -> Result<bool, StoreError> {
        self.tables().outbox.post(follower, upto, letters)
    }

    async fn add_letters(&self, follower: &str, letters: &[NewLetter]) -> Result<(), StoreError> {
        self.tables().outbox.add(follower, letters.iter())
    }

    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, StoreError> {
        Ok(self.tables().outbox.letters(filter))
    }

    async fn replace(&self, letter: u64, by: &[NewLetter]) -> Result<bool, StoreError> {
        self.tables().outbox.replace(letter, by)
    }

    async fn next_due(&self, follower: &str) -> Result<Option<Timestamp>, StoreError> {
        let filter = LetterFilter {
            follower: follower.to_owned(),
            state: Some(LetterState::Waiting),
            ..LetterFilter::default()
        };
        Ok(self.tables().outbox.letters(&filter).iter().map(|letter| letter.due_at).min())
    }

    async fn begin_sending(&self, letter: u64) -> Result<Option<Letter>, StoreError> {
        Ok(self.tables().outbox.change(letter, Letter::begin))
    }

    async fn settle(&self, letter: u64, end: LetterEnd) -> Result<bool, StoreError> {
        Ok(self.tables().outbox.settle(letter, end))
    }

    async fn revive(&self, letter: u64, now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.tables().outbox.change(letter, |letter| letter.revive(now)).is_some())
    }

    async fn forget(&self, letter: u64) -> Result<bool, StoreError> {
        Ok(self.tables().outbox.remove(letter))
    }

    async fn purge_dead(&self, before: Timestamp) -> Result<u64, StoreError> {
        let dead = |letter: &Letter| letter.state == LetterState::Dead && letter.created_at < before;
        Ok(self.tables().outbox.remove_all(dead))
    }

    async fn automatic(&self, project: &ProjectName) -> Result<Option<AutomaticOff>, StoreError> {
        Ok(self.tables().automatic_off.get(project).cloned())
    }

    async fn set_automatic(
        &self,
        project: &ProjectName,
        off: Option<AutomaticOff>,
    ) -> Result<(), StoreError> {
        let mut tables = self.tables();
        match off {
            Some(off) => tables.automatic_off.insert(project.clone(), off),
            None => tables.automatic_off.remove(project),
        };
        Ok(())
    }

    async fn state(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.tables().inbox.state(key))
    }

    async fn save_states(
        &self,
        states: &[(String, Option<String>)],
        _durability: Durability,
    ) -> Result<(), StoreError> {
        self.tables().inbox.save(states)
    }

    async fn take_delivery(
        &self,
        delivery: &Delivery,
        states: &[(String, Option<String>)],
    ) -> Result<bool, StoreError> {
        self.tables().inbox.take(delivery, states)
    }

    async fn deliveries(&self, project: &ProjectName, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        Ok(self.tables().inbox.newest(project, limit))
    }

    async fn delivery(
        &self,
        project: &ProjectName,
        provider: &str,
        id: &str,
    ) -> Result<Option<Delivery>, StoreError> {
        Ok(self.tables().inbox.delivery(project, provider, id))
    }

    async fn forget_project(&self, project: &ProjectName) -> Result<(), StoreError> {
        let mut tables = self.tables();
        tables.outbox.remove_all(|letter| letter.project == *project);
        tables.quarantine.retain(|(of, _), _| of != project);
        tables.automatic_off.remove(project);
        tables.inbox.forget_project(project);
        Ok(())
    }

    async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError> {
        Ok(self.tables().summaries.get(&id).map(|summary| summary.deployment.clone()))
    }

    async fn deployments(&self, filter: &DeploymentFilter) -> Result<Vec<Deployment>, StoreError> {
        let limit = match filter.limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let tables = self.tables();
        let newest_first = tables.summaries.values().rev().map(|summary| &summary.deployment);
        Ok(newest_first
            .filter(|it| filter.project.as_ref().is_none_or(|project| it.release.project == *project))
            .filter(|it| !filter.open || it.outcome.is_none())
            .take(limit)
            .cloned()
            .collect())
    }

    async fn releases(&self, project: &ProjectName) -> Result<Vec<KnownRelease>, StoreError> {
        let tables = self.tables();
        let newest_first = tables.releases.iter().rev();
        Ok(newest_first.filter(|((of, _), _)| of == project).map(|(_, release)| release.clone()).collect())
    }

    async fn pin(
        &self,
        project: &ProjectName,
        release: ReleaseNumber,
        pinned: bool,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let known = tables.releases.get_mut(&(project.clone(), release));
        Ok(known.map(|known| known.pinned = pinned).is_some())
    }

    async fn acquire(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
        dead: Option<Fence>,
        above: Fence,
    ) -> Result<Acquired, StoreError> {
        let mut tables = self.tables();
        let newest = tables.leases.get(name).cloned();
        let (acquired, granted) = lease::acquire(newest, name, owner, ttl, dead, above, self.ticks.now());
        if let Some(granted) = granted {
            tables.leases.insert(name.to_owned(), granted);
        }
        Ok(acquired)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        let newest = tables.leases.get_mut(&lease.name).filter(|newest| newest.is(lease));
        Ok(newest.map(|newest| newest.renew(ttl, self.ticks.now())).is_some())
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        if let Some(newest) = self.tables().leases.get_mut(&lease.name).filter(|newest| newest.is(lease)) {
            newest.release();
        }
        Ok(())
    }

    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError> {
        Ok(self.tables().leases.get(name).and_then(|newest| newest.holder(&self.ticks.now())))
    }

    async fn quarantine(&self, project: &ProjectName, what: &Quarantined) -> Result<(), StoreError> {
        let key = (project.clone(), what.commit.clone());
        self.tables().quarantine.entry(key).or_insert_with(|| what.clone());
        Ok(())
    }

    async fn lift(&self, project: &ProjectName, commit: &CommitId) -> Result<bool, StoreError> {
        Ok(self.tables().quarantine.remove(&(project.clone(), commit.clone())).is_some())
    }

    async fn quarantined(&self, project: &ProjectName) -> Result<Vec<Quarantined>, StoreError> {
        let tables = self.tables();
        let of_project = tables.quarantine.iter().filter(|((of, _), _)| of == project);
        let mut quarantined: Vec<_> = of_project.map(|(_, what)| what.clone()).collect();
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
        self.tables().cancels.entry(deployment).or_insert(request);
        Ok(())
    }

    async fn cancel_requested(&self, deployment: DeploymentId) -> Result<Option<CancelRequest>, StoreError> {
        Ok(self.tables().cancels.get(&deployment).cloned())
    }

    async fn verify(&self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
    }

    async fn vacuum(&self) -> Result<u64, StoreError> {
        Ok(0)
    }
}

fn after(last: u64) -> Result<u64, StoreError> {
    last.checked_add(1).ok_or_else(|| StoreError::Internal("there are no numbers left".into()))
}
