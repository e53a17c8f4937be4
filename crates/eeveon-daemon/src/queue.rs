//! Which deployment starts next: an event comes in, decisions come out.
//!
//! One deployment per project runs at a time, and so many projects at once as the limits say. Projects
//! take turns; within a project requests keep their order, except that a rollback goes first. What was
//! asked for is done, covered by another request, or refused, and whoever asked is told.
//!
//! The order of work is: handle the event, save the queue, act on the decisions. A process that dies in
//! between is told nothing it did not save, and starts nothing it does not know of.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use eeveon_core::ProjectName;
use serde::{Deserialize, Serialize};

pub use crate::lane::Waiting;
use crate::{
    deaths::{ALONE, MOST_DEATHS},
    error::DaemonError,
    lane::{self, Lane},
    words::{Answer, Ask, Decision, Event, Fate, Held, Limits, Refusal, RequestId, Seen, Start, Want},
};

/// The format a queue is saved in.
pub const FORMAT: u32 = 3;

/// So many rollbacks may go before another project's request before that has its turn.
const MOST_OVERTAKES: u8 = 3;

/// So many deployments that were set aside are remembered.
const MOST_ASIDE: usize = 100;

/// Bytes a branch's name or a reason may have.
const LONGEST_TEXT: usize = 1000;

/// A deployment that runs.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Running {
    /// The request it is for.
    pub request: RequestId,
    /// What was asked for.
    pub ask: Ask,
    /// How often whoever carried it out has died.
    pub deaths: u8,
    /// Whether it has been told to stop.
    pub stopping: bool,
}

/// The queue, as it is saved.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    format: u32,
    next: RequestId,
    seen: Seen,
    draining: bool,
    overtakes: u8,
    /// The projects that wait, in the order of their turns.
    lanes: VecDeque<Lane>,
    running: BTreeMap<ProjectName, Running>,
    aside: VecDeque<Waiting>,
}

/// Reads the format of what was saved, whatever else is in it.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    limits: Limits,
    saved: Saved,
    /// Projects of which not everything may start now.
    held: BTreeMap<ProjectName, Held>,
    /// It was read, and what ran when it was saved has not been dealt with yet.
    asleep: bool,
    /// Requests that run alone: the process died over each twice, perhaps because of another one beside it.
    alone: BTreeSet<RequestId>,
}

impl Queue {
    /// Returns an empty queue.
    pub fn new(limits: Limits) -> Self {
        let saved = Saved {
            format: FORMAT,
            next: RequestId(1),
            seen: Seen(0),
            draining: false,
            overtakes: 0,
            lanes: VecDeque::new(),
            running: BTreeMap::new(),
            aside: VecDeque::new(),
        };
        Self { limits, saved, held: BTreeMap::new(), asleep: false, alone: BTreeSet::new() }
    }

    /// Returns the queue as text, for [`Self::load`].
    ///
    /// # Errors
    ///
    /// `daemon/damaged-state`, which does not happen: everything in a queue can be written.
    pub fn save(&self) -> Result<String, DaemonError> {
        serde_json::to_string(&self.saved).map_err(|error| damaged(error.to_string()))
    }

    /// Reads a queue that was saved. It starts nothing before [`Event::Restarted`].
    ///
    /// # Errors
    ///
    /// `daemon/newer-format` when a newer version wrote it, `daemon/damaged-state` when it makes no sense.
    pub fn load(text: &str, limits: Limits) -> Result<Self, DaemonError> {
        let Format { format } = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        if format > FORMAT {
            return Err(DaemonError::Newer { what: "queue", found: format, known: FORMAT });
        }
        let mut saved: Saved = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        // What formats 2 and 3 added says "no" where it is missing.
        saved.format = FORMAT;
        let projects: BTreeSet<_> = saved.lanes.iter().map(|lane| &lane.project).collect();
        let strangers = saved.lanes.iter().any(|lane| {
            lane.waiting.is_empty() || lane.waiting.iter().any(|waiting| waiting.ask.project != lane.project)
        }) || saved.running.iter().any(|(project, running)| running.ask.project != *project);
        if strangers || projects.len() != saved.lanes.len() {
            return Err(damaged("a request stands under the wrong project"));
        }
        let waiting = saved.lanes.iter().flat_map(|lane| &lane.waiting);
        let requests: Vec<_> =
            waiting.map(|waiting| waiting.request).chain(saved.running.values().map(|r| r.request)).collect();
        let distinct: BTreeSet<_> = requests.iter().collect();
        if distinct.len() != requests.len() || distinct.last().is_some_and(|last| **last >= saved.next) {
            return Err(damaged("a number is used twice"));
        }
        Ok(Self { limits, saved, held: BTreeMap::new(), asleep: true, alone: BTreeSet::new() })
    }

