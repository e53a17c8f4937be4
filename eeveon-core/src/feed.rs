//! The live feed of journal entries and of progress.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::{DeploymentId, Entry, Progress, StepKey};

/// How far a step has come. Unlike an entry it may be lost, and is never stored.
#[derive(Clone, Debug)]
pub struct StepProgress {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The step.
    pub step: StepKey,
    /// How far.
    pub progress: Progress,
}

/// Hands every entry to whoever listens, after it is recorded.
///
/// A listener that falls behind loses entries here, never in the journal: it reads them back from
/// the last position it saw.
#[derive(Clone, Debug)]
pub struct Feed {
    entries: broadcast::Sender<Arc<Entry>>,
    progress: broadcast::Sender<StepProgress>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { entries: broadcast::Sender::new(1024), progress: broadcast::Sender::new(256) }
    }
}

impl Feed {
    /// Starts listening to entries.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Entry>> {
        self.entries.subscribe()
    }

    /// Starts listening to progress.
    pub fn progress(&self) -> broadcast::Receiver<StepProgress> {
        self.progress.subscribe()
    }

    /// Hands an entry to whoever listens; of a deployment that another process carries out, whoever
    /// follows its journal.
    pub fn publish(&self, entry: Entry) {
        // No listener is not an error: the journal has the entry.
        let _unheard = self.entries.send(Arc::new(entry));
    }

    pub(crate) fn report(&self, progress: StepProgress) {
        let _unheard = self.progress.send(progress);
    }
}
