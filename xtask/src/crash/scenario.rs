//! What is struck: commands that change something, each in a world made ready for it.

use anyhow::Result;

use super::{
    oracle::Expected,
    world::{PROJECT, World},
};

/// A command and the world it is run in. Commits go by number, the first being 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// How it is called.
    pub(crate) name: &'static str,
    /// The commits deployed before, oldest first; nothing when even the project is missing.
    deployed: Option<&'static [usize]>,
    /// How many releases the project keeps, if not as many as by default.
    keep: Option<&'static str>,
    /// The branch's newest commit.
    newest: usize,
    /// The command; nothing for the one that adds the project.
    command: Option<&'static [&'static str]>,
    /// What is live when it is done.
    new: Option<usize>,
    /// Whether the project exists when it is done.
    pub(crate) stays: bool,
}

const DEPLOY: &[&str] = &["deploy", PROJECT];
pub(crate) const REMOVE: &[&str] = &["remove", PROJECT, "--purge", "--yes"];

/// All of them.
pub(crate) static SCENARIOS: [Scenario; 6] = [
    Scenario { name: "init", deployed: None, keep: None, newest: 1, command: None, new: None, stays: true },
    Scenario {
        name: "first",
        deployed: Some(&[]),
        keep: None,
        newest: 1,
        command: Some(DEPLOY),
        new: Some(1),
        stays: true,
    },
    Scenario {
        name: "incremental",
        deployed: Some(&[1]),
        keep: None,
        newest: 2,
        command: Some(DEPLOY),
        new: Some(2),
        stays: true,
    },
    Scenario {
        name: "rollback",
        deployed: Some(&[1, 2]),
        keep: None,
        newest: 2,
        command: Some(&["rollback", PROJECT, "--yes", "--reason", "crash test"]),
        new: Some(1),
        stays: true,
    },
    Scenario {
        name: "retention",
        deployed: Some(&[1, 2]),
        keep: Some("1"),
        newest: 3,
        command: Some(DEPLOY),
        new: Some(3),
        stays: true,
    },
    Scenario {
        name: "remove",
        deployed: Some(&[1, 2]),
        keep: None,
        newest: 2,
        command: Some(REMOVE),
        new: None,
        stays: false,
    },
];

impl Scenario {
    /// Makes `world`, which must be new, ready and keeps it under the scenario's name. Returns what is
    /// expected of the command if nobody strikes it.
    ///
    /// # Errors
    ///
    /// The world cannot be made ready.
    pub(crate) fn prepare(&self, world: &World) -> Result<Expected> {
        world.push(1)?;
        if let Some(deployed) = self.deployed {
            world.must(&world.init().iter().map(String::as_str).collect::<Vec<_>>())?;
            if let Some(keep) = self.keep {
                world.must(&["config", PROJECT, "deploy.keep", keep])?;
            }
            for commit in deployed {
                world.push(*commit)?;
                world.must(DEPLOY)?;
            }
        }
        world.push(self.newest)?;
        world.keep(self.name)?;
        let old = self.deployed.and_then(|deployed| deployed.last());
        Ok(Expected {
            old: old.map(|commit| world.commit(*commit).cloned()).transpose()?,
            new: self.new.map(|commit| world.commit(commit).cloned()).transpose()?,
            stays: self.stays,
            history: world.history()?,
            told: false,
            settled: true,
            may_wait: false,
        })
    }

    /// Returns the command.
    pub(crate) fn command(&self, world: &World) -> Vec<String> {
        match self.command {
            Some(words) => words.iter().map(|word| (*word).to_owned()).collect(),
            None => world.init(),
        }
    }
}
