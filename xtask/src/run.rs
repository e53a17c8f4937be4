//! Starting programs, and installing those that cargo can.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Shows the command line, runs it with its output going where ours goes, and fails if it fails.
pub(crate) fn stream(command: &mut Command) -> Result<()> {
    println!("$ {}", line(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    verdict(command, status)
}

/// Runs the command and returns what it printed; what it says on standard error is passed through.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    verdict(command, output.status)?;
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed no text", line(command)))
}

/// Like [`stream`], but ends the command after `limit`.
pub(crate) fn stream_within(command: &mut Command, limit: Duration) -> Result<()> {
    println!("$ {}", line(command));
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", line(command)))?;
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return verdict(command, status);
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            bail!("`{}` took longer than {} s", line(command), limit.as_secs());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Returns where a tool lies that cargo can install, installing it if need be beside what cargo builds.
pub(crate) fn install(workspace: &Workspace, tool: &str, version: &str) -> Result<PathBuf> {
    let target = workspace.metadata()?.target_directory;
    let tools = target.join("tools").join(format!("{tool}-{version}"));
    let program = tools.join("bin").join(tool);
    if !program.is_file() {
        let mut command = workspace.cargo();
        command.args(["install", "--quiet", "--locked", "--root"]).arg(&tools);
        command.arg(format!("{tool}@{version}"));
        // Its parts have other features than ours: a folder of their own keeps both warm.
        let build = target.join("tools").join("build");
        command.env("CARGO_TARGET_DIR", &build);
        stream(&mut command)?;
        fs::remove_dir_all(&build)?;
    }
    Ok(program)
}

/// Tells whether the command runs and succeeds, showing nothing.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Writes the command as one would type it, near enough to be recognised.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn verdict(command: &Command, status: ExitStatus) -> Result<()> {
    match status.success() {
        true => Ok(()),
        false => bail!("`{}` failed: {status}", line(command)),
    }
}
