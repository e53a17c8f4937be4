//! Who holds a lease: one process of one boot of one machine, and whether it still lives.

use std::{fs, io};

use rustix::{io::Errno, process::Pid};
use serde::{Deserialize, Serialize};

/// One process. Two processes are never equal, also not across restarts of the machine.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine's name. In a container that has processes of its own, with their namespace's
    /// number: the same process id means something else there.
    pub host: String,
    /// Which boot of the machine; empty where the system does not tell.
    pub boot: String,
    /// The process id.
    pub pid: u32,
    /// When the process started, in clock ticks since the boot: tells it from a later process with
    /// the same id. Zero where the system does not tell.
    pub started: u64,
    /// What it is doing, for people, such as `ee-deploy up`.
    pub label: String,
}

/// Whether a process still exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// It exists.
    Alive,
    /// It exists, but was told to stand still (`SIGSTOP`, Ctrl-Z, a debugger).
    Stopped,
    /// It is gone, for certain.
    Dead,
    /// It cannot be seen from here.
    Unknown,
}

impl Owner {
    /// Returns the calling process.
    pub fn this_process(label: impl Into<String>) -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            boot: boot_id(),
            pid,
            started: stat(pid).map_or(0, |stat| stat.started),
            label: label.into(),
        }
    }

    /// Tells whether this process still exists, as far as `me`, the calling process, can see.
    pub fn liveness(&self, me: &Self) -> Liveness {
        if self.host != me.host || self.boot.is_empty() || me.boot.is_empty() {
            return Liveness::Unknown;
        }
        if self.boot != me.boot {
            return Liveness::Dead;
        }
        match stat(self.pid) {
            Ok(stat) if stat.started != self.started => Liveness::Dead,
            Ok(Stat { state: 'Z' | 'X' | 'x', .. }) => Liveness::Dead,
            Ok(Stat { state: 'T' | 't', .. }) => Liveness::Stopped,
            Ok(_) => Liveness::Alive,
            // A process can be hidden from `/proc` (`hidepid`) and yet exist.
            Err(_) => match i32::try_from(self.pid).ok().and_then(Pid::from_raw) {
                Some(pid) if rustix::process::test_kill_process(pid) == Err(Errno::SRCH) => Liveness::Dead,
                _ => Liveness::Unknown,
            },
        }
    }
}

/// Returns the id of this boot of the machine; empty where the system does not tell.
///
/// Source: random(4), `/proc/sys/kernel/random/boot_id`.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

fn host() -> String {
    // The number of the first process namespace is fixed: PROC_PID_INIT_INO in the kernel's proc_ns.h.
    const FIRST: &str = "pid:[4026531836]";
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    match fs::read_link("/proc/self/ns/pid").map(|namespace| namespace.to_string_lossy().into_owned()) {
        Ok(namespace) if namespace != FIRST => format!("{name} {namespace}"),
        _ => name,
    }
}

struct Stat {
    state: char,
    started: u64,
}

/// Reads a process's state and start time.
///
/// Source: proc_pid_stat(5). The second field is a name in parentheses that may itself contain
/// spaces and parentheses, so counting begins after the last one: `state` is field 3, `starttime`
/// field 22.
fn stat(pid: u32) -> io::Result<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    let text = String::from_utf8_lossy(&text);
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let state = fields.split_whitespace().next().and_then(|state| state.chars().next());
    let started = fields.split_whitespace().nth(22 - 3).and_then(|ticks| ticks.parse().ok());
    match (state, started) {
        (Some(state), Some(started)) => Ok(Stat { state, started }),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::{Child, Command, Stdio};

    use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process, waitid};

    use super::*;

    /// Runs until its input ends, which it never does by itself.
    fn child() -> (Child, Pid, Owner) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let started = stat(child.id()).unwrap().started;
        let owner = Owner { pid: child.id(), started, ..Owner::this_process("test") };
        let pid = Pid::from_child(&child);
        (child, pid, owner)
    }

    #[test]
    fn a_process_is_alive_stopped_a_zombie_and_gone() {
        let me = Owner::this_process("test");
        assert_eq!(me.liveness(&me), Liveness::Alive);

        let (mut child, pid, owner) = child();
        assert_eq!(owner.liveness(&me), Liveness::Alive);
        kill_process(pid, Signal::STOP).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(owner.liveness(&me), Liveness::Stopped);
        kill_process(pid, Signal::KILL).unwrap();
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        assert_eq!(owner.liveness(&me), Liveness::Dead, "a zombie");
        child.wait().unwrap();
        assert_eq!(owner.liveness(&me), Liveness::Dead, "gone");
    }

    #[test]
    fn another_process_with_the_same_id_is_not_the_same_process() {
        let me = Owner::this_process("test");
        let earlier = Owner { started: me.started.wrapping_sub(1), ..me.clone() };
        assert_eq!(earlier.liveness(&me), Liveness::Dead);
        let before_the_reboot = Owner { boot: "another".into(), ..me.clone() };
        assert_eq!(before_the_reboot.liveness(&me), Liveness::Dead);
    }

    #[test]
    fn what_cannot_be_seen_is_not_called_dead() {
        let me = Owner::this_process("test");
        let elsewhere = Owner { host: "elsewhere".into(), ..me.clone() };
        assert_eq!(elsewhere.liveness(&me), Liveness::Unknown);
        let untold = Owner { boot: String::new(), ..me.clone() };
        assert_eq!(untold.liveness(&me), Liveness::Unknown);
    }
}
