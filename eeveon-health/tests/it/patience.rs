//! How often `pass` looks, and when it stops, in a time of our own making.

use std::{collections::VecDeque, sync::Mutex};

use async_trait::async_trait;
use eeveon_core::{Diagnose as _, Fence, Permit};
use eeveon_health::{HealthCheck, HealthError, Looked, Pace, Phase, ProbeError, Reading, Subject, pass};
use eeveon_testkit::health::subject;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::common::{SECOND, permit};

/// Sees what it is told to; after that, nothing ever.
#[derive(Debug)]
struct Told(Mutex<VecDeque<Result<Reading, ProbeError>>>);

fn told(seen: impl IntoIterator<Item = Result<Reading, ProbeError>>) -> Told {
    Told(Mutex::new(seen.into_iter().collect()))
}

const GOOD: Result<Reading, ProbeError> = Ok(Reading::Healthy);

fn bad() -> Result<Reading, ProbeError> {
    Ok(Reading::unhealthy("status 503"))
}

fn none() -> Result<Reading, ProbeError> {
    Err(ProbeError::Refused("connection refused".to_owned()))
}

#[async_trait]
impl HealthCheck for Told {
    fn name(&self) -> &str {
        "web"
    }

    async fn probe(&self, _: &Subject) -> Result<Reading, ProbeError> {
        let seen = self.0.lock().unwrap().pop_front();
        match seen {
            Some(seen) => seen,
            None => std::future::pending().await,
        }
    }
}

async fn passing(check: &Told, pace: &Pace) -> Result<Looked, HealthError> {
    pass(check, Phase::Post, pace, &subject(), &permit()).await
}

#[tokio::test(start_paused = true)]
async fn a_first_healthy_look_is_enough() {
    let looked = passing(&told([GOOD]), &Pace::default()).await.unwrap();
    assert_eq!(looked, Looked { looks: 1, healthy: 1, took_ms: 0, last: None, flapped: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_is_waited_for() {
    let looked = passing(&told([none(), bad(), GOOD]), &Pace::default()).await.unwrap();
    assert_eq!((looked.looks, looked.healthy, looked.flapped), (3, 1, 0));
    assert_eq!(looked.last.unwrap().as_raw(), "status 503");
    // 1 s and 2 s, each with a fifth of jitter.
    assert!((2400..=3600).contains(&looked.took_ms), "{}", looked.took_ms);
}

#[tokio::test(start_paused = true)]
async fn attempts_run_out() {
    let error = passing(&told([bad(), bad(), bad(), GOOD]), &Pace::default()).await.unwrap_err();
    assert_eq!(error.code(), "health/unhealthy");
    let words = error.to_string();
    assert!(words.starts_with("check \"web\" did not pass after the switch: 3 looks in "), "{words}");
    assert!(words.ends_with("at last: status 503"), "{words}");
    let details = error.details().unwrap();
    assert_eq!((&details["looks"], &details["healthy"]), (&3.into(), &0.into()));
    assert_eq!(details["last"], "status 503");
}

#[tokio::test(start_paused = true)]
async fn no_answer_is_not_called_unhealthy() {
    let error = passing(&told([bad(), bad(), none()]), &Pace::default()).await.unwrap_err();
    assert_eq!(error.code(), "health/no-answer");
    assert!(error.to_string().ends_with("at last: no connection: connection refused"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let error = passing(&told([none(), none(), bad()]), &Pace::default()).await.unwrap_err();
    assert_eq!(error.code(), "health/unhealthy");
}

#[tokio::test(start_paused = true)]
async fn flapping_is_counted_and_does_not_pass() {
    let pace = Pace { successes: 2, ..Pace::default() };
    let error = passing(&told([GOOD, bad(), GOOD, bad(), GOOD, bad()]), &pace).await.unwrap_err();
    let details = error.details().unwrap();
    assert_eq!((&details["looks"], &details["flapped"]), (&6.into(), &3.into()));
    let looked = passing(&told([GOOD, bad(), GOOD, GOOD]), &pace).await.unwrap();
    assert_eq!((looked.looks, looked.flapped), (4, 1));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_ends_a_look_and_all_looks() {
    let pace = Pace { deadline_ms: Some(6000), attempts: 100, ..Pace::default() };
    let begun = Instant::now();
    let error = passing(&told([]), &pace).await.unwrap_err();
    assert_eq!(begun.elapsed(), 6 * SECOND);
    assert_eq!(error.code(), "health/no-answer");
    let begun = Instant::now();
    let error = passing(&told(std::iter::repeat_with(bad).take(100)), &pace).await.unwrap_err();
    assert!(begun.elapsed() < 6 * SECOND);
    assert_eq!(error.code(), "health/unhealthy");
}

#[tokio::test(start_paused = true)]
async fn a_check_that_forgets_its_own_limit_is_given_up() {
    let pace = Pace { attempts: 1, ..Pace::default() };
    let begun = Instant::now();
    let error = passing(&told([]), &pace).await.unwrap_err();
    assert_eq!(begun.elapsed(), 15 * SECOND);
    assert!(error.to_string().ends_with("no answer within 15 s"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_pace_that_makes_no_sense_is_refused_before_the_first_look() {
    let pace = Pace { deadline_ms: Some(4999), ..Pace::default() };
    let check = told([GOOD]);
    let error = passing(&check, &pace).await.unwrap_err();
    assert_eq!(error.code(), "health/invalid");
    assert!(error.to_string().contains("`deadline`"), "{error}");
    assert_eq!(check.0.lock().unwrap().len(), 1);
}

/// Cancels after `seconds`, and tells how long it took until that was heeded.
async fn cancelled_after(seconds: u32, check: Told, pace: Pace) -> std::time::Duration {
    let cancel = CancellationToken::new();
    let permit = Permit::new(Fence(1), cancel.clone());
    let (subject, begun) = (subject(), Instant::now());
    let (ended, ()) = tokio::join!(pass(&check, Phase::Pre, &pace, &subject, &permit), async {
        sleep(seconds * SECOND).await;
        cancel.cancel();
    });
    assert_eq!(ended.unwrap_err().code(), "engine/cancelled");
    begun.elapsed() - seconds * SECOND
}

#[tokio::test(start_paused = true)]
async fn whoever_cancels_does_not_wait() {
    let pace = || Pace { first_ms: 10_000, max_ms: 10_000, ..Pace::default() };
    assert_eq!(
        cancelled_after(3, told([]), pace()).await,
        std::time::Duration::ZERO,
        "in the midst of a look"
    );
    assert_eq!(cancelled_after(3, told([bad()]), pace()).await, std::time::Duration::ZERO, "while waiting");
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_before_does_not_look() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let check = told([GOOD]);
    let permit = Permit::new(Fence(1), cancel);
    let error = pass(&check, Phase::Pre, &Pace::default(), &subject(), &permit).await.unwrap_err();
    assert_eq!(error.code(), "engine/cancelled");
    assert_eq!(check.0.lock().unwrap().len(), 1);
}
