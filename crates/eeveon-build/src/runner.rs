//! The one process runner: starts a command, keeps watch over it, ends it as a whole.
//!
//! A command begins behind a gate: its process waits for a line from EEveon before it becomes the
//! command. Until then it is put on record and into its cgroups. If EEveon dies first, the gate
//! breaks and the process ends, so nothing runs that is not on record.

use std::{
    io::{self, PipeWriter, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command},
    sync::{Arc, OnceLock},
    time::Duration,
};

use eeveon_core::action::Stopped;
use rustix::process::{Pid, setpriority_process};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    BuildError, CommandLine, Enforced, Environment, Limits, StepLog,
    cgroup::Cgroups,
    leftover::{self, Running},
    log::{DEFAULT_LIMIT_BYTES, LogWriter},
    watch::{Stop, Watch},
};

/// Waits for the line that carries the mark, then becomes the command. A literal: whatever varies
/// is a parameter.
const GATE: &str = r#"IFS= read -r EEVEON_RUN || exit 125
export EEVEON_RUN
exec "$@" </dev/null"#;

/// Runs commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Runner {
    base: Environment,
    limits: Limits,
    grace: Duration,
    log_limit: u64,
    cgroups: Arc<OnceLock<Cgroups>>,
}

/// One command to run.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// What people call it.
    pub name: &'a str,
    /// What to run, and for how long.
    pub command: &'a CommandLine,
    /// The working directory.
    pub folder: &'a Path,
    /// Its environment, on top of the runner's.
    pub env: Environment,
    /// Where its output goes.
    pub log: &'a StepLog,
}

/// A command that succeeded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The name of its log within the deployment's folder.
    pub log: String,
    /// How much it wrote, in bytes, whether or not the log kept all of it.
    pub output_bytes: u64,
}

impl Runner {
    /// Makes a runner whose commands see `base` and nothing else of this process's environment.
    pub fn new(base: Environment, limits: Limits) -> Self {
        let grace = Duration::from_secs(5);
        Self { base, limits, grace, log_limit: DEFAULT_LIMIT_BYTES, cgroups: Arc::default() }
    }

    /// Replaces how long a command that must stop may take to end by itself: 5 seconds.
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Replaces how large a log grows before it is rotated, in bytes: 10 MiB.
    pub fn with_log_limit(mut self, bytes: u64) -> Self {
        self.log_limit = bytes;
        self
    }

    /// Returns which of the limits asked for hold on this machine.
    pub fn enforced(&self) -> Enforced {
        let can = self.cgroups().enforced;
        Enforced {
            memory: can.memory && self.limits.memory_bytes.is_some(),
            processes: can.processes && self.limits.processes.is_some(),
        }
    }

    fn cgroups(&self) -> &Cgroups {
        self.cgroups.get_or_init(|| {
            let found = Cgroups::detect();
            let wanted = [self.limits.memory_bytes, self.limits.processes];
            let held = [found.enforced.memory, found.enforced.processes];
            for ((wanted, held), what) in wanted.iter().zip(held).zip(["memory", "processes"]) {
                if wanted.is_some() && !held {
                    tracing::warn!("no usable cgroup: commands run without a limit on {what}");
                }
            }
            found
        })
    }

