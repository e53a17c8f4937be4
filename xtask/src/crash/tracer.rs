//! Runs a program and strikes it at one exactly chosen system call.
//!
//! Calls are counted over all threads of the program together. That is why this is not left to
//! `strace -e inject=...:when=N`: it counts for every thread by itself, and which of the threads that
//! do blocking work makes a call is a matter of luck, so most calls would never be reached.

use std::{
    collections::HashMap,
    fs::File,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    sys::{
        ptrace,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::calls::{Call, Class};

/// Longer than any command takes, also when it is watched, and made to wait until its lease has ended.
const LIMIT: Duration = Duration::from_secs(180);

/// Starts the program given as arguments once somebody watches.
const STARTER: &str = "kill -STOP $$; exec \"$0\" \"$@\"";

/// What to do to the program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blow {
    /// Kill it before the call is made.
    Kill,
    /// Let the call fail with this error, without being made.
    Fail(Errno),
    /// Let the call succeed without being made. Only for calls that return 0.
    Skip,
}

/// What to run and how to watch it.
pub(crate) struct Watched<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// Its arguments.
    pub(crate) arguments: &'a [String],
    /// Its whole environment.
    pub(crate) environment: &'a [(String, String)],
    /// Only calls about files below this folder count.
    pub(crate) root: &'a Path,
    /// Where its output is kept.
    pub(crate) stdout: PathBuf,
    /// Where its errors are kept.
    pub(crate) stderr: PathBuf,
    /// Which calls count.
    pub(crate) counts: fn(Class) -> bool,
    /// Says what to do at a call that counts, the first being 1. The thread waits meanwhile.
    pub(crate) decide: &'a dyn Fn(usize, &Call) -> Option<Blow>,
}

/// What happened.
pub(crate) struct Trace {
    /// Every call that counts, in order.
    pub(crate) calls: Vec<Call>,
    /// The first call that was struck.
    pub(crate) struck: Option<Call>,
    /// How the program ended.
    pub(crate) end: ExitStatus,
}

impl Watched<'_> {
    /// Runs the program to its end.
    ///
    /// # Errors
    ///
    /// It cannot be run or watched, or does not end within [`LIMIT`].
    pub(crate) fn run(&self) -> Result<Trace> {
        let mut command = Command::new("sh");
        command.args(["-c", STARTER]).arg(self.program).args(self.arguments);
        command.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.root).stdin(Stdio::null());
        command.stdout(File::create(&self.stdout)?).stderr(File::create(&self.stderr)?);
        let child = command.spawn().context("cannot start sh")?;
        let program = Pid::from_raw(i32::try_from(child.id())?);

        let (done, ended) = mpsc::channel::<()>();
        let watchdog = thread::spawn(move || {
            let late = ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                // Whoever waits for it learns the rest.
                let _gone_already = kill(program, Signal::SIGKILL);
            }
            late
        });
        let traced = self.trace(program);
        if traced.is_err() {
            let _gone_already = kill(program, Signal::SIGKILL);
        }
        drop(done);
        if watchdog.join().unwrap_or(true) {
            bail!("`{}` did not end within {} s", self.arguments.join(" "), LIMIT.as_secs());
        }
        traced
    }

    fn trace(&self, program: Pid) -> Result<Trace> {
        let options = ptrace::Options::PTRACE_O_TRACESYSGOOD
            | ptrace::Options::PTRACE_O_TRACECLONE
            | ptrace::Options::PTRACE_O_EXITKILL;
        waitpid(program, Some(WaitPidFlag::WUNTRACED)).context("cannot wait for sh")?;
        ptrace::seize(program, options).context("cannot watch the program")?;
        kill(program, Signal::SIGCONT)?;

        let mut trace = Trace { calls: Vec::new(), struck: None, end: ExitStatus::from_raw(0) };
        // The threads that are inside a call, and what it is to return if it is not made.
        let mut inside: HashMap<Pid, Option<i64>> = HashMap::new();
        // Another worker watches its own program from another thread of this process.
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            match waitpid(Pid::from_raw(-1), Some(flags)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    match inside.remove(&thread) {
                        None => {
                            let Ok(blow) = self.enter(thread, &mut trace) else { continue };
                            if blow == Some(Blow::Kill) {
                                kill(program, Signal::SIGKILL)?;
                                continue;
                            }
                            inside.insert(thread, blow.and_then(Blow::returns));
                        }
                        Some(Some(value)) => come_back(thread, value)?,
                        Some(None) => {}
                    }
                    go_on(thread, None)?;
                }
                Ok(WaitStatus::PtraceEvent(thread, ..)) => go_on(thread, None)?,
                Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal))?,
                Ok(WaitStatus::Exited(thread, code)) if thread == program => {
                    trace.end = ExitStatus::from_raw(code << 8);
                    return Ok(trace);
                }
                Ok(WaitStatus::Signaled(thread, signal, _)) if thread == program => {
                    trace.end = ExitStatus::from_raw(signal as i32);
                    return Ok(trace);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error).context("cannot wait for the program"),
            }
        }
    }

    /// Looks at the call a thread is about to make. Returns what to do about it.
    fn enter(&self, thread: Pid, trace: &mut Trace) -> nix::Result<Option<Blow>> {
        let mut regs = ptrace::getregs(thread)?;
        let call = Call::about_to(thread, &regs, self.root).filter(|call| (self.counts)(call.class));
        let Some(call) = call else { return Ok(None) };
        trace.calls.push(call.clone());
        let Some(blow) = (self.decide)(trace.calls.len(), &call) else { return Ok(None) };
        trace.struck.get_or_insert(call);
        if blow.returns().is_some() {
            // No call has this number: the kernel does nothing.
            regs.orig_rax = u64::MAX;
            ptrace::setregs(thread, regs)?;
        }
        Ok(Some(blow))
    }
}

