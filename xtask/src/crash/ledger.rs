//! The account of all runs, one line each, in `docs/crash-ledger.jsonl`.

use std::{collections::BTreeMap, fs::OpenOptions, io::Write as _, path::Path};

use anyhow::{Context, Result};
use serde::Serialize;

use super::Tally;
use crate::{run, workspace::Workspace};

const FILE: &str = "docs/crash-ledger.jsonl";

/// One run of one scenario. Format 1; new fields may come, none changes its meaning.
#[derive(Serialize)]
struct Line<'a> {
    format: u32,
    date: String,
    /// The commit the binary was built from, with a `+` when files were changed since; absent when
    /// the binary was given and nobody knows.
    commit: Option<&'a str>,
    binary: &'a str,
    /// Of the binary, in hexadecimal.
    sha256: &'a str,
    blow: &'static str,
    scenario: &'static str,
    calls: usize,
    struck: usize,
    outcomes: &'a BTreeMap<&'static str, usize>,
    violations: usize,
}

/// Appends what came of a run. `built` says whether the program was built of this checkout.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn append(
    workspace: &Workspace,
    program: &Path,
    built: bool,
    blow: &'static str,
    tallies: &[Tally],
) -> Result<()> {
    let git = |words: &[&str]| run::output(workspace.command("git").args(words));
    let changed = !git(&["status", "--porcelain"])?.is_empty();
    let commit = format!("{}{}", git(&["rev-parse", "HEAD"])?.trim(), if changed { "+" } else { "" });
    let binary = run::output(workspace.command(&program.to_string_lossy()).arg("--version"))?;
    let sum = run::output(workspace.command("sha256sum").arg("--").arg(program))?;
    let date = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let mut lines = String::new();
    for tally in tallies {
        let line = Line {
            format: 1,
            date: date.clone(),
            commit: built.then_some(commit.as_str()),
            binary: binary.trim(),
            sha256: sum.split_whitespace().next().unwrap_or_default(),
            blow,
            scenario: tally.scenario,
            calls: tally.calls,
            struck: tally.struck,
            outcomes: &tally.states,
            violations: tally.violations,
        };
        lines.push_str(&serde_json::to_string(&line)?);
        lines.push('\n');
    }
    let path = workspace.root().join(FILE);
    let written = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .and_then(|mut file| file.write_all(lines.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}
