//! How patiently a check looks.

use std::time::Duration;

use eeveon_core::RetryPolicy;
use serde::{Deserialize, Serialize};

/// By how much each wait is changed at random, so that many checks do not look in step.
const JITTER: f64 = 0.2;

/// No wait, time limit or deadline is longer: one day, in milliseconds.
const LONGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// How often a check looks, and how long that may take.
///
/// An attempt is won by `successes` healthy looks in a row, and lost by the first look that is not
/// healthy. After `attempts` lost ones the check has failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pace {
    /// Attempts in all.
    pub attempts: u32,
    /// Wait after the first lost attempt, and between healthy looks, in milliseconds.
    pub first_ms: u64,
    /// Each later wait is this many times longer.
    pub factor: f64,
    /// No wait is longer than this, in milliseconds, jitter apart.
    pub max_ms: u64,
    /// How long one look may take, in milliseconds.
    pub timeout_ms: u64,
    /// How long all of it may take, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// Healthy looks in a row that are asked for.
    pub successes: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            attempts: 3,
            first_ms: 1000,
            factor: 2.0,
            max_ms: 30_000,
            timeout_ms: 5000,
            deadline_ms: None,
            successes: 1,
        }
    }
}

impl Pace {
    /// Returns how long one look may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// Returns how long all looks together may take.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline_ms.map(Duration::from_millis)
    }

    /// Returns the waits after lost attempts: one fewer than there are attempts.
    pub(crate) fn waits(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let policy = RetryPolicy {
            attempts: self.attempts,
            first: Duration::from_millis(self.first_ms),
            factor: self.factor,
            max: Duration::from_millis(self.max_ms),
            jitter: JITTER,
        };
        policy.waits()
    }

    /// Returns the key that is wrong, and the rule it breaks.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        let day = 1..=LONGEST_MS;
        Some(match self {
            Self { attempts, .. } if !(1..=1000).contains(attempts) => ("attempts", "it goes from 1 to 1000"),
            Self { successes, .. } if !(1..=1000).contains(successes) => {
                ("successes", "it goes from 1 to 1000")
            }
            Self { timeout_ms, .. } if !day.contains(timeout_ms) => ("timeout", "it goes from 1 ms to 1 day"),
            Self { first_ms, .. } if !day.contains(first_ms) => {
                ("backoff.first", "it goes from 1 ms to 1 day")
            }
            Self { factor, .. } if !(1.0..=100.0).contains(factor) => {
                ("backoff.factor", "it goes from 1 to 100")
            }
            Self { max_ms, .. } if !day.contains(max_ms) => ("backoff.max", "it goes from 1 ms to 1 day"),
            Self { first_ms, max_ms, .. } if max_ms < first_ms => {
                ("backoff.max", "it must not be shorter than backoff.first")
            }
            Self { deadline_ms: Some(all), .. } if !day.contains(all) => {
                ("deadline", "it goes from 1 ms to 1 day")
            }
            Self { deadline_ms: Some(all), timeout_ms, .. } if all < timeout_ms => {
                ("deadline", "it must not be shorter than the timeout of one look")
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(change: impl FnOnce(&mut Pace)) -> Option<&'static str> {
        let mut pace = Pace::default();
        change(&mut pace);
        pace.fault().map(|(key, _)| key)
    }

    #[test]
    fn every_number_is_checked() {
        assert_eq!(fault(|_| ()), None);
        assert_eq!(fault(|it| it.attempts = 0), Some("attempts"));
        assert_eq!(fault(|it| it.attempts = u32::MAX), Some("attempts"));
        assert_eq!(fault(|it| it.successes = 0), Some("successes"));
        assert_eq!(fault(|it| it.timeout_ms = 0), Some("timeout"));
        assert_eq!(fault(|it| it.timeout_ms = u64::MAX), Some("timeout"));
        assert_eq!(fault(|it| it.first_ms = 0), Some("backoff.first"));
        for factor in [0.9, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(fault(|it| it.factor = factor), Some("backoff.factor"), "{factor}");
        }
        assert_eq!(fault(|it| it.max_ms = u64::MAX), Some("backoff.max"));
        assert_eq!(fault(|it| it.max_ms = it.first_ms - 1), Some("backoff.max"));
        assert_eq!(fault(|it| it.deadline_ms = Some(u64::MAX)), Some("deadline"));
    }

    #[test]
    fn a_deadline_has_room_for_one_look() {
        assert_eq!(fault(|it| it.deadline_ms = Some(4999)), Some("deadline"));
        assert_eq!(fault(|it| it.deadline_ms = Some(5000)), None);
    }

    #[test]
    fn there_is_a_wait_between_any_two_attempts() {
        assert_eq!(Pace::default().waits().count(), 2);
    }
}
