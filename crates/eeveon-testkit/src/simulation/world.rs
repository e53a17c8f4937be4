//! The world around the daemon: its clock, the repositories, the forge, and an engine that fails.

#![expect(
    clippy::indexing_slicing,
    reason = "lists have one place per project, and a wrong one is a bug to stop at"
)]

mod engine;
mod holding;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use eeveon_core::{Actor, CommitId, ProjectName, Trigger, Untrusted};
use eeveon_daemon::{
    Ask, Decision, Event, Fate, Follow, Looked, RequestId, Seen, Want,
    deaths::{MOST_DEATHS, Past},
    random::Random,
};
use jiff::Timestamp;

use engine::Attempt;

use super::{
    Flaw, Kill, Scenario, What,
    daemon::{Daemon, Disk, Settings},
    oracle::Oracle,
    scenario::{BUSY, END},
};

/// Midnight, when every simulation begins: 2027-01-15T00:00:00Z.
const MIDNIGHT: i64 = 1_799_971_200;

/// Seconds of an hour.
const HOUR: i64 = 3600;

/// What the world waits for.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Next {
    Act(usize),
    Hook {
        project: usize,
        commit: u64,
    },
    Looked {
        life: u32,
        project: usize,
        head: Option<u64>,
        seen: Seen,
    },
    Pivot(usize),
    End(usize),
    Died(usize),
    /// Nothing was to be done for a request.
    Nothing {
        life: u32,
        request: RequestId,
    },
    /// A request could not begin.
    Deferred {
        life: u32,
        request: RequestId,
    },
    Boot,
    Tick(u32),
    Patience(u32),
    /// Somebody sets the clock right. From here on nothing goes wrong any more.
    Calm,
}

/// One project, as far as a daemon does not hold it.
#[derive(Default)]
struct Place {
    head: u64,
    live: u64,
    /// What was live before.
    before: Vec<u64>,
    /// Commits no look may ask for again.
    aside: BTreeSet<u64>,
    /// What was begun and neither finished nor taken back.
    open: Option<usize>,
    rolled_back: bool,
    /// When the last webhook arrives.
    told: i64,
    /// Until when it is frozen, switched off, or nothing can begin in it.
    frozen: i64,
    stopped: i64,
    busy: i64,
    /// Until when a daemon leaves it alone after something could not begin.
    paused: i64,
    /// Until when there is no such project, and the last request before it was removed.
    gone: i64,
    removed: RequestId,
    /// How the attempts at each commit ended, the newest last.
    pasts: BTreeMap<u64, Vec<Past>>,
}

pub(super) struct World<'a> {
    scenario: &'a Scenario,
    flaw: Option<Flaw>,
    settings: Settings,
    now: i64,
    offset: i64,
    events: BinaryHeap<Reverse<(i64, u64, Next)>>,
    order: u64,
    places: Vec<Place>,
    attempts: Vec<Attempt>,
    /// Requests whose deployment succeeded.
    done: BTreeSet<RequestId>,
    /// Every success, as a journal has them.
    journal: Vec<(usize, u64)>,
    down: BTreeMap<usize, i64>,
    daemon: Option<Daemon>,
    disk: Option<Disk>,
    life: u32,
    armed: Option<Kill>,
    /// What is being asked for is not to wait for windows.
    is_urgent: bool,
    /// The last number that was given to a request.
    newest: RequestId,
    oracle: Oracle,
    trace: Option<Vec<String>>,
}

impl<'a> World<'a> {
    /// Plays a scenario to its end.
    pub(super) fn play(
        scenario: &'a Scenario,
        flaw: Option<Flaw>,
        tell: bool,
    ) -> Result<(), (String, Vec<String>)> {
        let settings = Settings::new(scenario).map_err(|error| (error.to_string(), Vec::new()))?;
        let mut world = Self {
            scenario,
            flaw,
            now: 0,
            offset: 0,
            events: BinaryHeap::new(),
            order: 0,
            places: settings.names.iter().map(|_| Place::default()).collect(),
            settings,
            attempts: Vec::new(),
            done: BTreeSet::new(),
            journal: Vec::new(),
            down: BTreeMap::new(),
            daemon: None,
            disk: None,
            life: 0,
            armed: None,
            is_urgent: false,
            newest: RequestId(0),
            oracle: Oracle::default(),
            trace: tell.then(Vec::new),
        };
        for (place, act) in scenario.acts.iter().enumerate() {
            world.at(act.at, Next::Act(place));
        }
        world.at(0, Next::Boot);
        world.at(BUSY, Next::Calm);
        while let Some(Reverse((now, _, next))) = world.events.pop() {
            if now > END || world.oracle.broken.is_some() {
                break;
            }
            world.now = now;
            world.happens(next);
        }
        world.close();
        match world.oracle.broken {
            Some(what) => Err((what, world.trace.unwrap_or_default())),
            None => Ok(()),
        }
    }

