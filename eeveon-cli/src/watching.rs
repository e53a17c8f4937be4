//! What the daemon is put into: project files, repositories, deployments and people, as this binary
//! knows them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use eeveon_core::{
    Actor, Class, CommitId, DeploymentId, Diagnose as _, Failure, Outcome, ProjectName, Retry, Trigger,
    Untrusted,
};
use eeveon_daemon::{
    Courier, DaemonError, Done, Edge, Freezes, Frozen, Project, Projects, Schedule, Sighting, Start,
    Unusable, Want, Watch, World,
};
use eeveon_source::{RepoUrl, SourceError, forge};
use jiff::Timestamp;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError,
    compose::Site,
    config::{self, ProjectConfig},
    deploying::{self, Ending, Wish},
    lease::{self, Wait},
    notifying,
    render::Line,
    settling, situation, troubles, view, windows,
};

/// How often it is seen whether a project is free that another process works on.
const LOOK: Duration = Duration::from_millis(500);

/// Everything around the daemon.
#[derive(Debug)]
pub(crate) struct Watching {
    app: App,
    /// The only projects that are watched; all of them without.
    only: Option<ProjectName>,
    courier: Courier,
    known: Mutex<BTreeMap<ProjectName, Known>>,
    freezes: Mutex<Freezes>,
    was_told: AtomicBool,
}

/// What tells one state of a file from another.
type Stamp = (SystemTime, u64);

/// The stamp of a file that is not there.
const NO_FILE: Stamp = (SystemTime::UNIX_EPOCH, 0);

/// A project's file as it was read last.
#[derive(Clone, Debug)]
struct Known {
    stamp: Stamp,
    /// The file with its holidays.
    holidays: Option<(PathBuf, Stamp)>,
    automatic: bool,
    project: Result<Project, Unusable>,
    site: Option<Site>,
    /// The file was not there when it was looked for last.
    is_missing: bool,
}

impl Known {
    fn is_as_before(&self, stamp: Stamp, automatic: bool) -> bool {
        let holidays = self.holidays.as_ref().is_none_or(|(path, stamp)| stamp_of(path) == *stamp);
        self.stamp == stamp && self.automatic == automatic && holidays
    }
}

fn stamp_of(file: &Path) -> Stamp {
    let found = std::fs::metadata(file).and_then(|it| Ok((it.modified()?, it.len())));
    found.unwrap_or(NO_FILE)
}

