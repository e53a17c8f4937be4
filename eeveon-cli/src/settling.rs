//! What every command does first: finish or take back what a process left that died.

use eeveon_core::{EngineError, Feed, Permit, ProjectName};
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

/// Removes leftovers of dead processes from the mirror and the target.
async fn sweep(site: &Site, held: &Held) -> Result<(), CliError> {
    let permit = Permit::new(held.session.fence(), CancellationToken::new());
    site.mirror.sweep()?;
    site.host.sweep(&permit).await?;
    Ok(())
}
