//! The contract of every `Deployer` and every `Traffic`: what no implementation may do otherwise.
//!
//! An implementation's own test makes a [`Subject`] and calls [`run_all`]. Every property is also a
//! function of its own, to be run alone while looking for a fault. [`FakeContents`] stands in for a
//! repository.
#![expect(clippy::unwrap_used, reason = "a contract is broken by panicking")]

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use eeveon_core::{
    CommitId, ContentId, ContentReader, Contents, Deployer, Diagnose, Fence, FileEntry, FileKind, Live,
    Permit, Placed, ProjectName, Release, ReleaseNumber, Removal, Revision, StepError, Target, Traffic,
    Untrusted,
};
use gix_hash::{Kind, hasher};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// A target under test, on which nothing was ever placed.
pub trait Subject: Send + Sync {
    /// Returns what puts releases there.
    fn deployer(&self) -> &dyn Deployer;
    /// Returns what decides which of them serves.
    fn traffic(&self) -> &dyn Traffic;
    /// Returns the target itself.
    fn target(&self) -> &Target;
    /// Returns what both take releases from.
    fn contents(&self) -> &FakeContents;
}

/// Runs every property, each on a fresh subject.
pub async fn run_all<S: Subject>(make: impl AsyncFn() -> S) {
    looking_changes_nothing(&make().await).await;
    a_release_is_usable_once_it_is_sealed(&make().await).await;
    everything_may_be_done_twice(&make().await).await;
    a_release_can_be_gone_back_to(&make().await).await;
    only_a_sealed_release_can_serve(&make().await).await;
    what_serves_is_what_was_turned_to(&make().await).await;
    what_serves_is_not_removed(&make().await).await;
    a_removed_release_is_gone(&make().await).await;
    a_release_set_aside_is_kept_but_not_usable(&make().await).await;
    what_is_not_there_can_be_removed(&make().await).await;
    a_cancelled_ship_leaves_nothing_usable(&make().await).await;
    a_lower_fence_changes_nothing(&make().await).await;
}

/// Getting ready and listing leave no trace.
pub async fn looking_changes_nothing(subject: &impl Subject) {
    let release = sample(subject, 1);
    for _ in 0..2 {
        subject.deployer().ready(&permit(1), subject.target(), &release).await.unwrap();
        assert_eq!(subject.deployer().present(subject.target()).await.unwrap(), []);
        assert_eq!(subject.traffic().serving(subject.target()).await.unwrap(), None);
    }
}

/// Shipping alone makes nothing usable; sealing does.
pub async fn a_release_is_usable_once_it_is_sealed(subject: &impl Subject) {
    let (deployer, target) = (subject.deployer(), subject.target());
    let release = sample(subject, 1);
    deployer.ship(&permit(1), target, &release).await.unwrap();
    assert!(usable(subject).await.is_empty());
    assert!(deployer.restore(&permit(1), target, &release).await.is_err(), "it was never sealed");
    deployer.seal(&permit(1), target, &release).await.unwrap();
    assert_eq!(usable(subject).await, [1]);
}

/// Each call made again changes nothing and says the same.
pub async fn everything_may_be_done_twice(subject: &impl Subject) {
    let (deployer, target) = (subject.deployer(), subject.target());
    let release = sample(subject, 1);
    let shipped = deployer.ship(&permit(1), target, &release).await.unwrap();
    assert_eq!(deployer.ship(&permit(1), target, &release).await.unwrap(), shipped);
    let sealed = deployer.seal(&permit(1), target, &release).await.unwrap();
    assert_eq!(deployer.seal(&permit(1), target, &release).await.unwrap(), sealed);
    assert_eq!(deployer.ship(&permit(1), target, &release).await.unwrap(), sealed);
    assert_eq!(usable(subject).await, [1]);
    let endpoint = deployer.boot(&permit(1), target, &release).await.unwrap();
    assert_eq!(deployer.boot(&permit(1), target, &release).await.unwrap(), endpoint);
    turn(subject, &sealed, 1, 1).await.unwrap();
    turn(subject, &sealed, 1, 1).await.unwrap();
    assert_eq!(serving(subject).await, Some(1));
}