    /// Returns a moment that is later than all before, for [`Want::Newest`].
    pub fn seen_now(&mut self) -> Seen {
        self.saved.seen = Seen(self.saved.seen.0 + 1);
        self.saved.seen
    }

    /// Takes note of an event and says what is to be done, in that order.
    pub fn handle(&mut self, event: Event) -> Vec<Decision> {
        let mut decisions = Vec::new();
        match event {
            Event::Asked(ask) => {
                let request = self.saved.next;
                self.saved.next = RequestId(request.0 + 1);
                let (answer, told) = self.ask(request, ask);
                decisions.push(Decision::Answer { request, answer });
                decisions.extend(told);
            }
            Event::Ended(request) => {
                if self.stop_running(request).is_some() {
                    decisions.push(Decision::Told { request, fate: Fate::Ended });
                }
            }
            Event::Died(request) => {
                // While draining it was interrupted, and did not kill anything.
                let deaths = u8::from(!self.saved.draining);
                let died = self.stop_running(request);
                decisions.extend(died.and_then(|running| self.put_back(running, deaths)));
            }
            Event::Deferred(request) => {
                let deferred = self.stop_running(request);
                decisions.extend(deferred.and_then(|running| self.put_back(running, 0)));
            }
            Event::Cancel(request) => decisions.extend(self.cancel(request)),
            Event::Lift(project) => self.saved.aside.retain(|aside| aside.ask.project != project),
            Event::Hold { project, held } => drop(self.held.insert(project, held)),
            Event::Gone(project) => decisions.extend(self.forget(&project)),
            Event::Drain => self.saved.draining = true,
            Event::Restarted => {
                // After an orderly end, what still ran was interrupted and did not kill anything.
                let deaths = u8::from(!self.saved.draining);
                self.asleep = false;
                self.saved.draining = false;
                let running = std::mem::take(&mut self.saved.running);
                decisions
                    .extend(running.into_values().rev().filter_map(|running| self.put_back(running, deaths)));
                // Going back is never kept waiting.
                let suspects = self.waiting().filter(|it| it.deaths >= ALONE && !it.ask.want.is_rollback());
                self.alone = suspects.map(|it| it.request).collect();
            }
        }
        self.start(&mut decisions);
        if !self.asleep && self.saved.draining && self.saved.running.is_empty() {
            decisions.push(Decision::Drained);
        }
        decisions
    }

    /// Takes a request in, and says whom it replaces.
    fn ask(&mut self, request: RequestId, ask: Ask) -> (Answer, Option<Decision>) {
        let branch = if let Want::Newest { branch, .. } = &ask.want { branch.len() } else { 0 };
        let reason = ask.reason.as_ref().map_or(0, |reason| reason.as_raw().len());
        if branch.max(reason) > LONGEST_TEXT {
            return (Answer::Refused(Refusal::TooLong { limit: LONGEST_TEXT }), None);
        }
        let aside = self.saved.aside.iter();
        let mut aside = aside.filter(|aside| aside.ask.project == ask.project);
        if let Some(aside) = aside.find(|aside| lane::same(&aside.ask.want, &ask.want)) {
            return (Answer::Refused(Refusal::SetAside { request: aside.request }), None);
        }
        let project = ask.project.clone();
        let lane = self.saved.lanes.iter_mut().find(|lane| lane.project == project);
        if let Some(rival) = lane.and_then(|lane| lane.rival(&ask.want)) {
            // One that waits for a window does nothing for one that does not.
            let starts_as_soon = rival.ask.is_exempt() || !ask.is_exempt();
            if starts_as_soon && lane::waiting_does(&rival.ask.want, &ask.want) {
                lane::refresh(&mut rival.ask.want, &ask.want);
                rival.ask.join(&ask);
                let commit = rival.ask.want.commit().cloned();
                return (Answer::Coalesced { into: rival.request, commit }, None);
            }
            let earlier = rival.request;
            let mut ask = ask;
            ask.join(&rival.ask);
            *rival = Waiting { request, ask, deaths: 0 };
            let told = Decision::Told { request: earlier, fate: Fate::Replaced { by: request } };
            return (Answer::Replaced { earlier, position: self.position(request) }, Some(told));
        }
        let running = self.saved.running.get_mut(&project).filter(|running| !running.stopping);
        if let Some(running) = running.filter(|running| lane::running_does(&running.ask.want, &ask.want)) {
            running.ask.join(&ask);
            let commit = running.ask.want.commit().cloned();
            return (Answer::Coalesced { into: running.request, commit }, None);
        }
        if let Some(refusal) = self.no_room(&ask) {
            return (Answer::Refused(refusal), None);
        }
        self.lane(project).push(Waiting { request, ask, deaths: 0 });
        (Answer::Queued { position: self.position(request) }, None)
    }

