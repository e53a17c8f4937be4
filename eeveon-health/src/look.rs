//! Looking until there is a verdict: what all gates have in common.

use std::time::Duration;

use eeveon_core::{Permit, action::Stopped};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    HealthCheck, HealthError, Looked, Pace, Phase, ProbeError, Reading, Subject,
    judge::{Judge, Verdict},
};

/// How much longer than its own limit a look may take before it is given up. A check keeps its limit
/// itself, and a command that has reached it is given time to end.
const OVERTIME: Duration = Duration::from_secs(10);

/// Looks at `subject` with patience `pace`, until the check has passed or failed.
///
/// # Errors
///
/// `health/unhealthy` or `health/no-answer` by what the last look saw, `health/invalid` when `pace`
/// is not valid, `engine/cancelled` as soon as `permit` is, also in the middle of a look.
pub async fn pass(
    check: &dyn HealthCheck,
    phase: Phase,
    pace: &Pace,
    subject: &Subject,
    permit: &Permit,
) -> Result<Looked, HealthError> {
    let name = || check.name().to_owned();
    if let Some((key, rule)) = pace.fault() {
        return Err(HealthError::invalid(check.name(), key, rule));
    }
    match until_decided(check, pace, pace.deadline(), Judge::gate(pace), subject, permit).await? {
        (Verdict::Shut, looked, Err(source)) => {
            Err(HealthError::NoAnswer { check: name(), phase, looked: Box::new(looked), source })
        }
        (Verdict::Shut, looked, Ok(_)) => {
            Err(HealthError::Unhealthy { check: name(), phase, looked: Box::new(looked) })
        }
        (_, looked, _) => Ok(looked),
    }
}

/// What one look came to.
type Seen = Result<Reading, ProbeError>;

/// Looks until `judge` is done. Returns its verdict, the sum of all looks, and the last of them.
pub(crate) async fn until_decided(
    check: &dyn HealthCheck,
    pace: &Pace,
    deadline: Option<Duration>,
    mut judge: Judge,
    subject: &Subject,
    permit: &Permit,
) -> Result<(Verdict, Looked, Seen), Stopped> {
    let begun = Instant::now();
    loop {
        let left = deadline.map_or(Duration::MAX, |all| all.saturating_sub(begun.elapsed()));
        let limit = pace.timeout().saturating_add(OVERTIME).min(left);
        let looking = Instant::now();
        let seen = unless_stopped(permit, timeout(limit, check.probe(subject))).await?.unwrap_or_else(|_| {
            let after_ms = u64::try_from(looking.elapsed().as_millis()).unwrap_or(u64::MAX);
            Err(ProbeError::TimedOut { after_ms })
        });
        let verdict = judge.take(&seen, begun.elapsed());
        tracing::debug!(check = check.name(), ?seen, ?verdict, "looked");
        match verdict {
            Verdict::Again(wait) => unless_stopped(permit, sleep(wait)).await?,
            verdict => return Ok((verdict, judge.into_looked(), seen)),
        }
    }
}

/// Does something, unless the work should stop.
async fn unless_stopped<T>(permit: &Permit, deed: impl Future<Output = T>) -> Result<T, Stopped> {
    tokio::select! {
        biased;
        () = permit.cancel.cancelled() => Err(Stopped),
        done = deed => Ok(done),
    }
}
