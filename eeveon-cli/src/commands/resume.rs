//! `resume`: go on with a deployment that waits for a person.

use clap::Args;
use eeveon_core::Feed;

use crate::{
    App, CliError, Exit,
    app::deployment_id,
    compose::Site,
    deploying,
    lease::{self, Wait},
    render, reporting, view,
};

/// Go on with a deployment that waits for a person.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy resume 42 --reason 'disk was full, is free again'")]
pub struct Resume {
    /// The deployment's id
    deployment: String,
    /// What was done about it, for the history
    #[arg(long)]
    reason: Option<String>,
    /// Leave out the step it waits at: a health check you overrule, or something that was to be taken
    /// back and that you saw to by hand
    #[arg(long)]
    skip: bool,
}

impl Resume {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let id = deployment_id(&self.deployment)?;
        let deployment = view::deployment(app, id).await?;
        if let Some(outcome) = &deployment.outcome {
            let text = format!("deployment {id} has ended already: {}", outcome.as_str());
            return Err(CliError::usage(text, "`ee-deploy deploy` starts a new one"));
        }
        let site = Site::concerned(app, &deployment.release.project).await?;
        let held = lease::hold(app, &site.name, site.seen(), Wait::No).await?;
        held.works_on(id);
        let feed = Feed::default();
        let follower = render::watch(app.ui, &feed);
        let engine = site.as_opened(app, id).await?.engine(app, &held, &feed);
        let result = match self.skip {
            true => engine.skip(id, app.actor(), self.reason, &held.session).await,
            false => engine.unpark(id, app.actor(), self.reason, &held.session).await,
        };
        follower.finish().await;
        held.give_back().await;
        let ending = deploying::ended(app, id, result.map(|_| ())).await?;
        reporting::report(app, &site, ending).await
    }
}
