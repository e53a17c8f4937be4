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

use super::trouble::Trouble;
use crate::StoreError;

/// The schema this version writes. An older one is migrated when it is opened, a newer one refused.
pub const SCHEMA_VERSION: i64 = 1;

/// The script that leads to each schema from the one before; the first leads to 1. Scripts of
/// released versions never change.
const SCRIPTS: [&str; SCHEMA_VERSION.unsigned_abs() as usize] = [include_str!("v1.sql")];

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
    if version < SCHEMA_VERSION {
        migrate(&mut db, &SCRIPTS).map_err(trouble)?;
    }
    Ok(db)
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

/// Leads the database to the newest schema that `scripts` know, one transaction for each step.
fn migrate(db: &mut Connection, scripts: &[&str]) -> Result<(), Trouble> {
    for (number, script) in (1_i64..).zip(scripts) {
        let step = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Asked again under the lock: another process may have been faster.
        let (_, version) = identity(&step)?;
        if version < number {
            step.execute_batch(script)?;
            step.pragma_update(None, "application_id", APPLICATION)?;
            step.pragma_update(None, "user_version", number)?;
        }
        step.commit()?;
    }
    Ok(())
}

/// Makes an empty store at `path`, under another name first, so that a death at any moment leaves
/// none or a whole one. What a death leaves under the other name, the next call clears away.
fn create(path: &Path) -> Result<(), StoreError> {
    let failed = |error: io::Error| unusable(path, error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // One creator at a time; the lock ends with the process.
    let folder = File::open(folder).map_err(failed)?;
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
        migrate(&mut db, &SCRIPTS)?;
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

    #[test]
    fn a_migration_happens_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("db");
        drop(open(&path).unwrap());
        let mut db = connect(&path).unwrap();

        let broken = "CREATE TABLE extra (id INTEGER); INSERT INTO nowhere VALUES (1);";
        migrate(&mut db, &[SCRIPTS[0], broken]).unwrap_err();
        assert_eq!(identity(&db).unwrap(), (APPLICATION, 1));
        db.execute("INSERT INTO extra VALUES (1)", []).unwrap_err();

        migrate(&mut db, &[SCRIPTS[0], "CREATE TABLE extra (id INTEGER)"]).unwrap();
        assert_eq!(identity(&db).unwrap(), (APPLICATION, 2));
        db.execute("INSERT INTO extra VALUES (1)", []).unwrap();
        // Again changes nothing.
        migrate(&mut db, &[SCRIPTS[0], "CREATE TABLE extra (id INTEGER)"]).unwrap();
    }
}
