//! The journal's format on disk. Golden journals are never changed: each release of the format must
//! stay readable, or be refused by name.

use std::{collections::BTreeSet, sync::Arc};

use eeveon_core::*;
use eeveon_testkit::journal::MemoryJournal;

use crate::world::{Fault, World};

/// A success, a deployment taken back, one refused, one parked, one unparked and one whose process
/// died, by every kind of actor and trigger; every kind of record.
const V1: &str = include_str!("../golden/journal-v1.jsonl");

fn entries() -> Vec<Entry> {
    V1.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fold(deployment: u64) -> State {
    let mut state = State::default();
    for entry in entries().iter().filter(|entry| entry.deployment.0 == deployment) {
        state.apply(&entry.record).unwrap();
    }
    state
}

fn kind(value: &serde_json::Value) -> String {
    value["kind"].as_str().unwrap().to_owned()
}

#[test]
fn format_1_is_written_as_it_was() {
    assert_eq!(FORMAT, 1, "a new format needs a golden journal of its own, beside this one");
    for (line, entry) in V1.lines().zip(entries()) {
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&entry).unwrap(), read);
        // Byte for byte, unless another crate has asked for maps in another order.
        assert_eq!(serde_json::to_string(&entry).unwrap().len(), line.len());
    }
}

#[test]
fn format_1_has_every_kind_of_everything() {
    let (mut records, mut actors, mut triggers, mut results) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for line in V1.lines() {
        let record = &serde_json::from_str::<serde_json::Value>(line).unwrap()["record"];
        records.insert(kind(record));
        if let Some(request) = record.get("request") {
            actors.insert(kind(&request["actor"]));
            triggers.insert(request["trigger"].as_str().unwrap().to_owned());
        }
        if let Some(by) = record.get("by") {
            actors.insert(kind(by));
        }
        if let Some(outcome) = record.get("outcome") {
            results.insert(outcome["result"].as_str().unwrap().to_owned());
        }
    }
    let list = |set: BTreeSet<String>| set.into_iter().collect::<Vec<_>>().join(" ");
    assert_eq!(
        list(records),
        "cancelled closed failed finished opened parked started undo_finished undo_started unparked"
    );
    assert_eq!(list(actors), "engine schedule token user webhook");
    assert_eq!(list(triggers), "manual poll schedule webhook");
    assert_eq!(list(results), "refused reverted succeeded");
}

#[test]
fn format_1_folds_to_what_happened() {
    assert_eq!(decide(&fold(1)), Decision::Done(Outcome::Succeeded));
    let Decision::Done(reverted) = decide(&fold(2)) else { panic!("2 is done") };
    assert_eq!(reverted.as_str(), "rolled_back");
    assert_eq!(reverted.failure().unwrap().to_string(), "503 [test/broken]");
    let Decision::Done(refused) = decide(&fold(3)) else { panic!("3 is done") };
    assert_eq!(refused.as_str(), "refused");
    assert_eq!(refused.failure().unwrap().message, "not on a Friday");
    assert_eq!(decide(&fold(4)), Decision::Wait(StepKey::new("switch/web-1")));
    let back = fold(5);
    assert_eq!(decide(&back), Decision::Done(Outcome::Succeeded));
    assert_eq!(back.request.unwrap().kind, Kind::Rollback);
    let died = Outcome::Reverted { failure: None, served: false };
    assert_eq!(decide(&fold(6)), Decision::Done(died));
    let request = fold(2).request.unwrap();
    assert_eq!(request.quarantine.on_success.len() + request.quarantine.lift_on_success.len(), 2);
    assert_eq!(request.live[1].1, None);
}

#[tokio::test]
async fn a_parked_deployment_of_format_1_can_be_finished() {
    let world = World::new(Fault::Nothing, None);
    let journal = Arc::new(MemoryJournal::default());
    for entry in entries().iter().filter(|entry| entry.deployment.0 == 4) {
        journal.append(entry, Durability::Power).await.unwrap();
    }
    let engine = Engine::new(world.registry(), journal, Feed::default());
    let by = Actor::User("ada".into());
    let outcome = engine.unpark(DeploymentId(4), by, None, &Session::new(Fence(9))).await.unwrap();
    assert_eq!(outcome.as_str(), "rolled_back");
    assert!(world.sight().iter().all(|server| server.live == Some(2)));
}

#[tokio::test]
async fn a_journal_of_another_format_is_refused_by_name() {
    let journal = Arc::new(MemoryJournal::default());
    let mut entry = entries().swap_remove(0);
    let Record::Opened { request, .. } = &mut entry.record else { panic!("a journal opens first") };
    request.format = 2;
    journal.append(&entry, Durability::Power).await.unwrap();
    let world = World::new(Fault::Nothing, None);
    let engine = Engine::new(world.registry(), Arc::clone(&journal) as Arc<dyn Journal>, Feed::default());
    let session = Session::new(Fence(1));
    let id = entry.deployment;
    let by = Actor::User("ada".into());
    for refused in [
        engine.resume(id, &session).await,
        engine.recover(id, &session).await,
        engine.cancel(id, by.clone(), None, &session).await,
        engine.unpark(id, by, None, &session).await,
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, EngineError::Foreign { found: 2, .. }), "{error}");
        assert_eq!(error.code(), "engine/foreign-journal");
    }
    assert_eq!(journal.entries(), [entry], "nothing was added to it");
    assert_eq!(world.acts(), Vec::<String>::new());
}

#[test]
fn an_unknown_kind_of_record_is_not_guessed_at() {
    let line = r#"{"deployment":1,"seq":0,"at":"2026-01-01T00:00:00Z","record":{"kind":"teleported"}}"#;
    let error = serde_json::from_str::<Entry>(line).unwrap_err();
    assert!(error.to_string().contains("teleported"), "{error}");
}
