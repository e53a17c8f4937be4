//! What only a store in a file can suffer: foreign, newer, damaged, missing and half-made files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use eeveon_core::{DeploymentId, Diagnose, Durability, Fence, Journal, JournalError, Record, Seq};
use eeveon_store::{
    Acquired, DeploymentFilter, FencedJournal, Lease, Owner, Position, SCHEMA_VERSION, SqliteStore, Store,
    StoreError,
};
use eeveon_testkit::store::{
    Contents, STATES, contents, delivery, entry, fill, opened, project, request, ship, succeeded,
};

mod common;

struct Place {
    folder: tempfile::TempDir,
    path: PathBuf,
}

fn place() -> Place {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("eeveon.db");
    Place { folder, path }
}

/// Makes a store with something of everything in it, all of it in the one file.
async fn filled() -> (Place, Contents) {
    let place = place();
    let store = SqliteStore::open(&place.path).await.unwrap();
    fill(&store).await;
    let expected = all(&store).await.unwrap();
    store.vacuum().await.unwrap();
    drop(store);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(place.folder.path().join(format!("eeveon.db{suffix}"))).unwrap();
    }
    (place, expected)
}

async fn all(store: &dyn Store) -> Result<Contents, StoreError> {
    contents(store, &[project("shop"), project("blog")]).await
}

fn raw(path: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(path).unwrap()
}

/// Opens what cannot be opened, and makes sure that it is left as it is.
async fn refused(path: &Path) -> StoreError {
    let before = fs::read(path).unwrap();
    let error = SqliteStore::open(path).await.unwrap_err();
    assert_eq!(fs::read(path).unwrap(), before, "{error}");
    error
}

