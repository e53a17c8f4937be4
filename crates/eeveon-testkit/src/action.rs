//! The fail / repeat / die suite that every action passes.
//!
//! The engine runs a step again after a death and takes back steps that did all, part or none of
//! their work. [`check_action`] does to an action whatever the engine may do to it, each time in a
//! fresh [`Scene`], and looks at what has become of the world.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "only ever part of a test, where a panic is a finding"
)]

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
};

use eeveon_core::{
    Action, DeploymentId, Diagnose, Fence, Permit, Stage, StepContext, StepError, StepKey, StepSpec,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A world in which one step is about to run.
pub trait Scene {
    /// What is put to the test.
    type Action: Action;

    /// Whether taking back makes the world what it was. An action that leaves this to the undo of
    /// an earlier step says false; then its own undo must change nothing.
    const TAKES_BACK: bool = true;

    /// Makes the action, anew for each life of the process.
    fn action(&self) -> Self::Action;

    /// Returns what the plan says.
    fn params(&self) -> <Self::Action as Action>::Params;

    /// Returns what earlier steps produced.
    fn outputs(&self) -> BTreeMap<StepKey, Value> {
        BTreeMap::new()
    }

    /// Describes the world as far as anyone could notice: what is kept for inspection is no part of
    /// it. Equal in two scenes to which the same has happened, so without times and temporary paths.
    fn snapshot(&self) -> String;

    /// Returns the switch by which the world is made to fail, if it has one.
    fn faults(&self) -> Option<&Faults> {
        None
    }
}

/// Makes a fake world fail at its n-th change. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Faults(Arc<Mutex<Counter>>);

#[derive(Debug, Default)]
struct Counter {
    changes: u64,
    fails_at: Option<u64>,
}

/// The failure a [`Faults`] was told to make.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("failed on command")]
pub struct Fault;

impl Diagnose for Fault {
    fn code(&self) -> &'static str {
        "test/fault"
    }
}

impl Faults {
    /// A fake calls this before each change it makes. A step can be interrupted here.
    ///
    /// # Errors
    ///
    /// If this is the change that was to fail.
    pub async fn before_change(&self) -> Result<(), Fault> {
        tokio::task::yield_now().await;
        let mut counter = self.lock();
        let this = counter.changes;
        counter.changes = this.saturating_add(1);
        match counter.fails_at {
            Some(at) if at == this => Err(Fault),
            _ => Ok(()),
        }
    }

    /// Lets the n-th change from now fail, the first being 0, and no other.
    pub fn fail_at(&self, n: u64) {
        let mut counter = self.lock();
        counter.fails_at = Some(counter.changes.saturating_add(n));
    }

    /// Returns how many changes there were, those that failed included.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What happens to the process during one deed.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Nothing.
    Lives,
    /// It dies right after the n-th time the deed had to wait.
    DiesWaiting(u32),
    /// It dies when what the deed waited for the n-th time has come to pass.
    DiesWoken(u32),
    /// It is told to stop before the deed is polled for the n-th time, the first being 0.
    Cancelled(u32),
}

impl Fate {
    /// Every death that could come at the n-th wait.
    const DEATHS: [fn(u32) -> Self; 2] = [Self::DiesWaiting, Self::DiesWoken];
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lives => write!(f, "undisturbed"),
            Self::DiesWaiting(n) => write!(f, "death in wait {n}"),
            Self::DiesWoken(n) => write!(f, "death after wait {n}"),
            Self::Cancelled(n) => write!(f, "cancelled at poll {n}"),
        }
    }
}

/// No deed waits more often than this.
const MOST_WAITS: u32 = 10_000;

