//! How long it takes from a delivery until what it announces is live, beside the command alone.

use std::{
    path::Path,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::{
    figures::Spread,
    oracle,
    place::{Daemon, PATIENCE, Place, wait},
    repo::{Repo, Shape},
};

/// How often it is looked whether it is live.
const LOOK: Duration = Duration::from_micros(500);

/// How long the project is left alone between two commits: nothing of the last one may be under way.
const REST: Duration = Duration::from_millis(100);

/// A line of `history --json`, as far as it matters here.
#[derive(Deserialize)]
struct Row {
    started_at: jiff::Timestamp,
    finished_at: Option<jiff::Timestamp>,
    revision: String,
}

/// Measures both, `count` times in turn, with a repository of 200 files and 2 MiB.
///
/// # Errors
///
/// A commit does not get live.
pub(crate) fn run(folder: &Path, program: &Path, count: usize) -> Result<()> {
    let place = Place::make(folder, program)?;
    let shape = Shape { files: 200, bytes: 10_400, commits: 2 * count + 1 };
    let repo = Repo::make(&place.repo("p"), shape)?;
    repo.push(1)?;
    place.add("p", &repo.folder().to_string_lossy(), "poll = false", "")?;
    let hook = place.hook("p")?;
    place.run(&["deploy", "p"])?;
    let daemon = Daemon::start_with(&place, &["-v"])?;
    daemon.ready()?;
    let (mut hooked, mut above, mut taken, mut alone, mut ended) =
        (Spread::default(), Spread::default(), Spread::default(), Spread::default(), Spread::default());
    let (mut found, mut told, mut fetched) = (Spread::default(), Spread::default(), Spread::default());
    for nth in 1..=count {
        let commit = 2 * nth;
        repo.push(commit)?;
        let (began, wall) = (Instant::now(), jiff::Timestamp::now());
        let answer = hook.deliver(daemon.address, &format!("latency-{commit}"))?;
        ensure!(answer.status == 202, "it was answered with {}: {}", answer.status, answer.body);
        taken.add(began.elapsed());
        let live = until_live(&place, commit, began)?;
        hooked.add(live);
        thread::sleep(REST);
        wait("the deployment is recorded as done", || {
            let rows: Vec<Row> = serde_json::from_value(place.json(&["history", "p", "-n", "1"])?)?;
            let row = rows.first().filter(|row| repo.id(commit).is_ok_and(|id| id == row.revision));
            let Some((row, done)) = row.and_then(|row| Some((row, row.finished_at?))) else {
                return Ok(false);
            };
            found.add(Duration::try_from(row.started_at - wall).unwrap_or_default());
            told.add(Duration::try_from(done - wall).unwrap_or_default());
            Ok(true)
        })?;
        let fetch = fetch_time(&place.log()?, repo.id(commit)?).context("it tells of no fetch")?;
        fetched.add(fetch);
        above.add(live.saturating_sub(fetch));

        let commit = commit + 1;
        repo.push(commit)?;
        let began = Instant::now();
        let mut command = place.command(&["deploy", "p"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        alone.add(until_live(&place, commit, began)?);
        let output = child.wait_with_output()?;
        ended.add(began.elapsed());
        ensure!(output.status.success(), "the command ended with {}", output.status);
        thread::sleep(REST);
    }
    daemon.stop()?;
    println!("delivery in -> answered with 202       {taken}");
    println!("            -> deployment opened       {found}");
    println!("            -> live                    {hooked}");
    println!("               without the fetch       {above}");
    println!("               of the fetch            {fetched}");
    println!("            -> recorded as done        {told}");
    println!("`ee-deploy deploy` started -> live     {alone}");
    println!("                           -> ended    {ended}");
    Ok(())
}

fn until_live(place: &Place, commit: usize, began: Instant) -> Result<Duration> {
    while oracle::live(place, "p") != Some(commit) {
        ensure!(began.elapsed() < PATIENCE, "commit {commit} never gets live");
        thread::sleep(LOOK);
    }
    Ok(began.elapsed())
}

/// Finds the time in the line of the log that tells of a commit's fetch.
fn fetch_time(log: &str, commit: &str) -> Option<Duration> {
    let is_it = |line: &&str| line.contains(" fetched ") && line.contains(&format!("commit={commit}"));
    let line = log.lines().rev().find(is_it)?;
    let ms = line.split_whitespace().find_map(|word| word.strip_prefix("ms="))?;
    Duration::try_from_secs_f64(ms.parse::<f64>().ok()? / 1e3).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_fetch_is_found() {
        let log = "INFO eeveon_cli::deploying: fetched project=p commit=ab bytes=7 ms=1.5\n\
                   INFO eeveon_cli::deploying: fetched project=p commit=cd bytes=7 ms=56.25\nwatching\n";
        assert_eq!(fetch_time(log, "ab"), Some(Duration::from_micros(1500)));
        assert_eq!(fetch_time(log, "cd"), Some(Duration::from_micros(56_250)));
        assert_eq!(fetch_time(log, "ef"), None);
    }
}
