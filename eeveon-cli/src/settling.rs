//! What every command does first: finish or take back what a process left that died.

use eeveon_core::{
    Actor, CommitId, DeploymentId, EngineError, Feed, Kind, Outcome, Permit, ProjectName, Record, Seq, State,
    Untrusted,
};
use eeveon_daemon::deaths::{MOST_DEATHS, Past, is_deadly};
use eeveon_store::{Deployment, DeploymentFilter, Quarantined};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError,
    compose::Site,
    lease::{self, Held},
    render::Line,
    view,
};

/// Goes through all projects and settles those a dead process was working on. What cannot be
/// settled is told and does not keep the command from its work, nor the other projects.
///
/// # Errors
///
/// The home or the store cannot be read.
pub(crate) async fn settle(app: &App) -> Result<(), CliError> {
    for project in app.home.project_names()? {
        let Some(held) = lease::inherit(app, &project).await? else { continue };
        let settled = settle_project(app, &project, &held).await;
        held.give_back().await;
        if let Err(error) = settled {
            app.ui.warn(format!("what an earlier process left of `{project}` could not be settled: {error}"));
        }
    }
    app.home.sweep()
}

async fn settle_project(app: &App, project: &ProjectName, held: &Held) -> Result<(), CliError> {
    let site = Site::open(app, project).await?;
    settle_held(app, &site, held).await
}

/// Settles one project under its lease: open deployments that wait for nobody, and leftovers on
/// disk.
///
/// # Errors
///
/// Something could not be settled; the next command tries again.
pub(crate) async fn settle_held(app: &App, site: &Site, held: &Held) -> Result<(), CliError> {
    for deployment in view::open_deployments(app, &site.name).await? {
        if deployment.parked.is_some() {
            continue;
        }
        held.works_on(deployment.id);
        put_aside_if_deadly(app, site, &deployment).await?;
        let engine = site.as_opened(app, deployment.id).await?.engine(app, held, &Feed::default());
        let text = match engine.recover(deployment.id, &held.session).await {
            Ok(outcome) => match outcome.as_str() {
                "succeeded" => "was finished".to_owned(),
                _ => "was taken back".to_owned(),
            },
            Err(EngineError::Parked(step)) => format!("waits for a person at step `{step}`"),
            Err(error @ (EngineError::Foreign { .. } | EngineError::Corrupt { .. })) => {
                // Not ours to guess at, and not in the way of others.
                app.ui.warn(error.to_string());
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let line = format!("deployment {} of {} was interrupted; it {text}", deployment.id, site.name);
        app.ui.note(Line::default().warn("  mend  ").plain(line));
    }
    sweep(site, held).await
}

/// Puts the commit of an interrupted deployment aside when the processes that deployed it died too often.
/// Done before the death is recorded, so that another one in between loses nothing.
async fn put_aside_if_deadly(app: &App, site: &Site, dead: &Deployment) -> Result<(), CliError> {
    let commit = &dead.release.revision.commit;
    // What serves has proven itself; then something else is to blame.
    let is_suspect = dead.kind == Kind::Deploy && dead.previous.as_ref() != Some(commit);
    if !site.config.rollback.quarantine || !is_suspect || !is_taken_back(app, dead.id).await? {
        return Ok(());
    }
    if !is_deadly(pasts(app, &site.name, commit, dead.id).await?) {
        return Ok(());
    }
    let reason = format!("whoever deployed it died {MOST_DEATHS} times");
    let what = Quarantined {
        commit: commit.clone(),
        reason: Untrusted::from(reason.as_str()),
        deployment: Some(dead.id),
        by: Actor::Engine,
        at: Timestamp::now(),
    };
    app.store.quarantine(&site.name, &what).await?;
    let line = format!("commit {} of {} is put aside: {reason}", commit.short(), site.name);
    app.ui.note(Line::default().warn("  mend  ").plain(line));
    Ok(())
}

/// Tells whether an interrupted deployment is taken back because its process died, and for no other reason.
async fn is_taken_back(app: &App, id: DeploymentId) -> Result<bool, CliError> {
    let mut state = State::default();
    for entry in app.store.read(id, Seq::default()).await? {
        if is_death(&entry.record) {
            return Ok(true);
        }
        // What cannot be understood is told by whoever takes it up.
        if state.apply(&entry.record).is_err() {
            return Ok(false);
        }
    }
    Ok(!state.unwinding && !state.is_past_pivot() && state.undecided().is_none())
}

/// Tells whether a record says that the process died which carried the deployment out.
fn is_death(record: &Record) -> bool {
    matches!(record, Record::Cancelled { by: Actor::Engine, .. })
}

/// Returns how the deployments of a commit before one ended, the newest first.
async fn pasts(
    app: &App,
    project: &ProjectName,
    commit: &CommitId,
    before: DeploymentId,
) -> Result<Vec<Past>, CliError> {
    /// More than anyone asks for while the same commit kills again and again.
    const LOOK_BACK: u64 = 200;
    let filter = DeploymentFilter { project: Some(project.clone()), open: false, limit: LOOK_BACK };
    let mut pasts = Vec::new();
    for it in app.store.deployments(&filter).await? {
        if it.id >= before || it.kind == Kind::Rollback || it.release.revision.commit != *commit {
            continue;
        }
        pasts.push(match &it.outcome {
            Some(Outcome::Reverted { failure: None, .. }) => {
                let entries = app.store.read(it.id, Seq::default()).await?;
                match entries.iter().any(|entry| is_death(&entry.record)) {
                    true => Past::Died,
                    false => Past::Stopped,
                }
            }
            _ => Past::Ended,
        });
    }
    Ok(pasts)
}

/// Removes leftovers of dead processes from the mirror and the target.
async fn sweep(site: &Site, held: &Held) -> Result<(), CliError> {
    let permit = Permit::new(held.session.fence(), CancellationToken::new());
    site.mirror.sweep()?;
    site.host.sweep(&permit).await?;
    Ok(())
}
