//! Steps side by side: when one fails, the others are awaited and everything begun is taken back.
//! And what people may do while a deployment runs, waits or has ended.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use eeveon_core::*;
use eeveon_testkit::journal::MemoryJournal;

use crate::{
    script::{LATER, NEVER, Script, Turn, plan},
    stage::{ID, facts, request},
};

fn ada() -> Actor {
    Actor::User("ada".into())
}

fn session() -> Session {
    Session::new(Fence(2))
}

fn is_failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Reverted { failure: Some(_), .. })
}

/// Deploys, and drops the process after so many polls.
fn die(script: &Script, journal: &Arc<MemoryJournal>, plan: Plan, polls: usize) {
    let mut dying = std::pin::pin!(script.deploy(journal, plan));
    for _ in 0..polls {
        let polled = dying.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "it ended before it was to die");
    }
}

#[tokio::test]
async fn a_slow_neighbour_is_awaited_and_taken_back() {
    let journal = Arc::default();
    let script = Script::default().tell("run a", [NEVER.after(2)]).tell("run b", [Turn::default().after(20)]);
    let outcome = script.deploy(&journal, plan("z, a b, c")).await.unwrap();
    assert!(is_failed(&outcome));
    let log = script.log();
    assert_eq!(log[..6], ["run z 1", "run z done", "run a 1", "run b 1", "run a failed", "run b done"]);
    assert_eq!(log[6..8], ["undo a 1", "undo a done"]);
    assert_eq!(log.last().unwrap(), "undo z done");
    assert!(log.contains(&"undo b done".into()));
    assert!(!log.iter().any(|line| line.contains(" c ")), "the wave after a failure never begins");
}

#[tokio::test]
async fn a_neighbour_that_has_not_begun_stays_so() {
    // `b` is chosen together with `a`, but `a` has failed before `b` could record its beginning.
    let journal = Arc::default();
    let script = Script::default().tell("run a", [NEVER]);
    let outcome = script.deploy(&journal, plan("a b")).await.unwrap();
    assert!(is_failed(&outcome));
    assert_eq!(script.log(), ["run a 1", "run a failed", "undo a 1", "undo a done"]);
}

#[tokio::test]
async fn cancelled_before_it_began_it_does_nothing() {
    let (script, session) = (Script::default(), session());
    session.cancel(ada(), None);
    let engine = script.engine(&Arc::default());
    let outcome = engine.deploy(ID, request(&facts(Kind::Deploy)), plan("a b"), &session).await.unwrap();
    assert_eq!(outcome, Outcome::Reverted { failure: None, served: false });
    assert_eq!(script.log(), Vec::<String>::new());
}

