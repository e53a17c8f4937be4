//! What sets a deployment off without anybody asking: looks at repositories, schedules, and projects
//! that waited for others.

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use eeveon_core::{Actor, CommitId, ProjectName, Retry, Trigger, Untrusted};
use futures::FutureExt as _;
use jiff::Timestamp;

use super::Daemon;
use crate::{
    Answer, Ask, DaemonError, Decision, Event, Looked, Missed, Project, Schedule, Seen, Sighting, Tell, Want,
    handle::Message,
};

/// How often schedules and windows are gone through, when nothing is known to happen earlier.
const GO_THROUGH: jiff::SignedDuration = jiff::SignedDuration::from_secs(10);

/// How soon it is tried again to save what could not be saved.
const SAVE_AGAIN: Duration = Duration::from_secs(1);

impl Daemon {
    /// Does what the time has come for; returns how long nothing will be.
    pub(super) async fn tick(&mut self) -> Result<Duration, DaemonError> {
        if self.unsaved.is_some() {
            self.save_and_act().await?;
        }
        let now = self.clock.now();
        for project in self.polling.next(now) {
            self.look(project);
        }
        let next = match self.go_through {
            // A clock that was put back is one more reason.
            Some((last, next)) if last <= now && now < next => next,
            _ => {
                let next = self.go_through(now).await?;
                self.go_through = Some((now, next));
                next
            }
        };
        let next = self.polling.next_due().map_or(next, |due| due.min(next));
        let wait = Duration::try_from(next.duration_since(now)).unwrap_or_default();
        let wait = if self.unsaved.is_some() { wait.min(SAVE_AGAIN) } else { wait };
        Ok(wait.max(Duration::from_millis(10)))
    }

    /// Goes through all schedules and windows; returns when to do so again.
    async fn go_through(&mut self, now: Timestamp) -> Result<Timestamp, DaemonError> {
        let mut next = now.checked_add(GO_THROUGH).unwrap_or(Timestamp::MAX);
        let mut asks = Vec::new();
        let mut is_news = false;
        for project in self.projects.values() {
            next = project.windows.next_change(now).map_or(next, |at| at.min(next));
            for (key, schedule, missed) in schedules(project) {
                let last = self.memory.handled.get(&key).copied();
                let due = schedule.due(last.unwrap_or(now), now, missed);
                next = due.next.map_or(next, |at| at.min(next));
                if due.run.is_some() && project.automatic && !self.graph.is_led(&project.name) {
                    asks.push((
                        project.name.clone(),
                        project.branch.clone(),
                        schedule.to_string(),
                        key,
                        due.handled,
                    ));
                } else if last != Some(due.handled) {
                    self.memory.handled.insert(key, due.handled);
                    is_news = true;
                }
            }
        }
        next =
            self.paused.values().map(|it| it.until).filter(|until| now < *until).fold(next, Timestamp::min);
        for name in self.names() {
            self.hold_or_release(&name, now).await?;
        }
        if is_news {
            self.save_and_act().await?;
        }
        for (project, branch, schedule, key, handled) in asks {
            let want = Want::Newest { branch, commit: None, seen: self.queue.seen_now() };
            let actor = Actor::Schedule(Untrusted::from(schedule));
            let ask = by_itself(project, want, actor, Trigger::Schedule, None);
            let note = |daemon: &mut Self| _ = daemon.memory.handled.insert(key, handled);
            self.ask_by_itself(ask, note).await?;
        }
        Ok(next)
    }

    /// Asks for something nobody asked for, and takes `note` that it was in the same moment. Without a
    /// note, because the queue is full, whatever set it off does so again.
    pub(super) async fn ask_by_itself(
        &mut self,
        ask: Ask,
        note: impl FnOnce(&mut Self),
    ) -> Result<(), DaemonError> {
        let project = ask.project.clone();
        self.hold_or_release(&project, self.clock.now()).await?;
        let decisions = self.queue.handle(Event::Asked(ask));
        let refusal = decisions.iter().find_map(|it| match it {
            Decision::Answer { answer: Answer::Refused(refusal), .. } => Some(refusal),
            _ => None,
        });
        match refusal {
            Some(refusal) if refusal.retry() == Retry::Later => {
                tracing::warn!(%project, %refusal, "there is no room for a deployment, which is asked for again");
            }
            _ => note(self),
        }
        self.decided.extend(decisions);
        self.save_and_act().await
    }

