//! `cargo xtask powercut`: cuts the power. A command runs on a file system whose disk remembers every
//! write and every flush; what a cut at any moment would have left is made from that, mounted, and
//! judged like what a kill leaves.
//!
//! A kill cannot show that something was never flushed: the kernel still has it. Here it is lost.

mod disk;
pub(crate) mod image;

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    Tally, WORKERS, build,
    calls::{Call, Class},
    case::Stage,
    conclude, draw,
    ledger::{self, Binary},
    oracle::{Expected, Violation},
    scenario::{SCENARIOS, Scenario},
    stage,
    told::Heard,
    tracer::Blow,
};
use crate::workspace::Workspace;
use disk::{Disk, Event};
use image::Kind;

/// How many cuts between flushes a run makes in each scenario that is not told.
const BETWEEN: usize = 20;

/// What to cut, and where.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// On these file systems
    #[arg(long, value_enum, value_name = "KIND", default_values = ["ext4-lazy"])]
    fs: Vec<Kind>,
    /// In these scenarios [default: all]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::PossibleValuesParser::new(SCENARIOS.map(|it| it.name)))]
    scenario: Vec<String>,
    /// Beside those at flushes, cut so often between them
    #[arg(long, value_name = "N", default_value_t = BETWEEN)]
    between: usize,
    /// The program to test [default: a release build of this checkout]
    #[arg(long, value_name = "PATH")]
    binary: Option<PathBuf>,
    /// The commit that program was built from
    #[arg(long, value_name = "COMMIT", requires = "binary")]
    commit: Option<String>,
}

/// Runs it, and writes down what came of it.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let program = match &args.binary {
        Some(path) => path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?,
        None => build(workspace, &["--release"], "release")?,
    };
    image::keep_mounts_private()?;
    let folder = workspace.scratch()?.join("powercut");
    let named =
        |it: &&'static Scenario| args.scenario.is_empty() || args.scenario.iter().any(|name| name == it.name);
    let tested = Binary { program: &program, commit: args.commit.as_deref(), built: args.binary.is_none() };
    let mut all = Vec::new();
    for kind in &args.fs {
        println!("{}", kind.name());
        println!("{:<12} {:>6} {:>6} {:>11}  found", "scenario", "events", "cuts", "violations");
        for scenario in SCENARIOS.iter().filter(named) {
            let tally = on(&folder, &program, scenario, *kind, args.between)?;
            let blow = format!("power cut, {}", kind.name());
            ledger::append(workspace, &tested, &blow, std::slice::from_ref(&tally))?;
            all.push(tally);
        }
    }
    conclude(&all)
}

/// Cuts the power in what changes the most and in what changes the least.
///
/// # Errors
///
/// The harness itself failed.
pub(crate) fn a_few(folder: &Path, program: &Path) -> Result<Vec<Tally>> {
    let few = SCENARIOS.iter().filter(|it| ["incremental", "configured"].contains(&it.name));
    few.map(|scenario| on(folder, program, scenario, Kind::Ext4Lazy, 0)).collect()
}

/// Cuts the power in one scenario, and prints what came of it.
fn on(
    folder: &Path,
    program: &Path,
    scenario: &'static Scenario,
    kind: Kind,
    between: usize,
) -> Result<Tally> {
    let stages = (0..if kind.may_be_twice() { WORKERS } else { 1 })
        .map(|worker| stage(folder, program, scenario, worker))
        .collect::<Result<Vec<_>>>()?;
    let tally = cut(folder, &stages, kind, between, None, &|_, _| None)?;
    tally.print();
    Ok(tally)
}

/// Records one scenario on one kind of file system, and cuts at every flush and at `between` moments
/// between flushes. `meddle` may break the program's calls while it is recorded. A trial ends with
/// the first violation.
///
/// # Errors
///
/// The harness itself failed.
pub(crate) fn cut(
    folder: &Path,
    stages: &[Stage<'_>],
    kind: Kind,
    between: usize,
    trial: Option<&Trial>,
    meddle: Meddle<'_>,
) -> Result<Tally> {
    let images = image::fast_folder(folder)?;
    let done = Cuts { kind, images: &images, stages, trial }.make(between, meddle);
    fs::remove_dir_all(&images).with_context(|| format!("cannot remove {}", images.display()))?;
    done
}

/// Takes the first broken rule instead of the terminal.
#[derive(Debug, Default)]
pub(crate) struct Trial(Mutex<Option<String>>);

impl Trial {
    /// Returns the rule, if one was broken.
    pub(crate) fn into_rule(self) -> Option<String> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

/// Says what to do to a call the program is about to make.
pub(crate) type Meddle<'a> = &'a dyn Fn(usize, &Call) -> Option<Blow>;

/// A moment, as a number of events of the disk, and what of the last writes is lost: those that came
/// after the last flush may be on the disk or not, each by itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Moment {
    after: usize,
    /// The lot that is drawn for every write that was not flushed; nothing when all of them arrived.
    lot: Option<usize>,
}

impl Moment {
    /// Returns what to call it.
    fn label(self) -> String {
        match self.lot {
            None => format!("after event {}", self.after),
            Some(lot) => format!("after event {}, lot {lot}", self.after),
        }
    }
}

/// One run of a command on a disk that remembers.
struct Recording {
    /// The disk before.
    base: PathBuf,
    log: Vec<Event>,
    /// How much had happened when the command had told that it was done.
    told: usize,
    /// Messages, with how much had happened when they were first seen to be there.
    heard: Vec<(usize, Heard)>,
}

struct Cuts<'a> {
    kind: Kind,
    images: &'a Path,
    stages: &'a [Stage<'a>],
    trial: Option<&'a Trial>,
}

