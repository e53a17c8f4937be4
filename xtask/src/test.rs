//! `cargo xtask test`: builds everything and runs every test; the examples have tests, too.

use std::{env, fs};

use anyhow::{Context, Result, bail};

use crate::{run, servers, workspace::Workspace};

/// What the build needs beside Rust, and how to get it.
const PREREQUISITES: &[(&str, &str)] = &[
    ("git", "apt-get install git | dnf install git | pacman -S git | apk add git"),
    ("cc", "apt-get install gcc libc6-dev | dnf install gcc | pacman -S gcc | apk add build-base"),
];

/// Runs everything. With `CI=true` no test may be left out.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    check_prerequisites()?;
    let all_needed = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    let missing = servers::prepare(workspace, all_needed)?;

    // Tests add themselves to it when they are left out.
    let report = workspace.scratch()?.join("left-out.txt");
    fs::write(&report, "").with_context(|| format!("cannot write {}", report.display()))?;
    // Benches run once each, as tests: their manifest says so.
    let mut command = workspace.cargo();
    command.args(["test", "--locked", "--workspace", "--no-fail-fast"]);
    command.env("EEVEON_SKIP_SERVERS", missing.join(",")).env("EEVEON_LEFT_OUT", &report);
    let result = run::stream(&mut command);

    let left_out =
        fs::read_to_string(&report).with_context(|| format!("cannot read {}", report.display()))?;
    let mut left_out: Vec<&str> = left_out.lines().collect();
    left_out.sort_unstable();
    left_out.dedup();
    if !left_out.is_empty() {
        println!("\n{} tests were left out:", left_out.len());
        left_out.iter().for_each(|test| println!("  {test}"));
        println!("to run them too, install what they need:\n  {}", servers::advice_for(workspace));
    }
    result?;
    if all_needed && !left_out.is_empty() {
        bail!("CI leaves no test out");
    }
    println!("\nevery test {}passed", if left_out.is_empty() { "" } else { "that ran " });
    Ok(())
}

fn check_prerequisites() -> Result<()> {
    let missing = PREREQUISITES.iter().filter(|(program, _)| servers::find(program).is_none());
    let advice: Vec<String> =
        missing.map(|(program, how)| format!("`{program}` is missing; get it with: {how}")).collect();
    match advice.is_empty() {
        true => Ok(()),
        false => bail!("{}", advice.join("\n")),
    }
}
