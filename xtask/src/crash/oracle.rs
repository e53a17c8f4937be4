//! What must hold after a death or a fault: a closed set of rules about what is found on disk and
//! what the program says of it.

use std::fmt;

use serde::Deserialize;

use super::tree::Tree;

/// A deployment, as far as `history --json` matters here.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) release: u64,
    pub(crate) revision: String,
    pub(crate) outcome: Option<String>,
}

/// A release, as far as `releases --json` matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Release {
    pub(crate) release: u64,
    pub(crate) revision: Option<String>,
    pub(crate) live: bool,
    pub(crate) usable: bool,
}

/// A project, as far as `status --json` matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Status {
    pub(crate) live: Option<Live>,
    pub(crate) running: Option<serde_json::Value>,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) error: Option<String>,
}

/// What is live, as far as `status --json` matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Live {
    pub(crate) release: u64,
    pub(crate) revision: Option<String>,
}

/// What waits for a person.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) deployment: u64,
}

/// What the program says of the project.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) status: Status,
    /// Newest first.
    pub(crate) history: Vec<Row>,
    pub(crate) releases: Vec<Release>,
    /// The commits put aside.
    pub(crate) aside: Vec<String>,
}

/// What is found after one more command.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// What `current` says, if it is there.
    pub(crate) current: Option<String>,
    /// What is seen through `current`.
    pub(crate) live: Option<Tree>,
    /// What the program says; nothing when there is no such project.
    pub(crate) said: Option<Said>,
    /// What the program answers to the scenario's question, if it has one.
    pub(crate) answer: Option<String>,
    /// Every path in the home and at the project's place: `home/...` and `site/...`.
    pub(crate) names: Vec<String>,
}

/// A commit and what is deployed of it.
#[derive(Clone, Debug)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) tree: Tree,
}

/// What was there before and what the command was to bring about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// What was live before, if anything.
    pub(crate) old: Option<Commit>,
    /// What is live when the command is done, if anything else.
    pub(crate) new: Option<Commit>,
    /// The commit a deployment was asked for, if any.
    pub(crate) asked: Option<Commit>,
    /// A commit that is put aside if, and only if, the deployment ends with this outcome.
    pub(crate) puts_aside: Option<(String, &'static str)>,
    /// What the program answered before and answers when the command is done, where that is what
    /// changes.
    pub(crate) answers: Option<(String, String)>,
    /// Whether the project exists when the command is done.
    pub(crate) stays: bool,
    /// What the history was before.
    pub(crate) history: Vec<Row>,
    /// Whether the command told that it was done.
    pub(crate) told: bool,
    /// Whether the command told that it tries once more.
    pub(crate) again: bool,
    /// Whether everything is settled by now. What a failing call left may wait for the next deploy.
    pub(crate) settled: bool,
    /// Whether a person may be asked to decide.
    pub(crate) may_wait: bool,
}

impl Expected {
    /// Tells whether a deployment was asked for that fails and is taken back.
    fn reverts(&self) -> bool {
        self.asked.is_some() && self.new.is_none()
    }

    /// Returns the end of the deployment that was asked for, when nobody disturbs it.
    fn outcome(&self) -> &'static str {
        if self.reverts() { "rolled_back" } else { "succeeded" }
    }
}

/// A broken rule.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Violation {
    /// Which.
    pub(crate) rule: &'static str,
    /// How.
    pub(crate) what: String,
}

