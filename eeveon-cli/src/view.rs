//! What several commands show: a deployment as JSON, what is live, who runs what.

use eeveon_core::{
    CommitId, DeploymentId, Failure, Kind, Outcome, ProjectName, ReleaseNumber, StepKey, Untrusted,
};
use eeveon_store::{Checked, Deployment, DeploymentFilter, KnownRelease, Liveness};
use jiff::Timestamp;
use serde::Serialize;

use crate::{App, CliError, compose::Site, lease, render::Serving};

/// A deployment as `history --json` shows it.
#[derive(Debug, Serialize)]
pub(crate) struct DeploymentRow {
    id: DeploymentId,
    project: ProjectName,
    release: ReleaseNumber,
    revision: CommitId,
    subject: Untrusted,
    author: Untrusted,
    actor: Untrusted,
    trigger: &'static str,
    reason: Option<String>,
    /// `succeeded`, `failed`, `rolled_back`, `cancelled`, `refused`; absent while it is open.
    outcome: Option<&'static str>,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    duration_ms: Option<i64>,
    failure: Option<Failure>,
    /// `deploy` or `rollback`.
    kind: Kind,
    /// The step that waits for a person.
    waiting: Option<StepKey>,
    /// The health checks that came to an end: `{step, passed, looks}`.
    checks: Vec<Checked>,
    /// The steps that were taken back.
    undone: Vec<StepKey>,
}

impl From<Deployment> for DeploymentRow {
    fn from(it: Deployment) -> Self {
        let duration = |end: Timestamp| end.as_millisecond().saturating_sub(it.started_at.as_millisecond());
        let waiting = it.parked.as_ref().map(|(step, _)| step.clone());
        let parked = it.parked.and_then(|(_, failure)| failure);
        Self {
            id: it.id,
            duration_ms: it.finished_at.map(duration),
            outcome: it.outcome.as_ref().map(Outcome::as_str),
            failure: it.outcome.as_ref().and_then(Outcome::failure).cloned().or(parked),
            actor: it.actor.label(),
            trigger: it.trigger.as_str(),
            reason: it.reason,
            project: it.release.project,
            release: it.release.number,
            revision: it.release.revision.commit,
            subject: it.release.revision.subject,
            author: it.release.revision.author,
            started_at: it.started_at,
            finished_at: it.finished_at,
            kind: it.kind,
            waiting,
            checks: it.checks,
            undone: it.undone,
        }
    }
}

/// Finds one deployment.
///
/// # Errors
///
/// There is none of that id.
pub(crate) async fn deployment(app: &App, id: DeploymentId) -> Result<Deployment, CliError> {
    app.store.deployment(id).await?.ok_or_else(|| CliError::UnknownDeployment(id.to_string()))
}

/// Lists a project's deployments that are not closed.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn open_deployments(app: &App, project: &ProjectName) -> Result<Vec<Deployment>, CliError> {
    let filter = DeploymentFilter { project: Some(project.clone()), open: true, limit: 0 };
    Ok(app.store.deployments(&filter).await?)
}

/// Returns the newest deployment of a project that succeeded and is `wanted`.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn newest_success(
    app: &App,
    project: &ProjectName,
    wanted: impl Fn(&Deployment) -> bool,
) -> Result<Option<Deployment>, CliError> {
    /// More than anyone deploys while one release stays live.
    const LOOK_BACK: u64 = 200;
    let filter = DeploymentFilter { project: Some(project.clone()), open: false, limit: LOOK_BACK };
    let newest_first = app.store.deployments(&filter).await?.into_iter();
    Ok(newest_first.filter(|it| it.outcome == Some(Outcome::Succeeded)).find(|it| wanted(it)))
}

/// Returns the deployment whose release serves, by what was recorded alone: for when nobody can look.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn recorded_live(app: &App, project: &ProjectName) -> Result<Option<Deployment>, CliError> {
    newest_success(app, project, |_| true).await
}

/// Tells whether a living process works on the project.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn is_worked_on(app: &App, project: &ProjectName) -> Result<bool, CliError> {
    let holder = app.store.holder(&lease::name_of(project)).await?;
    Ok(holder.is_some_and(|it| it.remaining_ms > 0 && it.owner.liveness(&app.me) != Liveness::Dead))
}

/// Finds a release among those known.
pub(crate) fn known(releases: &[KnownRelease], number: ReleaseNumber) -> Option<&KnownRelease> {
    releases.iter().find(|it| it.number() == number)
}

/// Tells what serves, for the end of a failure. Never fails itself.
pub(crate) async fn serving(app: &App, site: &Site) -> Serving {
    let Ok(live) = site.live().await else { return Serving::Unknown };
    let Some(live) = live else { return Serving::Nothing };
    let releases = app.store.releases(&site.name).await.unwrap_or_default();
    Serving::Release {
        release: live.release,
        revision: known(&releases, live.release).map(|it| it.release.revision.commit.clone()),
        path: site.host.current_path().display().to_string(),
    }
}