    /// Says whether there is no room for another request. The last tenth is kept for rollbacks.
    fn no_room(&self, ask: &Ask) -> Option<Refusal> {
        let urgent = ask.want.is_rollback();
        let waiting = self.waiting().count();
        let kept = if urgent { 0 } else { self.limits.waiting.div_ceil(10) };
        if waiting >= self.limits.waiting.saturating_sub(kept) {
            return Some(Refusal::Full { waiting });
        }
        let lane = self.saved.lanes.iter().find(|lane| lane.project == ask.project);
        let waiting = lane.map_or(0, |lane| lane.waiting.len());
        (waiting >= self.limits.waiting_per_project && !urgent).then_some(Refusal::ProjectFull { waiting })
    }

    /// Returns the lane of a project; a new one has the last turn.
    fn lane(&mut self, project: ProjectName) -> &mut Lane {
        let found = self.saved.lanes.iter().position(|lane| lane.project == project);
        let place = found.unwrap_or_else(|| {
            self.saved.lanes.push_back(Lane::new(project));
            self.saved.lanes.len() - 1
        });
        #[expect(clippy::indexing_slicing, reason = "the place was found or made just above")]
        &mut self.saved.lanes[place]
    }

    /// Removes a deployment from those that run.
    fn stop_running(&mut self, request: RequestId) -> Option<Running> {
        let project =
            self.saved.running.values().find(|running| running.request == request)?.ask.project.clone();
        self.saved.running.remove(&project)
    }

    /// Puts a deployment whose process died back in line, as its project's next, or says why not.
    fn put_back(&mut self, running: Running, deaths: u8) -> Option<Decision> {
        let Running { request, mut ask, deaths: before, stopping } = running;
        let deaths = before.saturating_add(deaths);
        let told = |fate| Some(Decision::Told { request, fate });
        if stopping {
            return told(Fate::Cancelled);
        }
        if deaths >= MOST_DEATHS {
            if self.saved.aside.len() >= MOST_ASIDE {
                self.saved.aside.pop_front();
            }
            self.saved.aside.push_back(Waiting { request, ask, deaths });
            return told(Fate::SetAside { deaths });
        }
        let project = ask.project.clone();
        let lane = self.lane(project.clone());
        if let Some(rival) = lane.rival(&ask.want) {
            // Whichever stays does what the other wanted, and as soon.
            // Of two rollbacks the one asked for last is meant.
            if ask.want.is_rollback() || lane::waiting_does(&rival.ask.want, &ask.want) {
                rival.ask.join(&ask);
                let by = rival.request;
                return told(Fate::Replaced { by });
            }
            ask.join(&rival.ask);
            let later = std::mem::replace(rival, Waiting { request, ask, deaths }).request;
            return Some(Decision::Told { request: later, fate: Fate::Replaced { by: request } });
        }
        lane.put_back(Waiting { request, ask, deaths });
        if let Some(place) = self.saved.lanes.iter().position(|lane| lane.project == project)
            && let Some(lane) = self.saved.lanes.remove(place)
        {
            self.saved.lanes.push_front(lane);
        }
        None
    }

    fn cancel(&mut self, request: RequestId) -> Option<Decision> {
        if let Some(running) = self.saved.running.values_mut().find(|running| running.request == request) {
            let first = !std::mem::replace(&mut running.stopping, true);
            return first.then_some(Decision::Stop(request));
        }
        let before = self.waiting().count();
        for lane in &mut self.saved.lanes {
            lane.waiting.retain(|waiting| waiting.request != request);
        }
        self.saved.lanes.retain(|lane| !lane.waiting.is_empty());
        Some(match self.waiting().count() < before {
            true => Decision::Told { request, fate: Fate::Cancelled },
            false => Decision::Unknown(request),
        })
    }

    /// Drops what waits for a project, and what was set aside.
    fn forget(&mut self, project: &ProjectName) -> Vec<Decision> {
        self.held.remove(project);
        if let Some(running) = self.saved.running.get_mut(project) {
            // Should it die it is not begun again, least of all for another project of that name.
            running.stopping = true;
        }
        self.saved.aside.retain(|aside| aside.ask.project != *project);
        let place = self.saved.lanes.iter().position(|lane| lane.project == *project);
        let waiting = place.and_then(|place| self.saved.lanes.remove(place)).map(|lane| lane.waiting);
        let told = |it: Waiting| Decision::Told { request: it.request, fate: Fate::Cancelled };
        waiting.into_iter().flatten().map(told).collect()
    }

