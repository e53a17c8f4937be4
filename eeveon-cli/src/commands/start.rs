//! `start` and `stop`: automatic deploys, on and off.

use clap::Args;
use eeveon_core::ProjectName;
use eeveon_store::AutomaticOff;
use jiff::Timestamp;

use crate::{App, CliError, Exit, following, render::Line};

/// Let a project deploy by itself again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy start shop")]
pub struct Start {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
}

/// Keep a project from deploying by itself.
///
/// What runs goes on to its end, what waits waits on. Commands deploy all the same.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy stop shop --reason 'until the sale is over'")]
pub struct Stop {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// Why, for whoever wonders
    #[arg(long)]
    reason: Option<String>,
}

impl Start {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        app.store.set_automatic(&name, None).await?;
        following::wake_daemon(app).await;
        told(app, &name, true, &format!("{name} deploys by itself as long as a daemon runs"))
    }
}

impl Stop {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        let off = AutomaticOff { by: app.actor(), reason: self.reason, at: Timestamp::now() };
        app.store.set_automatic(&name, Some(off)).await?;
        following::wake_daemon(app).await;
        let words = format!("{name} deploys only when somebody says so; `ee-deploy start {name}`");
        told(app, &name, false, &words)
    }
}

fn told(app: &App, name: &ProjectName, automatic: bool, words: &str) -> Result<Exit, CliError> {
    match app.ui.json {
        true => app.ui.json(&serde_json::json!({ "project": name, "automatic": automatic }))?,
        false => app.ui.note(Line::new(words)),
    }
    Ok(Exit::Done)
}
