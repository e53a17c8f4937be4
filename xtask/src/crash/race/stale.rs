//! A command that is held up in the middle until its lease has ended and another one has taken over:
//! when it goes on, it changes nothing.

use std::{cell::RefCell, path::Path, time::Duration};

use anyhow::{Context, Result};

use super::super::{
    calls::{Call, Class},
    case::Stage,
    oracle::{Found, Violation},
    scenario::SCENARIOS,
    stage, tree,
    world::{BAD, PROJECT, Ran, World},
};

/// Who takes this long waited for a lease to end.
const WAITED: Duration = Duration::from_secs(15);

fn prepared<'a>(folder: &Path, program: &Path, name: &str, seed: Option<&'static str>) -> Result<Stage<'a>> {
    let scenario = SCENARIOS.iter().find(|it| it.name == name).context("no such scenario")?;
    let mut stage = stage(folder, program, scenario, 0)?;
    stage.world.seed = seed;
    Ok(stage)
}

/// Returns the calls at which the command of a scenario can be held up.
///
/// # Errors
///
/// It does not end well when nobody disturbs it.
pub(super) fn calls(
    folder: &Path,
    program: &Path,
    name: &str,
    seed: Option<&'static str>,
) -> Result<Vec<Call>> {
    prepared(folder, program, name, seed)?.rehearse(Class::changes_state)
}

/// Returns the number of the call with which the command, which has recorded that it switches, begins to
/// do so: it asks for the target's lock.
///
/// # Errors
///
/// As [`held_up`].
pub(in super::super) fn before_the_switch(
    folder: &Path,
    program: &Path,
    name: &str,
    seed: Option<&'static str>,
) -> Result<usize> {
    let calls = calls(folder, program, name, seed)?;
    let mut numbered = calls.iter().enumerate();
    let (switch, _) = numbered
        .find(|(_, it)| it.class == Class::Rename && it.on.ends_with("site/current"))
        .context("nothing is switched")?;
    let before = calls.get(..switch).unwrap_or_default();
    let lock = before.iter().rposition(|it| it.class == Class::Create && it.on.ends_with("lock"));
    Ok(lock.context("no lock is asked for")? + 1)
}

/// Holds the command up at call `at`, lets another process take over, and lets it go on. Returns who got
/// through, and what was broken.
///
/// # Errors
///
/// The harness itself failed.
pub(in super::super) fn held_up(
    folder: &Path,
    program: &Path,
    name: &str,
    at: usize,
    seed: Option<&'static str>,
) -> Result<(&'static str, Vec<Violation>)> {
    let stage = prepared(folder, program, name, seed)?;
    let world = &stage.world;
    world.restore(stage.scenario.name)?;
    let other: RefCell<Option<Result<Other>>> = RefCell::default();
    let trace = stage.watch(Class::changes_state, &|nth, _| {
        if nth == at {
            // Whatever another of its threads is about to do waits for us to look.
            *other.borrow_mut() = Some(take_over(world));
        }
        None
    })?;
    let Other { ran, found: before } = other.into_inner().context("the command never came that far")??;
    let mut broken = Vec::new();
    let stderr = std::fs::read_to_string(world.beside("struck.err"))?;
    if stderr.contains("panicked at") || ran.stderr.contains("panicked at") {
        broken.push(Violation::new("message", format!("it panicked: {stderr} {}", ran.stderr)));
    }
    let waited = ran.took > WAITED;
    let state = match (waited, ran.status.code()) {
        (true, Some(0)) => "taken over",
        (false, Some(0)) => "let through",
        // It is held up while it has the target's lock: nobody can do anything then.
        (_, Some(1 | 10 | 12 | 13 | 30)) => "kept out",
        _ => {
            broken.push(Violation::new("takes over", ran.summary()));
            "neither"
        }
    };
    if let ("taken over", Some(before)) = (state, before) {
        broken.extend(unchanged(&before, &world.look()?));
        let told = trace.end.success();
        let is_so = before.said.iter().flat_map(|it| &it.history).any(|row| {
            row.outcome.as_deref() == Some("succeeded")
                && stage.expected.asked.as_ref().is_some_and(|asked| asked.id == row.revision)
        });
        if told && !is_so {
            broken.push(Violation::new("told the truth", "who was passed over says that it succeeded"));
        }
    }
    let status = world.run(&["status".to_owned()])?;
    if !status.status.success() {
        broken.push(Violation::new("converges", status.summary()));
    }
    // Whoever took over could not take back what the other one had locked, and asks.
    let waiting = world.look()?.said.and_then(|said| said.status.waiting);
    if let Some(waiting) = &waiting {
        let resumed = world.run(&["resume".to_owned(), waiting.deployment.to_string()])?;
        if !matches!(resumed.status.code(), Some(0 | 10 | 11)) {
            broken.push(Violation::new("goes on", format!("`resume` ended with {}", resumed.summary())));
        }
    }
    if let Err(error) = stage.go_on(false, &mut broken) {
        broken.push(Violation::new("goes on", format!("{error:#}")));
    }
    let root = format!("{}/", world.root().display());
    broken.iter_mut().for_each(|it| it.what = it.what.replace(&root, ""));
    Ok((if waiting.is_some() { "asked" } else { state }, broken))
}

/// What the other one did, and what was there then.
struct Other {
    ran: Ran,
    found: Option<Found>,
}

/// Deploys another commit, for which the lease must be had.
fn take_over(world: &World) -> Result<Other> {
    world.push(BAD)?;
    let ran = world.run(&["deploy".to_owned(), PROJECT.to_owned()])?;
    // Where it is held up in the middle of a transaction nobody can even look.
    let found = if ran.status.success() { Some(world.look()?) } else { None };
    Ok(Other { ran, found })
}

/// Compares what there is before and after the one that was held up went on.
fn unchanged(before: &Found, after: &Found) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut compare = |what: &str, same: bool, how: String| {
        if !same {
            broken.push(Violation::new("stale", format!("who was passed over changed {what}: {how}")));
        }
    };
    compare(
        "the link",
        before.current == after.current,
        format!("{:?} -> {:?}", before.current, after.current),
    );
    let nothing = tree::Tree::default();
    let [then, now] = [before, after].map(|it| it.live.as_ref().unwrap_or(&nothing));
    compare("what serves", then == now, now.difference(then));
    let [then, now] = [before, after].map(|it| it.said.as_ref().map(|said| said.history.clone()));
    compare("the history", then == now, format!("{then:?} -> {now:?}"));
    let [then, now] = [before, after].map(|it| it.said.as_ref().map(|said| said.aside.clone()));
    compare("what is put aside", then == now, format!("{then:?} -> {now:?}"));
    broken
}
