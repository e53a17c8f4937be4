//! Projects that are deployed after others: when all they wait for has succeeded.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

use eeveon_core::{CommitId, ProjectName};
use serde::{Deserialize, Serialize};

use crate::error::DaemonError;

/// The format progress is saved in.
pub const FORMAT: u32 = 1;

/// Commits of one project that are remembered as deployed.
const MOST_COMMITS: usize = 64;

/// One project to wait for, as it is written in a project file.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AfterConfig {
    /// Which.
    pub project: ProjectName,
    /// What has to happen there.
    #[serde(default)]
    pub on: Follow,
}

/// What has to happen in the project that is waited for.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Follow {
    /// Any deployment succeeded there.
    #[default]
    AnySuccess,
    /// The same commit was deployed there. For projects of one repository.
    SameCommit,
}

/// One project waits for another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Edge {
    /// The one that waits.
    pub project: ProjectName,
    /// The one it waits for.
    pub after: ProjectName,
    /// What has to happen there.
    pub follow: Follow,
}

/// Projects that wait for each other: each for the next, and the last is the first again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cycle(pub Vec<ProjectName>);

impl std::error::Error for Cycle {}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(ProjectName::as_str).collect();
        f.write_str(&names.join(" -> "))
    }
}

/// A project whose turn has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ready {
    /// Which.
    pub project: ProjectName,
    /// The commit that was deployed in all projects it waits for, if it waits for the same commit.
    pub commit: Option<CommitId>,
}

/// Who waits for whom.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    waits_for: BTreeMap<ProjectName, BTreeMap<ProjectName, Follow>>,
}

impl Graph {
    /// Puts edges together. When two name the same pair, the stricter one counts.
    ///
    /// # Errors
    ///
    /// The shortest way round, when projects wait for each other.
    pub fn new(edges: impl IntoIterator<Item = Edge>) -> Result<Self, Cycle> {
        let mut waits_for: BTreeMap<ProjectName, BTreeMap<ProjectName, Follow>> = BTreeMap::new();
        for Edge { project, after, follow } in edges {
            let known = waits_for.entry(project).or_default().entry(after).or_insert(follow);
            *known = (*known).max(follow);
        }
        let graph = Self { waits_for };
        match graph.cycle() {
            Some(cycle) => Err(cycle),
            None => Ok(graph),
        }
    }

    /// Finds projects that wait for each other. Repeatedly leaves out who waits for nobody that is left;
    /// who remains then waits for someone who remains, too.
    fn cycle(&self) -> Option<Cycle> {
        let mut left: BTreeMap<&ProjectName, BTreeSet<&ProjectName>> =
            self.waits_for.iter().map(|(project, after)| (project, after.keys().collect())).collect();
        loop {
            let before = left.len();
            let names: BTreeSet<&ProjectName> = left.keys().copied().collect();
            left.retain(|_, after| {
                after.retain(|after| names.contains(after));
                !after.is_empty()
            });
            if left.len() == before {
                break;
            }
        }
        left.keys().filter_map(|start| way_round(&left, start)).min_by_key(|cycle| cycle.0.len())
    }

    /// Returns the projects that `project` waits for.
    pub fn waits_for(&self, project: &ProjectName) -> impl Iterator<Item = (&ProjectName, Follow)> {
        self.waits_for.get(project).into_iter().flatten().map(|(after, follow)| (after, *follow))
    }

    /// Tells whether `project` deploys by itself only what another one has deployed.
    pub fn is_led(&self, project: &ProjectName) -> bool {
        self.waits_for(project).any(|(_, follow)| follow == Follow::SameCommit)
    }

    /// Returns the first project that has to deploy `commit` before `project` does so by itself.
    pub fn missing<'a>(
        &'a self,
        progress: &Progress,
        project: &ProjectName,
        commit: &CommitId,
    ) -> Option<&'a ProjectName> {
        let led = self.waits_for(project).filter(|(_, follow)| *follow == Follow::SameCommit);
        led.map(|(after, _)| after).find(|after| !progress.has_deployed(after, commit))
    }

    /// Returns the projects all of whose conditions are met by what happened since their last turn, except
    /// those that are `busy`: they have their turn when they are done, and only one, however much happened.
    /// Call [`Progress::took_turn`] for each that is asked to be deployed.
    pub fn ready(&self, progress: &Progress, busy: impl Fn(&ProjectName) -> bool) -> Vec<Ready> {
        let waiting = self.waits_for.iter().filter(|(project, _)| !busy(project));
        waiting
            .filter_map(|(project, after)| {
                let commit = progress.meets(project, after)?;
                Some(Ready { project: project.clone(), commit })
            })
            .collect()
    }
}