    /// Starts a look at a project's repository.
    fn look(&mut self, project: ProjectName) {
        let seen = self.queue.seen_now();
        let known = self.memory.asked.get(&project).cloned();
        let (world, handle) = (Arc::clone(&self.world), self.handle.clone());
        self.tasks.spawn(async move {
            let looking = AssertUnwindSafe(world.look(&project, known.as_ref())).catch_unwind();
            let result = looking.await.unwrap_or_else(|_| Err("the look broke off".to_owned()));
            let _the_daemon_ended = handle.send(Message::Seen { project, known, seen, result }).await;
        });
    }

    /// Asks for what waited for others and need not any more.
    pub(super) async fn follow_on(&mut self) -> Result<(), DaemonError> {
        if !self.has_begun {
            return Ok(());
        }
        let busy: BTreeSet<ProjectName> = self.queue.running().map(|it| it.ask.project.clone()).collect();
        for ready in self.graph.ready(&self.progress, |project| busy.contains(project)) {
            let Some(project) = self.projects.get(&ready.project).filter(|it| it.automatic) else {
                self.progress.took_turn(&ready.project);
                continue;
            };
            let want = match ready.commit {
                Some(commit) => Want::commit_itself(commit),
                None => newest(project, None, self.queue.seen_now()),
            };
            let (name, why) = (project.name.clone(), "what it waits for was deployed");
            let ask = by_itself(name, want, Actor::Engine, Trigger::Dependency, Some(why));
            self.ask_by_itself(ask, |daemon| daemon.progress.took_turn(&ready.project)).await?;
        }
        Ok(())
    }

    /// Takes note of what a look found, for which `known` was no news.
    pub(super) async fn seen(
        &mut self,
        name: ProjectName,
        known: Option<CommitId>,
        seen: Seen,
        result: Result<Sighting, String>,
    ) -> Result<(), DaemonError> {
        let looked = if result.is_ok() { Looked::Well } else { Looked::Failed };
        let tell = self.polling.looked(&name, looked, self.clock.now());
        let sighting = match result {
            Ok(sighting) => sighting,
            Err(why) => {
                if tell == Tell::Broke && self.unseen.insert(name.clone(), why.clone()).is_none() {
                    self.world.say(Some(&name), &format!("its repository cannot be seen: {why}"));
                }
                return Ok(());
            }
        };
        if self.unseen.remove(&name).is_some() {
            self.world.say(Some(&name), "its repository can be seen again");
        }
        let Some(project) = self.projects.get(&name).filter(|it| it.automatic) else { return Ok(()) };
        // Whether it is live was not found out then, so nothing follows also if it has been forgotten since.
        if [self.memory.asked.get(&name), known.as_ref()].contains(&Some(&sighting.commit)) {
            return Ok(());
        }
        let want = newest(project, Some(sighting.commit.clone()), seen);
        let ask = by_itself(name.clone(), want, Actor::Engine, Trigger::Poll, None);
        if sighting.live {
            if !self.progress.has_deployed(&name, &sighting.commit) {
                // Deployed by somebody else, perhaps while no daemon worked: others may wait for it.
                self.progress.succeeded(&name, &sighting.commit);
            }
            self.memory.asked.insert(name, sighting.commit);
            self.save_and_act().await?;
            return self.follow_on().await;
        }
        if self.graph.missing(&self.progress, &name, &sighting.commit).is_some() {
            // Asked for once it is there.
            return Ok(());
        }
        let (project, commit) = (name.clone(), sighting.commit.clone());
        self.ask_by_itself(ask, |daemon| _ = daemon.memory.asked.insert(name, sighting.commit)).await?;
        self.try_again_for(&project, commit).await
    }
}

/// Returns a project's schedules, each with the name it is remembered by.
pub(super) fn schedules(project: &Project) -> impl Iterator<Item = (String, &Schedule, Missed)> {
    project
        .schedules
        .iter()
        .enumerate()
        .map(|(n, (schedule, missed))| (format!("{}/{n}/{schedule}", project.name), schedule, *missed))
}

/// Something nobody asked for.
pub(super) fn by_itself(
    project: ProjectName,
    want: Want,
    actor: Actor,
    trigger: Trigger,
    why: Option<&str>,
) -> Ask {
    Ask {
        project,
        want,
        actor,
        trigger,
        reason: why.map(Untrusted::from),
        outside_window: false,
        shared: false,
    }
}

pub(super) fn newest(project: &Project, commit: Option<CommitId>, seen: Seen) -> Want {
    Want::Newest { branch: project.branch.clone(), commit, seen }
}
