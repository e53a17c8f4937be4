//! The pure part: many looks become one verdict.

use std::time::Duration;

use eeveon_core::Untrusted;
use serde::{Deserialize, Serialize};

use crate::{Pace, ProbeError, Reading, check::cut};

/// How often a check looked, and what came of it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Looked {
    /// Looks in all.
    pub looks: u32,
    /// Looks that saw health.
    pub healthy: u32,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What the last look saw that did not see health.
    pub last: Option<Untrusted>,
    /// How often a healthy look was followed by one that was not.
    pub flapped: u32,
}

/// What follows from the looks so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// It passed.
    Open,
    /// Look again after this time.
    Again(Duration),
    /// It failed.
    Shut,
}

/// What makes a check pass.
#[derive(Clone, Copy, Debug)]
enum Goal {
    /// So many healthy looks in a row.
    Row(u32),
    /// Health, looked for every so often, until this time is over.
    Until { over: Duration, every: Duration },
}

/// Folds looks into a verdict.
pub(crate) struct Judge {
    pace: Pace,
    goal: Goal,
    waits: Box<dyn Iterator<Item = Duration> + Send>,
    row: u32,
    looked: Looked,
}

impl Judge {
    /// Wants as many healthy looks in a row as `pace` says.
    pub(crate) fn gate(pace: &Pace) -> Self {
        Self::new(pace, Goal::Row(pace.successes))
    }

    /// Wants health until `over`; only as many bad looks in a row as `pace` has attempts end it
    /// before. The deadline of `pace` is no matter.
    pub(crate) fn watch(pace: &Pace, over: Duration, every: Duration) -> Self {
        Self::new(&Pace { deadline_ms: None, ..pace.clone() }, Goal::Until { over, every })
    }

    fn new(pace: &Pace, goal: Goal) -> Self {
        let waits = Box::new(pace.waits());
        Self { pace: pace.clone(), goal, waits, row: 0, looked: Looked::default() }
    }

    /// Takes in what a look saw that ended after `elapsed`.
    pub(crate) fn take(&mut self, seen: &Result<Reading, ProbeError>, elapsed: Duration) -> Verdict {
        let looked = &mut self.looked;
        looked.looks = looked.looks.saturating_add(1);
        looked.took_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let reason = match seen {
            Ok(Reading::Healthy) => return self.healthy(elapsed),
            Ok(Reading::Unhealthy { reason }) => reason.as_raw().to_owned(),
            Err(error) => error.to_string(),
        };
        looked.last = Some(Untrusted::from(cut(reason)));
        looked.flapped = looked.flapped.saturating_add(u32::from(self.row > 0));
        self.row = 0;
        match self.waits.next() {
            Some(wait) => self.in_time(wait, elapsed),
            None => Verdict::Shut,
        }
    }

    fn healthy(&mut self, elapsed: Duration) -> Verdict {
        self.looked.healthy = self.looked.healthy.saturating_add(1);
        self.row = self.row.saturating_add(1);
        match self.goal {
            Goal::Row(wanted) if self.row >= wanted => Verdict::Open,
            Goal::Row(wanted) => {
                let again = self.in_time(Duration::from_millis(self.pace.first_ms), elapsed);
                if again == Verdict::Shut {
                    let short =
                        format!("healthy {} times in a row, not {wanted}, when the time was over", self.row);
                    self.looked.last = Some(Untrusted::from(short));
                }
                again
            }
            Goal::Until { over, .. } if elapsed >= over => Verdict::Open,
            Goal::Until { over, every } => {
                self.waits = Box::new(self.pace.waits());
                Verdict::Again(every.min(over.saturating_sub(elapsed)))
            }
        }
    }

    /// Looks again after `wait`, unless the deadline leaves no room for another look.
    fn in_time(&self, wait: Duration, elapsed: Duration) -> Verdict {
        match self.pace.deadline() {
            Some(deadline) if elapsed.saturating_add(wait) >= deadline => Verdict::Shut,
            _ => Verdict::Again(wait),
        }
    }

