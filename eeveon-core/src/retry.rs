//! How patiently something is tried again. The only file that knows the `backoff` crate, so that
//! replacing it touches nothing else.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff};
use serde::{Deserialize, Serialize};

/// Exponential waiting with jitter and a limit. There is no endless retry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Wait before the second attempt.
    pub first: Duration,
    /// Each later wait is this many times longer.
    pub factor: f64,
    /// No wait is longer than this, jitter apart.
    pub max: Duration,
    /// Each wait is changed at random by up to this share, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 3,
            first: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

impl RetryPolicy {
    /// Returns the waits between attempts: one fewer than there are attempts.
    pub fn waits(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        let mut schedule = ExponentialBackoff {
            current_interval: self.first,
            initial_interval: self.first,
            randomization_factor: self.jitter.clamp(0.0, 1.0),
            multiplier: self.factor.max(1.0),
            max_interval: self.max.max(self.first),
            // The number of attempts is the limit; the crate's own would need a clock.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let left = self.attempts.saturating_sub(1);
        (0..left).map_while(move |_| schedule.next_backoff())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_end() {
        let policy =
            RetryPolicy { attempts: 5, jitter: 0.0, max: Duration::from_secs(1), ..Default::default() };
        let waits: Vec<_> = policy.waits().map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000]);
    }

    #[test]
    fn one_attempt_waits_for_nothing() {
        assert_eq!(RetryPolicy { attempts: 1, ..Default::default() }.waits().count(), 0);
        assert_eq!(RetryPolicy { attempts: 0, ..Default::default() }.waits().count(), 0);
    }
}