impl Cuts<'_> {
    fn make(&self, between: usize, meddle: Meddle<'_>) -> Result<Tally> {
        let stage = self.stages.first().context("nobody works")?;
        // Every stage has its own paths in what it is made of, and so needs its own recording.
        let recordings: Vec<Recording> = self
            .stages
            .iter()
            .enumerate()
            .map(|(worker, stage)| self.record(stage, worker, meddle))
            .collect::<Result<_>>()?;
        let mut tally = Tally { scenario: stage.scenario.name, ..Tally::default() };
        let halves: Vec<Vec<Moment>> = recordings
            .iter()
            .enumerate()
            .map(|(worker, it)| {
                let all = moments(&it.log, between);
                tally.calls = tally.calls.max(it.log.len());
                all.into_iter().skip(worker).step_by(self.stages.len()).collect()
            })
            .collect();
        let tally = Mutex::new(tally);
        let count = AtomicUsize::new(0);
        let _rebooted = image::Reboot::begin(&self.images.join("boot"))?;
        let work = |(stage, (recording, moments)): (&Stage<'_>, (&Recording, &Vec<Moment>))| -> Result<()> {
            for moment in moments {
                if self.trial.is_some_and(Trial::is_over) {
                    break;
                }
                let image = self.images.join(format!("cut-{}", count.fetch_add(1, Ordering::Relaxed)));
                let (state, broken) = self.judge(stage, recording, *moment, &image)?;
                fs::remove_file(&image)?;
                let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                tally.struck += 1;
                *tally.states.entry(state).or_default() += 1;
                if broken.is_empty() {
                    continue;
                }
                tally.violations += 1;
                if let Some(Trial(rule)) = self.trial {
                    *rule.lock().unwrap_or_else(PoisonError::into_inner) =
                        broken.first().map(ToString::to_string);
                    continue;
                }
                println!("{} on {}, {} -> {state}", tally.scenario, self.kind.name(), moment.label());
                broken.iter().for_each(|violation| println!("    {violation}"));
            }
            Ok(())
        };
        thread::scope(|scope| {
            let pairs = self.stages.iter().zip(recordings.iter().zip(&halves));
            let workers: Vec<_> = pairs.map(|pair| scope.spawn(move || work(pair))).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a worker panicked"),
            })
        })?;
        Ok(tally.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs the command once on a disk that remembers.
    fn record(&self, stage: &Stage<'_>, worker: usize, meddle: Meddle<'_>) -> Result<Recording> {
        let world = &stage.world;
        let root = world.root();
        let base = self.images.join(format!("base-{worker}"));
        let live = self.images.join(format!("live-{worker}"));
        self.kind.furnish(&base, &world.beside(stage.scenario.name), &root)?;
        image::copy(&base, &live)?;
        let disk = Disk::attach(&live, &self.images.join(format!("disk-{worker}")))?;
        let mounted = self.kind.mount(disk.path(), &root)?;
        world.neighbour.forget();
        let seen = Mutex::new((0, Vec::new()));
        let trace = stage.watch(Class::changes_state, &|nth, call| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let (told, heard) = &mut *seen;
            let events = disk.events();
            *told = events;
            let new: Vec<Heard> = world.neighbour.heard().into_iter().skip(heard.len()).collect();
            heard.extend(new.into_iter().map(|it| (events, it)));
            meddle(nth, call)
        })?;
        let (told, heard) = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        mounted.unmount()?;
        let mut log = disk.detach()?;
        // What came after the end is the work of unmounting.
        log.truncate(told);
        fs::remove_file(&live)?;
        let as_expected = trace.end.code() == Some(stage.scenario.exit);
        ensure!(as_expected || trace.struck.is_some(), "{} unharmed: {}", stage.scenario.name, trace.end);
        // A command that failed told nothing that must be so.
        let told = if as_expected { told } else { usize::MAX };
        Ok(Recording { base, log, told, heard })
    }

    /// Makes what a cut leaves, mounts it, and has one more command set things right.
    fn judge(
        &self,
        stage: &Stage<'_>,
        recording: &Recording,
        moment: Moment,
        image: &Path,
    ) -> Result<(&'static str, Vec<Violation>)> {
        image::copy(&recording.base, image)?;
        let disk = File::options().write(true).open(image)?;
        for (at, data) in left(&recording.log, moment) {
            disk.write_all_at(data, at)?;
        }
        let mut broken = Vec::new();
        let mounted = match self.kind.mount(image, &stage.world.root()) {
            Ok(mounted) => mounted,
            Err(error) => {
                broken.push(Violation::new("mounts", format!("{error:#}")));
                return Ok(("unknown", broken));
            }
        };
        let before = recording.heard.iter().filter(|(events, _)| *events <= moment.after);
        stage.world.neighbour.recall(before.map(|(_, heard)| heard.clone()).collect());
        let expected = Expected { told: moment.after >= recording.told, ..stage.expected.clone() };
        let state = stage.aftermath(&expected, None, false, &mut broken)?;
        mounted.unmount()?;
        Ok((state, broken))
    }
}

