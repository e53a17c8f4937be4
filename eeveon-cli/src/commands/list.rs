//! `list`: the projects.

use clap::Args;
use eeveon_core::ProjectName;
use serde::Serialize;

use crate::{
    App, CliError, Exit, config,
    render::{Line, Table},
};

/// List the projects.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy list --json")]
pub struct List {}

#[derive(Serialize)]
struct Row {
    project: ProjectName,
    repo: Option<String>,
    branch: Option<String>,
    path: Option<String>,
    /// What is wrong with the project's file.
    error: Option<String>,
}

impl List {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let mut rows = Vec::new();
        for project in app.home.project_names()? {
            rows.push(match config::load(&app.home.project_file(&project), &project) {
                Ok(config) => Row {
                    project,
                    repo: Some(config.source.repo),
                    branch: Some(config.source.branch),
                    path: Some(config.deploy.path),
                    error: None,
                },
                Err(error) => {
                    Row { project, repo: None, branch: None, path: None, error: Some(error.to_string()) }
                }
            });
        }
        if app.ui.json {
            app.ui.json(&rows)?;
            return Ok(Exit::Done);
        }
        if rows.is_empty() {
            app.ui.note(Line::new("no projects yet; add one with `ee-deploy up REPO` or `ee-deploy init`"));
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&["PROJECT", "BRANCH", "REPOSITORY", "PATH"]);
        for row in rows {
            let text = |text: Option<String>| Line::new(text.unwrap_or_default());
            table.row(match row.error {
                None => vec![
                    Line::default().strong(row.project.as_str()),
                    text(row.branch),
                    text(row.repo),
                    text(row.path),
                ],
                Some(error) => vec![
                    Line::default().strong(row.project.as_str()),
                    Line::default(),
                    Line::default(),
                    Line::default().bad(error),
                ],
            });
        }
        table.print(&app.ui)?;
        Ok(Exit::Done)
    }
}
