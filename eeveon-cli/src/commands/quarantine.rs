//! `quarantine`: commits no trigger may deploy.

use clap::Args;
use eeveon_core::{CommitId, DeploymentId, Untrusted};
use eeveon_store::Quarantined;
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    commands::queue,
    compose::Site,
    render::{Line, Table, age},
};

/// Put a commit aside, or lift that.
///
/// Without COMMIT, lists the commits put aside. No trigger deploys such a commit until a later one
/// that contains it is deployed, or a person lifts it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy quarantine shop 1a2b3c4d --lift")]
pub struct Quarantine {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// The beginning of a commit id
    commit: Option<String>,
    /// Let the commit be deployed again
    #[arg(long, requires = "commit")]
    lift: bool,
    /// Why, for those who meet it
    #[arg(long, requires = "commit", conflicts_with = "lift")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Row {
    revision: CommitId,
    reason: Untrusted,
    deployment: Option<DeploymentId>,
    by: Untrusted,
    at: Timestamp,
}

impl Quarantine {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let project = app.project(&self.name)?;
        let put_aside = app.store.quarantined(&project).await?;
        if let Some(text) = &self.commit {
            if self.lift {
                let among = put_aside.iter().map(|it| &it.commit);
                let commit = pick(text, among)?;
                app.store.lift(&project, &commit).await?;
                queue::lift_commit(app, &project, &commit).await?;
                app.ui.note(Line::new(format!("{} may be deployed again", commit.short())));
            } else {
                let site = Site::open(app, &project).await?;
                let releases = app.store.releases(&project).await?;
                let known = releases.iter().map(|it| &it.release.revision.commit);
                let commit = match pick(text, known) {
                    Ok(commit) => commit,
                    Err(error) => {
                        let want = eeveon_source::Want::Revision(text.clone());
                        let found = site.source()?.resolve(&want, &crate::deploying::looking(app)).await;
                        found.map_err(|_| error)?
                    }
                };
                let what = Quarantined {
                    commit: commit.clone(),
                    reason: Untrusted::from(self.reason.unwrap_or_else(|| "put aside by hand".to_owned())),
                    deployment: None,
                    by: app.actor(),
                    at: Timestamp::now(),
                };
                app.store.quarantine(&project, &what).await?;
                app.ui.note(Line::new(format!("{} is put aside", commit.short())));
            }
            return Ok(Exit::Done);
        }
        if app.ui.json {
            let rows: Vec<Row> = put_aside
                .into_iter()
                .map(|it| Row {
                    revision: it.commit,
                    reason: it.reason,
                    deployment: it.deployment,
                    by: it.by.label(),
                    at: it.at,
                })
                .collect();
            app.ui.json(&rows)?;
            return Ok(Exit::Done);
        }
        if put_aside.is_empty() {
            app.ui.note(Line::new("no commit is put aside"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table = Table::new(&["COMMIT", "SINCE", "BY", "WHY"]);
        for it in put_aside {
            table.row(vec![
                Line::new(it.commit.short()),
                Line::new(age(it.at, now)),
                Line::new(it.by.label().for_terminal()),
                Line::new(it.reason.for_terminal()),
            ]);
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}

/// Finds the one commit that begins with `text`.
fn pick<'a>(text: &str, among: impl Iterator<Item = &'a CommitId>) -> Result<CommitId, CliError> {
    let mut found: Vec<&CommitId> =
        among.filter(|commit| text.len() >= 4 && commit.as_str().starts_with(text)).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CliError::usage(
            format!("no such commit: {text}"),
            "give at least 4 digits of a known commit's id",
        )),
        _ => Err(CliError::usage(format!("several commits begin with {text}"), "give more digits")),
    }
}