    /// Returns what came of all looks.
    pub(crate) fn into_looked(self) -> Looked {
        self.looked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seen(healthy: bool) -> Result<Reading, ProbeError> {
        match healthy {
            true => Ok(Reading::Healthy),
            false => Ok(Reading::unhealthy("sick")),
        }
    }

    /// Judges looks that take no time, waits included; returns the verdict and the number of looks.
    fn judged(mut judge: Judge, looks: &[bool]) -> (Option<Verdict>, Looked) {
        let mut elapsed = Duration::ZERO;
        for healthy in looks {
            match judge.take(&seen(*healthy), elapsed) {
                Verdict::Again(wait) => elapsed += wait,
                verdict => return (Some(verdict), judge.into_looked()),
            }
        }
        (None, judge.into_looked())
    }

    fn pace() -> impl Strategy<Value = Pace> {
        (1..5_u32, 1..5_u32).prop_map(|(attempts, successes)| Pace { attempts, successes, ..Pace::default() })
    }

    /// The same rule, looked up in the whole list instead of folded.
    fn expected(pace: &Pace, looks: &[bool]) -> Option<(Verdict, usize)> {
        let wanted = pace.successes as usize;
        (1..=looks.len()).find_map(|count| {
            let so_far = &looks[..count];
            let lost = so_far.iter().filter(|healthy| !**healthy).count();
            let row = so_far.iter().rev().take_while(|healthy| **healthy).count();
            match () {
                () if row >= wanted => Some((Verdict::Open, count)),
                () if lost >= pace.attempts as usize => Some((Verdict::Shut, count)),
                () => None,
            }
        })
    }

    proptest! {
        #[test]
        fn a_gate_opens_on_successes_in_a_row_and_shuts_on_lost_attempts(
            pace in pace(),
            looks in prop::collection::vec(any::<bool>(), 0..40),
        ) {
            let (verdict, looked) = judged(Judge::gate(&pace), &looks);
            let expected = expected(&pace, &looks);
            prop_assert_eq!(verdict, expected.map(|it| it.0));
            let used = &looks[..expected.map_or(looks.len(), |it| it.1)];
            prop_assert_eq!(looked.looks as usize, used.len());
            prop_assert_eq!(looked.healthy as usize, used.iter().filter(|it| **it).count());
            prop_assert_eq!(looked.flapped as usize, used.windows(2).filter(|it| it[0] && !it[1]).count());
            prop_assert_eq!(looked.last.is_some(), used.contains(&false));
        }

        #[test]
        fn a_gate_ends_whatever_it_sees(pace in pace(), looks in prop::collection::vec(any::<bool>(), 25)) {
            // The most looks there can be: every attempt but the last is lost at the last moment.
            prop_assert!(pace.attempts * pace.successes <= 25);
            prop_assert!(judged(Judge::gate(&pace), &looks).0.is_some());
        }

        #[test]
        fn no_wait_reaches_past_the_deadline(
            pace in pace(),
            deadline_ms in 5000..20_000_u64,
            looks in prop::collection::vec((any::<bool>(), 0..3000_u64), 25),
        ) {
            let pace = Pace { deadline_ms: Some(deadline_ms), ..pace };
            let mut judge = Judge::gate(&pace);
            let mut elapsed = Duration::ZERO;
            for (healthy, took) in looks {
                elapsed += Duration::from_millis(took);
                match judge.take(&seen(healthy), elapsed) {
                    Verdict::Again(wait) => elapsed += wait,
                    _ => break,
                }
                prop_assert!(elapsed < Duration::from_millis(deadline_ms));
            }
        }

        #[test]
        fn a_watch_goes_bad_only_by_a_run_of_bad_looks(
            pace in pace(),
            looks in prop::collection::vec(any::<bool>(), 0..200),
        ) {
            let (over, every) = (Duration::from_secs(3600), Duration::from_secs(60));
            let (verdict, looked) = judged(Judge::watch(&pace, over, every), &looks);
            let run = looks.windows(pace.attempts as usize).position(|run| !run.contains(&true));
            let ends = run.map(|at| at + pace.attempts as usize);
            match verdict {
                Some(Verdict::Shut) => prop_assert_eq!(Some(looked.looks as usize), ends),
                Some(_) => prop_assert!(ends.is_none_or(|ends| ends > looked.looks as usize)),
                None => prop_assert_eq!(ends, None),
            }
        }
    }

    #[test]
    fn waits_grow_between_lost_attempts_only() {
        let pace = Pace { attempts: 9, successes: 3, ..Pace::default() };
        let mut judge = Judge::gate(&pace);
        let mut wait = |healthy| match judge.take(&seen(healthy), Duration::ZERO) {
            Verdict::Again(wait) => wait.as_millis(),
            verdict => panic!("{verdict:?}"),
        };
        assert!((800..=1200).contains(&wait(false)));
        assert!((1600..=2400).contains(&wait(false)));
        assert_eq!(wait(true), 1000);
        assert!((3200..=4800).contains(&wait(false)));
    }

    #[test]
    fn a_watch_is_over_in_time_when_the_last_look_is_healthy() {
        let (over, every) = (Duration::from_secs(25), Duration::from_secs(10));
        let (verdict, looked) = judged(Judge::watch(&Pace::default(), over, every), &[true; 9]);
        assert_eq!(verdict, Some(Verdict::Open));
        assert_eq!((looked.looks, looked.took_ms), (4, 25_000));
    }

    #[test]
    fn too_few_successes_in_time_are_told() {
        let pace = Pace {
            successes: 5,
            deadline_ms: Some(5000),
            timeout_ms: 1000,
            first_ms: 2000,
            ..Pace::default()
        };
        let (verdict, looked) = judged(Judge::gate(&pace), &[true; 9]);
        assert_eq!(verdict, Some(Verdict::Shut));
        assert_eq!(looked.last.unwrap().as_raw(), "healthy 3 times in a row, not 5, when the time was over");
    }

    #[test]
    fn what_a_check_of_somebody_else_says_is_cut() {
        let mut judge = Judge::gate(&Pace::default());
        let endless = Reading::Unhealthy { reason: Untrusted::from("x".repeat(1 << 20)) };
        judge.take(&Ok(endless), Duration::ZERO);
        assert!(judge.into_looked().last.unwrap().as_raw().len() <= crate::MAX_REASON_BYTES);
    }
}
