//! Reads bodies: never too much of one, never too much of all, and never too slowly.

use std::{future::poll_fn, pin::Pin, sync::Arc, time::Duration};

use axum::body::{Body, Bytes, HttpBody};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{Limits, answer::Answer, pace::Pace};

/// In what steps memory is counted, in bytes.
const UNIT: usize = 1024;
/// The most that is set aside on the mere announcement of a body, in bytes: more than most pushes need.
const FIRST: usize = 16 * UNIT;

/// The memory for all bodies.
#[derive(Debug)]
pub(crate) struct Bodies {
    free: Arc<Semaphore>,
    units: usize,
    most: usize,
    time: Duration,
    grace: Duration,
    rate: usize,
}

/// A body, and the memory that is counted for it. Both go when the last reader lets go of it.
struct Held {
    bytes: Vec<u8>,
    units: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Bodies {
    pub(crate) fn new(limits: &Limits) -> Self {
        let units = limits.bodies_bytes.div_ceil(UNIT);
        Self {
            free: Arc::new(Semaphore::new(units)),
            units,
            most: limits.body_bytes,
            time: limits.body_time,
            grace: limits.body_grace,
            rate: limits.body_rate,
        }
    }

    /// Returns how many bytes bodies hold.
    pub(crate) fn held_bytes(&self) -> usize {
        self.units.saturating_sub(self.free.available_permits()) * UNIT
    }

    /// Reads a body to its end, as fast as `pace` demands.
    pub(crate) async fn read(&self, mut body: Body, pace: &Pace) -> Result<Bytes, Answer> {
        // The least it will be: what its Content-Length says. Who says too much need not send it.
        let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if announced > self.most {
            return Err(Answer::TooLarge);
        }
        let begun = Instant::now();
        let mut held = Held { bytes: Vec::new(), units: None };
        loop {
            let earned = Duration::from_secs_f64(held.bytes.len() as f64 / self.rate as f64);
            let until = begun + self.time.min(pace.patience(self.grace) + earned);
            let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
            let frame = match timeout_at(pace.next_look(until), frame).await {
                Err(_) if Instant::now() < until => continue,
                Err(_) => return Err(Answer::TooSlow),
                Ok(None) => return Ok(Bytes::from_owner(held)),
                Ok(Some(Err(_))) => return Err(Answer::Broken),
                Ok(Some(Ok(frame))) => frame,
            };
            // What is no data are trailers, which mean nothing here.
            if let Ok(data) = frame.into_data() {
                self.take(&mut held, &data, announced.min(FIRST))?;
            }
        }
    }

    /// Copies `data`, as each piece would otherwise keep the whole buffer it was received in.
    fn take(&self, held: &mut Held, data: &[u8], first: usize) -> Result<(), Answer> {
        let length = held.bytes.len() + data.len();
        if length > self.most {
            return Err(Answer::TooLarge);
        }
        let capacity = held.bytes.capacity();
        if length > capacity {
            let wanted = length.max(capacity * 2).max(first).min(self.most).next_multiple_of(UNIT);
            let more = (wanted - capacity).div_ceil(UNIT);
            let units = u32::try_from(more)
                .ok()
                .and_then(|more| Arc::clone(&self.free).try_acquire_many_owned(more).ok());
            // Nobody waits for memory: two who each hold half would wait for each other.
            let units = units.ok_or(Answer::NoRoom)?;
            match &mut held.units {
                Some(before) => before.merge(units),
                none => *none = Some(units),
            }
            held.bytes.reserve_exact(wanted - held.bytes.len());
        }
        held.bytes.extend_from_slice(data);
        Ok(())
    }
}
