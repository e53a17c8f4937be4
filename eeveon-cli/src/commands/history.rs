//! `history`: deployments, newest first.

use clap::Args;
use eeveon_core::Outcome;
use eeveon_store::{Checked, DeploymentFilter};
use jiff::Timestamp;

use crate::{
    App, CliError, Exit,
    render::{Line, Table, age, duration},
    view::DeploymentRow,
};

/// List deployments, newest first.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy history shop -n 5")]
pub struct History {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// How many
    #[arg(short = 'n', default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    number: u64,
}

impl History {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let project = app.project(&self.name)?;
        let filter = DeploymentFilter { project: Some(project), open: false, limit: self.number };
        let deployments = app.store.deployments(&filter).await?;
        if app.ui.json {
            let rows: Vec<DeploymentRow> = deployments.into_iter().map(DeploymentRow::from).collect();
            app.ui.json(&rows)?;
            return Ok(Exit::Done);
        }
        if deployments.is_empty() {
            app.ui.note(Line::new("no deployments yet"));
            return Ok(Exit::Done);
        }
        let now = Timestamp::now();
        let mut table =
            Table::new(&["ID", "WHEN", "RELEASE", "COMMIT", "OUTCOME", "CHECKS", "TOOK", "WHO", "WHAT"]);
        for it in deployments {
            let outcome = match (&it.outcome, &it.parked) {
                (Some(Outcome::Succeeded), _) => Line::default().good("succeeded"),
                (Some(outcome), _) => Line::default().bad(outcome.as_str()),
                (None, Some(_)) => Line::default().warn("waiting"),
                (None, None) => Line::new("open"),
            };
            let took = it.finished_at.and_then(|end| end.duration_since(it.started_at).try_into().ok());
            let what = match (&it.reason, it.kind) {
                (Some(reason), eeveon_core::Kind::Rollback) => format!("rollback: {reason}"),
                (None, eeveon_core::Kind::Rollback) => "rollback".to_owned(),
                (Some(reason), eeveon_core::Kind::Deploy) => {
                    format!("{} ({reason})", it.release.revision.subject.for_terminal())
                }
                (None, eeveon_core::Kind::Deploy) => it.release.revision.subject.for_terminal(),
            };
            table.row(vec![
                Line::new(it.id.to_string()),
                Line::new(age(it.started_at, now)),
                Line::new(it.release.number.to_string()),
                Line::new(it.release.revision.commit.short()),
                outcome,
                checks(&it.checks),
                Line::new(took.map(duration).unwrap_or_default()),
                Line::new(it.actor.label().for_terminal()),
                Line::new(what),
            ]);
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}

/// Sums up the checks of a deployment; `why` lists them.
fn checks(checks: &[Checked]) -> Line {
    let passed = checks.iter().filter(|it| it.passed).count();
    match checks.len() {
        0 => Line::default(),
        all if all == passed => Line::new(format!("{passed} of {all}")),
        all => Line::default().warn(format!("{passed} of {all}")),
    }
}
