//! `cargo xtask crash`: kills the program at every system call that changes something, or lets the
//! call fail, and judges what the next command makes of what is left.

mod calls;
mod case;
mod control;
mod full;
pub(crate) mod ledger;
mod neighbour;
mod oracle;
pub(crate) mod powercut;
pub(crate) mod race;
mod scenario;
mod seeds;
mod skew;
mod told;
mod tracer;
mod tree;
mod world;

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
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
use ledger::Binary;
use powercut::image::Kind;
use scenario::{SCENARIOS, Scenario};
use tracer::Blow;
use world::World;

/// How many cases run at a time.
const WORKERS: usize = 2;

/// How many kills a run makes that is not told.
const SAMPLE: usize = 120;

/// How much `cargo xtask ci` tries: less than two minutes of two idle cores, all together.
const IN_CI: InCi = InCi { kills: 240, rounds: 8, held_up: 8 };

struct InCi {
    kills: usize,
    rounds: usize,
    held_up: usize,
}

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
    /// The commit that program was built from
    #[arg(long, value_name = "COMMIT", requires = "binary")]
    commit: Option<String>,
    /// Let calls fail instead of killing at them
    #[arg(long)]
    faults: bool,
    /// Only let these calls fail in this way, such as sync:EIO
    #[arg(long, value_name = "CALLS:ERROR", conflicts_with = "faults")]
    fault: Option<String>,
    /// Only this scenario
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(SCENARIOS.map(|it| it.name)))]
    scenario: Vec<String>,
    /// Only strike at this call, as a violation names it
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "sample", "faults"])]
    at: Option<usize>,
    /// Break the program on purpose, in every way the rules forbid, and see that each is found
    #[arg(long, conflicts_with_all = ["all", "sample", "faults", "fault", "at"])]
    control: bool,
    /// Break the program's own code and calls, in one way at a time, and see that each is found
    #[arg(long, conflicts_with_all = ["all", "sample", "faults", "fault", "at", "control", "binary"])]
    seeds: bool,
    /// Fill the disk, and go back
    #[arg(long, conflicts_with_all = ["all", "sample", "faults", "fault", "at", "control", "seeds"])]
    full: bool,
    /// With --seeds, only this one
    #[arg(long, value_name = "NAME", requires = "seeds")]
    seed: Option<String>,
}

/// Runs it, and writes down what came of it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.seeds {
        return seeds::run(workspace, &workspace.scratch()?.join("seeded"), args.seed.as_deref());
    }
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace, &["--release"], "release")?,
    };
    let folder = workspace.scratch()?.join("crash");
    let tested = Binary { program: &program, commit: args.commit.as_deref(), built: args.binary.is_none() };
    if args.control {
        control::run(&folder, &program)?;
        return skew::newer_is_refused(&folder.join("skew"), &program);
    }
    if args.full {
        powercut::image::keep_mounts_private()?;
        let tallies = full::run(&folder, &program, &[Kind::Ext4, Kind::Xfs, Kind::Btrfs])?;
        ledger::append(workspace, &tested, "full disk", &tallies)?;
        return conclude(&tallies);
    }
    let named =
        |it: &&'static Scenario| args.scenario.is_empty() || args.scenario.iter().any(|name| name == it.name);
    let plan = Plan {
        blows: match &args.fault {
            Some(kind) => Blows::Faults(Some(kind.clone())),
            None if args.faults => Blows::Faults(None),
            None => Blows::Kills,
        },
        spots: match (args.at, args.all) {
            (Some(at), _) => Spots::One(at),
            (None, true) => Spots::All,
            (None, false) => Spots::Sample(args.sample),
        },
        program: &program,
    };
    let blow = if plan.blows == Blows::Kills { "kill" } else { "fault" };
    let tallies = plan.run(&folder, &SCENARIOS.iter().filter(named).collect::<Vec<_>>(), &|tally| {
        // To repeat one blow is no run.
        match args.at {
            Some(_) => Ok(()),
            None => ledger::append(workspace, &tested, blow, std::slice::from_ref(tally)),
        }
    })?;
    conclude(&tallies)
}