#[tokio::test]
async fn a_new_database_is_whole_and_private() {
    let Place { folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    store.reserve_deployment().await.unwrap();
    for file in fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file:?}");
    }
    assert_eq!(store.path(), path);
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_a_death_during_creation_leaves_is_cleared_away() {
    let Place { folder, path } = place();
    let leftovers = ["eeveon.db.new", "eeveon.db.new-wal", "eeveon.db.new-shm", "eeveon.db.new-journal"];
    for name in leftovers {
        fs::write(folder.path().join(name), "half of it").unwrap();
    }
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    for name in leftovers {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_can_create_it_at_once() {
    let Place { folder: _folder, path } = place();
    let openings: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteStore::open(path.clone()))).collect();
    let mut ids = Vec::new();
    for opening in openings {
        ids.push(opening.await.unwrap().unwrap().reserve_deployment().await.unwrap().0);
    }
    assert_eq!(ids, (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_newer_database_is_refused_and_left_alone() {
    let (Place { folder: _folder, path }, _) = filled().await;
    raw(&path).pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
    let error = refused(&path).await;
    assert_eq!(error.code(), "store/newer");
    assert!(
        matches!(error, StoreError::Newer { found, known: SCHEMA_VERSION, .. } if found == SCHEMA_VERSION + 1)
    );
}

#[tokio::test]
async fn files_that_are_no_store_are_refused_and_left_alone() {
    let Place { folder, path } = place();
    for foreign in [
        "",
        "x",
        "not a database at all, but longer than the header of one: it has a hundred bytes, and some more",
    ] {
        fs::write(&path, foreign).unwrap();
        assert_eq!(refused(&path).await.code(), "store/corrupt", "{foreign:?}");
    }
    fs::remove_file(&path).unwrap();
    raw(&path).execute_batch("CREATE TABLE theirs (id INTEGER); PRAGMA user_version = 1").unwrap();
    let error = refused(&path).await;
    assert_eq!(error.code(), "store/corrupt");
    assert!(error.hint().unwrap().contains(&format!("move {0}, {0}-wal and {0}-shm aside", path.display())));

    let error = SqliteStore::open(folder.path()).await.unwrap_err();
    assert_eq!(error.code(), "store/corrupt", "a folder");
    let error = SqliteStore::open(folder.path().join("none/eeveon.db")).await.unwrap_err();
    assert_eq!(error.code(), "store/io", "{error}");
}

#[tokio::test]
async fn a_log_without_its_database_is_not_applied_to_a_new_one() {
    let Place { folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    fill(&store).await;
    drop(store);
    fs::remove_file(&path).unwrap();
    let error = SqliteStore::open(&path).await.unwrap_err();
    assert_eq!(error.code(), "store/corrupt");
    assert!(!path.exists());
    // As the hint says.
    fs::remove_file(folder.path().join("eeveon.db-wal")).unwrap();
    let store = SqliteStore::open(&path).await.unwrap();
    assert_eq!(store.deployments(&DeploymentFilter::default()).await.unwrap(), []);
}

/// Left to itself, SQLite would remove the log, and with it what it could still tell.
#[tokio::test]
async fn an_emptied_database_keeps_its_log() {
    let Place { folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    fill(&store).await;
    drop(store);
    let log = folder.path().join("eeveon.db-wal");
    let before = fs::read(&log).unwrap();
    assert!(!before.is_empty());
    fs::write(&path, "").unwrap();
    assert_eq!(refused(&path).await.code(), "store/corrupt");
    assert_eq!(fs::read(&log).unwrap(), before);
}

#[tokio::test]
async fn a_flipped_bit_in_an_entry_is_never_believed() {
    let Place { folder: _folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    let id = DeploymentId(1);
    for (seq, record) in
        (0..).zip([opened(request(&project("shop"), 1)), Record::Started { step: ship(), attempt: 1 }])
    {
        store.append(&entry(id, seq, record), Durability::Process, None).await.unwrap();
    }
    let db = raw(&path);
    let doc: String = db.query_row("SELECT doc FROM entries WHERE seq = 1", [], |row| row.get(0)).unwrap();
    let put = |doc: &[u8]| {
        let text = String::from_utf8(doc.to_vec()).unwrap();
        db.execute("UPDATE entries SET doc = ? WHERE seq = 1", [text]).unwrap();
    };
    for at in 0..doc.len() {
        for bit in 0..7 {
            let mut flipped = doc.clone().into_bytes();
            flipped[at] ^= 1 << bit;
            put(&flipped);
            let read = store.read(id, Seq(0)).await;
            assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{at} {bit}: {read:?}");
        }
    }
    put(doc.as_bytes());
    assert_eq!(store.read(id, Seq(0)).await.unwrap().len(), 2);
    // A key that changed makes an entry vanish from one journal and turn up in another.
    for change in ["deployment = 3", "seq = 5", "sum = sum + 1"] {
        db.execute_batch(&format!("BEGIN; UPDATE entries SET {change} WHERE seq = 1; COMMIT")).unwrap();
        assert_eq!(store.read(id, Seq(0)).await.unwrap_err().code(), "store/corrupt", "{change}");
        assert!(store.read(DeploymentId(3), Seq(0)).await.is_err() || change != "deployment = 3");
        assert!(!store.verify().await.unwrap().is_empty(), "{change}");
        db.execute_batch("DELETE FROM entries WHERE seq <> 0").unwrap();
        store.read(id, Seq(0)).await.unwrap_err();
        let sum = crc32fast::hash(format!("entries\0{id}\x001\0{doc}\0").as_bytes());
        db.execute("INSERT INTO entries VALUES (1, 1, ?, ?)", (&doc, sum)).unwrap();
        assert_eq!(store.read(id, Seq(0)).await.unwrap().len(), 2);
    }
    let journal = FencedJournal { store: Arc::new(store), lease: None };
    put(b"{}");
    let error = journal.read(id, Seq(0)).await.unwrap_err();
    assert!(matches!(error, JournalError::Unavailable(_)), "{error}");
}

/// Flips bits all over the file. No journal is ever read otherwise than it was written, and whatever
/// else is not as it was is found by `verify`.
#[tokio::test]
async fn a_flipped_bit_in_the_file_is_noticed() {
    let (Place { folder, path }, expected) = filled().await;
    let sound = fs::read(&path).unwrap();
    let copy = folder.path().join("copy.db");
    let mut noticed = 0;
    for (n, at) in (0..sound.len()).step_by(61).enumerate() {
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (n % 8);
        fs::write(&copy, flipped).unwrap();
        for suffix in ["-wal", "-shm"] {
            let _none_at_first = fs::remove_file(folder.path().join(format!("copy.db{suffix}")));
        }
        let Ok(store) = SqliteStore::open(&copy).await else {
            noticed += 1;
            continue;
        };
        for (deployment, journal, _) in &expected.deployments {
            match store.read(deployment.id, Seq(0)).await {
                Ok(read) => assert_eq!(read, *journal, "byte {at}"),
                Err(error) => assert_eq!(error.code(), "store/corrupt", "{at}: {error:?}"),
            }
        }
        let seen = all(&store).await;
        if !seen.is_ok_and(|seen| seen == expected) {
            noticed += 1;
            let verified = store.verify().await;
            assert!(!verified.is_ok_and(|defects| defects.is_empty()), "byte {at} is wrong and called sound");
        }
    }
    assert!(noticed > 100, "{noticed}");
}

#[tokio::test]
async fn damage_is_told_line_by_line() {
    let (Place { folder: _folder, path }, _) = filled().await;
    let store = SqliteStore::open(&path).await.unwrap();
    let db = raw(&path);
    db.execute_batch(
        "UPDATE entries SET doc = replace(doc, 'ship', 'shop') WHERE deployment = 3 AND seq = 1;
         UPDATE releases SET number = 77 WHERE number = 2;
         UPDATE leases SET doc = '{}';
         UPDATE quarantine SET sum = 0;",
    )
    .unwrap();
    assert_eq!(
        store.verify().await.unwrap(),
        [
            "row 3/1 of entries is damaged: its checksum is wrong",
            "row shop/77 of releases is damaged: its checksum is wrong",
            &format!("row blog/{:040x} of quarantine is damaged: its checksum is wrong", 9),
            &format!("row shop/{:040x} of quarantine is damaged: its checksum is wrong", 2),
        ]
    );
}

/// A damaged state is not an absent one, and a delivery that was damaged is not taken for new.
#[tokio::test]
async fn damage_makes_nobody_forget() {
    let (Place { folder: _folder, path }, expected) = filled().await;
    let store = SqliteStore::open(&path).await.unwrap();
    raw(&path)
        .execute_batch(
            "UPDATE states SET doc = '\"other\"' WHERE key = 'schedule';
             UPDATE deliveries SET doc = 'no JSON' WHERE project = 'shop' AND id = '7';",
        )
        .unwrap();
    let [poll, schedule, _] = STATES;
    let again = delivery("shop", "7");
    let states = [(poll.to_owned(), None)];
    for error in [
        store.state(schedule).await.unwrap_err(),
        store.take_delivery(&again, &states).await.unwrap_err(),
        store.delivery(&again.project, &again.provider, &again.id).await.unwrap_err(),
        store.deliveries(&again.project, 9).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "store/corrupt", "{error}");
    }
    assert_eq!(store.state(poll).await.unwrap(), expected.states[0]);
    assert_eq!(
        store.verify().await.unwrap(),
        [
            "row schedule of states is damaged: its checksum is wrong",
            "row shop/1/github/7 of deliveries is damaged: its checksum is wrong",
        ]
    );
    // The rest is as usable as before.
    assert!(store.take_delivery(&delivery("shop", "8"), &states).await.unwrap());
    assert_eq!(store.state(poll).await.unwrap(), None);
    store.save_states(&[(schedule.to_owned(), Some("new".to_owned()))], Durability::Power).await.unwrap();
    assert_eq!(store.state(schedule).await.unwrap().as_deref(), Some("new"));
    store.forget_project(&again.project).await.unwrap();
    assert!(store.take_delivery(&again, &[]).await.unwrap());
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
}

/// What cannot be followed is told in its place, and is in nobody's way.
#[tokio::test]
async fn damage_does_not_hold_up_a_follower() {
    let (Place { folder: _folder, path }, expected) = filled().await;
    let store = SqliteStore::open(&path).await.unwrap();
    raw(&path)
        .execute_batch(
            "DELETE FROM positions WHERE position = 2;
             UPDATE positions SET doc = replace(doc, '2', '3') WHERE position = 3;
             UPDATE entries SET doc = replace(doc, 'closed', 'closet') WHERE deployment = 2;
             DELETE FROM entries WHERE deployment = 3 AND seq = 0;",
        )
        .unwrap();
    let items = store.follow(Position(0), 7).await.unwrap();
    assert_eq!(items.iter().map(|(at, _)| at.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    for ((_, item), (position, entry)) in items.iter().zip(&expected.followed) {
        match item {
            Ok(read) => assert_eq!(read, entry),
            Err(error) => {
                assert!((2..=5).contains(&position.0), "{position}");
                assert_eq!(error.code(), "store/corrupt", "{error}");
            }
        }
    }
    assert_eq!(items.iter().filter(|(_, item)| item.is_err()).count(), 4);
    // The rest can be followed, and more be added.
    let next = entry(DeploymentId(4), 2, succeeded());
    store.append(&next, Durability::Process, None).await.unwrap();
    let behind = store.follow(Position(7), 9).await.unwrap();
    assert_eq!(behind.iter().filter_map(|(_, item)| item.as_ref().ok()).next_back(), Some(&next));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_is_found() {
    let (Place { folder: _folder, path }, _) = filled().await;
    let store = SqliteStore::open(&path).await.unwrap();
    let sum =
        |table: &str, key: &str, doc: &str| crc32fast::hash(format!("{table}\0{key}\0{doc}\0").as_bytes());
    let db = raw(&path);
    let again: String =
        db.query_row("SELECT doc FROM positions WHERE position = 1", [], |row| row.get(0)).unwrap();
    let put = "UPDATE positions SET doc = ?, sum = ? WHERE position = 2";
    assert_eq!(db.execute(put, (&again, sum("positions", "2", &again))).unwrap(), 1);
    let put = "UPDATE cursors SET doc = '10', sum = ?";
    assert_eq!(db.execute(put, [sum("cursors", "notify", "10")]).unwrap(), 1);
    db.execute_batch("DELETE FROM entries WHERE deployment = 3 AND seq = 1").unwrap();
    db.execute_batch("DELETE FROM positions WHERE position = 8").unwrap();
    assert_eq!(
        store.verify().await.unwrap(),
        [
            "entry 0 of deployment 1 has two positions",
            "row 9 of positions does not follow the one before",
            "entry 1 of deployment 1 has no position",
            "entry 0 of deployment 4 has no position",
            "entry 1 of deployment 3 has a position, but is lost",
            "row notify of cursors is beyond the newest entry",
        ]
    );
}

#[tokio::test]
async fn an_open_journal_that_makes_no_sense_is_found() {
    let Place { folder: _folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    let id = store.reserve_deployment().await.unwrap();
    let records = [opened(request(&project("shop"), 1)), Record::UndoFinished { step: ship() }];
    for (seq, record) in (0..).zip(records) {
        store.append(&entry(id, seq, record), Durability::Process, None).await.unwrap();
    }
    let stray = DeploymentId(9);
    store
        .append(&entry(stray, 0, opened(request(&project("shop"), 2))), Durability::Process, None)
        .await
        .unwrap();
    common::replace_entry(&path, stray, Seq(0), "{}");
    assert_eq!(
        store.verify().await.unwrap(),
        [
            "deployment 1: entry 1: the journal is not well formed: a step skips a state",
            "deployment 9 has a number that was never given out",
            "entry 0 of deployment 9 was written by another version of ee-deploy",
        ]
    );
}

#[tokio::test]
async fn vacuum_gives_space_back() {
    let Place { folder: _folder, path } = place();
    let store = SqliteStore::open(&path).await.unwrap();
    for n in 1..200 {
        let id = store.reserve_deployment().await.unwrap();
        store
            .append(&entry(id, 0, opened(request(&project("shop"), n))), Durability::Process, None)
            .await
            .unwrap();
    }
    let size = || {
        ["", "-wal"]
            .map(|suffix| fs::metadata(format!("{}{suffix}", path.display())).unwrap().len())
            .iter()
            .sum()
    };
    let before: u64 = size();
    let freed = store.vacuum().await.unwrap();
    assert!(freed > 0);
    assert_eq!(before - freed, size());
    assert_eq!(store.deployments(&DeploymentFilter::default()).await.unwrap().len(), 199);
}

#[tokio::test]
async fn a_journal_under_a_lost_lease_is_taken_over() {
    let Place { folder: _folder, path } = place();
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).await.unwrap());
    let owner = Owner::this_process("test");
    let take = async |dead| match store
        .acquire("project/shop", &owner, Duration::from_secs(60), dead, Fence(0))
        .await
    {
        Ok(Acquired::Granted(lease)) => lease,
        other => panic!("{other:?}"),
    };
    let first: Lease = take(None).await;
    let journal = |lease: &Lease| FencedJournal { store: Arc::clone(&store), lease: Some(lease.clone()) };
    let (id, stale) = (DeploymentId(1), journal(&first));
    stale.append(&entry(id, 0, opened(request(&project("shop"), 1))), Durability::Power).await.unwrap();
    let second = take(Some(first.fence)).await;
    let refused = stale.append(&entry(id, 1, succeeded()), Durability::Power).await.unwrap_err();
    assert!(
        matches!(refused, JournalError::Conflict { deployment: DeploymentId(1), at: Seq(1) }),
        "{refused}"
    );
    journal(&second).append(&entry(id, 1, succeeded()), Durability::Power).await.unwrap();
    assert_eq!(stale.read(id, Seq(0)).await.unwrap().len(), 2);
}
