//! `show`: one project at a glance.

use clap::Args;

use crate::{App, CliError, Exit, compose::Site, render::Line, view};

/// Show a project.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy show shop")]
pub struct Show {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
}

impl Show {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let site = Site::concerned(app, &app.project(&self.name)?).await?;
        let status = super::status::status_of(app, &site.name).await?;
        let exit = status.exit();
        if app.ui.json {
            let document =
                serde_json::json!({ "project": site.name, "config": site.config, "status": status });
            app.ui.json(&document)?;
            return Ok(exit);
        }
        let config = &site.config;
        let dir = match config.source.dir.as_str() {
            "" => String::new(),
            dir => format!(", folder {dir}"),
        };
        let live = view::serving(app, &site).await.sentence().unwrap_or_default();
        for (what, text) in [
            ("project", site.name.to_string()),
            ("from", format!("{} branch {}{dir}", config.source.repo, config.source.branch)),
            ("to", config.deploy.path.clone()),
            ("now", live),
            ("file", app.home.project_file(&site.name).display().to_string()),
        ] {
            app.ui.out(Line::default().dim(format!("{what:<8}")).plain(text))?;
        }
        Ok(exit)
    }
}
