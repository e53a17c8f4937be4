//! Looking after the database: is everything whole, and can it be smaller?

use std::{fs, path::Path};

use eeveon_core::{Entry, Seq, State};
use rusqlite::Connection;

use super::{
    journals::{self, journal_of},
    outbox,
    rows::{ALL, COUNTERS, DEPLOYMENTS, Key},
    schema::beside,
    trouble::Trouble,
};
use crate::project::Summary;

/// Returns one line per defect.
pub(super) fn verify(db: &Connection) -> Result<Vec<String>, Trouble> {
    let mut defects = structure(db)?;
    for table in ALL {
        defects.extend(table.defects(db)?);
    }
    if !defects.is_empty() {
        // What is built on damaged rows would only repeat them.
        return Ok(defects);
    }
    defects.extend(journals::defects(db)?);
    defects.extend(outbox::defects(db)?);
    let newest: Option<u64> = COUNTERS.get(db, &[Key::Text("deployment")])?;
    for row in DEPLOYMENTS.select(db, "ORDER BY id", [])? {
        let summary: Summary = DEPLOYMENTS.parse(&row)?;
        let id = summary.deployment.id;
        if newest.is_none_or(|newest| id.0 > newest) {
            defects.push(format!("deployment {id} has a number that was never given out"));
        }
        if summary.deployment.outcome.is_none() {
            match journal_of(db, id, Seq::default()) {
                Ok(journal) => {
                    defects.extend(fold(&journal).map(|defect| format!("deployment {id}: {defect}")))
                }
                Err(trouble) => defects.push(match trouble {
                    Trouble::Store(error) => error.to_string(),
                    trouble => trouble.defect().ok_or(trouble)?,
                }),
            }
        }
    }
    Ok(defects)
}

/// Lets SQLite look at the structure of the file: <https://sqlite.org/pragma.html#pragma_integrity_check>.
fn structure(db: &Connection) -> Result<Vec<String>, Trouble> {
    let mut statement = db.prepare("PRAGMA integrity_check")?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    // A finding can have several lines.
    let lines = lines.iter().flat_map(|finding| finding.lines()).filter(|line| *line != "ok");
    Ok(lines.map(eeveon_core::untrusted::printable).collect())
}

fn fold(journal: &[Entry]) -> Option<String> {
    let mut state = State::default();
    journal.iter().find_map(|entry| {
        let illegal = state.apply(&entry.record).err()?;
        Some(format!("entry {}: {illegal}", entry.seq))
    })
}

/// Gives unused pages back to the file system; returns how many bytes that were.
pub(super) fn vacuum(db: &Connection, path: &Path) -> Result<u64, Trouble> {
    let before = size(path);
    // In WAL mode the new content goes to the log first, and the file shrinks when the log is moved.
    db.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
    Ok(before.saturating_sub(size(path)))
}

fn size(path: &Path) -> u64 {
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    length(path).saturating_add(length(&beside(path, "-wal")))
}
