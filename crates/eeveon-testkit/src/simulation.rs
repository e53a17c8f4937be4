//! A whole day of a daemon in a few milliseconds: virtual clock, repositories, forge and engine around the
//! real queue, polling plan, schedules, windows and dependencies.
//!
//! A [`Scenario`] is made from a seed and says what happens when: pushes, webhooks, kills, clocks that jump.
//! [`run`] plays it and compares what the daemon promised with what came of it. A seed that fails is cut
//! down to the acts that matter. A [`Flaw`] plants a bug, to see that it is found.

mod daemon;
mod oracle;
mod scenario;
mod world;

use std::fmt;

pub use scenario::{Act, Kill, Scenario, What};
use world::World;

/// A bug to plant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// A newer commit is taken for an older one than what waits.
    CoalesceToOlder,
    /// The queue is not read again after a restart.
    ForgetQueue,
    /// A deployment counts as ended as soon as it starts.
    TwoAtOnce,
    /// While draining, webhooks are accepted and dropped.
    DropWhileDraining,
    /// After a death it is not looked what the dead attempt had done.
    DeployTwice,
    /// Decisions are acted on before the queue is saved.
    ActBeforeSave,
    /// When a schedule last ran is not remembered over a restart.
    ForgetSchedule,
    /// Windows are not looked at.
    IgnoreWindows,
    /// That a project is switched off is not looked at.
    IgnoreStop,
    /// What could not begin counts as done.
    LoseDeferred,
    /// What is asked for whatever the windows say waits for them.
    UrgentWaits,
    /// That a project had its turn after another is not noted.
    Herd,
    /// A look that fails is never reported.
    LostLook,
    /// That somebody died over a commit is forgotten with the request.
    ForgetDeaths,
    /// What waits for a project that is removed waits on.
    KeepGone,
}

/// A promise that was not kept.
#[derive(Debug)]
pub struct Failure {
    /// The seed to try again.
    pub seed: u64,
    /// Which promise.
    pub what: String,
    /// The fewest acts that still lead to it.
    pub acts: Vec<Act>,
    /// What happened, second by second.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        for act in &self.acts {
            writeln!(f, "  {act:?}")?;
        }
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

/// Plays the scenario of a seed.
///
/// # Errors
///
/// The promise that was not kept, with the fewest acts that lead to it.
pub fn run(seed: u64, flaw: Option<Flaw>) -> Result<(), Box<Failure>> {
    let scenario = Scenario::new(seed);
    let Err(_) = World::play(&scenario, flaw, false) else { return Ok(()) };
    let scenario = scenario.smallest(|smaller| World::play(smaller, flaw, false).is_err());
    let (what, trace) = match World::play(&scenario, flaw, true) {
        Err(failure) => failure,
        Ok(()) => ("it failed before, but not again".to_owned(), Vec::new()),
    };
    Err(Box::new(Failure { seed, what, acts: scenario.acts, trace }))
}
