//! Deliveries of webhooks, and small states.

use eeveon_core::ProjectName;
use rusqlite::{Connection, params};

use super::{
    rows::{DELIVERIES, Key, STATES},
    trouble::Trouble,
};
use crate::{
    DELIVERIES_KEPT, Delivery,
    inbox::{check_delivery, check_states},
};

pub(super) fn state(db: &Connection, key: &str) -> Result<Option<String>, Trouble> {
    STATES.get(db, &[Key::Text(key)])
}

pub(super) fn save(db: &Connection, states: &[(String, Option<String>)]) -> Result<(), Trouble> {
    check_states(states)?;
    for (key, value) in states {
        let key = [Key::Text(key)];
        match value {
            Some(value) => STATES.put(db, &key, value)?,
            None => STATES.remove(db, &key).map(drop)?,
        }
    }
    Ok(())
}

pub(super) fn take(
    db: &Connection,
    delivery: &Delivery,
    states: &[(String, Option<String>)],
) -> Result<bool, Trouble> {
    check_delivery(delivery)?;
    check_states(states)?;
    let Delivery { project, provider, id, .. } = delivery;
    if let Some(before) = self::delivery(db, project, provider, id)? {
        if !delivery.replaces(&before) {
            return Ok(false);
        }
        let before = "DELETE FROM deliveries WHERE project = ? AND provider = ? AND id = ?";
        db.prepare_cached(before)?.execute([project.as_str(), provider, id])?;
    }
    let newest = "SELECT coalesce(max(number), 0) FROM deliveries WHERE project = ?";
    let newest: i64 = db.prepare_cached(newest)?.query_row([project.as_str()], |row| row.get(0))?;
    let number = newest.checked_add(1).and_then(|number| u64::try_from(number).ok());
    let number = number.ok_or_else(|| Trouble::Internal("there are no numbers left".into()))?;
    let key = [Key::Text(project.as_str()), Key::Number(number), Key::Text(provider), Key::Text(id)];
    DELIVERIES.put(db, &key, delivery)?;
    save(db, states)?;
    let old = "DELETE FROM deliveries WHERE project = ?1 AND number <= \
               (SELECT number FROM deliveries WHERE project = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
    let kept = i64::try_from(DELIVERIES_KEPT).unwrap_or(i64::MAX);
    db.prepare_cached(old)?.execute(params![project.as_str(), kept])?;
    Ok(true)
}

pub(super) fn newest(db: &Connection, project: &ProjectName, limit: u32) -> Result<Vec<Delivery>, Trouble> {
    DELIVERIES.list(db, "WHERE project = ? ORDER BY number DESC LIMIT ?", params![project.as_str(), limit])
}

pub(super) fn delivery(
    db: &Connection,
    project: &ProjectName,
    provider: &str,
    id: &str,
) -> Result<Option<Delivery>, Trouble> {
    let one = "WHERE project = ? AND provider = ? AND id = ?";
    Ok(DELIVERIES.list(db, one, [project.as_str(), provider, id])?.pop())
}