/// An older release comes back as it was placed; one that never was does not.
pub async fn a_release_can_be_gone_back_to(subject: &impl Subject) {
    let (deployer, target) = (subject.deployer(), subject.target());
    let old = place(subject, 1).await;
    let new = place(subject, 2).await;
    turn(subject, &new, 2, 1).await.unwrap();
    for _ in 0..2 {
        let back = deployer.restore(&permit(1), target, &sample(subject, 1)).await.unwrap();
        assert_eq!((&back.endpoint, back.files, back.bytes), (&old.endpoint, old.files, old.bytes));
        assert_eq!(back.written, 0, "nothing had happened to it");
    }
    assert!(deployer.restore(&permit(1), target, &sample(subject, 7)).await.is_err());
    assert_eq!(usable(subject).await, [1, 2]);
}

/// Turning to what is not there, or not complete, fails and changes nothing.
pub async fn only_a_sealed_release_can_serve(subject: &impl Subject) {
    let first = place(subject, 1).await;
    turn(subject, &first, 1, 1).await.unwrap();
    let shipped = subject.deployer().ship(&permit(1), subject.target(), &sample(subject, 2)).await.unwrap();
    assert!(turn(subject, &shipped, 2, 1).await.is_err());
    assert!(turn(subject, &first, 9, 1).await.is_err());
    assert_eq!(serving(subject).await, Some(1));
}

/// What was turned to last serves; turning to nothing makes nothing serve.
pub async fn what_serves_is_what_was_turned_to(subject: &impl Subject) {
    let traffic = subject.traffic();
    assert_eq!(traffic.serving(subject.target()).await.unwrap(), None);
    traffic.turn(&permit(1), subject.target(), None).await.unwrap();
    let (first, second) = (place(subject, 1).await, place(subject, 2).await);
    for (placed, number) in [(&first, 1), (&second, 2), (&first, 1)] {
        turn(subject, placed, number, 1).await.unwrap();
        let live = Live { release: ReleaseNumber(number), endpoint: placed.endpoint.clone() };
        assert_eq!(traffic.serving(subject.target()).await.unwrap(), Some(live));
    }
    for _ in 0..2 {
        traffic.turn(&permit(1), subject.target(), None).await.unwrap();
        assert_eq!(traffic.serving(subject.target()).await.unwrap(), None);
    }
    assert_eq!(usable(subject).await, [1, 2]);
}

/// The release that serves is not taken from under its users.
pub async fn what_serves_is_not_removed(subject: &impl Subject) {
    let placed = place(subject, 1).await;
    turn(subject, &placed, 1, 1).await.unwrap();
    for how in [Removal::Discard, Removal::SetAside] {
        assert!(remove(subject, 1, how).await.is_err());
        assert_eq!(serving(subject).await, Some(1));
        assert_eq!(usable(subject).await, [1]);
    }
}

/// Removing leaves no trace, in whatever state the release is, and hurts no other.
pub async fn a_removed_release_is_gone(subject: &impl Subject) {
    let first = place(subject, 1).await;
    turn(subject, &first, 1, 1).await.unwrap();
    place(subject, 2).await;
    subject.deployer().ship(&permit(1), subject.target(), &sample(subject, 3)).await.unwrap();
    place(subject, 4).await;
    remove(subject, 4, Removal::SetAside).await.unwrap();
    for number in [2, 3, 4, 4] {
        remove(subject, number, Removal::Discard).await.unwrap();
    }
    let present = subject.deployer().present(subject.target()).await.unwrap();
    assert_eq!(present.iter().map(|it| (it.release.0, it.usable)).collect::<Vec<_>>(), [(1, true)]);
    let back = subject.deployer().restore(&permit(1), subject.target(), &sample(subject, 1)).await.unwrap();
    assert_eq!(back.written, 0, "removing the others did nothing to it");
}

/// A complete release that is set aside can be looked at and never be used; an incomplete one goes.
pub async fn a_release_set_aside_is_kept_but_not_usable(subject: &impl Subject) {
    let (deployer, target) = (subject.deployer(), subject.target());
    deployer.ship(&permit(1), target, &sample(subject, 1)).await.unwrap();
    for _ in 0..2 {
        remove(subject, 1, Removal::SetAside).await.unwrap();
        let present = deployer.present(target).await.unwrap();
        assert_eq!(present.iter().map(|it| (it.release.0, it.usable)).collect::<Vec<_>>(), [(1, false)]);
        assert!(present.iter().all(|it| it.bytes > 0));
    }
    assert!(deployer.restore(&permit(1), target, &sample(subject, 1)).await.is_err());
    assert!(deployer.seal(&permit(1), target, &sample(subject, 1)).await.is_err());
}

/// Taking back what was never done is no failure.
pub async fn what_is_not_there_can_be_removed(subject: &impl Subject) {
    for how in [Removal::Discard, Removal::SetAside] {
        remove(subject, 3, how).await.unwrap();
    }
    assert_eq!(subject.deployer().present(subject.target()).await.unwrap(), []);
}

