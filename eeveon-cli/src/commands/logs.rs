//! `logs`: the output of steps.

use std::path::PathBuf;

use clap::Args;
use eeveon_build::{StepLog, log::LogReader};
use eeveon_core::{DeploymentId, Record, Seq};
use eeveon_store::DeploymentFilter;
use serde::Serialize;
use tokio::time::Duration;

use crate::{App, CliError, Exit, app::Subject, render::Line, view};

/// Show the output of steps.
///
/// For a project: of its newest deployment that printed anything.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy logs shop -f")]
pub struct Logs {
    /// A project, or a deployment's id [default: the newest deployment of all]
    #[arg(value_name = "PROJECT|DEPLOYMENT")]
    subject: Option<String>,
    /// Lines of each step
    #[arg(short = 'n', default_value_t = 100)]
    lines: usize,
    /// Go on as output comes, until the deployment has ended
    #[arg(short, long)]
    follow: bool,
}

#[derive(Serialize)]
struct Output<'a> {
    deployment: DeploymentId,
    step: &'a str,
    line: &'a eeveon_core::Untrusted,
}

impl Logs {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let id = self.deployment(app).await?;
        let Some(id) = id else {
            app.ui.note(Line::new("no step has printed anything yet"));
            return Ok(Exit::Done);
        };
        let mut shown: Vec<(PathBuf, LogReader)> = Vec::new();
        loop {
            // Looked at before the output, so that nothing printed before the end is missed.
            let ended = view::deployment(app, id).await?.outcome.is_some();
            for (step, path) in steps(app, id).await? {
                let unreadable = |error| CliError::io("read", &path, error);
                let lines = match shown.iter_mut().find(|(it, _)| *it == path) {
                    Some((_, reader)) => reader.poll().map_err(unreadable)?,
                    None => {
                        if !app.ui.json {
                            app.ui.out(Line::default().strong(format!("== {step}")))?;
                        }
                        let (lines, reader) = LogReader::after_tail(&path, self.lines).map_err(unreadable)?;
                        shown.push((path.clone(), reader));
                        lines
                    }
                };
                for line in lines {
                    match app.ui.json {
                        true => app.ui.json(&Output { deployment: id, step: &step, line: &line })?,
                        false => app.ui.out(Line::new(line.for_terminal()))?,
                    }
                }
            }
            if !self.follow || ended {
                return Ok(Exit::Done);
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(200)) => {}
                () = app.interrupted.cancelled() => return Ok(Exit::Done),
            }
        }
    }

    async fn deployment(&self, app: &App) -> Result<Option<DeploymentId>, CliError> {
        let project = match self.subject.as_deref().map(|it| app.subject(it)).transpose()? {
            Some(Subject::Deployment(id)) => return Ok(Some(view::deployment(app, id).await?.id)),
            Some(Subject::Project(name)) => Some(name),
            None => None,
        };
        let filter = DeploymentFilter { project, open: false, limit: 100 };
        let deployments = app.store.deployments(&filter).await?;
        let printed = deployments
            .iter()
            .find(|it| (self.follow && it.outcome.is_none()) || app.home.log_folder(it.id).is_dir());
        Ok(printed.map(|it| it.id))
    }
}

/// Lists the steps of a deployment that have output, in the order they began.
async fn steps(app: &App, id: DeploymentId) -> Result<Vec<(String, PathBuf)>, CliError> {
    let mut found = Vec::new();
    for entry in app.store.read(id, Seq::default()).await? {
        let (name, log) = match entry.record {
            Record::Started { step, .. } => (step.to_string(), StepLog::new(&app.home.logs(), id, &step)),
            Record::UndoStarted { step, .. } => {
                (format!("{step}, taken back"), StepLog::new(&app.home.logs(), id, &step).undo())
            }
            _ => continue,
        };
        let path = log.path();
        if path.exists() && found.iter().all(|(_, it)| *it != path) {
            found.push((name, path));
        }
    }
    Ok(found)
}
