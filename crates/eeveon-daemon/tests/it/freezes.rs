//! Freezes: kept, changed by many, and never overlooked.

use std::{sync::Arc, time::Duration};

use eeveon_core::{Actor, Diagnose as _, Durability, Fence, Untrusted};
use eeveon_daemon::{Freezes, freezes::Frozen};
use eeveon_store::{Acquired, MemoryStore, Owner, SqliteStore, Store};
use eeveon_testkit::store::{FailingStore, Loses};
use futures::future::join_all;

use crate::common::{project, second};

/// Where they are kept, and who changes them.
const KEY: &str = "daemon/freezes";

fn frozen(reason: &str) -> Frozen {
    Frozen {
        reason: Untrusted::from(reason),
        until: None,
        by: Actor::User(Untrusted::from("ada")),
        at: second(0),
    }
}

fn me() -> Owner {
    Owner::this_process("test")
}

async fn change(store: &dyn Store, name: Option<&str>, freeze: Option<Frozen>) -> Option<Frozen> {
    let name = name.map(project);
    Freezes::change(store, &me(), name.as_ref(), freeze).await.unwrap()
}

async fn put(store: &dyn Store, text: &str) {
    store.save_states(&[(KEY.to_owned(), Some(text.to_owned()))], Durability::Power).await.unwrap();
}

#[tokio::test]
async fn a_freeze_holds_one_or_all_until_it_is_lifted() {
    let store = MemoryStore::new();
    let (a, b) = (project("a"), project("b"));
    assert_eq!(Freezes::load(&store).await.unwrap(), Freezes::default());
    assert_eq!(change(&store, Some("a"), Some(frozen("sales"))).await, None);
    assert_eq!(change(&store, Some("a"), Some(frozen("audit"))).await, Some(frozen("sales")));
    let freezes = Freezes::load(&store).await.unwrap();
    assert_eq!((freezes.of(&a), freezes.of(&b)), (Some(&frozen("audit")), None));
    assert_eq!(change(&store, None, Some(frozen("fire"))).await, None);
    let freezes = Freezes::load(&store).await.unwrap();
    assert_eq!((freezes.of(&a), freezes.of(&b)), (Some(&frozen("fire")), Some(&frozen("fire"))));
    assert_eq!(change(&store, None, None).await, Some(frozen("fire")));
    assert_eq!(Freezes::load(&store).await.unwrap().of(&a), Some(&frozen("audit")));
    assert_eq!(change(&store, Some("a"), None).await, Some(frozen("audit")));
    assert_eq!(change(&store, Some("a"), None).await, None);
    assert_eq!(Freezes::load(&store).await.unwrap(), Freezes::default());
}

#[tokio::test]
async fn of_two_freezes_the_one_that_lasts_longer_holds() {
    let store = MemoryStore::new();
    let (a, b) = (project("a"), project("b"));
    let until = |seconds| Frozen { until: Some(second(seconds)), ..frozen("fire") };
    change(&store, None, Some(until(60))).await;
    change(&store, Some("a"), Some(frozen("audit"))).await;
    change(&store, Some("b"), Some(until(30))).await;
    let freezes = Freezes::load(&store).await.unwrap();
    assert_eq!((freezes.of(&a), freezes.of(&b)), (Some(&frozen("audit")), Some(&until(60))));
    assert!(until(60).is_over(second(60)) && !until(60).is_over(second(59)));
    assert!(!frozen("audit").is_over(second(1_000_000)));
}

#[tokio::test]
async fn what_was_written_before_is_read() {
    let golden = include_str!("../golden/freezes-1.json").trim_end();
    let store = MemoryStore::new();
    change(&store, Some("shop"), Some(frozen("sales"))).await;
    let dated = Frozen { until: Some(second(60)), by: Actor::Engine, ..frozen("fire") };
    change(&store, None, Some(dated)).await;
    assert_eq!(store.state(KEY).await.unwrap().unwrap(), golden);
    let other = MemoryStore::new();
    put(&other, golden).await;
    assert_eq!(Freezes::load(&other).await.unwrap(), Freezes::load(&store).await.unwrap());
}

