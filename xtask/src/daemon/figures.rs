//! Figures: what a process uses, and how times are spread.

use std::{fmt, fs, time::Duration};

use anyhow::{Context, Result};

/// Times.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread(Vec<Duration>);

impl Spread {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Returns the time that `percent` of a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let mut times = self.0.clone();
        times.sort();
        let nth = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(nth).copied().unwrap_or_default()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        let (half, most, all) = (millis(50), millis(99), millis(100));
        write!(f, "p50 {half:.1} ms, p99 {most:.1} ms, most {all:.1} ms of {}", self.0.len())
    }
}

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, its own.
    pub(crate) own: Duration,
    /// Processor time of those it started and saw ending.
    pub(crate) children: Duration,
    /// Memory it has, in KiB.
    pub(crate) resident: u64,
    /// The most it ever had, in KiB.
    pub(crate) most_resident: u64,
}

impl Usage {
    /// Reads it of a process. Source: proc(5); a tick is a hundredth of a second wherever Linux runs.
    ///
    /// # Errors
    ///
    /// There is no such process.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("no such line")?;
        let ticks = |nth: usize| {
            let field = fields.split_whitespace().nth(nth - 3).and_then(|it| it.parse().ok());
            Duration::from_millis(10 * field.unwrap_or(0_u64))
        };
        let status = fs::read_to_string(format!("/proc/{process}/status"))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Ok(Self {
            own: ticks(14) + ticks(15),
            children: ticks(16) + ticks(17),
            resident: kib("VmRSS:"),
            most_resident: kib("VmHWM:"),
        })
    }
}

/// Tells how busy the machine is otherwise.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let minute = load.split_whitespace().next().unwrap_or("?");
    format!("{cores} cores, load of the last minute {minute}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_seen() {
        let mut spread = Spread::default();
        (1..=200).for_each(|nth| spread.add(Duration::from_millis(nth)));
        assert_eq!(spread.percentile(50), Duration::from_millis(100));
        assert_eq!(spread.percentile(99), Duration::from_millis(198));
        assert_eq!(spread.percentile(100), Duration::from_millis(200));
        assert_eq!(Spread::default().percentile(99), Duration::ZERO);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 0 && usage.most_resident >= usage.resident);
        assert!(Usage::of(u32::MAX).is_err());
    }
}
