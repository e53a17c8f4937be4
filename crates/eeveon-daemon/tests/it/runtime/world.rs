//! A world in a test's hands: projects, repositories, deployments that end when they are told to, and a
//! daemon in it that can be killed and started again. Time is tokio's, and passes only when told.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Clock, CommitId, DeploymentId, Diagnose as _, ProjectName};
use eeveon_daemon::{
    Daemon, DaemonError, Done, Handle, Limits, PollingConfig, Project, Projects, RequestId, Sighting, Start,
    Unusable, Watch, Windows, World,
};
use eeveon_store::{MemoryStore, Store};
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::oneshot, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::common::{commit, project, second};

/// How often repositories are looked at, give or take a tenth.
pub(crate) const INTERVAL: u64 = 10;

/// How long deployments may go on after a request to end.
pub(crate) const GRACE: Duration = Duration::from_secs(60);

/// How long a deployment takes that succeeds by itself.
const EASY: Duration = Duration::from_secs(5);

/// How a deployment ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    Live,
    Failed,
    /// It failed, and may succeed later.
    Later,
    /// It did not come to a deployment, and may later.
    NotNow,
    Panic,
}

#[derive(Debug, Default)]
struct State {
    projects: Projects,
    /// Which projects there are cannot be told.
    is_blind: bool,
    is_changed: bool,
    /// The newest commit of each repository; none: it cannot be seen.
    heads: BTreeMap<ProjectName, Option<CommitId>>,
    live: BTreeMap<ProjectName, CommitId>,
    looks: Vec<(ProjectName, Option<CommitId>)>,
    started: Vec<Start>,
    running: BTreeMap<RequestId, oneshot::Sender<Ending>>,
    stopped: Vec<RequestId>,
    deployments: u64,
    said: Vec<String>,
    is_stubborn: bool,
    is_mute: bool,
    /// Deployments succeed by themselves after a while.
    is_easy: bool,
    do_looks_panic: bool,
    /// What looks wait for before they are over.
    looks_wait: Option<CancellationToken>,
    settled: usize,
    /// What settling waits for.
    settling_waits: Option<CancellationToken>,
    /// Projects that another process works on, until it fires.
    in_use: BTreeMap<ProjectName, CancellationToken>,
}

/// The world.
#[derive(Debug, Default)]
pub(crate) struct Fake(Mutex<State>);

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

#[async_trait]
impl World for Fake {
    async fn changed(&self) -> Option<Projects> {
        let mut state = self.state();
        if state.is_blind {
            return None;
        }
        std::mem::take(&mut state.is_changed).then(|| state.projects.clone())
    }

    async fn look(&self, project: &ProjectName, known: Option<&CommitId>) -> Result<Sighting, String> {
        let (head, wait, do_panic) = {
            let mut state = self.state();
            state.looks.push((project.clone(), known.cloned()));
            let (do_panic, heads) = (state.do_looks_panic, state.heads.get(project).cloned());
            (heads.flatten(), state.looks_wait.clone(), do_panic)
        };
        assert!(!do_panic, "the look was told to panic");
        if let Some(wait) = wait {
            wait.cancelled().await;
        }
        let commit = head.ok_or("it is down")?;
        // As a world may: what is known is not compared with what is live.
        let live = known == Some(&commit) || self.state().live.get(project) == Some(&commit);
        Ok(Sighting { commit, live })
    }

