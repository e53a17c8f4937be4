//! The daemon at work: one loop that owns everything undecided, and tasks that look and deploy beside
//! it. Whatever the loop takes on is saved before anything follows from it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use eeveon_core::{Actor, Clock, CommitId, Durability, ProjectName, Trigger, Untrusted};
use eeveon_store::{Delivery, Store};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Answer, Ask, DaemonError, Decision, Done, End, Event, Fate, Freeze, Graph, Handle, Limits, Looked,
    Overview, Polling, PollingConfig, Progress, Project, Queue, RequestId, Sighting, Start, State, Taken,
    Tell, Want, World, handle::Message,
};

/// The names of the daemon's states in the store.
const QUEUE: &str = "daemon/queue";
const PROGRESS: &str = "daemon/progress";
const MEMORY: &str = "daemon/memory";

/// The version of [`Memory`]'s form.
const MEMORY_FORMAT: u32 = 1;

/// How often project files are looked at for changes.
const RELOAD: Duration = Duration::from_secs(5);

/// Rounds of deliveries that may be under way at once.
const ROUNDS: usize = 64;

/// Messages that may wait for the loop. Whoever sends more waits.
const INBOX: usize = 1024;

/// What the daemon remembers beside queue and progress. Its JSON form is stored.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Memory {
    format: u32,
    /// The newest commit of each project's branch that was asked for, so that it is asked for once.
    asked: BTreeMap<ProjectName, CommitId>,
    /// For each project and schedule the last time that was dealt with.
    handled: BTreeMap<String, Timestamp>,
    /// Projects that are frozen; one without a name means all.
    frozen: BTreeMap<String, Freeze>,
}

/// The key of a freeze of everything.
const ALL: &str = "";

/// The daemon.
#[derive(Debug)]
pub struct Daemon {
    world: Arc<dyn World>,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    inbox: mpsc::Receiver<Message>,
    handle: Handle,
    queue: Queue,
    progress: Progress,
    graph: Graph,
    memory: Memory,
    polling: Polling,
    projects: BTreeMap<ProjectName, Project>,
    held: BTreeMap<ProjectName, String>,
    unseen: BTreeMap<ProjectName, String>,
    waiters: BTreeMap<RequestId, Vec<oneshot::Sender<End>>>,
    running: BTreeMap<RequestId, CancellationToken>,
    /// What came of requests, until it was told.
    done: BTreeMap<RequestId, Done>,
    tasks: JoinSet<()>,
    drained: bool,
}

impl Daemon {
    /// Makes a daemon from what the last one saved.
    ///
    /// # Errors
    ///
    /// `daemon/store`, `daemon/newer-format` or `daemon/damaged-state`.
    pub async fn load(
        world: Arc<dyn World>,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        polling: PollingConfig,
        seed: u64,
    ) -> Result<Self, DaemonError> {
        let queue = match store.state(QUEUE).await? {
            Some(text) => Queue::load(&text, limits)?,
            None => Queue::new(limits),
        };
        let progress = match store.state(PROGRESS).await? {
            Some(text) => Progress::load(&text)?,
            None => Progress::default(),
        };
        let memory = match store.state(MEMORY).await? {
            Some(text) => read_memory(&text)?,
            None => Memory { format: MEMORY_FORMAT, ..Memory::default() },
        };
        let (handle, inbox) = mpsc::channel(INBOX);
        Ok(Self {
            world,
            store,
            clock,
            inbox,
            handle: Handle(handle),
            queue,
            progress,
            graph: Graph::default(),
            memory,
            polling: Polling::new(polling, seed),
            projects: BTreeMap::new(),
            held: BTreeMap::new(),
            unseen: BTreeMap::new(),
            waiters: BTreeMap::new(),
            running: BTreeMap::new(),
            done: BTreeMap::new(),
            tasks: JoinSet::new(),
            drained: false,
        })
    }