/// A ship that is stopped half-way can be taken back, and done again.
pub async fn a_cancelled_ship_leaves_nothing_usable(subject: &impl Subject) {
    let (deployer, target) = (subject.deployer(), subject.target());
    let release = sample(subject, 1);
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    subject.contents().on_read(move |reads| {
        if reads == 2 {
            stop.cancel();
        }
    });
    let stopped = deployer.ship(&Permit::new(Fence(1), cancel), target, &release).await.unwrap_err();
    assert_eq!(stopped.diagnosis().code(), "engine/cancelled");
    subject.contents().on_read(|_| ());
    assert!(usable(subject).await.is_empty());
    assert!(deployer.seal(&permit(1), target, &release).await.is_err());
    remove(subject, 1, Removal::SetAside).await.unwrap();
    assert_eq!(deployer.present(target).await.unwrap(), []);
    place(subject, 1).await;
    assert_eq!(usable(subject).await, [1]);
}

/// Whoever lost the lease changes nothing any more.
pub async fn a_lower_fence_changes_nothing(subject: &impl Subject) {
    let (deployer, traffic, target) = (subject.deployer(), subject.traffic(), subject.target());
    let (first, second) = (place(subject, 1).await, place(subject, 2).await);
    deployer.ship(&permit(4), target, &sample(subject, 3)).await.unwrap();
    turn(subject, &first, 1, 5).await.unwrap();
    let before = deployer.present(target).await.unwrap();

    let stale = permit(4);
    assert!(deployer.ship(&stale, target, &sample(subject, 4)).await.is_err());
    assert!(deployer.seal(&stale, target, &sample(subject, 3)).await.is_err());
    assert!(deployer.restore(&stale, target, &sample(subject, 2)).await.is_err());
    for how in [Removal::Discard, Removal::SetAside] {
        assert!(deployer.remove(&stale, target, ReleaseNumber(2), how).await.is_err());
    }
    assert!(turn(subject, &second, 2, 4).await.is_err());
    assert!(traffic.turn(&stale, target, None).await.is_err());

    assert_eq!(deployer.present(target).await.unwrap(), before);
    assert_eq!(serving(subject).await, Some(1));
    turn(subject, &second, 2, 5).await.unwrap();
}

/// Returns the permit of a holder with this fence, which nobody cancels.
pub fn permit(fence: u64) -> Permit {
    Permit::new(Fence(fence), CancellationToken::new())
}

/// Returns a release of some files, always the same for the same number; unlike numbers have most
/// of them in common.
fn sample(subject: &impl Subject, number: u64) -> Release {
    let unlike = format!("this is release {number}");
    let same: Vec<_> = (0..20).map(|n| (format!("same/{n}"), format!("file {n}"))).collect();
    let mut tree = vec![
        ("run".as_bytes(), FileKind::Executable, "#!/bin/sh\n".as_bytes()),
        (b"unlike", FileKind::Regular, unlike.as_bytes()),
        (b"link", FileKind::Symlink, b"same/1"),
        (b"nothing", FileKind::Folder, b""),
    ];
    tree.extend(same.iter().map(|(path, content)| (path.as_bytes(), FileKind::Regular, content.as_bytes())));
    subject.contents().release(number, &tree)
}

async fn place(subject: &impl Subject, number: u64) -> Placed {
    let release = sample(subject, number);
    let (deployer, target) = (subject.deployer(), subject.target());
    deployer.ready(&permit(1), target, &release).await.unwrap();
    let shipped = deployer.ship(&permit(1), target, &release).await.unwrap();
    let sealed = deployer.seal(&permit(1), target, &release).await.unwrap();
    assert_eq!(sealed.endpoint, shipped.endpoint);
    assert!(sealed.written <= sealed.files);
    sealed
}

async fn turn(subject: &impl Subject, placed: &Placed, number: u64, fence: u64) -> Result<(), StepError> {
    let live = Live { release: ReleaseNumber(number), endpoint: placed.endpoint.clone() };
    subject.traffic().turn(&permit(fence), subject.target(), Some(&live)).await
}

async fn remove(subject: &impl Subject, number: u64, how: Removal) -> Result<(), StepError> {
    subject.deployer().remove(&permit(1), subject.target(), ReleaseNumber(number), how).await
}

async fn serving(subject: &impl Subject) -> Option<u64> {
    subject.traffic().serving(subject.target()).await.unwrap().map(|live| live.release.0)
}