    async fn carry_out(
        &self,
        start: &Start,
        stop: &CancellationToken,
        opened: oneshot::Sender<DeploymentId>,
    ) -> Done {
        let project = start.ask.project.clone();
        let (end, told, deployment, commit, is_stubborn, is_easy) = {
            let mut state = self.state();
            state.started.push(start.clone());
            if state.in_use.contains_key(&project) {
                return Done {
                    deployment: None,
                    commit: None,
                    went_live: false,
                    again: true,
                    failure: None,
                    in_use: true,
                    goes_on: false,
                };
            }
            let (tell, told) = oneshot::channel();
            let doubled = state.running.insert(start.request, tell);
            assert!(doubled.is_none_or(|before| before.is_closed()), "{} runs twice", start.request);
            state.deployments += 1;
            let head = state.heads.get(&project).cloned().flatten();
            let commit = start.ask.want.commit().cloned().or(head);
            let deployment = DeploymentId(state.deployments);
            (start.request, told, deployment, commit, state.is_stubborn, state.is_easy)
        };
        let _nobody_listens = opened.send(deployment);
        let ending = tokio::select! {
            ending = told => ending.expect("a deployment was forgotten"),
            () = tokio::time::sleep(EASY), if is_easy => Ending::Live,
            () = stop.cancelled(), if !is_stubborn => {
                self.state().stopped.push(end);
                Ending::Failed
            }
        };
        assert_ne!(ending, Ending::Panic, "the deployment was told to panic");
        let mut state = self.state();
        state.running.remove(&end);
        if let (Ending::Live, Some(commit)) = (ending, commit.clone()) {
            state.live.insert(project, commit);
        }
        let went_live = ending == Ending::Live;
        Done {
            deployment: (ending != Ending::NotNow).then_some(deployment),
            commit,
            went_live,
            again: matches!(ending, Ending::Later | Ending::NotNow),
            failure: None,
            in_use: false,
            goes_on: false,
        }
    }

    async fn free(&self, project: &ProjectName) {
        let wait = self.state().in_use.get(project).cloned();
        if let Some(wait) = wait {
            wait.cancelled().await;
        }
    }

    async fn settle(&self) {
        self.state().settled += 1;
        let wait = self.state().settling_waits.clone();
        if let Some(wait) = wait {
            wait.cancelled().await;
        }
    }

    async fn tell(&self, _stop: &CancellationToken) {
        if self.state().is_mute {
            std::future::pending::<()>().await;
        }
    }

    fn say(&self, project: Option<&ProjectName>, words: &str) {
        let name = project.map_or("daemon", ProjectName::as_str);
        self.state().said.push(format!("{name}: {words}"));
    }
}

/// Shows the time that passed for tokio, and what a test adds.
#[derive(Debug)]
struct Wall {
    began: tokio::time::Instant,
    ahead: Mutex<SignedDuration>,
}

impl Clock for Wall {
    fn now(&self) -> Timestamp {
        let passed = SignedDuration::try_from(self.began.elapsed()).unwrap();
        second(0).checked_add(passed + *self.ahead.lock().unwrap()).unwrap()
    }
}

/// A daemon that works.
#[derive(Debug)]
struct Life {
    handle: Handle,
    shutdown: CancellationToken,
    run: JoinHandle<Result<(), DaemonError>>,
}

/// The world, a store, and a daemon.
#[derive(Debug)]
pub(crate) struct Scene {
    world: Arc<Fake>,
    pub(crate) store: Arc<dyn Store>,
    clock: Arc<Wall>,
    pub(crate) limits: Limits,
    life: Option<Life>,
}

/// Returns a project that is deployed by itself whenever it may be.
pub(crate) fn simple(name: &str) -> Project {
    Project {
        name: project(name),
        branch: "main".to_owned(),
        watch: Some(Watch { interval: Duration::from_secs(INTERVAL), host: "forge".to_owned() }),
        automatic: true,
        schedules: Vec::new(),
        windows: Windows::default(),
        expected: Duration::ZERO,
        after: Vec::new(),
    }
}

/// Lets time pass. Whatever can be done at once is done before any of it has passed.
pub(crate) async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

impl Scene {
    /// Returns a world with projects, and no daemon in it yet.
    pub(crate) fn empty(projects: impl IntoIterator<Item = Project>) -> Self {
        let scene = Self {
            world: Arc::default(),
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(Wall { began: tokio::time::Instant::now(), ahead: Mutex::default() }),
            limits: Limits { running: 2, ..Limits::default() },
            life: None,
        };
        scene.set(projects);
        scene
    }

    /// Returns a world with projects, and a daemon that has begun.
    pub(crate) async fn with(projects: impl IntoIterator<Item = Project>) -> Self {
        let mut scene = Self::empty(projects);
        scene.boot().await;
        scene
    }

