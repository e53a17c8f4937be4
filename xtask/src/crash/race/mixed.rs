//! Three processes do different things to one project at the same time, each several after another.
//! What they are told, and what history says, must be as if they had done it one after the other.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::Deserialize;

use super::super::{
    draw,
    oracle::Violation,
    scenario::SCENARIOS,
    stage,
    world::{PROJECT, World},
};

/// How many work at the same time.
const ACTORS: usize = 3;

/// How many things each does.
const EACH: usize = 4;

/// Something one of them does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Deed {
    /// Deploys this commit, whatever is live.
    Deploy(usize),
    Rollback,
    /// Sets how many releases are kept.
    Keep(usize),
    Vacuum,
    PutAside(usize),
    LetGo(usize),
    Look,
}

impl Deed {
    fn drawn(word: &str, nth: usize) -> Self {
        let commit = 1 + draw(word, nth * 2 + 1) % 3;
        match draw(word, nth * 2) % 12 {
            0..5 => Self::Deploy(commit),
            5..7 => Self::Rollback,
            // Every value is set once, so that it tells who set it.
            7 => Self::Keep(3 + nth),
            8 => Self::Vacuum,
            9 => Self::PutAside(commit),
            10 => Self::LetGo(commit),
            _ => Self::Look,
        }
    }

    fn words(self, world: &World, reason: &str) -> Result<Vec<String>> {
        let commit = |number: usize| Ok::<_, anyhow::Error>(world.commit(number)?.id.clone());
        let text = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        Ok(match self {
            Self::Deploy(number) => text(&[
                "deploy",
                PROJECT,
                "--rev",
                &commit(number)?,
                "--allow-older",
                "--again",
                "--reason",
                reason,
            ]),
            Self::Rollback => text(&["rollback", PROJECT, "--yes", "--reason", reason]),
            Self::Keep(keep) => text(&["config", PROJECT, "deploy.keep", &keep.to_string()]),
            Self::Vacuum => text(&["vacuum"]),
            Self::PutAside(number) => text(&["quarantine", PROJECT, &commit(number)?]),
            Self::LetGo(number) => text(&["quarantine", PROJECT, &commit(number)?, "--lift"]),
            Self::Look => text(&["status"]),
        })
    }

    fn deploys(self) -> bool {
        matches!(self, Self::Deploy(_) | Self::Rollback)
    }
}

/// What came of a deed.
#[derive(Debug)]
struct Done {
    deed: Deed,
    /// What history knows it by.
    reason: String,
    began: Instant,
    ended: Instant,
    exit: Option<i32>,
    said: String,
}

/// A deployment, as far as `history --json` matters here.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    id: u64,
    release: u64,
    reason: Option<String>,
    outcome: Option<String>,
    started_at: jiff::Timestamp,
    finished_at: Option<jiff::Timestamp>,
}

/// Runs a round whose deeds follow from `word`. Returns what was broken.
///
/// # Errors
///
/// The harness itself failed.
pub(in super::super) fn round(
    folder: &Path,
    program: &Path,
    word: &str,
    seed: Option<&'static str>,
) -> Result<Vec<Violation>> {
    let scenario = SCENARIOS.iter().find(|it| it.name == "rollback").context("no such scenario")?;
    let mut stage = stage(folder, program, scenario, 0)?;
    stage.world.seed = seed;
    let world = &stage.world;
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let actors: Vec<_> = (0..ACTORS)
            .map(|actor| {
                let done = &done;
                scope.spawn(move || -> Result<()> {
                    for nth in (0..EACH).map(|it| it * ACTORS + actor) {
                        let it = act(world, word, nth)?;
                        done.lock().unwrap_or_else(PoisonError::into_inner).push(it);
                    }
                    Ok(())
                })
            })
            .collect();
        actors.into_iter().try_for_each(|it| match it.join() {
            Ok(result) => result,
            Err(_) => bail!("an actor panicked"),
        })
    })?;
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut broken = Vec::new();
    let status = world.run(&["status".to_owned()])?;
    if !status.status.success() || status.stderr.contains("warning") {
        broken.push(Violation::new("converges", status.summary()));
    }
    let rows: Vec<Row> = world.query(&["history", PROJECT, "--json", "-n", "100"])?;
    judge(&done, rows, &mut broken);
    let kept = world.must(&["config", PROJECT, "deploy.keep"])?;
    register(&done, kept.trim(), &mut broken);
    if let Err(error) = stage.go_on(false, &mut broken) {
        broken.push(Violation::new("goes on", format!("{error:#}")));
    }
    if !broken.is_empty() {
        let story = |it: &Done| format!("{}: {:?} -> {:?} {}", it.reason, it.deed, it.exit, it.said);
        broken.push(Violation::new("story", done.iter().map(story).collect::<Vec<_>>().join("\n        ")));
    }
    Ok(broken)
}

