//! Which releases on a target are no longer needed. What could still serve is counted, never dated;
//! what is kept for inspection has an age and a bound.

use std::{collections::BTreeSet, time::Duration};

use eeveon_core::ReleaseNumber;
use jiff::Timestamp;

/// What is known of a release's deployments.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// One of them succeeded.
    Succeeded,
    /// None of them did.
    Failed,
    /// Nothing is known of it.
    Unknown,
}

/// A release that lies on a target.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Kept {
    /// Which.
    pub release: ReleaseNumber,
    /// How it fared.
    pub standing: Standing,
    /// Whether it can serve; otherwise it lies there for inspection only.
    pub usable: bool,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was placed or set aside.
    pub since: Timestamp,
    /// Whether a person wants it kept.
    pub pinned: bool,
}

/// Releases that have a part to play, whatever their standing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Roles {
    /// Serves.
    pub live: Option<ReleaseNumber>,
    /// Served before the live one: what a rollback goes back to.
    pub predecessor: Option<ReleaseNumber>,
    /// About to serve. Counts as succeeded.
    pub next: Option<ReleaseNumber>,
}

impl Roles {
    fn has(&self, release: ReleaseNumber) -> bool {
        [self.live, self.predecessor, self.next].contains(&Some(release))
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// So many releases that succeeded, the newest by number.
    pub keep: usize,
    /// How long what did not succeed is kept for inspection.
    pub inspect_for: Duration,
    /// How much disk what did not succeed may take in all, in bytes.
    pub inspect_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { keep: 5, inspect_for: Duration::from_secs(7 * 24 * 3600), inspect_bytes: 2 << 30 }
    }
}

/// Returns the releases that are no longer needed, lowest number first.
///
/// Never among them: a release with one of the [`Roles`], and a pinned one. Numbers tell which is
/// newer. The clock only tells the age of what is kept for inspection, and when it shows a time
/// before one of the releases came to be, it is wrong and removes nothing.
pub fn outworn(kept: &[Kept], roles: &Roles, policy: &Policy, now: Timestamp) -> Vec<ReleaseNumber> {
    let can_serve = |it: &&Kept| it.standing == Standing::Succeeded && it.usable;
    let mut good: BTreeSet<_> = kept.iter().filter(can_serve).map(|it| it.release).collect();
    good.extend(roles.next);
    let enough: BTreeSet<_> = good.iter().rev().take(policy.keep).copied().collect();

    let clock_is_sound = kept.iter().all(|it| it.since <= now);
    let mut inspected = kept.iter().filter(|it| !can_serve(it)).collect::<Vec<_>>();
    inspected.sort_by_key(|it| std::cmp::Reverse(it.release));
    inspected.retain(|it| !is_protected(it, roles));
    let mut room = policy.inspect_bytes;
    let mut is_full = false;
    let mut gone: BTreeSet<_> = BTreeSet::new();
    // Newest first; once one does not fit, it and all older ones go.
    for it in inspected {
        is_full |= room < it.bytes;
        room = room.saturating_sub(it.bytes);
        let age = Duration::try_from(now.duration_since(it.since)).unwrap_or_default();
        if is_full || clock_is_sound && policy.inspect_for < age {
            gone.insert(it.release);
        }
    }
    let served_long_ago = |it: &&Kept| can_serve(it) && !enough.contains(&it.release);
    gone.extend(
        kept.iter().filter(served_long_ago).filter(|it| !is_protected(it, roles)).map(|it| it.release),
    );
    gone.into_iter().collect()
}

fn is_protected(it: &Kept, roles: &Roles) -> bool {
    it.pinned || roles.has(it.release)
}
