//! `cargo xtask daemon`: measures a daemon that runs, and torments it.

pub(crate) mod dice;
mod figures;
mod flood;
mod hook;
mod idle;
mod kills;
mod latency;
mod oracle;
mod place;
mod repo;
mod servers;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use servers::Way;

use crate::{
    crash::{
        Tally, build,
        ledger::{self, Binary},
    },
    workspace::Workspace,
};

/// How often `cargo xtask ci` kills.
const IN_CI: usize = 12;

/// What to do.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
    /// The program to test [default: a release build of this checkout]
    #[arg(long, value_name = "PATH", global = true)]
    binary: Option<PathBuf>,
    /// The commit that program was built from
    #[arg(long, value_name = "COMMIT", global = true)]
    commit: Option<String>,
}

#[derive(Subcommand)]
enum What {
    /// Kill it at random while commits and deliveries keep coming
    Kills {
        /// How often
        #[arg(short, value_name = "N", default_value_t = 200)]
        n: usize,
        /// What chance follows from [default: the time]
        #[arg(long)]
        seed: Option<u64>,
        /// Break things on purpose, and see that each is found
        #[arg(long)]
        control: bool,
    },
    /// Open thousands of connections at once, of which few have something to say that counts
    Flood {
        /// How many
        #[arg(short, value_name = "N", default_value_t = 10_000)]
        n: usize,
    },
    /// Measure what a daemon with many projects costs while nothing happens
    Idle {
        /// Projects
        #[arg(long, value_name = "N", default_value_t = 1000)]
        projects: usize,
        /// How their repositories are reached
        #[arg(long, value_name = "WAY", default_value = "file")]
        over: servers::Way,
        /// How often each is looked at, in seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 120)]
        interval: u64,
        /// For how long, in minutes
        #[arg(long, value_name = "N", default_value_t = 60)]
        minutes: u64,
    },
    /// Measure what one look costs, for every way to reach a repository
    Looks {
        /// Projects
        #[arg(long, value_name = "N", default_value_t = 1000)]
        projects: usize,
    },
    /// Measure the time from a delivery until what it announces is live
    Latency {
        /// How often
        #[arg(short, value_name = "N", default_value_t = 200)]
        n: usize,
    },
}

/// Does it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace, &["--release"], "release")?,
    };
    let folder = workspace.scratch()?.join("daemon");
    println!("{}", figures::load());
    match &args.what {
        What::Kills { control: true, .. } => kills::control(&folder.join("kills"), &program),
        What::Kills { n, seed, .. } => {
            let seed = seed.unwrap_or_else(|| jiff::Timestamp::now().as_millisecond().unsigned_abs());
            println!("{n} kills, --seed {seed}");
            let plan = kills::Plan { kills: *n, seed, broken: None };
            let outcome = kills::run(&folder.join("kills"), &program, plan)?;
            outcome.print();
            let wrong = outcome.found.wrong.len();
            let states: BTreeMap<_, _> = outcome.found.outcomes;
            let tally = Tally { scenario: "daemon", calls: *n, struck: *n, states, violations: wrong };
            let tested =
                Binary { program: &program, commit: args.commit.as_deref(), built: args.binary.is_none() };
            ledger::append(workspace, &tested, "kill under load", &[tally])?;
            ensure!(wrong == 0, "{wrong} things are not as they must be");
            Ok(())
        }
        What::Flood { n } => flood::run(&folder.join("flood"), &program, *n),
        What::Idle { projects, over, interval, minutes } => {
            let (interval, time) = (Duration::from_secs(*interval), Duration::from_secs(60 * minutes));
            let plan = idle::Plan { projects: *projects, way: *over, interval, time };
            idle::run(&folder.join("idle"), &program, plan)
        }
        What::Looks { projects } => [Way::File, Way::Git, Way::Https].into_iter().try_for_each(|way| {
            println!("\n{way:?}");
            let (interval, time) = (Duration::from_secs(20), Duration::from_secs(60));
            let plan = idle::Plan { projects: *projects, way, interval, time };
            idle::run(&folder.join("looks"), &program, plan)
        }),
        What::Latency { n } => latency::run(&folder.join("latency"), &program, *n),
    }
}

/// The stage of `cargo xtask ci`: the harness on trial, and a few kills. When they come follows from the
/// commit.
///
/// # Errors
///
/// The harness misses something, or a kill leaves something that must not be.
pub(crate) fn in_ci(workspace: &Workspace) -> Result<()> {
    let program = build(workspace, &[], "debug")?;
    let folder = workspace.scratch()?.join("daemon/kills");
    kills::control(&folder, &program)?;
    let head = crate::run::output(workspace.command("git").args(["rev-parse", "HEAD"]))?;
    let seed = u64::from_str_radix(head.get(..8).unwrap_or_default(), 16)?;
    println!("{IN_CI} kills, --seed {seed}");
    let outcome = kills::run(&folder, &program, kills::Plan { kills: IN_CI, seed, broken: None })?;
    outcome.print();
    ensure!(outcome.found.wrong.is_empty(), "a kill left something that must not be");
    Ok(())
}