/// Returns the moments to cut at: before everything, right before and after each flush, at the end,
/// and `between` ones spread over all, half of them with a lot.
fn moments(log: &[Event], between: usize) -> Vec<Moment> {
    let whole = |after| Moment { after, lot: None };
    let mut moments = vec![whole(0), whole(log.len())];
    for (nth, _) in log.iter().enumerate().filter(|(_, event)| matches!(event, Event::Flush)) {
        moments.extend([whole(nth), whole(nth + 1)]);
        // The disk had everything or nothing of what was not flushed; now anything of it.
        moments.push(Moment { after: nth, lot: Some(nth) });
    }
    for nth in 0..between.min(log.len()) {
        let (first, last) = (nth * log.len() / between, (nth + 1) * log.len() / between);
        let after = first + draw("between", nth) % (last - first).max(1);
        moments.push(Moment { after, lot: (nth % 2 == 1).then_some(nth) });
    }
    moments.sort_by_key(|moment| (moment.after, moment.lot));
    moments.dedup();
    moments
}

/// Returns the writes that are on the disk after a cut.
fn left(log: &[Event], moment: Moment) -> impl Iterator<Item = (u64, &[u8])> {
    let before = log.get(..moment.after).unwrap_or(log);
    let flushed = before.iter().rposition(|event| matches!(event, Event::Flush));
    before.iter().enumerate().filter_map(move |(nth, event)| match (event, moment.lot) {
        (Event::Write(..), Some(lot))
            if Some(nth) > flushed && draw(&lot.to_string(), nth).is_multiple_of(2) =>
        {
            None
        }
        (Event::Write(at, data), _) => Some((*at, data.as_slice())),
        (Event::Flush, _) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Vec<Event> {
        let write = |at| Event::Write(at, vec![1]);
        vec![
            write(0),
            Event::Flush,
            write(1),
            write(2),
            write(3),
            write(4),
            write(5),
            write(6),
            Event::Flush,
            write(7),
        ]
    }

    fn places(moment: Moment) -> Vec<u64> {
        left(&log(), moment).map(|(at, _)| at).collect()
    }

    #[test]
    fn what_was_flushed_is_left_and_the_rest_may_be() {
        assert_eq!(places(Moment { after: 5, lot: None }), [0, 1, 2, 3]);
        assert_eq!(places(Moment { after: 99, lot: None }), [0, 1, 2, 3, 4, 5, 6, 7]);
        let drawn: Vec<Vec<u64>> = (0..20).map(|lot| places(Moment { after: 8, lot: Some(lot) })).collect();
        assert!(drawn.iter().all(|places| places.first() == Some(&0) && places.len() <= 7));
        assert!(drawn.iter().any(|places| places != &drawn[0]), "lots differ");
        assert!(drawn.iter().any(|places| places.len() < 7), "something is lost");
        let flushed = places(Moment { after: 9, lot: Some(3) });
        assert_eq!(flushed, [0, 1, 2, 3, 4, 5, 6], "a flush keeps everything before it");
    }

    #[test]
    fn cuts_come_on_both_sides_of_every_flush() {
        let moments = moments(&log(), 4);
        let lost_first: Vec<_> = (0..20).map(|lot| places(Moment { after: 1, lot: Some(lot) })).collect();
        assert!(lost_first.contains(&vec![]), "the first one may be lost, too");
        for after in [0, 1, 2, 8, 9, 10] {
            assert!(moments.contains(&Moment { after, lot: None }), "{after}");
        }
        assert!(moments.iter().all(|it| it.after <= 10));
        assert!(moments.contains(&Moment { after: 8, lot: Some(8) }));
        assert_eq!(super::moments(&[], 4), [Moment { after: 0, lot: None }]);
    }
}
