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
    blow: &'a str,
    scenario: &'static str,
    calls: usize,
    struck: usize,
    outcomes: &'a BTreeMap<&'static str, usize>,
    violations: usize,
}

/// What was tested.
pub(crate) struct Binary<'a> {
    /// Where it is.
    pub(crate) program: &'a Path,
    /// The commit it was built from, as the one who gave it says; nothing when it was built of this
    /// checkout now, or nobody knows.
    pub(crate) commit: Option<&'a str>,
    /// Whether it was built of this checkout now.
    pub(crate) built: bool,
}

/// Appends what came of a run.
///
/// # Errors
///
/// The file cannot be written.
pub(crate) fn append(
    workspace: &Workspace,
    tested: &Binary<'_>,
    blow: &str,
    tallies: &[Tally],
) -> Result<()> {
    let git = |words: &[&str]| run::output(workspace.command("git").args(words));
    let commit = match tested.built {
        true => {
            let changed = !git(&["status", "--porcelain"])?.is_empty();
            Some(format!("{}{}", git(&["rev-parse", "HEAD"])?.trim(), if changed { "+" } else { "" }))
        }
        false => tested.commit.map(str::to_owned),
    };
    let binary = run::output(workspace.command(&tested.program.to_string_lossy()).arg("--version"))?;
    let sum = run::output(workspace.command("sha256sum").arg("--").arg(tested.program))?;
    let date = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let mut lines = String::new();
    for tally in tallies {
        let line = Line {
            format: 1,
            date: date.clone(),
            commit: commit.as_deref(),
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