/// Finds the shortest way from `start` back to it.
fn way_round(left: &BTreeMap<&ProjectName, BTreeSet<&ProjectName>>, start: &ProjectName) -> Option<Cycle> {
    let mut came_from: BTreeMap<&ProjectName, &ProjectName> = BTreeMap::new();
    let mut next = VecDeque::from([*left.get_key_value(start)?.0]);
    while let Some(at) = next.pop_front() {
        for after in left.get(at)? {
            if *after == start {
                let mut way = vec![start.clone()];
                let back = std::iter::successors(Some(at), |at| came_from.get(at).copied());
                way.extend(back.filter(|at| *at != start).cloned());
                way.push(start.clone());
                way.reverse();
                return Some(Cycle(way));
            }
            if left.contains_key(after) && !came_from.contains_key(after) {
                came_from.insert(after, at);
                next.push_back(after);
            }
        }
    }
    None
}

/// A deployment that succeeded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Success {
    commit: CommitId,
    number: u64,
}

/// What has succeeded, and who has had a turn since. To be kept.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    format: u32,
    /// How many successes there have been.
    count: u64,
    successes: BTreeMap<ProjectName, VecDeque<Success>>,
    /// Up to which success each project has taken into account what it waits for.
    turns: BTreeMap<ProjectName, u64>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { format: FORMAT, count: 0, successes: BTreeMap::new(), turns: BTreeMap::new() }
    }
}

impl Progress {
    /// Takes note that a deployment of `project` succeeded.
    pub fn succeeded(&mut self, project: &ProjectName, commit: &CommitId) {
        self.count += 1;
        let successes = self.successes.entry(project.clone()).or_default();
        successes.retain(|success| success.commit != *commit);
        if successes.len() >= MOST_COMMITS {
            successes.pop_front();
        }
        successes.push_back(Success { commit: commit.clone(), number: self.count });
    }

    /// Tells whether a deployment of `commit` is remembered to have succeeded in `project`.
    pub fn has_deployed(&self, project: &ProjectName, commit: &CommitId) -> bool {
        self.successes.get(project).is_some_and(|all| all.iter().any(|it| it.commit == *commit))
    }

    /// Takes note that `project` has been asked to be deployed for all that has happened up to now.
    pub fn took_turn(&mut self, project: &ProjectName) {
        self.turns.insert(project.clone(), self.count);
    }

    /// Forgets what nobody waits for any more.
    pub fn prune(&mut self, graph: &Graph) {
        let awaited: BTreeSet<_> = graph.waits_for.values().flat_map(BTreeMap::keys).collect();
        self.successes.retain(|project, _| awaited.contains(project));
        self.turns.retain(|project, _| graph.waits_for.contains_key(project));
    }

    /// Says whether all of `after` has happened since the last turn of `project`, and for which commit.
    fn meets(
        &self,
        project: &ProjectName,
        after: &BTreeMap<ProjectName, Follow>,
    ) -> Option<Option<CommitId>> {
        let turn = self.turns.get(project).copied().unwrap_or(0);
        let mut common: Option<BTreeMap<&CommitId, u64>> = None;
        for (upstream, follow) in after {
            let successes = self.successes.get(upstream)?;
            if *follow == Follow::AnySuccess {
                successes.back().filter(|newest| newest.number > turn)?;
                continue;
            }
            let here = successes.iter().map(|success| (&success.commit, success.number));
            common = Some(match common {
                None => here.collect(),
                // A commit is complete when the last of them has deployed it.
                Some(common) => here
                    .filter_map(|(commit, number)| Some((commit, number.max(*common.get(commit)?))))
                    .collect(),
            });
        }
        let Some(common) = common else { return Some(None) };
        let newest =
            common.into_iter().filter(|(_, number)| *number > turn).max_by_key(|(_, number)| *number)?;
        Some(Some(newest.0.clone()))
    }

    /// Returns the progress as text, for [`Self::load`].
    ///
    /// # Errors
    ///
    /// `daemon/damaged-state`, which does not happen: all of it can be written.
    pub fn save(&self) -> Result<String, DaemonError> {
        serde_json::to_string(self).map_err(damaged)
    }

    /// Reads progress that was saved.
    ///
    /// # Errors
    ///
    /// `daemon/newer-format` when a newer version wrote it, `daemon/damaged-state` when it makes no sense.
    pub fn load(text: &str) -> Result<Self, DaemonError> {
        /// Reads the format, whatever else there is.
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Format { format } = serde_json::from_str(text).map_err(damaged)?;
        if format > FORMAT {
            return Err(DaemonError::Newer {
                what: "progress of dependencies",
                found: format,
                known: FORMAT,
            });
        }
        serde_json::from_str(text).map_err(damaged)
    }
}

fn damaged(error: serde_json::Error) -> DaemonError {
    DaemonError::Damaged { what: "progress of dependencies", why: error.to_string() }
}