impl Violation {
    /// Builds a violation.
    pub(crate) fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// Judges what was found. Returns whether things are as before or as wanted, and every broken rule.
pub(crate) fn judge(expected: &Expected, found: &Found) -> (&'static str, Vec<Violation>) {
    let mut broken = Vec::new();
    let state = live(expected, found, &mut broken);
    if expected.settled {
        leftovers(found, &mut broken);
    }
    match &found.said {
        Some(said) => {
            status(expected, found, said, &mut broken);
            history(expected, found, said, state, &mut broken);
            if expected.settled {
                releases(found, said, &mut broken);
                aside(expected, said, &mut broken);
            }
        }
        None => forgotten(expected, found, &mut broken),
    }
    (state, broken)
}

/// What is live is exactly the old or the new release, and the new one if that was told.
fn live(expected: &Expected, found: &Found, broken: &mut Vec<Violation>) -> &'static str {
    let is = |commit: &Option<Commit>| commit.as_ref().map(|it| &it.tree) == found.live.as_ref();
    if let (Some(current), None) = (&found.current, &found.live) {
        broken.push(Violation::new("live tree", format!("`current` leads nowhere: {current}")));
    }
    let is_old = is(&expected.old);
    let answer = found.answer.as_deref().unwrap_or_default();
    let is_new = match (&expected.answers, &expected.old, &expected.new) {
        (Some((_, after)), ..) => is_old && answer == after,
        // Where nothing is live before and after, the project is what comes or goes.
        (None, None, None) => found.said.is_some() == expected.stays,
        // What fails leaves all as before.
        (None, Some(_), None) if expected.stays => false,
        (None, ..) => is(&expected.new),
    };
    if is_new {
        return "new";
    }
    // What could not be taken back serves until a person sees to it.
    if expected.may_wait && expected.reverts() && is(&expected.asked) {
        return "stuck";
    }
    if !is_old {
        let empty = Tree::default();
        let seen = found.live.as_ref().unwrap_or(&empty);
        let [old, new] = [&expected.old, &expected.new]
            .map(|commit| seen.difference(commit.as_ref().map_or(&empty, |it| &it.tree)));
        broken.push(Violation::new("live tree", format!("neither old ({old}) nor new ({new})")));
        return "neither";
    }
    if let Some((before, after)) = expected.answers.as_ref().filter(|(before, _)| before != answer) {
        let what = format!("it answers {answer:?}: neither {before:?} nor {after:?}");
        broken.push(Violation::new("answer", what));
        return "neither";
    }
    if expected.told && !expected.reverts() {
        broken.push(Violation::new("acknowledged", "the command told it was done, and all is as before"));
    }
    "old"
}

/// Before any other command is run, too, what serves is whole: what served before, or what was asked
/// for. Nobody may be there to run one.
pub(crate) fn serves(expected: &Expected, live: &Option<Tree>) -> Option<Violation> {
    let commits = [&expected.old, &expected.new, &expected.asked].into_iter().flatten();
    let whole = match live {
        Some(tree) => commits.into_iter().any(|commit| commit.tree == *tree),
        None => expected.old.is_none() || !expected.stays,
    };
    // A purge takes the whole place away, in any order.
    (!whole && expected.stays).then(|| {
        let what = live.as_ref().map_or("nothing".to_owned(), |tree| {
            let old = expected.old.as_ref().map(|it| &it.tree);
            format!("something else: {}", tree.difference(old.unwrap_or(&Tree::default())))
        });
        Violation::new("serves", format!("right after it, what serves is {what}"))
    })
}

/// Nothing is there but what belongs there: no temporary file, no lock, no half-made folder.
fn leftovers(found: &Found, broken: &mut Vec<Violation>) {
    let mut told: Option<&String> = None;
    for path in found.names.iter().filter(|path| !belongs(path)) {
        // What is in a leftover is one, too; the folder says it all.
        if told.is_some_and(|above| path.strip_prefix(above.as_str()).is_some_and(|it| it.starts_with('/'))) {
            continue;
        }
        told = Some(path);
        broken.push(Violation::new("leftover", path));
    }
}

