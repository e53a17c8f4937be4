//! `cargo xtask race`: several processes work on one project at the same time, and one is held up
//! until its lease has ended and another one has taken over.

mod mixed;
mod stale;

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Tally, build, ledger, oracle::Violation};
use crate::workspace::Workspace;
pub(super) use mixed::round;
pub(super) use stale::{before_the_switch, held_up};

/// How many rounds are run when it is not told.
const ROUNDS: usize = 100;

/// How many times a process is held up when it is not told.
const HELD_UP: usize = 48;

/// What is held up, and how that is called: something new, and something that is there already.
pub(super) const HELD_UP_IN: [(&str, &str); 2] = [("incremental", "held deploy"), ("rollback", "held back")];

/// How many wait at a time. They do nothing else.
const WAITING: usize = 24;

/// How often.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// So many rounds in which several processes do different things at once
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: usize,
    /// Hold a deploy and a rollback up so many times each, each time at another call
    #[arg(long, value_name = "N", default_value_t = HELD_UP)]
    held_up: usize,
    /// What the rounds are drawn from
    #[arg(long, value_name = "WORD", default_value = "race")]
    draw: String,
    /// The program to test [default: a release build of this checkout]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The commit that program was built from
    #[arg(long, value_name = "COMMIT", requires = "binary")]
    commit: Option<String>,
}

/// Runs it, and writes down what came of it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace, &["--release"], "release")?,
    };
    let folder = workspace.scratch()?.join("race");
    let mut tallies = vec![rounds(&folder, &program, args.rounds, &args.draw)?];
    for scenario in HELD_UP_IN {
        tallies.push(stale(&folder, &program, scenario, args.held_up)?);
    }
    let tested =
        ledger::Binary { program: &program, commit: args.commit.as_deref(), built: args.binary.is_none() };
    ledger::append(workspace, &tested, "race", &tallies)?;
    super::conclude(&tallies)
}

/// Runs rounds of several processes that do different things at once.
///
/// # Errors
///
/// The harness itself failed.
pub(super) fn rounds(folder: &Path, program: &Path, count: usize, draw: &str) -> Result<Tally> {
    let mut tally = Tally { scenario: "rounds", calls: count, ..Tally::default() };
    let done = all(super::WORKERS, count, |worker, nth| {
        round(&folder.join(format!("rounds-{worker}")), program, &format!("{draw} {nth}"), None)
    })?;
    for (nth, broken) in done {
        tally.note("mixed", &format!("round {draw} {nth}"), &broken);
    }
    tally.print();
    Ok(tally)
}

/// Holds a command up at `count` of its calls, spread over all.
///
/// # Errors
///
/// The harness itself failed.
pub(super) fn stale(
    folder: &Path,
    program: &Path,
    (scenario, label): (&str, &'static str),
    count: usize,
) -> Result<Tally> {
    let calls = stale::calls(&folder.join("stale"), program, scenario, None)?.len();
    let mut tally = Tally { scenario: label, calls, ..Tally::default() };
    let at = |nth: usize| 1 + nth * calls / count.max(1);
    let done = all(WAITING.min(count.max(1)), count, |worker, nth| {
        held_up(&folder.join(format!("stale-{worker}")), program, scenario, at(nth), None)
    })?;
    for (nth, (state, broken)) in done {
        tally.note(state, &format!("{label} at call {}", at(nth)), &broken);
    }
    tally.print();
    Ok(tally)
}

impl Tally {
    fn note(&mut self, state: &'static str, label: &str, broken: &[Violation]) {
        self.struck += 1;
        *self.states.entry(state).or_default() += 1;
        self.violations += usize::from(!broken.is_empty());
        if !broken.is_empty() {
            println!("{label}");
            broken.iter().for_each(|violation| println!("    {violation}"));
        }
    }
}

/// Does `count` things in so many threads. Returns what came of each.
fn all<T: Send>(
    threads: usize,
    count: usize,
    work: impl Fn(usize, usize) -> Result<T> + Sync,
) -> Result<Vec<(usize, T)>> {
    ensure!(threads > 0, "nobody works");
    let next = AtomicUsize::new(0);
    let work = &work;
    let next = &next;
    let mut done = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || -> Result<Vec<(usize, T)>> {
                    let mut done = Vec::new();
                    loop {
                        let nth = next.fetch_add(1, Ordering::Relaxed);
                        if nth >= count {
                            return Ok(done);
                        }
                        done.push((nth, work(worker, nth)?));
                    }
                })
            })
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            match worker.join() {
                Ok(done) => all.extend(done?),
                Err(_) => bail!("a worker panicked"),
            }
        }
        Ok(all)
    })?;
    done.sort_by_key(|(nth, _)| *nth);
    Ok(done)
}