    /// Starts as many deployments as may run.
    fn start(&mut self, decisions: &mut Vec<Decision>) {
        while !self.asleep && !self.saved.draining && self.saved.running.len() < self.limits.running.max(1) {
            let Some((place, overtakes)) = self.next_turn() else { return };
            self.saved.overtakes = overtakes;
            let Some(mut lane) = self.saved.lanes.remove(place) else { return };
            let held = self.held(&lane.project);
            let Some(Waiting { request, ask, deaths }) = lane.take(held) else { continue };
            if !lane.waiting.is_empty() {
                self.saved.lanes.push_back(lane);
            }
            let running = Running { request, ask: ask.clone(), deaths, stopping: false };
            self.saved.running.insert(ask.project.clone(), running);
            decisions.push(Decision::Start(Start { request, ask, deaths }));
        }
    }

    /// Tells whether a request may run beside those that run. Going back always may.
    fn may_run_beside(&self, next: &Waiting) -> bool {
        let mut all = self.running().map(|it| it.request).chain([next.request]);
        next.ask.want.is_rollback()
            || self.saved.running.is_empty()
            || !all.any(|it| self.alone.contains(&it))
    }

    /// Returns what is next in each project of which nothing runs, with the place of its lane.
    fn next_of_each(&self) -> impl Iterator<Item = (usize, &Waiting)> {
        let lanes = self.saved.lanes.iter().enumerate();
        let free = lanes.filter(|(_, lane)| !self.saved.running.contains_key(&lane.project));
        free.filter_map(|(place, lane)| {
            Some((place, lane.waiting.get(lane.next(self.held(&lane.project))?)?))
        })
    }

    /// Says whose turn it is, and how often rollbacks went before others then. None when nobody may begin.
    fn next_turn(&self) -> Option<(usize, u8)> {
        let (first, next) = self.next_of_each().next()?;
        let urgent = self.next_of_each().find(|(_, it)| it.ask.want.is_rollback()).map(|(place, _)| place);
        let urgent = urgent.filter(|urgent| *urgent != first);
        let (overtakes, may_begin) = (self.saved.overtakes, self.may_run_beside(next));
        // Who waits for the end of another's run loses nothing meanwhile, but rollbacks that follow each
        // other without end do not keep it waiting.
        let waits_anyway = !may_begin && self.running().any(|it| !it.ask.want.is_rollback());
        match urgent {
            Some(urgent) if waits_anyway => Some((urgent, overtakes)),
            Some(urgent) if overtakes < MOST_OVERTAKES => Some((urgent, overtakes + 1)),
            // Nor does anybody else begin before it: it would never be alone.
            _ => may_begin.then_some((first, 0)),
        }
    }

    /// Returns the place in line of a request that waits, from 1: projects take turns.
    fn position(&self, request: RequestId) -> usize {
        let lanes = &self.saved.lanes;
        let within = |lane: &Lane| lane.waiting.iter().position(|waiting| waiting.request == request);
        let Some((turn, depth)) =
            lanes.iter().enumerate().find_map(|(turn, lane)| Some((turn, within(lane)?)))
        else {
            return 0;
        };
        let before = lanes.iter().enumerate().map(|(other, lane)| {
            let rounds = if other < turn { depth + 1 } else { depth };
            lane.waiting.len().min(rounds)
        });
        before.sum::<usize>() + 1
    }

    /// Returns what of a project may not start now.
    pub fn held(&self, project: &ProjectName) -> Held {
        self.held.get(project).copied().unwrap_or_default()
    }

    /// Finds what a request that waits or runs asks for.
    pub fn find(&self, request: RequestId) -> Option<&Ask> {
        let waiting = self.waiting().find(|it| it.request == request).map(|it| &it.ask);
        waiting.or_else(|| self.running().find(|it| it.request == request).map(|it| &it.ask))
    }

    /// Returns what waits, project by project in the order of their turns.
    pub fn waiting(&self) -> impl Iterator<Item = &Waiting> {
        self.saved.lanes.iter().flat_map(|lane| &lane.waiting)
    }

    /// Returns what runs.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.saved.running.values()
    }

    /// Returns what runs alone because its process died twice, or is next and waits until it would be
    /// alone. Meanwhile nobody else begins, except who goes back.
    pub fn alone(&self) -> Option<(&ProjectName, RequestId)> {
        let runs = self.running().find(|it| self.alone.contains(&it.request));
        let runs = runs.map(|it| (&it.ask.project, it.request));
        let waits = || self.next_of_each().next().filter(|(_, next)| !self.may_run_beside(next));
        runs.or_else(|| waits().map(|(_, next)| (&next.ask.project, next.request)))
    }

    /// Returns what was set aside, the oldest first.
    pub fn aside(&self) -> impl Iterator<Item = &Waiting> {
        self.saved.aside.iter()
    }

    /// Tells whether nothing is started any more.
    pub fn is_draining(&self) -> bool {
        self.saved.draining
    }
}

fn damaged(why: impl Into<String>) -> DaemonError {
    DaemonError::Damaged { what: "queue", why: why.into() }
}
