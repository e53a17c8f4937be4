//! How long a connection may be silent: for headers, between requests, and while it reads an answer.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use crate::{Limits, slots::Slot};

/// What a connection is waited for.
#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Another request.
    Idle(Wait),
    /// The rest of a request's headers. A new connection begins with this.
    Head(Wait),
    /// Nothing: a request is being answered, and whoever answers it keeps an eye on the time.
    Busy,
    /// Nothing any more: it took too long.
    Late,
}

/// A wait that ends sooner while places are scarce.
#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    until: Instant,
}

impl Wait {
    fn new(time: Duration) -> Self {
        let since = Instant::now();
        Self { since, until: since + time }
    }
}

/// One connection as its parts see it. The place it takes is given back when the last of them is gone.
#[derive(Debug)]
pub(crate) struct Pace {
    phase: Mutex<Phase>,
    slot: Slot,
    header_time: Duration,
    idle_time: Duration,
    hurried_time: Duration,
    write_time: Duration,
}

impl Pace {
    pub(crate) fn new(slot: Slot, limits: &Limits) -> Self {
        let pace = Self {
            phase: Mutex::new(Phase::Busy),
            slot,
            header_time: limits.header_time,
            idle_time: limits.idle_time,
            hurried_time: limits.hurried_time,
            write_time: limits.write_time,
        };
        pace.set(Phase::Head(Wait::new(pace.header_time)));
        pace
    }

    /// A request's headers are there.
    pub(crate) fn begun(&self) {
        self.set(Phase::Busy);
    }

    /// A request has its answer.
    pub(crate) fn answered(&self) {
        self.set(Phase::Idle(Wait::new(self.idle_time)));
    }

    /// The daemon is about to end: whoever has not sent a request by now gets little time for it.
    pub(crate) fn hurry(&self) {
        let soon = Instant::now() + self.hurried_time;
        if let Phase::Idle(wait) | Phase::Head(wait) = &mut *self.lock() {
            wait.until = wait.until.min(soon);
        }
    }

    /// Tells whether the other side took too long.
    pub(crate) fn is_late(&self) -> bool {
        matches!(*self.lock(), Phase::Late)
    }

    /// Returns how long somebody may take who usually may take `time`. While places are scarce, those who
    /// only wait make room sooner.
    pub(crate) fn patience(&self, time: Duration) -> Duration {
        if self.slot.slots().are_scarce() { time.min(self.hurried_time) } else { time }
    }

    /// Returns when to look at the clock again in a wait until `until`: places may become scarce meanwhile.
    pub(crate) fn next_look(&self, until: Instant) -> Instant {
        until.min(Instant::now() + self.hurried_time)
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes have come.
    fn received(&self) {
        let phase = *self.lock();
        if let Phase::Idle(_) = phase {
            self.set(Phase::Head(Wait::new(self.header_time)));
        }
    }

    /// Returns until when bytes have to come.
    fn until(&self) -> Option<Instant> {
        match *self.lock() {
            Phase::Idle(wait) | Phase::Head(wait) => {
                Some(wait.until.min(wait.since + self.patience(wait.until - wait.since)))
            }
            Phase::Busy | Phase::Late => None,
        }
    }

    fn late(&self) -> io::Error {
        self.set(Phase::Late);
        io::ErrorKind::TimedOut.into()
    }
}

/// A stream that fails when the other side is too slow.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    reading: Timer,
    writing: Timer,
    /// Until when what is being written has to be taken.
    write_until: Option<Instant>,
}

impl<S> Paced<S> {
    pub(crate) fn new(stream: S, pace: Arc<Pace>) -> Self {
        Self { stream, pace, reading: Timer::default(), writing: Timer::default(), write_until: None }
    }

    pub(crate) fn into_inner(self) -> S {
        self.stream
    }

    /// Passes on what came of writing. The time runs from the first byte nobody took.
    fn written<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            return outcome;
        }
        let until = *self.write_until.get_or_insert_with(|| Instant::now() + self.pace.write_time);
        ready!(self.writing.poll(until, cx));
        Poll::Ready(Err(self.pace.late()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.pace.received();
        }
        // Also when something came: a drop now and then must not keep a connection.
        if let Poll::Pending | Poll::Ready(Ok(())) = &outcome {
            while let Some(until) = this.pace.until() {
                if until <= Instant::now() {
                    return Poll::Ready(Err(this.pace.late()));
                }
                if this.reading.poll(this.pace.next_look(until), cx).is_pending() {
                    break;
                }
            }
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.written(cx, outcome)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Only when all was written is anything flushed.
        this.write_until = None;
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        this.written(cx, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.written(cx, outcome)
    }
}

/// A timer that is made when it is first needed.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    fn poll(&mut self, until: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx)
    }
}
