//! What a daemon with many projects costs while nothing happens, and what one look costs.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    figures::Usage,
    oracle,
    place::{Daemon, PATIENCE, Place},
    repo::{Repo, Shape},
    servers::{Server, Way},
};

/// Repositories that the projects share.
const REPOS: usize = 10;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Projects.
    pub(crate) projects: usize,
    /// How their repositories are reached.
    pub(crate) way: Way,
    /// How often each is looked at.
    pub(crate) interval: Duration,
    /// For how long.
    pub(crate) time: Duration,
}

/// Measures it.
///
/// # Errors
///
/// Not all projects can be deployed.
pub(crate) fn run(folder: &Path, program: &Path, plan: Plan) -> Result<()> {
    let place = Place::make(folder, program)?;
    let repos = (1..=REPOS).map(|nth| {
        let repo = Repo::make(&place.repo(&format!("r{nth}")), Shape { files: 8, bytes: 400, commits: 1 })?;
        repo.push(1)?;
        Ok(repo)
    });
    let _repos: Vec<Repo> = repos.collect::<Result<_>>()?;
    let root = place.repo("").parent().context("there are no repositories")?.to_owned();
    let server = Server::start(plan.way, &root, &folder.join("server"))?;
    let names: Vec<String> = (1..=plan.projects).map(|nth| format!("p{nth:05}")).collect();
    for (nth, name) in names.iter().enumerate() {
        let url = server.url(&format!("r{}", nth % REPOS + 1));
        let more = format!("interval = \"{}ms\"\n{}", plan.interval.as_millis(), server.trust());
        place.add(name, &url, &more, "")?;
    }
    // Most of a first deployment is waiting for the disk.
    let daemon = Daemon::start_with(&place, &["--jobs", "8"])?;
    daemon.ready()?;
    let all_live = || names.iter().all(|name| oracle::live(&place, name) == Some(1));
    // Each first deployment may take as long as anything may.
    let end = Instant::now() + PATIENCE * 5;
    while !all_live() {
        anyhow::ensure!(Instant::now() < end, "not all projects get live");
        thread::sleep(Duration::from_millis(200));
    }
    println!("{} projects live after {:.1} s", names.len(), daemon.began.elapsed().as_secs_f64());
    daemon.stop()?;

    let daemon = Daemon::start(&place)?;
    let ready = daemon.ready()?;
    let at_start = Usage::of(daemon.id())?;
    println!("started again: ready after {:.0} ms", ready.as_secs_f64() * 1000.0);
    // The first looks, which are spread over half a minute, are not what is measured.
    thread::sleep(Duration::from_secs(40));
    let (before, asked, began) = (Usage::of(daemon.id())?, server.asked()?, Instant::now());
    thread::sleep(plan.time);
    let (after, now_asked, took) = (Usage::of(daemon.id())?, server.asked()?, began.elapsed());
    daemon.stop()?;

    let seconds = took.as_secs_f64();
    let own = (after.own - before.own).as_secs_f64();
    let children = (after.children - before.children).as_secs_f64();
    let kib = |kib: u64| format!("{:.1} MiB", kib as f64 / 1024.0);
    println!(
        "memory {} when ready, {} when measuring began, {} at its end, {} at most",
        kib(at_start.resident),
        kib(before.resident),
        kib(after.resident),
        kib(after.most_resident)
    );
    let percent = 100.0 / seconds;
    println!(
        "processor {:.2} % of a core, and {:.2} % by programs it started, over {seconds:.0} s",
        own * percent,
        children * percent
    );
    let (looks, how) = match (asked, now_asked) {
        (Some(before), Some(after)) => ((after - before) as f64, "counted"),
        _ => (seconds / plan.interval.as_secs_f64() * plan.projects as f64, "by the interval"),
    };
    let millis = 1000.0 / looks.max(1.0);
    println!(
        "{looks:.0} looks, {how}: {:.2} ms of processor each, and {:.2} ms by programs it started",
        own * millis,
        children * millis
    );
    Ok(())
}