/// Puts an action to the test; `make` makes a fresh scene, each time the same.
///
/// # Panics
///
/// When the action breaks what [`Action`] promises; the message tells the story.
pub fn check_action<S: Scene>(make: impl Fn() -> S) {
    let before = make().snapshot();
    let (after, changes) = {
        let scene = make();
        run_well(&scene, "run");
        (scene.snapshot(), scene.faults().map_or(0, Faults::changes))
    };
    let suite = Suite { make, before, after };
    suite.repeats();
    suite.turns_back();
    suite.dies_running();
    suite.dies_undoing();
    suite.is_cancelled();
    suite.fails(changes);
}

struct Suite<F> {
    make: F,
    before: String,
    after: String,
}

impl<S: Scene, F: Fn() -> S> Suite<F> {
    fn scene(&self) -> S {
        let scene = (self.make)();
        assert_eq!(scene.snapshot(), self.before, "every fresh scene must look the same");
        scene
    }

    fn repeats(&self) {
        let scene = self.scene();
        run_well(&scene, "run");
        run_well(&scene, "run, run again");
        assert_eq!(scene.snapshot(), self.after, "run, run again: the second run changed something");
    }

    fn turns_back(&self) {
        let scene = self.scene();
        self.take_back(&scene, None, "not run at all");

        let scene = self.scene();
        let output = run_well(&scene, "run");
        self.take_back(&scene, Some(&output), "run");
        self.take_back(&scene, Some(&output), "run, undo");
        self.take_back(&scene, None, "run, undo, undo");

        let scene = self.scene();
        run_well(&scene, "run");
        self.take_back(&scene, None, "run, died before that was on record");
    }

    fn dies_running(&self) {
        for death in Fate::DEATHS {
            for n in 1..MOST_WAITS {
                let (fate, scene) = (death(n), self.scene());
                if run(&scene, fate).is_some() {
                    break;
                }
                self.take_back(&scene, None, &format!("run: {fate}"));

                let scene = self.scene();
                if run(&scene, fate).is_none() {
                    self.goes_on(&scene, &format!("run: {fate}"));
                }
            }
        }
    }

    fn dies_undoing(&self) {
        for death in Fate::DEATHS {
            for n in 1..MOST_WAITS {
                let (fate, scene) = (death(n), self.scene());
                let output = run_well(&scene, "run");
                if undo(&scene, Some(&output), fate).is_some() {
                    break;
                }
                self.take_back(&scene, Some(&output), &format!("run, undo: {fate}"));
            }
        }
    }

    fn is_cancelled(&self) {
        for n in 0..MOST_WAITS {
            let (fate, scene) = (Fate::Cancelled(n), self.scene());
            // Work that is past stopping may come to its end.
            let ended = run(&scene, fate).expect("nobody died");
            self.take_back(&scene, ended.as_ref().ok(), &format!("run: {fate}"));
            if ended.is_ok() {
                break;
            }
        }
    }

    fn fails(&self, changes: u64) {
        let armed = |n| {
            let scene = self.scene();
            scene.faults().expect("there were changes").fail_at(n);
            scene
        };
        for n in 0..changes {
            let story = format!("run: change {n} failed");
            let scene = armed(n);
            let ended = run(&scene, Fate::Lives).expect("nobody died");
            self.take_back(&scene, ended.as_ref().ok(), &story);

            let scene = armed(n);
            if run(&scene, Fate::Lives).expect("nobody died").is_err() {
                self.goes_on(&scene, &story);
            }
        }
        let undoing = {
            let scene = self.scene();
            let output = run_well(&scene, "run");
            let so_far = scene.faults().map_or(0, Faults::changes);
            self.take_back(&scene, Some(&output), "run");
            scene.faults().map_or(0, Faults::changes).saturating_sub(so_far)
        };
        for n in 0..undoing {
            let scene = self.scene();
            let output = run_well(&scene, "run");
            scene.faults().expect("there were changes").fail_at(n);
            let _may_fail = undo(&scene, Some(&output), Fate::Lives).expect("nobody died");
            self.take_back(&scene, Some(&output), &format!("run, undo: change {n} failed"));
        }
    }

