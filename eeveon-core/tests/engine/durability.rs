//! Nothing is done that was not recorded first, and what reaches into the world not before its
//! record would outlive a power cut.

use std::sync::Arc;

use async_trait::async_trait;
use eeveon_core::*;
use eeveon_testkit::journal::{ManualClock, MemoryJournal};
use jiff::{SignedDuration, Timestamp};

use crate::{
    stage::{ID, facts, plan, request},
    world::{Fault, World},
};

/// Writes down, among the acts of the world, what is recorded and what that outlives.
#[derive(Debug)]
struct Watched {
    journal: MemoryJournal,
    world: World,
}

#[async_trait]
impl Journal for Watched {
    async fn append(&self, entry: &Entry, durability: Durability) -> Result<(), JournalError> {
        self.journal.append(entry, durability).await?;
        let what = match &entry.record {
            Record::Started { step, .. } | Record::UndoStarted { step, .. } => step.as_str(),
            _ => "-",
        };
        self.world.note(format!("{durability:?} {what}"));
        Ok(())
    }

    async fn read(&self, deployment: DeploymentId, from: Seq) -> Result<Vec<Entry>, JournalError> {
        self.journal.read(deployment, from).await
    }
}

/// Runs a scenario; returns the world with its acts and the records.
async fn run(kind: Kind, fault: Fault) -> (World, Vec<(Entry, Durability)>) {
    let world = World::new(fault, None);
    let watched = Arc::new(Watched { journal: MemoryJournal::default(), world: world.clone() });
    let engine = Engine::new(world.registry(), Arc::clone(&watched) as Arc<dyn Journal>, Feed::default());
    let session = Session::new(Fence(1));
    world.enter(&session);
    let ended = engine.deploy(ID, request(&facts(kind)), plan(kind), &session).await;
    if matches!(ended, Err(EngineError::Parked(_))) {
        world.mend();
        engine.unpark(ID, Actor::User("ada".into()), None, &session).await.unwrap();
    }
    (world, watched.journal.written())
}

const FAULTS: [Fault; 7] = [
    Fault::Nothing,
    Fault::Gate,
    Fault::Ship,
    Fault::Check,
    Fault::Cancel,
    Fault::UndoSwitch,
    Fault::AfterPivot,
];

#[tokio::test]
async fn each_record_outlives_what_it_must() {
    let prepares = |step: &StepKey| {
        ["ready/", "ship/", "seal/", "restore/"].iter().any(|verb| step.as_str().starts_with(verb))
    };
    let mut seen = std::collections::BTreeSet::new();
    for kind in [Kind::Deploy, Kind::Rollback] {
        for fault in FAULTS {
            for (entry, durability) in run(kind, fault).await.1 {
                let (name, expected) = match &entry.record {
                    Record::Opened { .. } => ("opened", Durability::Process),
                    Record::Finished { .. } => ("finished", Durability::Process),
                    Record::UndoFinished { .. } => ("undo finished", Durability::Process),
                    Record::Started { step, .. } if prepares(step) => ("prepares", Durability::Process),
                    Record::UndoStarted { step, .. } if prepares(step) => ("unprepares", Durability::Process),
                    Record::Started { .. } => ("started", Durability::Power),
                    Record::UndoStarted { .. } => ("undo started", Durability::Power),
                    Record::Failed { .. } => ("failed", Durability::Power),
                    Record::Cancelled { .. } => ("cancelled", Durability::Power),
                    Record::Parked { .. } => ("parked", Durability::Power),
                    Record::Unparked { .. } => ("unparked", Durability::Power),
                    Record::Closed { .. } => ("closed", Durability::Power),
                };
                assert_eq!(durability, expected, "{kind:?} {fault:?} {:?}", entry.record);
                seen.insert(name);
            }
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

#[tokio::test]
async fn the_world_is_touched_only_after_the_record_is_safe() {
    let mut touched = 0;
    for kind in [Kind::Deploy, Kind::Rollback] {
        for fault in FAULTS {
            let acts = run(kind, fault).await.0.acts();
            for (at, act) in acts.iter().enumerate() {
                let Some(step) = act.strip_prefix("turn-to-").and_then(|act| act.split_once('/')) else {
                    continue;
                };
                let safe = format!("Power switch/{}", step.1);
                assert!(
                    acts[..at].contains(&safe),
                    "{kind:?} {fault:?}: {act} came before {safe}: {acts:#?}"
                );
                touched += 1;
            }
        }
    }
    assert!(20 < touched, "{touched}");
}

#[tokio::test]
async fn everybody_hears_what_is_recorded_in_its_order_and_time_never_goes_back() {
    let world = World::new(Fault::Check, None);
    let journal = Arc::new(MemoryJournal::default());
    let feed = Feed::default();
    let mut heard = feed.subscribe();
    let clock = Arc::new(ManualClock::at(Timestamp::from_second(1_000_000).unwrap()));
    let engine = Engine::new(world.registry(), Arc::clone(&journal) as Arc<dyn Journal>, feed)
        .with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let session = Session::new(Fence(1));
    let kind = Kind::Deploy;
    let mut running = std::pin::pin!(engine.deploy(ID, request(&facts(kind)), plan(kind), &session));
    // The clock is set back between any two polls.
    while futures::poll!(running.as_mut()).is_pending() {
        clock.advance(SignedDuration::from_secs(-60));
        tokio::task::yield_now().await;
    }
    let entries = journal.entries();
    assert!(entries.iter().all(|entry| entry.at == entries[0].at), "it stands still rather than go back");
    for entry in &entries {
        assert_eq!(*heard.recv().await.unwrap(), *entry);
    }
    assert!(heard.try_recv().is_err());
}
