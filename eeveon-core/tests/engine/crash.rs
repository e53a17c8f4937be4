//! Kills the process between every two records and in the middle of every step, twice in a row, in
//! every scenario, and checks that what follows always ends where an undisturbed run ends. The same
//! suite has to find every bug of [`Bug`], or it proves nothing.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use eeveon_core::*;
use eeveon_testkit::journal::MemoryJournal;

use crate::{
    stage::{ID, facts, plan, request},
    world::{Bug, Fault, Sight, World},
};

#[derive(Clone, Copy, Debug)]
struct Scenario {
    kind: Kind,
    fault: Fault,
}

/// How a process takes up a deployment that another one left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Recover,
    Resume,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Task {
    Deploy,
    TakeUp(Mode),
    Unpark,
}

#[derive(Clone, Copy, Debug)]
enum Death {
    /// No record is accepted after so many.
    Unplugged(usize),
    /// Dropped after so many polls.
    Killed(usize),
    /// Dropped after so many polls, and the journal loses up to so many records.
    PowerCut(usize, usize),
}

#[derive(Debug, PartialEq)]
enum End {
    Died,
    Parked,
    Closed(Outcome),
}

/// The journal as one process sees it, perhaps with a bug.
#[derive(Debug)]
struct Seen {
    kept: Arc<Kept>,
    bug: Option<Bug>,
    /// Accepted but not written; dies with the process.
    held: Mutex<Option<(Entry, Durability)>>,
}

/// What outlives a process.
#[derive(Debug, Default)]
struct Kept {
    journal: MemoryJournal,
    /// Entries accepted at positions that were taken.
    doubled: Mutex<Vec<Entry>>,
}

#[async_trait]
impl Journal for Seen {
    async fn append(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError> {
        let durability = match self.bug {
            Some(Bug::JournalNeverSyncs) => Durability::Process,
            _ => durability,
        };
        if self.bug == Some(Bug::ActsBeforeRecording) {
            let held = self.held.lock().unwrap().take();
            if let Some((held, durability)) = held {
                self.kept.journal.append(&held, durability).await?;
            }
            if matches!(entry.record, Record::Started { .. }) {
                *self.held.lock().unwrap() = Some((entry.clone(), durability));
                return Ok(());
            }
        }
        match self.kept.journal.append(entry, durability).await {
            Err(JournalError::Conflict { .. }) if self.bug == Some(Bug::JournalTakesTwice) => {
                self.kept.doubled.lock().unwrap().push(entry.clone());
                Ok(())
            }
            result => result,
        }
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, JournalError> {
        self.kept.journal.read(deployment, from).await
    }
}

/// What is asked for, made once.
fn asked(kind: Kind) -> &'static (Request, Plan) {
    static DEPLOY: LazyLock<(Request, Plan)> = LazyLock::new(|| make(Kind::Deploy));
    static ROLLBACK: LazyLock<(Request, Plan)> = LazyLock::new(|| make(Kind::Rollback));
    fn make(kind: Kind) -> (Request, Plan) {
        (request(&facts(kind)), plan(kind))
    }
    match kind {
        Kind::Deploy => &DEPLOY,
        Kind::Rollback => &ROLLBACK,
    }
}

type Driving<'a> = Pin<Box<dyn Future<Output = Result<Outcome, EngineError>> + 'a>>;

/// Everything that outlives the processes of one run.
struct Run {
    scenario: Scenario,
    world: World,
    kept: Arc<Kept>,
    fence: u64,
    /// Records were lost by a power cut.
    forgot: bool,
}

impl Run {
    fn new(scenario: Scenario, bug: Option<Bug>) -> Self {
        let world = World::new(scenario.fault, bug);
        Self { scenario, world, kept: Arc::default(), fence: 0, forgot: false }
    }

    /// Starts a process.
    fn process(&mut self) -> (Engine, Session) {
        self.fence += 1;
        let session = Session::new(Fence(self.fence));
        self.world.enter(&session);
        let seen = Seen { kept: Arc::clone(&self.kept), bug: self.world.bug, held: Mutex::default() };
        let engine = Engine::new(self.world.registry(), Arc::new(seen), Feed::default());
        (engine, session)
    }

