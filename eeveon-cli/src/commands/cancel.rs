//! `cancel`: stop a deployment and take it back.

use clap::Args;
use eeveon_core::Feed;
use jiff::Timestamp;
use tokio::time::Duration;

use crate::{
    App, CliError, Exit,
    app::deployment_id,
    compose::Site,
    deploying,
    lease::{self, Wait},
    render::{self, Line},
    reporting, view,
};

/// Stop a deployment and take it back.
///
/// A running one is asked to stop and followed to its end; one that waits for a person is taken
/// back here.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy cancel 42 --reason 'wrong branch'")]
pub struct Cancel {
    /// The deployment's id
    deployment: String,
    /// Why, for the history
    #[arg(long)]
    reason: Option<String>,
}

impl Cancel {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let id = deployment_id(&self.deployment)?;
        let deployment = view::deployment(app, id).await?;
        if let Some(outcome) = &deployment.outcome {
            let text = format!("deployment {id} has ended already: {}", outcome.as_str());
            return Err(CliError::usage(text, "`ee-deploy rollback` goes back to an earlier release"));
        }
        let site = Site::concerned(app, &deployment.release.project).await?;
        app.store.request_cancel(id, &app.actor(), self.reason.as_deref(), Timestamp::now()).await?;
        let mut told = false;
        while view::is_worked_on(app, &site.name).await? {
            if view::deployment(app, id).await?.outcome.is_some() {
                break;
            }
            if !told {
                app.ui
                    .note(Line::default().dim("  wait  ").plain(format!("deployment {id} is asked to stop")));
                told = true;
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = app.interrupted.cancelled() => return Err(CliError::Interrupted),
            }
        }
        if view::deployment(app, id).await?.outcome.is_none() {
            let held = lease::hold(app, &site.name, site.seen(), Wait::No).await?;
            let feed = Feed::default();
            let follower = render::watch(app.ui, &feed);
            let engine = site.as_opened(app, id).await?.engine(app, &held, &feed);
            let result = engine.cancel(id, app.actor(), self.reason, &held.session).await;
            follower.finish().await;
            held.give_back().await;
            deploying::ended(app, id, result.map(|_| ())).await?;
        }
        let deployment = view::deployment(app, id).await?;
        match &deployment.outcome {
            // Stopped before it could go wrong: that is what was asked for.
            Some(eeveon_core::Outcome::Reverted { failure: None, .. }) => {
                if app.ui.json {
                    app.ui.json(&view::DeploymentRow::from(deployment))?;
                } else {
                    let now = view::serving(app, &site).await.sentence().unwrap_or_default();
                    app.ui.out(Line::new(format!("deployment {id} was cancelled and taken back; {now}")))?;
                }
                Ok(Exit::Done)
            }
            // It was past the point of no return, failed by itself, or parked.
            Some(_) => reporting::report(app, &site, deploying::Ending::Closed(Box::new(deployment))).await,
            None => reporting::report(app, &site, deploying::Ending::Parked(Box::new(deployment))).await,
        }
    }
}
