//! Liveness and readiness.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{sync::Mutex, time::Instant};

use crate::{answer::Answer, apart::Apart};

/// How long an answer holds. Anybody may ask, and finding out may cost a look at the disk.
const HOLDS: Duration = Duration::from_secs(1);

/// Knows whether the daemon can do its work. Whoever composes the daemon implements this.
#[async_trait]
pub trait Readiness: fmt::Debug + Send + Sync {
    /// Finds out whether deliveries can be taken and made durable. It is asked at most once a second.
    ///
    /// # Errors
    ///
    /// Says what is in the way. That is logged; who asks is told only that there is something.
    async fn ready(&self) -> Result<(), String>;
}

/// Asks, and remembers the answer for a moment.
#[derive(Debug)]
pub(crate) struct Probe {
    readiness: Arc<dyn Readiness>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Probe {
    pub(crate) fn new(readiness: Arc<dyn Readiness>) -> Self {
        Self { readiness, last: Mutex::new(None) }
    }

    pub(crate) async fn ask(&self, apart: &Apart) -> Answer {
        // Held while asking, so that many who ask at once ask once.
        let mut last = self.last.lock().await;
        if let Some((at, ready)) = *last
            && at.elapsed() < HOLDS
        {
            return Answer::Ready(ready);
        }
        let readiness = Arc::clone(&self.readiness);
        let ready = match apart.run(async move { readiness.ready().await }).await {
            Ok(Ok(())) => true,
            Ok(Err(why)) => {
                tracing::warn!(why, "not ready");
                false
            }
            Err(_) => false,
        };
        *last = Some((Instant::now(), ready));
        Answer::Ready(ready)
    }
}