    /// Runs a command to its end and ends whatever it leaves running. Blocks.
    ///
    /// # Errors
    ///
    /// A `build/...` code that says how it went wrong, or `engine/cancelled` once `cancel` fired and
    /// the command was ended. Nothing of the command runs any more then, except after
    /// `build/leftover`.
    pub fn run(&self, job: &Job<'_>, cancel: &CancellationToken) -> Result<Ran, BuildError> {
        if cancel.is_cancelled() {
            return Err(Stopped.into());
        }
        let log_failed = |source| BuildError::Log { path: job.log.path(), source };
        let log = LogWriter::open(job.log, self.log_limit).map_err(log_failed)?;
        let mut watch = self.start(job, log).map_err(|source| BuildError::Start {
            name: job.name.to_owned(),
            folder: job.folder.to_owned(),
            source,
        })?;
        let stopped = watch.until_ended(job.command, self.grace, cancel);
        let cleared = watch.clear_away();
        let out_of_memory = watch.running.cage().out_of_memory() > 0;
        let duration_ms = u64::try_from(watch.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let status = cleared?;
        watch.running.cage().remove();
        leftover::forget(job.log).map_err(log_failed)?;

        let name = job.name.to_owned();
        match (stopped.map_err(log_failed)?, status.code(), self.limits.memory_bytes) {
            (Some(Stop::Cancelled), ..) => Err(Stopped.into()),
            (Some(Stop::TimedOut), ..) => {
                Err(BuildError::TimedOut { name, limit_ms: job.command.timeout_ms })
            }
            (Some(Stop::Silent), ..) => Err(BuildError::Silent { name, limit_ms: job.command.idle_ms }),
            (None, Some(0), _) => {
                Ok(Ran { duration_ms, log: job.log.file_name(), output_bytes: watch.output_bytes })
            }
            (None, _, Some(limit_bytes)) if out_of_memory => {
                Err(BuildError::OutOfMemory { name, limit_bytes })
            }
            (None, Some(status), _) => Err(BuildError::Failed { name, status }),
            (None, None, _) => Err(BuildError::Killed { name, signal: status.signal().unwrap_or(0) }),
        }
    }

    fn start(&self, job: &Job<'_>, log: LogWriter) -> io::Result<Watch> {
        let (output, to_output) = io::pipe()?;
        let (gate, go) = io::pipe()?;
        let env = self.base.clone().with(job.env.clone());
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", GATE, "sh"]).args(job.command.words()).current_dir(job.folder);
        shell.env_clear().envs(env.iter()).process_group(0);
        shell.stdin(gate).stdout(to_output.try_clone()?).stderr(to_output);
        let mut child = shell.spawn()?;
        // It holds the ends of the pipes that only the command should hold.
        drop(shell);
        match self.let_go(job, &child, go) {
            Ok(running) => Ok(Watch::new(child, running, output, log)),
            Err(error) => {
                // The gate broke when `go` was dropped.
                let _status = child.wait();
                Err(error)
            }
        }
    }

    /// Puts the waiting process on record and under its limits, then opens the gate.
    fn let_go(&self, job: &Job<'_>, child: &Child, mut go: PipeWriter) -> io::Result<Running> {
        let pid = Pid::from_child(child);
        let alone = Running::new(pid)?;
        let cage = self.cgroups().cage(&format!("eeveon-{}", alone.mark()));
        let mut running = alone.clone().within(&cage);
        running.write(job.log)?;
        if let Err(error) = cage.make(&self.limits).and_then(|()| cage.take_in(pid)) {
            tracing::warn!(%error, "a command runs without cgroup");
            cage.remove();
            running = alone;
            running.write(job.log)?;
        }
        // Fails only where EEveon itself stands further back.
        let _stands_back = setpriority_process(Some(pid), i32::from(self.limits.nice));
        go.write_all(format!("{}\n", running.mark()).as_bytes())?;
        Ok(running)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Stdio};

    use eeveon_core::{DeploymentId, StepKey};

    use super::*;

    #[test]
    fn a_process_that_leaves_its_group_and_session_is_ended_with_and_without_cgroup() {
        for cgroups in [OnceLock::from(Cgroups::default()), OnceLock::new()] {
            let folder = tempfile::tempdir().unwrap();
            let path = ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
            let mut runner = Runner::new(Environment::new([path]).unwrap(), Limits::default());
            runner.cgroups = Arc::new(cgroups);
            let line = "mkfifo ready
                setsid sh -c 'echo $$ >ready; exec sleep 1000' >/dev/null 2>&1 &
                read -r pid <ready
                echo $pid >pid";
            let command =
                CommandLine { line: line.to_owned(), args: Vec::new(), timeout_ms: 60_000, idle_ms: 60_000 };
            let log = StepLog::new(folder.path(), DeploymentId(1), &StepKey::new("build"));
            let env = Environment::default();
            let job = Job { name: "daemon", command: &command, folder: folder.path(), env, log: &log };
            runner.run(&job, &CancellationToken::new()).unwrap();
            let pid: i32 = fs::read_to_string(folder.path().join("pid")).unwrap().trim().parse().unwrap();
            let daemon = Pid::from_raw(pid).and_then(crate::process::look);
            assert!(daemon.is_none_or(|it| it.ended), "{daemon:?}");
            assert!(fs::read_to_string(log.path()).unwrap().contains("ended what the command left"));
        }
    }

    #[test]
    fn a_command_does_not_begin_once_the_gate_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let (gate, go) = io::pipe().unwrap();
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", GATE, "sh", "touch", "began"]).current_dir(folder.path()).stdin(gate);
        let mut child = shell.stderr(Stdio::inherit()).spawn().unwrap();
        // What happens to the writing end when EEveon is killed.
        drop(go);
        assert_eq!(child.wait().unwrap().code(), Some(125));
        assert!(!folder.path().join("began").exists());
    }
}
