//! The harness on trial once more: the program itself, broken in one way at a time, each of which must
//! be found. A bug is planted in what the program asks of the system, or in a copy of its source; the
//! source that is released has none and cannot be told to.

mod planted;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Tally,
    calls::Class,
    case::{Stage, Strike},
    draw, ledger,
    oracle::Violation,
    powercut::{self, image::Kind},
    race,
    scenario::SCENARIOS,
    stage,
    tracer::Blow,
    world::SEED,
};
use crate::{run, workspace::Workspace};
use planted::{Finder, SEEDS, Seed, State};

/// How many kills are made in search of one.
const PATIENCE: usize = 400;

/// Plants and finds them, and writes down what came of it.
///
/// # Errors
///
/// One is not found.
pub(super) fn run(workspace: &Workspace, folder: &Path, only: Option<&str>) -> Result<()> {
    powercut::image::keep_mounts_private()?;
    let program = sow(workspace)?;
    println!("{:<28} {:<24} {:>6}  found as", "seed", "by", "after");
    let (mut tallies, mut missed) = (Vec::new(), Vec::new());
    for seed in SEEDS.iter().filter(|it| only.is_none_or(|only| only == it.name)) {
        let found = seed.find(folder, &program).with_context(|| seed.name)?;
        let by = seed.finder.name();
        let rule: String = found.rule.as_deref().unwrap_or("NOT FOUND").chars().take(90).collect();
        println!("{:<28} {by:<24} {:>6}  {rule}", seed.name, found.tally.struck);
        if found.rule.is_none() {
            println!("    {}", seed.what);
            missed.push(seed.name);
        }
        tallies.push((seed.name, Tally { violations: usize::from(found.rule.is_some()), ..found.tally }));
    }
    ensure!(!tallies.is_empty(), "there is no such seed");
    let tested = ledger::Binary { program: &program, commit: None, built: true };
    for (name, tally) in tallies {
        ledger::append(workspace, &tested, &format!("seed {name}"), &[tally])?;
    }
    match missed.is_empty() {
        true => Ok(()),
        false => bail!("not found: {}", missed.join(", ")),
    }
}

/// Looks for those bugs that are planted in calls, for which the program itself needs not be broken:
/// power cuts on trial.
///
/// # Errors
///
/// One is not found.
pub(super) fn power_is_cut(folder: &Path, program: &Path) -> Result<()> {
    let on_ext4 = |it: &&Seed| it.source.is_empty() && matches!(it.finder, Finder::Power(Kind::Ext4Lazy, _));
    let mut found = 0;
    for seed in SEEDS.iter().filter(on_ext4) {
        ensure!(seed.find(folder, program)?.rule.is_some(), "power cuts did not find {}", seed.name);
        found += 1;
    }
    println!("power cuts: {found} planted bugs, all found");
    Ok(())
}

/// What came of the search for one.
struct Found {
    tally: Tally,
    /// The rules it broke.
    rule: Option<String>,
}

impl Seed {
    fn find(&self, folder: &Path, program: &Path) -> Result<Found> {
        let seed = Some(self.name);
        match self.finder {
            Finder::Kills | Finder::Power(..) => self.find_alone(folder, program),
            Finder::Rounds => self.find_among(0..PATIENCE, |nth| {
                race::round(folder, program, &format!("{} {nth}", self.name), seed)
            }),
            Finder::HeldUp => {
                let point = race::before_the_switch(folder, program, self.scenario, seed)?;
                self.find_among([point], |at| Ok(race::held_up(folder, program, self.scenario, at, seed)?.1))
            }
        }
    }

    /// Tries one after the other until a rule is broken.
    fn find_among(
        &self,
        points: impl IntoIterator<Item = usize>,
        attempt: impl Fn(usize) -> Result<Vec<Violation>>,
    ) -> Result<Found> {
        let mut tally = Tally { scenario: self.scenario, ..Tally::default() };
        for point in points {
            tally.struck += 1;
            if let Some(first) = attempt(point)?.first() {
                return Ok(Found { tally, rule: Some(first.to_string()) });
            }
        }
        Ok(Found { tally, rule: None })
    }

    fn find_alone(&self, folder: &Path, program: &Path) -> Result<Found> {
        let scenario = SCENARIOS.iter().find(|it| it.name == self.scenario).context("no such scenario")?;
        let mut stage = stage(folder, program, scenario, 0)?;
        stage.world.seed = Some(self.name);
        match self.finder {
            Finder::Power(kind, meddle) => {
                let state = State::default();
                let trial = powercut::Trial::default();
                let tally =
                    powercut::cut(folder, &[stage], kind, 40, Some(&trial), &|_, call| meddle(&state, call))?;
                Ok(Found { tally, rule: trial.into_rule() })
            }
            _ => self.find_by_kills(&stage),
        }
    }