impl Watching {
    /// Puts a daemon into the world of `app`. With `only`, it watches that project alone.
    pub(crate) fn new(app: App, only: Option<ProjectName>) -> Self {
        let courier = notifying::courier(&app);
        Self {
            app,
            only,
            courier,
            known: Mutex::default(),
            freezes: Mutex::default(),
            was_told: AtomicBool::new(false),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<ProjectName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the project with its parts, put together once for each state of its file.
    async fn site(&self, name: &ProjectName) -> Result<Site, CliError> {
        if let Some(site) = self.known().get(name).and_then(|it| it.site.clone()) {
            return Ok(site);
        }
        let site = Site::open(&self.app, name).await?;
        if let Some(known) = self.known().get_mut(name) {
            known.site = Some(site.clone());
        }
        Ok(site)
    }

    async fn read(&self, name: &ProjectName, automatic: bool) -> Known {
        let file = self.app.home.project_file(name);
        // Looked at first: what changes while it is read is read again.
        let stamp = stamp_of(&file);
        let mut holidays = None;
        let project = match config::load(&file, name) {
            Ok(config) => {
                let path = PathBuf::from(&config.window.holidays);
                if !config.window.holidays.is_empty() {
                    holidays = Some((path.clone(), stamp_of(&path)));
                }
                self.project(name, &config, automatic).await
            }
            Err(error) => Err(format!("its file: {}", in_one_line(&CliError::from(error).failure()))),
        };
        let project = project.map_err(Unusable::Broken);
        Known { stamp, holidays, automatic, project, site: None, is_missing: false }
    }

    async fn project(
        &self,
        name: &ProjectName,
        config: &ProjectConfig,
        automatic: bool,
    ) -> Result<Project, String> {
        // Deploying at a time nobody allowed is worse than not deploying.
        let windows = windows::of_config(config);
        troubles::after_reading(&self.app, &self.courier, name, windows.as_ref().err()).await;
        let windows = windows.map_err(|error| format!("its windows: {error}"))?;
        // Of the others `up` does what is asked for, and no more.
        let is_watched = self.only.as_ref().is_none_or(|only| only == name);
        let schedules = config.schedule.iter().filter(|_| is_watched);
        let schedules = schedules.filter_map(|it| Some((Schedule::try_from(it).ok()?, it.missed)));
        let after = config.after.iter().filter(|_| is_watched).map(|it| Edge {
            project: name.clone(),
            after: it.project.clone(),
            follow: it.on,
        });
        Ok(Project {
            name: name.clone(),
            branch: config.source.branch.clone(),
            watch: (config.source.poll && is_watched)
                .then(|| Watch { interval: config.source.interval.0, host: host_of(config) }),
            automatic,
            schedules: schedules.collect(),
            windows,
            expected: windows::expected(&self.app, name).await,
            after: after.collect(),
        })
    }

    /// Does what was asked for. Returns as well whether a delivery told of a commit that the repository did
    /// not show yet when another one was deployed.
    async fn deploy(
        &self,
        start: &Start,
        stop: &CancellationToken,
        opened: Arc<watch::Sender<Option<DeploymentId>>>,
    ) -> Result<(Ending, bool), CliError> {
        let name = &start.ask.project;
        let mut app =
            App { interrupted: stop.clone(), concerned: Arc::default(), opened, ..self.app.clone() };
        // The steps of several projects, mixed, tell nobody anything.
        app.ui.quiet |= self.only.is_none();
        // The file may have changed since it was looked at.
        let site = Site::open(&app, name).await?;
        if start.deaths > 0 {
            let held = lease::hold(&app, name, site.seen(), Wait::No).await?;
            let settled = settling::settle_held(&app, &site, &held).await;
            held.give_back().await;
            settled?;
        }
        let mut wish = Wish {
            rev: None,
            reason: start.ask.reason.as_ref().map(|it| it.as_raw().to_owned()),
            allow_older: false,
            again: false,
            irreversible: false,
            outside_window: start.ask.outside_window,
            wait: Wait::No,
            actor: start.ask.actor.clone(),
            trigger: start.ask.trigger,
        };
        match &start.ask.want {
            Want::Newest { branch, .. } if *branch == site.config.source.branch => {}
            // The settings may have changed while it waited: nothing but what they name now is deployed.
            Want::Newest { branch, .. } if start.ask.is_automatic() && !names(&site.config, branch) => {}
            Want::Newest { branch, .. } => wish.rev = Some(branch.clone()),
            Want::Commit { commit, allow_older, again, irreversible } => {
                wish.rev = Some(commit.to_string());
                (wish.allow_older, wish.again, wish.irreversible) = (*allow_older, *again, *irreversible);
            }
            Want::Rollback { to } => {
                let held = lease::hold(&app, name, site.seen(), Wait::No).await?;
                let asked = to.map(|it| it.to_string());
                let (actor, reason) = (wish.actor, wish.reason);
                let ending = async {
                    settling::settle_held(&app, &site, &held).await?;
                    deploying::refuse_if_waiting(&app, &site).await?;
                    let situation = situation::survey(&app, &site).await?;
                    let number = situation::choose(&situation, asked.as_deref())?;
                    let to = crate::view::known(&situation.known, number).ok_or_else(|| {
                        CliError::usage(format!("release {number} is unknown"), "choose another")
                    })?;
                    deploying::roll_back(&app, &site, &held, &situation, to, actor, reason).await
                }
                .await;
                held.give_back().await;
                return ending.map(|ending| (ending, false));
            }
        }
        let ending = match deploying::deploy(&app, &site, &wish).await {
            Err(CliError::Source(SourceError::RevisionMissing { given, .. }))
                if start.ask.trigger == Trigger::Webhook =>
            {
                return Err(CliError::NotShown { what: format!("`{given}`") });
            }
            ending => ending?,
        };
        let found = match &ending {
            Ending::Unchanged(live) => &live.release.revision.commit,
            Ending::Closed(deployment) => &deployment.release.revision.commit,
            Ending::Parked(_) | Ending::NotOpened(_) => return Ok((ending, false)),
        };
        let unseen = match told_of(start, &site) {
            Some(commit) if is_unseen(&app, &site, found, commit).await? => commit,
            _ => return Ok((ending, false)),
        };
        match ending {
            Ending::Unchanged(_) => Err(CliError::NotShown { what: format!("commit {}", unseen.short()) }),
            ending => Ok((ending, true)),
        }
    }
}

/// Returns the commit that a delivery names as the newest of the branch that is deployed.
fn told_of<'a>(start: &'a Start, site: &Site) -> Option<&'a CommitId> {
    match (&start.ask.want, start.ask.trigger) {
        (Want::Newest { branch, commit, .. }, Trigger::Webhook) if *branch == site.config.source.branch => {
            commit.as_ref()
        }
        _ => None,
    }
}