    fn drive<'a>(&self, task: Task, engine: &'a Engine, session: &'a Session) -> Driving<'a> {
        match task {
            Task::Deploy => {
                let (request, plan) = asked(self.scenario.kind);
                Box::pin(engine.deploy(ID, request.clone(), plan.clone(), session))
            }
            Task::TakeUp(Mode::Recover) => Box::pin(engine.recover(ID, session)),
            Task::TakeUp(Mode::Resume) => Box::pin(engine.resume(ID, session)),
            Task::Unpark => Box::pin(engine.unpark(ID, Actor::User("eve".into()), None, session)),
        }
    }

    /// One process, from its start to its end or death.
    fn live(&mut self, task: Task, death: Option<Death>) -> Result<End, String> {
        let (engine, session) = self.process();
        let before = self.kept.journal.entries();
        let mut driving = self.drive(task, &engine, &session);
        let ended = match death {
            None => finish(driving.as_mut())?,
            Some(Death::Unplugged(records)) => {
                self.kept.journal.unplug_after(records);
                let ended = finish(driving.as_mut())?;
                self.kept.journal.plug_in();
                ended
            }
            Some(Death::Killed(polls) | Death::PowerCut(polls, _)) => {
                match poll_times(driving.as_mut(), polls) {
                    Some(ended) => ended,
                    None => Err(JournalError::Unavailable("killed".into()).into()),
                }
            }
        };
        drop(driving);
        if let Some(Death::PowerCut(_, lost)) = death {
            self.forgot |= 0 < self.kept.journal.cut_power(lost);
        }
        if task == Task::TakeUp(Mode::Recover) {
            self.never_went_forward(&before)?;
        }
        match ended {
            Ok(outcome) => Ok(End::Closed(outcome)),
            Err(EngineError::Parked(_)) => Ok(End::Parked),
            Err(EngineError::Journal(JournalError::Unavailable(_))) => Ok(End::Died),
            Err(other) => Err(format!("{other}: {:?}", std::error::Error::source(&other))),
        }
    }

    /// Whoever recovers takes no step forward that lies before the pivot.
    fn never_went_forward(&self, before: &[Entry]) -> Result<(), String> {
        let (_, plan) = asked(self.scenario.kind);
        let entries = self.kept.journal.entries();
        match entries
            .iter()
            .skip(before.len())
            .find(|entry| matches!(&entry.record, Record::Started { step, .. } if plan.is_before_pivot(step)))
        {
            Some(entry) => Err(format!("recovering went forward: {:?}", entry.record)),
            None => Ok(()),
        }
    }

    /// Goes on until the deployment is closed; a person mends whatever it is parked for.
    fn take_up(
        &mut self,
        mode: Mode,
        mut end: End,
        mut death: Option<Death>,
    ) -> Result<Option<Outcome>, String> {
        for _ in 0..6 {
            end = match end {
                End::Closed(outcome) => return Ok(Some(outcome)),
                // It died before anything was recorded: there is no deployment.
                End::Died if self.kept.journal.entries().is_empty() => return Ok(None),
                End::Died => self.live(Task::TakeUp(mode), death.take())?,
                End::Parked => {
                    self.world.mend();
                    self.live(Task::Unpark, death.take())?
                }
            };
        }
        Err(format!("it never ends, but is {end:?}"))
    }

