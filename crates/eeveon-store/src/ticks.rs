//! The clock leases are measured by: it never goes back and knows nothing of the date.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};

use crate::owner::boot_id;

/// A moment since the machine was started.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tick {
    /// Which start of the machine; empty where the system does not tell.
    pub boot: String,
    /// Milliseconds since then, time spent asleep included.
    pub ms: u64,
}

/// Where a store gets the time for its leases from.
pub trait Ticks: fmt::Debug + Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Tick;
}

/// The machine's clock that never goes back, whatever is done to the date.
#[derive(Clone, Debug)]
pub struct SystemTicks {
    boot: String,
}

impl SystemTicks {
    /// Learns which boot of the machine this is.
    pub fn new() -> Self {
        Self { boot: boot_id() }
    }
}

impl Default for SystemTicks {
    fn default() -> Self {
        Self::new()
    }
}

impl Ticks for SystemTicks {
    fn now(&self) -> Tick {
        // CLOCK_BOOTTIME counts while the machine sleeps, so that a lease ends then too; see
        // clock_gettime(2).
        #[cfg(any(target_os = "linux", target_os = "android"))]
        const CLOCK: ClockId = ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let time = clock_gettime(CLOCK);
        let (seconds, nanoseconds) = (time.tv_sec.max(0).unsigned_abs(), time.tv_nsec.max(0).unsigned_abs());
        Tick {
            boot: self.boot.clone(),
            ms: seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_never_goes_back() {
        let ticks = SystemTicks::new();
        let (first, second) = (ticks.now(), ticks.now());
        assert!(first.ms > 0 && second.ms >= first.ms, "{first:?} {second:?}");
        assert_eq!(first.boot, second.boot);
    }
}