/// Tells whether a path is one a home or a project's place has when nobody is at work.
fn belongs(path: &str) -> bool {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let hex = |text: &str| text.len() == 40 && text.bytes().all(|it| it.is_ascii_hexdigit());
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["home" | "site"]
        | ["home", "id" | "ballast" | "eeveon.db" | "eeveon.db-wal" | "eeveon.db-shm"]
        | ["home", "projects" | "logs" | "sources" | "keys"]
        | ["home", "projects", "app.toml"]
        | ["home", "sources", "app.git"]
        | [
            "home",
            "sources",
            "app.git",
            "HEAD" | "config" | "eeveon.json" | "shallow" | "objects" | "refs",
        ]
        | ["home", "sources", "app.git", "objects", "info" | "pack"]
        | ["home", "sources", "app.git", "refs", "heads" | "tags" | "eeveon"]
        | ["home", "sources", "app.git", "refs", "eeveon", "releases" | "fetched"]
        | ["site", "current" | "releases" | "shared" | ".eeveon"]
        | ["site", ".eeveon", "fence" | "lock" | "target.json" | "ledger" | "manifests"]
        | ["site", "shared", ..] => true,
        ["home", "logs", deployment, ..] => number(deployment),
        ["home", "sources", "app.git", "objects", "pack", pack] => {
            let name = pack.strip_suffix(".pack").or(pack.strip_suffix(".idx"));
            name.and_then(|name| name.strip_prefix("pack-")).is_some_and(hex)
        }
        ["home", "sources", "app.git", "refs", "eeveon", "releases", release] => number(release),
        ["home", "sources", "app.git", "refs", "eeveon", "fetched", commit] => hex(commit),
        ["site", "releases", release, ..] | ["site", ".eeveon", "manifests", release] => {
            number(release.strip_prefix("failed-").unwrap_or(release))
        }
        _ => false,
    }
}

/// Nothing runs, nobody is asked, and what is said to be live is.
fn status(expected: &Expected, found: &Found, said: &Said, broken: &mut Vec<Violation>) {
    let mut complain = |what: String| broken.push(Violation::new("status", what));
    let Status { live, running, waiting, error } = &said.status;
    if let Some(running) = running {
        complain(format!("something still runs: {running}"));
    }
    if let Some(waiting) = waiting.as_ref().filter(|_| !expected.may_wait) {
        complain(format!("deployment {} waits for a person", waiting.deployment));
    }
    if let Some(error) = error {
        complain(error.clone());
    }
    let link = live.as_ref().map(|it| format!("releases/{}", it.release));
    if link != found.current {
        complain(format!("says {link:?} is live, but `current` says {:?}", found.current));
    }
    let seen = [&expected.old, &expected.new]
        .into_iter()
        .flatten()
        .find(|commit| Some(&commit.tree) == found.live.as_ref());
    if let (Some(seen), Some(live)) = (seen, live)
        && live.revision.as_ref() != Some(&seen.id)
    {
        complain(format!("says {:?} is live, but that is the tree of {}", live.revision, seen.id));
    }
}

/// Every row of before is there, at most one came with the command, and rows agree with the world.
fn history(
    expected: &Expected,
    found: &Found,
    said: &Said,
    state: &'static str,
    broken: &mut Vec<Violation>,
) {
    let mut complain = |what: String| broken.push(Violation::new("history", what));
    for row in expected.history.iter().filter(|row| !said.history.contains(row)) {
        complain(format!("deployment {} is lost or altered", row.id));
    }
    let known = |row: &&Row| expected.history.iter().any(|it| it.id == row.id);
    let new: Vec<&Row> = said.history.iter().filter(|row| !known(row)).collect();
    if new.len() > 1 + usize::from(expected.again) {
        complain(format!("{} deployments came of one command", new.len()));
    }
    for (nth, row) in new.iter().enumerate() {
        if Some(&row.revision) != expected.asked.as_ref().map(|it| &it.id) {
            complain(format!("deployment {} of {} was never asked for", row.id, row.revision));
        }
        if row.outcome.is_none() && expected.settled {
            complain(format!("deployment {} has no outcome", row.id));
        }
        // Only the newest one decided; there is another one when the command tried again.
        let succeeds = nth == 0 && state == "new";
        let succeeded = row.outcome.as_deref() == Some("succeeded");
        if succeeded != succeeds && row.outcome.is_some() {
            let outcome = row.outcome.as_deref().unwrap_or_default();
            complain(format!("deployment {} `{outcome}`, but what is live is {state}", row.id));
        }
    }
    let deploys = expected.asked.is_some();
    if deploys && state == "new" && new.is_empty() {
        complain("the new release is live, and no deployment says so".to_owned());
    }
    if deploys && expected.told && !new.iter().any(|row| row.outcome.as_deref() == Some(expected.outcome())) {
        complain(format!("a deployment that was told to be `{}` is not so", expected.outcome()));
    }
    let newest = said.history.iter().filter(|row| row.outcome.as_deref() == Some("succeeded"));
    let newest = newest.max_by_key(|row| row.id).map(|row| format!("releases/{}", row.release));
    let open = said.history.iter().any(|row| row.outcome.is_none());
    if deploys && !open && newest != found.current {
        complain(format!("{newest:?} succeeded last, but `current` says {:?}", found.current));
    }
}

