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
    /// The commit of the checkout, with a `+` when it was changed since.
    commit: &'a str,
    binary: &'a str,
    blow: &'static str,
    scenario: &'static str,
    calls: usize,
    struck: usize,
    outcomes: &'a BTreeMap<&'static str, usize>,
    violations: usize,
}

/// Appends what came of a run.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn append(workspace: &Workspace, program: &Path, faults: bool, tallies: &[Tally]) -> Result<()> {
    let git = |words: &[&str]| run::output(workspace.command("git").args(words));
    let changed = !git(&["status", "--porcelain"])?.is_empty();
    let commit = format!("{}{}", git(&["rev-parse", "HEAD"])?.trim(), if changed { "+" } else { "" });
    let binary = run::output(workspace.command(&program.to_string_lossy()).arg("--version"))?;
    let date = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let mut lines = String::new();
    for tally in tallies {
        let line = Line {
            format: 1,
            date: date.clone(),
            commit: &commit,
            binary: binary.trim(),
            blow: if faults { "fault" } else { "kill" },
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
