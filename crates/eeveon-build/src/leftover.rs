//! The pid file of a running command, and ending what a killed EEveon left behind.
//!
//! The file is written before the command may begin (see `runner`), so a command that runs is
//! always on record. It says nothing after a reboot, which is why it is not synced to disk.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use eeveon_core::{DeploymentId, StepKey};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use crate::{
    BuildError, StepLog,
    cgroup::Cage,
    process::{self, Process},
};

/// The version of the file's format.
const FORMAT: u32 = 1;

/// How long what was left behind may take to end in an orderly way. Short: nobody wants what it makes
/// any more, and the next command waits.
const GRACE: Duration = Duration::from_secs(1);

/// How long the kernel may take to carry out a kill.
const KILL_TAKES: Duration = Duration::from_secs(10);

/// Who runs: enough to find every process of a command, and to know that it is that one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Running {
    format: u32,
    /// The first process, which leads the group.
    pid: i32,
    /// When it started, in clock ticks since boot.
    start: u64,
    /// The boot of the machine it belongs to.
    boot: String,
    /// The cgroups around it.
    cgroups: Vec<PathBuf>,
}

/// What every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    format: u32,
}

impl Running {
    /// Describes the process `pid`, which leads its own group.
    pub(crate) fn new(pid: Pid) -> io::Result<Self> {
        let process = process::look(pid).ok_or(io::ErrorKind::NotFound)?;
        let (pid, boot) = (pid.as_raw_nonzero().get(), process::boot_id()?);
        Ok(Self { format: FORMAT, pid, start: process.start, boot, cgroups: Vec::new() })
    }

    /// Returns a name no other process of this boot has.
    pub(crate) fn mark(&self) -> String {
        format!("{}-{}", self.pid, self.start)
    }

    /// Returns the description with these cgroups around it.
    pub(crate) fn within(mut self, cage: &Cage) -> Self {
        self.cgroups.clone_from(&cage.folders);
        self
    }

    /// Puts the description where [`reap`] finds it.
    pub(crate) fn write(&self, log: &StepLog) -> io::Result<()> {
        let (path, fresh) = (log.pid_file(), log.pid_file().with_extension("pid.tmp"));
        let json = serde_json::to_vec(self)?;
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        io::Write::write_all(&mut file, &json)?;
        fs::rename(fresh, path)
    }

