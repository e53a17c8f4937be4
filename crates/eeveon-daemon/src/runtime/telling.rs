//! Telling people, beside everything else.

use std::{sync::Arc, time::Duration};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::World;

/// How often it is seen whether there is something to tell.
const PAUSE: Duration = Duration::from_millis(500);

/// Rounds that may be under way at once.
const ROUNDS: usize = 64;

/// How long what there is to tell may take when everything else is over.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How long it may take to note what was not told by then.
const NOTES: Duration = Duration::from_secs(1);

/// Delivers what there is to tell until there is `enough`; then once more, and within a bound.
pub(super) async fn tell(world: Arc<dyn World>, enough: CancellationToken) {
    let cut = CancellationToken::new();
    // A round goes on as long as its slowest channel; what comes meanwhile does not wait for it.
    let mut rounds = JoinSet::new();
    let round = || {
        let (world, cut) = (Arc::clone(&world), cut.clone());
        async move { world.tell(&cut).await }
    };
    while !enough.is_cancelled() {
        while rounds.try_join_next().is_some() {}
        if rounds.len() < ROUNDS {
            rounds.spawn(round());
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = enough.cancelled() => {}
        }
    }
    rounds.spawn(round());
    for bound in [LAST_WORDS, NOTES] {
        let all = async { while rounds.join_next().await.is_some() {} };
        if tokio::time::timeout(bound, all).await.is_ok() {
            return;
        }
        cut.cancel();
    }
}
