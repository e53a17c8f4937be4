//! What a store hands out: plain data.

use std::fmt;

use eeveon_core::{
    Actor, CommitId, DeploymentId, Failure, Fence, Kind, Outcome, ProjectName, Release, ReleaseNumber,
    StepKey, Trigger, Untrusted,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Owner;

/// A lease that was granted. Whoever has it shows its fence to everything it changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// What it is for, such as `project/shop`.
    pub name: String,
    /// Higher than that of every earlier lease of the name.
    pub fence: Fence,
}

/// What came of asking for a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Acquired {
    /// It is ours.
    Granted(Lease),
    /// Somebody has it.
    Held(Holder),
}

/// Who holds a lease.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Who.
    pub owner: Owner,
    /// The number of its lease.
    pub fence: Fence,
    /// Since when, by the wall clock: for people only.
    pub since: Timestamp,
    /// Milliseconds until it ends unless renewed; zero when its time has run out.
    pub remaining_ms: u64,
}

/// A deployment, summed up from its journal. Its JSON form is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which.
    pub id: DeploymentId,
    /// New or back.
    pub kind: Kind,
    /// What it is to make serve.
    pub release: Release,
    /// The commit that served when it began.
    pub previous: Option<CommitId>,
    /// Who asked.
    pub actor: Actor,
    /// What set it off.
    pub trigger: Trigger,
    /// Why.
    pub reason: Option<String>,
    /// When it was opened.
    pub started_at: Timestamp,
    /// When it was closed.
    pub finished_at: Option<Timestamp>,
    /// How it ended; absent while it is open.
    pub outcome: Option<Outcome>,
    /// The step that waits for a person, and why it does.
    pub parked: Option<(StepKey, Option<Failure>)>,
    /// The health checks that came to an end, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Checked>,
    /// The steps that were taken back, in that order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<StepKey>,
}

/// How a health check went. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// Its step, such as `post/web`.
    pub step: StepKey,
    /// Whether it passed.
    pub passed: bool,
    /// How often it looked.
    pub looks: u64,
}

/// A place in the order in which the entries of all deployments were recorded. It grows with every
/// entry and is never given to another one; zero is before the first. Those that an older version
/// recorded without a position are in the order of their times.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which deployments to list.
#[derive(Clone, Debug, Default)]
pub struct DeploymentFilter {
    /// Only of this project.
    pub project: Option<ProjectName>,
    /// Only those not closed yet.
    pub open: bool,
    /// At most so many; zero for all.
    pub limit: u64,
}

/// How far a release ever came.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseStatus {
    /// Its deployment is open.
    Pending,
    /// A deployment of it succeeded.
    Succeeded,
    /// Its deployment was taken back or refused.
    Failed,
}

/// A release, as the journals tell of it. Whether it still lies on a target, the target knows.
/// Its JSON form is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KnownRelease {
    /// Number and revision.
    pub release: Release,
    /// How far it came. Once succeeded it stays so, whatever later deployments of it did.
    pub status: ReleaseStatus,
    /// The deployment that made it.
    pub deployment: DeploymentId,
    /// Digest of the configuration it was made with.
    pub config: String,
    /// When its deployment was opened.
    pub created_at: Timestamp,
    /// Whether it is kept from being removed.
    pub pinned: bool,
    /// Whether it changed something that going back does not change back.
    #[serde(default)]
    pub irreversible: bool,
}

impl KnownRelease {
    /// Returns the release's number.
    pub fn number(&self) -> ReleaseNumber {
        self.release.number
    }
}

/// A commit put aside. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// Which.
    pub commit: CommitId,
    /// Why, for people.
    pub reason: Untrusted,
    /// The deployment that put it aside, unless a person did.
    pub deployment: Option<DeploymentId>,
    /// Who.
    pub by: Actor,
    /// When.
    pub at: Timestamp,
}

/// A request to stop a deployment. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CancelRequest {
    /// Who asked.
    pub by: Actor,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// Automatic deploys of a project were switched off. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AutomaticOff {
    /// Who did.
    pub by: Actor,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Timestamp,
}
