//! `why`: why a project does not deploy, or why a deployment failed.

use clap::Args;
use eeveon_core::{DeploymentId, Outcome, Permit, ProjectName, Record, Release, ReleaseNumber, Seq, StepKey};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    app::Subject,
    compose::Site,
    deploying, gates,
    lease::{self, Wait},
    render::{Line, age, count},
    reporting, situation,
    view::{self, DeploymentRow},
};

/// Tell why a project does not deploy, or why a deployment failed.
///
/// For a project: every gate before its newest commit and the gate's state; while another process
/// works on it, those that can be told without disturbing it. For a deployment: what
/// failed, why, the last output, and what serves now.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy why 42")]
pub struct Why {
    /// A project, or a deployment's id (#12 is always a deployment)
    #[arg(value_name = "PROJECT|DEPLOYMENT")]
    subject: String,
}

#[derive(Serialize)]
struct Explained {
    deployment: DeploymentRow,
    serving: Option<String>,
    output: Vec<eeveon_core::Untrusted>,
}

impl Why {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        match app.subject(&self.subject)? {
            Subject::Project(name) => why_project(app, &name).await,
            Subject::Deployment(id) => why_deployment(app, id).await,
        }
    }
}

async fn why_project(app: &App, name: &ProjectName) -> Result<Exit, CliError> {
    let site = Site::concerned(app, name).await?;
    let mut states = gates::of_project(app, &site).await?;
    let commit = match site.source()?.resolve(&site.want(None), &deploying::looking(app)).await {
        Ok(commit) => commit,
        Err(error) => {
            states.push(gates::queue_gate(app, &site, None).await?);
            states.push(gates::gate("repository", false, &error.to_string()));
            return show(app, name, &states);
        }
    };
    let held = match lease::hold(app, name, site.seen(), Wait::No).await {
        Ok(held) => held,
        // While another process works on the project the mirror is its.
        Err(CliError::Busy { holder, .. }) => {
            states.retain(|it| it.name != "lease");
            states.insert(0, gates::gate("lease", false, &holder));
            let situation = situation::survey(app, &site).await?;
            states.extend(gates::of_commit(app, &site, &situation, &commit).await?);
            return show(app, name, &states);
        }
        Err(error) => return Err(error),
    };
    let states = async {
        let situation = situation::survey(app, &site).await?;
        let revision = deploying::fetch(app, &site, &commit, &situation, &held).await?;
        let permit = Permit::new(held.session.fence(), held.session.cancellation().clone());
        let order = situation::order_facts(&site, &permit, &revision.commit, &situation, false).await?;
        let number = ReleaseNumber(situation.known.first().map_or(0, |it| it.number().0).saturating_add(1));
        let release = Release { project: name.clone(), number, revision };
        let plan = deploying::plan_deploy(app, &site, &situation, &release, order, false).await?;
        gates::states(app, &site, &situation, &permit, &release, &plan).await
    }
    .await;
    held.give_back().await;
    show(app, name, &states?)
}

fn show(app: &App, name: &ProjectName, states: &[eeveon_rollback::GateState]) -> Result<Exit, CliError> {
    if app.ui.json {
        app.ui.json(&states)?;
        return Ok(Exit::Done);
    }
    for state in states {
        app.ui.out(gates::line(state))?;
    }
    let mut shut = states.iter().filter(|state| !state.open).peekable();
    let verdict = if shut.peek().is_none() {
        format!("{name} would deploy: `ee-deploy deploy {name}`")
    } else if shut.all(gates::is_for_triggers) {
        format!("{name} does not deploy by itself; `ee-deploy deploy {name}` would")
    } else {
        format!("{name} would not deploy")
    };
    app.ui.out(Line::default().strong(verdict))?;
    Ok(Exit::Done)
}

async fn why_deployment(app: &App, id: DeploymentId) -> Result<Exit, CliError> {
    let deployment = view::deployment(app, id).await?;
    let site = Site::concerned(app, &deployment.release.project).await?;
    let output = reporting::last_output(app, &deployment).await;
    if app.ui.json {
        let serving = view::serving(app, &site).await.sentence();
        app.ui.json(&Explained { deployment: deployment.into(), serving, output })?;
        return Ok(Exit::Done);
    }
    let release = &deployment.release;
    let asked = match &deployment.reason {
        Some(reason) => format!(": {reason}"),
        None => String::new(),
    };
    let lines = [
        ("deployment", format!("{id} of {}", release.project)),
        (
            "asked by",
            format!(
                "{}, {}{asked}",
                deployment.actor.label().for_terminal(),
                age(deployment.started_at, Timestamp::now())
            ),
        ),
        (
            "release",
            format!(
                "{} ({}) {}",
                release.number,
                release.revision.commit.short(),
                release.revision.subject.for_terminal()
            ),
        ),
        ("outcome", deployment.outcome.as_ref().map_or("open", Outcome::as_str).to_owned()),
    ];
    for (what, text) in lines {
        app.ui.out(Line::default().dim(format!("{what:<12}")).plain(text))?;
    }
    let failure = deployment.outcome.as_ref().and_then(Outcome::failure);
    let failure = failure.or(deployment.parked.as_ref().and_then(|(_, failure)| failure.as_ref()));
    if let Some(failure) = failure {
        let what = format!("{} [{}]", failure.message, failure.code);
        app.ui.out(Line::default().dim(format!("{:<12}", "failed in")).plain(failure.stage.as_str()))?;
        app.ui.out(Line::default().dim(format!("{:<12}", "what")).plain(what))?;
        for cause in &failure.causes {
            app.ui.out(Line::default().dim(format!("{:<12}", "why")).plain(cause))?;
        }
        for line in &output {
            app.ui.out(Line::default().dim(format!("{:<12}", "output")).plain(line.for_terminal()))?;
        }
    }
    for check in &deployment.checks {
        let looks = count(check.looks, "look");
        let end = if check.passed { "passed" } else { "failed" };
        let text = format!("{} {end} after {looks}", check.step);
        app.ui.out(Line::default().dim(format!("{:<12}", "check")).plain(text))?;
    }
    // Taking back a look changes nothing.
    let looks = ["gate/", "ready/", "pre/", "candidate/", "post/", "watch/"];
    let undone = deployment.undone.iter().map(StepKey::as_str);
    let undone: Vec<&str> = undone.filter(|it| !looks.iter().any(|look| it.starts_with(look))).collect();
    if !undone.is_empty() {
        app.ui.out(Line::default().dim(format!("{:<12}", "taken back")).plain(undone.join(", ")))?;
    }
    for line in cancellations(app, id).await? {
        app.ui.out(Line::default().dim(format!("{:<12}", "cancelled")).plain(line))?;
    }
    if let Some(sentence) = view::serving(app, &site).await.sentence() {
        app.ui.out(Line::default().dim(format!("{:<12}", "now")).plain(sentence))?;
    }
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        app.ui.out(Line::default().dim(format!("{:<12}", "next")).plain(hint))?;
    }
    Ok(Exit::Done)
}

async fn cancellations(app: &App, id: DeploymentId) -> Result<Vec<String>, CliError> {
    let entries = app.store.read(id, Seq::default()).await?;
    Ok(entries
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Cancelled { by, reason } => {
                let reason = reason.as_deref().unwrap_or("no reason given");
                Some(format!("by {}: {reason}", by.label().for_terminal()))
            }
            _ => None,
        })
        .collect())
}
