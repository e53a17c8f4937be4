//! Which of two commits is the older one. Told from parents alone: exact, or not at all. Dates lie,
//! so they are never asked.

use std::collections::{HashMap, HashSet, VecDeque};

use eeveon_core::CommitId;
use serde::{Deserialize, Serialize};

use crate::RollbackError;

/// What is known about a commit's parents.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parents {
    /// All of them; none for a root.
    Known(Vec<CommitId>),
    /// Nothing: the history is shallow here, or the commit is missing.
    Boundary,
}

/// How a candidate relates to the commit that serves.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They are one commit.
    Same,
    /// The candidate descends from what serves.
    Ahead {
        /// How many commits it has that what serves has not; absent where that is not certain.
        commits: Option<usize>,
    },
    /// The candidate is an ancestor of what serves.
    Behind,
    /// Neither descends from the other.
    Diverged,
    /// The history known so far does not tell. Of these commits the parents are to be made known, if
    /// they can be.
    NeedsMore(Vec<CommitId>),
}

/// Counting is for people only: it goes no further than this many commits beyond the answer.
const COUNTED: usize = 10_000;
/// And it does without an answer where more commits than this are left unseen.
const EDGE: usize = 16;

/// Finds out how `candidate` relates to `live`, asking for as few parents as the answer needs.
///
/// Both histories are walked at once, breadth first. A commit known to belong to both sides can lead
/// to neither tip, since no commit is its own ancestor; so the walk ends as soon as every commit
/// left to look at belongs to both, which is where two histories meet, not where they begin.
pub fn relate(
    candidate: &CommitId,
    live: &CommitId,
    parents: &mut dyn FnMut(&CommitId) -> Parents,
) -> Verdict {
    if candidate == live {
        return Verdict::Same;
    }
    let mut walk = Walk::default();
    walk.reach(candidate, Sides { candidate: true, live: false });
    walk.reach(live, Sides { candidate: false, live: true });
    loop {
        if walk.sides(live).candidate {
            return Verdict::Ahead { commits: walk.count_ahead(parents) };
        }
        if walk.sides(candidate).live {
            return Verdict::Behind;
        }
        if walk.open == 0 {
            return Verdict::Diverged;
        }
        if !walk.step(parents) {
            let mut boundary: Vec<_> = walk.unseen.into_keys().collect();
            boundary.sort();
            return Verdict::NeedsMore(boundary);
        }
    }
}

/// Lets the candidate pass unless it is older than what serves.
///
/// # Errors
///
/// `rollback/older-commit`, or `rollback/order-unknown` when the history known does not tell.
pub fn admit(
    candidate: &CommitId,
    live: &CommitId,
    verdict: &Verdict,
    allow_older: bool,
) -> Result<(), RollbackError> {
    let (candidate, live) = (candidate.clone(), live.clone());
    match verdict {
        _ if allow_older => Ok(()),
        Verdict::Same | Verdict::Ahead { .. } | Verdict::Diverged => Ok(()),
        Verdict::Behind => Err(RollbackError::OlderCommit { candidate, live }),
        Verdict::NeedsMore(_) => Err(RollbackError::OrderUnknown { candidate, live }),
    }
}

/// Whose ancestor a commit is known to be; each tip counts as its own.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Sides {
    candidate: bool,
    live: bool,
}

impl Sides {
    fn is_one(self) -> bool {
        self.candidate != self.live
    }

    fn or(self, other: Self) -> Self {
        Self { candidate: self.candidate || other.candidate, live: self.live || other.live }
    }
}

#[derive(Default)]
struct Walk {
    /// Commits whose parents are known.
    seen: HashMap<CommitId, (Sides, Vec<CommitId>)>,
    /// Commits whose parents are not known yet, or cannot be.
    unseen: HashMap<CommitId, Sides>,
    /// Those of the unseen that were not asked for yet, in the order they were reached.
    queue: VecDeque<CommitId>,
    /// How many of the unseen are known to belong to one side only.
    open: usize,
}

impl Walk {
    fn sides(&self, commit: &CommitId) -> Sides {
        let seen = self.seen.get(commit).map(|(sides, _)| sides);
        seen.or_else(|| self.unseen.get(commit)).copied().unwrap_or_default()
    }

    /// Notes that `commit` is an ancestor on `sides`, and with it all its known ancestors.
    fn reach(&mut self, commit: &CommitId, sides: Sides) {
        let mut reached = vec![commit.clone()];
        while let Some(commit) = reached.pop() {
            let before = self.sides(&commit);
            let after = before.or(sides);
            if let Some((sides, parents)) = self.seen.get_mut(&commit) {
                if before != after {
                    *sides = after;
                    reached.extend(parents.iter().cloned());
                }
            } else {
                self.open -= usize::from(before.is_one());
                self.open += usize::from(after.is_one());
                if self.unseen.insert(commit.clone(), after).is_none() {
                    self.queue.push_back(commit);
                }
            }
        }
    }

    /// Asks for the parents of one more commit. Returns false when there is none left to ask for.
    fn step(&mut self, parents: &mut dyn FnMut(&CommitId) -> Parents) -> bool {
        while let Some(commit) = self.queue.pop_front() {
            let Parents::Known(parents) = parents(&commit) else { continue };
            let sides = self.unseen.remove(&commit).unwrap_or_default();
            self.open -= usize::from(sides.is_one());
            self.seen.insert(commit, (sides, parents.clone()));
            for parent in &parents {
                self.reach(parent, sides);
            }
            return true;
        }
        false
    }

    /// Counts the commits of the candidate that `live` has not, once the candidate is ahead.
    fn count_ahead(&mut self, parents: &mut dyn FnMut(&CommitId) -> Parents) -> Option<usize> {
        let mut left = COUNTED;
        while 0 < self.open {
            left = left.checked_sub(1)?;
            if !self.step(parents) {
                return None;
            }
        }
        let ahead: HashSet<_> =
            self.seen.iter().filter(|(_, (sides, _))| sides.is_one()).map(|(commit, _)| commit).collect();
        // One of them might still be an ancestor of `live`, by way of a commit not seen yet; but not
        // when it is known to be that commit's descendant.
        let children = self.children();
        let mut unseen = self.unseen.keys();
        let is_certain = self.unseen.len() <= EDGE
            && unseen.all(|unseen| descendants(unseen, &children).is_superset(&ahead));
        is_certain.then_some(ahead.len())
    }

    fn children(&self) -> HashMap<&CommitId, Vec<&CommitId>> {
        let mut children: HashMap<_, Vec<_>> = HashMap::new();
        for (child, (_, parents)) in &self.seen {
            for parent in parents {
                children.entry(parent).or_default().push(child);
            }
        }
        children
    }
}

fn descendants<'a>(
    commit: &'a CommitId,
    children: &HashMap<&'a CommitId, Vec<&'a CommitId>>,
) -> HashSet<&'a CommitId> {
    let mut found = HashSet::new();
    let mut reached = vec![commit];
    while let Some(commit) = reached.pop() {
        reached
            .extend(children.get(commit).into_iter().flatten().copied().filter(|child| found.insert(*child)));
    }
    found
}