/// Tells whether nothing is known here of a commit that was told of, though `found` is the newest: what was
/// asked does not know yet what the forge tells.
async fn is_unseen(app: &App, site: &Site, found: &CommitId, commit: &CommitId) -> Result<bool, CliError> {
    if found == commit || !matches!(site.mirror.parents(commit), Ok(None)) {
        return Ok(false);
    }
    let releases = app.store.releases(&site.name).await?;
    Ok(releases.iter().all(|it| it.release.revision.commit != *commit))
}

/// Tells whether a project's settings let a delivery deploy a tag of that name.
fn names(config: &ProjectConfig, tag: &str) -> bool {
    config.webhook.releases || forge::is_tag_of(&config.webhook.tags, tag)
}

/// Returns the host that answers for a repository, so that a slow one delays nobody else. On this
/// machine each repository is its own: which of them share a disk is not known.
fn host_of(config: &ProjectConfig) -> String {
    let repo = &config.source.repo;
    RepoUrl::parse(repo).ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_else(|| repo.clone())
}

#[async_trait]
impl World for Watching {
    async fn changed(&self) -> Option<Projects> {
        // Which there are is not known then, least of all that there are none.
        let names = self.app.home.project_names().inspect_err(|error| tracing::error!(%error)).ok()?;
        let freezes = Freezes::load(&*self.app.store).await.unwrap_or_else(|error| everything(&error));
        let before = std::mem::replace(
            &mut *self.freezes.lock().unwrap_or_else(PoisonError::into_inner),
            freezes.clone(),
        );
        let is_first = !self.was_told.swap(true, Ordering::Relaxed);
        let mut is_new = is_first || before != freezes;
        for name in &names {
            let stamp = stamp_of(&self.app.home.project_file(name));
            // When the store cannot tell, nothing is deployed that was perhaps switched off.
            let automatic = self.app.store.automatic(name).await.is_ok_and(|off| off.is_none());
            if self.known().get(name).is_some_and(|it| it.is_as_before(stamp, automatic)) {
                continue;
            }
            is_new = true;
            let known = self.read(name, automatic).await;
            self.known().insert(name.clone(), known);
        }
        let mut known = self.known();
        let missing = known.len() != names.len();
        if missing {
            known.retain(|name, it| names.contains(name) || !std::mem::replace(&mut it.is_missing, true));
            for (_, it) in known.iter_mut().filter(|(name, _)| !names.contains(name)) {
                // Some editors take a file away before they put the new one in its place.
                it.stamp = NO_FILE;
                it.project = Err(Unusable::Missing);
            }
        }
        if !is_new && !missing {
            return None;
        }
        let projects = known.iter().map(|(name, it)| {
            let mut project = it.project.clone();
            if let Ok(project) = &mut project {
                project.windows.set_freeze(freezes.of(name).map(Frozen::freeze));
            }
            (name.clone(), project)
        });
        Some(projects.collect())
    }

    async fn look(&self, project: &ProjectName, known: Option<&CommitId>) -> Result<Sighting, String> {
        let site = self.site(project).await.map_err(|error| in_one_line(&error.failure()))?;
        let want = site.want(None);
        let permit = deploying::looking(&self.app);
        let found = async {
            let commit = site.source()?.resolve(&want, &permit).await?;
            if known == Some(&commit) {
                return Ok(Sighting { commit, live: false });
            }
            let live = situation::survey(&self.app, &site).await?.already_live(&site, &commit).is_some();
            Ok(Sighting { commit, live })
        };
        let found: Result<_, CliError> = found.await;
        troubles::after_look(&self.app, &self.courier, project, found.as_ref().err()).await;
        found.map_err(|error| in_one_line(&error.failure()))
    }

    async fn carry_out(
        &self,
        start: &Start,
        stop: &CancellationToken,
        opened: oneshot::Sender<DeploymentId>,
    ) -> Done {
        let (open, mut opens) = watch::channel(None);
        let ending = {
            let working = self.deploy(start, stop, Arc::new(open));
            tokio::pin!(working);
            tokio::select! {
                biased;
                Ok(deployment) = async { opens.wait_for(Option::is_some).await.map(|it| *it) } => {
                    if let Some(deployment) = deployment {
                        let _nobody_follows = opened.send(deployment);
                    }
                    working.await
                }
                ending = &mut working => ending,
            }
        };
        let (done, words) = match ending {
            Ok((ending, goes_on)) => {
                let (mut done, words) = summed_up(ending);
                done.goes_on = goes_on;
                // What was looked at, also if what serves is left as it is.
                if let (Want::Newest { commit: Some(commit), .. }, None) = (&start.ask.want, done.deployment)
                {
                    done.commit = Some(commit.clone());
                }
                (done, words)
            }
            Err(error) => {
                let in_use = matches!(error, CliError::Busy { .. });
                let (done, words) = not_opened(error.failure(), may_pass(&error));
                (Done { in_use, ..done }, words)
            }
        };
        self.say(Some(&start.ask.project), &words);
        if !stop.is_cancelled() {
            troubles::after_request(&self.app, &self.courier, start, &done).await;
        }
        done
    }

