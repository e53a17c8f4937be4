//! What the daemon keeps in the store between two lives.

use std::collections::BTreeMap;

use eeveon_core::{CommitId, Durability, ProjectName};
use eeveon_store::Store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DaemonError, End, Event, Limits, Progress, Queue, RequestId};

/// The names of the daemon's states in the store.
const QUEUE: &str = "daemon/queue";
const PROGRESS: &str = "daemon/progress";
const MEMORY: &str = "daemon/memory";

/// The version of [`Memory`]'s form.
const MEMORY_FORMAT: u32 = 1;

/// What the daemon knows beside queue and progress. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    format: u32,
    /// The newest commit of each project's branch that was asked for, so that it is asked for once.
    pub(crate) asked: BTreeMap<ProjectName, CommitId>,
    /// For each project and schedule the last time that was dealt with.
    pub(crate) handled: BTreeMap<String, Timestamp>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { format: MEMORY_FORMAT, asked: BTreeMap::new(), handled: BTreeMap::new() }
    }
}

/// Everything the daemon keeps, as it was saved last. Without a daemon that works it can be changed and
/// saved by whoever holds the daemon's lease.
#[derive(Clone, Debug)]
pub struct Saved {
    /// What is asked for.
    pub queue: Queue,
    /// What has succeeded, for those who wait for it.
    pub progress: Progress,
    pub(crate) memory: Memory,
}

impl Saved {
    /// Reads what was saved; nothing at all where no daemon ever worked.
    ///
    /// # Errors
    ///
    /// `daemon/store`, `daemon/newer-format` or `daemon/damaged-state`.
    pub async fn load(store: &dyn Store, limits: Limits) -> Result<Self, DaemonError> {
        let queue = store.state(QUEUE).await?;
        let progress = store.state(PROGRESS).await?;
        let memory = store.state(MEMORY).await?;
        Ok(Self {
            queue: queue.map_or_else(|| Ok(Queue::new(limits)), |text| Queue::load(&text, limits))?,
            progress: progress.map_or_else(|| Ok(Progress::default()), |text| Progress::load(&text))?,
            memory: memory.map_or_else(|| Ok(Memory::default()), |text| read_memory(&text))?,
        })
    }

    /// Drops what waits for a project that is no more, and what was seen of it.
    pub fn forget(&mut self, project: &ProjectName) {
        self.queue.handle(Event::Gone(project.clone()));
        self.memory.asked.remove(project);
    }

    /// Removes what was saved, also when it cannot be read. For whoever holds the daemon's lease.
    ///
    /// # Errors
    ///
    /// `daemon/store`.
    pub async fn clear(store: &dyn Store) -> Result<(), DaemonError> {
        let states = [QUEUE, PROGRESS, MEMORY].map(|name| (name.to_owned(), None));
        Ok(store.save_states(&states, Durability::Power).await?)
    }

    /// Returns what is to be saved, for [`Store::save_states`].
    ///
    /// # Errors
    ///
    /// `daemon/damaged-state`, which does not happen: all of it can be written.
    pub fn states(&self) -> Result<Vec<(String, Option<String>)>, DaemonError> {
        states(&self.queue, &self.progress, &self.memory)
    }
}

/// So many requests are remembered after their end.
const ENDS: u64 = 1_000;

/// The version of [`Ended`]'s form.
const END_FORMAT: u32 = 1;

/// How a request ended. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    format: u32,
    request: RequestId,
    end: End,
}

impl Ended {
    /// Returns what is to be saved of a request's end, in place of an older one's.
    pub(crate) fn state(request: RequestId, end: End) -> Result<(String, Option<String>), DaemonError> {
        let ended = Self { format: END_FORMAT, request, end };
        Ok((name_of_end(request), Some(serde_json::to_string(&ended).map_err(|error| damaged(&error))?)))
    }
}

fn name_of_end(request: RequestId) -> String {
    format!("daemon/end/{}", request.0 % ENDS)
}

/// Returns how a request ended. Nothing when it did not yet, or a thousand have ended since.
///
/// # Errors
///
/// `daemon/store`, `daemon/newer-format` or `daemon/damaged-state`.
pub async fn end_of(store: &dyn Store, request: RequestId) -> Result<Option<End>, DaemonError> {
    let Some(text) = store.state(&name_of_end(request)).await? else { return Ok(None) };
    check_format(&text, END_FORMAT)?;
    let ended: Ended = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
    Ok((ended.request == request).then_some(ended.end))
}

/// Returns the daemon's states under their names.
pub(crate) fn states(
    queue: &Queue,
    progress: &Progress,
    memory: &Memory,
) -> Result<Vec<(String, Option<String>)>, DaemonError> {
    let memory = serde_json::to_string(memory).map_err(|error| damaged(&error))?;
    Ok(vec![
        (QUEUE.to_owned(), Some(queue.save()?)),
        (PROGRESS.to_owned(), Some(progress.save()?)),
        (MEMORY.to_owned(), Some(memory)),
    ])
}

/// Refuses what a newer version wrote.
fn check_format(text: &str, known: u32) -> Result<(), DaemonError> {
    /// Reads the format, whatever else is there.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    match format > known {
        true => Err(DaemonError::Newer { what: "memory of the daemon", found: format, known }),
        false => Ok(()),
    }
}

fn read_memory(text: &str) -> Result<Memory, DaemonError> {
    check_format(text, MEMORY_FORMAT)?;
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> DaemonError {
    DaemonError::Damaged { what: "memory of the daemon", why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fate;
    use eeveon_core::Diagnose as _;

    #[test]
    fn what_was_remembered_before_is_read() {
        let golden = include_str!("../tests/golden/memory-1.json").trim_end();
        let memory = Memory {
            asked: [(ProjectName::new("shop").unwrap(), CommitId::new("a".repeat(40)).unwrap())].into(),
            handled: [("shop/0/30 4 * * *".to_owned(), Timestamp::from_second(1_700_000_000).unwrap())]
                .into(),
            ..Memory::default()
        };
        assert_eq!(serde_json::to_string(&memory).unwrap(), golden);
        assert_eq!(read_memory(golden).unwrap(), memory);
        for newer in [golden.replace("\"format\":1", "\"format\":2"), "{\"format\":2}".to_owned()] {
            assert_eq!(read_memory(&newer).unwrap_err().code(), "daemon/newer-format");
        }
        let end = End { fate: Fate::Replaced { by: RequestId(1008) }, done: None };
        let (name, text) = Ended::state(RequestId(1007), end).unwrap();
        let golden = include_str!("../tests/golden/end-1.json").trim_end();
        assert_eq!((name.as_str(), text.as_deref()), ("daemon/end/7", Some(golden)));
        assert_eq!(read_memory("{}").unwrap_err().code(), "daemon/damaged-state");
    }
}
