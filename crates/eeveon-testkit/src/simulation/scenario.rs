//! What happens in a simulation, made from a seed.

use eeveon_daemon::{Follow, random::Random};

/// Seconds in which something happens. After them the world is left in peace.
pub(super) const BUSY: i64 = 4 * 3600;

/// Seconds after which everything has to have come to an end.
pub(super) const END: i64 = BUSY + 6 * 3600;

/// Something that happens to the daemon.
#[derive(Clone, Debug)]
pub struct Act {
    /// When, in seconds.
    pub at: i64,
    /// What.
    pub what: What,
}

/// What may happen.
#[derive(Clone, Debug)]
pub enum What {
    /// Somebody pushes to the repository of a project; the forge tells after so many seconds each.
    Push {
        /// Which project.
        project: usize,
        /// The webhooks: none was lost, two was sent twice.
        hooks: Vec<i64>,
    },
    /// Somebody asks for the newest commit.
    Deploy(usize),
    /// Somebody asks for the newest commit, whatever the windows say.
    Urgent(usize),
    /// Somebody asks to go back.
    Rollback(usize),
    /// Somebody cancels a request, named by its number modulo those there are.
    Cancel(u64),
    /// The daemon's process is killed.
    Kill(Kill),
    /// The daemon is asked to end, and started again.
    Drain,
    /// The clock jumps, and is so many seconds off from then on: a day at most, either way.
    Clock(i64),
    /// Somebody freezes a project for so many seconds.
    Freeze {
        /// Which project.
        project: usize,
        /// For how long.
        seconds: i64,
    },
    /// Somebody switches a project off for so many seconds.
    Stop {
        /// Which project.
        project: usize,
        /// For how long.
        seconds: i64,
    },
    /// For so many seconds nothing can begin in a project: somebody works on it, or its file is broken.
    Busy {
        /// Which project.
        project: usize,
        /// For how long.
        seconds: i64,
    },
    /// Somebody removes a project, and after so many seconds there is another one of its name.
    Remove {
        /// Which project.
        project: usize,
        /// For how long.
        seconds: i64,
    },
    /// A host does not answer for so many seconds.
    Down {
        /// Which host.
        host: usize,
        /// For how long.
        seconds: i64,
    },
}

/// When exactly a process dies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kill {
    /// At once.
    Now,
    /// The next time the queue has changed, before it is saved.
    BeforeSave,
    /// The next time the queue was saved, before anything else is done.
    AfterSave,
}

/// How a project is set up.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    pub(super) host: usize,
    /// Deployed after another project, and not watched itself.
    pub(super) after: Option<(usize, Follow)>,
    /// No deployments from 01:00 to 02:00 of every day.
    pub(super) window: bool,
    /// The minute of each hour at which a schedule deploys it.
    pub(super) schedule: Option<u64>,
}

/// A world and what happens in it.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub(super) seed: u64,
    pub(super) projects: Vec<Setup>,
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// What happens, in order.
    pub acts: Vec<Act>,
}

impl Scenario {
    /// Makes a scenario from a seed.
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = 2 + place(random.below(4));
        let projects = (0..count).map(|number| Self::setup(number, &mut random)).collect();
        let running = 1 + place(random.below(3));
        let waiting = if random.chance(20) { 4 } else { 100 };
        let mut acts: Vec<_> = (0..5 + random.below(30))
            .map(|_| Act {
                at: i64::try_from(random.below(BUSY as u64)).unwrap_or(0),
                what: Self::act(count, &mut random),
            })
            .collect();
        acts.sort_by_key(|act| act.at);
        Self { seed, projects, running, waiting, acts }
    }

    fn setup(number: usize, random: &mut Random) -> Setup {
        let after = (number > 0 && random.chance(30)).then(|| {
            let follow = if random.chance(50) { Follow::SameCommit } else { Follow::AnySuccess };
            (place(random.below(number as u64)), follow)
        });
        Setup {
            host: place(random.below(2)),
            after,
            window: random.chance(20),
            schedule: random.chance(20).then(|| random.below(60)),
        }
    }

    fn act(projects: usize, random: &mut Random) -> What {
        let project = place(random.below(projects as u64));
        match random.below(100) {
            0..44 => {
                let hook = i64::try_from(1 + random.below(20)).unwrap_or(1);
                let hooks = match random.below(10) {
                    0..3 => Vec::new(),
                    3 => vec![hook, hook + 1],
                    _ => vec![hook],
                };
                What::Push { project, hooks }
            }
            44..46 => What::Freeze { project, seconds: i64::try_from(random.below(3600)).unwrap_or(0) },
            46..48 => What::Stop { project, seconds: i64::try_from(random.below(3600)).unwrap_or(0) },
            48..50 => What::Busy { project, seconds: i64::try_from(random.below(1800)).unwrap_or(0) },
            50..55 => What::Deploy(project),
            55..58 => What::Urgent(project),
            58..63 => What::Rollback(project),
            63..68 => What::Cancel(random.next_u64()),
            68..84 => What::Kill(match random.below(3) {
                0 => Kill::Now,
                1 => Kill::BeforeSave,
                _ => Kill::AfterSave,
            }),
            84..91 => What::Drain,
            // No daemon takes so long to come back that it never learns of it.
            91..93 => What::Remove { project, seconds: 60 + i64::try_from(random.below(1800)).unwrap_or(0) },
            93..97 => What::Clock(i64::try_from(random.below(2 * 86_400)).unwrap_or(0) - 86_400),
            _ => What::Down {
                host: place(random.below(2)),
                seconds: i64::try_from(random.below(3600)).unwrap_or(0),
            },
        }
    }

    /// Leaves out acts as long as it still `fails`.
    pub(super) fn smallest(self, fails: impl Fn(&Self) -> bool) -> Self {
        let mut smallest = self;
        let mut length = smallest.acts.len().div_ceil(2);
        while length > 0 {
            let mut start = 0;
            while start < smallest.acts.len() {
                let mut smaller = smallest.clone();
                let end = (start + length).min(smaller.acts.len());
                smaller.acts.drain(start..end);
                match fails(&smaller) {
                    true => smallest = smaller,
                    false => start += length,
                }
            }
            length /= 2;
        }
        smallest
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