async fn usable(subject: &impl Subject) -> Vec<u64> {
    let present = subject.deployer().present(subject.target()).await.unwrap();
    assert!(present.is_sorted_by_key(|it| it.release), "lowest number first");
    present.into_iter().filter(|it| it.usable).map(|it| it.release.0).collect()
}

/// A source in memory: commits made up for a test.
#[derive(Default)]
pub struct FakeContents {
    commits: Mutex<BTreeMap<CommitId, Vec<FileEntry>>>,
    contents: Mutex<HashMap<ContentId, Arc<Vec<u8>>>>,
    reads: AtomicU64,
    on_read: Mutex<Option<OnRead>>,
}

type OnRead = Arc<dyn Fn(u64) + Send + Sync>;

impl FakeContents {
    /// Makes a commit of these paths, in any order, and returns release `number` of it, of project
    /// `shop`. The same paths give the same commit.
    pub fn release(&self, number: u64, tree: &[(&[u8], FileKind, &[u8])]) -> Release {
        let mut entries = Vec::with_capacity(tree.len());
        let mut all = Vec::new();
        for (path, kind, content) in tree {
            let id = content_id(content);
            lock(&self.contents).entry(id).or_insert_with(|| Arc::new(content.to_vec()));
            entries.push(FileEntry { path: path.to_vec(), kind: *kind, id });
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        for entry in &entries {
            all.extend_from_slice(format!("{:?} {} ", entry.kind, entry.id).as_bytes());
            all.extend_from_slice(&entry.path);
            all.push(0);
        }
        let commit = CommitId::new(content_id(&all).to_string()).unwrap();
        lock(&self.commits).insert(commit.clone(), entries);
        let revision = Revision {
            commit,
            subject: Untrusted::from(format!("release {number}")),
            author: Untrusted::from("Ada"),
            committed_at: Timestamp::UNIX_EPOCH,
        };
        Release { project: ProjectName::new("shop").unwrap(), number: ReleaseNumber(number), revision }
    }

    /// Returns how many contents were read so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Calls `hook` before every read, with the number of reads since.
    pub fn on_read(&self, hook: impl Fn(u64) + Send + Sync + 'static) {
        let start = self.reads();
        *lock(&self.on_read) = Some(Arc::new(move |reads| hook(reads.saturating_sub(start))));
    }

    /// Loses a content, as a damaged repository does.
    pub fn lose(&self, content: &[u8]) {
        lock(&self.contents).remove(&content_id(content));
    }

    fn get(&self, id: &ContentId) -> Result<Arc<Vec<u8>>, StepError> {
        lock(&self.contents).get(id).cloned().ok_or_else(|| Lost(*id).into())
    }
}

impl fmt::Debug for FakeContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeContents").field("commits", &lock(&self.commits).len()).finish_non_exhaustive()
    }
}

/// Returns the id git gives this content.
pub fn content_id(content: &[u8]) -> ContentId {
    let mut hash = hasher(Kind::Sha1);
    hash.update(format!("blob {}\0", content.len()).as_bytes());
    hash.update(content);
    ContentId::from_bytes(hash.try_finalize().unwrap().as_slice()).unwrap()
}

/// A content the fake does not have.
#[derive(Debug, thiserror::Error)]
#[error("content {0} is not there")]
struct Lost(ContentId);

impl Diagnose for Lost {
    fn code(&self) -> &'static str {
        "fake/lost"
    }
}

impl Contents for FakeContents {
    fn list(&self, release: &Release, _: &CancellationToken) -> Result<Vec<FileEntry>, StepError> {
        let commits = lock(&self.commits);
        Ok(commits.get(&release.revision.commit).cloned().ok_or(Lost(content_id(b"")))?)
    }

    fn reader(&self, _: &Release) -> Result<Box<dyn ContentReader + '_>, StepError> {
        Ok(Box::new(FakeReader(self)))
    }
}

struct FakeReader<'a>(&'a FakeContents);

impl ContentReader for FakeReader<'_> {
    fn read(&mut self, id: &ContentId, out: &mut Vec<u8>) -> Result<(), StepError> {
        let reads = self.0.reads.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let hook = lock(&self.0.on_read).clone();
        if let Some(hook) = hook {
            hook(reads);
        }
        out.clear();
        out.extend_from_slice(&self.0.get(id)?);
        Ok(())
    }

    fn size(&mut self, id: &ContentId) -> Result<u64, StepError> {
        Ok(self.0.get(id)?.len() as u64)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
