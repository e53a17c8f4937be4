//! The verbs: a gate, a watch, the proof on the way back.

use std::{collections::BTreeMap, path::PathBuf};

use eeveon_core::{
    Action, CommitId, DeploymentId, Endpoint, Fence, OnFailure, Permit, Placed, ProjectName, Registry,
    ReleaseNumber, Stage, StepContext, StepError, StepKey, StepSpec,
};
use eeveon_health::{
    Bake, CheckSpec, CommandCheckSpec, CommandSpec, Ending, Gate, GateParams, LookAt, Looked, Pace, Phase,
    Place, Reach, Verify, VerifyParams, Watch, WatchParams, What,
};
use eeveon_testkit::action::{Scene, check_action};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::common::*;

fn check(pace: Pace) -> CheckSpec {
    let what = What::Command(CommandCheckSpec { run: CommandSpec::Args(vec!["./check".to_owned()]) });
    CheckSpec { name: "ready".to_owned(), what, pace }
}

fn look_at(place: Place) -> LookAt {
    LookAt {
        project: ProjectName::new("shop").unwrap(),
        release: ReleaseNumber(7),
        commit: CommitId::new("c".repeat(40)).unwrap(),
        place,
    }
}

fn folder() -> Place {
    Place::Folder(PathBuf::from("/srv/shop/releases/6"))
}

fn gate(pace: Pace) -> GateParams {
    let place = serde_json::from_value(json!({"release": "ship/local"})).unwrap();
    GateParams {
        phase: Phase::Candidate,
        check: check(pace),
        reach: Reach::Operator,
        look_at: look_at(place),
        ask: false,
    }
}

fn watch(bake: Bake) -> WatchParams {
    WatchParams {
        check: check(Pace::default()),
        reach: Reach::Operator,
        look_at: look_at(folder()),
        bake,
        ask: true,
    }
}

fn verify(checks: Vec<CheckSpec>) -> VerifyParams {
    VerifyParams { checks, reach: Reach::Operator, look_at: look_at(folder()) }
}

fn outputs() -> BTreeMap<StepKey, Value> {
    let endpoint = Endpoint("/srv/shop/releases/7".to_owned());
    let placed = Placed { endpoint, files: 1, bytes: 1, written: 1, extra: 0 };
    BTreeMap::from([(StepKey::new("ship/local"), serde_json::to_value(placed).unwrap())])
}

/// Lets a deed see a step.
async fn within<T>(cancel: CancellationToken, deed: impl AsyncFnOnce(&StepContext<'_>) -> T) -> T {
    let step = StepSpec {
        key: StepKey::new("health/ready"),
        stage: Stage::Check,
        action: String::new(),
        params: Value::Null,
    };
    let (permit, outputs) = (Permit::new(Fence(1), cancel), outputs());
    let cx = StepContext { deployment: DeploymentId(3), step: &step, attempt: 1, permit, outputs: &outputs };
    deed(&cx).await
}

async fn run<A: Action>(action: A, params: &A::Params) -> Result<A::Output, StepError> {
    within(CancellationToken::new(), async |cx| action.run(cx, params).await).await
}

fn code(error: &StepError) -> &'static str {
    error.diagnosis().code()
}

struct Play<A: Action> {
    make: fn(eeveon_health::Checks) -> A,
    params: A::Params,
}

impl<A: Action> Scene for Play<A>
where
    A::Params: Clone,
{
    type Action = A;
    const TAKES_BACK: bool = false;

    fn action(&self) -> A {
        (self.make)(checks(Script::codes([0]), Known::default()))
    }

    fn params(&self) -> A::Params {
        self.params.clone()
    }

    fn outputs(&self) -> BTreeMap<StepKey, Value> {
        outputs()
    }

    // Looking leaves no trace.
    fn snapshot(&self) -> String {
        String::new()
    }
}

#[test]
fn a_gate_passes_the_suite() {
    check_action(|| Play { make: Gate, params: gate(Pace::default()) });
}

#[test]
fn a_watch_passes_the_suite() {
    check_action(|| Play { make: Watch, params: watch(Bake { every_ms: 1, bake_ms: 1 }) });
}

#[test]
fn the_way_back_passes_the_suite() {
    check_action(|| Play { make: Verify, params: verify(vec![check(Pace::default())]) });
}

#[tokio::test(start_paused = true)]
async fn a_gate_opens_and_tells_how_often_it_looked() {
    let script = Script::codes([1, 1, 0]);
    let looked: Option<Looked> =
        run(Gate(checks(script.clone(), Known::default())), &gate(Pace::default())).await.unwrap();
    let looked = looked.unwrap();
    assert_eq!((looked.looks, looked.healthy), (3, 1));
    assert_eq!(looked.last.unwrap().as_raw(), "exit code 1: said");
    let ran = script.ran.lock().unwrap();
    assert!(ran[0].0.contains("./check"), "{ran:?}");
    assert_eq!(ran[0].1.deployment, DeploymentId(3));
    assert_eq!((ran[0].1.step.as_str(), ran[0].1.undo), ("health/ready", false));
}