    /// The journal is sound, and world and outcome agree.
    fn judge(&self, mode: Option<Mode>, closed: Option<&Outcome>) -> Result<(), String> {
        let Scenario { kind, fault } = self.scenario;
        let entries = self.kept.journal.entries();
        if let Some(doubled) = self.kept.doubled.lock().unwrap().first() {
            return Err(format!("two entries at {}: the second is {:?}", doubled.seq, doubled.record));
        }
        let mut state = State::default();
        for (at, entry) in entries.iter().enumerate() {
            if entry.seq != Seq(at as u64) {
                return Err(format!("entry {at} is at {}", entry.seq));
            }
            state.apply(&entry.record).map_err(|error| format!("entry {at}: {error}"))?;
        }
        if state.outcome.as_ref() != closed {
            return Err(format!("the journal says {:?}, the engine {closed:?}", state.outcome));
        }
        let forward = closed == Some(&Outcome::Succeeded);
        let allowed = match closed {
            None => self.forgot || entries.is_empty() && mode.is_some(),
            Some(Outcome::Succeeded) => match fault {
                Fault::Nothing | Fault::AfterPivot => true,
                // The wish to stop died with the process it was told to.
                Fault::Cancel => mode == Some(Mode::Resume),
                Fault::Gate | Fault::Ship | Fault::Check | Fault::UndoSwitch => false,
            },
            Some(Outcome::Refused { .. }) => fault == Fault::Gate,
            Some(Outcome::Reverted { failure: None, .. }) => {
                mode == Some(Mode::Recover) || fault == Fault::Cancel && kind == Kind::Deploy
            }
            Some(Outcome::Reverted { failure: Some(_), .. }) => {
                matches!(fault, Fault::Ship | Fault::Check | Fault::UndoSwitch)
            }
        };
        if !allowed {
            return Err(format!("it must not end {closed:?}"));
        }
        let (live, usable) = match (kind, forward) {
            (Kind::Deploy, true) => (3, vec![2, 3]),
            (Kind::Rollback, true) => (1, vec![1, 2]),
            (_, false) => (2, vec![1, 2]),
        };
        for (server, mut sight) in self.world.sight().into_iter().enumerate() {
            if self.forgot && !forward {
                // What nobody remembers may lie about, to be swept away later; it never serves.
                sight.debris.clear();
                sight.usable.retain(|release| usable.contains(release));
            }
            let expected = Sight { live: Some(live), usable: usable.clone(), debris: Vec::new() };
            if sight != expected {
                return Err(format!("server {server} has {sight:?} after {closed:?}"));
            }
        }
        Ok(())
    }
}

/// Polls to the end. A deployment that needs more polls than this never ends.
fn finish<T>(driving: Pin<&mut (impl Future<Output = T> + ?Sized)>) -> Result<T, String> {
    poll_times(driving, 10_000).ok_or_else(|| "it never ends".to_owned())
}

/// Polls so many times; `None` if it has not ended by then.
fn poll_times<T>(mut driving: Pin<&mut (impl Future<Output = T> + ?Sized)>, polls: usize) -> Option<T> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(ended) = driving.as_mut().poll(&mut context) {
            return Some(ended);
        }
    }
    None
}

/// How many processes were killed, and how many of them were already taking up another's work.
#[derive(Debug, Default)]
struct Toll {
    deaths: u64,
    second: u64,
}

impl Toll {
    fn add(&mut self, other: &Self) {
        self.deaths += other.deaths;
        self.second += other.second;
    }
}

fn in_case<T>(result: Result<T, String>, case: &dyn std::fmt::Debug) -> Result<T, String> {
    result.map_err(|error| format!("{case:?}: {error}"))
}

/// Runs one scenario undisturbed; returns how many records and polls it takes.
fn undisturbed(scenario: Scenario, bug: Option<Bug>) -> Result<(usize, usize), String> {
    let mut run = Run::new(scenario, bug);
    let end = run.live(Task::Deploy, None)?;
    let parks = matches!(scenario.fault, Fault::UndoSwitch | Fault::AfterPivot);
    if parks != (end == End::Parked) {
        return Err(format!("undisturbed it is {end:?}"));
    }
    let closed = run.take_up(Mode::Resume, end, None)?;
    run.judge(None, closed.as_ref())?;
    let mut counted = Run::new(scenario, bug);
    let (engine, session) = counted.process();
    let mut driving = counted.drive(Task::Deploy, &engine, &session);
    let polls = (1..10_000).find(|_| poll_times(driving.as_mut(), 1).is_some());
    Ok((run.kept.journal.entries().len(), polls.ok_or("it never ends")?))
}

/// The old process is not dead, only slow: it wakes up when another has done its work.
fn haunted(scenario: Scenario, bug: Option<Bug>, mode: Mode, polls: usize) -> Result<(), String> {
    let mut run = Run::new(scenario, bug);
    let (engine, session) = run.process();
    let mut ghost = run.drive(Task::Deploy, &engine, &session);
    if poll_times(ghost.as_mut(), polls).is_some() || run.kept.journal.entries().is_empty() {
        return Ok(());
    }
    let closed = run.take_up(mode, End::Died, None)?;
    run.judge(Some(mode), closed.as_ref())?;
    match finish(ghost.as_mut())? {
        Err(EngineError::Journal(JournalError::Conflict { .. })) => {}
        // It had written its last word, and only then fell asleep.
        Err(EngineError::Parked(_)) => {}
        Ok(outcome) if Some(&outcome) == closed.as_ref() => {}
        other => return Err(format!("whoever lost the journal ended {other:?}")),
    }
    run.judge(Some(mode), closed.as_ref())
}

