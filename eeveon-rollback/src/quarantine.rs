//! Commits that no trigger may deploy: which they are, how they get there, what lifts them.

use std::collections::BTreeSet;

use eeveon_core::{CommitId, Untrusted};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Parents, RollbackError, Verdict, relate};

/// A commit that was put aside.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PutAside {
    /// Which.
    pub commit: CommitId,
    /// Why.
    pub reason: Untrusted,
    /// When.
    pub since: Timestamp,
}

/// Lets `commit` pass unless it is itself put aside; its ancestors and descendants do not matter.
///
/// # Errors
///
/// `rollback/quarantined`.
pub fn admit(commit: &CommitId, put_aside: &[PutAside]) -> Result<(), RollbackError> {
    match put_aside.iter().find(|it| it.commit == *commit) {
        None => Ok(()),
        Some(PutAside { commit, reason, since }) => {
            Err(RollbackError::Quarantined { commit: commit.clone(), reason: reason.clone(), since: *since })
        }
    }
}

/// Which commits a success lifts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lifted {
    /// These are lifted.
    pub commits: Vec<CommitId>,
    /// The history known does not tell about all: of these the parents are to be made known, if
    /// they can be. Until then what is in doubt stays put aside.
    pub needs_more: Vec<CommitId>,
}

/// Finds out which of `put_aside` are lifted when `commit` succeeds: those it descends from, for it
/// holds whatever mends them, and `commit` itself, for a person let it pass.
pub fn lifted_by(
    commit: &CommitId,
    put_aside: &[CommitId],
    parents: &mut dyn FnMut(&CommitId) -> Parents,
) -> Lifted {
    let mut lifted = Lifted::default();
    let mut needs_more = BTreeSet::new();
    for aside in put_aside {
        match relate(commit, aside, parents) {
            Verdict::Same | Verdict::Ahead { .. } => lifted.commits.push(aside.clone()),
            Verdict::Behind | Verdict::Diverged => {}
            Verdict::NeedsMore(boundary) => needs_more.extend(boundary),
        }
    }
    lifted.needs_more = needs_more.into_iter().collect();
    lifted
}

/// Returns what a rollback to `to` puts aside: each commit it leaves, once.
pub fn left_by_rollback<'a>(serving: impl IntoIterator<Item = &'a CommitId>, to: &CommitId) -> Vec<CommitId> {
    let left: BTreeSet<_> = serving.into_iter().filter(|commit| *commit != to).collect();
    left.into_iter().cloned().collect()
}
