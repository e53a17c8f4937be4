//! The README's commands, tried as a newcomer would: from a clean clone, with an empty home.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use crate::{run, workspace::Workspace};

/// How the README's first command begins.
const FIRST: &str = "cargo run --release";

/// The README's second command. It runs as a stage of its own; here it must only be there.
const SECOND: &str = "cargo xtask test";

/// What the second run of the first command must say.
const UNCHANGED: &str = "nothing changed";

/// Clones the commit that is checked out, and runs the first command there twice.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let readme = workspace.read("README.md")?;
    let words = command_line(&readme, FIRST)?;
    command_line(&readme, SECOND)?;

    if !run::output(workspace.command("git").args(["status", "--porcelain"]))?.is_empty() {
        println!("uncommitted changes are not part of this: it tries the last commit");
    }
    let target = workspace.metadata()?.target_directory;
    // Always the same place: cargo then replaces what it built for the clone before.
    let place = workspace.scratch()?.join("readme");
    let (clone, home) = (place.join("clone"), place.join("home"));
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let git = || workspace.command("git");
    run::stream(git().args(["clone", "--quiet", "--no-local", "--"]).arg(workspace.root()).arg(&clone))?;
    // CI often checks out a commit; whoever clones from a forge stands on a branch.
    run::stream(git().arg("-C").arg(&clone).args(["checkout", "--quiet", "-B", "main"]))?;

    let first = try_command(workspace, &words, &clone, &home, &target)?;
    ensure!(!mentions(&first), "the first run already says `{UNCHANGED}`");
    let second = try_command(workspace, &words, &clone, &home, &target)?;
    ensure!(mentions(&second), "the second run does not say `{UNCHANGED}`");
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))
}

/// Runs the command in the clone and returns all it printed.
fn try_command(
    workspace: &Workspace,
    words: &[&str],
    clone: &Path,
    home: &Path,
    target: &Path,
) -> Result<String> {
    let Some((program, arguments)) = words.split_first() else { bail!("the command is empty") };
    let mut command = workspace.command(program);
    command.args(arguments).current_dir(clone);
    // Rust itself is not what the newcomer lacks.
    let toolchain = |name: &str, folder: &str| {
        env::var_os(name).map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(folder)))
    };
    let kept = [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")];
    command.envs(kept.into_iter().filter_map(|(name, folder)| Some((name, toolchain(name, folder)?))));
    command.env("HOME", home).env("CARGO_TARGET_DIR", target).env_remove("EEVEON_HOME");
    println!("$ {}   # in a clean clone, with an empty home; a cold build takes minutes", words.join(" "));
    let done = command.output().with_context(|| format!("cannot start {program}"))?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    println!("{said}");
    ensure!(done.status.success(), "it ended with {}", done.status);
    Ok(said)
}

fn mentions(said: &str) -> bool {
    said.to_lowercase().contains(UNCHANGED)
}

/// Returns the words of the line of the README's code blocks that begins with `begin`.
fn command_line<'a>(readme: &'a str, begin: &str) -> Result<Vec<&'a str>> {
    let mut fenced = false;
    for line in readme.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        let line = line.trim().trim_start_matches("$ ");
        if fenced && line.starts_with(begin) {
            let command = line.split(" #").next().unwrap_or(line);
            return Ok(command.split_whitespace().collect());
        }
    }
    bail!("no code block of the README has a line that begins with `{begin}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_taken_from_a_code_block() {
        let readme =
            "cargo run --release no\n\n```sh\n$ cargo run --release -- up . --once   # deploys\n```\n";
        assert_eq!(
            command_line(readme, FIRST).unwrap(),
            ["cargo", "run", "--release", "--", "up", ".", "--once"]
        );
        assert!(command_line(readme, SECOND).is_err());
    }
}