#[tokio::test(start_paused = true)]
async fn a_gate_stays_shut() {
    for (script, expected) in [
        (Script::codes([1]), "health/unhealthy"),
        (Script::new([Some((Ending::Killed, ""))]), "health/unhealthy"),
        (Script::new([None]), "health/no-answer"),
    ] {
        let error =
            run(Gate(checks(script.clone(), Known::default())), &gate(Pace::default())).await.unwrap_err();
        assert_eq!(code(&error), expected);
        assert_eq!(script.count(), 3);
        let failure = error.into_failure(Stage::Check);
        assert_eq!(failure.details.unwrap()["looks"], 3);
        assert!(failure.message.contains("before the switch"), "{}", failure.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_ends_a_command_when_it_is_cancelled() {
    let script = Script::new([None]);
    let cancel = CancellationToken::new();
    let begun = Instant::now();
    let (ended, ()) = tokio::join!(
        within(cancel.clone(), async |cx| {
            Gate(checks(script.clone(), Known::default())).run(cx, &gate(Pace::default())).await
        }),
        async {
            tokio::time::sleep(SECOND).await;
            cancel.cancel();
        }
    );
    assert_eq!(code(&ended.unwrap_err()), "engine/cancelled");
    assert_eq!(begun.elapsed(), SECOND);
    // Its end is the runner's business; it has been told.
    tokio::task::yield_now().await;
    assert_eq!(script.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_watch_looks_until_the_time_is_over() {
    let script = Script::codes([0]);
    let begun = Instant::now();
    let params = watch(Bake { every_ms: 10_000, bake_ms: 60_000 });
    let looked = run(Watch(checks(script.clone(), Known::default())), &params).await.unwrap().unwrap();
    assert_eq!((looked.looks, looked.healthy, looked.flapped), (7, 7, 0));
    assert_eq!(begun.elapsed(), 60 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_watch_forgives_a_hiccup_and_not_an_illness() {
    let params = watch(Bake { every_ms: 10_000, bake_ms: 60_000 });
    let script = Script::codes([0, 1, 1, 0, 1, 0]);
    let looked = run(Watch(checks(script, Known::default())), &params).await.unwrap().unwrap();
    assert_eq!(looked.flapped, 2);
    let script = Script::codes([0, 1, 0, 1, 1, 1, 0]);
    let error = run(Watch(checks(script.clone(), Known::default())), &params).await.unwrap_err();
    assert_eq!(code(&error), "health/went-bad");
    assert_eq!(script.count(), 6);
    assert_eq!(error.into_failure(Stage::Check).details.unwrap()["flapped"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_watch_without_sense_is_refused() {
    for (bake, key) in [
        (Bake { every_ms: 10_000, bake_ms: 0 }, "`bake`"),
        (Bake { every_ms: 10_000, bake_ms: u64::MAX }, "`bake`"),
        (Bake { every_ms: 0, bake_ms: 60_000 }, "`every`"),
        (Bake { every_ms: 60_001, bake_ms: 60_000 }, "`every`"),
    ] {
        let script = Script::codes([0]);
        let error = run(Watch(checks(script.clone(), Known::default())), &watch(bake)).await.unwrap_err();
        assert_eq!(code(&error), "health/invalid");
        assert!(error.to_string().contains(key), "{error}");
        assert_eq!(script.count(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_way_back_is_proved_and_the_way_forward_is_not() {
    let undo = async |script: &Script, checks_: Vec<CheckSpec>| {
        let action = Verify(checks(script.clone(), Known::default()));
        within(CancellationToken::new(), async |cx| action.undo(cx, &verify(checks_), None).await).await
    };
    let two = || vec![check(Pace::default()), check(Pace::default())];
    let script = Script::codes([0]);
    run(Verify(checks(script.clone(), Known::default())), &verify(two())).await.unwrap();
    assert_eq!(script.count(), 0);

    undo(&script, two()).await.unwrap();
    assert_eq!(script.count(), 2);
    assert!(script.ran.lock().unwrap().iter().all(|(_, origin)| origin.undo));

    // The second check sees a release that comes back slowly, then one that does not.
    undo(&Script::codes([0, 1, 0]), two()).await.unwrap();
    let script = Script::codes([0, 1, 1, 1]);
    let error = undo(&script, two()).await.unwrap_err();
    assert_eq!(code(&error), "health/both-bad");
    assert_eq!(script.count(), 4);
    assert!(error.to_string().starts_with("release 7, which served before, does not pass"), "{error}");
}

#[test]
fn a_failure_is_left_to_a_person_when_the_plan_says_so() {
    let checks = checks(Script::codes([0]), Known::default());
    assert_eq!(Gate(checks.clone()).on_failure(&gate(Pace::default())), OnFailure::TurnBack);
    let bake = Bake { every_ms: 1000, bake_ms: 1000 };
    assert_eq!(Watch(checks).on_failure(&watch(bake)), OnFailure::Ask);
}

#[test]
fn all_verbs_are_taught() {
    let mut registry = Registry::default();
    checks(Script::codes([0]), Known::default()).register(&mut registry);
    let taught = format!("{registry:?}");
    for name in [Gate::NAME, Watch::NAME, Verify::NAME] {
        assert!(taught.contains(name), "{taught}");
    }
}
