//! `cargo xtask ci`: everything that must pass before a change lands.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::{deny, layers, readme, run, supply, test, tidy, workspace::Workspace};

/// Which stages.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run only these stages
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(STAGES.map(|stage| stage.name)))]
    stages: Vec<String>,
}

struct Stage {
    name: &'static str,
    run: fn(&Workspace) -> Result<()>,
}

const STAGES: [Stage; 13] = [
    Stage { name: "fmt", run: |workspace| run::stream(workspace.cargo().args(["fmt", "--all", "--check"])) },
    Stage { name: "layers", run: layers::run },
    Stage { name: "tidy", run: tidy::run },
    Stage { name: "clippy", run: clippy },
    Stage { name: "doc", run: doc },
    Stage { name: "test", run: test::run },
    Stage { name: "crash", run: crash },
    Stage { name: "hostile", run: hostile },
    Stage { name: "daemon", run: daemon },
    Stage { name: "deny", run: deny::run },
    Stage { name: "unused", run: supply::unused },
    Stage { name: "sbom", run: supply::list },
    Stage { name: "readme", run: readme::run },
];

/// Runs the stages, all of them even after one has failed, and sums up.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let wanted = |stage: &Stage| args.stages.is_empty() || args.stages.iter().any(|name| name == stage.name);
    let mut results: Vec<(&str, Duration, Result<()>)> = Vec::new();
    for stage in STAGES.iter().filter(|stage| wanted(stage)) {
        println!("\n=== {}", stage.name);
        let begin = Instant::now();
        let result = (stage.run)(workspace);
        if let Err(error) = &result {
            println!("{error:#}");
        }
        println!("=== {}: {} in {:.1} s", stage.name, word(&result), begin.elapsed().as_secs_f64());
        results.push((stage.name, begin.elapsed(), result));
    }

    println!("\n=== summary");
    for (name, time, result) in &results {
        println!("{name:<8} {:<7} {:>7.1} s", word(result), time.as_secs_f64());
    }
    let failed: Vec<&str> =
        results.iter().filter(|(.., result)| result.is_err()).map(|(name, ..)| *name).collect();
    match failed.is_empty() {
        true => Ok(()),
        false => bail!("failed: {}", failed.join(", ")),
    }
}

fn word(result: &Result<()>) -> &'static str {
    match result {
        Ok(()) => "passed",
        Err(_) => "FAILED",
    }
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let words = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
    run::stream(workspace.cargo().args(words))
}

fn doc(workspace: &Workspace) -> Result<()> {
    let words = ["doc", "--locked", "--workspace", "--no-deps"];
    run::stream(workspace.cargo().args(words).env("RUSTDOCFLAGS", "-D warnings"))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn crash(workspace: &Workspace) -> Result<()> {
    crate::crash::in_ci(workspace)
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn crash(_: &Workspace) -> Result<()> {
    println!("left out: system calls are watched on Linux on x86-64 only");
    Ok(())
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn daemon(workspace: &Workspace) -> Result<()> {
    crate::daemon::in_ci(workspace)
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn daemon(_: &Workspace) -> Result<()> {
    println!("left out: what a process uses is read on Linux on x86-64 only");
    Ok(())
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn hostile(workspace: &Workspace) -> Result<()> {
    crate::hostile::in_ci(workspace)
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
fn hostile(_: &Workspace) -> Result<()> {
    println!("left out: programs are watched on Linux on x86-64 only");
    Ok(())
}
