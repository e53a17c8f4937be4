//! What is tried again, how often, and how long the waits are. Time is tokio's, and paused: it
//! moves only when everything waits.

use std::{sync::Arc, time::Duration};

use eeveon_core::*;
use tokio::time::Instant;

use crate::{
    script::{LATER, NEVER, Script, plan},
    stage::{ID, facts, request},
};

fn ms(instant: Instant) -> u128 {
    instant.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn what_may_pass_by_itself_is_tried_again() {
    let start = Instant::now();
    let script = Script::default().tell("run a", [LATER, LATER]);
    let outcome = script.deploy(&Arc::default(), plan("a")).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(script.log(), ["run a 1", "run a failed", "run a 2", "run a failed", "run a 3", "run a done"]);
    assert_eq!(ms(start), 200 + 400);
}

#[tokio::test(start_paused = true)]
async fn but_not_for_ever() {
    let script = Script::default().tell("run a", [LATER; 9]);
    let outcome = script.deploy(&Arc::default(), plan("a")).await.unwrap();
    assert_eq!(outcome.as_str(), "rolled_back");
    let log = script.log();
    assert_eq!(log.iter().filter(|line| *line == "run a failed").count(), 3);
    assert_eq!(log[6..], ["undo a 1", "undo a done"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_help_is_not_tried_again() {
    let start = Instant::now();
    let script = Script::default().tell("run a", [NEVER]);
    script.deploy(&Arc::default(), plan("a")).await.unwrap();
    assert_eq!(script.log(), ["run a 1", "run a failed", "undo a 1", "undo a done"]);
    assert_eq!(ms(start), 0);
}

#[tokio::test(start_paused = true)]
async fn taking_back_is_tried_again_too_and_then_parks() {
    let journal = Arc::default();
    let script = Script::default().tell("run a", [NEVER]).tell("undo a", [LATER; 4]);
    let error = script.deploy(&journal, plan("a")).await.unwrap_err();
    assert!(matches!(error, EngineError::Parked(_)), "{error}");
    script.log();
    // A person mended nothing yet; the one failure left is within the new patience.
    let by = Actor::User("ada".into());
    let outcome = script.engine(&journal).unpark(ID, by, None, &Session::new(Fence(2))).await.unwrap();
    assert_eq!(outcome.as_str(), "rolled_back");
    assert_eq!(script.log(), ["undo a 1", "undo a failed", "undo a 2", "undo a done"]);
}

#[tokio::test(start_paused = true)]
async fn a_wish_to_stop_ends_the_wait_and_is_no_failure() {
    let script = Script::default().tell("run a", [LATER; 9]);
    let patient = RetryPolicy {
        first: Duration::from_secs(3600),
        max: Duration::from_secs(3600),
        ..RetryPolicy::default()
    };
    let engine = script.engine(&Arc::default()).with_retry(patient);
    let session = Session::new(Fence(1));
    let start = Instant::now();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        session.cancel(Actor::User("ada".into()), Some("lunch".into()));
    };
    let run = engine.deploy(ID, request(&facts(Kind::Deploy)), plan("a, b"), &session);
    let (outcome, ()) = tokio::join!(run, stop);
    assert_eq!(outcome.unwrap(), Outcome::Reverted { failure: None, served: true });
    assert_eq!(script.log(), ["run a 1", "run a failed", "undo a 1", "undo a done"]);
    assert_eq!(ms(start), 1000);
}

#[tokio::test(start_paused = true)]
async fn a_lost_lease_ends_the_wait_without_a_record() {
    let journal = Arc::new(eeveon_testkit::journal::MemoryJournal::default());
    let script = Script::default().tell("run a", [LATER; 9]);
    let engine = script.engine(&journal);
    let session = Session::new(Fence(1));
    let lose = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        session.abandon();
        journal.entries().len()
    };
    let run = engine.deploy(ID, request(&facts(Kind::Deploy)), plan("a"), &session);
    let (ended, written) = tokio::join!(run, lose);
    assert_eq!(ended.unwrap_err().code(), "engine/taken-over");
    assert_eq!(journal.entries().len(), written);
}

#[tokio::test(start_paused = true)]
async fn past_the_pivot_patience_ends_with_a_person() {
    let script = Script::default().tell("run b", [LATER; 9]);
    let error = script.deploy(&Arc::default(), plan("a | b")).await.unwrap_err();
    assert_eq!(error.class(), Class::Failed);
    assert!(error.hint().unwrap().contains("resume"));
    assert_eq!(script.log().iter().filter(|line| *line == "run b failed").count(), 3);
}
