//! Opening, creating and migrating the database file.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig};
use rustix::fs::{FlockOperation, flock};

use super::{journals, trouble::Trouble};
use crate::StoreError;

/// The schema this version writes. An older one is migrated when it is opened, a newer one refused.
pub const SCHEMA_VERSION: i64 = 2;

/// What leads to a schema from the one before.
#[derive(Clone, Copy)]
struct Step {
    script: &'static str,
    /// What cannot be said in SQL, after the script.
    fill: fn(&Connection) -> Result<(), Trouble>,
}

/// The step to each schema; the first leads to 1. Those of released versions never change.
const STEPS: [Step; SCHEMA_VERSION.unsigned_abs() as usize] = [
    Step { script: include_str!("v1.sql"), fill: |_| Ok(()) },
    Step { script: include_str!("v2.sql"), fill: journals::number_all },
];

/// Marks the file as ours: "EEve". See <https://sqlite.org/pragma.html#pragma_application_id>.
const APPLICATION: i64 = 0x4545_7665;

/// How long to wait for another process that writes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Opens the database at `path`, which is created if it is not there.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    let trouble = |trouble: Trouble| trouble.at(path);
    let corrupt = |defect: &str| StoreError::Corrupt { path: path.to_owned(), defect: defect.to_owned() };
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => return Err(corrupt("it is not a file")),
        // SQLite would take an empty file for a new database and discard its log. It is made whole
        // before it gets its name, so an empty one has lost what it held.
        Ok(file) if file.len() == 0 => return Err(corrupt("it is empty")),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path)?,
        Err(error) => return Err(unusable(path, error)),
    }
    let log_is_new = fs::metadata(beside(path, "-wal")).map_or(true, |log| log.len() == 0);
    let mut db = connect(path).map_err(trouble)?;
    let (application, version) = identity(&db).map_err(trouble)?;
    if application != APPLICATION || version < 1 {
        return Err(corrupt("it is not a store of ee-deploy"));
    }
    if version > SCHEMA_VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known: SCHEMA_VERSION });
    }
    let mode: String = db
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(|error| trouble(error.into()))?;
    if mode != "wal" {
        let source = format!("its file system allows only the journal mode `{mode}`").into();
        return Err(StoreError::Io { path: path.to_owned(), source });
    }
    if log_is_new {
        // Reading has made the log. Whoever is the first to write to it has flushed its name before:
        // SQLite, as it is built here, does not.
        folder_of(path).and_then(|folder| folder.sync_all()).map_err(|error| unusable(path, error))?;
    }
    if version < SCHEMA_VERSION {
        migrate(&mut db, &STEPS).map_err(trouble)?;
    }
    Ok(db)
}

fn folder_of(path: &Path) -> io::Result<File> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder),
        _ => File::open("."),
    }
}

fn connect(path: &Path) -> Result<Connection, Trouble> {
    let db = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    db.busy_timeout(PATIENCE)?;
    // The last to leave would move the log into the database and remove it, and the next to come make
    // a new one: four syncs for every command. So it stays, and is moved when it has grown to
    // a thousand pages.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    db.set_prepared_statement_cache_capacity(64);
    Ok(db)
}

fn identity(db: &Connection) -> Result<(i64, i64), Trouble> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    Ok((pragma("application_id")?, pragma("user_version")?))
}

