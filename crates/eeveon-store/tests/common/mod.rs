//! What several tests do to a database behind the store's back.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use eeveon_core::{DeploymentId, Seq};

/// Puts another document into an entry, with the checksum it would have if it had been stored so.
pub(crate) fn replace_entry(path: &Path, deployment: DeploymentId, at: Seq, doc: &str) {
    let sum = crc32fast::hash(format!("entries\0{deployment}\0{at}\0{doc}\0").as_bytes());
    let db = rusqlite::Connection::open(path).unwrap();
    let sql = "UPDATE entries SET doc = ?, sum = ? WHERE deployment = ? AND seq = ?";
    let (id, at) = (i64::try_from(deployment.0).unwrap(), i64::try_from(at.0).unwrap());
    assert_eq!(db.execute(sql, (doc, sum, id, at)).unwrap(), 1);
}
