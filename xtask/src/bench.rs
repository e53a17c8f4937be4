//! `cargo xtask bench`: what deploys cost, beside plain git and shell that do only the work itself.
//!
//! All take turns in one run, each with a place of its own, and what was written before is flushed
//! before each is timed. Seconds say something about the machine and what else it does; the ratios say
//! something about the program.

mod contest;
mod repo;
mod table;

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use self::{
    contest::{Contest, Op, Peer, Round},
    repo::{Repo, Size},
    table::Table,
};
use crate::{crash, workspace::Workspace};

/// Where the figures are kept that later ones are compared with.
const KEPT: &str = "docs/bench.json";

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Sizes of repositories: S (200 files, 2 MiB), M (5,000, 60 MiB), L (50,000, 400 MiB)
    #[arg(value_enum, ignore_case = true, default_values = ["S", "M"])]
    sizes: Vec<Size>,
    /// How often
    #[arg(short, long, default_value_t = 5)]
    rounds: usize,
    /// The program to measure [default: a release build of this checkout]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// Where to work; on the file system that matters [default: beside what cargo builds]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Keep the figures, to compare later ones with
    #[arg(long)]
    keep: bool,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(program) => program.canonicalize().with_context(|| program.display().to_string())?,
        None => crash::build(workspace, &["--release"], "release")?,
    };
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => workspace.metadata()?.target_directory.join("bench"),
    };
    fs::create_dir_all(&folder)?;
    let folder = folder.canonicalize()?;
    println!("load {}", load());
    let mut table = Table::default();
    for size in &args.sizes {
        let repo = Repo::make(&folder.join(format!("{size:?}")), *size)?;
        let contest = Contest::new(&folder, &repo, &program)?;
        for number in 0..args.rounds {
            for peer in Peer::ALL {
                let mut round = contest.begin(peer)?;
                for (op, commit) in [
                    (Op::First, 0),
                    (Op::Incremental, 1),
                    (Op::Redeploy, 1),
                    (Op::Incremental, 2),
                    (Op::Rollback, 1),
                ] {
                    let cost = measure(&mut round, op, commit, number == 0)?;
                    table.add(*size, op, peer, cost);
                }
                round.end()?;
            }
        }
        println!("{size:?}: load {}", load());
    }
    let kept = workspace.root().join(KEPT);
    let missed = table.show(&kept)?;
    if args.keep {
        table.keep(&kept)?;
    }
    ensure!(missed == 0, "{missed} bars are missed");
    Ok(())
}

/// Carries one operation out. In the first round its result is compared with the commit.
fn measure(round: &mut Round<'_>, op: Op, commit: usize, check: bool) -> Result<contest::Cost> {
    let cost = round.carry_out(op, commit)?;
    if check {
        round.check(commit)?;
    }
    Ok(cost)
}

/// Returns how many want the processors: over one, five and fifteen minutes.
///
/// Source: proc_loadavg(5).
fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}