#[tokio::test]
async fn of_several_failures_the_first_is_told() {
    let journal = Arc::new(MemoryJournal::default());
    let script = Script::default().tell("run a", [NEVER.after(9)]).tell("run b", [NEVER.after(3)]);
    let outcome = script.deploy(&journal, plan("a b c")).await.unwrap();
    assert!(is_failed(&outcome));
    let failed: Vec<_> = journal
        .entries()
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Failed { step, .. } => Some(step.to_string()),
            _ => None,
        })
        .collect();
    assert_eq!(failed, ["b", "a"]);
    let undone =
        script.log().iter().filter(|line| line.ends_with("done") && line.starts_with("undo")).count();
    assert_eq!(undone, 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_again_once_a_neighbour_failed() {
    let journal = Arc::default();
    let script = Script::default().tell("run a", [NEVER.after(5)]).tell("run b", [LATER, LATER]);
    let outcome = script.deploy(&journal, plan("a b")).await.unwrap();
    assert!(is_failed(&outcome));
    let log = script.log();
    assert!(!log.contains(&"run b 2".into()), "{log:?}");
    assert!(log.contains(&"undo b done".into()), "{log:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_tried_again_once_a_neighbour_waits_for_a_person() {
    let journal = Arc::default();
    let script = Script::default().tell("run a", [NEVER.after(5)]).tell("run b", [LATER, LATER]);
    let error = script.deploy(&journal, plan("| a b")).await.unwrap_err();
    assert!(matches!(error, EngineError::Parked(_)), "{error}");
    assert!(!script.log().contains(&"run b 2".into()));
    let outcome = script.engine(&journal).unpark(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn past_the_pivot_all_that_failed_is_done_again_after_a_person_looked() {
    let journal = Arc::default();
    let script = Script::default().tell("run b", [NEVER.after(20)]).tell("run c", [NEVER.after(30)]);
    let error = script.deploy(&journal, plan("a | b c d, e")).await.unwrap_err();
    assert_eq!(error.code(), "engine/parked");
    script.log();
    let again = script.engine(&journal).resume(ID, &session()).await.unwrap_err();
    assert!(matches!(again, EngineError::Parked(_)), "it waits until a person has looked");
    let outcome = script.engine(&journal).unpark(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
    let log = script.log();
    assert!(log.contains(&"run b done".into()) && log.contains(&"run c done".into()), "{log:?}");
    assert!(log.iter().all(|line| line.starts_with("run") && !line.starts_with("run a")), "{log:?}");
}

#[tokio::test]
async fn what_cannot_be_taken_back_does_not_keep_its_neighbours() {
    let journal = Arc::default();
    let script = Script::default()
        .tell("run c", [NEVER])
        .tell("undo a", [NEVER])
        .tell("undo b", [Turn::default().after(5)]);
    let error = script.deploy(&journal, plan("z, a b, c")).await.unwrap_err();
    assert!(matches!(&error, EngineError::Parked(step) if step.as_str() == "a"), "{error}");
    let log = script.log();
    assert!(log.contains(&"undo b done".into()), "{log:?}");
    assert!(!log.iter().any(|line| line.starts_with("undo z")), "{log:?}");
    let outcome = script.engine(&journal).unpark(ID, ada(), None, &session()).await.unwrap();
    assert!(is_failed(&outcome));
    assert_eq!(script.log(), ["undo a 1", "undo a done", "undo z 1", "undo z done"]);
}

#[tokio::test]
async fn an_interrupted_step_that_asks_runs_again_only_after_a_person_looked() {
    let journal = Arc::default();
    let script = Script::default().tell("run a?", [Turn::default().after(50)]);
    die(&script, &journal, plan("a?, b"), 10);
    assert_eq!(script.log(), ["run a? 1"]);
    for _ in 0..2 {
        let error = script.engine(&journal).resume(ID, &session()).await.unwrap_err();
        assert!(matches!(error, EngineError::Parked(_)), "{error}");
    }
    assert_eq!(script.log(), Vec::<String>::new());
    let outcome = script.engine(&journal).unpark(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
    assert_eq!(script.log(), ["run a? 1", "run a? done", "run b 1", "run b done"]);
}

#[tokio::test]
async fn an_interrupted_step_that_asks_is_taken_back_without_asking() {
    for cancels in [true, false] {
        let journal = Arc::default();
        let script = Script::default().tell("run a?", [Turn::default().after(50)]);
        die(&script, &journal, plan("a?, b"), 10);
        script.log();
        let engine = script.engine(&journal);
        let outcome = match cancels {
            true => engine.cancel(ID, ada(), None, &session()).await.unwrap(),
            false => engine.recover(ID, &session()).await.unwrap(),
        };
        assert_eq!(outcome, Outcome::Reverted { failure: None, served: true });
        assert_eq!(script.log(), ["undo a? 1", "undo a? done"]);
    }
}

#[tokio::test]
async fn a_parked_deployment_can_be_cancelled_before_the_pivot() {
    let journal = Arc::default();
    let script = Script::default().tell("run a?", [Turn::default().after(50)]);
    die(&script, &journal, plan("a?, b"), 10);
    script.engine(&journal).resume(ID, &session()).await.unwrap_err();
    let outcome = script.engine(&journal).cancel(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(outcome.as_str(), "cancelled");
}

#[tokio::test]
async fn there_is_no_way_back_past_the_pivot() {
    let journal = Arc::default();
    let script = Script::default().tell("run b", [NEVER]);
    script.deploy(&journal, plan("a | b")).await.unwrap_err();
    let error = script.engine(&journal).cancel(ID, ada(), None, &session()).await.unwrap_err();
    assert_eq!(error.code(), "engine/no-way-back");
    let outcome = script.engine(&journal).unpark(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
    let ended = script.engine(&journal).cancel(ID, ada(), None, &session()).await.unwrap();
    assert_eq!(ended, Outcome::Succeeded, "what has ended cannot be cancelled, and says how it ended");
}

#[tokio::test]
async fn a_wish_to_stop_is_not_heard_past_the_pivot() {
    let journal = Arc::default();
    let script = Script::default().tell("run b", [Turn::default().after(5)]);
    let (session, engine) = (session(), script.engine(&journal));
    let request = request(&facts(Kind::Deploy));
    let mut running = std::pin::pin!(engine.deploy(ID, request, plan("a | b, c"), &session));
    while !script.log().contains(&"run b 1".into()) {
        assert!(futures::poll!(running.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    session.cancel(ada(), None);
    assert_eq!(running.await.unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn whoever_lost_the_lease_writes_no_more() {
    let journal = Arc::new(MemoryJournal::default());
    let script = Script::default().tell("run a", [NEVER.after(5)]);
    let (session, engine) = (session(), script.engine(&journal));
    let request = request(&facts(Kind::Deploy));
    let mut running = std::pin::pin!(engine.deploy(ID, request, plan("a, b"), &session));
    while !script.log().contains(&"run a 1".into()) {
        assert!(futures::poll!(running.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let written = journal.entries().len();
    session.abandon();
    let error = running.await.unwrap_err();
    assert_eq!(error.code(), "engine/taken-over");
    assert_eq!(journal.entries().len(), written);
    // Another process goes on.
    let outcome = script.engine(&journal).resume(ID, &Session::new(Fence(3))).await.unwrap();
    assert_eq!(outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn an_empty_plan_succeeds_and_an_empty_journal_is_no_deployment() {
    let journal = Arc::default();
    let script = Script::default();
    let error = script.engine(&journal).resume(ID, &session()).await.unwrap_err();
    assert_eq!(error.code(), "engine/corrupt-journal");
    assert_eq!(script.deploy(&journal, Plan::default()).await.unwrap(), Outcome::Succeeded);
}

#[tokio::test]
async fn an_unknown_action_is_a_failure_and_is_taken_back_by_nobody() {
    let journal = Arc::default();
    let script = Script::default();
    let mut plan = plan("a, b");
    plan.waves[1][0].action = "from.the.future".into();
    let error = script.deploy(&journal, plan).await.unwrap_err();
    assert!(matches!(&error, EngineError::Parked(step) if step.as_str() == "b"), "{error}");
}

#[tokio::test]
async fn a_check_that_asks_can_be_repeated_overruled_or_lost() {
    let failing = || Script::default().tell("run check?", [NEVER]);
    for (answer, expected) in [("resume", "run check? 1"), ("skip", "run c 1"), ("cancel", "undo check? 1")] {
        let (journal, script) = (Arc::default(), failing());
        let error = script.deploy(&journal, plan("a, check?, c")).await.unwrap_err();
        assert_eq!(error.code(), "engine/parked");
        assert!(!script.log().iter().any(|line| line.starts_with("undo")), "it stays as it is");
        let (engine, session) = (script.engine(&journal), session());
        // Another process that comes by does not decide.
        assert!(matches!(engine.recover(ID, &session).await, Err(EngineError::Parked(_))));
        let outcome = match answer {
            "resume" => engine.unpark(ID, ada(), None, &session).await,
            "skip" => engine.skip(ID, ada(), None, &session).await,
            _ => engine.cancel(ID, ada(), None, &session).await,
        };
        assert_eq!(script.log()[0], expected, "{answer}");
        match answer {
            "cancel" => assert!(is_failed(&outcome.unwrap()), "what failed is why it was taken back"),
            _ => assert_eq!(outcome.unwrap(), Outcome::Succeeded),
        }
    }
}

#[tokio::test]
async fn nobody_is_asked_once_a_neighbour_turned_back() {
    for (check, neighbour) in [(2, 9), (9, 2)] {
        let journal = Arc::default();
        let script = Script::default()
            .tell("run check?", [NEVER.after(check)])
            .tell("run c", [NEVER.after(neighbour)]);
        let outcome = script.deploy(&journal, plan("a, check? c")).await.unwrap();
        assert!(is_failed(&outcome));
        assert!(script.log().contains(&"undo a done".into()));
    }
}

#[tokio::test]
async fn what_others_rely_on_cannot_be_left_out() {
    let journal = Arc::default();
    let script = Script::default().tell("run b", [NEVER]);
    script.deploy(&journal, plan("a | b")).await.unwrap_err();
    let error = script.engine(&journal).skip(ID, ada(), None, &session()).await.unwrap_err();
    assert_eq!(error.code(), "engine/nothing-to-skip");
}

#[tokio::test]
async fn after_a_death_an_irreversible_release_that_serves_waits_for_a_person() {
    // Killed at some moment of the step after the switch, or between the two.
    let mut asked = 0;
    for polls in 1..20 {
        let journal = Arc::<MemoryJournal>::default();
        let script = Script::default().tell("run b", [Turn::default().after(50)]);
        let (engine, begun) = (script.engine(&journal), session());
        let request = Request { irreversible: true, ..request(&facts(Kind::Deploy)) };
        {
            let mut dying = std::pin::pin!(engine.deploy(ID, request, plan("a, b, c"), &begun));
            for _ in 0..polls {
                let polled = dying.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(polled.is_pending(), "it ended before it was to die");
            }
        }
        let switched = journal.entries().iter().any(|it| matches!(it.record, Record::Finished { .. }));
        if !switched {
            continue;
        }
        asked += 1;
        let error = script.engine(&journal).recover(ID, &session()).await.unwrap_err();
        assert_eq!(error.code(), "engine/parked");
        assert!(!script.log().iter().any(|line| line.starts_with("undo")), "it still serves");
        let outcome = script.engine(&journal).cancel(ID, ada(), None, &session()).await.unwrap();
        assert_eq!(outcome, Outcome::Reverted { failure: None, served: true });
    }
    assert!(asked > 5, "it died after the switch only {asked} times");
}
