//! Runs a command and notes every program that is started on the way, by whichever of its
//! descendants, and how much memory they take.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::{
        ptrace::{self, Event, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Starts the program given as arguments once somebody watches.
const STARTER: &str = "kill -STOP $$; exec \"$0\" \"$@\"";

/// How long to wait before looking again.
const LOOK: Duration = Duration::from_micros(200);

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    /// How it ended; `None` when it had to be killed.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    /// The argument vector of every program that was started, the command itself first.
    pub(crate) programs: Vec<Vec<String>>,
    /// The most memory one process had at a time, in bytes.
    pub(crate) memory: u64,
    /// Whether it, or something it started, did not end in time.
    pub(crate) late: bool,
}

/// Runs `command`, of which program, arguments, environment and folder count, for `limit` at most. Its
/// output goes through files beside `scratch`.
///
/// # Errors
///
/// It cannot be run or watched.
pub(crate) fn watch(command: &Command, scratch: &Path, limit: Duration) -> Result<Watched> {
    let (out, err) = (scratch.with_extension("out"), scratch.with_extension("err"));
    let mut starter = Command::new("sh");
    starter.args(["-c", STARTER]).arg(command.get_program()).args(command.get_args());
    starter.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    starter.current_dir(command.get_current_dir().unwrap_or(Path::new("/"))).stdin(Stdio::null());
    starter.stdout(File::create(&out)?).stderr(File::create(&err)?);
    let child = starter.spawn().context("cannot start sh")?;
    let program = Pid::from_raw(i32::try_from(child.id())?);
    let traced = trace(program, limit);
    if traced.is_err() {
        let _gone_already = kill(program, Signal::SIGKILL);
    }
    let watched = traced?;
    Ok(Watched { stdout: fs::read(&out)?, stderr: fs::read(&err)?, ..watched })
}

fn trace(program: Pid, limit: Duration) -> Result<Watched> {
    let options = Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_TRACEEXIT
        | Options::PTRACE_O_EXITKILL;
    waitpid(program, Some(WaitPidFlag::WUNTRACED)).context("cannot wait for sh")?;
    ptrace::seize(program, options).context("cannot watch the program")?;
    kill(program, Signal::SIGCONT)?;

    let mut watched = Watched::default();
    let mut alive = BTreeSet::from([program]);
    let end = Instant::now() + limit;
    // Another worker watches its own program from another thread of this process.
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD | WaitPidFlag::WNOHANG;
    loop {
        match waitpid(Pid::from_raw(-1), Some(flags)) {
            Ok(WaitStatus::StillAlive) if Instant::now() < end => thread::sleep(LOOK),
            Ok(WaitStatus::StillAlive) => {
                watched.late = true;
                for thread in &alive {
                    let _gone_already = kill(*thread, Signal::SIGKILL);
                }
                thread::sleep(LOOK);
            }
            Ok(WaitStatus::PtraceEvent(thread, _, event)) => {
                alive.insert(thread);
                watched.note(thread, event);
                go_on(thread, None)?;
            }
            Ok(WaitStatus::Stopped(thread, signal)) => go_on(thread, Some(signal))?,
            Ok(WaitStatus::Exited(thread, code)) => {
                alive.remove(&thread);
                if thread == program {
                    watched.code = Some(code);
                }
            }
            Ok(WaitStatus::Signaled(thread, ..)) => {
                alive.remove(&thread);
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(watched),
            Err(error) => return Err(error).context("cannot wait for the program"),
        }
    }
}

impl Watched {
    fn note(&mut self, thread: Pid, event: i32) {
        let read = |name: &str| fs::read(format!("/proc/{thread}/{name}")).unwrap_or_default();
        if event == Event::PTRACE_EVENT_EXEC as i32 {
            let words = read("cmdline");
            let words = words.strip_suffix(b"\0").unwrap_or(&words).split(|byte| *byte == 0);
            self.programs.push(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect());
        } else if event == Event::PTRACE_EVENT_EXIT as i32 {
            // The memory is still there at that moment.
            let status = String::from_utf8_lossy(&read("status")).into_owned();
            let peak = status
                .lines()
                .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
            self.memory = self.memory.max(peak.unwrap_or(0_u64) * 1024);
        }
    }
}

/// Lets a thread go on. One that was killed meanwhile cannot.
fn go_on(thread: Pid, signal: Option<Signal>) -> nix::Result<()> {
    match ptrace::cont(thread, signal) {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
