//! `cargo xtask hostile`: deploys repositories that were made to do harm, and judges what the program
//! did: what it wrote and where, what it started, what it said, how long it took and how much memory.

mod control;
mod corpus;
mod daemon;
mod oracle;
mod place;
mod repo;
mod stage;
mod watch;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{run, workspace::Workspace};
use corpus::Case;
use stage::{Stage, Verdict};

/// How many cases are played at a time.
const WORKERS: usize = 2;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Which repositories, and by which program.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The program to test [default: a debug build of this checkout]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Only this case or class, such as link/chain or link; its place is kept
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
}

/// Runs it: first the harness on trial, then the corpus.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => {
            run::stream(workspace.cargo().args(["build", "--locked", "--package", "eeveon-cli"]))?;
            workspace.metadata()?.target_directory.join("debug/ee-deploy")
        }
    };
    let folder = workspace.scratch()?.join("hostile");
    let pages = workspace.root().join("docs/errors");
    if args.case.is_empty() {
        control::run(&folder, &pages)?;
    }
    let wanted = |case: &Case| {
        let name = case.full_name();
        args.case.is_empty() || args.case.iter().any(|it| *it == case.class || *it == name)
    };
    let cases: Vec<Case> = corpus::all().into_iter().filter(wanted).collect();
    ensure!(!cases.is_empty(), "there is no such case");
    let played = play_all(&folder, &pages, &program, cases)?;
    conclude(&played, &program)
}

/// The stage of `cargo xtask ci`: all of it.
///
/// # Errors
///
/// The harness misses something, or the program does something it must not.
pub(crate) fn in_ci(workspace: &Workspace) -> Result<()> {
    run(workspace, &Args { binary: None, case: Vec::new() })
}

/// What came of one case.
struct Played {
    class: &'static str,
    name: String,
    verdict: Verdict,
    time: Duration,
}

fn play_all(folder: &Path, pages: &Path, program: &Path, cases: Vec<Case>) -> Result<Vec<Played>> {
    let todo = Mutex::new(cases.into_iter());
    let done = Mutex::new(Vec::new());
    let work = |worker: usize| -> Result<()> {
        let folder = folder.join(worker.to_string());
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let stage = Stage { program, folder, pages: pages.to_owned(), limit: LIMIT, also: &[] };
        loop {
            let next = todo.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(case) = next else { return Ok(()) };
            let (name, class, begin) = (case.full_name(), case.class, Instant::now());
            let verdict = stage.play(case.make).with_context(|| format!("playing {name}"))?;
            let played = Played { class, name, verdict, time: begin.elapsed() };
            played.tell(&stage.folder);
            done.lock().unwrap_or_else(PoisonError::into_inner).push(played);
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|worker| scope.spawn(move || work(worker))).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a worker panicked"),
        })
    })?;
    Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner))
}

impl Case {
    fn full_name(&self) -> String {
        format!("{}/{}", self.class, self.name)
    }
}

impl Played {
    /// Says what is wrong, as soon as it is known.
    fn tell(&self, folder: &Path) {
        if self.verdict.broken.is_empty() {
            return;
        }
        println!("{} ({}), in {}", self.name, self.verdict.end, folder.display());
        for broken in &self.verdict.broken {
            println!("    {}: {}", broken.rule, broken.how);
        }
    }
}

/// One line of the table.
#[derive(Default)]
struct Row {
    cases: usize,
    live: usize,
    broken: usize,
    programs: usize,
    memory: u64,
    time: Duration,
}

fn conclude(played: &[Played], program: &Path) -> Result<()> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for Played { class, verdict, time, .. } in played {
        for class in [class, "all"] {
            let row = rows.entry(class).or_default();
            row.cases += 1;
            row.live += usize::from(verdict.end == "live");
            row.broken += usize::from(!verdict.broken.is_empty());
            row.programs += verdict.programs;
            row.memory = row.memory.max(verdict.memory);
            row.time = row.time.max(*time);
        }
    }
    println!(
        "{:<12} {:>6} {:>6} {:>8} {:>11} {:>9} {:>9} {:>9}",
        "class", "cases", "live", "refused", "violations", "programs", "peak MiB", "longest s"
    );
    for (class, Row { cases, live, broken, programs, memory, time }) in &rows {
        let refused = cases - live;
        let (memory, time) = (memory >> 20, time.as_secs_f64());
        println!(
            "{class:<12} {cases:>6} {live:>6} {refused:>8} {broken:>11} {programs:>9} {memory:>9} {time:>9.1}"
        );
    }
    let broken: Vec<&str> =
        played.iter().filter(|it| !it.verdict.broken.is_empty()).map(|it| it.name.as_str()).collect();
    if let Some(first) = broken.first() {
        bail!(
            "{} cases broke a rule; again: cargo xtask hostile --binary {} --case {first}",
            broken.len(),
            program.display()
        );
    }
    Ok(())
}
