//! `cargo xtask crash`: kills the program at every system call that changes something, or lets the
//! call fail, and judges what the next command makes of what is left.

mod calls;
mod case;
mod control;
mod ledger;
mod oracle;
mod scenario;
mod tracer;
mod tree;
mod world;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use crate::{run, workspace::Workspace};
use case::{FAULTS, Faults, Stage, Strike, Verdict};
use scenario::{SCENARIOS, Scenario};
use tracer::Blow;
use world::World;

/// How many cases run at a time.
const WORKERS: usize = 2;

/// How many kills a run makes that is not told.
const SAMPLE: usize = 120;

/// What to break, and how.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Strike at every call
    #[arg(long, conflicts_with = "sample")]
    all: bool,
    /// Strike at so many calls, spread over all scenarios
    #[arg(long, value_name = "N", default_value_t = SAMPLE)]
    sample: usize,
    /// The program to test [default: a release build of this checkout]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Let calls fail instead of killing at them
    #[arg(long)]
    faults: bool,
    /// Only this scenario
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(SCENARIOS.map(|it| it.name)))]
    scenario: Vec<String>,
    /// Only kill at this call, as a violation names it
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "sample", "faults"])]
    at: Option<usize>,
    /// Break the program on purpose, in every way the rules forbid, and see that each is found
    #[arg(long, conflicts_with_all = ["all", "sample", "faults", "at"])]
    control: bool,
}

/// Runs it, and writes down what came of it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace)?,
    };
    let folder = workspace.scratch()?.join("crash");
    if args.control {
        return control::run(&folder, &program);
    }
    let named =
        |it: &&'static Scenario| args.scenario.is_empty() || args.scenario.iter().any(|name| name == it.name);
    let plan = Plan {
        faults: args.faults,
        spots: match (args.at, args.all) {
            (Some(at), _) => Spots::One(at),
            (None, true) => Spots::All,
            (None, false) => Spots::Sample(args.sample),
        },
    };
    let tallies = plan.run(&folder, &program, &SCENARIOS.iter().filter(named).collect::<Vec<_>>())?;
    ledger::append(workspace, &program, args.binary.is_none(), args.faults, &tallies)?;
    conclude(&tallies)
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    run::stream(workspace.cargo().args(["build", "--locked", "--release", "--package", "eeveon-cli"]))?;
    Ok(workspace.metadata()?.target_directory.join("release/ee-deploy"))
}

/// At which calls to strike.
#[derive(Clone, Copy, Debug)]
enum Spots {
    All,
    Sample(usize),
    One(usize),
}

impl Spots {
    /// Returns which of `calls` calls to strike at, evenly spread, from 1.
    fn of(self, calls: usize, scenarios: usize) -> Vec<usize> {
        match self {
            Self::All => (1..=calls).collect(),
            Self::One(at) => vec![at],
            Self::Sample(all) => {
                let share = all.div_ceil(scenarios.max(1)).min(calls);
                // The last one is struck, too: the command has told by then.
                (1..=share).map(|nth| nth * calls / share.max(1)).collect()
            }
        }
    }
}

/// What came of one scenario.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The scenario.
    pub(crate) scenario: &'static str,
    /// How many calls can be struck.
    pub(crate) calls: usize,
    /// How many were.
    pub(crate) struck: usize,
    /// How often things were as before, as wanted, or neither.
    pub(crate) states: BTreeMap<&'static str, usize>,
    /// How many blows broke a rule.
    pub(crate) violations: usize,
}

/// What to strike with and where.
#[derive(Debug)]
struct Plan {
    faults: bool,
    spots: Spots,
}

