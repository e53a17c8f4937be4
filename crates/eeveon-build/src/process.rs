//! Finding and signalling processes, without ever hitting a stranger's.
//!
//! Source: proc_pid_stat(5), proc_pid_environ(5), pidfd_open(2).

use std::{fs, io};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

/// Marks every process a command starts, unless it clears its environment.
pub(crate) const MARK: &str = "EEVEON_RUN";

/// What `/proc` says about a process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Process {
    /// Its number.
    pub(crate) pid: Pid,
    /// Its process group.
    pub(crate) group: i32,
    /// When it started, in clock ticks since boot. Together with the number it names one process.
    pub(crate) start: u64,
    /// Whether it has ended and only waits to be collected.
    pub(crate) ended: bool,
}

/// Looks at one process; `None` when there is none of that number.
pub(crate) fn look(pid: Pid) -> Option<Process> {
    parse(&fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?)
}

fn parse(stat: &[u8]) -> Option<Process> {
    let text = String::from_utf8_lossy(stat);
    let pid = Pid::from_raw(text.split(' ').next()?.parse().ok()?)?;
    // The name is in parentheses and may itself hold any character, parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X" | "x");
    let group = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(16)?.parse().ok()?;
    Some(Process { pid, group, start, ended })
}

/// Lists every process that has not ended.
pub(crate) fn running() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| look(Pid::from_raw(pid)?))
        .filter(|process| !process.ended)
        .collect()
}

/// Tells whether a process was started with `mark` in its environment.
pub(crate) fn carries(pid: Pid, mark: &str) -> bool {
    let variable = format!("{MARK}={mark}");
    fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()))
        .is_ok_and(|environ| environ.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()))
}

/// Kills one process, provided that it is still the one that was seen.
pub(crate) fn kill(seen: &Process) {
    // The descriptor pins the process, so that its number cannot go to another in between.
    if let Ok(handle) = pidfd_open(seen.pid, PidfdFlags::empty())
        && look(seen.pid).is_some_and(|now| now.start == seen.start)
    {
        let _already_gone = pidfd_send_signal(&handle, Signal::KILL);
    }
}

/// Sends `signal` to a group that is known to be ours. That it is empty by now is no error.
pub(crate) fn signal(group: Pid, signal: Signal) {
    let _already_gone = kill_process_group(group, signal);
}

/// Returns what tells this boot of the machine from all others.
pub(crate) fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let stat = b"4711 (x) R 1 1 1 (y)) S 1 4242 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        let expected = Process { pid: Pid::from_raw(4711).unwrap(), group: 4242, start: 98765, ended: false };
        assert_eq!(parse(stat), Some(expected));
        assert_eq!(parse(b"4711 (x"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = look(rustix::process::getpid()).unwrap();
        assert!(!me.ended);
        assert!(me.start > 0);
        assert!(running().contains(&me));
    }

    #[test]
    fn a_process_that_is_not_the_one_seen_is_left_alone() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let seen = look(Pid::from_child(&child)).unwrap();
        kill(&Process { start: seen.start.wrapping_add(1), ..seen });
        // It ends because its input does, not because it was killed.
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}
