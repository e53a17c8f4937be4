//! What only shows from inside: a full disk, a lock, synchronisation.

use eeveon_core::Diagnose;

use super::*;

async fn store() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("db")).await.unwrap();
    (folder, store)
}

fn owner(label: &str) -> Owner {
    Owner { host: "h".into(), boot: "b".into(), pid: 1, started: 1, label: label.into() }
}

#[tokio::test]
async fn without_space_nothing_changes_and_it_is_said() {
    let (_folder, store) = store().await;
    let take = async |name: &str, label: &str| {
        store.acquire(name, &owner(label), Duration::from_secs(9), None, Fence(0)).await
    };
    take("a", "small").await.unwrap();
    let limit = |pages: i64| {
        store.query(move |db| {
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |row| row.get::<_, i64>(0))?)
        })
    };
    // A limit below the present size is that size.
    limit(1).await.unwrap();
    let error = take("b", &"large".repeat(10_000)).await.unwrap_err();
    assert_eq!(error.code(), "store/full", "{error:?}");
    assert!(store.holder("a").await.unwrap().is_some());
    assert!(store.holder("b").await.unwrap().is_none());
    limit(i64::from(u32::MAX) - 1).await.unwrap();
    take("b", &"large".repeat(10_000)).await.unwrap();
}

#[tokio::test]
async fn a_database_that_stays_locked_is_busy() {
    let (_folder, store) = store().await;
    let mut other = schema::open(store.path()).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    store.db.lock().unwrap().busy_timeout(Duration::ZERO).unwrap();
    let error = store.reserve_deployment().await.unwrap_err();
    assert_eq!(error.code(), "store/busy", "{error:?}");
    // Reading does not wait for writers.
    assert_eq!(store.deployments(&DeploymentFilter::default()).await.unwrap(), []);
    lock.commit().unwrap();
    store.reserve_deployment().await.unwrap();
}

#[tokio::test]
async fn numbers_that_cannot_be_stored_are_refused() {
    let (_folder, store) = store().await;
    let shop = ProjectName::new("shop").unwrap();
    let error = store.reserve_release(&shop, ReleaseNumber(u64::MAX)).await.unwrap_err();
    assert_eq!(error.code(), "store/internal");
    assert_eq!(store.reserve_release(&shop, ReleaseNumber(0)).await.unwrap(), ReleaseNumber(1));
    let error =
        store.request_cancel(DeploymentId(u64::MAX), &Actor::Engine, None, Timestamp::UNIX_EPOCH).await;
    assert_eq!(error.unwrap_err().code(), "store/internal");
}

#[tokio::test]
async fn what_must_outlive_a_power_cut_is_synced() {
    let (_folder, store) = store().await;
    // See <https://sqlite.org/pragma.html#pragma_synchronous>: 1 is NORMAL, 2 is FULL.
    let synchronous = async || {
        let level =
            |db: &mut Connection| Ok(db.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?);
        store.query(level).await.unwrap()
    };
    store.reserve_deployment().await.unwrap();
    assert_eq!(synchronous().await, 1);
    for (durability, level) in [(Durability::Power, 2), (Durability::Process, 1), (Durability::Power, 2)] {
        store.change(durability, |_| Ok(())).await.unwrap();
        assert_eq!(synchronous().await, level);
    }
    let (project, received_at) = (ProjectName::new("shop").unwrap(), Timestamp::UNIX_EPOCH);
    let [provider, id, why] = ["github", "1", "push"].map(str::to_owned);
    let delivery =
        Delivery { project, provider, id, received_at, accepted: true, why, ask: None, request: None };
    for (durability, level) in [(Durability::Process, 1), (Durability::Power, 2)] {
        store.save_states(&[("a".to_owned(), None)], durability).await.unwrap();
        assert_eq!(synchronous().await, level);
        store.reserve_deployment().await.unwrap();
        store.take_delivery(&delivery, &[]).await.unwrap();
        assert_eq!(synchronous().await, 2);
    }
}

/// However long the history is, listing the newest of it reads only those. See
/// <https://sqlite.org/eqp.html>.
#[tokio::test]
async fn history_is_listed_along_an_index() {
    let (_folder, store) = store().await;
    let shop = ProjectName::new("shop").unwrap();
    for (project, open, expected) in [
        // The table itself, which is in the order of ids.
        (None, false, "SCAN deployments"),
        (None, true, "SCAN deployments USING INDEX deployments_open"),
        (Some(&shop), false, "SEARCH deployments USING INDEX deployments_of_project (project=?)"),
        (Some(&shop), true, "SCAN deployments USING INDEX deployments_open"),
    ] {
        let clause = listing(&DeploymentFilter { project: project.cloned(), open, limit: 20 });
        let plan = move |db: &mut Connection| {
            let mut statement =
                db.prepare(&format!("EXPLAIN QUERY PLAN SELECT doc FROM deployments {clause}"))?;
            let parameters = rusqlite::params_from_iter(vec![1; statement.parameter_count()]);
            Ok(statement
                .query_map(parameters, |row| row.get("detail"))?
                .collect::<Result<Vec<String>, _>>()?)
        };
        // One step, and no sorting.
        assert_eq!(store.query(plan).await.unwrap(), [expected]);
    }
}
