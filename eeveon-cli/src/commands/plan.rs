//! `plan`: what a deploy would do. Changes nothing.

use std::time::Duration;

use clap::Args;
use eeveon_core::{
    CommitId, Kind, Outcome, Permit, ProjectName, Release, ReleaseNumber, Revision, Untrusted,
};
use eeveon_host::Changes;
use eeveon_rollback::GateState;
use eeveon_store::DeploymentFilter;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    compose::Site,
    deploying, gates,
    lease::{self, Wait},
    render::{Line, count, does_something, duration, label, size},
    settings::{Drift, Settings},
    situation::{self, Situation},
};

/// Show what a deploy would do, and change nothing.
///
/// Fetches the commit into EEveon's own mirror to look at it; the target is only read.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy plan shop --rev v1.4.2")]
pub struct Plan {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// A commit, branch or tag [default: the newest commit of the project's branch]
    #[arg(long)]
    rev: Option<String>,
}

/// Commits and files listed one by one; the rest is counted.
const LISTED: usize = 20;

#[derive(Serialize)]
struct Document {
    project: ProjectName,
    unchanged: bool,
    live: Option<ReleaseNumber>,
    release: ReleaseNumber,
    revision: Revision,
    commits: Commits,
    files: Files,
    gates: Vec<GateState>,
    steps: Vec<Step>,
    /// What is different in the configuration since the live release was deployed.
    configuration: Vec<Drift>,
    /// Whether going back past this release would ask a person.
    irreversible: bool,
    needed_bytes: u64,
    free_bytes: u64,
    expected_duration_ms: Option<u64>,
}

#[derive(Serialize)]
struct Commits {
    list: Vec<Revision>,
    /// Whether `list` holds all there are: history may be shallow, and long lists are cut.
    complete: bool,
}

#[derive(Serialize)]
struct Files {
    added: Vec<File>,
    changed: Vec<File>,
    removed: Vec<File>,
}

#[derive(Serialize)]
struct File {
    path: Untrusted,
    size_bytes: u64,
}

#[derive(Serialize)]
struct Step {
    stage: &'static str,
    name: String,
}

impl Plan {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let site = Site::concerned(app, &app.project(&self.name)?).await?;
        let commit =
            site.source()?.resolve(&site.want(self.rev.as_deref()), &deploying::looking(app)).await?;
        // The mirror is fetched into, and only one process at a time may do that.
        let held = lease::hold(app, &site.name, site.seen(), Wait::No).await?;
        let document = document(app, &site, &commit, &held).await;
        held.give_back().await;
        let document = document?;
        match app.ui.json {
            true => app.ui.json(&document)?,
            false => print(app, &site, &document)?,
        }
        Ok(Exit::Done)
    }
}

async fn document(
    app: &App,
    site: &Site,
    commit: &CommitId,
    held: &lease::Held,
) -> Result<Document, CliError> {
    let situation = situation::survey(app, site).await?;
    let revision = deploying::fetch(app, site, commit, &situation, held).await?;
    let permit = Permit::new(held.session.fence(), held.session.cancellation().clone());
    let number = ReleaseNumber(situation.known.first().map_or(0, |it| it.number().0).saturating_add(1));
    let release = Release { project: site.name.clone(), number, revision: revision.clone() };
    let order = situation::order_facts(site, &permit, &revision.commit, &situation, false).await?;
    let irreversible = deploying::is_irreversible(site, &situation, &permit, &release).await?;
    let plan = deploying::plan_deploy(app, site, &situation, &release, order, irreversible).await?;
    let estimate = site.host.estimate(&permit, &release).await?;
    let commits = match situation.live_commit() {
        Some(live) => {
            let between = site.mirror.commits_between(live, &revision.commit, 500)?;
            Commits { list: between.revisions, complete: between.complete }
        }
        None => Commits { list: vec![revision.clone()], complete: true },
    };
    Ok(Document {
        project: site.name.clone(),
        unchanged: situation.already_live(site, &revision.commit).is_some(),
        live: situation.live.as_ref().map(|it| it.release),
        release: number,
        revision,
        commits,
        configuration: drift(app, site, &situation).await?,
        irreversible,
        gates: gates::states(app, site, &situation, &permit, &release, &plan).await?,
        steps: plan
            .steps()
            .filter(|step| does_something(step))
            .map(|step| Step { stage: step.stage.as_str(), name: label(step) })
            .collect(),
        needed_bytes: estimate.bytes_needed,
        free_bytes: estimate.bytes_free,
        files: files(estimate.changes),
        expected_duration_ms: expected(app, site).await?,
    })
}