#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_none() {
    let golden = include_str!("../golden/freezes-1.json").trim_end();
    let newer = golden.replace("\"format\":1", "\"format\":2,\"more\":0");
    let unknown = golden.replace("\"all\"", "\"everything\"");
    let cut = &golden[..golden.len() / 2];
    for (text, code) in [
        (newer.as_str(), "daemon/newer-format"),
        (&unknown, "daemon/damaged-state"),
        (cut, "daemon/damaged-state"),
        ("", "daemon/damaged-state"),
        ("{}", "daemon/damaged-state"),
        ("null", "daemon/damaged-state"),
    ] {
        let store = MemoryStore::new();
        put(&store, text).await;
        assert_eq!(Freezes::load(&store).await.unwrap_err().code(), code, "{text}");
        for freeze in [None, Some(frozen("sales"))] {
            let refused = Freezes::change(&store, &me(), Some(&project("a")), freeze).await.unwrap_err();
            assert_eq!(refused.code(), code, "{text}");
        }
        assert_eq!(store.state(KEY).await.unwrap().as_deref(), Some(text), "it was written over");
    }
}

#[tokio::test(start_paused = true)]
async fn changes_wait_for_each_other() {
    let store = Arc::new(MemoryStore::new());
    // Somebody is at it.
    let taken = store.acquire(KEY, &me(), Duration::from_secs(60), None, Fence(0)).await.unwrap();
    let Acquired::Granted(lease) = taken else { panic!("nobody has it") };
    let changes = ["a", "b"].map(|name| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { change(&*store, Some(name), Some(frozen(name))).await })
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(Freezes::load(&*store).await.unwrap(), Freezes::default());
    store.release(&lease).await.unwrap();
    for change in changes {
        assert_eq!(change.await.unwrap(), None);
    }
    let freezes = Freezes::load(&*store).await.unwrap();
    assert_eq!(freezes.projects.into_keys().collect::<Vec<_>>(), [project("a"), project("b")]);
}

#[tokio::test(start_paused = true)]
async fn who_never_ends_a_change_is_named_and_who_died_in_one_is_passed_over() {
    let store = MemoryStore::new();
    let taken = store.acquire(KEY, &me(), Duration::from_secs(3600), None, Fence(0)).await.unwrap();
    assert!(matches!(taken, Acquired::Granted(_)));
    let refused = Freezes::change(&store, &me(), None, Some(frozen("fire"))).await.unwrap_err();
    assert_eq!(refused.code(), "daemon/store");
    assert!(refused.to_string().contains("somebody else"), "{refused}");

    let store = MemoryStore::new();
    // A process of another start than ours has our number, so it is dead.
    let dead = Owner { started: me().started.wrapping_sub(1), ..me() };
    let taken = store.acquire(KEY, &dead, Duration::from_secs(3600), None, Fence(0)).await.unwrap();
    assert!(matches!(taken, Acquired::Granted(_)));
    assert_eq!(change(&store, None, Some(frozen("fire"))).await, None);
    assert_eq!(Freezes::load(&store).await.unwrap().all, Some(frozen("fire")));
}

#[tokio::test]
async fn of_changes_at_the_same_time_none_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let names: Vec<String> = (0..4).map(|number| format!("p{number}")).collect();
    // As many processes would, each with a connection of its own.
    let changes = names.iter().map(async |name| {
        let store = SqliteStore::open(&path).await.unwrap();
        change(&store, Some(name), Some(frozen(name))).await
    });
    assert_eq!(join_all(changes).await, [None, None, None, None]);
    let store = SqliteStore::open(&path).await.unwrap();
    let freezes = Freezes::load(&store).await.unwrap();
    assert_eq!(freezes.projects.keys().map(|it| it.as_str()).collect::<Vec<_>>(), names);
}

#[tokio::test(start_paused = true)]
async fn a_change_that_fails_happened_or_did_not() {
    let mut failures = 0;
    for (call, loses) in (1..9).flat_map(|call| [(call, Loses::Call), (call, Loses::Answer)]) {
        let inner: Arc<dyn Store> = Arc::new(MemoryStore::new());
        change(&*inner, Some("a"), Some(frozen("sales"))).await;
        let failing = FailingStore::new(Arc::clone(&inner), call, loses);
        let changed = Freezes::change(&failing, &me(), None, Some(frozen("fire"))).await;
        let freezes = Freezes::load(&*inner).await.unwrap();
        assert_eq!(freezes.projects[&project("a")], frozen("sales"));
        match changed {
            Ok(before) => assert_eq!((before, freezes.all), (None, Some(frozen("fire")))),
            Err(error) => {
                failures += 1;
                assert_eq!(error.code(), "daemon/store");
                assert!(freezes.all.is_none_or(|it| it == frozen("fire")));
            }
        }
    }
    assert_eq!(failures, 8, "two for each of four calls");
}
