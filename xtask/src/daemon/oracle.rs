//! What must be so after everything: nothing promised is forgotten, nothing is left half-done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rusqlite::Connection;
use serde::Deserialize;

use super::{
    kills::Seed,
    place::{PATIENCE, Place},
    repo::{Files, NUMBER, Repo},
};

/// What is known of a project.
pub(crate) struct Expected<'a> {
    pub(crate) project: &'a str,
    pub(crate) repo: &'a Repo,
    /// The newest commit of its branch.
    pub(crate) commit: usize,
    /// The deliveries that were answered with 202.
    pub(crate) deliveries: Vec<String>,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How often deployments ended how.
    pub(crate) outcomes: BTreeMap<&'static str, usize>,
    /// What must not be.
    pub(crate) wrong: Vec<String>,
}

/// A line of `history --json`, as far as it matters here.
#[derive(Deserialize)]
struct Row {
    id: u64,
    outcome: Option<String>,
    waiting: Option<serde_json::Value>,
}

/// Returns which commit is live.
pub(crate) fn live(place: &Place, project: &str) -> Option<usize> {
    let number = fs::read_to_string(place.site(project).join("current").join(NUMBER)).ok()?;
    number.trim().parse().ok()
}

/// Waits until nothing runs and nothing waits.
///
/// # Errors
///
/// That never happens.
pub(crate) fn at_rest(place: &Place, expected: &[Expected<'_>]) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let mut rests = true;
        for it in expected {
            let status = place.json(&["status", it.project])?;
            rests &= ["running", "waiting"].iter().all(|key| status.get(key).is_none_or(|it| it.is_null()));
        }
        if rests {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("there is always something that runs or waits");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Judges everything, while no daemon runs.
///
/// # Errors
///
/// Something cannot be read.
pub(crate) fn judge(place: &Place, expected: &[Expected<'_>]) -> Result<Found> {
    let mut found = Found::default();
    for it in expected {
        let project = it.project;
        let now = live(place, project);
        // What the daemon died under three times waits for a person, and is on record.
        let status = place.json(&["status", project])?;
        let requests = status.get("requests").and_then(|it| it.as_array()).into_iter().flatten();
        let aside = requests.filter(|it| it.get("state").is_some_and(|it| it == "set_aside")).count();
        let lifted = lift(place, project)?;
        if aside + lifted > 0 {
            *found.outcomes.entry("set aside").or_default() += aside;
            *found.outcomes.entry("put aside").or_default() += lifted;
        } else if now != Some(it.commit) {
            found.wrong.push(format!("{project} stays behind: {now:?} is live, {} is the newest", it.commit));
        }
        if let Some(commit) = now {
            let is = read(&place.site(project).join("current"))?;
            let mut should = it.repo.files(commit)?;
            should.insert("built".to_owned(), (0o644, format!("{commit}\n").into_bytes()));
            if is != should {
                let paths: BTreeSet<&String> = is.keys().chain(should.keys()).collect();
                let other: Vec<_> =
                    paths.into_iter().filter(|path| is.get(*path) != should.get(*path)).collect();
                found.wrong.push(format!("{project} is not as pushed: {other:?}"));
            }
        }
        let rows: Vec<Row> = serde_json::from_value(place.json(&["history", project, "-n", "1000000"])?)?;
        for row in rows {
            let outcome = match (row.outcome.as_deref(), &row.waiting) {
                (Some("succeeded"), _) => "succeeded",
                // By a failure, or because the daemon died under it.
                (Some("reverted" | "cancelled"), _) => "taken back",
                (Some("refused"), _) => "refused",
                (None, Some(_)) => "parked",
                _ => "open",
            };
            if outcome == "open" {
                found.wrong.push(format!("{project}: deployment {} has no end", row.id));
            }
            *found.outcomes.entry(outcome).or_default() += 1;
        }
        let stored = deliveries(place, project)?;
        for id in &it.deliveries {
            match stored.get(id) {
                Some(1) => {}
                None => found.wrong.push(format!("{id} was taken and is not in the store")),
                Some(count) => found.wrong.push(format!("{id} is in the store {count} times")),
            }
        }
        // Nothing may be in the way of the next command.
        place.run(&["deploy", project, "--json"]).map(drop).unwrap_or_else(|error| {
            found.wrong.push(format!("{project} cannot be deployed: {error:#}"));
        });
    }
    leftovers(place, &mut found)?;
    Ok(found)
}

/// Lets commits be deployed again over which the daemon died three times, as a person would. Returns how
/// many there were.
fn lift(place: &Place, project: &str) -> Result<usize> {
    let rows = place.json(&["quarantine", project])?;
    let commits: Vec<&str> =
        rows.as_array().into_iter().flatten().filter_map(|it| it.get("revision")?.as_str()).collect();
    for commit in &commits {
        place.run(&["quarantine", project, commit, "--lift"])?;
    }
    Ok(commits.len())
}

/// Counts the deliveries of a project by their id.
///
/// # Errors
///
/// The store cannot be read.
pub(crate) fn deliveries(place: &Place, project: &str) -> Result<BTreeMap<String, i64>> {
    let db = Connection::open(place.home().join("eeveon.db"))?;
    let mut ask = db.prepare("SELECT id, count(*) FROM deliveries WHERE project = ? GROUP BY id")?;
    let rows = ask.query_map([project], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Reads all files of a folder, which has no links.
fn read(root: &Path) -> Result<Files> {
    let mut files = Files::new();
    let root = root.canonicalize()?;
    each(&root, &mut |path| {
        let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
        let mode = path.symlink_metadata()?.permissions().mode() & 0o777;
        files.insert(name, (mode, fs::read(path)?));
        Ok(())
    })?;
    Ok(files)
}

fn each(folder: &Path, visit: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        match path.symlink_metadata()?.is_dir() {
            true => each(&path, visit)?,
            false => visit(&path)?,
        }
    }
    Ok(())
}

/// Finds what is only there while something is under way.
fn leftovers(place: &Place, found: &mut Found) -> Result<()> {
    let mut left = |path: &Path| found.wrong.push(format!("{} was left", path.display()));
    for site in fs::read_dir(place.site("").as_path())? {
        for release in fs::read_dir(site?.path().join("releases"))? {
            let path = release?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let number = name.strip_prefix("failed-").unwrap_or(&name);
            if number.parse::<u64>().is_err() {
                left(&path);
            }
        }
    }
    each(&place.home(), &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_under_way = [".lock", ".tmp", ".new", ".pid", ".keep"].iter().any(|end| name.ends_with(end));
        if is_under_way || name.starts_with("tmp") || name.starts_with(".tmp") {
            left(path);
        }
        Ok(())
    })
}

/// Makes the store forget something.
///
/// # Errors
///
/// There was nothing to forget.
pub(crate) fn forget(place: &Place, seed: Seed) -> Result<()> {
    let db = Connection::open(place.home().join("eeveon.db"))?;
    let count = match seed {
        Seed::Queue => db.execute("DELETE FROM states WHERE key = 'daemon/queue'", [])?,
        _ => db.execute("DELETE FROM deliveries WHERE id LIKE 'probe-%'", [])?,
    };
    match count {
        0 => bail!("there was nothing to forget"),
        _ => Ok(()),
    }
}

/// Spoils what lies in the project's folder.
///
/// # Errors
///
/// It cannot be written.
pub(crate) fn spoil(place: &Place, expected: &Expected<'_>, seed: Seed) -> Result<()> {
    let site = place.site(expected.project);
    match seed {
        Seed::Content => fs::write(site.join("current/built"), "0\n")?,
        _ => fs::create_dir(site.join("releases/.new-7"))?,
    }
    Ok(())
}