    /// Kills in an order that is all over the place, so that it does not take long where much is wrong.
    fn find_by_kills(&self, stage: &Stage<'_>) -> Result<Found> {
        let counts = Class::changes_state;
        stage.world.restore(stage.scenario.name)?;
        let calls = stage.watch(counts, &|_, _| None)?.calls.len();
        let mut order: Vec<usize> = (1..=calls).collect();
        order.sort_by_key(|at| draw(self.name, *at));
        let mut tally = Tally { scenario: stage.scenario.name, calls, ..Tally::default() };
        for at in order.into_iter().take(PATIENCE) {
            let verdict = stage.strike(Strike { counts, at, blow: Blow::Kill })?;
            tally.struck += 1;
            *tally.states.entry(verdict.state).or_default() += 1;
            if let Some(first) = verdict.broken.first() {
                return Ok(Found { tally, rule: Some(first.to_string()) });
            }
        }
        Ok(Found { tally, rule: None })
    }
}

/// Copies the sources, breaks the copy in every way at once, and builds it: which bug shows, a
/// variable decides when the program runs. Its version says what it is.
fn sow(workspace: &Workspace) -> Result<PathBuf> {
    let field = workspace.scratch()?.join("seeds");
    let mut files = workspace.files()?;
    files.retain(|file| file != "docs/crash-ledger.jsonl");
    let missing =
        SEEDS.iter().flat_map(|seed| seed.source).find(|it| !files.iter().any(|file| file == it.file));
    ensure!(missing.is_none(), "there is no {}", missing.map_or("", |it| it.file));
    for file in files {
        let bytes = fs::read(workspace.root().join(&file)).with_context(|| format!("cannot read {file}"))?;
        let bytes = match String::from_utf8(bytes) {
            Ok(text) => planted_in(&file, text)?.into_bytes(),
            Err(error) => error.into_bytes(),
        };
        let to = field.join(&file);
        // What stays as it is keeps its time, and is not built again.
        if fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file is in no folder")?)?;
        fs::write(&to, bytes).with_context(|| format!("cannot write {}", to.display()))?;
    }
    let target = workspace.metadata()?.target_directory;
    // From the same folder as always, so that what others wrote needs no new build.
    let words = ["build", "--offline", "--package", "eeveon-cli", "--target-dir"];
    let mut build = workspace.cargo();
    build.args(words).arg(&target).arg("--manifest-path").arg(field.join("Cargo.toml"));
    run::stream(&mut build)?;
    // Whatever is built next takes its place.
    let program = field.join("ee-deploy");
    let built = target.join("debug/ee-deploy");
    fs::copy(&built, &program).with_context(|| format!("cannot copy {}", built.display()))?;
    Ok(program)
}

/// Returns the text of a file with all that is planted in it.
fn planted_in(file: &str, mut text: String) -> Result<String> {
    let core = if file.starts_with(CORE) { "crate" } else { "eeveon_core" };
    for seed in SEEDS {
        for change in seed.source.iter().filter(|it| it.file == file) {
            let times = text.matches(change.find).count();
            ensure!(times == 1, "`{}` fits {file} {times} times, not once", seed.name);
            let shows = format!("{core}::seeded(\"{}\")", seed.name);
            text = text.replace(change.find, &change.put.replace("SEED", &shows));
        }
    }
    if file == "Cargo.toml" {
        // Else cargo would take what it builds of the copy for what it built of the original.
        let (before, after) = text.split_once("\nversion = \"").context("the workspace has no version")?;
        let (version, after) = after.split_once('"').context("the version does not end")?;
        text = format!("{before}\nversion = \"{version}-seeded\"{after}");
    }
    if file == format!("{CORE}/src/lib.rs") {
        text += &format!(
            "/// Tells whether this bug is to show.\npub fn seeded(name: &str) -> bool {{\n    std::env::var(\"{SEED}\").is_ok_and(|it| it == name)\n}}\n"
        );
    }
    Ok(text)
}

/// The crate all others depend on.
const CORE: &str = "eeveon-core";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_fits_the_source() {
        let workspace = Workspace::find().unwrap();
        let files = SEEDS.iter().flat_map(|seed| seed.source).map(|change| change.file);
        for file in files.collect::<std::collections::BTreeSet<_>>() {
            let text = workspace.read(file).unwrap();
            assert_ne!(planted_in(file, text.clone()).unwrap(), text, "{file}");
        }
    }

    #[test]
    fn every_seed_names_a_scenario_and_is_named_once() {
        let names: std::collections::BTreeSet<_> = SEEDS.iter().map(|seed| seed.name).collect();
        assert_eq!(names.len(), SEEDS.len());
        assert!(SEEDS.iter().all(|seed| SCENARIOS.iter().any(|it| it.name == seed.scenario)));
    }
}
