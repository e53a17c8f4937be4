//! `vacuum`: disk space that is no longer needed is given back.

use std::{fs, path::Path};

use clap::Args;
use eeveon_core::{Deployer as _, DeploymentId, Fence, Permit, Removal};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError, Exit,
    compose::Site,
    deploying,
    lease::{self, Wait},
    render::{Line, count, size},
    settling, situation,
};

/// Give back disk space that is no longer needed.
///
/// Removes releases that retention lets go, leftovers of processes that died, objects no release
/// needs, output of steps of old deployments, and compacts the store. Projects in use are left out.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy vacuum")]
pub struct Vacuum {}

/// Output of steps is kept for at least this many deployments.
const LOGS_KEPT: u64 = 1000;

#[derive(Default, Serialize)]
struct Freed {
    releases: u64,
    logs: u64,
    store_bytes: u64,
    mirror_bytes: u64,
    /// Projects that could not be looked after, and why.
    left_out: Vec<(String, String)>,
}

impl Vacuum {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        let mut freed = Freed::default();
        for project in app.home.project_names()? {
            match vacuum_project(app, &project).await {
                Ok((releases, bytes)) => {
                    freed.releases += releases;
                    freed.mirror_bytes += bytes;
                }
                Err(error) => freed.left_out.push((project.to_string(), error.to_string())),
            }
        }
        freed.logs = remove_old_logs(app).await?;
        freed.store_bytes = app.store.vacuum().await?;
        for (project, why) in &freed.left_out {
            app.ui.warn(format!("{project} was left out: {why}"));
        }
        if app.ui.json {
            app.ui.json(&freed)?;
        } else {
            let (releases, logs) = (count(freed.releases, "release"), count(freed.logs, "log folder"));
            app.ui.out(Line::new(format!(
                "removed {releases} and {logs}; store and mirrors gave back {}",
                size(freed.store_bytes.saturating_add(freed.mirror_bytes))
            )))?;
        }
        // Not everything was done, and a script should know.
        Ok(if freed.left_out.is_empty() { Exit::Done } else { Exit::Failed })
    }
}

/// Returns how many releases went, and how many bytes the mirror gave back.
async fn vacuum_project(app: &App, project: &eeveon_core::ProjectName) -> Result<(u64, u64), CliError> {
    let held = lease::hold(app, project, Fence(0), Wait::No).await?;
    let removed = async {
        let site = Site::open(app, project).await?;
        settling::settle_held(app, &site, &held).await?;
        if !Path::new(&site.config.deploy.path).exists() {
            return Ok((0, 0));
        }
        // A deployment that waits for a person may need any release to go back to.
        deploying::refuse_if_waiting(app, &site).await?;
        let situation = situation::survey(app, &site).await?;
        let permit = Permit::new(held.session.fence(), CancellationToken::new());
        let outworn = situation::outworn(&site, &situation, None);
        for release in &outworn {
            site.host.remove(&permit, &site.target, *release, Removal::Discard).await?;
        }
        let present: Vec<_> = site.present().await?.into_iter().map(|it| it.release).collect();
        site.mirror.keep_only(&present)?;
        Ok((outworn.len() as u64, site.mirror.compact(&permit).await?))
    }
    .await;
    held.give_back().await;
    removed
}

/// Removes the output of all but the newest deployments. Returns of how many.
async fn remove_old_logs(app: &App) -> Result<u64, CliError> {
    let folder = app.home.logs();
    let unreadable = |error| CliError::io("read", &folder, error);
    let mut found: Vec<DeploymentId> = Vec::new();
    for entry in fs::read_dir(&folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse().ok()).map(DeploymentId));
    }
    found.sort();
    let newest = found.last().map_or(0, |id| id.0);
    let mut removed = 0;
    for id in found.into_iter().filter(|id| id.0.saturating_add(LOGS_KEPT) <= newest) {
        let path = app.home.log_folder(id);
        fs::remove_dir_all(&path).map_err(|error| CliError::io("remove", &path, error))?;
        removed += 1;
    }
    Ok(removed)
}