/// The stage of `cargo xtask ci`: the harness on trial, and a little of everything. Where it strikes
/// follows from the commit: the same when it is run again, elsewhere in the next one.
///
/// # Errors
///
/// The harness misses something, or something is left that must not be.
pub(crate) fn in_ci(workspace: &Workspace) -> Result<()> {
    let program = build(workspace, &[], "debug")?;
    let folder = workspace.scratch()?.join("crash");
    let mounts = powercut::image::keep_mounts_private();
    control::run(&folder, &program)?;
    skew::newer_is_refused(&folder.join("skew"), &program)?;
    let commit = run::output(workspace.command("git").args(["rev-parse", "HEAD"]))?.trim().to_owned();
    println!("{} kills and more, chosen by commit {commit}", IN_CI.kills);
    let plan =
        Plan { blows: Blows::Kills, spots: Spots::Drawn(IN_CI.kills, commit.clone()), program: &program };
    // Those who are held up wait for most of the time.
    let mut tallies = thread::scope(|scope| {
        let held_up = scope.spawn(|| {
            race::HELD_UP_IN
                .iter()
                .map(|what| race::stale(&folder.join("race"), &program, *what, IN_CI.held_up))
                .collect::<Result<Vec<_>>>()
        });
        let mut tallies = plan.run(&folder, &SCENARIOS.iter().collect::<Vec<_>>(), &|_| Ok(()))?;
        tallies.push(race::rounds(&folder.join("race"), &program, IN_CI.rounds, &commit)?);
        match held_up.join() {
            Ok(held_up) => tallies.extend(held_up?),
            Err(_) => bail!("a worker panicked"),
        }
        Ok(tallies)
    })?;
    match mounts {
        Ok(()) => {
            seeds::power_is_cut(&folder, &program)?;
            tallies.extend(powercut::a_few(&folder, &program)?);
            tallies.extend(full::run(&folder, &program, &[Kind::Ext4])?);
        }
        Err(error) => println!("power cuts and full disks are left out: {error:#}"),
    }
    conclude(&tallies)
}

pub(crate) fn build(workspace: &Workspace, profile: &[&str], folder: &str) -> Result<PathBuf> {
    let words = ["build", "--locked", "--package", "eeveon-cli"];
    run::stream(workspace.cargo().args(words).args(profile))?;
    Ok(workspace.metadata()?.target_directory.join(folder).join("ee-deploy"))
}

/// At which calls to strike.
#[derive(Clone, Debug)]
enum Spots {
    /// At every one.
    All,
    /// At so many, evenly spread.
    Sample(usize),
    /// At so many, one of each of as many stretches, chosen by a word.
    Drawn(usize, String),
    /// At this one.
    One(usize),
}

impl Spots {
    /// Returns which of `calls` calls to strike at, from 1.
    fn of(&self, calls: usize, scenarios: usize) -> Vec<usize> {
        let share = |all: usize| all.div_ceil(scenarios.max(1)).min(calls);
        match self {
            Self::All => (1..=calls).collect(),
            Self::One(at) => vec![*at],
            Self::Sample(all) => {
                let share = share(*all);
                // The last one is struck, too: the command has told by then.
                (1..=share).map(|nth| nth * calls / share.max(1)).collect()
            }
            Self::Drawn(all, word) => {
                let share = share(*all);
                let stretch = |nth: usize| (nth * calls / share.max(1), (nth + 1) * calls / share.max(1));
                (0..share)
                    .map(stretch)
                    .map(|(after, last)| last - draw(word, last) % (last - after))
                    .collect()
            }
        }
    }
}

/// Returns a number that follows from `word` and `nth` and from nothing else.
fn draw(word: &str, nth: usize) -> usize {
    let mut hasher = DefaultHasher::new();
    (word, nth).hash(&mut hasher);
    usize::try_from(hasher.finish()).unwrap_or_default()
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

/// What to strike with.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Blows {
    Kills,
    /// Failing calls: of all kinds, or of the one of this name.
    Faults(Option<String>),
}

/// What to strike, with what and where.
#[derive(Debug)]
struct Plan<'a> {
    blows: Blows,
    spots: Spots,
    program: &'a Path,
}