/// A commit is put aside together with the outcome that does it, and not otherwise.
fn aside(expected: &Expected, said: &Said, broken: &mut Vec<Violation>) {
    let Some((commit, outcome)) = &expected.puts_aside else { return };
    let known = |row: &&Row| expected.history.iter().any(|it| it.id == row.id);
    let mut new = said.history.iter().filter(|row| !known(row));
    let must = new.any(|row| row.outcome.as_deref() == Some(outcome));
    if said.aside.contains(commit) != must {
        let word = if must { "is not" } else { "is" };
        broken.push(Violation::new("quarantine", format!("{commit} {word} put aside")));
    }
}

/// What lies in the folder of releases is what the program knows of, and one of it is live.
fn releases(found: &Found, said: &Said, broken: &mut Vec<Violation>) {
    let mut complain = |what: String| broken.push(Violation::new("releases", what));
    let live: Vec<String> =
        said.releases.iter().filter(|it| it.live).map(|it| format!("releases/{}", it.release)).collect();
    if live != found.current.iter().cloned().collect::<Vec<_>>() {
        complain(format!("says {live:?} is live, but `current` says {:?}", found.current));
    }
    for release in &said.releases {
        if release.revision.is_none() {
            complain(format!("release {} is of no known commit", release.release));
        }
        if release.live && !release.usable {
            complain(format!("release {} is live and not usable", release.release));
        }
    }
    for folder in ["site/releases/", "site/.eeveon/manifests/"] {
        let inside =
            found.names.iter().filter(|path| belongs(path)).filter_map(|path| path.strip_prefix(folder));
        for name in inside.filter(|rest| !rest.contains('/')) {
            let number = name.strip_prefix("failed-").unwrap_or(name);
            if !said.releases.iter().any(|it| it.release.to_string() == number) {
                complain(format!("{folder}{name} belongs to no known release"));
            }
        }
    }
}

/// Where there is no project, nothing of it is left; and it is not lost.
fn forgotten(expected: &Expected, found: &Found, broken: &mut Vec<Violation>) {
    if expected.stays && (expected.old.is_some() || expected.new.is_some() || expected.told) {
        broken.push(Violation::new("project", "the project is lost"));
    }
    if !expected.settled {
        return;
    }
    let of_project = |path: &&String| ["site", "home/sources/app.git"].contains(&path.as_str());
    for path in found.names.iter().filter(of_project) {
        broken.push(Violation::new("project", format!("there is no project, but {path}")));
    }
}

/// A command that met a fault did its work all the same, or said what is wrong: no panic, an exit
/// code with a meaning, the code of the error, and a path.
pub(crate) fn complaint(exit: Option<i32>, stderr: &str, root: &str) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut complain = |what: String| broken.push(Violation::new("message", what));
    if stderr.contains("panicked at") {
        complain(format!("it panicked: {}", one_line(stderr)));
    }
    match exit {
        Some(0) => return broken,
        Some(1 | 10 | 11 | 12 | 13 | 20 | 30) => {}
        Some(code) => complain(format!("exit code {code}: {}", one_line(stderr))),
        None => complain(format!("it died: {}", one_line(stderr))),
    }
    let has_code = stderr.split('[').skip(1).any(|rest| {
        let code = rest.split(']').next().unwrap_or_default();
        code.contains('/') && code.chars().all(|it| it.is_ascii_lowercase() || "/-".contains(it))
    });
    if !has_code {
        complain(format!("no error code: {}", one_line(stderr)));
    }
    // What serves now is told with a path, too, but is not what went wrong.
    let about_the_fault = |line: &&str| !line.starts_with("  now ") && !line.starts_with("  ok ");
    // A refusal is about a commit.
    let needs_path = exit != Some(13);
    if needs_path && !stderr.lines().filter(about_the_fault).any(|line| line.contains(root)) {
        complain(format!("no path: {}", one_line(stderr)));
    }
    broken
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|line| !line.starts_with("ok ")).collect::<Vec<_>>().join(" | ")
}

#[cfg(test)]
mod tests;
