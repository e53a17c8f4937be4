//! A store that fails once, at a chosen call: what a full disk or a lost connection does to whoever
//! uses it. Or one whose caller dies there.

use std::{
    future::pending,
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Actor, CommitId, DeploymentId, Durability, Entry, Fence, ProjectName, ReleaseNumber, Seq};
use eeveon_store::{
    Acquired, AutomaticOff, CancelRequest, Delivery, Deployment, DeploymentFilter, Followed, Holder,
    KnownRelease, Lease, Letter, LetterEnd, LetterFilter, NewLetter, Owner, Position, Quarantined, Store,
    StoreError,
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// What is lost when a call fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loses {
    /// All of it: nothing is done.
    Call,
    /// The answer: it is done, and nobody learns of it.
    Answer,
}

/// A store that passes every call on to another one, except that one call fails,
/// or some in a row.
#[derive(Debug)]
pub struct FailingStore {
    inner: Arc<dyn Store>,
    at: u64,
    /// How many calls from that one on fail.
    calls_lost: u64,
    loses: Loses,
    calls: AtomicU64,
    struck: Mutex<Option<&'static str>>,
    /// For a caller that dies: fires when it does.
    deadly: Option<CancellationToken>,
}

impl FailingStore {
    /// Makes a store in front of `inner` whose call number `at` fails, the first one being 1.
    pub fn new(inner: Arc<dyn Store>, at: u64, loses: Loses) -> Self {
        Self {
            inner,
            at,
            calls_lost: 1,
            loses,
            calls: AtomicU64::new(0),
            struck: Mutex::default(),
            deadly: None,
        }
    }

    /// Makes a store in front of `inner` whose caller dies at call number `at`: neither that call nor
    /// a later one ever returns. Whoever plays the caller waits for [`Self::died`] beside it, and drops
    /// it then.
    pub fn deadly(inner: Arc<dyn Store>, at: u64, loses: Loses) -> Self {
        Self { deadly: Some(CancellationToken::new()), ..Self::new(inner, at, loses) }
    }

    /// Lets `calls` fail in a row, and not only one.
    #[must_use]
    pub fn lasting(self, calls: u64) -> Self {
        Self { calls_lost: calls, ..self }
    }

    /// Waits until the caller of a [`Self::deadly`] store has died.
    pub async fn died(&self) {
        match &self.deadly {
            Some(deadly) => deadly.cancelled().await,
            None => pending().await,
        }
    }

    /// Returns the name of the method whose call failed, once it has.
    pub fn struck(&self) -> Option<&'static str> {
        *self.struck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call. Returns what it loses, if it is the one that fails.
    fn count(&self, method: &'static str) -> Option<Loses> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst).saturating_add(1);
        if (self.at..self.at.saturating_add(self.calls_lost)).contains(&call) {
            *self.struck.lock().unwrap_or_else(PoisonError::into_inner) = Some(method);
            return Some(self.loses);
        }
        // The dead ask for nothing more.
        (self.deadly.is_some() && call > self.at).then_some(Loses::Call)
    }

    async fn fail<T>(&self, method: &str) -> Result<T, StoreError> {
        if let Some(deadly) = &self.deadly {
            deadly.cancel();
            pending::<()>().await;
        }
        let source = io::Error::other(format!("`{method}` was told to fail"));
        Err(StoreError::Io { path: PathBuf::from("/store"), source: Box::new(source) })
    }
}

macro_rules! every_call_counts {
    ($(async fn $method:ident(&$self:ident $(, $name:ident: $type:ty)* $(,)?) -> Result<$answer:ty, StoreError>;)*) => {
        /// The methods of [`Store`] that a [`FailingStore`] can let fail.
        pub const FALLIBLE: &[&str] = &[$(stringify!($method)),*];

        #[async_trait]
        impl Store for FailingStore {
            $(async fn $method(&$self $(, $name: $type)*) -> Result<$answer, StoreError> {
                let lost = $self.count(stringify!($method));
                if lost == Some(Loses::Call) {
                    return $self.fail(stringify!($method)).await;
                }
                let answer = $self.inner.$method($($name),*).await?;
                match lost {
                    Some(_) => $self.fail(stringify!($method)).await,
                    None => Ok(answer),
                }
            })*
        }
    };
}

