//! What the daemon keeps in the store between two lives.

use std::collections::BTreeMap;

use eeveon_core::{CommitId, Durability, ProjectName};
use eeveon_store::Store;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{DaemonError, Limits, Progress, Queue};

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

fn read_memory(text: &str) -> Result<Memory, DaemonError> {
    /// Reads the format, whatever else is there.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(text).map_err(|error| damaged(&error))?;
    if format > MEMORY_FORMAT {
        return Err(DaemonError::Newer { what: "memory of the daemon", found: format, known: MEMORY_FORMAT });
    }
    serde_json::from_str(text).map_err(|error| damaged(&error))
}

fn damaged(error: &serde_json::Error) -> DaemonError {
    DaemonError::Damaged { what: "memory of the daemon", why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(read_memory("{}").unwrap_err().code(), "daemon/damaged-state");
    }
}
