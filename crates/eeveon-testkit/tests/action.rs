//! The action suite finds planted bugs, and passes the core's own actions on a fake host.

#![expect(clippy::expect_used, reason = "what is named here is well formed")]

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eeveon_core::{
    Action, CommitId, Deployer, Effect, Endpoint, Live, Permit, Placed, Plan, Present, ProjectName, Reach,
    Release, ReleaseNumber, Removal, Revision, Slot, Stage, StepContext, StepError, StepKey, Target,
    TargetName, Traffic, Untrusted,
    deployer::{On, Outworn, Ready, Remove, Restore, Seal, Ship, Switch, Turn},
};
use eeveon_testkit::action::{Fault, Faults, Scene, check_action};
use jiff::Timestamp;
use serde_json::Value;

/// What an author could get wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Bug {
    None,
    RunAddsInsteadOfSetting,
    RunNeedsACleanStart,
    UndoNeedsTheOutput,
    UndoNeedsAllOfRun,
    UndoTakesWhatWasThere,
    UndoIsForgotten,
    UndoCannotBeRepeated,
    OutputIsLostInTheJournal,
}

/// Two cells of the world that a step fills, beside one it must not touch.
#[derive(Clone, Debug)]
struct Fill {
    bug: Bug,
    cells: Arc<Mutex<[u32; 3]>>,
    faults: Faults,
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Filled {
    #[serde(skip_serializing_if = "is_lost")]
    sum: u32,
}

const LOST: u32 = 1001;

fn is_lost(sum: &u32) -> bool {
    *sum == LOST
}

impl Fill {
    async fn change(&self, cell: usize, to: impl FnOnce(u32) -> u32) -> Result<(), Fault> {
        self.faults.before_change().await?;
        let mut cells = self.cells.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(cell) = cells.get_mut(cell) {
            *cell = to(*cell);
        }
        Ok(())
    }