every_call_counts! {
    async fn reserve_deployment(&self) -> Result<DeploymentId, StoreError>;
    async fn reserve_release(
        &self,
        project: &ProjectName,
        above: ReleaseNumber,
    ) -> Result<ReleaseNumber, StoreError>;
    async fn append(
        &self,
        entry: &Entry,
        durability: Durability,
        lease: Option<&Lease>,
    ) -> Result<(), StoreError>;
    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, StoreError>;
    async fn follow(&self, after: Position, limit: u32) -> Result<Vec<Followed>, StoreError>;
    async fn newest_position(&self) -> Result<Position, StoreError>;
    async fn cursor(&self, follower: &str) -> Result<Option<Position>, StoreError>;
    async fn post(&self, follower: &str, upto: Position, letters: &[NewLetter]) -> Result<bool, StoreError>;
    async fn add_letters(&self, follower: &str, letters: &[NewLetter]) -> Result<(), StoreError>;
    async fn letters(&self, filter: &LetterFilter) -> Result<Vec<Letter>, StoreError>;
    async fn replace(&self, letter: u64, by: &[NewLetter]) -> Result<bool, StoreError>;
    async fn next_due(&self, follower: &str) -> Result<Option<Timestamp>, StoreError>;
    async fn begin_sending(&self, letter: u64) -> Result<Option<Letter>, StoreError>;
    async fn settle(&self, letter: u64, end: LetterEnd) -> Result<bool, StoreError>;
    async fn revive(&self, letter: u64, now: Timestamp) -> Result<bool, StoreError>;
    async fn forget(&self, letter: u64) -> Result<bool, StoreError>;
    async fn purge_dead(&self, before: Timestamp) -> Result<u64, StoreError>;
    async fn automatic(&self, project: &ProjectName) -> Result<Option<AutomaticOff>, StoreError>;
    async fn set_automatic(
        &self,
        project: &ProjectName,
        off: Option<AutomaticOff>,
    ) -> Result<(), StoreError>;
    async fn state(&self, key: &str) -> Result<Option<String>, StoreError>;
    async fn save_states(
        &self,
        states: &[(String, Option<String>)],
        durability: Durability,
    ) -> Result<(), StoreError>;
    async fn take_delivery(
        &self,
        delivery: &Delivery,
        states: &[(String, Option<String>)],
    ) -> Result<bool, StoreError>;
    async fn deliveries(&self, project: &ProjectName, limit: u32) -> Result<Vec<Delivery>, StoreError>;
    async fn delivery(
        &self,
        project: &ProjectName,
        provider: &str,
        id: &str,
    ) -> Result<Option<Delivery>, StoreError>;
    async fn forget_project(&self, project: &ProjectName) -> Result<(), StoreError>;
    async fn deployment(&self, id: DeploymentId) -> Result<Option<Deployment>, StoreError>;
    async fn deployments(&self, filter: &DeploymentFilter) -> Result<Vec<Deployment>, StoreError>;
    async fn releases(&self, project: &ProjectName) -> Result<Vec<KnownRelease>, StoreError>;
    async fn pin(
        &self,
        project: &ProjectName,
        release: ReleaseNumber,
        pinned: bool,
    ) -> Result<bool, StoreError>;
    async fn acquire(
        &self,
        name: &str,
        owner: &Owner,
        ttl: Duration,
        dead: Option<Fence>,
        above: Fence,
    ) -> Result<Acquired, StoreError>;
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError>;
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
    async fn holder(&self, name: &str) -> Result<Option<Holder>, StoreError>;
    async fn quarantine(&self, project: &ProjectName, what: &Quarantined) -> Result<(), StoreError>;
    async fn lift(&self, project: &ProjectName, commit: &CommitId) -> Result<bool, StoreError>;
    async fn quarantined(&self, project: &ProjectName) -> Result<Vec<Quarantined>, StoreError>;
    async fn request_cancel(
        &self,
        deployment: DeploymentId,
        by: &Actor,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<(), StoreError>;
    async fn cancel_requested(&self, deployment: DeploymentId) -> Result<Option<CancelRequest>, StoreError>;
    async fn verify(&self) -> Result<Vec<String>, StoreError>;
    async fn vacuum(&self) -> Result<u64, StoreError>;
}
