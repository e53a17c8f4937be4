//! Homes of other versions: one of the version before is brought up to date, also when it is killed
//! over it (the scenario `migrated`); one of a later version is refused and left as it is.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

use super::{
    oracle::complaint,
    scenario::SCENARIOS,
    stage,
    world::{PROJECT, World},
};

/// What schema 2 of the store added to schema 1; see `v2.sql` of `eeveon-store`.
const DOWN_TO_1: &str = "
    DROP TRIGGER entries_have_positions;
    DROP TABLE positions;
    DROP TABLE cursors;
    DROP TABLE letters;
    DROP TABLE automatic_off;
    DROP TABLE states;
    DROP TABLE deliveries;
    PRAGMA user_version = 1;
";

/// What the newest schema is that this knows how to go back from.
const KNOWN: i64 = 2;

/// Makes a store what the version before would have written.
///
/// # Errors
///
/// It is of a schema this does not know yet.
pub(crate) fn make_older(store: &Path) -> Result<()> {
    let db = Connection::open(store).with_context(|| format!("cannot open {}", store.display()))?;
    let version = schema(&db)?;
    ensure!(version == KNOWN, "the store has schema {version}: teach `skew.rs` the way back from it");
    db.execute_batch(DOWN_TO_1)?;
    Ok(())
}

fn schema(db: &Connection) -> Result<i64> {
    Ok(db.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

/// Commands that must refuse what a later version wrote.
const COMMANDS: [&[&str]; 4] = [
    &["status"],
    &["deploy", PROJECT],
    &["rollback", PROJECT, "--yes", "--reason", "skew"],
    &["config", PROJECT, "deploy.keep", "3"],
];

/// Shows every command a home of a later version, which must be refused, with what is wrong, and left
/// as it is.
///
/// # Errors
///
/// It is not.
pub(crate) fn newer_is_refused(folder: &Path, program: &Path) -> Result<()> {
    let scenario = SCENARIOS.iter().find(|it| it.name == "rollback").context("no such scenario")?;
    let stage = stage(folder, program, scenario, 0)?;
    let world = &stage.world;
    for words in COMMANDS {
        refused(world, scenario.name, "store", later_store, words)?;
    }
    // Only who changes something at the place has to know how.
    for words in COMMANDS.get(1..3).unwrap_or_default() {
        refused(world, scenario.name, "place", later_place, words)?;
    }
    println!("skew: a home of a later version is refused");
    Ok(())
}

fn refused(
    world: &World,
    kept: &str,
    what: &str,
    make: fn(&World) -> Result<()>,
    words: &[&str],
) -> Result<()> {
    world.restore(kept)?;
    make(world)?;
    let before = world.live()?;
    let ran = world.run(&words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())?;
    let command = words.join(" ");
    ensure!(!ran.status.success(), "`{command}` accepts a {what} of a later version");
    let unclear = complaint(ran.status.code(), &ran.stderr, &world.root().to_string_lossy());
    ensure!(unclear.is_empty(), "`{command}`, {what} of a later version: {unclear:?}");
    ensure!(world.live()? == before, "`{command}` changed what serves, for a {what} of a later version");
    Ok(())
}

fn later_store(world: &World) -> Result<()> {
    let db = Connection::open(world.store())?;
    let later = schema(&db)? + 1;
    Ok(db.pragma_update(None, "user_version", later)?)
}

fn later_place(world: &World) -> Result<()> {
    let path = world.site().join(".eeveon/target.json");
    let text = fs::read_to_string(&path)?;
    let later = text.replacen("\"format\": 1", "\"format\": 2", 1);
    ensure!(later != text, "{} says no format", path.display());
    Ok(fs::write(&path, later)?)
}
