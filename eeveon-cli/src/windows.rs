//! When a project may be deployed: its windows, its holidays, and freezes.

use std::{path::Path, time::Duration};

use eeveon_core::ProjectName;
use eeveon_daemon::{Calendar, DaemonError, Freezes, Windows};
use eeveon_store::DeploymentFilter;
use jiff::Timestamp;

use crate::{App, CliError, compose::Site, config::ProjectConfig};

/// How long a deployment is expected to take when none has been made.
const UNKNOWN_DURATION: Duration = Duration::from_secs(60);

/// More holidays than anyone has.
const CALENDAR_BYTES: u64 = 1 << 20;

/// Returns the windows that a project file names, with their holidays.
///
/// # Errors
///
/// `daemon/window`, or `daemon/calendar` when the holidays cannot be read.
pub(crate) fn of_config(config: &ProjectConfig) -> Result<Windows, DaemonError> {
    let mut windows = Windows::new(&config.window.config())?;
    if !config.window.holidays.is_empty() {
        let file = Path::new(&config.window.holidays);
        let unusable = |why: String| DaemonError::Calendar { why: format!("{}: {why}", file.display()) };
        let length = std::fs::metadata(file).map_err(|error| unusable(error.to_string()))?.len();
        if length > CALENDAR_BYTES {
            return Err(unusable("it is larger than 1 MiB".to_owned()));
        }
        let bytes = std::fs::read(file).map_err(|error| unusable(error.to_string()))?;
        windows.set_holidays(Calendar::parse(&bytes, &config.window.tz)?);
    }
    Ok(windows)
}

/// Returns all that decides when a project may be deployed.
///
/// # Errors
///
/// As [`of_config`]; the store failed.
pub(crate) async fn of(app: &App, site: &Site) -> Result<Windows, DaemonError> {
    let mut windows = of_config(&site.config)?;
    let freezes = Freezes::load(&*app.store).await?;
    windows.set_freeze(freezes.of(&site.name).map(eeveon_daemon::Frozen::freeze));
    Ok(windows)
}

/// Returns how long recent deployments took, the middle one of them.
pub(crate) async fn expected(app: &App, name: &ProjectName) -> Duration {
    let filter = DeploymentFilter { project: Some(name.clone()), open: false, limit: 20 };
    let recent = app.store.deployments(&filter).await.unwrap_or_default();
    let took =
        recent.iter().filter_map(|it| Duration::try_from(it.finished_at?.duration_since(it.started_at)).ok());
    let mut took: Vec<Duration> = took.collect();
    took.sort_unstable();
    took.get(took.len() / 2).copied().unwrap_or(UNKNOWN_DURATION)
}

/// Refuses to begin a deployment while nothing may be deployed.
///
/// # Errors
///
/// `daemon/window-shut`; as [`of`].
pub(crate) async fn refuse_if_shut(app: &App, site: &Site) -> Result<(), CliError> {
    let admitted = async {
        let windows = of(app, site).await?;
        windows.may_start(Timestamp::now(), expected(app, &site.name).await).admit()
    };
    Ok(admitted.await.map_err(eeveon_core::StepError::from)?)
}
