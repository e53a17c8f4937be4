//! Which repositories to look at, and when.
//!
//! Every operation costs the logarithm of the number of projects. Hosts are kept apart: a host that
//! answers slowly fills its own places only.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use eeveon_core::ProjectName;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The shortest interval there is, so that no setting makes a busy loop.
const SHORTEST: Duration = Duration::from_secs(1);

/// The longest interval there is, so that no setting overflows.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// When a process begins, first looks are spread over so much time at most.
const SPREAD: Duration = Duration::from_secs(30);

/// Each pause is changed by up to so many hundredths, so that projects do not march in step.
const JITTER: u64 = 10;

/// How eagerly repositories are looked at, as written in the daemon's settings.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PollingConfig {
    /// Looks at one host at the same time.
    pub per_host: usize,
    /// Looks at the same time in all.
    pub in_all: usize,
    /// The longest pause after errors, unless the interval itself is longer.
    #[serde(with = "jiff::fmt::serde::unsigned_duration::friendly::compact::required")]
    pub longest_pause: Duration,
}

impl Default for PollingConfig {
    fn default() -> Self {
        Self { per_host: 4, in_all: 64, longest_pause: Duration::from_secs(3600) }
    }
}

/// What to look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Watch {
    /// How often.
    pub interval: Duration,
    /// The host that answers. Looks at one host share its places.
    pub host: String,
}

/// How a look went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Looked {
    /// There was an answer, new commit or not.
    Well,
    /// There was none.
    Failed,
}

/// What people should be told after a look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tell {
    /// Nothing: it is as it was.
    Nothing,
    /// The repository cannot be looked at. Told once.
    Broke,
    /// It can be again.
    Mended {
        /// Looks that failed.
        failures: u32,
        /// When the first of them did.
        since: Timestamp,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    watch: Watch,
    due: Timestamp,
    /// The pause before `due`.
    pause: Duration,
    failures: u32,
    since: Timestamp,
    busy: bool,
    turn: u64,
}

#[derive(Clone, Debug, Default)]
struct Host {
    busy: usize,
    due: BTreeSet<(Timestamp, ProjectName)>,
    /// Under which time the host is among those with room.
    listed: Option<Timestamp>,
}

/// The plan of looks.
#[derive(Clone, Debug)]
pub struct Polling {
    config: PollingConfig,
    seed: u64,
    projects: BTreeMap<ProjectName, Entry>,
    hosts: BTreeMap<String, Host>,
    /// Hosts that have room and something to look at, by when that is due.
    open: BTreeSet<(Timestamp, String)>,
    busy: usize,
    /// The latest time that was heard of.
    latest: Timestamp,
}

impl Polling {
    /// Returns an empty plan. The same `seed` gives the same plan.
    pub fn new(config: PollingConfig, seed: u64) -> Self {
        Self {
            config,
            seed,
            projects: BTreeMap::new(),
            hosts: BTreeMap::new(),
            open: BTreeSet::new(),
            busy: 0,
            latest: Timestamp::MIN,
        }
    }

    /// Watches a project from now on, or otherwise than before.
    pub fn watch(&mut self, project: ProjectName, watch: Watch, now: Timestamp) {
        self.forget(&project);
        let spread = SPREAD.min(watch.interval);
        let millis = Random::named(self.seed, project.as_str()).below(millis(spread));
        let pause = Duration::from_millis(millis);
        let due = later(now, pause);
        let host = self.hosts.entry(watch.host.clone()).or_default();
        host.due.insert((due, project.clone()));
        let name = watch.host.clone();
        self.projects
            .insert(project, Entry { watch, due, pause, failures: 0, since: now, busy: false, turn: 0 });
        self.list(&name);
    }

    /// Does not look at a project any more. What comes of a look that is under way is ignored.
    pub fn forget(&mut self, project: &ProjectName) {
        let Some(entry) = self.projects.remove(project) else { return };
        let name = entry.watch.host;
        if let Some(host) = self.hosts.get_mut(&name) {
            host.due.remove(&(entry.due, project.clone()));
            if entry.busy {
                host.busy = host.busy.saturating_sub(1);
                self.busy = self.busy.saturating_sub(1);
            }
        }
        self.list(&name);
    }