impl Blow {
    /// Returns what a call returns that is not made.
    fn returns(self) -> Option<i64> {
        match self {
            Self::Kill => None,
            Self::Fail(error) => Some(i64::from(-(error as i32))),
            Self::Skip => Some(0),
        }
    }
}

/// Lets the call that a thread comes back from return `value`.
fn come_back(thread: Pid, value: i64) -> nix::Result<()> {
    let mut regs = ptrace::getregs(thread)?;
    regs.rax = value.cast_unsigned();
    ptrace::setregs(thread, regs)
}

/// Lets a thread go on to its next call. One that was killed meanwhile cannot.
fn go_on(thread: Pid, signal: Option<Signal>) -> nix::Result<()> {
    match ptrace::syscall(thread, signal) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Runs a shell script in `folder` that makes, renames and removes files, in two processes.
    fn watched(folder: &Path, strike: Option<(usize, Blow)>) -> Trace {
        let environment = [("PATH".to_owned(), std::env::var("PATH").unwrap())];
        Watched {
            program: Path::new("/bin/sh"),
            arguments: &["-c".to_owned(), ": > one; : > two; exec mv one three".to_owned()],
            environment: &environment,
            root: folder,
            stdout: folder.join("../out"),
            stderr: folder.join("../err"),
            counts: Class::changes_state,
            decide: &|nth, _| strike.filter(|(at, _)| *at == nth).map(|(_, blow)| blow),
        }
        .run()
        .unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        crate::crash::tree::names(folder).unwrap()
    }

    fn in_a_folder(test: impl FnOnce(&Path)) {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().canonicalize().unwrap().join("watched");
        fs::create_dir(&folder).unwrap();
        test(&folder);
    }

    #[test]
    fn calls_are_counted_in_order() {
        in_a_folder(|folder| {
            let trace = watched(folder, None);
            assert!(trace.end.success() && trace.struck.is_none());
            let calls: Vec<(Class, String)> = trace
                .calls
                .iter()
                .map(|call| (call.class, call.on.file_name().unwrap_or_default().to_string_lossy().into()))
                .collect();
            let expected = [(Class::Create, "one"), (Class::Create, "two"), (Class::Rename, "three")];
            assert_eq!(calls.get(..3).unwrap(), expected.map(|(class, name)| (class, name.to_owned())));
            assert_eq!(calls.last().unwrap().0, Class::Exit);
            assert_eq!(names(folder), ["three", "two"]);
        });
    }

    #[test]
    fn a_kill_comes_before_the_call() {
        for (at, left) in [(1, vec![]), (2, vec!["one"]), (3, vec!["one", "two"])] {
            in_a_folder(|folder| {
                let trace = watched(folder, Some((at, Blow::Kill)));
                assert_eq!(trace.end.signal(), Some(9));
                assert_eq!(names(folder), left);
            });
        }
    }

    #[test]
    fn a_skipped_call_is_not_made_and_says_nothing() {
        in_a_folder(|folder| {
            let trace = watched(folder, Some((3, Blow::Skip)));
            assert!(trace.end.success());
            assert_eq!(trace.struck.unwrap().class, Class::Rename);
            assert_eq!(names(folder), ["one", "two"]);
        });
    }

    #[test]
    fn a_failing_call_is_not_made_and_says_why() {
        in_a_folder(|folder| {
            let trace = watched(folder, Some((3, Blow::Fail(Errno::EROFS))));
            assert_eq!(trace.struck.unwrap().class, Class::Rename);
            assert_eq!(trace.end.code(), Some(1));
            assert!(fs::read_to_string(folder.join("../err")).unwrap().contains("Read-only file system"));
            assert_eq!(names(folder), ["one", "two"]);
        });
    }
}