/// Leads the database to the newest schema that `steps` know, one transaction for each.
fn migrate(db: &mut Connection, steps: &[Step]) -> Result<(), Trouble> {
    for (number, step) in (1_i64..).zip(steps) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Asked again under the lock: another process may have been faster.
        let (_, version) = identity(&transaction)?;
        if version < number {
            transaction.execute_batch(step.script)?;
            (step.fill)(&transaction)?;
            transaction.pragma_update(None, "application_id", APPLICATION)?;
            transaction.pragma_update(None, "user_version", number)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Makes an empty store at `path`, under another name first, so that a death at any moment leaves
/// none or a whole one. What a death leaves under the other name, the next call clears away.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| unusable(path, error);
    // One creator at a time; the lock ends with the process.
    let folder = folder_of(path).map_err(failed)?;
    flock(&folder, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
    if path.exists() {
        return Ok(());
    }
    if beside(path, "-wal").exists() {
        // SQLite would apply it to the new database.
        let defect = "the database is gone, but its log (-wal) is still there".to_owned();
        return Err(StoreError::Corrupt { path: path.to_owned(), defect });
    }
    let draft = beside(path, ".new");
    for leftover in [&draft, &beside(&draft, "-wal"), &beside(&draft, "-shm"), &beside(&draft, "-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
    let fill = || -> Result<(), Trouble> {
        let mut db = connect(&draft)?;
        db.pragma_update(None, "synchronous", "OFF")?;
        migrate(&mut db, &STEPS)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.close().map_err(|(_, error)| error.into())
    };
    fill().map_err(|trouble| trouble.at(path))?;
    File::open(&draft).and_then(|file| file.sync_all()).map_err(failed)?;
    fs::rename(&draft, path).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

/// Returns the path of a file that belongs to the one at `path`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn unusable(path: &Path, error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            StoreError::Full { path: path.to_owned() }
        }
        _ => StoreError::Io { path: path.to_owned(), source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/v1.db");

    fn script(script: &'static str) -> Step {
        Step { script, fill: |_| Ok(()) }
    }

    /// Counts the entries, and those with a position.
    fn counts(db: &Connection) -> (i64, i64) {
        let count = |table| db.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0));
        (count("entries").unwrap(), count("positions").unwrap())
    }

    #[test]
    fn a_migration_happens_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        fs::write(&path, GOLDEN).unwrap();
        let mut db = connect(&path).unwrap();

        let [first, second] = STEPS;
        let broken = script("CREATE TABLE extra (id INTEGER); INSERT INTO nowhere VALUES (1);");
        migrate(&mut db, &[first, broken]).unwrap_err();
        assert_eq!(identity(&db).unwrap(), (APPLICATION, 1));
        db.execute("INSERT INTO extra VALUES (1)", []).unwrap_err();
        let unfilled = Step { fill: |_| Err(Trouble::Internal("no".into())), ..second };
        migrate(&mut db, &[first, unfilled]).unwrap_err();
        assert_eq!(identity(&db).unwrap(), (APPLICATION, 1));
        db.query_row("SELECT * FROM positions", [], |_| Ok(())).unwrap_err();

        migrate(&mut db, &[first, second, script("CREATE TABLE extra (id INTEGER)")]).unwrap();
        assert_eq!(identity(&db).unwrap(), (APPLICATION, 3));
        db.execute("INSERT INTO extra VALUES (1)", []).unwrap();
        // Again changes nothing.
        let before = counts(&db);
        migrate(&mut db, &[first, second, script("CREATE TABLE extra (id INTEGER)")]).unwrap();
        assert_eq!(counts(&db), before);
    }

    /// What the disk holds when the process dies at the last moment before the migration is committed,
    /// and all of it was written out already.
    #[test]
    fn a_migration_that_was_cut_off_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        fs::write(&path, GOLDEN).unwrap();
        let mut db = connect(&path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "cache_size", 1).unwrap();
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
        transaction.execute_batch(STEPS[1].script).unwrap();
        (STEPS[1].fill)(&transaction).unwrap();
        transaction.pragma_update(None, "user_version", 2).unwrap();
        transaction.cache_flush().unwrap();
        let dead = folder.path().join("dead");
        for suffix in ["", "-wal"] {
            fs::copy(beside(&path, suffix), beside(&dead, suffix)).unwrap();
        }
        assert!(fs::metadata(beside(&dead, "-wal")).unwrap().len() > 0);
        assert_eq!(identity(&connect(&dead).unwrap()).unwrap(), (APPLICATION, 1));
        let again = open(&dead).unwrap();
        assert_eq!(identity(&again).unwrap(), (APPLICATION, 2));
        transaction.commit().unwrap();
        assert_eq!(counts(&again), counts(&db));
        assert_eq!(counts(&db).0, counts(&db).1);
    }

    /// A time that cannot be read is in nobody's way, and journals stay in order.
    #[test]
    fn damaged_entries_of_the_old_schema_get_a_position_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        fs::write(&path, GOLDEN).unwrap();
        let db = connect(&path).unwrap();
        let change = "UPDATE entries SET doc = '{\"at\": 7' WHERE deployment = 3 AND seq = 1";
        assert_eq!(db.execute(change, []).unwrap(), 1);
        drop(db);
        let db = open(&path).unwrap();
        let (entries, positions) = counts(&db);
        assert_eq!(entries, positions);
        let order = "SELECT group_concat(doc ->> '$.seq', ' ' ORDER BY position) FROM positions \
                     WHERE doc ->> '$.deployment' = 3";
        assert_eq!(db.query_row(order, [], |row| row.get::<_, String>(0)).unwrap(), "0 1 2");
    }

    /// A process of the version before that has the database open while it is migrated.
    #[test]
    fn the_version_before_cannot_go_on_to_append() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        fs::write(&path, GOLDEN).unwrap();
        let old = connect(&path).unwrap();
        let insert = "INSERT INTO entries (deployment, seq, doc, sum) VALUES (?, 0, '{}', 0)";
        let mut statement = old.prepare(insert).unwrap();
        assert_eq!(statement.execute([70]).unwrap(), 1);
        drop(open(&path).unwrap());
        let error = statement.execute([71]).unwrap_err();
        assert!(error.to_string().contains("newer ee-deploy"), "{error}");
    }
}
