//! Licences, bans, sources and advisories of everything depended on, checked by cargo-deny.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use crate::{run, workspace::Workspace};

/// The version that is installed where there is none.
const VERSION: &str = "0.20.2";

/// How long the database of advisories may take to come.
const FETCH: Duration = Duration::from_secs(90);

/// Runs cargo-deny. Without a database of advisories, and none to be had, it leaves that part out
/// and says so.
pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let deny = run::install(workspace, "cargo-deny", VERSION)?;
    let command = |words: &[&str]| {
        let mut command = workspace.command(&deny.to_string_lossy());
        command.args(["--locked"]).args(words);
        command
    };
    run::stream(&mut command(&["check", "--hide-inclusion-graph", "bans", "licenses", "sources"]))?;

    let mut fetch = command(&["fetch", "db"]);
    // The git it starts gives up by itself on a line that is dead.
    fetch.env("GIT_HTTP_LOW_SPEED_LIMIT", "1000").env("GIT_HTTP_LOW_SPEED_TIME", "20");
    let fetched = run::stream_within(&mut fetch, FETCH);
    if let Err(error) = &fetched
        && !has_database()
    {
        println!("SKIPPED: advisories were not checked, their database is out of reach: {error:#}");
        return Ok(());
    }
    run::stream(&mut command(&["check", "--disable-fetch", "advisories"]))
}

/// Tells whether an earlier fetch left a database.
fn has_database() -> bool {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let filled =
        |folder: &Path| fs::read_dir(folder).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok()));
    home.is_some_and(|home| {
        let databases = fs::read_dir(home.join("advisory-dbs")).into_iter().flatten().flatten();
        databases.into_iter().any(|database| filled(&database.path().join(".git")))
    })
}
