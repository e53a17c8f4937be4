//! Rows: JSON documents under a key, each with a checksum.

use rusqlite::{Connection, Params, Row, params_from_iter, types::Value};
use serde::{Serialize, de::DeserializeOwned};

use super::trouble::Trouble;

/// One table and the columns of its key.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static [&'static str],
}

pub(super) const COUNTERS: Table = Table { name: "counters", key: &["name"] };
pub(super) const ENTRIES: Table = Table { name: "entries", key: &["deployment", "seq"] };
pub(super) const DEPLOYMENTS: Table = Table { name: "deployments", key: &["id"] };
pub(super) const RELEASES: Table = Table { name: "releases", key: &["project", "number"] };
pub(super) const QUARANTINE: Table = Table { name: "quarantine", key: &["project", "commit_id"] };
pub(super) const LEASES: Table = Table { name: "leases", key: &["name"] };
pub(super) const CANCELS: Table = Table { name: "cancel_requests", key: &["deployment"] };
pub(super) const POSITIONS: Table = Table { name: "positions", key: &["position"] };
pub(super) const CURSORS: Table = Table { name: "cursors", key: &["follower"] };
pub(super) const LETTERS: Table = Table { name: "letters", key: &["id"] };
pub(super) const AUTOMATIC_OFF: Table = Table { name: "automatic_off", key: &["project"] };
pub(super) const STATES: Table = Table { name: "states", key: &["key"] };
pub(super) const DELIVERIES: Table =
    Table { name: "deliveries", key: &["project", "number", "provider", "id"] };
pub(super) const ALL: [&Table; 13] = [
    &COUNTERS,
    &ENTRIES,
    &DEPLOYMENTS,
    &RELEASES,
    &QUARANTINE,
    &LEASES,
    &CANCELS,
    &POSITIONS,
    &CURSORS,
    &LETTERS,
    &AUTOMATIC_OFF,
    &STATES,
    &DELIVERIES,
];

/// Part of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Key<'a> {
    Number(u64),
    Text(&'a str),
}

impl Key<'_> {
    fn value(self) -> Result<Value, Trouble> {
        match self {
            // Numbers count up from one: none comes near the largest that SQLite can hold.
            Key::Number(number) => i64::try_from(number)
                .map(Value::Integer)
                .map_err(|_| Trouble::Internal(format!("the number {number} is too large").into())),
            Key::Text(text) => Ok(Value::Text(text.to_owned())),
        }
    }
}

/// A row whose checksum was right.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) key: Vec<Value>,
    pub(super) doc: String,
}

impl Table {
    /// Returns the document under `key`.
    pub(super) fn get<T: DeserializeOwned>(
        &self,
        db: &Connection,
        key: &[Key<'_>],
    ) -> Result<Option<T>, Trouble> {
        self.find(db, key)?.map(|row| self.parse(&row)).transpose()
    }

    /// Returns the row under `key`, checked but not yet understood.
    pub(super) fn find(&self, db: &Connection, key: &[Key<'_>]) -> Result<Option<Sound>, Trouble> {
        let found = self.select(db, &format!("WHERE {}", self.matches()), params_from_iter(values(key)?))?;
        Ok(found.into_iter().next())
    }

    /// Returns the documents that `clause`, the rest of a SELECT statement, names.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        db: &Connection,
        clause: &str,
        params: impl Params,
    ) -> Result<Vec<T>, Trouble> {
        self.select(db, clause, params)?.iter().map(|row| self.parse(row)).collect()
    }

    /// Returns the rows that `clause` names, checked but not yet understood.
    pub(super) fn select(
        &self,
        db: &Connection,
        clause: &str,
        params: impl Params,
    ) -> Result<Vec<Sound>, Trouble> {
        let mut found = Vec::new();
        let mut statement = db.prepare_cached(&self.selection(clause))?;
        let mut rows = statement.query(params)?;
        while let Some(row) = rows.next()? {
            found.push(self.check(row)?);
        }
        Ok(found)
    }

    /// Checks every row; returns a line for each that is damaged.
    pub(super) fn defects(&self, db: &Connection) -> Result<Vec<String>, Trouble> {
        let mut defects = Vec::new();
        let mut statement = db.prepare(&self.selection(""))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if let Err(trouble) = self.check(row) {
                defects.push(trouble.defect().ok_or(trouble)?);
            }
        }
        Ok(defects)
    }

