//! The courier: follows the journal by a stored cursor, writes a letter for everybody who wants to be
//! told, and delivers. A follower like any other; no deployment waits for it.
//!
//! Nothing is lost and nothing is sent more than twice, wherever a process dies: a letter is posted
//! in one transaction with the cursor, is noted as being sent before it leaves, and is removed once
//! it arrived. One that was being sent when its process died may have arrived, so it is sent once
//! more; when that process dies too, it is given up with that reason, for a person to look at.

mod deliver;
mod post;
mod rest;
mod trouble;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Clock, ProjectName, Untrusted};
use eeveon_notify::{Event, Notifier, Patience, Route};
use eeveon_store::{Letter, LetterFilter, LetterState, Owner, Store, StoreError};
use jiff::Timestamp;
use rest::Lacking;
use trouble::Troubles;
pub use trouble::{Doing, Trouble};

/// The name the courier follows under.
pub const FOLLOWER: &str = "notify";

/// How long a command delivers before it ends. The guide's chapter on notifications tells it.
pub const COMMAND_DELIVERS: Duration = Duration::from_secs(10);

/// The channel of letters that were written while nobody could say whom to tell.
pub const UNKNOWN: &str = "(unknown)";

/// Somebody who wants to be told.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What of.
    pub route: Route,
    /// How.
    pub notifier: Arc<dyn Notifier>,
}

/// Whom a project tells, and what of itself.
#[derive(Clone, Debug, Default)]
pub struct Addressees {
    /// The branch that is deployed.
    pub branch: Untrusted,
    /// Where to read more.
    pub link: Option<String>,
    /// Everybody, each under a name of their own.
    pub channels: Vec<Channel>,
}

/// Knows whom each project tells.
#[async_trait]
pub trait AddressBook: fmt::Debug + Send + Sync {
    /// Returns whom `project` tells now; `None` when there is no such project any more.
    ///
    /// # Errors
    ///
    /// Why nobody can say, for people.
    async fn look_up(&self, project: &ProjectName) -> Result<Option<Addressees>, String>;
}

/// What came of a round.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// Messages that arrived.
    pub arrived: u32,
    /// Messages that did not arrive and are tried again, with the channel and why.
    pub delayed: Vec<(ProjectName, String, String)>,
    /// Messages that were given up, with the channel and why.
    pub dead: Vec<(ProjectName, String, String)>,
    /// Messages that were not tried and wait for another one, or for their channel.
    pub waiting: Vec<Waiting>,
}

/// Messages to one channel that were not tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// What they are about.
    pub project: ProjectName,
    /// Where they go.
    pub channel: String,
    /// How many they are.
    pub count: usize,
    /// For what.
    pub what_for: WaitsFor,
}

/// What messages wait for that were not tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WaitsFor {
    /// A message before them, which did not arrive.
    Another,
    /// The end of the time for which their channel is left alone.
    Until(Timestamp),
    /// Another process, which is sending to their channel: what it is, for people.
    Process(String),
}

impl Round {
    fn add(&mut self, other: Self) {
        self.arrived = self.arrived.saturating_add(other.arrived);
        self.delayed.extend(other.delayed);
        self.dead.extend(other.dead);
        self.waiting.extend(other.waiting);
    }
}

/// Follows the journal and delivers.
#[derive(Clone, Debug)]
pub struct Courier {
    store: Arc<dyn Store>,
    book: Arc<dyn AddressBook>,
    clock: Arc<dyn Clock>,
    me: Owner,
    patience: Patience,
    /// What each channel was told last, as long as this process lives.
    told: Arc<Mutex<ToldBefore>>,
    /// What this process lacks the secret of.
    lacking: Arc<Mutex<Lacking>>,
    /// What keeps projects from being deployed, as long as this process lives.
    troubles: Arc<Mutex<Troubles>>,
}

/// The newest events each channel of each project was told of.
type ToldBefore = BTreeMap<(ProjectName, String), Vec<Event>>;

impl Courier {
    /// Makes a courier that works as the process `me`.
    pub fn new(store: Arc<dyn Store>, book: Arc<dyn AddressBook>, clock: Arc<dyn Clock>, me: Owner) -> Self {
        Self {
            store,
            book,
            clock,
            me,
            patience: Patience::default(),
            told: Arc::default(),
            lacking: Arc::default(),
            troubles: Arc::default(),
        }
    }

    /// Replaces how patiently a message is tried again.
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Takes note of where the journal ends, the first time ever: what was before is nobody's news.
    /// To be called before anything new is recorded.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn begin(&self) -> Result<(), StoreError> {
        if self.store.cursor(FOLLOWER).await?.is_none() {
            let end = self.store.newest_position().await?;
            self.store.post(FOLLOWER, end, &[]).await?;
        }
        Ok(())
    }

    /// Tells whether there is anything to do now.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn has_work(&self) -> Result<bool, StoreError> {
        let come = self.store.cursor(FOLLOWER).await?.unwrap_or_default();
        if self.store.newest_position().await? > come {
            return Ok(true);
        }
        if self.store.next_due(FOLLOWER).await?.is_some_and(|due| due <= self.clock.now()) {
            return Ok(true);
        }
        // One that is being sent may be left by a process that died; whoever holds its channel knows.
        let sending = Some(LetterState::Sending);
        let sending = LetterFilter {
            follower: FOLLOWER.to_owned(),
            state: sending,
            limit: 1,
            ..LetterFilter::default()
        };
        Ok(!self.store.letters(&sending).await?.is_empty())
    }
}

fn read(letter: &Letter) -> Option<Event> {
    let event: Event = serde_json::from_str(&letter.body).ok()?;
    (event.format == eeveon_notify::FORMAT).then_some(event)
}
