//! Databases of every released schema are read for ever.
//!
//! `tests/golden/v1.db` was written by the first version that had schema 1, `v2.db` by the first that had
//! schema 2, and neither is ever written again. To begin the files of a new schema, run this test once without them: it makes them and
//! fails; look at them, then commit them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, fs, path::Path, sync::Arc, time::Duration};

use eeveon_core::{DeploymentId, Durability, Entry, Fence, ReleaseNumber, Seq};
use eeveon_store::{
    Acquired, AutomaticOff, CancelRequest, Delivery, Deployment, DeploymentFilter, Holder, KnownRelease,
    Letter, Owner, Position, Quarantined, SCHEMA_VERSION, SqliteStore, Store,
};
use eeveon_testkit::store::{
    FOLLOWER, ManualTicks, STATES, all_letters, delivery, entry, fill, followed, owner, project, succeeded,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

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

/// Everything there is. Compared as what it means, not as text: what later versions add to it is absent
/// from older files.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Found {
    deployments: Vec<Journal>,
    projects: BTreeMap<String, Project>,
    lease: Lease,
    #[serde(default)]
    outbox: Option<Outbox>,
    #[serde(default)]
    inbox: Option<Inbox>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Journal {
    summary: Deployment,
    journal: Vec<Entry>,
    cancel: Option<CancelRequest>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Project {
    releases: Vec<KnownRelease>,
    quarantined: Vec<Quarantined>,
    #[serde(default)]
    automatic: Option<AutomaticOff>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Lease {
    owner: Owner,
    fence: Fence,
    since: Timestamp,
    remaining_ms: u64,
}

/// What came with schema 2.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Outbox {
    cursor: Option<Position>,
    letters: Vec<Letter>,
}

/// Came with schema 2, too.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Inbox {
    deliveries: Vec<Delivery>,
    states: BTreeMap<String, Option<String>>,
}

/// Reads everything there is in a database that had this schema.
async fn read(store: &SqliteStore, schema: i64) -> Found {
    let mut deployments = Vec::new();
    for summary in store.deployments(&DeploymentFilter::default()).await.unwrap() {
        let cancel = store.cancel_requested(summary.id).await.unwrap();
        let journal = store.read(summary.id, Seq(0)).await.unwrap();
        deployments.push(Journal { summary, journal, cancel });
    }
    let (mut projects, mut deliveries, mut states) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for name in ["shop", "blog"] {
        let project = project(name);
        let releases = store.releases(&project).await.unwrap();
        let quarantined = store.quarantined(&project).await.unwrap();
        let automatic = store.automatic(&project).await.unwrap();
        deliveries.extend(store.deliveries(&project, u32::MAX).await.unwrap());
        projects.insert(name.to_owned(), Project { releases, quarantined, automatic });
    }
    let Holder { owner, fence, since, remaining_ms } = store.holder("project/blog").await.unwrap().unwrap();
    let cursor = store.cursor(FOLLOWER).await.unwrap();
    let letters = store.letters(&all_letters()).await.unwrap();
    let outbox = (schema > 1).then_some(Outbox { cursor, letters });
    for key in STATES {
        states.insert(key.to_owned(), store.state(key).await.unwrap());
    }
    let inbox = (schema > 1).then_some(Inbox { deliveries, states });
    Found { deployments, projects, lease: Lease { owner, fence, since, remaining_ms }, outbox, inbox }
}

/// Every entry has its place in the order, of old databases that of their times.
async fn check_order(store: &SqliteStore, found: &Found) {
    let followed = followed(store, Position(0), u32::MAX).await.unwrap();
    let positions: Vec<_> = followed.iter().map(|(position, _)| position.0).collect();
    assert_eq!(positions, (1..=9).collect::<Vec<_>>());
    let mut expected: Vec<_> = found.deployments.iter().flat_map(|it| it.journal.clone()).collect();
    expected.sort_by_key(|entry| (entry.at, entry.deployment, entry.seq));
    assert_eq!(followed.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>(), expected);
    // And it goes on.
    let id = DeploymentId(4);
    let next = store.read(id, Seq(0)).await.unwrap().len();
    let entry = entry(id, u64::try_from(next).unwrap(), succeeded());
    store.append(&entry, Durability::Process, None).await.unwrap();
    assert_eq!(store.newest_position().await.unwrap(), Position(10));
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
        let found = read(&store, schema).await;
        if is_new {
            fs::write(&expected, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
        }
        assert!(
            !is_new,
            "{} was made: look at it and at {}, commit both",
            database.display(),
            expected.display()
        );
        let expected: Found = serde_json::from_slice(&fs::read(expected).unwrap()).unwrap();
        assert_eq!(found, expected, "schema {schema}");

        check_order(&store, &found).await;
        // What was delivered before is not taken in again, and something new is.
        assert_eq!(store.take_delivery(&delivery("shop", "7"), &[]).await.unwrap(), schema == 1);
        assert!(store.take_delivery(&delivery("shop", "8"), &[]).await.unwrap());
        // Counting goes on, and leases are granted above the one that was.
        assert_eq!(store.reserve_deployment().await.unwrap().0, 5);
        assert_eq!(store.reserve_release(&project("shop"), ReleaseNumber(0)).await.unwrap().0, 4);
        let (ttl, dead) = (Duration::from_secs(30), Some(Fence(1)));
        let acquired = store.acquire("project/blog", &owner("new"), ttl, dead, Fence(0)).await.unwrap();
        assert!(matches!(acquired, Acquired::Granted(lease) if lease.fence.0 == 2));
    }
}

/// The scripts of released schemas stay as they are: what they make is what is in the golden file. It is
/// the same for a database that began with an older one.
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
    let expected = schema(&copy);
    assert_eq!(schema(&path), expected);
    for older in 1..SCHEMA_VERSION {
        fs::copy(golden(&format!("v{older}.db")), &copy).unwrap();
        drop(SqliteStore::open(&copy).await.unwrap());
        assert_eq!(schema(&copy), expected, "from {older}");
    }
}
