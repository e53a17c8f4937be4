//! What waits for one project, and which requests do the same.

use eeveon_core::ProjectName;
use serde::{Deserialize, Serialize};

use crate::words::{Ask, Held, RequestId, Want};

/// A request that waits.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Waiting {
    /// Its number.
    pub request: RequestId,
    /// What was asked for.
    pub ask: Ask,
    /// How often whoever carried it out has died.
    pub deaths: u8,
}

/// The requests of one project that wait, the next one first.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lane {
    pub(crate) project: ProjectName,
    pub(crate) waiting: Vec<Waiting>,
}

impl Lane {
    pub(crate) fn new(project: ProjectName) -> Self {
        Self { project, waiting: Vec::new() }
    }

    /// Tells whether a rollback is next.
    pub(crate) fn is_urgent(&self) -> bool {
        self.waiting.first().is_some_and(|first| first.ask.want.is_rollback())
    }

    /// Puts a new request in line: a rollback first, all others last.
    pub(crate) fn push(&mut self, waiting: Waiting) {
        match waiting.ask.want.is_rollback() {
            true => self.waiting.insert(0, waiting),
            false => self.waiting.push(waiting),
        }
    }

    /// Puts a request that was begun before back in line: only a rollback goes before it.
    pub(crate) fn put_back(&mut self, waiting: Waiting) {
        let place = usize::from(self.is_urgent());
        self.waiting.insert(place, waiting);
    }

    /// Returns the place of the next request that may start under `held`.
    pub(crate) fn next(&self, held: Held) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.ask.may_start(held))
    }

    /// Takes the next request that may start under `held`.
    pub(crate) fn take(&mut self, held: Held) -> Option<Waiting> {
        self.next(held).map(|place| self.waiting.remove(place))
    }

    /// Finds the request that cannot wait beside one for `want`.
    pub(crate) fn rival(&mut self, want: &Want) -> Option<&mut Waiting> {
        self.waiting.iter_mut().find(|waiting| same_line(&waiting.ask.want, want))
    }
}

/// Tells whether only one of two wants may wait: two of one branch, two rollbacks, or the same commit.
fn same_line(one: &Want, other: &Want) -> bool {
    match (one, other) {
        (Want::Newest { branch: one, .. }, Want::Newest { branch: other, .. }) => one == other,
        (Want::Rollback { .. }, Want::Rollback { .. }) => true,
        (Want::Commit { .. }, Want::Commit { .. }) => one == other,
        _ => false,
    }
}

/// Tells whether a request that waits does all that `new` wants.
pub(crate) fn waiting_does(waiting: &Want, new: &Want) -> bool {
    match (waiting, new) {
        (
            Want::Newest { branch, commit, seen },
            Want::Newest { branch: new_branch, commit: new_commit, seen: new_seen },
        ) => {
            // One that names no commit takes the newest there is when it starts.
            branch == new_branch
                && (commit.is_none() || commit == new_commit || new_seen < seen && new_commit.is_some())
        }
        _ => waiting == new,
    }
}

/// Tells whether a deployment that runs does all that `new` wants.
pub(crate) fn running_does(running: &Want, new: &Want) -> bool {
    match (running, new) {
        (
            Want::Newest { branch, commit: Some(commit), .. },
            Want::Newest { branch: new_branch, commit: Some(new_commit), .. },
        ) => branch == new_branch && commit == new_commit,
        // What it found when it started is not known here.
        (Want::Newest { .. }, _) => false,
        _ => running == new,
    }
}

/// Tells whether two wants are for exactly the same. Who names no commit may well mean a newer one.
pub(crate) fn same(one: &Want, other: &Want) -> bool {
    match (one, other) {
        (
            Want::Newest { branch, commit, .. },
            Want::Newest { branch: other_branch, commit: other_commit, .. },
        ) => branch == other_branch && commit.is_some() && commit == other_commit,
        _ => one == other,
    }
}

/// Notes that `waiting`, which does what `new` wants, was seen to be the newest at a later time, too.
pub(crate) fn refresh(waiting: &mut Want, new: &Want) {
    if let (Want::Newest { commit, seen, .. }, Want::Newest { commit: new_commit, seen: new_seen, .. }) =
        (waiting, new)
        && commit == new_commit
    {
        *seen = (*seen).max(*new_seen);
    }
}