    /// Returns what to look at now. Each must be followed by [`Self::looked`], also when nothing came of it.
    pub fn next(&mut self, now: Timestamp) -> Vec<ProjectName> {
        if now < self.latest {
            self.rewind(now);
        }
        self.latest = now;
        let mut chosen = Vec::new();
        while self.busy < self.config.in_all.max(1) {
            let Some((_, name)) = self.open.first().filter(|(due, _)| *due <= now).cloned() else { break };
            let first = self.hosts.get_mut(&name).and_then(|host| {
                host.busy += 1;
                host.due.pop_first()
            });
            self.list(&name);
            let Some((_, project)) = first else { continue };
            self.busy += 1;
            if let Some(entry) = self.projects.get_mut(&project) {
                entry.busy = true;
            }
            chosen.push(project);
        }
        chosen
    }

    /// Takes note of how a look went, and says what people should be told.
    pub fn looked(&mut self, project: &ProjectName, looked: Looked, now: Timestamp) -> Tell {
        let Some(entry) = self.projects.get_mut(project).filter(|entry| entry.busy) else {
            return Tell::Nothing;
        };
        entry.busy = false;
        self.busy = self.busy.saturating_sub(1);
        if let Some(host) = self.hosts.get_mut(&entry.watch.host) {
            host.busy = host.busy.saturating_sub(1);
        }
        let tell = match (looked, entry.failures) {
            (Looked::Well, 0) => Tell::Nothing,
            (Looked::Well, failures) => Tell::Mended { failures, since: entry.since },
            (Looked::Failed, 0) => {
                entry.since = now;
                Tell::Broke
            }
            (Looked::Failed, _) => Tell::Nothing,
        };
        entry.failures = if looked == Looked::Well { 0 } else { entry.failures.saturating_add(1) };
        self.pause(project, now);
        tell
    }

    /// Takes note that a webhook told what a look would have found: the next look is a whole interval away.
    pub fn heard(&mut self, project: &ProjectName, now: Timestamp) {
        if self.projects.get(project).is_some_and(|entry| !entry.busy) {
            self.pause(project, now);
        }
    }

    /// Returns when [`Self::next`] has something, unless a look ends before; none while all places are taken.
    pub fn next_due(&self) -> Option<Timestamp> {
        let open = self.open.first().map(|(due, _)| *due);
        open.filter(|_| self.busy < self.config.in_all.max(1))
    }

    /// Puts the next look of a project a pause away.
    fn pause(&mut self, project: &ProjectName, now: Timestamp) {
        let Some(entry) = self.projects.get_mut(project) else { return };
        entry.turn = entry.turn.wrapping_add(1);
        let interval = entry.watch.interval.clamp(SHORTEST, LONGEST);
        let most = self.config.longest_pause.clamp(interval, LONGEST);
        let doubled = interval.saturating_mul(1_u32.checked_shl(entry.failures).unwrap_or(u32::MAX));
        let pause = millis(doubled.min(most));
        let random = Random::named(self.seed ^ entry.turn, project.as_str()).below(2 * JITTER + 1);
        entry.pause = Duration::from_millis(pause / 100 * (100 - JITTER + random));
        let (before, due) = (entry.due, later(now, entry.pause));
        entry.due = due;
        let name = entry.watch.host.clone();
        if let Some(host) = self.hosts.get_mut(&name) {
            host.due.remove(&(before, project.clone()));
            host.due.insert((due, project.clone()));
        }
        self.list(&name);
    }

    /// The clock was put back: nothing may be further away than its pause.
    fn rewind(&mut self, now: Timestamp) {
        for (project, entry) in self.projects.iter_mut().filter(|(_, entry)| !entry.busy) {
            let due = entry.due.min(later(now, entry.pause));
            if let Some(host) = self.hosts.get_mut(&entry.watch.host) {
                host.due.remove(&(entry.due, project.clone()));
                host.due.insert((due, project.clone()));
            }
            entry.due = due;
        }
        let names: Vec<_> = self.hosts.keys().cloned().collect();
        names.iter().for_each(|name| self.list(name));
    }

    /// Enters a host among those with room, or takes it out, as it now stands.
    fn list(&mut self, name: &str) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let room = host.busy < self.config.per_host.max(1);
        let due = host.due.first().map(|(due, _)| *due).filter(|_| room);
        let before = std::mem::replace(&mut host.listed, due);
        let empty = host.due.is_empty() && host.busy == 0;
        if let Some(before) = before {
            self.open.remove(&(before, name.to_owned()));
        }
        if let Some(due) = due {
            self.open.insert((due, name.to_owned()));
        }
        if empty {
            self.hosts.remove(name);
        }
    }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    let pause = SignedDuration::try_from(pause).unwrap_or(SignedDuration::MAX);
    now.checked_add(pause).unwrap_or(Timestamp::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
