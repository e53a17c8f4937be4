//! The daemon at work: one loop that owns everything undecided, and tasks that look and deploy beside
//! it. Whatever the loop takes on is saved before anything follows from it.

mod telling;
mod triggers;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use eeveon_core::{Clock, CommitId, DeploymentId, Durability, ProjectName};
use eeveon_store::{Delivery, Store};
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Answer, Ask, DaemonError, Decision, Done, End, Event, Fate, Graph, Handle, Limits, News, Overview,
    Polling, PollingConfig, Progress, Project, Queue, RequestId, Start, Taken, Want, World,
    handle::Message,
    saved::{self, Memory, Saved},
};

/// How often project files are looked at for changes.
const RELOAD: Duration = Duration::from_secs(5);

/// Messages that may wait for the loop. Whoever sends more waits.
const INBOX: usize = 1024;

/// A deployment that is under way.
#[derive(Debug, Default)]
struct Underway {
    stop: CancellationToken,
    deployment: Option<DeploymentId>,
    /// The newest commit that had been asked for when it began.
    asked: Option<CommitId>,
}

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
    followers: BTreeMap<RequestId, Vec<mpsc::Sender<News>>>,
    underway: BTreeMap<RequestId, Underway>,
    /// What came of requests, until it was told.
    done: BTreeMap<RequestId, Done>,
    tasks: JoinSet<()>,
    /// When schedules and windows have to be gone through again, and when that was done last.
    go_through: Option<(Timestamp, Timestamp)>,
    /// What earlier processes left is not dealt with yet, and nothing is started.
    is_settling: bool,
    /// The daemon was asked to end.
    is_ending: bool,
    /// It was given time for that, and what still runs is taken back.
    is_late: bool,
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
        let Saved { queue, progress, memory } = Saved::load(&*store, limits).await?;
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
            followers: BTreeMap::new(),
            underway: BTreeMap::new(),
            done: BTreeMap::new(),
            tasks: JoinSet::new(),
            go_through: None,
            is_settling: true,
            is_ending: false,
            is_late: false,
            drained: false,
        })
    }

    /// Returns what speaks to it.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Works until `shutdown` fires and what runs has ended. What still runs after `grace` is taken
    /// back, and begun again by the next daemon.
    ///
    /// # Errors
    ///
    /// `daemon/store`: nothing is done that could not be saved, so it ends.
    pub async fn run(mut self, shutdown: CancellationToken, grace: Duration) -> Result<(), DaemonError> {
        let (mut teller, enough) = (JoinSet::new(), CancellationToken::new());
        teller.spawn(telling::tell(Arc::clone(&self.world), enough.clone()));
        let ended = self.work(&shutdown, grace).await;
        // Nobody is at work any more when the next daemon may begin.
        self.tasks.shutdown().await;
        if ended.is_ok() {
            enough.cancel();
            teller.join_next().await;
        }
        teller.shutdown().await;
        ended
    }

    async fn work(&mut self, shutdown: &CancellationToken, grace: Duration) -> Result<(), DaemonError> {
        self.reload().await?;
        self.settle();
        let mut reload = tokio::time::interval(RELOAD);
        reload.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut time_is_over = pin!(tokio::time::sleep(Duration::MAX));
        while !self.drained {
            let wake = self.tick().await?;
            tokio::select! {
                Some(message) = self.inbox.recv() => self.hear(message).await?,
                Some(_) = self.tasks.join_next() => {}
                _ = reload.tick() => self.reload().await?,
                () = tokio::time::sleep(wake) => {}
                () = shutdown.cancelled(), if !self.is_ending => {
                    self.is_ending = true;
                    time_is_over.set(tokio::time::sleep(grace));
                    self.event(Event::Drain).await?;
                }
                () = &mut time_is_over, if self.is_ending && !self.is_late => {
                    self.is_late = true;
                    self.world.say(None, "time is over: what still runs is taken back");
                    self.underway.values().for_each(|it| it.stop.cancel());
                    // The next daemon goes on with that.
                    self.drained |= self.is_settling;
                }
            }
        }
        Ok(())
    }

    /// Lets what earlier processes left be dealt with, while requests are taken already.
    fn settle(&mut self) {
        let (world, handle) = (Arc::clone(&self.world), self.handle.clone());
        self.tasks.spawn(async move {
            let settling = AssertUnwindSafe(world.settle()).catch_unwind();
            if settling.await.is_err() {
                world.say(None, "what earlier processes left could not be settled");
            }
            let _the_daemon_ended = handle.send(Message::Settled).await;
        });
    }

    async fn settled(&mut self) -> Result<(), DaemonError> {
        self.is_settling = false;
        if self.is_ending {
            self.drained = true;
            return Ok(());
        }
        self.event(Event::Restarted).await?;
        self.follow_on().await
    }

    async fn hear(&mut self, message: Message) -> Result<(), DaemonError> {
        match message {
            // Whoever went away was told that nothing comes of it.
            Message::Ask { answer, .. } if answer.is_closed() => Ok(()),
            Message::Ask { ask, delivery, news, answer } => {
                let taken = self.take(ask, delivery.as_deref(), news).await;
                let lost = taken.as_ref().err().filter(|it| matches!(it, DaemonError::Store { .. })).cloned();
                let _asker_is_gone = answer.send(taken);
                lost.map_or(Ok(()), Err)
            }
            Message::Follow { request, news } => {
                let is_known = self.queue.waiting().any(|it| it.request == request)
                    || self.queue.running().any(|it| it.request == request);
                match is_known {
                    true => self.follow(request, news),
                    false => {
                        let end = End { fate: Fate::Ended, done: None };
                        let _follower_is_gone = news.try_send(News::Ended(end));
                    }
                }
                Ok(())
            }
            Message::Cancel { request, known } => {
                let is_known = self.queue.waiting().any(|it| it.request == request)
                    || self.queue.running().any(|it| it.request == request);
                self.event(Event::Cancel(request)).await?;
                let _asker_is_gone = known.send(is_known);
                Ok(())
            }
            Message::Lift { project, lifted } => {
                let aside = self.queue.aside().filter(|it| it.ask.project == project).count();
                self.memory.asked.remove(&project);
                self.event(Event::Lift(project)).await?;
                let _asker_is_gone = lifted.send(aside);
                Ok(())
            }
            Message::Reload => self.reload().await,
            Message::Overview { answer } => {
                let _asker_is_gone = answer.send(self.overview());
                Ok(())
            }
            Message::Settled => self.settled().await,
            Message::Seen { project, known, seen, result } => self.seen(project, known, seen, result).await,
            Message::Opened { request, deployment } => {
                if let Some(underway) = self.underway.get_mut(&request) {
                    underway.deployment = Some(deployment);
                    self.tell_followers(request, &News::Opened(deployment));
                }
                Ok(())
            }
            Message::Done { request, done } => self.ended(request, done).await,
        }
    }

    /// Lets somebody follow a request that waits or runs.
    fn follow(&mut self, request: RequestId, news: mpsc::Sender<News>) {
        if let Some(underway) = self.underway.get(&request) {
            let so_far = [Some(News::Started), underway.deployment.map(News::Opened)];
            for it in so_far.into_iter().flatten() {
                let _follower_is_gone = news.try_send(it);
            }
        }
        self.followers.entry(request).or_default().push(news);
    }

    /// Tells all who follow a request. Nobody is waited for: who does not listen is told no more.
    fn tell_followers(&mut self, request: RequestId, news: &News) {
        if let Some(followers) = self.followers.get_mut(&request) {
            followers.retain(|it| it.try_send(news.clone()).is_ok());
        }
    }

    /// Takes on a request, and the delivery it came with, in one moment.
    async fn take(
        &mut self,
        mut ask: Ask,
        delivery: Option<&Delivery>,
        news: Option<mpsc::Sender<News>>,
    ) -> Result<Taken, DaemonError> {
        let project = ask.project.clone();
        self.hold_or_release(&project, self.clock.now()).await?;
        let mut queue = self.queue.clone();
        // Whoever asks from outside saw what it saw now.
        if let Want::Newest { seen, .. } = &mut ask.want {
            *seen = queue.seen_now();
        }
        let decisions = queue.handle(Event::Asked(ask));
        let answered = decisions.iter().find_map(|it| match it {
            Decision::Answer { request, answer } => Some((*request, answer.clone())),
            _ => None,
        });
        let Some((request, answer)) = answered else { return Err(DaemonError::Gone) };
        if let Answer::Refused(refusal) = answer {
            // Nothing happened, so a delivery that is made again is no repetition.
            return Err(DaemonError::Refused(refusal));
        }
        let states = saved::states(&queue, &self.progress, &self.memory)?;
        match delivery {
            Some(delivery) => {
                if !self.store.take_delivery(delivery, &states).await? {
                    return Ok(Taken::Repeated);
                }
            }
            None => self.store.save_states(&states, Durability::Power).await?,
        }
        self.queue = queue;
        self.polling.heard(&project, self.clock.now());
        if let Some(news) = news {
            let followed = if let Answer::Coalesced { into, .. } = &answer { *into } else { request };
            self.follow(followed, news);
        }
        self.act(decisions);
        Ok(Taken::Answered { request, answer })
    }

    /// Lets something happen: to the queue, then to the store, then to the world.
    async fn event(&mut self, event: Event) -> Result<(), DaemonError> {
        let decisions = self.queue.handle(event);
        self.save().await?;
        self.act(decisions);
        Ok(())
    }

    async fn save(&mut self) -> Result<(), DaemonError> {
        let states = saved::states(&self.queue, &self.progress, &self.memory)?;
        Ok(self.store.save_states(&states, Durability::Process).await?)
    }

    fn act(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Start(start) => self.start(start),
                Decision::Stop(request) => {
                    if let Some(underway) = self.underway.get(&request) {
                        underway.stop.cancel();
                    }
                }
                Decision::Told { request, fate } => {
                    let done = self.done.remove(&request);
                    if let Fate::SetAside { deaths } = fate {
                        let words =
                            format!("request {request} is set aside: it ended in a crash {deaths} times");
                        self.world.say(None, &words);
                    }
                    if let Fate::Replaced { by } = fate {
                        self.tell_followers(request, &News::Replaced { by });
                        let followers = self.followers.remove(&request).unwrap_or_default();
                        followers.into_iter().for_each(|it| self.follow(by, it));
                    } else {
                        self.tell_followers(request, &News::Ended(End { fate, done }));
                        self.followers.remove(&request);
                    }
                }
                Decision::Answer { .. } | Decision::Unknown(_) => {}
                Decision::Drained => self.drained = true,
            }
        }
    }

    fn start(&mut self, start: Start) {
        let (request, stop) = (start.request, CancellationToken::new());
        let asked = self.memory.asked.get(&start.ask.project).cloned();
        self.underway.insert(request, Underway { stop: stop.clone(), deployment: None, asked });
        self.tell_followers(request, &News::Started);
        let (world, handle) = (Arc::clone(&self.world), self.handle.clone());
        self.tasks.spawn(async move {
            let (opened, mut open) = oneshot::channel();
            // A panic in one deployment is a death of that one, and of no other.
            let work = AssertUnwindSafe(world.carry_out(&start, &stop, opened)).catch_unwind();
            let mut work = pin!(work);
            let early = tokio::select! {
                biased;
                Ok(deployment) = &mut open => {
                    let _the_daemon_ended = handle.send(Message::Opened { request, deployment }).await;
                    None
                }
                done = &mut work => Some(done),
            };
            let done = match early {
                Some(done) => {
                    // It may have been opened in the same moment.
                    if let Ok(deployment) = open.try_recv() {
                        let _the_daemon_ended = handle.send(Message::Opened { request, deployment }).await;
                    }
                    done
                }
                None => work.await,
            };
            let _the_daemon_ended = handle.send(Message::Done { request, done: done.ok() }).await;
        });
    }

    async fn ended(&mut self, request: RequestId, done: Option<Done>) -> Result<(), DaemonError> {
        let underway = self.underway.remove(&request).unwrap_or_default();
        let running = self.queue.running().find(|it| it.request == request).cloned();
        let (Some(done), Some(running)) = (done, running) else { return self.died(request).await };
        let ask = running.ask;
        if self.is_late && !done.went_live {
            // It was taken back because the daemon ends. The next one begins it again.
            return self.died(request).await;
        }
        let own = self.projects.get(&ask.project).map(|it| it.branch.as_str());
        let is_newest = matches!(&ask.want, Want::Newest { branch, .. } if own == Some(branch));
        // Whatever was asked for since is newer, and not this one's business.
        if is_newest && self.memory.asked.get(&ask.project) == underway.asked.as_ref() {
            match &done.commit {
                // The next look asks for it again, unless somebody did not want it.
                _ if done.again && !running.stopping => drop(self.memory.asked.remove(&ask.project)),
                // Whoever asked for it, a look need not.
                Some(commit) => drop(self.memory.asked.insert(ask.project.clone(), commit.clone())),
                None => {}
            }
        }
        if let Some(commit) = done.commit.as_ref().filter(|_| done.went_live) {
            self.progress.succeeded(&ask.project, commit);
        }
        self.done.insert(request, done);
        self.event(Event::Ended(request)).await?;
        self.follow_on().await
    }

    async fn died(&mut self, request: RequestId) -> Result<(), DaemonError> {
        self.event(Event::Died(request)).await?;
        self.follow_on().await
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