async fn drift(app: &App, site: &Site, situation: &Situation) -> Result<Vec<Drift>, CliError> {
    let Some(live) = &situation.live_release else { return Ok(Vec::new()) };
    let then = Settings::recorded(app, live).await?;
    Ok(then.map(|then| then.drift(&site.settings)).unwrap_or_default())
}

fn files(changes: Changes) -> Files {
    let list = |files: Vec<(Vec<u8>, u64)>| {
        let file =
            |(path, size_bytes): (Vec<u8>, u64)| File { path: Untrusted::from_bytes(&path), size_bytes };
        files.into_iter().map(file).collect()
    };
    Files { added: list(changes.added), changed: list(changes.changed), removed: list(changes.removed) }
}

/// Returns the median duration of recent deploys that succeeded, in milliseconds.
async fn expected(app: &App, site: &Site) -> Result<Option<u64>, CliError> {
    let filter = DeploymentFilter { project: Some(site.name.clone()), open: false, limit: 20 };
    let mut took: Vec<u64> = app
        .store
        .deployments(&filter)
        .await?
        .into_iter()
        .filter(|it| it.kind == Kind::Deploy && it.outcome == Some(Outcome::Succeeded))
        .filter_map(|it| u64::try_from(it.finished_at?.duration_since(it.started_at).as_millis()).ok())
        .collect();
    took.sort_unstable();
    Ok(took.get(took.len() / 2).copied())
}

fn print(app: &App, site: &Site, plan: &Document) -> Result<(), CliError> {
    let ui = &app.ui;
    let heading = |text: String| ui.out(Line::default()).and_then(|()| ui.out(Line::default().strong(text)));
    let revision = &plan.revision;
    let line = |what: &str, text: String| ui.out(Line::default().dim(format!("{what:<10}")).plain(text));
    line("project", site.name.to_string())?;
    line(
        "live",
        match plan.live {
            Some(live) => format!("release {live}"),
            None => "nothing yet".to_owned(),
        },
    )?;
    let subject = revision.subject.for_terminal();
    let author = revision.author.for_terminal();
    line(
        "would be",
        format!("release {} ({}) {subject}, by {author}", plan.release, revision.commit.short()),
    )?;
    if plan.unchanged {
        line("verdict", "nothing would change: this commit is live, with this configuration".to_owned())?;
    }
    let more = if plan.commits.complete { "" } else { " or more" };
    heading(format!("{}{more}", count(plan.commits.list.len() as u64, "commit")))?;
    for commit in plan.commits.list.iter().take(LISTED) {
        let (subject, author) = (commit.subject.for_terminal(), commit.author.for_terminal());
        ui.out(
            Line::new("  ")
                .plain(commit.commit.short())
                .plain(format!(" {subject}"))
                .dim(format!("  {author}")),
        )?;
    }
    rest(app, plan.commits.list.len())?;
    for (what, files) in
        [("added", &plan.files.added), ("changed", &plan.files.changed), ("removed", &plan.files.removed)]
    {
        if files.is_empty() {
            continue;
        }
        let total = files.iter().map(|file| file.size_bytes).sum();
        heading(format!("{} {what}, {}", count(files.len() as u64, "file"), size(total)))?;
        for file in files.iter().take(LISTED) {
            ui.out(
                Line::new("  ").plain(file.path.for_terminal()).dim(format!("  {}", size(file.size_bytes))),
            )?;
        }
        rest(app, files.len())?;
    }
    if !plan.configuration.is_empty() {
        heading("configuration changed since".to_owned())?;
        for drift in &plan.configuration {
            ui.out(drift.line())?;
        }
    }
    if plan.irreversible {
        heading("irreversible".to_owned())?;
        ui.out(Line::new(
            "  it changes a path of rollback.irreversible: a failure after the switch asks a person",
        ))?;
    }
    heading("gates".to_owned())?;
    for gate in &plan.gates {
        ui.out(gates::line(gate))?;
    }
    heading("steps".to_owned())?;
    for step in &plan.steps {
        ui.out(Line::default().dim(format!("  {:<8}", step.stage)).plain(&step.name))?;
    }
    ui.out(Line::default())?;
    line("disk", format!("{} needed, {} free", size(plan.needed_bytes), size(plan.free_bytes)))?;
    line(
        "time",
        match plan.expected_duration_ms {
            Some(millis) => {
                format!("about {}, as recent deploys took", duration(Duration::from_millis(millis)))
            }
            None => "not known before the first deploy".to_owned(),
        },
    )
}

fn rest(app: &App, all: usize) -> Result<(), CliError> {
    match all.saturating_sub(LISTED) {
        0 => Ok(()),
        more => app.ui.out(Line::default().dim(format!("  and {more} more"))),
    }
}
