//! What the daemon is put into: project files, repositories, deployments and people, as this binary
//! knows them.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use eeveon_core::{CommitId, Diagnose as _, Outcome, ProjectName, Retry};
use eeveon_daemon::{
    Calendar, Courier, Done, Edge, Project, Schedule, Sighting, Start, Want, Watch, Windows, World,
};
use eeveon_source::RepoUrl;
use eeveon_store::DeploymentFilter;
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError, Exit,
    compose::Site,
    config::{self, ProjectConfig},
    deploying::{self, Ending, Wish},
    lease::{self, Wait},
    notifying,
    render::Line,
    settling, situation,
};

/// How long a deployment is expected to take when none has been made.
const UNKNOWN_DURATION: Duration = Duration::from_secs(60);

/// How long a deployment waits for a project that a person's command works on.
const PATIENCE: Wait = Wait::For(Duration::from_secs(15 * 60));

/// Everything around the daemon.
#[derive(Debug)]
pub(crate) struct Watching {
    app: App,
    /// The only projects that are watched; all of them without.
    only: Option<ProjectName>,
    courier: Courier,
    known: Mutex<BTreeMap<ProjectName, Known>>,
}

/// A project's file as it was read last.
#[derive(Clone, Debug)]
struct Known {
    stamp: (SystemTime, u64),
    automatic: bool,
    project: Option<Project>,
    site: Option<Site>,
    /// The newest commit seen.
    seen: Option<CommitId>,
}

impl Watching {
    /// Puts a daemon into the world of `app`. With `only`, it watches that project alone.
    pub(crate) fn new(app: App, only: Option<ProjectName>) -> Self {
        let courier = notifying::courier(&app);
        Self { app, only, courier, known: Mutex::default() }
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

    async fn read(&self, name: &ProjectName, automatic: bool) -> Option<Project> {
        let config = match config::load(&self.app.home.project_file(name), name) {
            Ok(config) => config,
            Err(error) => {
                self.say(Some(name), &format!("its file cannot be used, so it is not watched: {error}"));
                return None;
            }
        };
        let windows = match windows(&config) {
            Ok(windows) => windows,
            Err(why) => {
                // Deploying at a time nobody allowed is worse than not deploying.
                self.say(Some(name), &format!("its windows cannot be used, so it is not watched: {why}"));
                return None;
            }
        };
        let schedules =
            config.schedule.iter().filter_map(|it| Some((Schedule::try_from(it).ok()?, it.missed)));
        let after = config.after.iter().map(|it| Edge {
            project: name.clone(),
            after: it.project.clone(),
            follow: it.on,
        });
        Some(Project {
            name: name.clone(),
            branch: config.source.branch.clone(),
            watch: Watch { interval: config.source.interval.0, host: host_of(&config) },
            automatic,
            schedules: schedules.collect(),
            windows,
            expected: self.expected(name).await,
            after: after.collect(),
        })
    }

    /// Returns how long recent deployments took, the middle one of them.
    async fn expected(&self, name: &ProjectName) -> Duration {
        let filter = DeploymentFilter { project: Some(name.clone()), open: false, limit: 20 };
        let recent = self.app.store.deployments(&filter).await.unwrap_or_default();
        let took = recent
            .iter()
            .filter_map(|it| Duration::try_from(it.finished_at?.duration_since(it.started_at)).ok());
        let mut took: Vec<Duration> = took.collect();
        took.sort_unstable();
        took.get(took.len() / 2).copied().unwrap_or(UNKNOWN_DURATION)
    }

    async fn deploy(&self, start: &Start, stop: &CancellationToken) -> Result<Ending, CliError> {
        let name = &start.ask.project;
        // The file may have changed since it was looked at.
        let app = App {
            interrupted: stop.clone(),
            concerned: Arc::default(),
            opened: Arc::default(),
            ..self.app.clone()
        };
        let site = Site::open(&app, name).await?;
        if start.deaths > 0 {
            let held = lease::hold(&app, name, site.seen(), PATIENCE).await?;
            let settled = settling::settle_held(&app, &site, &held).await;
            held.give_back().await;
            settled?;
        }
        let (rev, allow_older) = match &start.ask.want {
            Want::Newest { branch, .. } if *branch == site.config.source.branch => (None, false),
            Want::Newest { branch, .. } => (Some(branch.clone()), false),
            Want::Commit { commit, allow_older } => (Some(commit.to_string()), *allow_older),
            Want::Rollback { to } => {
                let held = lease::hold(&app, name, site.seen(), PATIENCE).await?;
                let asked = to.map(|it| it.to_string());
                let reason = start.ask.reason.as_ref().map(|it| it.as_raw().to_owned());
                let ending = async {
                    settling::settle_held(&app, &site, &held).await?;
                    deploying::refuse_if_waiting(&app, &site).await?;
                    let situation = situation::survey(&app, &site).await?;
                    let number = situation::choose(&situation, asked.as_deref())?;
                    let to = crate::view::known(&situation.known, number).ok_or_else(|| {
                        CliError::usage(format!("release {number} is unknown"), "choose another")
                    })?;
                    deploying::roll_back(&app, &site, &held, to, reason).await
                }
                .await;
                held.give_back().await;
                return ending;
            }
        };
        let wish = Wish {
            rev,
            reason: start.ask.reason.as_ref().map(|it| it.as_raw().to_owned()),
            allow_older,
            again: false,
            irreversible: false,
            wait: PATIENCE,
            actor: start.ask.actor.clone(),
            trigger: start.ask.trigger,
        };
        deploying::deploy(&app, &site, &wish).await
    }
}

fn windows(config: &ProjectConfig) -> Result<Windows, String> {
    /// More holidays than anyone has.
    const LIMIT_BYTES: u64 = 1 << 20;
    let mut windows = Windows::new(&config.window.config()).map_err(|error| error.to_string())?;
    if !config.window.holidays.is_empty() {
        let file = Path::new(&config.window.holidays);
        let unreadable = |error: std::io::Error| format!("{}: {error}", file.display());
        if std::fs::metadata(file).map_err(unreadable)?.len() > LIMIT_BYTES {
            return Err(format!("{} is larger than 1 MiB", file.display()));
        }
        let bytes = std::fs::read(file).map_err(unreadable)?;
        let calendar = Calendar::parse(&bytes, &config.window.tz).map_err(|error| error.to_string())?;
        windows.set_holidays(calendar);
    }
    Ok(windows)
}

/// Returns the host that answers for a repository, so that a slow one delays nobody else.
fn host_of(config: &ProjectConfig) -> String {
    RepoUrl::parse(&config.source.repo).ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default()
}

#[async_trait]
impl World for Watching {
    async fn changed(&self) -> Option<Vec<Project>> {
        let names = self.app.home.project_names().unwrap_or_default();
        let names: Vec<ProjectName> =
            names.into_iter().filter(|name| self.only.as_ref().is_none_or(|only| only == name)).collect();
        let mut is_new = self.known().len() != names.len();
        for name in &names {
            let file = self.app.home.project_file(name);
            let stamp = std::fs::metadata(&file)
                .and_then(|it| Ok((it.modified()?, it.len())))
                .unwrap_or((SystemTime::UNIX_EPOCH, 0));
            // When the store cannot tell, nothing is deployed that was perhaps switched off.
            let automatic = self.app.store.automatic(name).await.is_ok_and(|off| off.is_none());
            let known = self.known().get(name).map(|it| (it.stamp, it.automatic));
            if known == Some((stamp, automatic)) {
                continue;
            }
            is_new = true;
            let project = self.read(name, automatic).await;
            let known = Known { stamp, automatic, project, site: None, seen: None };
            self.known().insert(name.clone(), known);
        }
        if !is_new {
            return None;
        }
        let mut known = self.known();
        known.retain(|name, _| names.contains(name));
        Some(known.values().filter_map(|it| it.project.clone()).collect())
    }

