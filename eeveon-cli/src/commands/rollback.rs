//! `rollback`: back to an earlier release.

use std::io::IsTerminal as _;

use clap::Args;
use eeveon_core::{Feed, Outcome, ReleaseNumber, Seq, State, Trigger, Untrusted};
use eeveon_rollback::{self as rollback, RollbackError};
use eeveon_store::Deployment;

use crate::{
    App, CliError, Exit,
    commands::queue,
    compose::Site,
    deploying, following,
    lease::{self, Wait},
    render::{self, Line, count},
    reporting,
    settings::Settings,
    settling,
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
    /// Go back even past a release that changed something going back does not change back
    #[arg(long)]
    across_irreversible: bool,
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
        if let Some(waiting) = self.waiting(app, &site).await? {
            return self.answer(app, &site, waiting).await;
        }
        // Chosen once to ask, and again under the lease: the world may have changed in between.
        let situation = situation::survey(app, &site).await?;
        let number = situation::choose(&situation, self.to.as_deref())?;
        let crossed = rollback::crossed(
            &situation::candidates(&situation),
            situation.live.as_ref().map(|it| it.release),
            number,
        );
        // Without a person to ask, the flag is the answer.
        if self.yes && !crossed.is_empty() && !self.across_irreversible {
            return Err(RollbackError::Irreversible { releases: crossed }.into());
        }
        if !self.yes {
            self.ask(app, &site, &situation, number, &crossed).await?;
        }
        if let Some(ending) = following::roll_back(app, &site, number, self.reason.as_deref()).await? {
            let exit = reporting::report(app, &site, ending).await?;
            if exit == Exit::Done {
                tell_what_follows(app, &site).await?;
            }
            return Ok(exit);
        }
        let held = lease::hold(app, &site.name, site.seen(), Wait::DEFAULT).await?;
        let ending = async {
            settling::settle_held(app, &site, &held).await?;
            deploying::refuse_if_waiting(app, &site).await?;
            let situation = situation::survey(app, &site).await?;
            let again = situation::choose(&situation, self.to.as_deref())?;
            if again != number {
                let message =
                    format!("meanwhile release {again} would be the one to go back to, not {number}");
                return Err(CliError::usage(message, "look at `ee-deploy releases` and try again"));
            }
            let to = view::known(&situation.known, number).ok_or_else(|| {
                CliError::usage(format!("release {number} is not in the store"), "choose another")
            })?;
            deploying::roll_back(app, &site, &held, &situation, to, app.actor(), self.reason.clone()).await
        }
        .await;
        held.give_back().await;
        reporting::report(app, &site, ending?).await
    }

    /// Returns the deployment that waits for a person to say whether its release stays, when it is
    /// that release which is to be left.
    async fn waiting(&self, app: &App, site: &Site) -> Result<Option<Deployment>, CliError> {
        let open = view::open_deployments(app, &site.name).await?;
        let Some(waiting) = open.into_iter().find(|it| it.parked.is_some()) else { return Ok(None) };
        let journal = app.store.read(waiting.id, Seq::default()).await?;
        // What this version does not understand is not for it to decide.
        let Ok(state) = State::of(journal.iter().map(|entry| &entry.record)) else { return Ok(None) };
        let is_question = !state.unwinding && state.can_turn_back() && state.has_switched();
        Ok((is_question && self.to.is_none()).then_some(waiting))
    }

    /// Takes back a deployment that waits for a person: what served before it serves again.
    async fn answer(&self, app: &App, site: &Site, waiting: Deployment) -> Result<Exit, CliError> {
        let known = app.store.releases(&site.name).await?;
        let release = view::known(&known, waiting.release.number).filter(|it| it.irreversible);
        if let Some(release) = release {
            let error = RollbackError::Irreversible { releases: vec![release.number()] };
            match (self.yes, self.across_irreversible) {
                (true, false) => return Err(error.into()),
                (true, true) => {}
                (false, _) => app.ui.err(Line::default().warn("  note    ").plain(error.to_string())),
            }
        }
        if !self.yes {
            let release = &waiting.release;
            let text = format!(
                "deployment {} of release {} ({}) waits for a person; it will be taken back",
                waiting.id,
                release.number,
                release.revision.commit.short()
            );
            app.ui.err(Line::default().plain(text));
            // What served before it, if anything did.
            let situation = situation::survey(app, site).await?;
            let before = situation.served.last().and_then(|(_, release)| view::known(&known, *release));
            self.show_changes(app, site, &situation, before).await?;
            app.ui.confirm(&format!("roll {} back?", site.name), &app.interrupted).await?;
        }
        let held = lease::hold(app, &site.name, site.seen(), Wait::DEFAULT).await?;
        held.works_on(waiting.id);
        let feed = Feed::default();
        let follower = render::watch(app.ui, &feed);
        let engine = site.as_opened(app, waiting.id).await?.engine(app, &held, &feed);
        let result = engine.cancel(waiting.id, app.actor(), self.reason.clone(), &held.session).await;
        follower.finish().await;
        held.give_back().await;
        // Going back is what was asked for, whatever made somebody ask for it.
        let went_back = matches!(result, Ok(Outcome::Reverted { .. }));
        let ending = deploying::ended(app, waiting.id, result.map(|_| ())).await?;
        if !went_back {
            return reporting::report(app, site, ending).await;
        }
        let deployment = view::deployment(app, waiting.id).await?;
        if app.ui.json {
            app.ui.json(&view::DeploymentRow::from(deployment))?;
        } else {
            let now = view::serving(app, site).await.sentence().unwrap_or_default();
            app.ui.out(Line::new(format!("deployment {} was taken back; {now}", waiting.id)))?;
        }
        Ok(Exit::Done)
    }

    async fn ask(
        &self,
        app: &App,
        site: &Site,
        situation: &Situation,
        number: ReleaseNumber,
        crossed: &[ReleaseNumber],
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
            app.ui.err(Line::default().dim(format!("  {what:<8}")).plain(text));
        };
        line("from", situation.live_release.as_ref());
        let to = view::known(&situation.known, number);
        line("to", to);
        self.show_changes(app, site, situation, to).await?;
        if !crossed.is_empty() {
            let error = RollbackError::Irreversible { releases: crossed.to_vec() };
            app.ui.err(Line::default().warn("  note  ").plain(error.to_string()));
        }
        if site.config.rollback.quarantine {
            app.ui.err(
                Line::default()
                    .dim("  also    ")
                    .plain("the commit that is left is put aside until a later one is deployed"),
            );
        }
        app.ui.confirm(&format!("roll {} back?", site.name), &app.interrupted).await
    }
}

