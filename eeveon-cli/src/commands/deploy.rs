//! `deploy`: the newest commit, or a given one, goes live.

use clap::Args;
use eeveon_core::Trigger;

use crate::{
    App, CliError, Exit,
    compose::Site,
    deploying::{Ending, Wish},
    following,
    lease::Wait,
    reporting,
};

/// Deploy the newest commit, or a given one.
///
/// Returns only with the final verdict; the exit code tells which it was.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy deploy shop --rev v1.4.2 --reason 'hotfix'")]
pub struct Deploy {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// A commit, branch or tag [default: the newest commit of the project's branch]
    #[arg(long)]
    rev: Option<String>,
    /// Wait, up to 15 minutes, while the project is in use (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Give up at once when the project is in use
    #[arg(long)]
    no_wait: bool,
    /// Why, for the history
    #[arg(long)]
    reason: Option<String>,
    /// Deploy even a commit that is older than the live one
    #[arg(long)]
    allow_older: bool,
    /// Make a new release even if nothing is new, for instance after a change by hand
    #[arg(long)]
    again: bool,
    /// The release changes something that going back does not change back, such as a database's
    /// schema: if it fails after the switch a person decides, and going back past it asks
    #[arg(long)]
    irreversible: bool,
    /// Deploy although windows are shut or somebody froze deployments
    #[arg(long)]
    outside_window: bool,
    /// End with exit code 14 when nothing is new
    #[arg(long)]
    fail_if_unchanged: bool,
}

impl Deploy {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let site = Site::concerned(app, &app.project(&self.name)?).await?;
        let wish = Wish {
            rev: self.rev,
            reason: self.reason,
            allow_older: self.allow_older,
            again: self.again,
            irreversible: self.irreversible,
            outside_window: self.outside_window,
            wait: if self.no_wait { Wait::No } else { Wait::DEFAULT },
            actor: app.actor(),
            trigger: Trigger::Manual,
        };
        let ending = following::deploy(app, &site, &wish).await?;
        let unchanged = matches!(ending, Ending::Unchanged(_));
        let exit = reporting::report(app, &site, ending).await?;
        Ok(if unchanged && self.fail_if_unchanged { Exit::Unchanged } else { exit })
    }
}
