//! Who is measured, and doing what.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::repo::Repo;
use crate::run;

/// Plain git and shell.
const FLOOR: &str = include_str!("floor.sh");

/// Who deploys.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Peer {
    /// Shell: links to the release before, and only what changed made anew.
    Links,
    /// Shell: every file made anew.
    Checkout,
    /// ee-deploy.
    Ours,
}

impl Peer {
    pub(crate) const ALL: [Self; 3] = [Self::Links, Self::Checkout, Self::Ours];
}

/// What is done.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Op {
    /// The first deploy of all.
    First,
    /// One file in a hundred has changed.
    Incremental,
    /// Nothing is new.
    Redeploy,
    /// Back to the release before.
    Rollback,
}

/// What it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// From start to end.
    pub(crate) seconds: f64,
    /// The most memory of its own that the program held, in KiB, as far as it lived long enough to be
    /// seen. Files it looks into belong to the system, which takes them back when it wants.
    pub(crate) peak_kib: u64,
}

/// Returns a git that nothing on this machine configures.
pub(crate) fn git() -> Command {
    let mut command = Command::new("git");
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").stdin(Stdio::null());
    command
}

/// All that deploy the same repository.
#[derive(Debug)]
pub(crate) struct Contest<'a> {
    folder: PathBuf,
    floor: PathBuf,
    repo: &'a Repo,
    program: &'a Path,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(folder: &Path, repo: &'a Repo, program: &'a Path) -> Result<Self> {
        let floor = folder.join("floor.sh");
        fs::write(&floor, FLOOR)?;
        Ok(Self { folder: folder.to_owned(), floor, repo, program })
    }

    /// Gives a peer an empty place.
    pub(crate) fn begin(&self, peer: Peer) -> Result<Round<'_>> {
        let place = self.folder.join("place");
        if place.exists() {
            fs::remove_dir_all(&place)?;
        }
        fs::create_dir(&place)?;
        let round = Round { contest: self, peer, place };
        if peer == Peer::Ours {
            let words = ["init", "--name", "app", "--branch", "main"];
            let url = format!("file://{}", self.repo.path.display());
            let path = round.place.join("app");
            run::output(round.ours().args(words).args(["--repo", &url, "--path"]).arg(path))?;
        }
        Ok(round)
    }
}

/// One peer's turn.
#[derive(Debug)]
pub(crate) struct Round<'a> {
    contest: &'a Contest<'a>,
    peer: Peer,
    place: PathBuf,
}

impl Round<'_> {
    fn ours(&self) -> Command {
        let mut command = Command::new(self.contest.program);
        command.arg("--quiet").arg("--home").arg(self.place.join("home")).stdin(Stdio::null());
        command
    }

    /// Does it, after everything that was written before is on the disk.
    pub(crate) fn carry_out(&mut self, op: Op, commit: usize) -> Result<Cost> {
        self.contest.repo.publish(if op == Op::Rollback { commit + 1 } else { commit })?;
        let mut command = match (self.peer, op) {
            (Peer::Ours, Op::Rollback) => {
                let mut command = self.ours();
                command.args(["rollback", "app", "--yes", "--reason", "bench"]);
                command
            }
            (Peer::Ours, _) => {
                let mut command = self.ours();
                command.args(["deploy", "app"]);
                command
            }
            (peer, op) => {
                let how = if peer == Peer::Links { "links" } else { "checkout" };
                let what = if op == Op::Rollback { "rollback" } else { "deploy" };
                let mut command = Command::new("sh");
                command.arg(&self.contest.floor).args([how, what]);
                command.arg(&self.place).arg(&self.contest.repo.path).stdin(Stdio::null());
                command
            }
        };
        nix::unistd::sync();
        let began = Instant::now();
        let mut child = command.stdout(Stdio::null()).spawn().context("cannot start it")?;
        let peak = watch_memory(&child);
        let status = child.wait()?;
        let seconds = began.elapsed().as_secs_f64();
        ensure!(status.success(), "{:?}, {op:?}: {status}", self.peer);
        Ok(Cost { seconds, peak_kib: peak.join().unwrap_or_default() })
    }

    /// Fails unless what is live is what the commit says.
    pub(crate) fn check(&self, commit: usize) -> Result<()> {
        let live = match self.peer {
            Peer::Ours => self.place.join("app/current"),
            _ => self.place.join("current"),
        };
        let live = live.canonicalize()?;
        let index = self.place.join("check");
        let git = || {
            let mut git = git();
            git.env("GIT_INDEX_FILE", &index).arg("--git-dir").arg(&self.contest.repo.path);
            git.arg("--work-tree").arg(&live).args(["-c", "core.bare=false"]).current_dir(&live);
            git
        };
        run::output(git().args(["read-tree", self.contest.repo.id(commit)?]))?;
        run::output(git().args(["diff", "--exit-code", "--stat"])).context("what is live is wrong")?;
        fs::remove_file(index)?;
        Ok(())
    }

    /// Clears away what it left.
    pub(crate) fn end(self) -> Result<()> {
        Ok(fs::remove_dir_all(&self.place)?)
    }
}

/// Looks at a program's memory until it ends.
///
/// Source: `RssAnon` of proc_pid_status(5).
fn watch_memory(child: &Child) -> thread::JoinHandle<u64> {
    let status = format!("/proc/{}/status", child.id());
    thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = fs::read_to_string(&status) {
            let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
            let Some(line) = line else { break };
            peak = line.trim().trim_end_matches(" kB").parse().unwrap_or(peak).max(peak);
            thread::sleep(Duration::from_millis(10));
        }
        peak
    })
}
