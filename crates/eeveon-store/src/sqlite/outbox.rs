//! Cursors and letters of those who follow the journals.

use std::collections::BTreeSet;

use eeveon_core::ProjectName;
use jiff::Timestamp;
use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::{
    journals,
    rows::{AUTOMATIC_OFF, COUNTERS, CURSORS, DELIVERIES, Key, LETTERS, QUARANTINE},
    trouble::Trouble,
};
use crate::{
    DEAD_LETTERS_KEPT, LETTERS_KEPT, Letter, LetterEnd, LetterFilter, LetterState, NewLetter, Position,
};

/// The counter of letters.
const LETTER: [Key<'_>; 1] = [Key::Text("letter")];

pub(super) fn cursor(db: &Connection, follower: &str) -> Result<Option<Position>, Trouble> {
    CURSORS.get(db, &[Key::Text(follower)])
}

pub(super) fn post(
    db: &Connection,
    follower: &str,
    upto: Position,
    letters: &[NewLetter],
) -> Result<bool, Trouble> {
    let cursor = cursor(db, follower)?;
    if cursor.is_some_and(|cursor| upto <= cursor) {
        return Ok(false);
    }
    CURSORS.put(db, &[Key::Text(follower)], &upto)?;
    let new = letters.iter().filter(|letter| cursor.is_none_or(|cursor| letter.position > cursor));
    add(db, follower, new)?;
    Ok(true)
}

pub(super) fn replace(db: &Connection, id: u64, by: &[NewLetter]) -> Result<bool, Trouble> {
    let key = [Key::Number(id)];
    let old = LETTERS.get::<Letter>(db, &key)?.filter(|letter| letter.state == LetterState::Waiting);
    let Some(old) = old else { return Ok(false) };
    LETTERS.remove(db, &key)?;
    add(db, &old.follower, by.iter())?;
    Ok(true)
}

/// Takes in the letters that are not there already.
pub(super) fn add<'a>(
    db: &Connection,
    follower: &str,
    letters: impl Iterator<Item = &'a NewLetter>,
) -> Result<(), Trouble> {
    let mut last: u64 = COUNTERS.get(db, &LETTER)?.unwrap_or(0);
    let mut projects = BTreeSet::new();
    for new in letters {
        let same = params![follower, new.project.as_str(), new.channel, new.key];
        let once = "WHERE follower = ? AND project = ? AND channel = ? AND key = ?";
        if !LETTERS.select(db, once, same)?.is_empty() {
            continue;
        }
        last = last.checked_add(1).ok_or_else(|| Trouble::Internal("there are no numbers left".into()))?;
        if !LETTERS.add(db, &[Key::Number(last)], &Letter::new(last, follower, new))? {
            return Err(Trouble::Damaged(format!("letter {last} has a number that was never given out")));
        }
        projects.insert(&new.project);
    }
    if !projects.is_empty() {
        COUNTERS.put(db, &LETTER, &last)?;
    }
    for project in projects {
        crowd_out(db, project)?;
    }
    Ok(())
}

/// Turns the oldest waiting letters of a project into dead ones, if there are too many.
fn crowd_out(db: &Connection, project: &ProjectName) -> Result<(), Trouble> {
    let [waiting, sending] =
        [count(db, project, LetterState::Waiting)?, count(db, project, LetterState::Sending)?];
    let excess = waiting.saturating_add(sending).saturating_sub(LETTERS_KEPT);
    let oldest = "WHERE project = ? AND state = 'waiting' ORDER BY id LIMIT ?";
    for mut letter in LETTERS.list::<Letter>(db, oldest, params![project.as_str(), limit(excess)])? {
        letter.crowd_out();
        LETTERS.put(db, &[Key::Number(letter.id)], &letter)?;
    }
    bury(db, project)
}

/// Removes the oldest dead letters of a project, if there are too many.
fn bury(db: &Connection, project: &ProjectName) -> Result<(), Trouble> {
    let excess = count(db, project, LetterState::Dead)?.saturating_sub(DEAD_LETTERS_KEPT);
    let sql = "DELETE FROM letters WHERE id IN \
               (SELECT id FROM letters WHERE project = ? AND state = 'dead' ORDER BY id LIMIT ?)";
    db.prepare_cached(sql)?.execute(params![project.as_str(), limit(excess)])?;
    Ok(())
}