    fn cells(&self) -> [u32; 3] {
        *self.cells.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[async_trait]
impl Action for Fill {
    const NAME: &'static str = "test.fill";
    const EFFECT: Effect = Effect::World;
    type Params = u32;
    type Output = Filled;

    async fn run(&self, _: &StepContext<'_>, amount: &u32) -> Result<Filled, StepError> {
        if self.bug == Bug::RunNeedsACleanStart && self.cells()[0] != self.cells()[1] {
            return Err(Fault.into());
        }
        for cell in 0..2 {
            self.change(
                cell,
                |old| if self.bug == Bug::RunAddsInsteadOfSetting { old + amount } else { *amount },
            )
            .await?;
        }
        Ok(Filled { sum: if self.bug == Bug::OutputIsLostInTheJournal { LOST } else { 2 * amount } })
    }

    async fn undo(&self, _: &StepContext<'_>, _: &u32, output: Option<&Filled>) -> Result<(), StepError> {
        let cells = self.cells();
        let stuck = match self.bug {
            Bug::UndoNeedsTheOutput => output.is_none(),
            Bug::UndoNeedsAllOfRun => cells[0] != cells[1],
            Bug::UndoCannotBeRepeated => cells[0] == 0,
            _ => false,
        };
        if stuck {
            return Err(Fault.into());
        }
        let emptied = match self.bug {
            Bug::UndoTakesWhatWasThere => 0..3,
            Bug::UndoIsForgotten => 0..1,
            _ => 0..2,
        };
        for cell in emptied {
            self.change(cell, |_| 0).await?;
        }
        Ok(())
    }
}

impl Scene for Fill {
    type Action = Self;

    fn action(&self) -> Self {
        self.clone()
    }

    fn params(&self) -> u32 {
        5
    }

    fn snapshot(&self) -> String {
        format!("{:?}", self.cells())
    }

    fn faults(&self) -> Option<&Faults> {
        Some(&self.faults)
    }
}

fn fill(bug: Bug) -> Fill {
    Fill { bug, cells: Arc::new(Mutex::new([0, 0, 9])), faults: Faults::default() }
}

#[test]
fn an_action_without_bugs_passes() {
    check_action(|| fill(Bug::None));
}

#[test]
fn every_planted_bug_is_found() {
    let bugs = [
        Bug::RunAddsInsteadOfSetting,
        Bug::RunNeedsACleanStart,
        Bug::UndoNeedsTheOutput,
        Bug::UndoNeedsAllOfRun,
        Bug::UndoTakesWhatWasThere,
        Bug::UndoIsForgotten,
        Bug::UndoCannotBeRepeated,
        Bug::OutputIsLostInTheJournal,
    ];
    for bug in bugs {
        let result = catch_unwind(AssertUnwindSafe(|| check_action(|| fill(bug))));
        assert!(result.is_err(), "{bug:?} was not found");
    }
}

/// A host in memory: releases of three files, and which of them serves.
#[derive(Clone, Debug, Default)]
struct Host {
    faults: Faults,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    releases: BTreeMap<ReleaseNumber, Lying>,
    live: Option<Live>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Lying {
    files: u64,
    sealed: bool,
    tampered: bool,
}

const FILES: u64 = 3;

impl Host {
    /// A host on which release 1, whole or tampered with, serves.
    fn serving(tampered: bool) -> Self {
        let host = Self::default();
        host.with(|state| {
            let lying = Lying { files: FILES, sealed: true, tampered };
            state.releases.insert(ReleaseNumber(1), lying);
            state.live = Some(live(1));
        });
        host
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    async fn change(&self, release: &Release, change: impl FnOnce(&mut Lying)) -> Result<(), StepError> {
        self.faults.before_change().await?;
        self.with(|state| change(state.releases.entry(release.number).or_default()));
        Ok(())
    }

    fn files(&self, release: &Release) -> u64 {
        self.with(|state| state.releases.get(&release.number).map_or(0, |lying| lying.files))
    }

    fn reach(&self) -> Reach {
        let mut reach = Reach::default();
        reach.deployers.insert("fake".to_owned(), Arc::new(self.clone()));
        reach.traffic.insert("fake".to_owned(), Arc::new(self.clone()));
        reach
    }
}

fn live(number: u64) -> Live {
    Live { release: ReleaseNumber(number), endpoint: Endpoint(format!("/releases/{number}")) }
}

fn placed(release: &Release) -> Placed {
    Placed { endpoint: live(release.number.0).endpoint, files: FILES, bytes: 30, written: FILES, extra: 0 }
}

#[async_trait]
impl Deployer for Host {
    async fn ready(&self, permit: &Permit, _: &Target, _: &Release) -> Result<(), StepError> {
        tokio::task::yield_now().await;
        Ok(permit.check()?)
    }

    async fn ship(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        while self.files(release) < FILES {
            permit.check()?;
            self.change(release, |lying| lying.files += 1).await?;
        }
        Ok(placed(release))
    }

    async fn seal(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        permit.check()?;
        self.change(release, |lying| lying.sealed = true).await?;
        Ok(placed(release))
    }

    async fn restore(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        permit.check()?;
        self.change(release, |lying| lying.tampered = false).await?;
        Ok(placed(release))
    }

    async fn boot(&self, _: &Permit, _: &Target, release: &Release) -> Result<Endpoint, StepError> {
        Ok(placed(release).endpoint)
    }

    async fn remove(
        &self,
        _: &Permit,
        _: &Target,
        release: ReleaseNumber,
        _: Removal,
    ) -> Result<(), StepError> {
        loop {
            let (serves, lying) = self.with(|state| {
                let serves = state.live.as_ref().is_some_and(|live| live.release == release);
                (serves, state.releases.get(&release).copied())
            });
            match lying {
                _ if serves => return Err(Fault.into()),
                None => return Ok(()),
                Some(_) => self.faults.before_change().await?,
            }
            self.with(|state| {
                let lying = state.releases.entry(release).or_default();
                lying.files = lying.files.saturating_sub(1);
                if lying.files == 0 {
                    state.releases.remove(&release);
                }
            });
        }
    }

    async fn present(&self, _: &Target) -> Result<Vec<Present>, StepError> {
        Ok(self.with(|state| {
            let present = |(number, lying): (&ReleaseNumber, &Lying)| Present {
                release: *number,
                usable: lying.sealed,
                bytes: 10 * lying.files,
                since: Timestamp::UNIX_EPOCH,
            };
            state.releases.iter().map(present).collect()
        }))
    }
}

#[async_trait]
impl Traffic for Host {
    async fn serving(&self, _: &Target) -> Result<Option<Live>, StepError> {
        Ok(self.with(|state| state.live.clone()))
    }

    async fn turn(&self, permit: &Permit, _: &Target, live: Option<&Live>) -> Result<(), StepError> {
        permit.check()?;
        self.faults.before_change().await?;
        self.with(|state| state.live = live.cloned());
        Ok(())
    }
}

fn target() -> Target {
    let name = TargetName::new("local").expect("a good name");
    Target { name, deployer: "fake".to_owned(), traffic: "fake".to_owned() }
}

fn release(number: u64) -> Release {
    let revision = Revision {
        commit: CommitId::new("c".repeat(40)).expect("a good id"),
        subject: Untrusted::from("subject"),
        author: Untrusted::from("author"),
        committed_at: Timestamp::UNIX_EPOCH,
    };
    Release {
        project: ProjectName::new("shop").expect("a good name"),
        number: ReleaseNumber(number),
        revision,
    }
}

fn on(number: u64) -> On {
    On { target: target(), release: release(number) }
}

/// One of the core's actions, about to run on a host.
struct Play<A: Action, const TAKES_BACK: bool> {
    host: Host,
    action: fn(Reach) -> A,
    params: A::Params,
    outputs: BTreeMap<StepKey, Value>,
}

impl<A: Action, const TAKES_BACK: bool> Play<A, TAKES_BACK> {
    fn new(host: Host, action: fn(Reach) -> A, params: A::Params) -> Self {
        Self { host, action, params, outputs: BTreeMap::new() }
    }
}

impl<A: Action, const TAKES_BACK: bool> Scene for Play<A, TAKES_BACK>
where
    A::Params: Clone,
{
    type Action = A;
    const TAKES_BACK: bool = TAKES_BACK;

    fn action(&self) -> A {
        (self.action)(self.host.reach())
    }

    fn params(&self) -> A::Params {
        self.params.clone()
    }

    fn outputs(&self) -> BTreeMap<StepKey, Value> {
        self.outputs.clone()
    }

    fn snapshot(&self) -> String {
        self.host.with(|state| format!("{state:?}"))
    }

    fn faults(&self) -> Option<&Faults> {
        Some(&self.host.faults)
    }
}

#[test]
fn ready_passes() {
    check_action(|| Play::<_, true>::new(Host::serving(false), Ready, on(2)));
}

#[test]
fn ship_passes() {
    check_action(|| Play::<_, true>::new(Host::serving(false), Ship, on(2)));
}

#[test]
fn seal_passes() {
    check_action(|| {
        let host = Host::serving(false);
        host.with(|state| {
            state.releases.insert(ReleaseNumber(2), Lying { files: FILES, ..Lying::default() });
        });
        Play::<_, false>::new(host, Seal, on(2))
    });
}

#[test]
fn restore_passes() {
    check_action(|| Play::<_, false>::new(Host::serving(true), Restore, on(1)));
}

#[test]
fn switch_passes() {
    let at: Slot<Placed> = Plan::builder().step::<Ship>(Stage::Ship, "ship/local", &on(2));
    for from in [Some(live(1)), None] {
        check_action(|| {
            let host = Host::serving(false);
            host.with(|state| state.live = from.clone());
            let turn = Turn { target: target(), to: ReleaseNumber(2), at: at.clone(), from: from.clone() };
            let mut play = Play::<_, true>::new(host, Switch, turn);
            let output = serde_json::to_value(placed(&release(2))).expect("it has a JSON form");
            play.outputs.insert(at.key().clone(), output);
            play
        });
    }
}

#[test]
fn remove_passes() {
    check_action(|| {
        let host = Host::serving(false);
        for number in [2, 3] {
            host.with(|state| {
                state.releases.insert(ReleaseNumber(number), Lying { files: FILES, ..Lying::default() });
            });
        }
        // That release 1 serves is no failure of the step, only something left over.
        let outworn = Outworn { target: target(), releases: [1, 2, 3].map(ReleaseNumber).to_vec() };
        Play::<_, false>::new(host, Remove, outworn)
    });
}
