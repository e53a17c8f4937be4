//! `rollback`: back to an earlier release.

use std::io::IsTerminal as _;

use clap::Args;
use eeveon_rollback::{self as rollback, Candidates, KnownRelease};
use eeveon_store::ReleaseStatus;

use crate::{
    App, CliError, Exit,
    compose::Site,
    deploying,
    lease::{self, Wait},
    render::Line,
    reporting, settling,
    situation::{self, Situation},
    view,
};

/// Go back to an earlier release.
///
/// Without VERSION, to the one that served before the live one. Asks first; what it leaves is put
/// aside, so that no trigger deploys it again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy rollback shop 12 --reason 'checkout broken' --yes")]
pub struct Rollback {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// A release number or the beginning of a commit id
    #[arg(value_name = "VERSION")]
    to: Option<String>,
    /// Why, for the history; needed when nobody can be asked
    #[arg(long)]
    reason: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Rollback {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let site = Site::concerned(app, &app.project(&self.name)?).await?;
        if self.reason.is_none() && !std::io::stdin().is_terminal() {
            let hint = "add --reason TEXT: it tells the next person why this was done";
            return Err(CliError::usage("a rollback that nobody can be asked about needs a reason", hint));
        }
        // Chosen once to ask, and again under the lease: the world may have changed in between.
        let situation = situation::survey(app, &site).await?;
        let number = choose(&situation, self.to.as_deref())?;
        if !self.yes {
            self.ask(app, &site, &situation, number).await?;
        }
        let held = lease::hold(app, &site.name, site.seen(), Wait::DEFAULT).await?;
        let ending = async {
            settling::settle_held(app, &site, &held).await?;
            deploying::refuse_if_waiting(app, &site).await?;
            let situation = situation::survey(app, &site).await?;
            let again = choose(&situation, self.to.as_deref())?;
            if again != number {
                let message =
                    format!("meanwhile release {again} would be the one to go back to, not {number}");
                return Err(CliError::usage(message, "look at `ee-deploy releases` and try again"));
            }
            let to = view::known(&situation.known, number).ok_or_else(|| {
                CliError::usage(format!("release {number} is not in the store"), "choose another")
            })?;
            deploying::roll_back(app, &site, &held, to, self.reason.clone()).await
        }
        .await;
        held.give_back().await;
        reporting::report(app, &site, ending?).await
    }

    async fn ask(
        &self,
        app: &App,
        site: &Site,
        situation: &Situation,
        number: eeveon_core::ReleaseNumber,
    ) -> Result<(), CliError> {
        let line = |what: &str, release: Option<&eeveon_store::KnownRelease>| {
            let text = release.map_or_else(
                || "unknown".to_owned(),
                |it| {
                    let revision = &it.release.revision;
                    format!(
                        "release {} ({}) {}",
                        it.number(),
                        revision.commit.short(),
                        revision.subject.for_terminal()
                    )
                },
            );
            app.ui.err(Line::default().dim(format!("  {what:<6}")).plain(text));
        };
        line("from", situation.live_release.as_ref());
        line("to", view::known(&situation.known, number));
        if site.config.rollback.quarantine {
            app.ui.err(
                Line::default()
                    .dim("  also  ")
                    .plain("the commit that is left is put aside until a later one is deployed"),
            );
        }
        app.ui.confirm(&format!("roll {} back?", site.name), &app.interrupted).await
    }
}

fn choose(situation: &Situation, version: Option<&str>) -> Result<eeveon_core::ReleaseNumber, CliError> {
    let known = situation.known.iter().map(|known| KnownRelease {
        release: known.number(),
        commit: known.release.revision.commit.clone(),
        succeeded: known.status == ReleaseStatus::Succeeded,
    });
    let candidates = Candidates {
        known: &known.collect::<Vec<_>>(),
        present: &situation.present,
        served: &situation.served,
        live: situation.live.as_ref().map(|live| live.release),
    };
    Ok(rollback::choose(version, &candidates)?)
}