    fn at(&mut self, at: i64, next: Next) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, next)));
    }

    fn after(&mut self, seconds: i64, next: Next) {
        self.at(self.now + seconds, next);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{now:>6} {}", line()));
        }
    }

    /// Returns what the clock shows.
    fn clock(&self) -> Timestamp {
        Timestamp::from_second(MIDNIGHT + self.now + self.offset).unwrap_or_default()
    }

    /// Returns a number that depends on nothing but the seed and what it is for.
    fn dice(&self, what: &str, numbers: [u64; 2]) -> Random {
        let [one, two] = numbers;
        Random::new(Random::named(self.scenario.seed ^ one.rotate_left(32) ^ two, what).next_u64())
    }

    /// Returns the project whose repository a project is deployed from.
    fn repository(&self, project: usize) -> usize {
        match self.scenario.projects[project].after {
            Some((after, Follow::SameCommit)) => self.repository(after),
            _ => project,
        }
    }

    fn project(&self, name: &ProjectName) -> usize {
        self.settings.names.iter().position(|known| known == name).unwrap_or(0)
    }

    fn happens(&mut self, next: Next) {
        match next {
            Next::Act(place) => self.act(place),
            Next::Hook { project, commit } => self.hook(project, commit),
            Next::Looked { life, project, head, seen } if life == self.life => {
                self.looked(project, head, seen)
            }
            Next::Pivot(attempt) => self.pivot(attempt),
            Next::End(attempt) => self.end(attempt),
            Next::Died(attempt) => self.died(attempt),
            Next::Nothing { life, request } if life == self.life => self.feed(Event::Ended(request)),
            Next::Deferred { life, request } if life == self.life => self.deferred(request),
            Next::Boot if self.daemon.is_none() => self.boot(),
            Next::Tick(life) if life == self.life => self.tick(),
            Next::Patience(life) if life == self.life => self.kill(10),
            Next::Calm => self.offset = 0,
            // Meant for a process that is gone.
            Next::Looked { .. }
            | Next::Nothing { .. }
            | Next::Deferred { .. }
            | Next::Boot
            | Next::Tick(_)
            | Next::Patience(_) => {}
        }
    }

    fn act(&mut self, place: usize) {
        let what = self.scenario.acts[place].what.clone();
        self.note(|| format!("{what:?}"));
        match what {
            What::Push { project, hooks } => {
                let repository = self.repository(project);
                self.places[repository].head += 1;
                let commit = self.places[repository].head;
                // Webhooks of one repository arrive in order. A daemon cannot rely on that, and looks once
                // more when it starts; here that would hide a queue that prefers the older commit.
                for delay in hooks {
                    let told = (self.now + delay).max(self.places[repository].told);
                    self.places[repository].told = told;
                    self.at(told, Next::Hook { project: repository, commit });
                }
            }
            What::Deploy(project) => self.newest(project, Trigger::Manual),
            What::Urgent(project) => {
                self.is_urgent = true;
                self.newest(project, Trigger::Manual);
                self.is_urgent = false;
            }
            What::Rollback(project) => self.ask(project, Want::Rollback { to: None }, Trigger::Manual),
            What::Cancel(number) => {
                let there = self.daemon.iter().flat_map(|daemon| daemon.queue.running());
                let requests: Vec<_> = there.map(|running| running.request).collect();
                let chosen = usize::try_from(number).unwrap_or(0).checked_rem(requests.len());
                if let Some(request) = chosen.and_then(|chosen| requests.get(chosen)) {
                    self.feed(Event::Cancel(*request));
                }
            }
            What::Kill(Kill::Now) => self.kill(30),
            What::Kill(kill) => self.armed = Some(kill),
            What::Drain => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.draining = true;
                    self.feed(Event::Drain);
                    self.after(300, Next::Patience(self.life));
                }
            }
            What::Clock(seconds) => self.offset = seconds,
            What::Freeze { project, seconds } => self.places[project].frozen = self.now + seconds,
            What::Stop { project, seconds } => self.places[project].stopped = self.now + seconds,
            What::Busy { project, seconds } => self.places[project].busy = self.now + seconds,
            What::Remove { project, seconds } => self.remove(project, seconds),
            What::Down { host, seconds } => drop(self.down.insert(host, self.now + seconds)),
        }
    }

    /// The process is gone, and comes back after so many seconds.
    fn kill(&mut self, seconds: i64) {
        if self.daemon.take().is_some() {
            self.note(|| "killed".to_owned());
            self.life += 1;
            self.armed = None;
            self.after(seconds, Next::Boot);
        }
    }

    fn boot(&mut self) {
        let seed = self.scenario.seed ^ u64::from(self.life);
        match Daemon::boot(&self.settings, self.disk.as_ref(), self.clock(), seed, self.flaw) {
            Ok(daemon) => self.daemon = Some(daemon),
            Err(error) => return self.oracle.broke(|| format!("what was saved cannot be read: {error}")),
        }
        self.note(|| "booted".to_owned());
        for project in 0..self.places.len() {
            self.settle(project);
            if self.is_gone(project) {
                self.forget(project);
            }
        }
        self.feed(Event::Restarted);
        self.tick();
    }

    fn tick(&mut self) {
        self.after(60, Next::Tick(self.life));
        self.hold();
        let now = self.clock();
        for project in 0..self.places.len() {
            let Some(daemon) = &mut self.daemon else { return };
            // Nothing is begun that cannot end in time.
            let schedule = self.settings.schedules[project].as_ref().filter(|_| self.now < END - HOUR);
            let planned = schedule.and_then(|schedule| daemon.scheduled(schedule, project, now));
            if let Some(planned) = planned.filter(|_| !self.is_stopped(project) && !self.is_gone(project)) {
                self.note(|| format!("schedule of {project} for {planned}"));
                self.newest(project, Trigger::Schedule);
                if self.daemon.is_some() {
                    self.oracle.scheduled(project, planned);
                }
            }
        }
        self.follow();
        let Some(daemon) = &mut self.daemon else { return };
        daemon.read = now;
        for name in daemon.polling.next(now) {
            let project = self.settings.names.iter().position(|known| *known == name).unwrap_or(0);
            let down =
                self.down.get(&self.scenario.projects[project].host).is_some_and(|until| self.now < *until);
            let head = (!down).then_some(self.places[project].head);
            let Some(daemon) = &mut self.daemon else { return };
            let (life, seen) = (self.life, daemon.queue.seen_now());
            self.after(1 + i64::from(down) * 20, Next::Looked { life, project, head, seen });
        }
    }

    fn looked(&mut self, project: usize, head: Option<u64>, seen: Seen) {
        let now = self.clock();
        let name = &self.settings.names[project];
        let Some(daemon) = &mut self.daemon else { return };
        if head.is_some() || self.flaw != Some(Flaw::LostLook) {
            let how = if head.is_some() { Looked::Well } else { Looked::Failed };
            daemon.polling.looked(name, how, now);
        }
        if self.is_stopped(project) || self.is_gone(project) {
            return;
        }
        let place = &self.places[project];
        if let Some(head) = head.filter(|head| *head != place.live && !place.aside.contains(head)) {
            self.commit(project, head, seen, Trigger::Poll);
        }
    }

    fn hook(&mut self, project: usize, commit: u64) {
        let now = self.clock();
        let is_deaf = self.is_stopped(project) || self.is_gone(project);
        if self.scenario.projects[project].after.is_some() || is_deaf {
            return;
        }
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.draining && self.flaw == Some(Flaw::DropWhileDraining) {
            return self.oracle.accepted(project, commit, None);
        }
        let seen = daemon.queue.seen_now();
        daemon.polling.heard(&self.settings.names[project], now);
        if let Some(request) = self.commit(project, commit, seen, Trigger::Webhook) {
            self.oracle.accepted(project, commit, Some(request));
        }
    }

    /// Asks for a commit that was seen at the head of the branch.
    fn commit(&mut self, project: usize, commit: u64, seen: Seen, trigger: Trigger) -> Option<RequestId> {
        let id = commit_id(commit)?;
        let late = self.flaw == Some(Flaw::CoalesceToOlder)
            && self.daemon.iter().flat_map(|daemon| daemon.queue.waiting()).any(|waiting| {
                waiting.ask.project == self.settings.names[project] && waiting.ask.want.commit() != Some(&id)
            });
        let seen = if late { Seen(0) } else { seen };
        self.put(project, Want::Newest { branch: "main".to_owned(), commit: Some(id), seen }, trigger)
    }

    /// Asks for the newest commit without looking.
    fn newest(&mut self, project: usize, trigger: Trigger) {
        let Some(seen) = self.daemon.as_mut().map(|daemon| daemon.queue.seen_now()) else { return };
        self.ask(project, Want::Newest { branch: "main".to_owned(), commit: None, seen }, trigger);
    }

    fn ask(&mut self, project: usize, want: Want, trigger: Trigger) {
        self.put(project, want, trigger);
    }

    /// Asks, and returns the number if there is an answer.
    fn put(&mut self, project: usize, want: Want, trigger: Trigger) -> Option<RequestId> {
        if self.is_gone(project) {
            return None;
        }
        let name = self.settings.names[project].clone();
        let actor = Actor::User(Untrusted::from("ada"));
        let outside_window = self.is_urgent && self.flaw != Some(Flaw::UrgentWaits);
        let ask = Ask { project: name, want, actor, trigger, reason: None, outside_window, shared: false };
        let decisions = self.decide(Event::Asked(ask))?;
        let request = decisions.iter().find_map(|decision| match decision {
            Decision::Answer { request, .. } => Some(*request),
            _ => None,
        });
        self.act_on(decisions);
        request
    }

    fn feed(&mut self, event: Event) {
        if let Some(decisions) = self.decide(event) {
            self.act_on(decisions);
        }
    }

    /// Lets the queue decide and saves it. None: the process died over it, or there is none.
    fn decide(&mut self, event: Event) -> Option<Vec<Decision>> {
        self.hold();
        let daemon = self.daemon.as_mut()?;
        let line = self.trace.is_some().then(|| format!("{event:?}"));
        let decisions = daemon.queue.handle(event);
        if let Some(line) = line {
            self.note(|| format!("{line} => {decisions:?}"));
        }
        let armed = self.armed.take();
        if self.flaw == Some(Flaw::ActBeforeSave) && armed.is_some() {
            self.act_on(decisions);
            self.kill(20);
            return None;
        }
        if armed == Some(Kill::BeforeSave) {
            self.kill(20);
            return None;
        }
        match self.daemon.as_ref()?.save() {
            Ok(disk) => self.disk = Some(disk),
            Err(error) => self.oracle.broke(|| error.to_string()),
        }
        if armed == Some(Kill::AfterSave) {
            // Numbers that were given out count, also when nobody heard of them.
            self.tell(&decisions);
            self.kill(20);
            return None;
        }
        Some(decisions)
    }

    /// Tells the oracle what was decided about requests.
    fn tell(&mut self, decisions: &[Decision]) {
        for decision in decisions {
            match decision {
                Decision::Answer { request, answer } => {
                    if self.is_urgent {
                        self.oracle.asked_urgently(*request);
                    }
                    self.newest = *request;
                    self.oracle.answered(*request, answer.clone());
                }
                Decision::Told { request, fate } => {
                    self.oracle.told(*request, *fate);
                    if let (Fate::SetAside { .. }, Some(attempt)) =
                        (fate, self.attempts.iter().rfind(|attempt| attempt.request == *request))
                    {
                        self.places[attempt.project].aside.insert(attempt.commit);
                    }
                }
                _ => {}
            }
        }
    }

    fn act_on(&mut self, decisions: Vec<Decision>) {
        self.tell(&decisions);
        for decision in decisions {
            match decision {
                Decision::Start(start) => self.start(&start),
                Decision::Stop(request) => {
                    let running = self.attempts.iter().rposition(|attempt| attempt.request == request);
                    if let Some(attempt) = running.filter(|attempt| !self.attempts[*attempt].pivoted) {
                        let Attempt { project, commit, .. } = self.attempts[attempt];
                        self.places[project].aside.insert(commit);
                        self.after(5, Next::End(attempt));
                    }
                }
                Decision::Drained if self.daemon.as_ref().is_some_and(|daemon| daemon.draining) => {
                    self.kill(10)
                }
                _ => {}
            }
        }
        self.check_urgent();
    }

    /// Windows keep nothing waiting that is asked for whatever they say.
    fn check_urgent(&mut self) {
        let Some(Daemon { queue, draining: false, .. }) = &self.daemon else { return };
        let is_deadly = queue.running().map(|it| it.deaths).chain(queue.waiting().map(|it| it.deaths));
        // What died twice runs alone; who is in a hurry waits for that, too.
        if !self.oracle.is_anything_urgent() || is_deadly.max().unwrap_or(0) + 1 >= MOST_DEATHS {
            return;
        }
        let is_idle = |name: &ProjectName| {
            let place = self.settings.names.iter().position(|known| known == name);
            let is_paused = place.is_some_and(|place| self.now < self.places[place].paused);
            !is_paused && queue.running().all(|running| running.ask.project != *name)
        };
        if queue.running().count() < self.scenario.running
            && let Some(waiting) =
                queue.waiting().find(|it| self.oracle.is_urgent(it.request) && is_idle(&it.ask.project))
        {
            let request = waiting.request;
            self.oracle.broke(|| format!("request {request} is urgent and waits"));
        }
    }

    /// Reads the journal on, and asks for the projects whose turn it is.
    fn follow(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        for (project, commit) in self.journal.iter().skip(daemon.cursor) {
            if let Some(commit) = commit_id(*commit) {
                daemon.progress.succeeded(&self.settings.names[*project], &commit);
            }
        }
        daemon.cursor = self.journal.len();
        let busy = |name: &ProjectName| self.flaw != Some(Flaw::Herd) && daemon.is_busy(name);
        for ready in self.settings.graph.ready(&daemon.progress, busy) {
            let project = self.project(&ready.project);
            let Some(daemon) = &mut self.daemon else { return };
            if self.flaw != Some(Flaw::Herd) {
                daemon.progress.took_turn(&ready.project);
            }
            let seen = daemon.queue.seen_now();
            let want = match ready.commit {
                Some(commit) => Want::commit_itself(commit),
                None => Want::Newest { branch: "main".to_owned(), commit: None, seen },
            };
            let upstream = self.scenario.projects[project].after.map_or(0, |(after, _)| after);
            let successes = self.journal.iter().filter(|(project, _)| *project == upstream).count();
            if !self.is_stopped(project) && self.put(project, want, Trigger::Dependency).is_some() {
                self.oracle.turn(project, successes);
            }
        }
    }

    /// Compares what is with what should be, after hours in which nothing happened.
    fn close(&mut self) {
        if self.oracle.broken.is_some() {
            return;
        }
        self.oracle.close();
        for (project, (place, setup)) in self.places.iter().zip(&self.scenario.projects).enumerate() {
            let awaited = setup.after.is_none() && !place.rolled_back && !place.aside.contains(&place.head);
            if awaited && place.live != place.head {
                let (live, head) = (place.live, place.head);
                self.oracle
                    .broke(|| format!("project {project} serves {live}, but {head} was pushed hours ago"));
            }
        }
        let Some(daemon) = &self.daemon else {
            return self.oracle.broke(|| "the daemon never came back".to_owned());
        };
        for ready in self.settings.graph.ready(&daemon.progress, |_| false) {
            self.oracle.broke(|| format!("project {} never had its turn", ready.project));
        }
        for (schedule, handled) in self.settings.schedules.iter().zip(&daemon.handled) {
            let missed = schedule.as_ref().and_then(|schedule| schedule.next_after(*handled));
            if let Some(missed) =
                missed.filter(|missed| missed.as_second() < daemon.read.as_second() - HOUR - 60)
            {
                self.oracle.broke(|| format!("the schedule's time {missed} was missed"));
            }
        }
    }
}

fn commit_id(number: u64) -> Option<CommitId> {
    CommitId::new(format!("{number:040x}")).ok()
}
