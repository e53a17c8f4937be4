//! The words of the queue: what is asked of it, what happens to it, what it decides.

use std::fmt;

use eeveon_core::{Actor, CommitId, ProjectName, ReleaseNumber, Retry, Trigger, Untrusted};
use serde::{Deserialize, Serialize};

/// Names one request. Counts up, never used twice by one queue.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A moment, told from others by a counter: clocks can be put back. See [`crate::Queue::seen_now`].
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seen(pub u64);

/// What is to be deployed.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Want {
    /// The newest commit of a branch. Requests for the same branch are brought together.
    Newest {
        /// The branch.
        branch: String,
        /// The newest commit as the asker saw it; none when it did not look.
        commit: Option<CommitId>,
        /// When that was true: taken when a look began or a webhook arrived. Of two commits of a branch
        /// the one seen later counts as the newer one. As webhooks can overtake each other, whoever starts
        /// the deployment looks once more.
        seen: Seen,
    },
    /// This commit and no other.
    Commit {
        /// Which.
        commit: CommitId,
        /// Whether it may be older than what serves.
        allow_older: bool,
        /// Whether to make a release even when nothing is new.
        #[serde(default)]
        again: bool,
        /// Whether the release changes something that going back does not change back.
        #[serde(default)]
        irreversible: bool,
    },
    /// An older release.
    Rollback {
        /// Which; none: the one before the live one.
        to: Option<ReleaseNumber>,
    },
}

impl Want {
    /// Wants one commit, if it is new and not older than what serves.
    pub fn commit_itself(commit: CommitId) -> Self {
        Self::Commit { commit, allow_older: false, again: false, irreversible: false }
    }

    /// Returns the commit, as far as it is known.
    pub fn commit(&self) -> Option<&CommitId> {
        match self {
            Self::Newest { commit, .. } => commit.as_ref(),
            Self::Commit { commit, .. } => Some(commit),
            Self::Rollback { .. } => None,
        }
    }

    /// Tells whether it goes before others.
    pub fn is_rollback(&self) -> bool {
        matches!(self, Self::Rollback { .. })
    }
}

/// A request for a deployment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Of which project.
    pub project: ProjectName,
    /// Of what.
    pub want: Want,
    /// Who asks.
    pub actor: Actor,
    /// What set it off.
    pub trigger: Trigger,
    /// Why, in the asker's words.
    pub reason: Option<Untrusted>,
    /// Whether windows and freezes do not count.
    #[serde(default)]
    pub outside_window: bool,
    /// Whether others asked for the same, and count on it.
    #[serde(default)]
    pub shared: bool,
}

impl Ask {
    /// Tells whether it starts also while the windows are shut.
    pub fn is_exempt(&self) -> bool {
        self.outside_window || self.want.is_rollback()
    }

    /// Tells whether nobody asked for it at that moment: something set it off.
    pub fn is_automatic(&self) -> bool {
        self.trigger != Trigger::Manual
    }

    /// Lets it have the rights of another one as well that it does the work of, whatever is held later.
    pub(crate) fn join(&mut self, other: &Self) {
        self.outside_window |= other.outside_window;
        self.shared = true;
        if self.is_automatic() && !other.is_automatic() {
            (self.trigger, self.actor, self.reason) =
                (other.trigger, other.actor.clone(), other.reason.clone());
        }
    }

    /// Tells whether it may start under `held`.
    pub(crate) fn may_start(&self, held: Held) -> bool {
        !held.paused && (!held.shut || self.is_exempt()) && (!held.stopped || !self.is_automatic())
    }
}

/// What may not start in a project now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Held {
    /// Its windows are shut: nothing may, except what is exempt.
    pub shut: bool,
    /// It does not deploy by itself: only what people ask for may.
    pub stopped: bool,
    /// Something could not begin, and nothing may before that is tried again.
    pub paused: bool,
}

