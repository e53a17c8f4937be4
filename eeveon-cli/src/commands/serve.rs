//! `serve`: the daemon.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;
use eeveon_core::{ProjectName, SystemClock};
use eeveon_daemon::{Daemon, Limits, PollingConfig};
use eeveon_server::{ListenAddress, ListenConfig, Listener};
use eeveon_store::Acquired;
use tokio_util::sync::CancellationToken;

use crate::{App, CliError, Exit, hooks, render::Line, watching::Watching};

/// Watch all projects and deploy what is new.
///
/// Looks at every repository, answers webhooks, keeps to schedules and windows, and tells people. Can
/// be stopped or killed at any moment: the next start finishes or takes back what was under way.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: ee-deploy serve --listen 127.0.0.1:8787")]
pub struct Serve {
    /// Where webhooks come in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: SocketAddr,
    /// Deployments that run at the same time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,
    /// How long running deployments may go on after a request to stop, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    grace: u64,
    /// Print a systemd unit and do nothing else
    #[arg(long)]
    print_unit: bool,
}

/// The name of the lease only one daemon of a home has.
const LEASE: &str = "daemon";

/// A lease that is not renewed ends after this long; it is renewed three times as often.
const LIFETIME: Duration = Duration::from_secs(30);

impl Serve {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        if self.print_unit {
            return print_unit(app);
        }
        let config = ListenConfig { address: ListenAddress::Tcp(self.listen), ..ListenConfig::default() };
        let listener = Listener::bind(config).await.map_err(eeveon_core::StepError::from)?;
        if let Some(address) = listener.local_addr() {
            app.ui
                .note(Line::default().dim("  hooks ").plain(format!("http://{address}/hooks/PROJECT/FORGE")));
        }
        let grace = Duration::from_secs(self.grace);
        watch(app, None, self.jobs, grace, Some(listener)).await
    }
}

/// Watches one project, or all, until the process is asked to stop.
///
/// # Errors
///
/// Another daemon works in this home, or the store failed.
pub(crate) async fn watch(
    app: &App,
    only: Option<ProjectName>,
    jobs: Option<u16>,
    grace: Duration,
    listener: Option<Listener>,
) -> Result<Exit, CliError> {
    let lease = loop {
        let dead = match app.store.holder(LEASE).await? {
            Some(holder) if holder.owner.liveness(&app.me) == eeveon_store::Liveness::Dead => {
                Some(holder.fence)
            }
            _ => None,
        };
        match app.store.acquire(LEASE, &app.me, LIFETIME, dead, eeveon_core::Fence(0)).await? {
            Acquired::Granted(lease) => break lease,
            Acquired::Held(holder) if holder.owner.liveness(&app.me) == eeveon_store::Liveness::Dead => {}
            Acquired::Held(holder) => {
                let message = format!("another daemon works in this home: process {}", holder.owner.pid);
                return Err(CliError::usage(message, "one is enough: it watches all projects"));
            }
        }
    };
    let shutdown = app.interrupted.clone();
    let lost = CancellationToken::new();
    let keeper = {
        let (store, lease, lost) = (Arc::clone(&app.store), lease.clone(), lost.clone());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LIFETIME / 3).await;
                if matches!(store.renew(&lease, LIFETIME).await, Ok(false)) {
                    lost.cancel();
                    break;
                }
            }
        })
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let limits = Limits { running: jobs.map_or(cores, usize::from), ..Limits::default() };
    // Deployments are stopped by the daemon, one by one, and not by the signal it gets itself.
    let inner = App { interrupted: CancellationToken::new(), ..app.clone() };
    let world = Arc::new(Watching::new(inner.clone(), only));
    let seed = u64::from(std::process::id());
    let (store, clock) = (Arc::clone(&app.store), Arc::new(SystemClock));
    let daemon = Daemon::load(world, store, clock, limits, PollingConfig::default(), seed).await;
    let daemon = daemon.map_err(eeveon_core::StepError::from)?;
    let stop = CancellationToken::new();
    let serving = listener
        .map(|listener| tokio::spawn(listener.serve(hooks::app(&inner, daemon.handle()), stop.clone())));
    notify_system("READY=1");
    app.ui.note(Line::default().dim("  watch ").plain("watching; Ctrl-C stops"));
    let ended = CancellationToken::new();
    let forward = {
        let (ended, lost) = (ended.clone(), lost.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = lost.cancelled() => {}
            }
            notify_system("STOPPING=1");
            ended.cancel();
        })
    };
    let result = daemon.run(ended, grace).await;
    forward.abort();
    stop.cancel();
    if let Some(serving) = serving {
        let _stopped = serving.await;
    }
    keeper.abort();
    app.store.release(&lease).await?;
    result.map_err(eeveon_core::StepError::from)?;
    Ok(Exit::Done)
}

/// Tells systemd how things stand, when it asked to be told (sd_notify(3)).
fn notify_system(state: &str) {
    let Some(path) = crate::environment::Environment::variable("NOTIFY_SOCKET") else { return };
    let socket = std::os::unix::net::UnixDatagram::unbound();
    let sent = socket.and_then(|socket| match path.strip_prefix('@') {
        Some(name) => {
            let address =
                <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
                    name,
                )?;
            socket.send_to_addr(state.as_bytes(), &address)
        }
        None => socket.send_to(state.as_bytes(), &path),
    });
    if let Err(error) = sent {
        tracing::warn!(%error, "systemd could not be told");
    }
}

fn print_unit(app: &App) -> Result<Exit, CliError> {
    let binary = crate::environment::Environment::program()
        .map_err(|error| CliError::io("find", "ee-deploy".as_ref(), error))?;
    let (binary, home) = (binary.display(), app.home.root().display());
    let paths: Vec<String> = app
        .home
        .project_names()?
        .into_iter()
        .filter_map(|name| crate::config::load(&app.home.project_file(&name), &name).ok())
        .map(|config| config.deploy.path)
        .filter(|path| !std::path::Path::new(path).starts_with(app.home.root()))
        .collect();
    let writable: String = paths.iter().map(|path| format!("ReadWritePaths=-{path}\n")).collect();
    let unit = format!(
        "# Save as /etc/systemd/system/eeveon.service, then: systemctl enable --now eeveon\n\
         [Unit]\n\
         Description=EEveon, continuous deployment\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         ExecStart={binary} --home {home} serve\n\
         Restart=always\n\
         RestartSec=2\n\
         TimeoutStopSec=90\n\
         KillMode=mixed\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=strict\n\
         ReadWritePaths={home}\n\
         {writable}\
         PrivateTmp=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\n\
         ProtectControlGroups=no\n\
         RestrictSUIDSGID=yes\n\
         LockPersonality=yes\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target"
    );
    for line in unit.lines() {
        app.ui.out(Line::new(line))?;
    }
    if !paths.is_empty() {
        app.ui.note(Line::new(
            "print it again when a project is added: the folders it may write to are listed",
        ));
    }
    Ok(Exit::Done)
}