    /// Runs the step again after `story` and wants to see what an undisturbed run leaves.
    fn goes_on(&self, scene: &S, story: &str) {
        run_well(scene, &format!("{story}, run again"));
        assert_eq!(scene.snapshot(), self.after, "{story}, run again: not as after an undisturbed run");
    }

    /// Takes the step back after `story` and wants to see what there was before.
    fn take_back(&self, scene: &S, output: Option<&Output<S>>, story: &str) {
        let found = scene.snapshot();
        let ended = undo(scene, output, Fate::Lives).expect("nobody died");
        ended.unwrap_or_else(|error| panic!("{story}, undo: {}", told(error)));
        match S::TAKES_BACK {
            true => assert_eq!(scene.snapshot(), self.before, "{story}, undo: not as before"),
            false => assert_eq!(scene.snapshot(), found, "{story}, undo: it changed something"),
        }
    }
}

type Output<S> = <<S as Scene>::Action as Action>::Output;

fn run_well<S: Scene>(scene: &S, story: &str) -> Output<S> {
    let ended = run(scene, Fate::Lives).expect("nobody died");
    ended.unwrap_or_else(|error| panic!("{story}: {}", told(error)))
}

/// Runs the step; `None` when the process died of it.
fn run<S: Scene>(scene: &S, fate: Fate) -> Option<Result<Output<S>, StepError>> {
    let (action, spec, outputs) = (scene.action(), spec::<S>(scene), scene.outputs());
    let params = kept(&scene.params());
    live(fate, async |permit| {
        let cx =
            StepContext { deployment: DeploymentId(1), step: &spec, attempt: 1, permit, outputs: &outputs };
        Ok(kept(&action.run(&cx, &params).await?))
    })
}

/// Takes the step back; `None` when the process died of it.
fn undo<S: Scene>(scene: &S, output: Option<&Output<S>>, fate: Fate) -> Option<Result<(), StepError>> {
    let (action, spec, outputs) = (scene.action(), spec::<S>(scene), scene.outputs());
    let params = kept(&scene.params());
    live(fate, async |permit| {
        let cx =
            StepContext { deployment: DeploymentId(1), step: &spec, attempt: 1, permit, outputs: &outputs };
        action.undo(&cx, &params, output).await
    })
}

fn spec<S: Scene>(scene: &S) -> StepSpec {
    StepSpec {
        key: StepKey::new("suite/step"),
        stage: Stage::Build,
        action: S::Action::NAME.to_owned(),
        params: serde_json::to_value(scene.params()).expect("parameters have a JSON form"),
    }
}

/// What becomes of a value in the journal.
fn kept<T: Serialize + DeserializeOwned>(value: &T) -> T {
    let json = serde_json::to_string(value).expect("what plans and journals hold has a JSON form");
    serde_json::from_str(&json).expect("what was written can be read back")
}

/// Lets one process live through a deed. Returns once everything has come to rest, blocking work
/// included.
fn live<T>(fate: Fate, deed: impl AsyncFnOnce(Permit) -> T) -> Option<T> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let cancel = CancellationToken::new();
    let permit = Permit::new(Fence(1), cancel.clone());
    let ended = runtime.block_on(async {
        let mut deed = pin!(deed(permit));
        let mut polls = 0_u32;
        poll_fn(|cx| {
            match fate {
                Fate::DiesWoken(n) if polls == n => return Poll::Ready(None),
                Fate::Cancelled(n) if polls == n => cancel.cancel(),
                _ => (),
            }
            polls = polls.saturating_add(1);
            match deed.as_mut().poll(cx) {
                Poll::Ready(value) => Poll::Ready(Some(value)),
                Poll::Pending if matches!(fate, Fate::DiesWaiting(n) if polls == n) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    });
    // Waits for blocking work that has begun; what has not begun never will.
    drop(runtime);
    ended
}

fn told(error: StepError) -> String {
    let failure = error.into_failure(Stage::Build);
    format!("{failure}: {}", failure.causes.join(": "))
}
