//! The projects as the daemon knows them: those that came, changed or went, and what keeps their
//! deployments from starting now.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use eeveon_core::{Actor, CommitId, ProjectName, Trigger};
use jiff::Timestamp;

use super::{
    Daemon,
    triggers::{by_itself, newest, schedules},
};
use crate::{Ask, DaemonError, Done, Event, Graph, Held, Project, State, Unusable, handle::Message};

/// How long a project waits when something could not begin; each time twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);

/// It never waits longer than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// After so many tries in a row, which take at least half an hour, it is given up.
const MOST_TRIES: u32 = 8;

/// How long something waits for another process that works on its project.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A pause before something is tried again.
#[derive(Clone, Debug)]
pub(super) struct Pause {
    pub(super) until: Timestamp,
    tries: u32,
    why: String,
    /// It ends when nobody works on the project any more, if that is earlier.
    in_use: bool,
    /// The commit that was tried.
    tried: Option<CommitId>,
}

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = if self.in_use { "once that is over, or at" } else { "at" };
        write!(f, "{}; tried again {when} {}", self.why, self.until.strftime("%H:%M:%SZ"))
    }
}

impl Daemon {
    fn watch(&mut self, project: &Project, now: Timestamp) {
        match &project.watch {
            Some(watch) => self.polling.watch(project.name.clone(), watch.clone(), now),
            None => {
                self.polling.forget(&project.name);
                self.unseen.remove(&project.name);
            }
        }
    }

    /// Takes over what changed in the project files.
    pub(super) async fn reload(&mut self) -> Result<(), DaemonError> {
        let Some(found) = self.world.changed().await else { return Ok(()) };
        let now = self.clock.now();
        let gone: BTreeSet<ProjectName> =
            self.mentioned().filter(|name| !found.contains_key(*name)).cloned().collect();
        for name in gone {
            self.forget(name).await?;
        }
        let mut projects = Vec::new();
        for (name, project) in found {
            match project {
                Ok(project) => {
                    if let Some(Unusable::Broken(_)) = self.unusable.remove(&name) {
                        self.world.say(Some(&name), "it can be used again");
                    }
                    projects.push(project);
                }
                Err(why) => self.suspend(name, why),
            }
        }
        let edges = projects.iter().flat_map(|it| it.after.clone());
        let circle = match Graph::new(edges) {
            Ok(graph) => {
                self.graph = graph;
                None
            }
            Err(cycle) => {
                self.graph = Graph::default();
                Some(cycle.to_string())
            }
        };
        if let Some(cycle) = circle.as_ref().filter(|_| circle != self.circle) {
            let words = format!("projects wait for each other, so none of them follows another: {cycle}");
            self.world.say(None, &words);
        }
        self.circle = circle;
        let mut missed = Vec::new();
        for project in projects {
            let known = self.projects.get(&project.name);
            let other_branch = known.is_some_and(|known| known.branch != project.branch);
            let switched_on = known.is_some_and(|known| !known.automatic && project.automatic);
            let is_watched = known.is_some_and(|known| known.watch == project.watch);
            if other_branch || switched_on {
                // What came in the meantime is looked for again.
                self.memory.asked.remove(&project.name);
            }
            if other_branch || switched_on || !is_watched {
                self.watch(&project, now);
            }
            if switched_on && project.watch.is_none() && !self.graph.is_led(&project.name) {
                missed.push(project.name.clone());
            }
            self.projects.insert(project.name.clone(), project);
        }
        if self.unusable.is_empty() {
            // What those that cannot be read now have to do with others is not known.
            self.progress.prune(&self.graph);
            let schedules: BTreeSet<String> =
                self.projects.values().flat_map(schedules).map(|(key, ..)| key).collect();
            self.memory.handled.retain(|key, _| schedules.contains(key));
        }
        self.go_through = None;
        for name in self.names() {
            self.hold_or_release(&name, now).await?;
        }
        for name in missed {
            let Some(project) = self.projects.get(&name) else { continue };
            let (want, why) = (newest(project, None, self.queue.seen_now()), "deploys by itself again");
            let ask = by_itself(name, want, Actor::Engine, Trigger::Poll, Some(why));
            self.ask_by_itself(ask, |_| ()).await?;
        }
        self.save_and_act().await?;
        self.knows_projects = true;
        self.begin().await?;
        self.follow_on().await
    }

    /// Returns all projects there are.
    pub(super) fn names(&self) -> Vec<ProjectName> {
        self.projects.keys().chain(self.unusable.keys()).cloned().collect()
    }

    /// Returns all projects of which anything is known here.
    fn mentioned(&self) -> impl Iterator<Item = &ProjectName> {
        let queued = self.queue.waiting().chain(self.queue.aside()).map(|it| &it.ask.project);
        self.projects.keys().chain(self.unusable.keys()).chain(self.memory.asked.keys()).chain(queued)
    }

