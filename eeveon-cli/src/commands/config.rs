//! `config`: a project's configuration, shown or changed.

use clap::Args;

use crate::{
    App, CliError, Exit, config, following,
    home::{Replace, write_new},
    render::Line,
};

/// Show or change a project's configuration.
///
/// Without KEY, everything in force is listed. A changed file keeps its comments and is written
/// only when it is valid; the next deploy uses it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy config shop deploy.keep 10")]
pub struct Config {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// The key, such as deploy.keep
    key: Option<String>,
    /// The value to set: TOML, or plain text
    #[arg(requires = "key", allow_hyphen_values = true)]
    value: Option<String>,
    /// Remove the key, so that its default is in force, or a whole section such as health.2
    #[arg(long, requires = "key", conflicts_with = "value")]
    unset: bool,
}

impl Config {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        let file = app.home.project_file(&name);
        let Some(key) = &self.key else {
            let config = config::load(&file, &name)?;
            if app.ui.json {
                app.ui.json(&config)?;
                return Ok(Exit::Done);
            }
            for path in config::paths(&config) {
                let (value, is_default) = config::get(&config, &path)?;
                let line = Line::new(format!("{path} = {value}"));
                app.ui.out(if is_default { line.dim("  # default") } else { line })?;
            }
            return Ok(Exit::Done);
        };
        if self.value.is_none() && !self.unset {
            let config = config::load(&file, &name)?;
            let (value, _) = config::get(&config, key)?;
            match app.ui.json {
                true => {
                    let value = format!("x = {value}").parse::<toml::Table>().unwrap_or_default();
                    app.ui.json(&value.get("x"))?;
                }
                false => app.ui.out(Line::new(value))?,
            }
            return Ok(Exit::Done);
        }
        // A running deployment works by its plan; only two changes at once must not meet.
        let _alone = app.home.lock_projects().await?;
        let text = std::fs::read_to_string(&file).map_err(|error| CliError::io("read", &file, error))?;
        let changed = match &self.value {
            Some(value) => config::set(&text, &file, &name, key, value)?,
            None => config::unset(&text, &file, &name, key)?,
        };
        if changed != text {
            write_new(&file, changed.as_bytes(), Replace::Always)
                .map_err(|error| CliError::io("write", &file, error))?;
        }
        following::wake_daemon(app).await;
        let words = match config::get(&config::load(&file, &name)?, key) {
            Ok((value, _)) => format!("{key} = {value}"),
            // A whole section has no value.
            Err(_) if self.unset => format!("{key} is removed"),
            Err(error) => return Err(error.into()),
        };
        app.ui.note(Line::new(format!("{words}; the next deploy of {name} uses it")));
        Ok(Exit::Done)
    }
}
