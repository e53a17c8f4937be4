//! Ten thousand simulated days without a promise broken, and every planted bug found.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::thread;

use eeveon_testkit::simulation::{Flaw, run};

/// Seeds that are played. Each is a scenario of its own.
const SEEDS: u64 = 10_000;

#[test]
fn every_promise_is_kept() {
    let lanes = 2;
    let play = |lane: u64| (lane..SEEDS).step_by(lanes).find_map(|seed| run(seed, None).err());
    let failures: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..lanes as u64).map(|lane| scope.spawn(move || play(lane))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{}", failures[0]);
}

#[track_caller]
fn finds(flaw: Flaw, words: &str) {
    let failure = (0..1000).find_map(|seed| run(seed, Some(flaw)).err());
    let failure = failure.unwrap_or_else(|| panic!("{flaw:?} was not found in 1000 seeds"));
    let text = failure.to_string();
    assert!(failure.what.contains(words), "{flaw:?}: {text}");
    assert!(text.starts_with(&format!("seed {}: ", failure.seed)), "{text}");
    assert!(
        !failure.trace.is_empty() && failure.acts.len() <= 8,
        "{} acts are many\n{text}",
        failure.acts.len()
    );
    // Without the bug the same seed is good.
    assert!(run(failure.seed, None).is_ok());
}

#[test]
fn finds_a_newer_commit_taken_for_an_older_one() {
    finds(Flaw::CoalesceToOlder, "was promised");
}

#[test]
fn finds_a_queue_that_is_forgotten() {
    finds(Flaw::ForgetQueue, "");
}

#[test]
fn finds_two_deployments_at_once() {
    finds(Flaw::TwoAtOnce, "at once");
}

#[test]
fn finds_a_webhook_that_is_dropped() {
    finds(Flaw::DropWhileDraining, "accepted and dropped");
}

#[test]
fn finds_a_deployment_that_is_done_twice() {
    finds(Flaw::DeployTwice, "deployed twice");
}

#[test]
fn finds_deeds_before_words() {
    finds(Flaw::ActBeforeSave, "");
}

#[test]
fn finds_a_schedule_that_forgets() {
    finds(Flaw::ForgetSchedule, "ran twice");
}

#[test]
fn finds_windows_that_are_not_looked_at() {
    finds(Flaw::IgnoreWindows, "window was shut");
}

#[test]
fn finds_somebody_in_a_hurry_who_waits() {
    finds(Flaw::UrgentWaits, "is urgent and waits");
}

#[test]
fn finds_a_herd() {
    finds(Flaw::Herd, "two turns after one success");
}

#[test]
fn finds_a_look_that_is_lost() {
    finds(Flaw::LostLook, "was pushed hours ago");
}

#[test]
fn finds_a_commit_that_kills_again_and_again() {
    finds(Flaw::ForgetDeaths, "killed 4 times");
}

#[test]
fn finds_what_waits_for_a_project_that_was_removed() {
    finds(Flaw::KeepGone, "was removed");
}

#[test]
fn finds_a_project_that_is_switched_off_and_deploys() {
    finds(Flaw::IgnoreStop, "switched off");
}

#[test]
fn finds_what_could_not_begin_and_is_lost() {
    finds(Flaw::LoseDeferred, "was promised");
}
