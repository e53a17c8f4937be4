//! Journals: what is appended to them, what follows from it, and how they are read back, each by itself
//! or all in the order they were written.

use std::{collections::BTreeSet, path::Path};

use eeveon_core::{CommitId, DeploymentId, Entry, ProjectName, Seq};
use rusqlite::{Connection, Row, types::Value};
use serde::{Deserialize, Serialize};

use super::{
    rows::{DEPLOYMENTS, ENTRIES, Key, LEASES, POSITIONS, QUARANTINE, RELEASES, Sound},
    trouble::Trouble,
};
use crate::{
    Followed, Lease, Position, Quarantined, StoreError,
    lease::Newest,
    project::{self, Summary},
};

/// What is at a position. Its JSON form is stored.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Place {
    deployment: DeploymentId,
    seq: Seq,
}

pub(super) fn append(db: &Connection, entry: &Entry, lease: Option<&Lease>) -> Result<(), Trouble> {
    let conflict = StoreError::Conflict { deployment: entry.deployment, at: entry.seq };
    if let Some(lease) = lease
        && !newest(db, &lease.name)?.is_some_and(|newest| newest.is(lease))
    {
        return Err(conflict.into());
    }
    let follows = project::follow(summary(db, entry.deployment)?, entry)?;
    let (deployment, at) = (Key::Number(entry.deployment.0), Key::Number(entry.seq.0));
    number(db, Place { deployment: entry.deployment, seq: entry.seq })?;
    if !ENTRIES.add(db, &[deployment, at], entry)? {
        return Err(conflict.into());
    }
    DEPLOYMENTS.put(db, &[deployment], &follows.summary)?;
    let release = &follows.summary.deployment.release;
    let (project, key) =
        (&release.project, [Key::Text(release.project.as_str()), Key::Number(release.number.0)]);
    if let Some(release) = &follows.release {
        RELEASES.add(db, &key, release)?;
    }
    if let Some(status) = follows.settled
        && let Some(mut known) = RELEASES.get(db, &key)?
    {
        project::settle(&mut known, entry.deployment, status);
        RELEASES.put(db, &key, &known)?;
    }
    for commit in &follows.lift {
        lift(db, project, commit)?;
    }
    for what in &follows.put_aside {
        put_aside(db, project, what)?;
    }
    Ok(())
}

/// Reads a journal. Runs in a transaction: its length is compared with its summary's.
pub(super) fn journal_of(
    db: &Connection,
    deployment: DeploymentId,
    from: Seq,
) -> Result<Vec<Entry>, Trouble> {
    let damaged = || Trouble::Damaged(format!("the journal of deployment {deployment} has lost entries"));
    let end = summary(db, deployment)?.map_or(Seq::default(), |summary| summary.next);
    let Ok(start) = i64::try_from(from.0) else { return Ok(Vec::new()) };
    let id = i64::try_from(deployment.0).unwrap_or(i64::MAX);
    let rows = ENTRIES.select(db, "WHERE deployment = ? AND seq >= ? ORDER BY seq", [id, start])?;
    if u64::try_from(rows.len()) != Ok(end.0.saturating_sub(from.0)) {
        return Err(damaged());
    }
    let mut journal = Vec::with_capacity(rows.len());
    let mut next = from;
    for row in &rows {
        if row.key.get(1) != i64::try_from(next.0).ok().map(Value::Integer).as_ref() {
            return Err(damaged());
        }
        journal.push(understand(row, deployment, next)?);
        next = next.next();
    }
    Ok(journal)
}

pub(super) fn summary(db: &Connection, id: DeploymentId) -> Result<Option<Summary>, Trouble> {
    DEPLOYMENTS.get(db, &[Key::Number(id.0)])
}

/// Returns the position of the newest entry, zero if there is none.
pub(super) fn newest_position(db: &Connection) -> Result<Position, Trouble> {
    let newest = POSITIONS.select(db, "ORDER BY position DESC LIMIT 1", [])?;
    let number = newest.first().and_then(|row| match row.key.first() {
        Some(Value::Integer(number)) => u64::try_from(*number).ok(),
        _ => None,
    });
    Ok(Position(number.unwrap_or(0)))
}

/// Gives the next position to an entry that is about to be stored.
fn number(db: &Connection, place: Place) -> Result<(), Trouble> {
    let next = newest_position(db)?.0.saturating_add(1);
    match POSITIONS.add(db, &[Key::Number(next)], &place)? {
        true => Ok(()),
        false => Err(Trouble::Internal("there are no positions left".into())),
    }
}

