//! The journal: the one account of a deployment, appended to and never changed.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Actor, Class, CommitId, DeploymentId, Failure, Live, Plan, ProjectName, Release, StepKey, TargetName,
    Trigger,
};

/// The version of the journal's format that this crate writes and reads. It changes whenever a
/// record's meaning does; golden journals of every released version are in `tests/golden/`.
pub const FORMAT: u32 = 1;

/// The position of an entry in its deployment's journal; the first is zero.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// Returns the position after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whether a deployment brings a new release or an older one back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A new release.
    Deploy,
    /// A release that was deployed before.
    Rollback,
}

/// What was asked for, by whom, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The version of the journal's format, [`FORMAT`].
    pub format: u32,
    /// New or back.
    pub kind: Kind,
    /// What should serve.
    pub release: Release,
    /// What served on each target when the plan was made.
    pub live: Vec<(TargetName, Option<Live>)>,
    /// The commit that served then, if any.
    pub previous: Option<CommitId>,
    /// Who asked.
    pub actor: Actor,
    /// What set it off.
    pub trigger: Trigger,
    /// Why, in the asker's words.
    pub reason: Option<String>,
    /// Digest of the configuration that shapes a release, to tell a change of it from no change.
    pub config: String,
    /// What the outcome does to the quarantine.
    pub quarantine: Quarantining,
    /// Whether the release changes something that going back does not change back, such as a
    /// database's schema.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub irreversible: bool,
    /// What was in force when the release was made, as whoever composed the deployment wrote it, so
    /// that going back to the release can use it again. Holds no secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<Value>,
}

/// What the outcome of a deployment does to the quarantine. Carried out by the store together with
/// the record that ends the deployment, so that no death can come between.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Quarantining {
    /// Put aside when it succeeds: the commits a rollback leaves.
    pub on_success: Vec<CommitId>,
    /// Whether the release's own commit is put aside when it had begun to serve and was taken back.
    pub own_when_reverted: bool,
    /// Lifted when it succeeds: put-aside commits that the release's commit descends from.
    pub lift_on_success: Vec<CommitId>,
}

impl Quarantining {
    /// Returns the commits that `outcome` puts aside, `own` being the release's.
    pub fn put_aside(&self, own: &CommitId, outcome: &Outcome) -> Vec<CommitId> {
        match outcome {
            Outcome::Succeeded => self.on_success.clone(),
            // A fault of the machine says nothing about the commit.
            Outcome::Reverted { failure: Some(failure), served: true }
                if failure.class == Class::Failed && self.own_when_reverted =>
            {
                vec![own.clone()]
            }
            Outcome::Reverted { .. } | Outcome::Refused { .. } => Vec::new(),
        }
    }
}

impl Request {
    /// Returns the project.
    pub fn project(&self) -> &ProjectName {
        &self.release.project
    }
}

/// How a deployment ended.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Outcome {
    /// The release serves.
    Succeeded,
    /// Everything was taken back; what served before serves.
    Reverted {
        /// What made us turn back; absent if somebody asked for it.
        failure: Option<Failure>,
        /// Whether the release may have served for a while.
        served: bool,
    },
    /// A gate said no; nothing was touched.
    Refused {
        /// Which, and why.
        failure: Failure,
    },
}

impl Outcome {
    /// Returns the word used in lists and JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Reverted { failure: None, .. } => "cancelled",
            Self::Reverted { served: true, .. } => "rolled_back",
            Self::Reverted { .. } => "failed",
            Self::Refused { .. } => "refused",
        }
    }

    /// Returns what went wrong, if anything did.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Succeeded => None,
            Self::Reverted { failure, .. } => failure.as_ref(),
            Self::Refused { failure } => Some(failure),
        }
    }
}

/// One thing that happened.
#[expect(missing_docs, reason = "each variant's sentence names its fields")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Record {
    /// The deployment was accepted, with this plan.
    Opened { request: Box<Request>, plan: Plan },
    /// A step began.
    Started { step: StepKey, attempt: u32 },
    /// A step did its work.
    Finished { step: StepKey, output: Value },
    /// A step gave up.
    Failed { step: StepKey, failure: Failure },
    /// Somebody, or the engine after a death, asked to stop and go back.
    Cancelled { by: Actor, reason: Option<String> },
    /// A step is being taken back.
    UndoStarted { step: StepKey, attempt: u32 },
    /// A step was taken back.
    UndoFinished { step: StepKey },
    /// The engine cannot go on alone.
    Parked { step: StepKey, failure: Option<Failure> },
    /// A person looked, and told the engine to go on.
    Unparked { by: Actor, reason: Option<String> },
    /// Nothing more will happen.
    Closed { outcome: Outcome },
}

/// A record, its place and its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The deployment it belongs to.
    pub deployment: DeploymentId,
    /// Its position.
    pub seq: Seq,
    /// When, by the clock of the controller; never earlier than the entry before.
    pub at: Timestamp,
    /// What happened.
    pub record: Record,
}

/// What a record must outlive before the engine goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// The death of this process. Enough while nothing outside the new release was touched.
    Process,
    /// The loss of power, together with every record before it.
    Power,
}

/// The journal could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another controller took over: this one lost its lease, or the position is taken.
    #[error("another process has taken over deployment {deployment}: entry {at} is not ours to write")]
    Conflict {
        /// Which deployment.
        deployment: DeploymentId,
        /// The contested position.
        at: Seq,
    },
    /// An entry is there, but this version cannot read it.
    #[error("entry {at} of deployment {deployment} is not readable by this version")]
    Unreadable {
        /// Which deployment.
        deployment: DeploymentId,
        /// Which entry.
        at: Seq,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The storage failed.
    #[error("the journal is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The only storage the engine needs.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Records `entry` at exactly its position, or changes nothing. Returns once it would outlive
    /// what `durability` says.
    ///
    /// # Errors
    ///
    /// `Conflict` when the position is taken or the caller's lease was lost.
    async fn append(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError>;

    /// Reads the entries of one deployment from `from` on, in order.
    ///
    /// # Errors
    ///
    /// `Unreadable` for an entry of another version; nothing is skipped.
    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, JournalError>;
}

/// Where the engine gets the time from.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the present time.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}
