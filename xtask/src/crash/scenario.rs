//! What is struck: commands that change something, each in a world made ready for it.

use anyhow::Result;

use super::{
    oracle::Expected,
    skew,
    world::{BAD, PROJECT, World},
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
    /// Whether the store is as the version before left it.
    older: bool,
    /// Whether the project asks, after the switch, whether what is live is well.
    checked: bool,
    /// Whether the project tells somebody.
    pub(crate) notified: bool,
    /// The branch's newest commit.
    newest: usize,
    /// The command; nothing for the one that adds the project. A commit is written `@2`.
    command: Option<&'static [&'static str]>,
    /// The exit code when nobody disturbs it.
    pub(crate) exit: i32,
    /// What it says on standard error when it is done, if not something on standard output.
    pub(crate) tells: Option<&'static str>,
    /// The commit a deployment is asked for.
    asked: Option<usize>,
    /// What is live when it is done, if anything else than before.
    new: Option<usize>,
    /// A commit that is put aside if, and only if, the deployment ends with this outcome.
    puts_aside: Option<(usize, &'static str)>,
    /// A question whose answer is all that changes, and what it is when the command is done.
    question: Option<(Question, &'static str)>,
    /// Whether the project exists when it is done.
    pub(crate) stays: bool,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// The value of a key of the configuration.
    Key(&'static str),
    /// The commits put aside.
    Aside,
}

const DEPLOY: &[&str] = &["deploy", PROJECT];
pub(crate) const REMOVE: &[&str] = &["remove", PROJECT, "--purge", "--yes"];

/// A deploy of the second commit over the first.
const INCREMENTAL: Scenario = Scenario {
    name: "incremental",
    deployed: Some(&[1]),
    keep: None,
    older: false,
    checked: false,
    notified: false,
    newest: 2,
    command: Some(DEPLOY),
    exit: 0,
    tells: None,
    asked: Some(2),
    new: Some(2),
    puts_aside: Some((2, "rolled_back")),
    question: None,
    stays: true,
};

/// Something else than a deploy, with two commits deployed before.
const OTHER: Scenario =
    Scenario { deployed: Some(&[1, 2]), asked: None, new: None, puts_aside: None, ..INCREMENTAL };

/// All of them.
pub(crate) static SCENARIOS: [Scenario; 12] = [
    Scenario { name: "init", deployed: None, newest: 1, command: None, ..OTHER },
    Scenario {
        name: "first",
        deployed: Some(&[]),
        newest: 1,
        asked: Some(1),
        new: Some(1),
        puts_aside: Some((1, "rolled_back")),
        ..INCREMENTAL
    },
    INCREMENTAL,
    Scenario {
        name: "rollback",
        // One more than it needs: going back twice would be seen.
        deployed: Some(&[1, 2, 3]),
        newest: 3,
        command: Some(&["rollback", PROJECT, "--yes", "--reason", "crash test"]),
        asked: Some(2),
        new: Some(2),
        puts_aside: Some((3, "succeeded")),
        ..INCREMENTAL
    },
    Scenario {
        name: "retention",
        deployed: Some(&[1, 2]),
        keep: Some("1"),
        newest: 3,
        asked: Some(3),
        new: Some(3),
        puts_aside: Some((3, "rolled_back")),
        ..INCREMENTAL
    },
    Scenario { name: "remove", command: Some(REMOVE), stays: false, ..OTHER },
    Scenario { name: "checked", checked: true, ..INCREMENTAL },
    Scenario { name: "notified", notified: true, ..INCREMENTAL },
    Scenario {
        name: "reverted",
        checked: true,
        notified: true,
        newest: BAD,
        exit: 11,
        tells: Some("failed after the switch and was rolled back"),
        asked: Some(BAD),
        new: None,
        puts_aside: Some((BAD, "rolled_back")),
        ..INCREMENTAL
    },
    Scenario {
        name: "configured",
        command: Some(&["config", PROJECT, "deploy.keep", "3"]),
        tells: Some("the next deploy of"),
        question: Some((Question::Key("deploy.keep"), "3")),
        ..OTHER
    },
    Scenario {
        name: "quarantine",
        command: Some(&["quarantine", PROJECT, "@2"]),
        tells: Some("is put aside"),
        question: Some((Question::Aside, "@2")),
        ..OTHER
    },
    Scenario {
        name: "migrated",
        older: true,
        command: Some(&["quarantine", PROJECT, "@2"]),
        tells: Some("is put aside"),
        question: Some((Question::Aside, "@2")),
        ..OTHER
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
            world.configure(&self.sections(world))?;
            if let Some(keep) = self.keep {
                world.must(&["config", PROJECT, "deploy.keep", keep])?;
            }
            for commit in deployed {
                world.push(*commit)?;
                world.must(DEPLOY)?;
            }
        }
        world.push(self.newest)?;
        let history = world.history()?;
        // Asked before: every question would bring the store up to date.
        let answer = self.answer(world)?;
        if self.older {
            skew::make_older(&world.store())?;
        }
        world.keep(self.name)?;
        let commit = |number: Option<usize>| number.map(|it| world.commit(it).cloned()).transpose();
        let id = |number: usize| Ok::<_, anyhow::Error>(world.commit(number)?.id.clone());
        let answers = match (answer, self.question) {
            (Some(before), Some((_, after))) => Some((before, spelled(after, world)?)),
            _ => None,
        };
        Ok(Expected {
            old: commit(self.deployed.and_then(|deployed| deployed.last()).copied())?,
            new: commit(self.new)?,
            asked: commit(self.asked)?,
            puts_aside: self
                .puts_aside
                .map(|(it, outcome)| Ok::<_, anyhow::Error>((id(it)?, outcome)))
                .transpose()?,
            answers,
            stays: self.stays,
            history,
            settled: true,
            ..Expected::default()
        })
    }

    fn sections(&self, world: &World) -> String {
        let mut text = String::new();
        if self.checked {
            text += &format!(
                "[[health]]\nurl = \"{}\"\nattempts = 2\ntimeout = \"2s\"\nbackoff = {{ first = \"1ms\", max = \"2ms\" }}\n",
                world.neighbour.health_url()
            );
        }
        if self.notified {
            text += &format!(
                "[[notify]]\nchannel = \"webhook\"\nurl = \"{}\"\nlevels = [\"success\", \"failure\", \"warning\", \"info\"]\n",
                world.neighbour.hook_url()
            );
        }
        text
    }

    /// Returns the command.
    ///
    /// # Errors
    ///
    /// There is no such commit.
    pub(crate) fn command(&self, world: &World) -> Result<Vec<String>> {
        match self.command {
            Some(words) => words.iter().map(|word| spelled(word, world)).collect(),
            None => Ok(world.init()),
        }
    }

    /// Asks the scenario's question, if it has one.
    ///
    /// # Errors
    ///
    /// There is no answer.
    pub(crate) fn answer(&self, world: &World) -> Result<Option<String>> {
        Ok(match self.question {
            Some((Question::Key(key), _)) => Some(world.must(&["config", PROJECT, key])?.trim().to_owned()),
            Some((Question::Aside, _)) => Some(world.aside()?.join(" ")),
            None => None,
        })
    }
}

/// Puts the id of a commit in the place of its number.
fn spelled(word: &str, world: &World) -> Result<String> {
    match word.strip_prefix('@') {
        Some(number) => Ok(world.commit(number.parse()?)?.id.clone()),
        None => Ok(word.to_owned()),
    }
}