    /// Starts a daemon with what the store has.
    pub(crate) async fn boot(&mut self) {
        let daemon = self.load().await.unwrap();
        self.live(daemon);
        rest().await;
    }

    /// Lets a daemon work.
    pub(crate) fn live(&mut self, daemon: Daemon) {
        let (handle, shutdown) = (daemon.handle(), CancellationToken::new());
        let run = tokio::spawn(daemon.run(shutdown.clone(), GRACE));
        self.life = Some(Life { handle, shutdown, run });
    }

    /// Makes a daemon from what the store has.
    pub(crate) async fn load(&self) -> Result<Daemon, DaemonError> {
        let (world, store) = (Arc::clone(&self.world), Arc::clone(&self.store));
        let (clock, polling) = (Arc::clone(&self.clock), PollingConfig::default());
        Daemon::load(world, store, clock, self.limits, polling, 7).await
    }

    /// Kills the daemon, and with it whatever it carries out.
    pub(crate) async fn kill(&mut self) {
        self.abort().await;
        rest().await;
        self.forget_dead("killed");
        self.tell_projects();
    }

    /// Kills the daemon. What it carries out goes in a moment.
    pub(crate) async fn abort(&mut self) {
        let life = self.life.take().expect("there is no daemon");
        life.run.abort();
        assert!(life.run.await.unwrap_err().is_cancelled());
    }

    /// Kills the daemon, if there is one.
    pub(crate) async fn kill_if_alive(&mut self) {
        if self.life.is_some() {
            self.kill().await;
        }
        self.tell_projects();
    }

    /// Lets the next daemon hear of all projects.
    fn tell_projects(&self) {
        self.world.state().is_changed = true;
    }

    /// Says that no deployment outlived its daemon.
    fn forget_dead(&self, when: &str) {
        let mut state = self.world.state();
        assert!(state.running.values().all(oneshot::Sender::is_closed), "{when}: a deployment lives on");
        state.running.clear();
    }

    /// Asks the daemon to end.
    pub(crate) async fn ask_to_end(&self) {
        self.shut_down();
        rest().await;
    }

    pub(crate) fn shut_down(&self) {
        self.life().shutdown.cancel();
    }

    /// Waits for the end of the daemon's work.
    pub(crate) async fn ended(&mut self) -> Result<(), DaemonError> {
        let ended = self.life.take().expect("there is no daemon").run.await.unwrap();
        self.forget_dead("ended");
        self.tell_projects();
        ended
    }

    fn life(&self) -> &Life {
        self.life.as_ref().expect("there is no daemon")
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.life().handle
    }