    fn read(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(json) => match serde_json::from_slice::<Versioned>(&json) {
                Ok(version) if version.format != FORMAT => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "written by another version of ee-deploy"))
                }
                // Renaming is atomic for everything but a power cut, after which nothing runs.
                _ => Ok(serde_json::from_slice(&json).ok()),
            },
        }
    }

    /// Returns the cgroups around it.
    pub(crate) fn cage(&self) -> Cage {
        Cage { folders: self.cgroups.clone() }
    }

    /// Lists everything the command started that still runs.
    pub(crate) fn alive(&self) -> Vec<Process> {
        if !self.cgroups.is_empty() {
            return self.cage().inmates();
        }
        let (leads, mark) = (self.leads(), self.mark());
        let mut found = process::running();
        found.retain(|it| (leads && it.group == self.pid) || process::carries(it.pid, &mark));
        found
    }

    /// Tells whether the first process is still there, even if only to be collected.
    fn leads(&self) -> bool {
        Pid::from_raw(self.pid).and_then(process::look).is_some_and(|leader| leader.start == self.start)
    }

    /// Signals the process group, if it is the one described.
    fn signal(&self, signal: Signal) {
        // A number stays taken as long as a group has it, so one member speaks for all.
        let ours = self.leads() || self.alive().iter().any(|it| it.group == self.pid);
        if let Some(group) = Pid::from_raw(self.pid).filter(|_| ours) {
            process::signal(group, signal);
        }
    }

    /// Asks the command to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
        // A stopped process hears nothing before it goes on.
        self.signal(Signal::CONT);
    }

    /// Kills everything. Tells whether all is gone.
    pub(crate) fn kill(&self) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < KILL_TAKES {
            self.signal(Signal::KILL);
            match self.cgroups.is_empty() {
                true => self.alive().iter().for_each(process::kill),
                false => self.cage().kill(),
            }
            if self.ends_within(Duration::from_millis(100)) {
                return true;
            }
        }
        false
    }

    fn ends_within(&self, time: Duration) -> bool {
        let begin = Instant::now();
        while !self.alive().is_empty() {
            if begin.elapsed() >= time {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Ends what an earlier run of a step, or of taking it back, left running because EEveon was
/// killed. Tells whether there was something. Blocks: first the processes are asked to end, and
/// after one second they are killed.
///
/// # Errors
///
/// `build/leftover` when the kernel cannot end a process; `build/log` when the folder cannot be read.
pub fn reap(logs: &Path, deployment: DeploymentId, step: &StepKey) -> Result<bool, BuildError> {
    let log = StepLog::new(logs, deployment, step);
    let (doing, undoing) = (reap_one(&log)?, reap_one(&log.undo())?);
    Ok(doing || undoing)
}

fn reap_one(log: &StepLog) -> Result<bool, BuildError> {
    let path = log.pid_file();
    let failed = |source| BuildError::Log { path: log.pid_file(), source };
    let Some(running) = Running::read(&path).map_err(failed)? else {
        // Also when it is there but empty.
        return forget(log).map_err(failed).map(|()| false);
    };
    let this_boot = process::boot_id().map_err(failed)? == running.boot;
    let found = this_boot && !running.alive().is_empty();
    if found {
        tracing::warn!(group = running.pid, log = %log.path().display(), "ending what an earlier run left behind");
        running.terminate();
        if !running.ends_within(GRACE) && !running.kill() {
            return Err(BuildError::Leftover { group: running.pid.unsigned_abs() });
        }
    }
    if this_boot {
        running.cage().remove();
    }
    forget(log).map_err(failed)?;
    Ok(found)
}

/// Removes the pid file, once nothing of the command runs any more.
pub(crate) fn forget(log: &StepLog) -> io::Result<()> {
    match fs::remove_file(log.pid_file()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::CommandExt, process::Command};

    use super::*;

    fn step(folder: &Path) -> StepLog {
        let log = StepLog::new(folder, DeploymentId(1), &StepKey::new("build"));
        fs::create_dir_all(log.folder()).unwrap();
        log
    }

    fn reap_step(folder: &Path) -> Result<bool, BuildError> {
        reap(folder, DeploymentId(1), &StepKey::new("build"))
    }

    #[test]
    fn the_format_stays_readable() {
        let golden = fs::read_to_string("tests/golden/pid-1.json").unwrap();
        let running: Running = serde_json::from_str(&golden).unwrap();
        let cgroups = vec![PathBuf::from("/sys/fs/cgroup/pids/eeveon-4711-98765")];
        let boot = "3b8f3fc5-c3f5-4f0c-a7f1-7e4a4d9d9d4e".to_owned();
        assert_eq!(running, Running { format: FORMAT, pid: 4711, start: 98765, boot, cgroups });
        assert_eq!(serde_json::to_string(&running).unwrap(), golden.trim_end());
    }

    #[test]
    fn nothing_on_record_is_nothing_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!reap_step(folder.path()).unwrap());
        let log = step(folder.path());
        for damaged in ["", "{", "{\"format\":1}"] {
            fs::write(log.pid_file(), damaged).unwrap();
            assert!(!reap_step(folder.path()).unwrap(), "{damaged}");
            assert!(!log.pid_file().exists());
        }
    }

    #[test]
    fn a_record_of_another_version_is_not_guessed_at() {
        let folder = tempfile::tempdir().unwrap();
        let log = step(folder.path());
        fs::write(log.pid_file(), "{\"format\":2,\"processes\":[4711]}").unwrap();
        assert_eq!(eeveon_core::Diagnose::code(&reap_step(folder.path()).unwrap_err()), "build/log");
        assert!(log.pid_file().exists());
    }

    #[test]
    fn strangers_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = step(folder.path());
        let mut stranger =
            Command::new("cat").stdin(std::process::Stdio::piped()).process_group(0).spawn().unwrap();
        let seen = Running::new(Pid::from_child(&stranger)).unwrap();
        let other_start = Running { start: seen.start + 1, ..seen.clone() };
        let other_boot = Running { boot: "another".to_owned(), ..seen };
        for record in [other_start, other_boot] {
            record.write(&log).unwrap();
            assert!(!reap_step(folder.path()).unwrap());
            assert!(!log.pid_file().exists());
        }
        // It ends because its input does, not because it was killed.
        drop(stranger.stdin.take());
        assert!(stranger.wait().unwrap().success());
    }
}
