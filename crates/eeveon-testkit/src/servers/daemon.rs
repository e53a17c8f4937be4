//! Git's own daemon: `git://`, read only, anonymous.

use std::{io, path::Path, process::Command};

use tempfile::TempDir;

use super::{find_in_git, not_skipped, process::Process};

/// A git daemon.
#[derive(Debug)]
pub struct GitDaemon {
    process: Process,
    _state: TempDir,
}

impl GitDaemon {
    /// Tells whether one can be started here, or why not.
    ///
    /// # Errors
    ///
    /// What is missing, in words.
    pub fn available() -> Result<(), String> {
        not_skipped("git-daemon")?;
        find_in_git("git-daemon").map(|_| ())
    }

    /// Serves the bare repositories in `root`.
    ///
    /// # Errors
    ///
    /// It does not start; the message has what it said.
    pub fn start(root: &Path) -> io::Result<Self> {
        let state = TempDir::new()?;
        let program = find_in_git("git-daemon").map_err(io::Error::other)?;
        let process = Process::start(&state.path().join("log"), |port| {
            let mut command = Command::new(&program);
            command.args(["--listen=127.0.0.1", "--reuseaddr", "--export-all", "--informative-errors"]);
            command.arg(format!("--port={port}"));
            command.arg(format!("--base-path={}", root.display())).arg("--").arg(root);
            command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
            Ok(command)
        })?;
        Ok(Self { process, _state: state })
    }

    /// Returns the URL of a repository, given relative to the root.
    pub fn url(&self, repository: &str) -> String {
        format!("git://127.0.0.1:{}/{repository}", self.process.port())
    }
}