    /// Says whether the daemon has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.life().run.is_finished()
    }

    /// Changes all projects. The daemon notices in a few seconds.
    pub(crate) fn set(&self, projects: impl IntoIterator<Item = Project>) {
        let mut state = self.world.state();
        state.projects = projects.into_iter().map(|it| (it.name.clone(), Ok(it))).collect();
        state.is_changed = true;
    }

    /// Lets a project not be usable any more.
    pub(crate) fn spoil(&self, name: &str) {
        let mut state = self.world.state();
        state.projects.insert(project(name), Err(Unusable::Broken("it is broken".to_owned())));
        state.is_changed = true;
    }

    /// Takes a project's file away. It may come back.
    pub(crate) fn take_away(&self, name: &str) {
        let mut state = self.world.state();
        state.projects.insert(project(name), Err(Unusable::Missing));
        state.is_changed = true;
    }

    /// Lets another process work on a project.
    pub(crate) fn occupy(&self, name: &str) {
        self.world.state().in_use.insert(project(name), CancellationToken::new());
    }

    /// Lets nobody work on it any more.
    pub(crate) async fn vacate(&self, name: &str) {
        let in_use = self.world.state().in_use.remove(&project(name));
        in_use.expect("nobody works on it").cancel();
        rest().await;
    }

    /// Lets nobody tell which projects there are, or somebody again.
    pub(crate) fn be_blind(&self, is_blind: bool) {
        self.world.state().is_blind = is_blind;
    }

    /// Pushes a commit.
    pub(crate) fn push(&self, name: &str, number: u64) {
        self.world.state().heads.insert(project(name), Some(commit(number)));
    }

    /// Lets a repository not be seen any more.
    pub(crate) fn hide(&self, name: &str) {
        self.world.state().heads.insert(project(name), None);
    }

    /// Lets a deployment end.
    pub(crate) async fn end(&self, request: u64, ending: Ending) {
        self.finish(request, ending);
        rest().await;
    }

    /// Lets a deployment end in a moment.
    pub(crate) fn finish(&self, request: u64, ending: Ending) {
        let end = self.world.state().running.remove(&RequestId(request));
        end.unwrap_or_else(|| panic!("{request} does not run")).send(ending).unwrap();
    }

    /// Lets looks that begin now not be over before [`Self::release_looks`].
    pub(crate) fn hold_looks(&self) {
        self.world.state().looks_wait = Some(CancellationToken::new());
    }

    pub(crate) async fn release_looks(&self) {
        let wait = self.world.state().looks_wait.take();
        wait.expect("no look is held").cancel();
        rest().await;
    }

    /// Lets what was left not be settled before [`Self::release_settling`].
    pub(crate) fn hold_settling(&self) {
        self.world.state().settling_waits = Some(CancellationToken::new());
    }

    pub(crate) async fn release_settling(&self) {
        let wait = self.world.state().settling_waits.take();
        wait.expect("settling is not held").cancel();
        rest().await;
    }

    /// Lets looks panic, or not any more.
    pub(crate) fn break_looks(&self, do_panic: bool) {
        self.world.state().do_looks_panic = do_panic;
    }

    /// Lets the clock jump, forward or back.
    pub(crate) fn jump(&self, seconds: i64) {
        *self.clock.ahead.lock().unwrap() += SignedDuration::from_secs(seconds);
    }

    /// Lets deployments succeed by themselves.
    pub(crate) fn be_easy(&self) {
        self.world.state().is_easy = true;
    }

    /// Lets a project serve a commit.
    pub(crate) fn serve(&self, name: &str, number: u64) {
        self.world.state().live.insert(project(name), commit(number));
    }

    /// Says whether a project serves a commit.
    pub(crate) fn serves(&self, name: &str, number: u64) -> bool {
        self.world.state().live.get(&project(name)) == Some(&commit(number))
    }

    /// Lets deployments not listen when they are told to stop.
    pub(crate) fn be_stubborn(&self) {
        self.world.state().is_stubborn = true;
    }

    /// Lets telling people take for ever.
    pub(crate) fn be_mute(&self) {
        self.world.state().is_mute = true;
    }

    /// Returns what was started so far: request, project, commit, deaths.
    pub(crate) fn started(&self) -> Vec<(u64, String, Option<u64>, u8)> {
        let number = |it: &CommitId| u64::from_str_radix(it.as_str(), 16).unwrap();
        let start = |it: &Start| {
            (it.request.0, it.ask.project.to_string(), it.ask.want.commit().map(number), it.deaths)
        };
        self.world.state().started.iter().map(start).collect()
    }

    /// Returns the requests that were started so far.
    pub(crate) fn starts(&self) -> Vec<u64> {
        self.started().into_iter().map(|(request, ..)| request).collect()
    }

    pub(crate) fn stopped(&self) -> Vec<u64> {
        self.world.state().stopped.iter().map(|it| it.0).collect()
    }

    pub(crate) fn looks(&self) -> Vec<(ProjectName, Option<CommitId>)> {
        self.world.state().looks.clone()
    }

    /// Returns how often what was left was settled.
    pub(crate) fn settled(&self) -> usize {
        self.world.state().settled
    }

    pub(crate) fn said(&self) -> Vec<String> {
        self.world.state().said.clone()
    }

    /// Returns what waits, by its number.
    pub(crate) async fn waiting(&self) -> Vec<u64> {
        let overview = self.handle().overview().await.unwrap();
        overview.waiting.into_iter().map(|(_, request)| request.0).collect()
    }
}

/// Lets everything happen that can happen now.
async fn rest() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// Returns the code of what is wrong.
pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, DaemonError>) -> &'static str {
    result.unwrap_err().code()
}
