//! `queue`: requests that wait, run, or were set aside.

use clap::{Args, Subcommand};
use eeveon_core::{Actor, CommitId, Durability, ProjectName, StepError, Trigger, Untrusted};
use eeveon_daemon::{
    Ask, Cancel, Cancelled, DaemonError, Event, Limits, RequestId, Saved, Want, control::Client,
};
use serde::Serialize;

use crate::{
    App, CliError, Exit, lease,
    render::{Line, Table, count},
};

/// Show the requests for deployments that wait, run, or were set aside.
///
/// The daemon works them off, one of a project at a time. Without a daemon they wait for the next one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy queue lift shop")]
pub struct Queue {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Remove a request that waits, or stop the one that runs
    Cancel {
        /// Its number
        #[arg(value_name = "REQUEST")]
        request: u64,
    },
    /// Forget all requests and what was seen, also what cannot be read any more
    Clear {
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Let what was set aside after three crashes be asked for again
    Lift {
        /// The project
        #[arg(value_name = "PROJECT")]
        name: String,
    },
}

/// A request, as `queue --json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) request: RequestId,
    project: ProjectName,
    /// `running`, `interrupted`, `waiting` or `set_aside`.
    pub(crate) state: &'static str,
    pub(crate) want: Want,
    actor: Actor,
    pub(crate) trigger: Trigger,
    reason: Option<Untrusted>,
    /// How often whoever carried it out died.
    deaths: u8,
}

impl Row {
    fn new(state: &'static str, request: RequestId, ask: &Ask, deaths: u8) -> Self {
        let Ask { project, want, actor, trigger, reason, .. } = ask.clone();
        Self { request, project, state, want, actor, trigger, reason, deaths }
    }

    /// Returns the request in a few words.
    pub(crate) fn words(&self) -> String {
        format!(
            "request {} by {} for {}",
            self.request,
            self.actor.label().for_terminal(),
            wanted(&self.want)
        )
    }
}

/// Returns all requests, what runs first; of one project or of all.
///
/// # Errors
///
/// What the daemon saved cannot be read.
pub(crate) async fn rows(app: &App, project: Option<&ProjectName>) -> Result<Vec<Row>, CliError> {
    let saved = Saved::load(&*app.store, Limits::default()).await.map_err(StepError::from)?;
    let queue = &saved.queue;
    // What ran when a daemon was killed runs no more, and the next one goes on with it.
    let is_at_work = Client::connect(app.home.root()).await.is_some();
    let runs = if is_at_work { "running" } else { "interrupted" };
    let running = queue.running().map(|it| Row::new(runs, it.request, &it.ask, it.deaths));
    let waiting = queue.waiting().map(|it| Row::new("waiting", it.request, &it.ask, it.deaths));
    let aside = queue.aside().map(|it| Row::new("set_aside", it.request, &it.ask, it.deaths));
    let all = running.chain(waiting).chain(aside);
    Ok(all.filter(|it| project.is_none_or(|project| *project == it.project)).collect())
}

/// The request that runs alone because its process died twice, or is next and waits until it would be alone.
#[derive(Debug)]
pub(crate) struct Alone {
    pub(crate) project: ProjectName,
    pub(crate) request: RequestId,
    /// Whether it runs.
    pub(crate) runs: bool,
}

impl Alone {
    /// Returns that request, if a daemon works that has one.
    pub(crate) async fn of(app: &App) -> Option<Self> {
        let overview = Client::connect(app.home.root()).await?.overview().await.ok()?;
        let (project, request) = overview.alone?;
        let runs = overview.running.iter().any(|(_, running)| *running == request);
        Some(Self { project, request, runs })
    }

    /// Tells whether a request waits for it. Going back does not.
    pub(crate) fn keeps(&self, row: &Row) -> bool {
        row.state == "waiting" && row.request != self.request && !row.want.is_rollback()
    }

    /// Says what it is, why, and what follows.
    pub(crate) fn words(&self) -> String {
        let what = if self.runs { "runs alone" } else { "waits until nothing else runs, to run alone" };
        let Self { project, request, .. } = self;
        format!("request {request} of {project} {what}, as its process died twice: all other projects wait")
    }
}

impl Queue {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match self.what {
            None => list(app).await,
            Some(What::Cancel { request }) => cancel(app, RequestId(request)).await,
            Some(What::Clear { yes }) => clear(app, yes).await,
            Some(What::Lift { name }) => lift(app, app.project(&name)?).await,
        }
    }
}

async fn list(app: &App) -> Result<Exit, CliError> {
    let rows = rows(app, None).await?;
    if app.ui.json {
        app.ui.json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        app.ui.note(Line::new("nothing waits"));
        return Ok(Exit::Done);
    }
    let alone = Alone::of(app).await;
    let mut table = Table::new(&["REQUEST", "PROJECT", "WHAT", "BY", "STATE"]);
    for it in rows {
        let is_alone = alone.as_ref().is_some_and(|alone| alone.request == it.request);
        let keeper = alone.as_ref().filter(|alone| alone.keeps(&it));
        table.row(vec![
            Line::new(it.request.to_string()),
            Line::new(it.project.as_str()),
            Line::new(wanted(&it.want)),
            Line::new(it.actor.label().for_terminal()),
            match it.state {
                "running" if is_alone => Line::default().warn("runs alone, as its process died twice"),
                "running" => Line::default().good("runs"),
                "interrupted" => Line::default().warn("interrupted; the next daemon goes on"),
                "waiting" if is_alone => {
                    Line::default().warn("waits until nothing else runs, as its process died twice")
                }
                "waiting" => match keeper {
                    Some(Alone { request, runs: true, .. }) => {
                        Line::new(format!("waits for request {request}, which runs alone"))
                    }
                    Some(Alone { request, .. }) => {
                        Line::new(format!("waits for request {request}, which is to run alone"))
                    }
                    None => Line::new("waits"),
                },
                _ => Line::default().bad(format!("set aside after {}", count(u64::from(it.deaths), "death"))),
            },
        ]);
    }
    table.print(&app.ui)?;
    Ok(Exit::Done)
}

