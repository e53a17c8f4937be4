//! An engine that takes its time, fails and dies.

#![expect(
    clippy::indexing_slicing,
    reason = "lists have one place per project, and a wrong one is a bug to stop at"
)]

use eeveon_core::CommitId;
use eeveon_daemon::{
    Event, RequestId, Start, State, Want,
    deaths::{MOST_DEATHS, Past, is_deadly},
};

use super::{super::Flaw, Next, World};

/// One attempt at a deployment.
pub(super) struct Attempt {
    pub(super) request: RequestId,
    pub(super) project: usize,
    pub(super) commit: u64,
    pub(super) rollback: bool,
    pub(super) life: u32,
    pub(super) pivoted: bool,
    pub(super) over: bool,
    /// The thread that carried it out is gone.
    pub(super) dead: bool,
}

impl World<'_> {
    /// Finishes or takes back what a dead process left in a project.
    pub(super) fn settle(&mut self, project: usize) {
        let Some(open) = self.places[project].open.take() else { return };
        let Attempt { commit, over, pivoted, rollback, .. } = self.attempts[open];
        if !over && pivoted {
            self.finish(open);
        } else if !over && !rollback {
            let before = self.places[project].pasts.entry(commit).or_default();
            let is_deadly = is_deadly(before.iter().rev().copied());
            before.push(Past::Died);
            let deaths = before.iter().filter(|it| **it == Past::Died).count();
            if is_deadly && self.flaw != Some(Flaw::ForgetDeaths) {
                self.places[project].aside.insert(commit);
            }
            if deaths > usize::from(MOST_DEATHS) {
                self.oracle.broke(|| format!("commit {commit} of project {project} killed {deaths} times"));
            }
        }
        self.attempts[open].over = true;
    }

    pub(super) fn start(&mut self, start: &Start) {
        let project = self.project(&start.ask.project);
        let request = start.request;
        let alive = |attempt: &Attempt| !attempt.over && !attempt.dead && attempt.life == self.life;
        if self.attempts.iter().any(|attempt| attempt.project == project && alive(attempt)) {
            self.oracle.broke(|| format!("two deployments of project {project} at once"));
        }
        if self.attempts.iter().filter(|attempt| alive(attempt)).count() >= self.scenario.running {
            self.oracle.broke(|| "more deployments at once than allowed".to_owned());
        }
        let rollback = start.ask.want.is_rollback();
        let now = self.clock();
        if request <= self.places[project].removed {
            self.oracle.broke(|| {
                format!(
                    "request {request} was for a project that was removed, and project {project} begins it"
                )
            });
        }
        if let Some(windows) =
            self.settings.windows.as_ref().filter(|_| self.scenario.projects[project].window && !rollback)
            && !self.oracle.is_urgent(request)
            && windows.state(now) != State::Open
        {
            self.oracle
                .broke(|| format!("project {project} was deployed at {now}, when its window was shut"));
        }
        if self.now < self.places[project].frozen && !rollback && !self.oracle.is_urgent(request) {
            self.oracle.broke(|| format!("project {project} was deployed at {now}, when it was frozen"));
        }
        if self.now < self.places[project].stopped && start.ask.is_automatic() {
            self.oracle
                .broke(|| format!("project {project} deployed by itself at {now}, when it was switched off"));
        }
        if self.now < self.places[project].busy {
            return self.after(1, Next::Deferred { life: self.life, request });
        }
        let careless = self.flaw == Some(Flaw::DeployTwice) && start.deaths > 0;
        if careless {
            self.places[project].open = None;
        } else {
            self.settle(project);
        }
        let place = &self.places[project];
        let commit = match &start.ask.want {
            Want::Rollback { .. } => place.before.last().copied().unwrap_or(place.live),
            want => want.commit().map_or(self.places[self.repository(project)].head, number),
        };
        self.oracle.carried_out(request, commit);
        let refused = !rollback && (commit < place.live || place.aside.contains(&commit));
        let nothing = commit == place.live || self.done.contains(&request);
        if (refused || nothing) && !careless {
            return self.after(1, Next::Nothing { life: self.life, request });
        }
        let mut dice = self.dice("attempt", [request.0, u64::from(start.deaths)]);
        let (length, dies, when) = (20 + dice.below(400), dice.chance(4), dice.below(100));
        let mut fate = self.dice("commit", [project as u64, commit]);
        let (poison, bad) = (fate.chance(3) && !rollback, fate.chance(6) && !rollback);
        let attempt = self.attempts.len();
        let part = |percent: u64| i64::try_from(length * percent / 100).unwrap_or(1);
        self.attempts.push(Attempt {
            request,
            project,
            commit,
            rollback,
            life: self.life,
            pivoted: false,
            over: false,
            dead: false,
        });
        self.places[project].open = Some(attempt);
        if poison || dies {
            self.after(if poison { part(50) } else { part(when) }, Next::Died(attempt));
        }
        if bad {
            return self.after(part(60), Next::End(attempt));
        }
        self.after(part(70), Next::Pivot(attempt));
        self.after(part(100), Next::End(attempt));
        if self.flaw == Some(Flaw::TwoAtOnce) {
            self.after(1, Next::Nothing { life: self.life, request });
        }
    }

    fn is_alive(&self, attempt: usize) -> bool {
        let attempt = &self.attempts[attempt];
        !attempt.over && !attempt.dead && attempt.life == self.life
    }

    pub(super) fn pivot(&mut self, at: usize) {
        if !self.is_alive(at) {
            return;
        }
        let attempt = &mut self.attempts[at];
        attempt.pivoted = true;
        let (request, project, commit, rollback) =
            (attempt.request, attempt.project, attempt.commit, attempt.rollback);
        self.note(|| format!("project {project} serves {commit}, as request {request} wants"));
        self.oracle.pivoted(request);
        let place = &mut self.places[project];
        if rollback {
            place.before.pop();
            place.aside.insert(place.live);
            place.rolled_back = true;
        } else {
            place.before.push(place.live);
        }
        place.live = commit;
    }

    /// Takes note that a deployment succeeded.
    fn finish(&mut self, at: usize) {
        let Attempt { request, project, commit, .. } = self.attempts[at];
        self.done.insert(request);
        self.places[project].pasts.entry(commit).or_default().push(Past::Ended);
        self.journal.push((project, commit));
    }

    pub(super) fn end(&mut self, at: usize) {
        if !self.is_alive(at) {
            return;
        }
        self.attempts[at].over = true;
        let Attempt { request, project, commit, pivoted, rollback, .. } = self.attempts[at];
        self.places[project].open = None;
        if pivoted {
            self.finish(at);
        } else if !rollback {
            self.places[project].aside.insert(commit);
            self.places[project].pasts.entry(commit).or_default().push(Past::Ended);
        }
        self.feed(Event::Ended(request));
        self.follow();
    }

    pub(super) fn died(&mut self, at: usize) {
        if self.is_alive(at) {
            self.attempts[at].dead = true;
            self.note(|| "a deployment died".to_owned());
            self.feed(Event::Died(self.attempts[at].request));
        }
    }
}

fn number(commit: &CommitId) -> u64 {
    u64::from_str_radix(commit.as_str(), 16).unwrap_or(0)
}