fn act(world: &World, word: &str, nth: usize) -> Result<Done> {
    let deed = Deed::drawn(word, nth);
    let reason = format!("deed {nth}");
    let began = Instant::now();
    let ran =
        world.run_beside(&deed.words(world, &reason)?, &format!("actor-{}", nth % ACTORS), |process| {
            // Now and then one loses the processor for a while in the middle.
            if draw(word, 1000 + nth).is_multiple_of(3)
                && let Ok(process) = i32::try_from(process)
            {
                let process = Pid::from_raw(process);
                thread::sleep(Duration::from_millis(draw(word, 2000 + nth) as u64 % 60));
                // It may have ended.
                let _ = kill(process, Signal::SIGSTOP);
                thread::sleep(Duration::from_millis(draw(word, 3000 + nth) as u64 % 400));
                let _ = kill(process, Signal::SIGCONT);
            }
        })?;
    let (exit, said) = (ran.status.code(), ran.summary());
    Ok(Done { deed, reason, began, ended: Instant::now(), exit, said })
}

/// One deployment at a time, in an order that agrees with who ended before who began; and each command
/// told what history says.
fn judge(done: &[Done], mut rows: Vec<Row>, broken: &mut Vec<Violation>) {
    let mut complain = |rule, what: String| broken.push(Violation::new(rule, what));
    rows.sort_by_key(|row| row.id);
    for (row, next) in rows.iter().zip(rows.iter().skip(1)) {
        if row.finished_at.is_none_or(|at| at > next.started_at) {
            complain("one at a time", format!("deployment {} began before {} had ended", next.id, row.id));
        }
    }
    for row in rows.iter().filter(|row| row.outcome.is_none()) {
        complain("history", format!("deployment {} has no outcome", row.id));
    }
    let mut highest = 0;
    for row in &rows {
        // Going back deploys one that is there; all others count up.
        if row.release > highest + 1 {
            complain("releases", format!("release {} follows {highest}", row.release));
        }
        highest = highest.max(row.release);
    }
    let row_of = |it: &Done| rows.iter().rfind(|row| row.reason.as_deref() == Some(it.reason.as_str()));
    for it in done {
        let outcome = row_of(it).map(|row| row.outcome.as_deref().unwrap_or("open"));
        let agrees = match (it.exit, it.deed.deploys()) {
            (Some(0), true) => outcome == Some("succeeded"),
            (Some(0), false) => true,
            (Some(10), true) => matches!(outcome, Some("failed" | "cancelled")),
            (Some(11), true) => outcome == Some("rolled_back"),
            (Some(13), true) => matches!(outcome, Some("refused") | None),
            (Some(13), false) => true,
            // Whoever asked for another release than the one it would be by now is asked again.
            (Some(2), true) => it.deed == Deed::Rollback && outcome.is_none(),
            // It was not put aside.
            (Some(2), false) => matches!(it.deed, Deed::LetGo(_)),
            // It leaves out what others work on.
            (Some(10), false) => it.deed == Deed::Vacuum,
            _ => false,
        };
        if !agrees {
            let what =
                format!("{} {:?} ended with {:?}, history says {outcome:?}", it.reason, it.deed, it.exit);
            complain("told the truth", what);
        }
    }
    for (first, then) in done.iter().flat_map(|a| done.iter().map(move |b| (a, b))) {
        if let (Some(a), Some(b)) = (row_of(first), row_of(then))
            && first.ended < then.began
            && a.id > b.id
        {
            complain(
                "order",
                format!("{} ended before {} began, and comes after it", first.reason, then.reason),
            );
        }
    }
}

/// The value that is there in the end was set by one after which no other one began and succeeded.
fn register(done: &[Done], value: &str, broken: &mut Vec<Violation>) {
    let sets: Vec<(&Done, String)> = done
        .iter()
        .filter(|it| it.exit == Some(0))
        .filter_map(|it| match it.deed {
            Deed::Keep(keep) => Some((it, keep.to_string())),
            _ => None,
        })
        .collect();
    let last = |(it, _): &&(&Done, String)| sets.iter().all(|(other, _)| other.began <= it.ended);
    if !sets.is_empty() && !sets.iter().filter(last).any(|(_, set)| set == value) {
        broken.push(Violation::new("config", format!("{value} is kept, and nobody set it last")));
    }
}