/// Reads the entries after a position, at most `limit`; see [`crate::Store::follow`]. Runs in a
/// transaction: positions have no gaps, so that what is not there was lost.
pub(super) fn follow(
    db: &Connection,
    path: &Path,
    after: Position,
    limit: u32,
) -> Result<Vec<Followed>, Trouble> {
    let last = newest_position(db)?.0.min(after.0.saturating_add(u64::from(limit)));
    let mut followed = Vec::new();
    for position in after.0.saturating_add(1)..=last {
        let entry = match at(db, position) {
            Err(trouble) if trouble.defect().is_none() && !matches!(trouble, Trouble::Store(_)) => {
                return Err(trouble);
            }
            entry => entry.map_err(|trouble| trouble.at(path)),
        };
        followed.push((Position(position), entry));
    }
    Ok(followed)
}

fn at(db: &Connection, position: u64) -> Result<Entry, Trouble> {
    let lost = || Trouble::Damaged(format!("the entry at position {position} is lost"));
    let Place { deployment, seq } = POSITIONS.get(db, &[Key::Number(position)])?.ok_or_else(lost)?;
    let row = ENTRIES.find(db, &[Key::Number(deployment.0), Key::Number(seq.0)])?.ok_or_else(lost)?;
    understand(&row, deployment, seq)
}

fn understand(row: &Sound, deployment: DeploymentId, at: Seq) -> Result<Entry, Trouble> {
    serde_json::from_str(&row.doc).map_err(|source| StoreError::Unreadable { deployment, at, source }.into())
}

/// Gives positions to the entries of schema 1, in the order of their times. Within a journal that is the
/// order of the entries, whatever the times say, and also where one is damaged.
pub(super) fn number_all(db: &Connection) -> Result<(), Trouble> {
    let mut statement = db.prepare(
        "SELECT deployment, seq FROM (
             SELECT deployment, seq,
                 max(CASE WHEN json_valid(doc) THEN rtrim(doc ->> '$.at', 'Z') END)
                     OVER (PARTITION BY deployment ORDER BY seq) AS reached
             FROM entries WHERE deployment >= 0 AND seq >= 0
         ) ORDER BY reached, deployment, seq",
    )?;
    let mut rows = statement.query([])?;
    let mut position = 0_u64;
    while let Some(row) = rows.next()? {
        let place = place(row)?;
        position = position.saturating_add(1);
        POSITIONS.add(db, &[Key::Number(position)], &place)?;
    }
    Ok(())
}

fn place(row: &Row<'_>) -> Result<Place, Trouble> {
    let [deployment, seq] = [row.get::<_, i64>(0)?, row.get(1)?].map(u64::try_from);
    let damaged = |_| Trouble::Damaged(String::from("an entry has a key that none can have"));
    Ok(Place { deployment: DeploymentId(deployment.map_err(damaged)?), seq: Seq(seq.map_err(damaged)?) })
}

/// Returns one line for each entry that has not exactly one position.
pub(super) fn defects(db: &Connection) -> Result<Vec<String>, Trouble> {
    let name = |place: &Place| format!("entry {} of deployment {}", place.seq, place.deployment);
    let (mut defects, mut numbered, mut expected) = (Vec::new(), BTreeSet::new(), 1);
    for row in POSITIONS.select(db, "ORDER BY position", [])? {
        let place: Place = POSITIONS.parse(&row)?;
        if row.key.first() != Some(&Value::Integer(expected)) {
            defects.push(format!("{} does not follow the one before", POSITIONS.title(&row.key)));
        }
        if let Some(Value::Integer(position)) = row.key.first() {
            expected = position.saturating_add(1);
        }
        if !numbered.insert(place) {
            defects.push(format!("{} has two positions", name(&place)));
        }
    }
    let mut statement = db.prepare("SELECT deployment, seq FROM entries")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let place = place(row)?;
        if !numbered.remove(&place) {
            defects.push(format!("{} has no position", name(&place)));
        }
    }
    defects.extend(numbered.iter().map(|place| format!("{} has a position, but is lost", name(place))));
    Ok(defects)
}

pub(super) fn newest(db: &Connection, lease: &str) -> Result<Option<Newest>, Trouble> {
    LEASES.get(db, &[Key::Text(lease)])
}

pub(super) fn put_aside(db: &Connection, project: &ProjectName, what: &Quarantined) -> Result<(), Trouble> {
    QUARANTINE.add(db, &[Key::Text(project.as_str()), Key::Text(what.commit.as_str())], what)?;
    Ok(())
}

pub(super) fn lift(db: &Connection, project: &ProjectName, commit: &CommitId) -> Result<bool, Trouble> {
    QUARANTINE.remove(db, &[Key::Text(project.as_str()), Key::Text(commit.as_str())])
}