fn wanted(want: &Want) -> String {
    match want {
        Want::Newest { branch, .. } => {
            format!("newest of {}", Untrusted::from(branch.as_str()).for_terminal())
        }
        Want::Commit { commit, .. } => commit.short().to_owned(),
        Want::Rollback { to: Some(to) } => format!("back to release {to}"),
        Want::Rollback { to: None } => "back to the release before".to_owned(),
    }
}

async fn cancel(app: &App, request: RequestId) -> Result<Exit, CliError> {
    let known = match Client::connect(app.home.root()).await {
        Some(client) => {
            let cancelled = client.cancel(for_all(app, request)).await.map_err(StepError::from)?;
            cancelled != Cancelled::Unknown
        }
        None => {
            let known =
                rows(app, None).await?.iter().any(|it| it.request == request && it.state != "set_aside");
            change(app, |saved| drop(saved.queue.handle(Event::Cancel(request)))).await?;
            known
        }
    };
    if !known {
        let message = format!("no request {request} waits or runs");
        return Err(CliError::usage(message, "`ee-deploy queue` lists them"));
    }
    if app.ui.json {
        app.ui.json(&serde_json::json!({ "request": request, "cancelled": true }))?;
        return Ok(Exit::Done);
    }
    app.ui.note(Line::new(format!("request {request} is cancelled; what it began is taken back")));
    Ok(Exit::Done)
}

fn for_all(app: &App, request: RequestId) -> Cancel {
    Cancel { request, by: app.actor(), why: None, unless_shared: false }
}

async fn lift(app: &App, project: ProjectName) -> Result<Exit, CliError> {
    let lifted = lift_all(app, &project).await?;
    if app.ui.json {
        app.ui.json(&serde_json::json!({ "project": project, "lifted": lifted }))?;
        return Ok(Exit::Done);
    }
    app.ui.note(Line::new(match lifted {
        0 => format!("no request of {project} was set aside"),
        _ => format!("{} of {project} may be asked for again", count(lifted as u64, "request")),
    }));
    Ok(Exit::Done)
}

/// Lets what was set aside of a project be asked for again. Returns how many requests there were.
async fn lift_all(app: &App, project: &ProjectName) -> Result<usize, CliError> {
    if let Some(client) = Client::connect(app.home.root()).await {
        return Ok(client.lift(project.clone()).await.map_err(StepError::from)?);
    }
    let rows = rows(app, Some(project)).await?;
    change(app, |saved| drop(saved.queue.handle(Event::Lift(project.clone())))).await?;
    Ok(rows.iter().filter(|it| it.state == "set_aside").count())
}

/// Lets a commit be asked for again of which requests were set aside.
///
/// # Errors
///
/// What the daemon saved cannot be read or changed.
pub(crate) async fn lift_commit(app: &App, project: &ProjectName, commit: &CommitId) -> Result<(), CliError> {
    let rows = rows(app, Some(project)).await?;
    if rows.iter().any(|it| it.state == "set_aside" && it.want.commit() == Some(commit)) {
        lift_all(app, project).await?;
    }
    Ok(())
}

/// Drops what waits for a project that was removed, so that it does not wait for another one of its name.
///
/// # Errors
///
/// What the daemon saved cannot be read or changed.
pub(crate) async fn forget(app: &App, project: &ProjectName) -> Result<(), CliError> {
    if let Some(client) = Client::connect(app.home.root()).await {
        for it in rows(app, Some(project)).await? {
            // One that was set aside it does not know, and lifts below.
            if let Some(client) = Client::connect(app.home.root()).await {
                client.cancel(for_all(app, it.request)).await.map_err(StepError::from)?;
            }
        }
        client.lift(project.clone()).await.map_err(StepError::from)?;
        return Ok(());
    }
    let mut saved = Saved::load(&*app.store, Limits::default()).await.map_err(StepError::from)?;
    let before = saved.states().map_err(StepError::from)?;
    saved.forget(project);
    if saved.states().map_err(StepError::from)? == before {
        return Ok(());
    }
    change(app, |saved| saved.forget(project)).await
}

async fn clear(app: &App, yes: bool) -> Result<Exit, CliError> {
    if !yes {
        app.ui
            .err(Line::default().dim("  goes  ").plain("every request; each repository is looked at again"));
        app.ui.confirm("clear the queue?", &app.interrupted).await?;
    }
    let held = lease::of_daemon(app).await?;
    let cleared = Saved::clear(&*app.store).await;
    held.give_back().await;
    cleared.map_err(StepError::from)?;
    if app.ui.json {
        app.ui.json(&serde_json::json!({ "cleared": true }))?;
        return Ok(Exit::Done);
    }
    app.ui.note(Line::new("nothing waits any more"));
    Ok(Exit::Done)
}

/// Changes what the last daemon left, as the only one who may.
async fn change(app: &App, change: impl FnOnce(&mut Saved)) -> Result<(), CliError> {
    let held = lease::of_daemon(app).await?;
    let changed = async {
        let mut saved = Saved::load(&*app.store, Limits::default()).await?;
        change(&mut saved);
        Ok::<_, DaemonError>(app.store.save_states(&saved.states()?, Durability::Power).await?)
    }
    .await;
    held.give_back().await;
    Ok(changed.map_err(StepError::from)?)
}
