//! Databases of every released schema are read for ever.
//!
//! `tests/golden/v1.db` was written by the first version that had schema 1, and is never written
//! again. To begin the files of a new schema, run this test once without them: it makes them and
//! fails; look at them, then commit them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, sync::Arc, time::Duration};

use eeveon_core::{Fence, ReleaseNumber, Seq};
use eeveon_store::{Acquired, DeploymentFilter, SCHEMA_VERSION, SqliteStore, Store};
use eeveon_testkit::store::{ManualTicks, fill, owner, project};
use serde_json::{Value, json};

fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Makes a database with something of everything in it, at a given place.
async fn write(path: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let draft = folder.path().join("eeveon.db");
    let store = SqliteStore::open_with(&draft, Arc::new(ManualTicks::default())).await.unwrap();
    fill(&store).await;
    store.reserve_release(&project("shop"), ReleaseNumber(2)).await.unwrap();
    let acquired = store
        .acquire("project/blog", &owner("golden"), Duration::from_secs(30), None, Fence(0))
        .await
        .unwrap();
    assert!(matches!(acquired, Acquired::Granted(_)));
    // Moves everything from the log into the file.
    store.vacuum().await.unwrap();
    fs::write(path, fs::read(draft).unwrap()).unwrap();
}

/// Reads everything there is.
async fn read(store: &SqliteStore) -> Value {
    let mut deployments = Vec::new();
    for deployment in store.deployments(&DeploymentFilter::default()).await.unwrap() {
        let cancel = store.cancel_requested(deployment.id).await.unwrap();
        let journal = store.read(deployment.id, Seq(0)).await.unwrap();
        deployments.push(json!({ "summary": deployment, "journal": journal, "cancel": cancel }));
    }
    let mut projects = serde_json::Map::new();
    for name in ["shop", "blog"] {
        let project = project(name);
        let releases = store.releases(&project).await.unwrap();
        let quarantined = store.quarantined(&project).await.unwrap();
        projects.insert(name.into(), json!({ "releases": releases, "quarantined": quarantined }));
    }
    let holder = store.holder("project/blog").await.unwrap().unwrap();
    json!({
        "deployments": deployments,
        "projects": projects,
        "lease": { "owner": holder.owner, "fence": holder.fence, "since": holder.since, "remaining_ms": holder.remaining_ms },
    })
}

#[tokio::test]
async fn every_schema_is_read() {
    for schema in 1..=SCHEMA_VERSION {
        let (database, expected) = (golden(&format!("v{schema}.db")), golden(&format!("v{schema}.json")));
        let folder = tempfile::tempdir().unwrap();
        let copy = folder.path().join("copy.db");
        let is_new = !database.exists();
        if is_new {
            assert_eq!(schema, SCHEMA_VERSION, "{} is lost: take it from the history", database.display());
            write(&database).await;
        }
        fs::copy(&database, &copy).unwrap();
        let store = SqliteStore::open_with(&copy, Arc::new(ManualTicks::default())).await.unwrap();
        assert_eq!(store.verify().await.unwrap(), [""; 0], "schema {schema}");
        let found = read(&store).await;
        if is_new {
            fs::write(&expected, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        }
        assert!(
            !is_new,
            "{} was made: look at it and at {}, commit both",
            database.display(),
            expected.display()
        );
        let expected: Value = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        assert_eq!(found, expected, "schema {schema}");

        // Counting goes on, and leases are granted above the one that was.
        assert_eq!(store.reserve_deployment().await.unwrap().0, 5);
        assert_eq!(store.reserve_release(&project("shop"), ReleaseNumber(0)).await.unwrap().0, 4);
        let (ttl, dead) = (Duration::from_secs(30), Some(Fence(1)));
        let acquired = store.acquire("project/blog", &owner("new"), ttl, dead, Fence(0)).await.unwrap();
        assert!(matches!(acquired, Acquired::Granted(lease) if lease.fence.0 == 2));
    }
}

/// The scripts of released schemas stay as they are: what they make is what is in the golden file.
#[tokio::test]
async fn a_new_database_has_the_newest_schema() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    drop(SqliteStore::open(&path).await.unwrap());
    let schema = |path: &Path| -> Vec<(String, Option<String>)> {
        let db = rusqlite::Connection::open(path).unwrap();
        let mut statement = db.prepare("SELECT name, sql FROM sqlite_schema ORDER BY name").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    };
    let copy = folder.path().join("copy.db");
    fs::copy(golden(&format!("v{SCHEMA_VERSION}.db")), &copy).unwrap();
    assert_eq!(schema(&path), schema(&copy));
}