/// Says what the daemon deploys next by itself: it waited before somebody went back.
async fn tell_what_follows(app: &App, site: &Site) -> Result<(), CliError> {
    let rows = queue::rows(app, Some(&site.name)).await?;
    for it in rows.iter().filter(|it| it.trigger != Trigger::Manual && it.state != "set_aside") {
        let (words, request, name) = (it.words(), it.request, &site.name);
        let text = format!(
            "{words} is next: `ee-deploy queue cancel {request}` drops it, `ee-deploy stop {name}` holds it back"
        );
        app.ui.note(Line::default().warn("  note  ").plain(text));
    }
    Ok(())
}

impl Rollback {
    /// Shows commits, files and configuration that would be different.
    async fn show_changes(
        &self,
        app: &App,
        site: &Site,
        situation: &Situation,
        to: Option<&eeveon_store::KnownRelease>,
    ) -> Result<(), CliError> {
        /// Commits and files listed one by one; the rest is counted.
        const LISTED: usize = 10;
        let (Some(live), Some(to)) = (&situation.live_release, to) else { return Ok(()) };
        let say =
            |what: &str, text: String| app.ui.err(Line::default().dim(format!("  {what:<8}")).plain(text));
        // Only the history that is here: nothing is fetched to ask a question.
        let commits =
            site.mirror.commits_between(&to.release.revision.commit, &live.release.revision.commit, 100);
        if let Ok(commits) = commits {
            for commit in commits.revisions.iter().take(LISTED) {
                say("leave", format!("{} {}", commit.commit.short(), commit.subject.for_terminal()));
            }
            if commits.revisions.len() > LISTED || !commits.complete {
                say(
                    "",
                    format!("and more, {} known in all", count(commits.revisions.len() as u64, "commit")),
                );
            }
        }
        if let Ok(changes) = site.host.changes(live.number(), to.number()).await {
            let lists = [("add", &changes.added), ("change", &changes.changed), ("remove", &changes.removed)];
            for (what, files) in lists {
                // What EEveon itself writes into a release always changes.
                let files: Vec<_> = files.iter().filter(|(path, _)| path != b"REVISION").collect();
                for (path, _) in files.iter().take(LISTED) {
                    say(what, Untrusted::from_bytes(path).for_terminal());
                }
                if files.len() > LISTED {
                    say("", format!("and {} more", files.len() - LISTED));
                }
            }
        }
        if let Some(then) = Settings::recorded(app, to).await? {
            for drift in site.settings.drift(&then) {
                say("config", drift.key);
            }
        }
        Ok(())
    }
}
