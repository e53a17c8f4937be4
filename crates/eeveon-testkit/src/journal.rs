//! A journal in memory that can be unplugged, and a clock that stands still until it is told to move.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use eeveon_core::{Clock, DeploymentId, Durability, Entry, Journal, JournalError, Seq};
use jiff::{SignedDuration, Timestamp};

/// A journal in memory that can be unplugged, as if the process had died, and that can lose what
/// was not yet safe from a power cut. It yields after each append, so that a run that is polled by
/// hand can be dropped when a record is written but nobody knows yet.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    written: Vec<(Entry, Durability)>,
    /// How many entries there may be; `None` for any number.
    limit: Option<usize>,
}

impl MemoryJournal {
    /// Accepts `appends` more records, then none.
    pub fn unplug_after(&self, appends: usize) {
        let mut inner = self.lock();
        inner.limit = Some(inner.written.len().saturating_add(appends));
    }

    /// Accepts records again.
    pub fn plug_in(&self) {
        self.lock().limit = None;
    }

    /// Loses the newest records, as a power cut does: at most `lost` of them, and none that had to
    /// outlive it. Returns how many were lost.
    pub fn cut_power(&self, lost: usize) -> usize {
        let mut inner = self.lock();
        let safe = inner.written.iter().rposition(|(_, durability)| *durability == Durability::Power);
        let safe = safe.map_or(0, |last| last.saturating_add(1));
        let before = inner.written.len();
        inner.written.truncate(safe.max(before.saturating_sub(lost)));
        before.saturating_sub(inner.written.len())
    }

    /// Returns everything recorded so far, in the order of its recording.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().written.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// Returns everything recorded so far with what each record was to outlive.
    pub fn written(&self) -> Vec<(Entry, Durability)> {
        self.lock().written.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError> {
        let mut inner = self.lock();
        if inner.limit.is_some_and(|limit| limit <= inner.written.len()) {
            return Err(JournalError::Unavailable("unplugged".into()));
        }
        let next = inner
            .written
            .iter()
            .rev()
            .find(|(it, _)| it.deployment == entry.deployment)
            .map_or(Seq::default(), |(it, _)| it.seq.next());
        if entry.seq != next {
            return Err(JournalError::Conflict { deployment: entry.deployment, at: entry.seq });
        }
        inner.written.push((entry.clone(), durability));
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryJournal {
    async fn append(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError> {
        self.push(entry, durability)?;
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, JournalError> {
        let mut entries = self.entries();
        entries.retain(|it| it.deployment == deployment && from <= it.seq);
        Ok(entries)
    }
}

/// A clock that shows what it was set to.
#[derive(Debug)]
pub struct ManualClock {
    now: Mutex<Timestamp>,
}

impl ManualClock {
    /// Makes a clock that shows `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { now: Mutex::new(now) }
    }

    /// Sets the clock, back too.
    pub fn set(&self, now: Timestamp) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Moves the clock on, or back by a negative duration; it stops at the ends of time.
    pub fn advance(&self, by: SignedDuration) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let end = if by.is_negative() { Timestamp::MIN } else { Timestamp::MAX };
        *now = now.checked_add(by).unwrap_or(end);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use eeveon_core::{Outcome, Record};

    use super::*;

    fn entry(deployment: u64, seq: u64) -> Entry {
        let record = Record::Closed { outcome: Outcome::Succeeded };
        Entry { deployment: DeploymentId(deployment), seq: Seq(seq), at: Timestamp::UNIX_EPOCH, record }
    }

    #[tokio::test]
    async fn a_position_is_taken_once_and_none_is_skipped() {
        let journal = MemoryJournal::default();
        journal.append(&entry(1, 0), Durability::Process).await.unwrap();
        for taken_or_early in [0, 2] {
            let refused = journal.append(&entry(1, taken_or_early), Durability::Process).await;
            assert!(matches!(refused, Err(JournalError::Conflict { .. })), "{taken_or_early}");
        }
        journal.append(&entry(2, 0), Durability::Process).await.unwrap();
        journal.append(&entry(1, 1), Durability::Process).await.unwrap();
        let read = journal.read(DeploymentId(1), Seq(1)).await.unwrap();
        assert_eq!(read, [entry(1, 1)]);
    }

    #[tokio::test]
    async fn unplugged_it_accepts_no_more_than_it_was_told() {
        let journal = MemoryJournal::default();
        journal.unplug_after(1);
        journal.append(&entry(1, 0), Durability::Process).await.unwrap();
        let refused = journal.append(&entry(1, 1), Durability::Process).await;
        assert!(matches!(refused, Err(JournalError::Unavailable(_))));
        journal.plug_in();
        journal.append(&entry(1, 1), Durability::Process).await.unwrap();
    }

    #[tokio::test]
    async fn a_power_cut_takes_only_what_was_not_safe() {
        let journal = MemoryJournal::default();
        for (seq, durability) in
            [Durability::Process, Durability::Power, Durability::Process, Durability::Process]
                .into_iter()
                .enumerate()
        {
            journal.append(&entry(1, seq as u64), durability).await.unwrap();
        }
        assert_eq!(journal.cut_power(1), 1);
        assert_eq!(journal.cut_power(9), 1);
        assert_eq!(journal.entries(), [entry(1, 0), entry(1, 1)]);
    }

    #[test]
    fn the_clock_moves_only_when_told() {
        let clock = ManualClock::at(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), clock.now());
        clock.advance(SignedDuration::from_secs(-5));
        assert_eq!(clock.now().as_second(), -5);
        clock.advance(SignedDuration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
