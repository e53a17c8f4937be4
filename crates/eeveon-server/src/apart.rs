//! Runs work apart from the connection that asked for it.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::pace::Pace;

/// What work needs to go on when its connection ends.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// Keeps the connection's place taken as long as the work goes on, so that there is never more work than
    /// there are places.
    pub(crate) pace: Arc<Pace>,
    /// Ends the work when the daemon's end cannot wait any longer.
    pub(crate) cut: CancellationToken,
    /// How long the work may take.
    pub(crate) time: Duration,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lost {
    Panicked,
    TooLong,
}

impl Apart {
    /// Runs `work` to its end, also when whoever waits for it is gone. A panic ends the work alone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Lost> {
        let Self { pace, cut, time } = self.clone();
        let task = tokio::spawn(async move {
            let outcome = cut.run_until_cancelled(timeout(time, work)).await;
            drop(pace);
            outcome
        });
        match task.await {
            Ok(Some(Ok(value))) => Ok(value),
            Ok(_) => {
                tracing::warn!("a request was worked on for too long and was dropped");
                Err(Lost::TooLong)
            }
            Err(_) => {
                tracing::error!("a request made its handler panic");
                Err(Lost::Panicked)
            }
        }
    }
}