    /// Returns what speaks to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Works until `shutdown` fires and what runs has ended. What still runs after `grace` is taken
    /// back.
    ///
    /// # Errors
    ///
    /// `daemon/store`: nothing is done that could not be saved, so it ends.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Result<(), DaemonError> {
        self.world.settle().await;
        self.reload().await?;
        self.event(Event::Restarted).await?;
        let teller = self.start_telling();
        let mut reload = tokio::time::interval(RELOAD);
        reload.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut draining: Option<Instant> = None;
        while !self.drained {
            let wake = self.tick().await?;
            tokio::select! {
                Some(message) = self.inbox.recv() => self.hear(message).await?,
                Some(_) = self.tasks.join_next() => {}
                _ = reload.tick() => self.reload().await?,
                () = tokio::time::sleep(wake) => {}
                () = shutdown.cancelled(), if draining.is_none() => {
                    draining = Some(Instant::now() + grace);
                    self.event(Event::Drain).await?;
                }
                () = until(draining) => {
                    self.world.say(None, "time is over: what still runs is taken back");
                    for stop in self.running.values() {
                        stop.cancel();
                    }
                    draining = Some(Instant::now() + grace);
                }
            }
        }
        teller.cancel();
        self.world.tell(&CancellationToken::new()).await;
        Ok(())
    }

    /// Delivers what there is to tell, beside everything else, for as long as the daemon works.
    fn start_telling(&mut self) -> CancellationToken {
        let stop = CancellationToken::new();
        let (world, ends) = (Arc::clone(&self.world), stop.clone());
        self.tasks.spawn(async move {
            // A round goes on as long as its slowest channel; what comes meanwhile does not wait for it.
            let mut rounds = JoinSet::new();
            while !ends.is_cancelled() {
                while rounds.try_join_next().is_some() {}
                if rounds.len() < ROUNDS {
                    let (world, ends) = (Arc::clone(&world), ends.clone());
                    rounds.spawn(async move { world.tell(&ends).await });
                }
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    () = ends.cancelled() => {}
                }
            }
            while rounds.join_next().await.is_some() {}
        });
        stop
    }

    /// Does what the time has come for; returns how long nothing will be.
    async fn tick(&mut self) -> Result<Duration, DaemonError> {
        let now = self.clock.now();
        let mut next = now.checked_add(jiff::SignedDuration::from_mins(1)).unwrap_or(Timestamp::MAX);
        let mut sooner = |at: Option<Timestamp>| {
            if let Some(at) = at {
                next = next.min(at);
            }
        };
        for project in self.polling.next(now) {
            self.look(project);
        }
        sooner(self.polling.next_due());
        let mut asks = Vec::new();
        let mut turns = Vec::new();
        for project in self.projects.values() {
            sooner(project.windows.next_change(now));
            turns.push(project.name.clone());
            for (n, (schedule, missed)) in project.schedules.iter().enumerate() {
                let key = format!("{}/{n}/{schedule}", project.name);
                let last = self.memory.handled.get(&key).copied();
                let due = schedule.due(last.unwrap_or(now), now, *missed);
                sooner(due.next);
                if due.run.is_some() && project.automatic {
                    asks.push((project.name.clone(), project.branch.clone(), schedule.to_string()));
                }
                if last != Some(due.handled) {
                    self.memory.handled.insert(key, due.handled);
                }
            }
        }
        for project in turns {
            self.hold_or_release(&project, now).await?;
        }
        for (project, branch, schedule) in asks {
            let ask = Ask {
                project,
                want: Want::Newest { branch, commit: None, seen: self.queue.seen_now() },
                actor: Actor::Schedule(Untrusted::from(schedule)),
                trigger: Trigger::Schedule,
                reason: None,
            };
            self.event(Event::Asked(ask)).await?;
        }
        let wait = next.duration_since(now);
        Ok(Duration::try_from(wait).unwrap_or_default().max(Duration::from_millis(10)))
    }

    /// Starts a look at a project's repository.
    fn look(&mut self, project: ProjectName) {
        let seen = self.queue.seen_now();
        let (world, handle) = (Arc::clone(&self.world), self.handle.clone());
        self.tasks.spawn(async move {
            let looking = tokio::spawn({
                let project = project.clone();
                async move { world.look(&project).await }
            });
            let result = looking.await.unwrap_or_else(|_| Err("the look broke off".to_owned()));
            let _the_daemon_ended = handle.send(Message::Seen { project, seen, result }).await;
        });
    }

    async fn hear(&mut self, message: Message) -> Result<(), DaemonError> {
        match message {
            Message::Ask { ask, delivery, answer } => {
                let taken = self.take(ask, delivery.as_deref()).await;
                let lost = matches!(taken, Err(DaemonError::Store { .. }));
                let failed = lost.then(|| DaemonError::Store { why: "see what was answered".to_owned() });
                let _asker_is_gone = answer.send(taken);
                match failed {
                    Some(error) => Err(error),
                    None => Ok(()),
                }
            }
            Message::Wait { request, end } => {
                let is_known = self.queue.waiting().any(|it| it.request == request)
                    || self.queue.running().any(|it| it.request == request);
                match is_known {
                    true => self.waiters.entry(request).or_default().push(end),
                    false => {
                        let done = self.done.get(&request).cloned();
                        let _asker_is_gone = end.send(End { fate: Fate::Ended, done });
                    }
                }
                Ok(())
            }
            Message::Cancel { request } => self.event(Event::Cancel(request)).await,
            Message::Lift { project } => self.event(Event::Lift(project)).await,
            Message::Freeze { project, freeze } => {
                let key = project.map_or_else(|| ALL.to_owned(), |it| it.to_string());
                match freeze {
                    Some(freeze) => self.memory.frozen.insert(key, freeze),
                    None => self.memory.frozen.remove(&key),
                };
                self.save().await?;
                self.thaw();
                Ok(())
            }
            Message::Overview { answer } => {
                let _asker_is_gone = answer.send(self.overview());
                Ok(())
            }
            Message::Seen { project, seen, result } => self.seen(project, seen, result).await,
            Message::Done { request, done } => self.ended(request, done).await,
        }
    }

    /// Takes on a request, and the delivery it came with, in one moment.
    async fn take(&mut self, mut ask: Ask, delivery: Option<&Delivery>) -> Result<Taken, DaemonError> {
        let project = ask.project.clone();
        let mut queue = self.queue.clone();
        // Whoever asks from outside saw what it saw now.
        if let Want::Newest { seen, .. } = &mut ask.want {
            *seen = queue.seen_now();
        }
        let decisions = queue.handle(Event::Asked(ask));
        let states = self.states(&queue)?;
        match delivery {
            Some(delivery) => {
                if !self.store.take_delivery(delivery, &states).await? {
                    return Ok(Taken::Repeated);
                }
            }
            None => self.store.save_states(&states, Durability::Power).await?,
        }
        self.queue = queue;
        let answered = decisions.iter().find_map(|it| match it {
            Decision::Answer { request, answer } => Some((*request, answer.clone())),
            _ => None,
        });
        self.polling.heard(&project, self.clock.now());
        self.act(decisions);
        match answered {
            Some((_, Answer::Refused(refusal))) => Err(DaemonError::Refused(refusal)),
            Some((request, answer)) => Ok(Taken::Answered { request, answer }),
            None => Err(DaemonError::Gone),
        }
    }

    /// Lets something happen: to the queue, then to the store, then to the world.
    async fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        let decisions = self.queue.handle(event);
        self.save().await?;
        self.act(decisions);
        Ok(())
    }

    fn states(&self, queue: &Queue) -> Result<Vec<(String, Option<String>)>, DaemonError> {
        let memory = serde_json::to_string(&self.memory)
            .map_err(|error| DaemonError::Damaged { what: "the daemon's memory", why: error.to_string() })?;
        Ok(vec![
            (QUEUE.to_owned(), Some(queue.save()?)),
            (PROGRESS.to_owned(), Some(self.progress.save()?)),
            (MEMORY.to_owned(), Some(memory)),
        ])
    }

    async fn save(&mut self) -> Result<(), DaemonError> {
        let states = self.states(&self.queue)?;
        Ok(self.store.save_states(&states, Durability::Process).await?)
    }

    fn act(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Start(start) => self.start(start),
                Decision::Stop(request) => {
                    if let Some(stop) = self.running.get(&request) {
                        stop.cancel();
                    }
                }
                Decision::Told { request, fate } => {
                    let done = self.done.remove(&request);
                    if let Fate::SetAside { deaths } = fate {
                        let words =
                            format!("request {request} is set aside: it ended in a crash {deaths} times");
                        self.world.say(None, &words);
                    }
                    for waiter in self.waiters.remove(&request).unwrap_or_default() {
                        let _waiter_is_gone = waiter.send(End { fate, done: done.clone() });
                    }
                }
                Decision::Answer { .. } | Decision::Unknown(_) => {}
                Decision::Drained => self.drained = true,
            }
        }
    }

    fn start(&mut self, start: Start) {
        let (request, stop) = (start.request, CancellationToken::new());
        self.running.insert(request, stop.clone());
        let (world, handle) = (Arc::clone(&self.world), self.handle.clone());
        self.tasks.spawn(async move {
            // A panic in one deployment is a death of that one, and of no other.
            let working = tokio::spawn(async move { world.carry_out(&start, &stop).await });
            let done = working.await.ok();
            let _the_daemon_ended = handle.send(Message::Done { request, done }).await;
        });
    }

    async fn ended(&mut self, request: RequestId, done: Option<Done>) -> Result<(), DaemonError> {
        self.running.remove(&request);
        let project = self.queue.running().find(|it| it.request == request).map(|it| it.ask.project.clone());
        let Some(done) = done else { return self.event(Event::Died(request)).await };
        if let Some(project) = project {
            if done.again {
                // The next look asks for it again.
                self.memory.asked.remove(&project);
            }
            if let Some(commit) = &done.succeeded {
                self.progress.succeeded(&project, commit);
            }
        }
        self.done.insert(request, done);
        self.event(Event::Ended(request)).await?;
        self.follow_on().await
    }

    /// Asks for what waited for others and need not any more.
    async fn follow_on(&mut self) -> Result<(), DaemonError> {
        let busy: BTreeSet<ProjectName> = self.queue.running().map(|it| it.ask.project.clone()).collect();
        for ready in self.graph.ready(&self.progress, |project| busy.contains(project)) {
            self.progress.took_turn(&ready.project);
            let Some(project) = self.projects.get(&ready.project).filter(|it| it.automatic) else { continue };
            let ask = Ask {
                project: project.name.clone(),
                want: match ready.commit {
                    Some(commit) => Want::Commit { commit, allow_older: false },
                    None => newest(project, None, self.queue.seen_now()),
                },
                actor: Actor::Engine,
                trigger: Trigger::Dependency,
                reason: Some(Untrusted::from("what it waits for was deployed")),
            };
            self.event(Event::Asked(ask)).await?;
        }
        Ok(())
    }

    async fn seen(
        &mut self,
        name: ProjectName,
        seen: crate::Seen,
        result: Result<Sighting, String>,
    ) -> Result<(), DaemonError> {
        let now = self.clock.now();
        let looked = if result.is_ok() { Looked::Well } else { Looked::Failed };
        match (self.polling.looked(&name, looked, now), &result) {
            (Tell::Broke, Err(why)) => {
                self.world.say(Some(&name), &format!("its repository cannot be seen: {why}"));
                self.unseen.insert(name.clone(), why.clone());
            }
            (Tell::Mended { .. }, _) => {
                self.world.say(Some(&name), "its repository can be seen again");
                self.unseen.remove(&name);
            }
            _ => {}
        }
        let Ok(sighting) = result else { return Ok(()) };
        let Some(project) = self.projects.get(&name).filter(|it| it.automatic) else { return Ok(()) };
        if self.memory.asked.get(&name) == Some(&sighting.commit) {
            return Ok(());
        }
        let ask = Ask {
            project: name.clone(),
            want: newest(project, Some(sighting.commit.clone()), seen),
            actor: Actor::Engine,
            trigger: Trigger::Poll,
            reason: None,
        };
        self.memory.asked.insert(name, sighting.commit);
        match sighting.live {
            true => self.save().await,
            false => self.event(Event::Asked(ask)).await,
        }
    }

    /// Takes over what changed in the project files.
    async fn reload(&mut self) -> Result<(), DaemonError> {
        let Some(projects) = self.world.changed().await else { return Ok(()) };
        let now = self.clock.now();
        let names: BTreeSet<ProjectName> = projects.iter().map(|it| it.name.clone()).collect();
        let gone: Vec<ProjectName> =
            self.projects.keys().filter(|name| !names.contains(*name)).cloned().collect();
        for name in gone {
            self.projects.remove(&name);
            self.polling.forget(&name);
            self.unseen.remove(&name);
            self.memory.asked.remove(&name);
        }
        let edges = projects.iter().flat_map(|it| it.after.clone());
        match Graph::new(edges) {
            Ok(graph) => self.graph = graph,
            Err(cycle) => {
                self.graph = Graph::default();
                let words = format!("projects wait for each other, so none of them follows another: {cycle}");
                self.world.say(None, &words);
            }
        }
        self.progress.prune(&self.graph);
        for project in projects {
            let known = self.projects.get(&project.name);
            if known.is_none_or(|known| known.watch != project.watch || known.branch != project.branch) {
                self.polling.watch(project.name.clone(), project.watch.clone(), now);
                if known.is_some_and(|known| known.branch != project.branch) {
                    self.memory.asked.remove(&project.name);
                }
            }
            if known.is_some_and(|known| !known.automatic && project.automatic) {
                // What came in the meantime is looked for again.
                self.memory.asked.remove(&project.name);
                self.polling.watch(project.name.clone(), project.watch.clone(), now);
            }
            self.projects.insert(project.name.clone(), project);
        }
        self.thaw();
        let names: Vec<ProjectName> = self.projects.keys().cloned().collect();
        for name in names {
            self.hold_or_release(&name, now).await?;
        }
        self.save().await
    }

    /// Lays the freezes over the windows of all projects.
    fn thaw(&mut self) {
        for (name, project) in &mut self.projects {
            let freeze = self.memory.frozen.get(ALL).or_else(|| self.memory.frozen.get(name.as_str()));
            project.windows.set_freeze(freeze.cloned());
        }
    }

    async fn hold_or_release(&mut self, name: &ProjectName, now: Timestamp) -> Result<(), DaemonError> {
        let Some(project) = self.projects.get(name) else { return Ok(()) };
        match (project.windows.may_start(now, project.expected), self.held.contains_key(name)) {
            (State::Shut(shut), false) => {
                self.held.insert(name.clone(), shut.to_string());
                self.event(Event::Hold(name.clone())).await
            }
            (State::Open, true) => {
                self.held.remove(name);
                self.event(Event::Release(name.clone())).await
            }
            _ => Ok(()),
        }
    }

    fn overview(&self) -> Overview {
        let pair = |ask: &Ask, request: RequestId| (ask.project.clone(), request);
        Overview {
            projects: self.projects.len(),
            waiting: self.queue.waiting().map(|it| pair(&it.ask, it.request)).collect(),
            running: self.queue.running().map(|it| pair(&it.ask, it.request)).collect(),
            aside: self.queue.aside().map(|it| pair(&it.ask, it.request)).collect(),
            held: self.held.clone().into_iter().collect(),
            unseen: self.unseen.clone().into_iter().collect(),
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn newest(project: &Project, commit: Option<CommitId>, seen: crate::Seen) -> Want {
    Want::Newest { branch: project.branch.clone(), commit, seen }
}

fn read_memory(text: &str) -> Result<Memory, DaemonError> {
    let what = "the daemon's memory";
    let memory: Memory =
        serde_json::from_str(text).map_err(|error| DaemonError::Damaged { what, why: error.to_string() })?;
    match memory.format {
        MEMORY_FORMAT => Ok(memory),
        found => Err(DaemonError::Newer { what, found, known: MEMORY_FORMAT }),
    }
}
