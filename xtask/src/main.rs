//! Chores of this repository: `cargo xtask help` lists them.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for people at a terminal")]

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod bench;
mod ci;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod crash;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod daemon;
mod deny;
mod finding;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod hostile;
mod layers;
mod readme;
mod run;
mod rust_file;
mod servers;
mod supply;
mod test;
mod tidy;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Chores of the EEveon repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Chore {
    /// Build and run every test, with the servers they talk to
    Test,
    /// Check that dependencies and sources keep to the floors of the house
    Layers,
    /// Check what no compiler checks: headers, links, error pages, leftovers
    Tidy,
    /// Write the pages of the guide that are made from the code
    Codegen,
    /// Kill ee-deploy at every system call that changes something, and judge what is left
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Crash(crash::Args),
    /// Cut the power at every moment of what ee-deploy writes, and judge what is left
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Powercut(crash::powercut::Args),
    /// Let several ee-deploy work on one project at once, and judge whether they noticed
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Race(crash::race::Args),
    /// Deploy repositories made to do harm, and judge what ee-deploy did
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Hostile(hostile::Args),
    /// Measure a daemon that runs, and torment it
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Daemon(daemon::Args),
    /// Measure deploys beside plain git and shell, and hold the ratios against the bars
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Bench(bench::Args),
    /// Do everything that must pass before a change lands
    Ci(ci::Args),
}

fn main() -> ExitCode {
    match carry_out(&Chore::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(chore: &Chore) -> Result<()> {
    let workspace = workspace::Workspace::find()?;
    match chore {
        Chore::Test => test::run(&workspace),
        Chore::Layers => layers::run(&workspace),
        Chore::Tidy => tidy::run(&workspace),
        Chore::Codegen => codegen(&workspace),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Crash(args) => crash::run(&workspace, args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Powercut(args) => crash::powercut::run(&workspace, args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Race(args) => crash::race::run(&workspace, args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Hostile(args) => hostile::run(&workspace, args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Daemon(args) => daemon::run(&workspace, args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Chore::Bench(args) => bench::run(&workspace, args),
        Chore::Ci(args) => ci::run(&workspace, args),
    }
}

/// The command line knows its own pages; a test of its fails when they are out of date.
fn codegen(workspace: &workspace::Workspace) -> Result<()> {
    let words = ["run", "--locked", "--package", "eeveon-cli", "--example", "codegen", "--", "."];
    run::stream(workspace.cargo().args(words))
}