impl Plan<'_> {
    /// Runs it, one scenario after the other, and hands on what came of each.
    fn run(
        &self,
        folder: &Path,
        scenarios: &[&'static Scenario],
        done: &dyn Fn(&Tally) -> Result<()>,
    ) -> Result<Vec<Tally>> {
        ensure!(!scenarios.is_empty(), "there is no such scenario");
        println!("{:<12} {:>6} {:>6} {:>11}  found", "scenario", "calls", "struck", "violations");
        let mut tallies = Vec::new();
        for scenario in scenarios {
            let tally = self.scenario(folder, scenario, scenarios.len())?;
            tally.print();
            done(&tally)?;
            tallies.push(tally);
        }
        Ok(tallies)
    }

    fn scenario(&self, folder: &Path, scenario: &'static Scenario, scenarios: usize) -> Result<Tally> {
        let stages: Vec<Stage<'_>> = (0..WORKERS)
            .map(|worker| stage(folder, self.program, scenario, worker))
            .collect::<Result<_>>()?;
        let first = stages.first().context("nobody works")?;
        let mut tally = Tally { scenario: scenario.name, ..Tally::default() };
        let strikes = self.strikes(first, scenarios, &mut tally)?;
        if let Spots::Drawn(..) = self.spots {
            let calls: Vec<String> = strikes.iter().map(|(_, strike)| strike.at.to_string()).collect();
            println!("{} --at {}", scenario.name, calls.join(" "));
        }
        let tally = Mutex::new(tally);
        let next = AtomicUsize::new(0);
        let work = |stage: &Stage<'_>| -> Result<()> {
            while let Some((label, strike)) = strikes.get(next.fetch_add(1, Ordering::Relaxed)) {
                let verdict = stage.strike(*strike).with_context(|| format!("{} {label}", scenario.name))?;
                tally.lock().unwrap_or_else(PoisonError::into_inner).add(self.program, label, &verdict);
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
        let Blows::Faults(wanted) = &self.blows else {
            let counts = calls::Class::changes_state;
            tally.calls = stage.rehearse(counts)?.len();
            let spots = self.spots.of(tally.calls, scenarios).into_iter();
            let strike = |at| (format!("--at {at}"), Strike { counts, at, blow: Blow::Kill });
            return Ok(spots.map(strike).collect());
        };
        let kinds = FAULTS.iter().flat_map(|Faults { name, counts, errors }| {
            errors.iter().map(move |error| (format!("{name}:{error:?}"), *counts, *error))
        });
        let kinds: Vec<_> =
            kinds.filter(|(kind, ..)| wanted.as_ref().is_none_or(|wanted| wanted == kind)).collect();
        ensure!(!kinds.is_empty(), "no calls fail like that");
        let mut strikes = Vec::new();
        for (kind, counts, error) in &kinds {
            let calls = stage.rehearse(*counts)?.len();
            tally.calls += calls;
            let strike = |at| {
                let strike = Strike { counts: *counts, at, blow: Blow::Fail(*error) };
                (format!("--fault {kind} --at {at}"), strike)
            };
            strikes.extend(self.spots.of(calls, scenarios * kinds.len()).into_iter().map(strike));
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
    /// Prints it as a row of the table.
    fn print(&self) {
        let states: Vec<String> =
            self.states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let Self { scenario, calls, struck, violations, .. } = self;
        println!("{scenario:<12} {calls:>6} {struck:>6} {violations:>11}  {}", states.join(", "));
    }

    fn add(&mut self, program: &Path, label: &str, verdict: &Verdict) {
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
        println!("{} {label}: {call} -> {}", self.scenario, verdict.state);
        let program = program.display();
        println!("    again: cargo xtask crash --binary {program} --scenario {} {label}", self.scenario);
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

    #[test]
    fn a_draw_is_spread_repeats_itself_and_changes_with_the_word() {
        let of = |word: &str| Spots::Drawn(40, word.to_owned()).of(1000, 4);
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert!(of("a").iter().enumerate().all(|(nth, at)| (nth * 100 + 1..=nth * 100 + 100).contains(at)));
        assert_eq!(Spots::Drawn(100, String::new()).of(3, 2), [1, 2, 3]);
        assert_eq!(Spots::Drawn(100, String::new()).of(0, 2), Vec::<usize>::new());
    }
}