/// Of the second deaths, each first one is paired with every so many-th; which ones differs from
/// first to first, so that together they cover all.
const STRIDE: usize = 61;

/// Kills one scenario everywhere.
fn kill(scenario: Scenario, bug: Option<Bug>) -> Result<Toll, String> {
    let mut toll = Toll::default();
    let (records, polls) = in_case(undisturbed(scenario, bug), &scenario)?;
    let mut pairs = Vec::new();
    for first in 0..records {
        let seconds = (first % 5..records).step_by(5);
        pairs.extend(seconds.map(|second| (Death::Unplugged(first), Death::Unplugged(second))));
    }
    for first in 0..polls {
        for second in (first % STRIDE..polls).step_by(STRIDE) {
            pairs.push((Death::Killed(first), Death::Killed(second)));
            pairs.push((Death::PowerCut(first, 1 + second % 5), Death::Killed(second)));
        }
    }
    for mode in [Mode::Recover, Mode::Resume] {
        for polls in 0..polls {
            in_case(haunted(scenario, bug, mode, polls), &(scenario, mode, "haunted", polls))?;
        }
        for &(first, second) in &pairs {
            let case = (scenario, mode, first, second);
            let mut run = Run::new(scenario, bug);
            let end = in_case(run.live(Task::Deploy, Some(first)), &case)?;
            let died = end == End::Died;
            let lives = run.fence;
            let closed = in_case(run.take_up(mode, end, Some(second)), &case)?;
            in_case(run.judge(Some(mode), closed.as_ref()), &case)?;
            toll.deaths += u64::from(died);
            toll.second += u64::from(died && lives + 1 < run.fence);
        }
    }
    toll.deaths += toll.second;
    Ok(toll)
}

const SCENARIOS: [Scenario; 10] = {
    const fn deploy(fault: Fault) -> Scenario {
        Scenario { kind: Kind::Deploy, fault }
    }
    const fn rollback(fault: Fault) -> Scenario {
        Scenario { kind: Kind::Rollback, fault }
    }
    [
        deploy(Fault::Nothing),
        deploy(Fault::Gate),
        deploy(Fault::Ship),
        deploy(Fault::Check),
        deploy(Fault::Cancel),
        deploy(Fault::UndoSwitch),
        deploy(Fault::AfterPivot),
        rollback(Fault::Nothing),
        rollback(Fault::Check),
        rollback(Fault::UndoSwitch),
    ]
};

/// Kills every scenario everywhere; says what went wrong first.
fn suite(bug: Option<Bug>) -> Result<Toll, String> {
    let mut toll = Toll::default();
    for scenario in SCENARIOS {
        toll.add(&kill(scenario, bug)?);
    }
    Ok(toll)
}

#[test]
fn every_death_ends_where_an_undisturbed_run_ends() {
    let toll = std::thread::scope(|scope| {
        let threads = SCENARIOS.map(|scenario| scope.spawn(move || kill(scenario, None)));
        let mut all = Toll::default();
        for thread in threads {
            all.add(&thread.join().unwrap().unwrap());
        }
        all
    });
    println!("{} deaths, {} of them of a process that took up another's work", toll.deaths, toll.second);
    assert!(2_000 < toll.second, "{toll:?}");
}

#[test]
fn every_planted_bug_is_found() {
    for bug in [
        Bug::JournalTakesTwice,
        Bug::ActsBeforeRecording,
        Bug::JournalNeverSyncs,
        Bug::UndoNotIdempotent,
        Bug::UndoSkipsHalfDone,
        Bug::ShipChokesOnDebris,
        Bug::ShipAdoptsDebris,
        Bug::TurnClaimsTooEarly,
        Bug::FenceIgnored,
    ] {
        let found = suite(Some(bug)).expect_err(&format!("{bug:?} went unnoticed"));
        println!("{bug:?}: {found}");
    }
}
