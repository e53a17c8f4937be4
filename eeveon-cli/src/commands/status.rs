//! `status`: what is live where, what runs, what waits and for what.

use clap::Args;
use eeveon_core::{CommitId, DeploymentId, ProjectName, ReleaseNumber, Seq, StepError, StepKey, Untrusted};
use eeveon_daemon::{Freezes, State};
use eeveon_store::{Deployment, LetterState};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    commands::{notify, queue},
    compose::Site,
    render::{Line, Table, age, count},
    view, windows,
};

/// Show what is live, what runs and what waits.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy status --json")]
pub struct Status {
    /// The project [default: all]
    #[arg(value_name = "PROJECT")]
    name: Option<String>,
}

/// The status of one project, as `status --json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ProjectStatus {
    project: ProjectName,
    live: Option<LiveStatus>,
    running: Option<Running>,
    waiting: Option<Waiting>,
    /// Whether deploys start by themselves as long as a daemon works; absent when that is not known.
    automatic: Option<bool>,
    /// Why nothing is deployed now, if somebody froze it.
    frozen: Option<Untrusted>,
    /// What keeps it from being deployed now, and until when: a shut window, a freeze.
    held: Option<String>,
    /// Requests that wait, run, or were set aside.
    requests: Vec<queue::Row>,
    /// What keeps its requests waiting because it runs alone, or why its own does.
    alone: Option<String>,
    /// Messages that have not arrived.
    messages: Messages,
    /// Why what is live is told as it was recorded, and could not be looked at.
    error: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

impl ProjectStatus {
    /// Returns what a command about this project alone ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

#[derive(Debug, Serialize)]
struct LiveStatus {
    release: ReleaseNumber,
    revision: Option<CommitId>,
    since: Option<Timestamp>,
}

#[derive(Debug, Serialize)]
struct Running {
    deployment: DeploymentId,
    release: ReleaseNumber,
    step: Option<StepKey>,
    since: Timestamp,
    /// Whether no process works on it any more, and it could not be settled yet.
    interrupted: bool,
}

#[derive(Debug, Serialize)]
struct Waiting {
    deployment: DeploymentId,
    step: StepKey,
    reason: Option<String>,
}

/// How many messages have not arrived.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Messages {
    /// Tried again.
    waiting: usize,
    /// Given up.
    dead: usize,
}

async fn messages(app: &App, name: &ProjectName) -> Result<Messages, CliError> {
    let letters = notify::letters_of(app, name, None, None).await?;
    let dead = letters.iter().filter(|it| it.state == LetterState::Dead).count();
    Ok(Messages { waiting: letters.len().saturating_sub(dead), dead })
}

/// Finds out how one project stands. Where its file or its target cannot be read, that is said, and what
/// serves is as it was recorded.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn status_of(app: &App, name: &ProjectName) -> Result<ProjectStatus, CliError> {
    let (held, live) = match Site::open(app, name).await {
        Ok(site) => (held(app, &site).await, live(app, &site).await),
        // What is wrong with the file is told as such.
        Err(error) => (None, Err(error)),
    };
    let (live, error, exit) = match live {
        Ok(live) => (live, None, Exit::Done),
        Err(error) => (recorded(app, name).await?, Some(error.to_string()), error.exit()),
    };
    let open = view::open_deployments(app, name).await?;
    let requests = queue::rows(app, Some(name)).await?;
    let alone = alone(app, &requests).await;
    let mut status = ProjectStatus {
        project: name.clone(),
        live,
        running: None,
        waiting: None,
        automatic: Some(app.store.automatic(name).await?.is_none()),
        frozen: frozen(app, name).await?,
        held,
        requests,
        alone,
        messages: messages(app, name).await?,
        error,
        exit,
    };
    for deployment in open {
        match &deployment.parked {
            Some((step, failure)) => {
                let reason = failure.as_ref().map(|it| it.message.clone());
                status.waiting = Some(Waiting { deployment: deployment.id, step: step.clone(), reason });
            }
            None => status.running = Some(running(app, &deployment).await?),
        }
    }
    Ok(status)
}

/// Returns what keeps some of these requests waiting because it runs alone, or why one of them does.
async fn alone(app: &App, requests: &[queue::Row]) -> Option<String> {
    if requests.is_empty() {
        return None;
    }
    let alone = queue::Alone::of(app).await?;
    let concerns = |it: &queue::Row| it.request == alone.request || alone.keeps(it);
    requests.iter().any(concerns).then(|| alone.words())
}

/// Returns what serves.
async fn live(app: &App, site: &Site) -> Result<Option<LiveStatus>, CliError> {
    let Some(live) = site.live().await? else { return Ok(None) };
    let releases = app.store.releases(&site.name).await?;
    Ok(Some(LiveStatus {
        release: live.release,
        revision: view::known(&releases, live.release).map(|it| it.release.revision.commit.clone()),
        since: since(app, &site.name, live.release).await?,
    }))
}

/// Returns what serves if nobody changed anything by hand.
async fn recorded(app: &App, name: &ProjectName) -> Result<Option<LiveStatus>, CliError> {
    Ok(view::recorded_live(app, name).await?.map(|it| LiveStatus {
        release: it.release.number,
        revision: Some(it.release.revision.commit),
        since: it.finished_at,
    }))
}