    async fn look(&self, project: &ProjectName) -> Result<Sighting, String> {
        let told = |error: CliError| {
            let failure = error.failure();
            std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ")
        };
        let site = self.site(project).await.map_err(told)?;
        let want = site.want(None);
        let permit = deploying::looking(&self.app);
        let commit = site.source().map_err(told)?.resolve(&want, &permit).await;
        let commit = commit.map_err(|error| told(error.into()))?;
        if self.known().get(project).is_some_and(|it| it.seen.as_ref() == Some(&commit)) {
            // Nothing is new, so what is live need not be found out.
            return Ok(Sighting { commit, live: true });
        }
        let live = situation::survey(&self.app, &site).await.map_err(told)?;
        let live = live.already_live(&site, &commit).is_some();
        Ok(Sighting { commit, live })
    }

    async fn carry_out(&self, start: &Start, stop: &CancellationToken) -> Done {
        let name = &start.ask.project;
        let ending = self.deploy(start, stop).await;
        let done = match &ending {
            Ok(Ending::Unchanged(live)) => Done {
                deployment: None,
                succeeded: None,
                again: false,
                words: format!("nothing changed: release {} is live", live.number()),
                exit: Exit::Done as u8,
            },
            Ok(ending @ (Ending::Closed(deployment) | Ending::Parked(deployment))) => {
                let succeeded = deployment.outcome == Some(Outcome::Succeeded);
                let commit = deployment.release.revision.commit.clone();
                let outcome = deployment.outcome.as_ref().map_or("waits for a person", Outcome::as_str);
                let failure = deployment.outcome.as_ref().and_then(Outcome::failure);
                let why = failure.map(|it| format!(": {it}")).unwrap_or_default();
                let release = deployment.release.number;
                Done {
                    deployment: Some(deployment.id),
                    succeeded: succeeded.then_some(commit),
                    again: failure.is_some_and(|it| it.class == eeveon_core::Class::Unreachable),
                    words: format!("deployment {} of release {release} {outcome}{why}", deployment.id),
                    exit: ending.exit() as u8,
                }
            }
            Err(error) => {
                let failure = error.failure();
                let message =
                    std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ");
                Done {
                    deployment: None,
                    succeeded: None,
                    again: error.retry() == Retry::Later || failure.class == eeveon_core::Class::Unreachable,
                    words: format!("{message} [{}]", failure.code),
                    exit: error.exit() as u8,
                }
            }
        };
        self.say(Some(name), &done.words);
        done
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
