//! `remove`: a project is forgotten, and what it deployed with it if that is wanted.

use std::{fs, path::Path};

use clap::Args;
use eeveon_core::{Fence, Permit, ProjectName, StepError};
use eeveon_daemon::Freezes;
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError, Exit,
    commands::queue,
    compose::Site,
    deploying, following, hooks,
    lease::{self, Wait},
    render::Line,
    settling,
};

/// Remove a project.
///
/// Its file and its mirror go; what is deployed stays and keeps serving, and so does the history.
/// With --purge what EEveon made at the project's path goes too, except shared files.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy remove shop --purge --yes")]
pub struct Remove {
    /// The project
    #[arg(value_name = "PROJECT")]
    name: String,
    /// Also remove its releases: nothing will be live at its path any more
    #[arg(long)]
    purge: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

impl Remove {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let name = app.project(&self.name)?;
        if !self.yes {
            let what = match self.purge {
                true => "its file, its mirror and everything it deployed, except shared files",
                false => "its file and its mirror; what it deployed stays",
            };
            app.ui.err(Line::default().dim("  goes  ").plain(what));
            app.ui.confirm(&format!("remove {name}?"), &app.interrupted).await?;
        }
        let held = lease::hold(app, &name, Fence(0), Wait::DEFAULT).await?;
        let removed = self.remove(app, &name, &held).await;
        held.give_back().await;
        let kept = removed?;
        if let Err(error) = forget_plans(app, &name).await {
            let words =
                format!("what was planned for {name} is still there, for another one of its name: {error}");
            app.ui.warn(words);
        }
        match app.ui.json {
            true => app.ui.json(&serde_json::json!({ "project": name, "removed": true, "kept": kept }))?,
            false => app.ui.out(Line::default().plain("removed ").strong(name.as_str()))?,
        }
        if let Some(kept) = kept {
            app.ui.note(Line::default().dim("  kept  ").plain(kept));
        }
        Ok(Exit::Done)
    }

    /// Removes what is to go, the project's file last: until then the command can be repeated.
    async fn remove(
        &self,
        app: &App,
        name: &ProjectName,
        held: &lease::Held,
    ) -> Result<Option<String>, CliError> {
        let mut kept = None;
        match Site::open(app, name).await {
            Ok(site) => {
                settling::settle_held(app, &site, held).await?;
                // What is half way must not be left to a project that no longer is.
                deploying::refuse_if_waiting(app, &site).await?;
                kept = Some(site.config.deploy.path.clone());
                if self.purge {
                    let permit = Permit::new(held.session.fence(), CancellationToken::new());
                    let left = site.host.purge(&permit).await.map_err(stopped)?.left;
                    if let Some(folder) = Path::new(&site.config.deploy.path).parent() {
                        flush(folder)?;
                    }
                    let left: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
                    kept = (!left.is_empty()).then(|| left.join(", "));
                }
            }
            // A file nobody can read any more must not keep the project for ever.
            Err(error) if self.purge => return Err(error),
            Err(error) => app.ui.warn(format!("{error}; only the project is forgotten")),
        }
        if self.purge {
            // Its history stays.
            app.store.forget_project(name).await?;
        }
        forget(app, name)?;
        Ok(kept)
    }
}

/// Drops requests and lifts a freeze of a project that is no more.
async fn forget_plans(app: &App, name: &ProjectName) -> Result<(), CliError> {
    queue::forget(app, name).await?;
    let freezes = Freezes::load(&*app.store).await.map_err(StepError::from)?;
    if freezes.projects.contains_key(name) {
        Freezes::change(&*app.store, &app.me, Some(name), None).await.map_err(StepError::from)?;
    }
    following::wake_daemon(app).await;
    Ok(())
}

/// What is refused is refused before anything is removed; everything else may stop half way.
fn stopped(error: StepError) -> CliError {
    match error.diagnosis().code() {
        "host/not-ours" | "host/other-home" | "host/fenced" | "host/locked" => CliError::Step(error),
        _ => CliError::HalfRemoved(error),
    }
}

/// Makes what was removed from a folder stay removed.
fn flush(folder: &Path) -> Result<(), CliError> {
    let flushed = fs::File::open(folder).and_then(|folder| folder.sync_all());
    flushed.map_err(|error| CliError::io("flush", folder, error))
}

/// Removes a project's mirror and then its file. The mirror goes out of the way in one step, so that
/// no death leaves half of one.
pub(crate) fn forget(app: &App, name: &ProjectName) -> Result<(), CliError> {
    let (mirror, aside) = (app.home.mirror(name), app.home.aside(name));
    let remove = |folder: &Path| match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CliError::io("remove", folder, error))
        }
        _ => Ok(()),
    };
    // An earlier attempt may have died right here.
    remove(&aside)?;
    match fs::rename(&mirror, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(CliError::io("move", &mirror, error));
        }
        _ => remove(&aside)?,
    }
    // While the file is there, a power cut cannot bring anything back that nobody knows.
    flush(&app.home.sources())?;
    // Whoever knew the secrets of its webhooks must not speak to another project of that name.
    hooks::forget(&app.home, name)?;
    let file = app.home.project_file(name);
    fs::remove_file(&file)
        .and_then(|()| fs::File::open(app.home.projects())?.sync_all())
        .map_err(|error| CliError::io("remove", &file, error))
}