    /// Lets nothing wait of a project that is no more.
    async fn forget(&mut self, name: ProjectName) -> Result<(), DaemonError> {
        let was_known = self.projects.remove(&name).is_some() | self.unusable.remove(&name).is_some();
        self.polling.forget(&name);
        self.unseen.remove(&name);
        self.held.remove(&name);
        self.paused.remove(&name);
        self.memory.asked.remove(&name);
        if self.queue.waiting().any(|it| it.ask.project == name) {
            self.world.say(Some(&name), "the project was removed, and what waited for it is dropped");
        } else if was_known {
            self.world.say(Some(&name), "the project was removed");
        }
        self.event(Event::Gone(name)).await
    }

    /// Lets everything of a project wait until it can be used again.
    fn suspend(&mut self, name: ProjectName, why: Unusable) {
        self.projects.remove(&name);
        self.polling.forget(&name);
        self.unseen.remove(&name);
        // One that is missing is told of when it is there again or gone for good.
        if why != Unusable::Missing && self.unusable.get(&name) != Some(&why) {
            let words = format!("it cannot be used, and everything of it waits: {why}");
            self.world.say(Some(&name), &words);
        }
        self.unusable.insert(name, why);
    }

    /// Tells whether what could not begin waits in line again, and lets its project wait then.
    pub(super) fn waits_again(&mut self, ask: &Ask, done: &Done) -> bool {
        let before = self.paused.get(&ask.project);
        let ran_out = before.is_some_and(|it| it.in_use && it.until <= self.clock.now());
        // Whoever asked in person learns at once that it could not begin, and decides; nobody else does.
        let is_counted_on = ask.is_automatic() || ask.shared;
        let tries = before.map_or(0, |it| it.tries);
        let in_use = done.in_use && !ran_out;
        let (pause, tries) = match in_use {
            true => (PATIENCE, tries),
            false if !done.again || !is_counted_on || tries >= MOST_TRIES => return false,
            // Longer each time.
            false => (FIRST_PAUSE.saturating_mul(1 << tries.min(16)).min(LONGEST_PAUSE), tries + 1),
        };
        let why = done.failure.as_ref().map_or("it could not begin", |it| it.message.as_str()).to_owned();
        let until = self.clock.now().checked_add(pause).unwrap_or(Timestamp::MAX);
        let tried = ask.want.commit().or(before.and_then(|it| it.tried.as_ref())).cloned();
        self.paused.insert(ask.project.clone(), Pause { until, tries, why, in_use, tried });
        self.go_through = None;
        if in_use {
            let (world, handle, project) =
                (Arc::clone(&self.world), self.handle.clone(), ask.project.clone());
            self.tasks.spawn(async move {
                if tokio::time::timeout(PATIENCE, world.free(&project)).await.is_ok() {
                    let _the_daemon_ended = handle.send(Message::Free { project }).await;
                }
            });
        }
        true
    }

    /// Tries at once what waits to be tried again, when a look has found a commit that was not tried yet.
    pub(super) async fn try_again_for(
        &mut self,
        name: &ProjectName,
        new: CommitId,
    ) -> Result<(), DaemonError> {
        let now = self.clock.now();
        let pause = self.paused.get_mut(name).filter(|it| !it.in_use && it.tried.as_ref() != Some(&new));
        let Some(pause) = pause else { return Ok(()) };
        (pause.until, pause.tried) = (now, Some(new));
        self.hold_or_release(name, now).await
    }

    /// Lets go on what waited for another process that worked on a project.
    pub(super) async fn free(&mut self, name: ProjectName) -> Result<(), DaemonError> {
        if self.paused.get(&name).is_some_and(|it| it.in_use) {
            self.paused.remove(&name);
            self.hold_or_release(&name, self.clock.now()).await?;
        }
        Ok(())
    }

    /// Lets a project's deployments wait, or not any more, as things stand now.
    pub(super) async fn hold_or_release(
        &mut self,
        name: &ProjectName,
        now: Timestamp,
    ) -> Result<(), DaemonError> {
        let project = self.projects.get(name);
        let pause = self.paused.get(name).filter(|it| now < it.until);
        let windows = || match project.map(|it| it.windows.may_start(now, it.expected)) {
            Some(State::Shut(shut)) => Some(shut.to_string()),
            Some(State::Open) | None => None,
        };
        let unusable = self.unusable.get(name).map(|why| format!("it cannot be used: {why}"));
        let shut = unusable.or_else(windows);
        let stopped = project.is_some_and(|it| !it.automatic);
        let held = Held { shut: shut.is_some(), stopped, paused: pause.is_some() };
        match shut.or_else(|| pause.map(Pause::to_string)) {
            Some(why) => self.held.insert(name.clone(), why),
            None => self.held.remove(name),
        };
        if self.queue.held(name) == held {
            return Ok(());
        }
        self.event(Event::Hold { project: name.clone(), held }).await
    }
}
