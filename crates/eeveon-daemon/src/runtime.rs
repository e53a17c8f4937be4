//! The daemon at work: one loop that owns everything undecided, and tasks that look and deploy beside
//! it. Whatever the loop takes on is saved before anything follows from it.

mod deciding;
mod projects;
mod telling;
mod triggers;

use std::{collections::BTreeMap, panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use eeveon_core::{Clock, CommitId, DeploymentId, ProjectName};
use eeveon_store::Store;
use futures::FutureExt as _;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Ask, Cancel, Cancelled, DaemonError, Decision, Done, End, Event, Fate, Graph, Handle, Limits, News,
    Overview, Polling, PollingConfig, Progress, Project, Queue, RequestId, Start, Unusable, Want, World,
    handle::Message,
    runtime::projects::Pause,
    saved::{Memory, Saved},
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
    /// Projects that cannot be used now, and why.
    unusable: BTreeMap<ProjectName, Unusable>,
    /// In which circle projects wait for each other, if they do.
    circle: Option<String>,
    /// Projects that wait before something is tried again.
    paused: BTreeMap<ProjectName, Pause>,
    held: BTreeMap<ProjectName, String>,
    unseen: BTreeMap<ProjectName, String>,
    followers: BTreeMap<RequestId, Vec<mpsc::Sender<News>>>,
    underway: BTreeMap<RequestId, Underway>,
    /// What came of requests, until it was told.
    done: BTreeMap<RequestId, Done>,
    tasks: JoinSet<()>,
    /// When schedules and windows have to be gone through again, and when that was done last.
    go_through: Option<(Timestamp, Timestamp)>,
    /// What was decided, and cannot be acted on before the queue is saved.
    decided: Vec<Decision>,
    /// Why the queue could not be saved, if so.
    unsaved: Option<DaemonError>,
    /// What earlier processes left is not dealt with yet.
    is_settling: bool,
    /// All projects were told. Before that, and while it settles, nothing is started.
    knows_projects: bool,
    has_begun: bool,
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
            unusable: BTreeMap::new(),
            circle: None,
            paused: BTreeMap::new(),
            held: BTreeMap::new(),
            unseen: BTreeMap::new(),
            followers: BTreeMap::new(),
            underway: BTreeMap::new(),
            done: BTreeMap::new(),
            tasks: JoinSet::new(),
            go_through: None,
            decided: Vec::new(),
            unsaved: None,
            is_settling: true,
            knows_projects: false,
            has_begun: false,
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
    /// `daemon/store`: it was to end, and the store did not take what it had to leave to the next one.
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
                    self.drained |= !self.has_begun;
                }
            }
            if let Some(error) = self.unsaved.take_if(|_| self.is_ending && self.underway.is_empty()) {
                return Err(error);
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

    /// Lets what a request left be dealt with that is not begun again.
    fn settle_after(&mut self, request: RequestId) {
        let aside = self.queue.aside().find(|it| it.request == request);
        let Some(project) = aside.map(|it| it.ask.project.clone()) else { return };
        let world = Arc::clone(&self.world);
        self.tasks.spawn(async move {
            // As long as it counts as being worked on, nobody may.
            let settling = AssertUnwindSafe(async {
                world.free(&project).await;
                world.settle().await;
            });
            if settling.catch_unwind().await.is_err() {
                world.say(Some(&project), "what was set aside could not be settled");
            }
        });
    }

    async fn settled(&mut self) -> Result<(), DaemonError> {
        self.is_settling = false;
        self.begin().await
    }

    /// Begins to carry out requests, once all is known for that.
    async fn begin(&mut self) -> Result<(), DaemonError> {
        if self.has_begun || self.is_settling || !self.knows_projects {
            return Ok(());
        }
        if self.is_ending {
            self.drained = true;
            return Ok(());
        }
        self.has_begun = true;
        self.event(Event::Restarted).await?;
        self.follow_on().await
    }

    async fn hear(&mut self, message: Message) -> Result<(), DaemonError> {
        match message {
            // Whoever went away was told that nothing comes of it.
            Message::Ask { answer, .. } if answer.is_closed() => Ok(()),
            Message::Ask { ask, delivery, news, answer } => {
                let taken = self.take(ask, delivery.as_deref(), news).await;
                let _asker_is_gone = answer.send(taken);
                Ok(())
            }
            Message::Follow { request, news } => {
                match self.queue.find(request).is_some() {
                    true => self.follow(request, news),
                    false => {
                        let end = End { fate: Fate::Ended, done: None };
                        let _follower_is_gone = news.try_send(News::Ended(end));
                    }
                }
                Ok(())
            }
            Message::Cancel { cancel, answer } => {
                let cancelled = self.cancel(cancel).await?;
                let _asker_is_gone = answer.send(cancelled);
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
            Message::Free { project } => self.free(project).await,
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

    /// Lets a request end that is not wanted any more.
    async fn cancel(&mut self, cancel: Cancel) -> Result<Cancelled, DaemonError> {
        let Cancel { request, by, why, unless_shared } = cancel;
        match self.queue.find(request) {
            None => return Ok(Cancelled::Unknown),
            Some(ask) if unless_shared && ask.shared => return Ok(Cancelled::Shared),
            Some(_) => {}
        }
        if let Some(deployment) = self.underway.get(&request).and_then(|it| it.deployment) {
            // Said first, so that its history names who did it.
            let said = self.store.request_cancel(deployment, &by, why.as_deref(), self.clock.now()).await;
            said.unwrap_or_else(
                |error| tracing::warn!(%error, "who cancelled a deployment could not be noted"),
            );
        }
        self.event(Event::Cancel(request)).await?;
        Ok(Cancelled::Cancelled)
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
        // Whoever follows does not follow back.
        let is_success = done.went_live && !ask.want.is_rollback();
        if let Some(commit) = done.commit.as_ref().filter(|_| is_success) {
            self.progress.succeeded(&ask.project, commit);
        }
        if done.deployment.is_none() && !running.stopping && self.waits_again(&ask, &done) {
            self.hold_or_release(&ask.project, self.clock.now()).await?;
            self.event(Event::Deferred(request)).await?;
            return self.follow_on().await;
        }
        self.paused.remove(&ask.project);
        let once_more = (done.goes_on && !running.stopping).then_some(ask);
        self.done.insert(request, done);
        let ended = self.queue.handle(Event::Ended(request));
        self.decided.extend(ended);
        // Saved together, so that a death in between forgets neither.
        if let Some(ask) = once_more {
            let asked = self.queue.handle(Event::Asked(ask));
            self.decided.extend(asked);
        }
        self.save_and_act().await?;
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
            alone: self.queue.alone().map(|(project, request)| (project.clone(), request)),
            aside: self.queue.aside().map(|it| pair(&it.ask, it.request)).collect(),
            held: self.held.clone().into_iter().collect(),
            unseen: self.unseen.clone().into_iter().collect(),
            paused: self
                .paused
                .iter()
                .filter(|(_, it)| self.clock.now() < it.until)
                .map(|(name, it)| (name.clone(), it.to_string()))
                .collect(),
            unsaved: self.unsaved.as_ref().map(ToString::to_string),
        }
    }
}