/// How much the queue takes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Deployments that run at once.
    pub running: usize,
    /// Requests that wait, of all projects together.
    pub waiting: usize,
    /// Requests that wait, of one project.
    pub waiting_per_project: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running: 4, waiting: 1000, waiting_per_project: 50 }
    }
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Somebody wants a deployment.
    Asked(Ask),
    /// A deployment has ended, however it did.
    Ended(RequestId),
    /// Whoever carried out a deployment died before its end.
    Died(RequestId),
    /// Somebody does not want a deployment any more.
    Cancel(RequestId),
    /// A deployment could not begin now. It waits again, as its project's next, and has not died.
    Deferred(RequestId),
    /// A project's deployments that were set aside may be asked for again.
    Lift(ProjectName),
    /// So much of a project may not start from now on. Not saved: after a restart it has to be said again,
    /// before [`Event::Restarted`].
    Hold {
        /// Which.
        project: ProjectName,
        /// How much.
        held: Held,
    },
    /// A project is no more: nothing of it waits any longer. What runs goes on to its end.
    Gone(ProjectName),
    /// Nothing is to be started any more, as the process is about to end. Requests are still taken, and
    /// carried out after the next start.
    Drain,
    /// The process began anew, with the queue as it was saved.
    Restarted,
}

/// Something to be done. All of it is done only after the queue has been saved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Tell who asked.
    Answer {
        /// The number the request got.
        request: RequestId,
        /// What becomes of it.
        answer: Answer,
    },
    /// Carry out a deployment.
    Start(Start),
    /// Stop a deployment that runs. It still ends.
    Stop(RequestId),
    /// Tell who asked earlier, and whoever was brought together with it.
    Told {
        /// The request that is over.
        request: RequestId,
        /// How.
        fate: Fate,
    },
    /// Nothing with this number waits or runs.
    Unknown(RequestId),
    /// Nothing runs any more, and nothing will.
    Drained,
}

/// A deployment to carry out.
///
/// Whatever an earlier attempt at this project left is finished or taken back first. When `deaths` is not
/// 0 that attempt may have been this very deployment: if finishing it succeeds, it is not done again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Start {
    /// The request it is for; to be named when it ends.
    pub request: RequestId,
    /// What was asked for.
    pub ask: Ask,
    /// How often whoever carried it out has died.
    pub deaths: u8,
}

/// What becomes of a request.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It waits.
    Queued {
        /// Its place in line, from 1. Only rollbacks can move it back.
        position: usize,
    },
    /// Another request that waits or runs already does what this one wants, or something newer.
    Coalesced {
        /// That request.
        into: RequestId,
        /// What it deploys.
        commit: Option<CommitId>,
    },
    /// It is newer than a request that waited, and took its place.
    Replaced {
        /// That request.
        earlier: RequestId,
        /// Its place in line, from 1.
        position: usize,
    },
    /// It is not taken.
    Refused(Refusal),
}

/// How a request that was taken is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its deployment ended; the journal says how.
    Ended,
    /// A newer request does it.
    Replaced {
        /// That request.
        by: RequestId,
    },
    /// Somebody cancelled it.
    Cancelled,
    /// Whoever carried it out died so often that it is not tried again.
    SetAside {
        /// How often.
        deaths: u8,
    },
}

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Too many requests wait.
    #[error("{waiting} requests wait already")]
    Full {
        /// How many.
        waiting: usize,
    },
    /// Too many requests of this project wait.
    #[error("{waiting} requests of this project wait already")]
    ProjectFull {
        /// How many.
        waiting: usize,
    },
    /// The same deployment was set aside.
    #[error("request {request} for the same was set aside, because it ended in a crash each time")]
    SetAside {
        /// The request that was set aside.
        request: RequestId,
    },
    /// The name of the branch or the reason is too long.
    #[error("the branch or the reason has more than {limit} bytes")]
    TooLong {
        /// How long they may be.
        limit: usize,
    },
}

impl Refusal {
    pub(crate) fn hint(self) -> &'static str {
        match self {
            Self::Full { .. } | Self::ProjectFull { .. } => {
                "ask again when some of them are done, or cancel some"
            }
            Self::SetAside { .. } => "look at its log, mend the cause and lift it, or push a newer commit",
            Self::TooLong { .. } => "say it in fewer words",
        }
    }

    pub(crate) fn retry(self) -> Retry {
        match self {
            Self::Full { .. } | Self::ProjectFull { .. } => Retry::Later,
            Self::SetAside { .. } | Self::TooLong { .. } => Retry::Never,
        }
    }
}