    async fn free(&self, project: &ProjectName) {
        // When the store cannot tell, whoever waits finds out.
        while view::is_worked_on(&self.app, project).await.unwrap_or(false) {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn settle(&self) {
        if let Err(error) = settling::settle(&self.app).await {
            self.say(None, &format!("what earlier processes left could not be settled: {error}"));
        }
    }

    async fn tell(&self, stop: &CancellationToken) {
        let courier = &self.courier;
        let told = async {
            if courier.has_work().await? {
                courier.post().await?;
                return courier.deliver(stop).await.map(Some);
            }
            Ok(None)
        };
        match told.await {
            Ok(Some(round)) => {
                for (project, channel, why) in round.dead {
                    self.say(Some(&project), &format!("a message to {channel} was given up: {why}"));
                }
            }
            Ok(None) => {}
            Err(error) => self.say(None, &format!("notifications could not be delivered: {error}")),
        }
    }

    fn say(&self, project: Option<&ProjectName>, words: &str) {
        let line = match project {
            Some(project) => Line::default().strong(project.as_str()).plain(": ").plain(words),
            None => Line::new(words),
        };
        self.app.ui.note(line);
    }
}

/// Returns what is told of how carrying out a request ended, to programs and in words.
fn summed_up(ending: Ending) -> (Done, String) {
    let deployment = match ending {
        Ending::Unchanged(live) => {
            let words = format!("nothing changed: release {} is live", live.number());
            let commit = Some(live.release.revision.commit);
            return (Done { commit, ..nothing() }, words);
        }
        Ending::NotOpened(failure) => return not_opened(*failure, false),
        Ending::Closed(deployment) | Ending::Parked(deployment) => deployment,
    };
    let outcome = deployment.outcome.as_ref();
    let failure = outcome.and_then(Outcome::failure);
    let why = failure.map(|it| format!(": {it}")).unwrap_or_default();
    let (id, release) = (deployment.id, deployment.release.number);
    let words = format!(
        "deployment {id} of release {release} {}{why}",
        outcome.map_or("waits for a person", Outcome::as_str)
    );
    let done = Done {
        deployment: Some(id),
        went_live: outcome == Some(&Outcome::Succeeded),
        again: failure.is_some_and(|it| it.class == Class::Unreachable),
        commit: Some(deployment.release.revision.commit.clone()),
        failure: None,
        in_use: false,
        goes_on: false,
    };
    (done, words)
}

/// What came of carrying out a request of which nothing came.
fn nothing() -> Done {
    Done {
        deployment: None,
        commit: None,
        went_live: false,
        again: false,
        failure: None,
        in_use: false,
        goes_on: false,
    }
}

/// Tells whether what kept a request from coming to a deployment may be over by itself later: somebody
/// works on the project, a window is shut, a file cannot be read for a moment, the disk is full.
fn may_pass(error: &CliError) -> bool {
    let is_passing = matches!(error.class(), Class::Unreachable | Class::Fault);
    is_passing || matches!(error, CliError::Config(_)) || error.retry() == Retry::Later
}

fn not_opened(failure: Failure, again: bool) -> (Done, String) {
    let words = format!("{} [{}]", in_one_line(&failure), failure.code);
    (Done { again, failure: Some(failure), ..nothing() }, words)
}

fn in_one_line(failure: &Failure) -> String {
    let causes = failure.causes.iter().map(String::as_str);
    std::iter::once(failure.message.as_str()).chain(causes).collect::<Vec<_>>().join(": ")
}

/// When nobody can tell what is frozen, everything is.
fn everything(error: &DaemonError) -> Freezes {
    let reason = Untrusted::from(format!("the freezes cannot be read: {error}"));
    let all = Frozen { reason, until: None, by: Actor::Engine, at: Timestamp::UNIX_EPOCH };
    let mut freezes = Freezes::default();
    freezes.all = Some(all);
    freezes
}