fn count(db: &Connection, project: &ProjectName, state: LetterState) -> Result<usize, Trouble> {
    let sql = "SELECT count(*) FROM letters WHERE project = ? AND state = ?";
    let count: i64 =
        db.prepare_cached(sql)?.query_row([project.as_str(), state.as_str()], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

pub(super) fn letters(db: &Connection, filter: &LetterFilter) -> Result<Vec<Letter>, Trouble> {
    let mut clause = String::from("WHERE follower = ?");
    let mut params = vec![Value::Text(filter.follower.clone())];
    let mut only = |condition: &str, value: Option<String>| {
        if let Some(value) = value {
            clause.push_str(" AND ");
            clause.push_str(condition);
            params.push(Value::Text(value));
        }
    };
    only("project = ?", filter.project.as_ref().map(ToString::to_string));
    only("channel = ?", filter.channel.clone());
    only("state = ?", filter.state.map(|state| state.as_str().to_owned()));
    only("due <= ?", filter.due_by.map(sortable));
    clause.push_str(" ORDER BY id LIMIT ?");
    params.push(Value::Integer(match filter.limit {
        0 => i64::MAX,
        limit => i64::from(limit),
    }));
    LETTERS.list(db, &clause, params_from_iter(params))
}

pub(super) fn next_due(db: &Connection, follower: &str) -> Result<Option<Timestamp>, Trouble> {
    let first = "WHERE follower = ? AND state = 'waiting' ORDER BY due LIMIT 1";
    let found: Vec<Letter> = LETTERS.list(db, first, [follower])?;
    Ok(found.first().map(|letter| letter.due_at))
}

/// Changes a letter if there is one and `change` says so; returns it then.
pub(super) fn change(
    db: &Connection,
    id: u64,
    change: impl FnOnce(&mut Letter) -> bool,
) -> Result<Option<Letter>, Trouble> {
    let key = [Key::Number(id)];
    let Some(mut letter) = LETTERS.get::<Letter>(db, &key)? else { return Ok(None) };
    if !change(&mut letter) {
        return Ok(None);
    }
    LETTERS.put(db, &key, &letter)?;
    Ok(Some(letter))
}

pub(super) fn settle(db: &Connection, id: u64, end: LetterEnd) -> Result<bool, Trouble> {
    let changed = match end {
        LetterEnd::Delivered => return remove(db, id),
        LetterEnd::Later { due_at, error } => change(db, id, |letter| letter.fail(Some(due_at), error))?,
        LetterEnd::Unsent { error } => change(db, id, |letter| letter.unsend(error))?,
        LetterEnd::Dead { error } => change(db, id, |letter| letter.fail(None, error))?,
    };
    if let Some(letter) = changed.as_ref().filter(|letter| letter.state == LetterState::Dead) {
        bury(db, &letter.project)?;
    }
    Ok(changed.is_some())
}

pub(super) fn remove(db: &Connection, id: u64) -> Result<bool, Trouble> {
    LETTERS.remove(db, &[Key::Number(id)])
}

pub(super) fn purge_dead(db: &Connection, before: Timestamp) -> Result<u64, Trouble> {
    let sql = "DELETE FROM letters WHERE state = 'dead' AND created < ?";
    let purged = db.prepare_cached(sql)?.execute([sortable(before)])?;
    Ok(u64::try_from(purged).unwrap_or(u64::MAX))
}

pub(super) fn forget_project(db: &Connection, project: &ProjectName) -> Result<(), Trouble> {
    for table in [&LETTERS, &DELIVERIES, &QUARANTINE, &AUTOMATIC_OFF] {
        let sql = format!("DELETE FROM {} WHERE project = ?", table.name);
        db.prepare_cached(&sql)?.execute([project.as_str()])?;
    }
    Ok(())
}

/// Returns one line for each cursor that is where no follower can have come to.
pub(super) fn defects(db: &Connection) -> Result<Vec<String>, Trouble> {
    let newest = journals::newest_position(db)?;
    let mut defects = Vec::new();
    for row in CURSORS.select(db, "ORDER BY follower", [])? {
        let cursor: Position = CURSORS.parse(&row)?;
        if cursor > newest {
            defects.push(format!("{} is beyond the newest entry", CURSORS.title(&row.key)));
        }
    }
    Ok(defects)
}

/// Writes a moment as the columns `created` and `due` do.
fn sortable(moment: Timestamp) -> String {
    moment.to_string().trim_end_matches('Z').to_owned()
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