impl Plan {
    fn run(&self, folder: &Path, program: &Path, scenarios: &[&'static Scenario]) -> Result<Vec<Tally>> {
        ensure!(!scenarios.is_empty(), "there is no such scenario");
        println!("{:<12} {:>6} {:>6} {:>11}  found", "scenario", "calls", "struck", "violations");
        let mut tallies = Vec::new();
        for scenario in scenarios {
            let tally = self.scenario(folder, program, scenario, scenarios.len())?;
            let states: Vec<String> =
                tally.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
            let Tally { scenario, calls, struck, violations, .. } = &tally;
            println!("{scenario:<12} {calls:>6} {struck:>6} {violations:>11}  {}", states.join(", "));
            tallies.push(tally);
        }
        Ok(tallies)
    }

    fn scenario(
        &self,
        folder: &Path,
        program: &Path,
        scenario: &'static Scenario,
        scenarios: usize,
    ) -> Result<Tally> {
        let stages: Vec<Stage<'_>> =
            (0..WORKERS).map(|worker| stage(folder, program, scenario, worker)).collect::<Result<_>>()?;
        let first = stages.first().context("nobody works")?;
        let mut tally = Tally { scenario: scenario.name, ..Tally::default() };
        let strikes = self.strikes(first, scenarios, &mut tally)?;
        let tally = Mutex::new(tally);
        let next = AtomicUsize::new(0);
        let work = |stage: &Stage<'_>| -> Result<()> {
            while let Some((label, strike)) = strikes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let verdict = stage.strike(*strike).with_context(|| format!("{} {label}", scenario.name))?;
                tally.lock().unwrap_or_else(PoisonError::into_inner).add(label, &verdict);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let workers: Vec<_> = stages.iter().map(|stage| scope.spawn(|| work(stage))).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a worker panicked"),
            })
        })?;
        Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rehearses the command to find its calls, and returns the strikes with a name for each.
    fn strikes(
        &self,
        stage: &Stage<'_>,
        scenarios: usize,
        tally: &mut Tally,
    ) -> Result<Vec<(String, Strike)>> {
        if !self.faults {
            let counts = calls::Class::changes_state;
            tally.calls = stage.rehearse(counts)?.len();
            let spots = self.spots.of(tally.calls, scenarios).into_iter();
            let strike = |at| (format!("--at {at}"), Strike { counts, at, blow: Blow::Kill });
            return Ok(spots.map(strike).collect());
        }
        let kinds: usize = FAULTS.iter().map(|faults| faults.errors.len()).sum();
        let mut strikes = Vec::new();
        for Faults { name, counts, errors } in FAULTS {
            let calls = stage.rehearse(counts)?.len();
            for error in errors {
                tally.calls += calls;
                let strike = |at| {
                    let blow = Blow::Fail(*error);
                    (format!("--faults {name} {error:?} {at}"), Strike { counts, at, blow })
                };
                strikes.extend(self.spots.of(calls, scenarios * kinds).into_iter().map(strike));
            }
        }
        Ok(strikes)
    }
}

fn stage<'a>(folder: &Path, program: &Path, scenario: &'a Scenario, worker: usize) -> Result<Stage<'a>> {
    let world = World::make(&folder.join(worker.to_string()), program)?;
    let expected = scenario.prepare(&world).with_context(|| format!("preparing {}", scenario.name))?;
    Ok(Stage { scenario, world, expected })
}

impl Tally {
    fn add(&mut self, label: &str, verdict: &Verdict) {
        // The command made fewer calls than in the rehearsal: nothing was done to it.
        if verdict.struck.is_some() {
            self.struck += 1;
        }
        *self.states.entry(verdict.state).or_default() += 1;
        if verdict.broken.is_empty() {
            return;
        }
        self.violations += 1;
        let call = match &verdict.struck {
            Some(call) => format!("before {} {}", call.name, call.on.display()),
            None => "unharmed".to_owned(),
        };
        println!("--scenario {} {label}: {call} -> {}", self.scenario, verdict.state);
        verdict.broken.iter().for_each(|violation| println!("    {violation}"));
    }
}

fn conclude(tallies: &[Tally]) -> Result<()> {
    let violations: usize = tallies.iter().map(|tally| tally.violations).sum();
    ensure!(violations == 0, "{violations} of the blows left something that must not be");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_and_end_with_the_last_call() {
        assert_eq!(Spots::All.of(3, 6), [1, 2, 3]);
        assert_eq!(Spots::Sample(12).of(9, 4), [3, 6, 9]);
        assert_eq!(Spots::Sample(100).of(4, 2), [1, 2, 3, 4]);
        assert_eq!(Spots::Sample(100).of(0, 2), Vec::<usize>::new());
        assert_eq!(Spots::One(7).of(3, 6), [7]);
    }
}