async fn frozen(app: &App, name: &ProjectName) -> Result<Option<Untrusted>, CliError> {
    let freezes = Freezes::load(&*app.store).await.map_err(StepError::from)?;
    let now = Timestamp::now();
    let frozen = freezes.of(name).filter(|it| it.until.is_none_or(|until| until > now));
    Ok(frozen.map(|it| it.reason.clone()))
}

/// Returns what keeps the project from being deployed now, and until when: a window, a freeze, or that
/// they cannot be read.
async fn held(app: &App, site: &Site) -> Option<String> {
    match windows::of(app, site).await {
        Ok(found) => match found.may_start(Timestamp::now(), windows::expected(app, &site.name).await) {
            State::Shut(shut) => Some(shut.to_string()),
            State::Open => None,
        },
        Err(error) => Some(error.to_string()),
    }
}

async fn running(app: &App, deployment: &Deployment) -> Result<Running, CliError> {
    let entries = app.store.read(deployment.id, Seq::default()).await.unwrap_or_default();
    let step = entries.iter().rev().find_map(|entry| match &entry.record {
        eeveon_core::Record::Started { step, .. } | eeveon_core::Record::UndoStarted { step, .. } => {
            Some(step.clone())
        }
        _ => None,
    });
    let (id, release) = (deployment.id, deployment.release.number);
    let interrupted = !view::is_worked_on(app, &deployment.release.project).await?;
    Ok(Running { deployment: id, release, step, since: deployment.started_at, interrupted })
}

/// Tells since when a release serves: since the newest deployment of it that succeeded.
async fn since(app: &App, name: &ProjectName, release: ReleaseNumber) -> Result<Option<Timestamp>, CliError> {
    let made = |it: &Deployment| it.release.number == release;
    Ok(view::newest_success(app, name, made).await?.and_then(|it| it.finished_at))
}

impl Status {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let mut all = Vec::new();
        match &self.name {
            Some(name) => all.push(status_of(app, &app.project(name)?).await?),
            None => {
                for project in app.home.project_names()? {
                    all.push(status_of(app, &project).await?);
                }
            }
        }
        // Of one project it is the answer; of many it does not hide the others.
        let exit = match (&self.name, all.first()) {
            (Some(_), Some(one)) => one.exit(),
            _ => Exit::Done,
        };
        if app.ui.json {
            match (&self.name, all.first()) {
                (Some(_), Some(one)) => app.ui.json(one)?,
                _ => app.ui.json(&all)?,
            }
            return Ok(exit);
        }
        if all.is_empty() {
            app.ui.note(Line::new("no projects yet; add one with `ee-deploy up REPO`"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["PROJECT", "LIVE", "SINCE", "STATE"]);
        for status in all {
            table.row(row(status, now));
        }
        table.print(&app.ui)?;
        Ok(exit)
    }
}

fn row(status: ProjectStatus, now: Timestamp) -> Vec<Line> {
    let live = match &status.live {
        Some(LiveStatus { release, revision: Some(commit), .. }) => {
            format!("release {release} ({})", commit.short())
        }
        Some(LiveStatus { release, revision: None, .. }) => format!("release {release}"),
        None => "nothing".to_owned(),
    };
    let since =
        status.live.as_ref().and_then(|live| live.since).map(|since| age(since, now)).unwrap_or_default();
    let state = match (status.waiting, status.running) {
        (Some(waiting), _) => {
            let reason = waiting.reason.map(|it| format!(": {it}")).unwrap_or_default();
            Line::default()
                .warn(format!("deployment {} waits at `{}`{reason}", waiting.deployment, waiting.step))
        }
        (None, Some(running)) => {
            let step = running.step.map(|it| format!(" at `{it}`")).unwrap_or_default();
            let what = format!("deployment {} of release {}", running.deployment, running.release);
            match running.interrupted {
                true => Line::default().warn(format!(
                    "{what} was interrupted{step}, and is open: the next command finishes it or takes it back"
                )),
                false => Line::new(format!("{what} runs{step}")),
            }
        }
        (None, None) => Line::default().good("idle"),
    };
    let state = match status.error {
        Some(error) => state.bad(format!("; what serves is as recorded: {error}")),
        None => state,
    };
    let waits = status.requests.iter().filter(|it| it.state == "waiting").count();
    let aside = status.requests.iter().filter(|it| it.state == "set_aside").count();
    let interrupted = status.requests.iter().find(|it| it.state == "interrupted");
    let state = match interrupted {
        Some(row) => state.warn(format!(
            "; request {} is unfinished, as its daemon died: the next `ee-deploy serve` goes on with it",
            row.request
        )),
        None => state,
    };
    let state = match waits {
        0 => state,
        _ => state.plain(format!("; {} in line", count(waits as u64, "request"))),
    };
    let state = match &status.alone {
        Some(alone) => state.warn(format!("; {alone}")),
        None => state,
    };
    let state = match aside {
        0 => state,
        _ => state.bad(format!("; {} set aside", count(aside as u64, "request"))),
    };
    let state = match &status.held {
        Some(held) => state.warn(format!("; {held}")),
        None => state,
    };
    let state =
        if status.automatic == Some(false) { state.warn("; automatic deploys are off") } else { state };
    let Messages { dead, waiting } = status.messages;
    let state = match dead {
        0 => state,
        _ => state.warn(format!("; {} did not arrive", count(dead as u64, "message"))),
    };
    let state = match waiting {
        0 => state,
        _ => state.dim(format!("; {} on the way", count(waiting as u64, "message"))),
    };
    vec![Line::default().strong(status.project.as_str()), Line::new(live), Line::new(since), state]
}
