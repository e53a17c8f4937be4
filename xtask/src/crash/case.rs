//! One blow, and what comes of it.

use std::{path::Path, time::Duration};

use anyhow::Result;
use nix::errno::Errno;

use super::{
    calls::{Call, Class},
    oracle::{Expected, Found, Row, Violation, complaint, judge, serves},
    scenario::{REMOVE, Scenario},
    told,
    tracer::{Blow, Trace, Watched},
    world::{COMMITS, PROJECT, World},
};

/// How long the next command may take to set things right.
const CONVERGES: Duration = Duration::from_secs(5);

/// What is done to a command, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strike {
    /// Which calls are counted.
    pub(crate) counts: fn(Class) -> bool,
    /// The number of the call among them, the first being 1.
    pub(crate) at: usize,
    /// What is done.
    pub(crate) blow: Blow,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The call that was struck; nothing when the command made fewer calls this time.
    pub(crate) struck: Option<Call>,
    /// Whether things are as before or as wanted after the next command.
    pub(crate) state: &'static str,
    /// The broken rules.
    pub(crate) broken: Vec<Violation>,
}

/// A scenario in a world of its own.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) world: World,
    pub(crate) expected: Expected,
}

impl Stage<'_> {
    /// Runs the command unharmed and returns the calls it makes that count.
    ///
    /// # Errors
    ///
    /// It does not end as it should.
    pub(crate) fn rehearse(&self, counts: fn(Class) -> bool) -> Result<Vec<Call>> {
        self.world.restore(self.scenario.name)?;
        let trace = self.watch(counts, &|_, _| None)?;
        let as_expected = trace.end.code() == Some(self.scenario.exit);
        anyhow::ensure!(as_expected, "{} unharmed: {}", self.scenario.name, trace.end);
        Ok(trace.calls)
    }

    /// Runs the command under watch, in the world as it is.
    ///
    /// # Errors
    ///
    /// It cannot be run or watched.
    pub(crate) fn watch(
        &self,
        counts: fn(Class) -> bool,
        decide: &dyn Fn(usize, &Call) -> Option<Blow>,
    ) -> Result<Trace> {
        let world = &self.world;
        Watched {
            program: &world.program,
            arguments: &self.scenario.command(world)?,
            environment: &world.environment(),
            root: &world.root(),
            stdout: world.beside("struck.out"),
            stderr: world.beside("struck.err"),
            counts,
            decide,
        }
        .run()
    }

    /// Strikes the command once, has one more command set things right, and judges what is found.
    ///
    /// # Errors
    ///
    /// The harness itself failed.
    pub(crate) fn strike(&self, strike: Strike) -> Result<Verdict> {
        let world = &self.world;
        world.restore(self.scenario.name)?;
        world.neighbour.forget();
        let trace = self.watch(strike.counts, &|nth, _| (nth == strike.at).then_some(strike.blow))?;
        let exit = trace.end.code();
        let killed = strike.blow == Blow::Kill;
        let as_expected = exit == Some(self.scenario.exit);
        let [stdout, stderr] = ["struck.out", "struck.err"].map(|name| std::fs::read(world.beside(name)));
        let stderr = String::from_utf8_lossy(&stderr?).into_owned();
        let mut broken = Vec::new();
        if !killed && !as_expected {
            broken.extend(complaint(exit, &stderr, &world.root().to_string_lossy()));
        }
        let told = match self.scenario.tells {
            None => stdout?.ends_with(b"\n"),
            Some(text) => stderr.contains(text),
        };
        let expected = Expected {
            told: told && (killed || as_expected),
            again: stderr.contains("trying again with the space kept in hand"),
            settled: killed,
            may_wait: exit == Some(12),
            ..self.expected.clone()
        };
        // A message that is late by a fault was told of, and comes when its time has come.
        let may_be_late =
            !killed && ["a message to", "notifications could"].iter().any(|it| stderr.contains(it));
        let state = self.aftermath(&expected, exit, may_be_late, &mut broken)?;
        let mut struck = trace.struck;
        if let Some(call) = &mut struck {
            let on = call.on.strip_prefix(world.root()).map(Path::to_owned);
            call.on = on.unwrap_or_else(|_| call.on.clone());
        }
        Ok(Verdict { struck, state, broken })
    }

    /// Judges what serves, has one more command set things right, judges what is found, and does what
    /// a person would do next. `exit` is the exit code of the command, if there was one.
    ///
    /// # Errors
    ///
    /// The harness itself failed.
    pub(crate) fn aftermath(
        &self,
        expected: &Expected,
        exit: Option<i32>,
        may_be_late: bool,
        broken: &mut Vec<Violation>,
    ) -> Result<&'static str> {
        broken.extend(serves(expected, &self.world.live()?.1));
        let state = self.settle(expected, exit, broken)?;
        if let Err(error) = self.go_on(may_be_late, broken) {
            broken.push(Violation::new("goes on", format!("{error:#}")));
        }
        // Every path is below it: naming it makes lines long and says nothing.
        let root = format!("{}/", self.world.root().display());
        for violation in broken {
            violation.what = violation.what.replace(&root, "");
        }
        Ok(state)
    }

    /// Runs one more command and judges what is there then. Returns whether things are as before or as
    /// wanted.
    ///
    /// # Errors
    ///
    /// The harness itself failed.
    pub(crate) fn settle(
        &self,
        expected: &Expected,
        exit: Option<i32>,
        broken: &mut Vec<Violation>,
    ) -> Result<&'static str> {
        let next = self.world.run(&["status".to_owned()])?;
        if !next.status.success() {
            broken.push(Violation::new("converges", format!("`status` ended with {}", next.summary())));
        }
        if next.took > CONVERGES {
            let took = next.took.as_millis();
            broken.push(Violation::new("converges", format!("the next command took {took} ms")));
        }
        if next.stderr.contains("warning") {
            broken.push(Violation::new("converges", next.summary()));
        }
        // What cannot be looked at is a finding, not a fault of the harness.
        let seen = self.world.look().and_then(|found| {
            let answer = self.scenario.answer(&self.world)?;
            Ok(Found { answer, ..found })
        });
        let found = match seen {
            Ok(found) => found,
            Err(error) => {
                broken.push(Violation::new("converges", format!("{error:#}")));
                return Ok("unknown");
            }
        };
        let (state, more) = judge(expected, &found);
        broken.extend(more);
        let taken_back = matches!(exit, Some(10 | 11 | 13));
        if taken_back && state != "old" {
            let what = format!("exit code {} says the old release serves; it is {state}", exit.unwrap_or(0));
            broken.push(Violation::new("exit code", what));
        }
        if let Some(waiting) = found.said.and_then(|said| said.status.waiting).filter(|_| expected.may_wait) {
            let ran = self.world.run(&["resume".to_owned(), waiting.deployment.to_string()])?;
            let ends = [Some(0), Some(self.scenario.exit)];
            if !ends.contains(&ran.status.code()) {
                broken.push(Violation::new("goes on", format!("`resume` ended with {}", ran.summary())));
            }
        }
        Ok(state)
    }

    /// Does what a person would do next: repeats what was not done, and deploys the next commit.
    ///
    /// # Errors
    ///
    /// That does not work.
    pub(crate) fn go_on(&self, may_be_late: bool, broken: &mut Vec<Violation>) -> Result<()> {
        let world = &self.world;
        if !self.scenario.stays {
            if world.has_project() {
                world.must(REMOVE)?;
            }
            let gone = Expected { told: true, settled: true, ..Expected::default() };
            broken.extend(judge(&gone, &world.look()?).1.into_iter().map(later));
        }
        if !world.has_project() {
            world.must(&world.init().iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        let before = world.history()?;
        world.push(COMMITS)?;
        world.must(&["deploy", PROJECT, "--no-wait"])?;
        let found = world.look()?;
        // The deploy finishes or takes back what is open; to which end is for the engine to decide.
        let now = |row: Row| {
            let mut rows = found.said.iter().flat_map(|said| &said.history);
            let closed = rows.find(|it| it.id == row.id && it.outcome.is_some());
            closed.filter(|_| row.outcome.is_none()).cloned().unwrap_or(row)
        };
        let newest = world.commit(COMMITS)?.clone();
        let done = Expected {
            asked: Some(newest.clone()),
            new: Some(newest),
            stays: true,
            history: before.into_iter().map(now).collect(),
            told: true,
            settled: true,
            ..Expected::default()
        };
        broken.extend(judge(&done, &found).1.into_iter().map(later));
        if self.scenario.notified {
            let is_new = |row: &&Row| self.expected.history.iter().all(|it| it.id != row.id);
            let rows: Vec<&Row> = found.said.iter().flat_map(|said| &said.history).filter(is_new).collect();
            broken.extend(told::judge(&rows, &world.neighbour.heard(), may_be_late));
        }
        Ok(())
    }
}

fn later(violation: Violation) -> Violation {
    Violation::new("goes on", violation.to_string())
}

/// Calls that may fail, and how.
pub(crate) struct Faults {
    /// How they are called.
    pub(crate) name: &'static str,
    /// Which they are.
    pub(crate) counts: fn(Class) -> bool,
    /// The errors they may return.
    pub(crate) errors: &'static [Errno],
}

/// All of them. Which errors a call may return is in its page of the Linux manual, section 2.
pub(crate) const FAULTS: [Faults; 9] = [
    Faults {
        name: "sync",
        counts: |it| it == Class::Sync,
        errors: &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EINTR],
    },
    Faults { name: "rename", counts: |it| it == Class::Rename, errors: NEW_NAME },
    Faults {
        name: "write",
        counts: |it| it == Class::Write,
        errors: &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EINTR],
    },
    Faults { name: "link", counts: |it| it == Class::Link, errors: NEW_NAME },
    Faults { name: "mkdir", counts: |it| it == Class::Mkdir, errors: NEW_NAME },
    Faults {
        name: "create",
        counts: |it| it == Class::Create,
        errors: &[
            Errno::EIO,
            Errno::ENOSPC,
            Errno::EDQUOT,
            Errno::EMFILE,
            Errno::EROFS,
            Errno::ENOMEM,
            Errno::EINTR,
        ],
    },
    Faults {
        name: "open",
        counts: |it| it == Class::Open,
        errors: &[Errno::EIO, Errno::EMFILE, Errno::ENOMEM, Errno::EINTR],
    },
    Faults { name: "read", counts: |it| it == Class::Read, errors: &[Errno::EIO, Errno::EINTR] },
    Faults {
        name: "send",
        counts: |it| it == Class::Send,
        errors: &[Errno::ECONNREFUSED, Errno::ECONNRESET],
    },
];

const NEW_NAME: &[Errno] = &[Errno::EIO, Errno::ENOSPC, Errno::EDQUOT, Errno::EROFS, Errno::ENOMEM];
