//! Decides when a message is tried again, and what is told once instead of many times. Pure: whoever
//! delivers brings the time and keeps what waits.
//!
//! The rule for many messages, for one channel and one project:
//!
//! 1. *A burst*: when more than five messages wait, all but the newest of each kind are folded into
//!    that one, which then says how many more there were.
//! 2. *Flapping*: the same failure (kind, code and commit) within ten minutes, with no success between, is
//!    folded into the newest. One that was told less than ten minutes ago is held back until then,
//!    so that what follows can be folded into it, unless something else has to be told first.
//! 3. Different kinds are never folded into each other; what waits for a person, and test messages,
//!    are never folded nor held at all. The newest of each kind is always told, so a success after
//!    failures is too. Nothing is lost from the count, and the order stays.

use std::time::Duration;

use eeveon_core::{Diagnose, Retry};
use jiff::{SignedDuration, Timestamp};

use crate::{Event, EventKind, NotifyError};

/// How many messages may wait before they count as a burst.
const BURST: usize = 5;

/// How long the same failure is told only once.
const FLAPPING: SignedDuration = SignedDuration::from_mins(10);

/// How patiently a message is tried again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Patience {
    /// The wait after the first failure; it doubles with each.
    pub first: Duration,
    /// The longest wait, also when a service asks for a longer one.
    pub longest: Duration,
    /// How long after the first attempt the last one may be.
    pub total: Duration,
}

impl Default for Patience {
    /// Ten seconds, up to an hour, for a day.
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { first: Duration::from_secs(10), longest: hour, total: hour * 24 }
    }
}

/// What becomes of a message that did not arrive.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    /// It is tried again.
    Again {
        /// Not before.
        at: Timestamp,
    },
    /// It was not sent, for this process lacks a secret: another one may have it, and need not wait.
    Elsewhere,
    /// It is given up, and shown as such.
    Dead,
}

/// Decides what becomes of a message after `attempts` attempts, the last of which failed `now` with
/// `error`; the first was at `first_try`. `seed` spreads messages that failed together: the same
/// seed gives the same answer.
pub fn after_failure(
    attempts: u32,
    first_try: Timestamp,
    now: Timestamp,
    error: &NotifyError,
    patience: &Patience,
    seed: u64,
) -> Next {
    let last = first_try.saturating_add(patience.total).unwrap_or(Timestamp::MAX);
    if error.retry() == Retry::Never || now >= last {
        return Next::Dead;
    }
    if matches!(error, NotifyError::Secret { .. }) {
        return Next::Elsewhere;
    }
    let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
    let wait = patience.first.saturating_mul(doubled).min(patience.longest);
    // Three quarters to five quarters of it.
    let wait = wait.mul_f64(0.75 + spread(seed ^ u64::from(attempts)) / 2.0);
    let wait = wait.max(error.retry_after().unwrap_or_default()).min(patience.longest);
    let at = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
    Next::Again { at: at.min(last) }
}

/// Decides until when nothing else is sent to a channel that failed `now` with `error`, after which the
/// message has this `next`. `None` when the failure says nothing about other messages.
pub fn rest_after(next: Next, now: Timestamp, error: &NotifyError, patience: &Patience) -> Option<Timestamp> {
    let asked = error.retry_after().map(|wait| wait.min(patience.longest));
    let asked = asked.and_then(|wait| now.saturating_add(wait).ok());
    match next {
        Next::Again { at } => Some(asked.map_or(at, |asked| asked.max(at))),
        Next::Elsewhere | Next::Dead => asked,
    }
}

/// Turns a seed into a number from 0 to 1, with SplitMix64 (Steele, Lea, Flood 2014).
fn spread(seed: u64) -> f64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX)) / f64::from(u32::MAX)
}

/// One message made of several that waited.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// What is told; its `more` counts what is folded into it.
    pub event: Event,
    /// Where it was among those that waited.
    pub at: usize,
    /// Where those were that are folded into it.
    pub folded: Vec<usize>,
}

/// Folds events that wait for one channel, oldest first, after rules 1 to 3 of this module.
pub fn coalesce(waiting: &[Event]) -> Vec<Told> {
    let mut told: Vec<Told> = Vec::with_capacity(waiting.len());
    // From the newest back: whatever is folded finds the newest of its kind already there.
    for (at, event) in waiting.iter().enumerate().rev() {
        let burst = waiting.iter().filter(|it| it.project == event.project).count() > BURST;
        let newer = waiting.get(at.saturating_add(1)..).unwrap_or_default();
        let takes = |it: &&mut Told| {
            folds(event) && same_kind(event, &it.event) && (burst || is_flapping(event, &it.event, newer))
        };
        match told.iter_mut().rev().find(takes) {
            Some(newest) => {
                newest.event.more = newest.event.more.saturating_add(event.more).saturating_add(1);
                newest.folded.push(at);
            }
            None => told.push(Told { event: event.clone(), at, folded: Vec::new() }),
        }
    }
    told.reverse();
    told
}

/// Returns until when `event` is held back because the same failure was `told` shortly before (rule
/// 2). `newer` is what waits behind it.
pub fn held_until(event: &Event, told: &[Event], newer: &[Event]) -> Option<Timestamp> {
    let before = told.iter().rev().find(|it| it.project == event.project && it.kind != EventKind::Started)?;
    // What is different must not overtake.
    let pressing = newer.iter().any(|it| it.project == event.project && !same_failure(event, it));
    let held = folds(event) && same_failure(event, before) && !pressing;
    let until = before.at.saturating_add(FLAPPING).unwrap_or(Timestamp::MAX);
    (held && event.at < until).then_some(until)
}

fn folds(event: &Event) -> bool {
    !matches!(event.kind, EventKind::Parked | EventKind::WaitingForApproval | EventKind::Test)
}

fn same_kind(one: &Event, other: &Event) -> bool {
    one.project == other.project && one.kind == other.kind
}

fn same_failure(one: &Event, other: &Event) -> bool {
    let code = |event: &Event| event.failure.as_ref().map(|failure| failure.code.clone());
    same_kind(one, other)
        // Somebody tried to mend it.
        && one.revision.commit == other.revision.commit
        && (one.kind == EventKind::CheckFlapping || code(one).is_some())
        && code(one) == code(other)
}

/// Tells whether `event` and the later `newest` are the same failure, with no success between.
fn is_flapping(event: &Event, newest: &Event, newer: &[Event]) -> bool {
    let between = newer.iter().take_while(|it| (it.deployment, it.seq) != (newest.deployment, newest.seq));
    same_failure(event, newest)
        && newest.at.duration_since(event.at) < FLAPPING
        && !between.into_iter().any(|it| it.project == event.project && it.kind == EventKind::Succeeded)
}
