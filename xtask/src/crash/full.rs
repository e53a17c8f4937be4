//! A disk that is full to the last block: going back works all the same, with the space that is kept
//! for it, and history stays right.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::Path,
};

use anyhow::{Context, Result};

use super::{
    Tally,
    case::Stage,
    oracle::{Expected, Violation, complaint},
    powercut::image::{self, Kind},
    scenario::SCENARIOS,
    stage,
    world::PROJECT,
};

const ROLLBACK: [&str; 5] = ["rollback", PROJECT, "--yes", "--reason", "crash test"];

/// The commit that is deployed in vain; the one before it serves.
const NEXT: usize = 4;

/// Fills a disk of every kind, and goes back: at once, and after a deploy was tried.
///
/// # Errors
///
/// The harness itself failed; what breaks a rule is printed and counted.
pub(crate) fn run(folder: &Path, program: &Path, kinds: &[Kind]) -> Result<Vec<Tally>> {
    let scenario = SCENARIOS.iter().find(|it| it.name == "rollback").context("no such scenario")?;
    let images = image::fast_folder(folder)?;
    let mut tallies = Vec::new();
    for kind in kinds {
        let stage = stage(folder, program, scenario, 0)?;
        let disk = images.join("full");
        let kept = stage.world.beside(scenario.name);
        let mut tally = Tally { scenario: kind.name(), ..Tally::default() };
        for deploys in [false, true] {
            kind.furnish(&disk, &kept, &stage.world.root())?;
            let mounted = kind.mount(&disk, &stage.world.root())?;
            let (state, broken) = fill_and_go_back(&stage, deploys)?;
            mounted.unmount()?;
            tally.struck += 1;
            *tally.states.entry(state).or_default() += 1;
            tally.violations += usize::from(!broken.is_empty());
            broken.iter().for_each(|violation| println!("    {violation}"));
        }
        tally.print();
        tallies.push(tally);
    }
    fs::remove_dir_all(&images)?;
    Ok(tallies)
}

fn fill_and_go_back(stage: &Stage<'_>, deploys: bool) -> Result<(&'static str, Vec<Violation>)> {
    let world = &stage.world;
    let mut broken = Vec::new();
    world.push(NEXT)?;
    let filler = world.root().join("filler");
    fill(&filler)?;
    let mut expected = Expected { told: true, ..stage.expected.clone() };
    if deploys {
        let ran = world.run(&["deploy".to_owned(), PROJECT.to_owned()])?;
        broken.extend(complaint(ran.status.code(), &ran.stderr, &world.root().to_string_lossy()));
        let found = world.look()?;
        let serves =
            |number: usize| Ok::<_, anyhow::Error>(Some(&world.commit(number)?.tree) == found.live.as_ref());
        if !serves(NEXT - 1)? {
            let what = format!("a deploy on a full disk ended with {}", ran.summary());
            broken.push(Violation::new("serves", what));
        }
        expected.history = world.history()?;
    }
    let ran = world.run(&ROLLBACK.map(str::to_owned))?;
    if !ran.status.success() {
        broken.push(Violation::new("goes back", ran.summary()));
    }
    let state = stage.settle(&expected, ran.status.code(), &mut broken)?;
    fs::remove_file(&filler)?;
    if let Err(error) = stage.go_on(false, &mut broken) {
        broken.push(Violation::new("goes on", format!("{error:#}")));
    }
    Ok((state, broken))
}

/// Writes to a file until nothing more fits, not even a byte.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::options().append(true).create(true).open(path)?;
    for size in [1 << 20, 4096, 1] {
        let bytes = vec![b'x'; size];
        loop {
            match file.write_all(&bytes).and_then(|()| if size > 1 { file.sync_data() } else { Ok(()) }) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).with_context(|| format!("cannot fill {}", path.display())),
            }
        }
    }
    // What was promised but has no place yet is given up now, not in the middle of what follows.
    match file.sync_all() {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
        _ => Ok(()),
    }
}