    /// Stores a document under `key`, in place of the one that may be there.
    pub(super) fn put<T: Serialize>(
        &self,
        db: &Connection,
        key: &[Key<'_>],
        value: &T,
    ) -> Result<(), Trouble> {
        self.write(db, key, value, "DO UPDATE SET doc = excluded.doc, sum = excluded.sum")?;
        Ok(())
    }

    /// Stores a document unless there is one under `key`. Returns whether there was none.
    pub(super) fn add<T: Serialize>(
        &self,
        db: &Connection,
        key: &[Key<'_>],
        value: &T,
    ) -> Result<bool, Trouble> {
        Ok(self.write(db, key, value, "DO NOTHING")? == 1)
    }

    /// Removes the document under `key`. Returns whether there was one.
    pub(super) fn remove(&self, db: &Connection, key: &[Key<'_>]) -> Result<bool, Trouble> {
        let sql = format!("DELETE FROM {} WHERE {}", self.name, self.matches());
        Ok(db.prepare_cached(&sql)?.execute(params_from_iter(values(key)?))? == 1)
    }

    /// Reads a document that was checked.
    pub(super) fn parse<T: DeserializeOwned>(&self, row: &Sound) -> Result<T, Trouble> {
        serde_json::from_str(&row.doc)
            .map_err(|error| Trouble::Damaged(format!("{} is not understood: {error}", self.title(&row.key))))
    }

    /// Names a row for people.
    pub(super) fn title(&self, key: &[Value]) -> String {
        let key: Vec<_> = key.iter().map(text).collect();
        format!("row {} of {}", eeveon_core::untrusted::printable(&key.join("/")), self.name)
    }

    fn write<T: Serialize>(
        &self,
        db: &Connection,
        key: &[Key<'_>],
        value: &T,
        otherwise: &str,
    ) -> Result<usize, Trouble> {
        let columns = self.key.join(", ");
        let marks = "?, ".repeat(self.key.len());
        let sql = format!(
            "INSERT INTO {} ({columns}, doc, sum) VALUES ({marks}?, ?) ON CONFLICT ({columns}) {otherwise}",
            self.name
        );
        let doc = serde_json::to_string(value).map_err(|error| Trouble::Internal(error.into()))?;
        let mut values = values(key)?;
        let sum = self.checksum(&values, &doc);
        values.extend([Value::Text(doc), Value::Integer(sum)]);
        Ok(db.prepare_cached(&sql)?.execute(params_from_iter(values))?)
    }

    fn selection(&self, clause: &str) -> String {
        format!("SELECT {}, doc, sum FROM {} {clause}", self.key.join(", "), self.name)
    }

    fn matches(&self) -> String {
        format!("{} = ?", self.key.join(" = ? AND "))
    }

    fn check(&self, row: &Row<'_>) -> Result<Sound, Trouble> {
        let width = self.key.len();
        let key = (0..width).map(|column| row.get(column)).collect::<Result<Vec<Value>, _>>()?;
        let unsound = |_| Trouble::Damaged(format!("{} is damaged", self.title(&key)));
        let doc: String = row.get(width).map_err(unsound)?;
        let sum: i64 = row.get(width.saturating_add(1)).map_err(unsound)?;
        match self.checksum(&key, &doc) == sum {
            true => Ok(Sound { key, doc }),
            false => Err(Trouble::Damaged(format!("{} is damaged: its checksum is wrong", self.title(&key)))),
        }
    }

    /// Computes the checksum of a row: CRC-32 (IEEE 802.3) over the table's name, the key and the
    /// document, each followed by a zero byte.
    fn checksum(&self, key: &[Value], doc: &str) -> i64 {
        let mut hasher = crc32fast::Hasher::new();
        let mut add = |part: &str| {
            hasher.update(part.as_bytes());
            hasher.update(&[0]);
        };
        add(self.name);
        key.iter().for_each(|part| add(&text(part)));
        add(doc);
        i64::from(hasher.finalize())
    }
}

fn values(key: &[Key<'_>]) -> Result<Vec<Value>, Trouble> {
    key.iter().map(|part| part.value()).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        // No key is of another type, unless it is damaged.
        Value::Null | Value::Real(_) | Value::Blob(_) => String::from("?"),
    }
}
