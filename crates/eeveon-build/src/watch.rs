//! Watching a running command: its output, its limits in time, its end.

use std::{
    io::{self, ErrorKind, PipeReader, Read},
    os::fd::OwnedFd,
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use tokio_util::sync::CancellationToken;

use crate::{BuildError, CommandLine, leftover::Running, log::LogWriter};

/// How often time limits and cancellation are looked at when nothing else happens.
const TICK: Duration = Duration::from_millis(50);

/// How long output may go on after the command itself has ended.
const LINGER: Duration = Duration::from_secs(2);

/// How long output already written may take to be read once everything has ended.
const REMAINDER: Duration = Duration::from_millis(500);

/// Why a command must end before it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Cancelled,
    TimedOut,
    Silent,
}

#[derive(Debug)]
pub(crate) struct Watch {
    child: Child,
    /// Becomes readable when the command ends. Absent where the kernel has no such thing; then the
    /// end is noticed at the next tick.
    end: Option<OwnedFd>,
    /// Standard output and error, in the order written. Absent once all writers are gone.
    output: Option<PipeReader>,
    log: LogWriter,
    pub(crate) running: Running,
    pub(crate) begun: Instant,
    heard: Instant,
    pub(crate) output_bytes: u64,
}

impl Watch {
    pub(crate) fn new(child: Child, running: Running, output: PipeReader, log: LogWriter) -> Self {
        let end = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).ok();
        let now = Instant::now();
        Self { child, end, output: Some(output), log, running, begun: now, heard: now, output_bytes: 0 }
    }

    /// Waits until the command has ended or has had its time to. Tells why it was stopped, if it
    /// was. The process is not collected, so that its number remains its own.
    pub(crate) fn until_ended(
        &mut self,
        command: &CommandLine,
        grace: Duration,
        cancel: &CancellationToken,
    ) -> io::Result<Option<Stop>> {
        let mut ended: Option<Instant> = None;
        let mut stop: Option<(Stop, Instant)> = None;
        loop {
            self.listen(ended.is_none())?;
            if ended.is_none() && self.has_ended() {
                ended = Some(Instant::now());
            }
            let patience_is_over = match (ended, stop) {
                (Some(_), _) if self.output.is_none() => true,
                (_, Some((_, since))) => since.elapsed() >= grace,
                (Some(at), None) => at.elapsed() >= LINGER,
                (None, None) => false,
            };
            if patience_is_over {
                return Ok(stop.map(|(why, _)| why));
            }
            if stop.is_none()
                && ended.is_none()
                && let Some(why) = self.must_stop(command, cancel)
            {
                self.log.note(match why {
                    Stop::Cancelled => "cancelled; the command is ended",
                    Stop::TimedOut => "its time is over; the command is ended",
                    Stop::Silent => "no output for too long; the command is ended",
                })?;
                self.running.terminate();
                stop = Some((why, Instant::now()));
            }
        }
    }

    fn must_stop(&self, command: &CommandLine, cancel: &CancellationToken) -> Option<Stop> {
        if cancel.is_cancelled() {
            Some(Stop::Cancelled)
        } else if self.begun.elapsed() >= Duration::from_millis(command.timeout_ms) {
            Some(Stop::TimedOut)
        } else if self.heard.elapsed() >= Duration::from_millis(command.idle_ms) {
            Some(Stop::Silent)
        } else {
            None
        }
    }

    /// Ends whatever still runs, takes in the last output and collects the process.
    pub(crate) fn clear_away(&mut self) -> Result<ExitStatus, BuildError> {
        let left = !self.running.alive().is_empty();
        if left {
            let by_itself = self.has_ended();
            if !self.running.kill() {
                return Err(BuildError::Leftover { group: self.child.id() });
            }
            if by_itself {
                // A log that cannot be written has been reported, or is full just now: the
                // command is over either way.
                let _unsaid = self.log.note("ended what the command left running in the background");
            }
        }
        let begin = Instant::now();
        while self.output.is_some() && begin.elapsed() < REMAINDER && self.listen(false).is_ok() {}
        self.child.wait().map_err(|source| BuildError::Watch { source: source.into() })
    }

    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(Pid::from_child(&self.child)), options), Ok(None) | Err(Errno::INTR))
    }

    /// Waits for output, or for the end of the command, for one tick; logs what there is.
    fn listen(&mut self, for_end: bool) -> io::Result<()> {
        let mut events = Vec::with_capacity(2);
        if let Some(output) = &self.output {
            events.push(PollFd::new(output, PollFlags::IN));
        }
        if let Some(end) = self.end.as_ref().filter(|_| for_end) {
            events.push(PollFd::new(end, PollFlags::IN));
        }
        if events.is_empty() {
            thread::sleep(TICK);
            return Ok(());
        }
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.subsec_nanos().into() };
        match poll(&mut events, Some(&tick)) {
            Ok(_) | Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
        let readable = events.first().is_some_and(|first| !first.revents().is_empty());
        let Some(output) = self.output.as_mut().filter(|_| readable) else { return Ok(()) };
        let mut buffer = vec![0; 64 * 1024];
        match output.read(&mut buffer) {
            Ok(0) => self.output = None,
            Ok(count) => {
                self.heard = Instant::now();
                self.output_bytes = self.output_bytes.saturating_add(count as u64);
                self.log.write(buffer.get(..count).unwrap_or_default())?;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
