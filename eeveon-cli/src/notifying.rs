//! Telling people, as long as no daemon does: whoever deployed delivers before the command ends, for
//! a bounded time; what is left the next command delivers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use eeveon_core::{ProjectName, Secrets, SystemClock};
use eeveon_daemon::{AddressBook, Addressees, Channel, Courier};
use tokio_util::sync::CancellationToken;

use crate::{
    App, CliError,
    config::{self, ProjectConfig},
    home::Home,
    render::Line,
};

/// How long a command goes on for the sake of messages.
const PATIENCE: Duration = Duration::from_secs(10);

/// The project files, as the courier asks them.
#[derive(Clone, Debug)]
struct ProjectFiles {
    home: Home,
    secrets: Arc<dyn Secrets>,
}

#[async_trait]
impl AddressBook for ProjectFiles {
    async fn look_up(&self, project: &ProjectName) -> Result<Option<Addressees>, String> {
        let file = self.home.project_file(project);
        if !file.exists() {
            return Ok(None);
        }
        let config = config::load(&file, project).map_err(|error| error.to_string())?;
        Ok(Some(Addressees {
            branch: config.source.branch.as_str().into(),
            link: Some(config.deploy.link.clone()).filter(|link| !link.is_empty()),
            channels: made(&config, &self.secrets)?,
        }))
    }
}

fn made(config: &ProjectConfig, secrets: &Arc<dyn Secrets>) -> Result<Vec<Channel>, String> {
    let channel = |notify: &config::Notify| {
        let notifier = notify.notifier(secrets).map_err(|(key, why)| format!("notify.{key}: {why}"))?;
        Ok(Channel { route: notify.route(), notifier })
    };
    config.notify.iter().map(channel).collect()
}

/// Returns a project's channels.
///
/// # Errors
///
/// Something they need, such as a file of certificates, is not usable any more.
pub(crate) fn channels(app: &App, config: &ProjectConfig) -> Result<Vec<Channel>, CliError> {
    let secrets: Arc<dyn Secrets> = Arc::new(app.environment.clone());
    made(config, &secrets)
        .map_err(|why| CliError::usage(why, "mend the [[notify]] section of the project file"))
}

/// Returns the courier of this home.
pub(crate) fn courier(app: &App) -> Courier {
    let secrets: Arc<dyn Secrets> = Arc::new(app.environment.clone());
    let book = ProjectFiles { home: app.home.clone(), secrets };
    Courier::new(Arc::clone(&app.store), Arc::new(book), Arc::new(SystemClock), app.me.clone())
}

/// Delivers what there is to tell, for at most ten seconds. What does not arrive is told, and is no
/// reason for a command to fail.
pub(crate) async fn deliver(app: &App) {
    if let Err(error) = try_deliver(app).await {
        app.ui.warn(format!("notifications could not be delivered: {error}"));
    }
}

async fn try_deliver(app: &App) -> Result<(), CliError> {
    let courier = courier(app);
    if !courier.has_work().await? {
        return Ok(());
    }
    courier.post().await?;
    let stop = CancellationToken::new();
    let late = stop.clone();
    let interrupted = app.interrupted.clone();
    let clock = tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(PATIENCE) => {}
            () = interrupted.cancelled() => {}
        }
        late.cancel();
    });
    let round = courier.deliver(&stop).await;
    clock.abort();
    let round = round?;
    for (project, channel, why) in round.delayed {
        let text =
            format!("{project}: a message to {channel} has not arrived and is tried again later: {why}");
        app.ui.note(Line::default().warn("  late  ").plain(text));
    }
    for (project, channel, why) in round.dead {
        let text = format!("{project}: a message to {channel} was given up: {why}");
        app.ui.note(Line::default().warn("  lost  ").plain(text));
    }
    Ok(())
}
