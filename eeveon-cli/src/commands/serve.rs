//! `serve`: the daemon.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use clap::Args;
use eeveon_core::{ProjectName, SystemClock, Untrusted};
use eeveon_daemon::{Daemon, Handle, Limits, PollingConfig, control::Control};
use eeveon_server::{ListenAddress, ListenConfig, Listener};
use eeveon_store::SqliteStore;
use tokio_util::sync::CancellationToken;

use crate::{App, CliError, Exit, hooks, lease, render::Line, watching::Watching};

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

/// How often systemd is told that the daemon works, unless it asked for that more often.
const HEARTBEAT: Duration = Duration::from_secs(10);

impl Serve {
    /// Runs the command.
    pub async fn run(self, app: &App) -> Result<Exit, CliError> {
        if self.print_unit {
            return print_unit(app);
        }
        watch(app, None, self.jobs, Duration::from_secs(self.grace), Some(self.listen)).await
    }
}

/// Listens for webhooks, and says where.
async fn listen(app: &App, at: SocketAddr) -> Result<Listener, CliError> {
    let config = ListenConfig { address: ListenAddress::Tcp(at), ..ListenConfig::default() };
    let listener = Listener::bind(config).await.map_err(eeveon_core::StepError::from)?;
    if let Some(address) = listener.local_addr() {
        app.ui.note(Line::default().dim("  hooks ").plain(format!("http://{address}/hooks/PROJECT/FORGE")));
    }
    Ok(listener)
}

/// Watches one project, or all, until the process is asked to stop; with an address to `listen` on, takes
/// webhooks there.
///
/// # Errors
///
/// Another daemon works in this home, its socket or the address cannot be had, the store failed, or the lease was lost.
pub(crate) async fn watch(
    app: &App,
    only: Option<ProjectName>,
    jobs: Option<u16>,
    grace: Duration,
    listen_on: Option<SocketAddr>,
) -> Result<Exit, CliError> {
    let held = lease::of_daemon(app).await?;
    let control = Control::bind(app.home.root()).map_err(eeveon_core::StepError::from)?;
    let listener = match listen_on {
        Some(address) => Some(listen(app, address).await?),
        None => None,
    };
    // What the daemon saves goes on being saved when the disk is full.
    match SqliteStore::open(app.home.store()).await {
        Ok(store) => {
            store.keep_room().await.unwrap_or_else(|error| tracing::warn!(%error, "no room is kept"))
        }
        Err(error) => tracing::warn!(%error, "no room is kept"),
    }
    // Fires when the process is asked to stop, and when the lease is lost.
    let shutdown = held.session.cancellation().clone();
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
    let answering = tokio::spawn(control.serve(daemon.handle(), stop.clone()));
    let serving = listener
        .map(|listener| tokio::spawn(listener.serve(hooks::app(&inner, daemon.handle()), stop.clone())));
    notify_system("READY=1");
    app.ui.note(Line::default().dim("  watch ").plain("watching; Ctrl-C stops"));
    let beating = tokio::spawn(heartbeat(shutdown.clone(), daemon.handle()));
    let result = daemon.run(shutdown, grace).await;
    beating.abort();
    stop.cancel();
    let _stopped = answering.await;
    if let Some(serving) = serving {
        let _stopped = serving.await;
    }
    held.give_back().await;
    result.map_err(eeveon_core::StepError::from)?;
    match app.interrupted.is_cancelled() {
        true => Ok(Exit::Done),
        // Nobody asked it to end.
        false => Err(CliError::DaemonLost),
    }
}

/// Tells systemd that the daemon stops, once it does, and until then, as long as its loop answers, that it
/// works.
async fn heartbeat(shutdown: CancellationToken, daemon: Handle) {
    // Twice in the time after which systemd takes it for dead (sd_watchdog_enabled(3)).
    let asked = crate::environment::Environment::variable("WATCHDOG_USEC");
    let asked = asked.and_then(|it| it.parse().ok()).map(|it: u64| Duration::from_micros(it.max(2) / 2));
    let mut beat = tokio::time::interval(asked.map_or(HEARTBEAT, |asked| asked.min(HEARTBEAT)));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return notify_system("STOPPING=1"),
            _ = beat.tick() => {}
        }
        if daemon.overview().await.is_ok() {
            notify_system("WATCHDOG=1");
        }
    }
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

/// Returns a path as one word of a unit, whatever is in it (systemd.syntax(7), systemd.unit(5) on `%`).
///
/// # Errors
///
/// It has characters that no unit can have.
fn quoted(path: &Path) -> Result<String, CliError> {
    let text = path.to_str().filter(|text| !text.contains(char::is_control)).ok_or_else(|| {
        let shown = Untrusted::from(path.display().to_string()).for_terminal();
        CliError::usage(format!("a unit cannot name the path {shown}"), "move it to a path of plain text")
    })?;
    let text = text.replace('%', "%%");
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%,:=".contains(c);
    if text.chars().all(is_plain) {
        return Ok(text);
    }
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    Ok(format!("\"{text}\""))
}

fn print_unit(app: &App) -> Result<Exit, CliError> {
    let binary = crate::environment::Environment::program()
        .map_err(|error| CliError::io("find", "ee-deploy".as_ref(), error))?;
    let (binary, home) = (quoted(&binary)?, quoted(app.home.root())?);
    let paths: Vec<String> = app
        .home
        .project_names()?
        .into_iter()
        .filter_map(|name| crate::config::load(&app.home.project_file(&name), &name).ok())
        .map(|config| config.deploy.path)
        .filter(|path| !std::path::Path::new(path).starts_with(app.home.root()))
        .collect();
    let writable: String = paths
        .iter()
        .map(|path| Ok(format!("ReadWritePaths=-{}\n", quoted(path.as_ref())?)))
        .collect::<Result<_, CliError>>()?;
    let user = match rustix::process::geteuid().is_root() {
        // Commands that build are kept within their memory by the system only for root.
        true => String::new(),
        // Without a name in the environment the label is the number.
        false => format!("User={}\n", app.environment.user.trim_start_matches("uid ")),
    };
    let capabilities = match user.is_empty() {
        true => "CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SETGID CAP_SETUID CAP_SYS_RESOURCE",
        false => "",
    };
    let unit = format!(
        "# Save as /etc/systemd/system/eeveon.service, then: systemctl enable --now eeveon\n\
         [Unit]\n\
         Description=EEveon, continuous deployment\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         {user}\
         ExecStart={binary} --home {home} serve\n\
         Restart=always\n\
         RestartSec=2\n\
         WatchdogSec=60\n\
         TimeoutStopSec=90\n\
         KillMode=mixed\n\
         UMask=0027\n\
         # What it may write to. Commands of a project are held to the same.\n\
         ProtectSystem=strict\n\
         ReadWritePaths={home}\n\
         {writable}\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectProc=default\n\
         ProtectClock=yes\n\
         ProtectHostname=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelTunables=yes\n\
         # What it may do. Left out for the commands' sake: MemoryDenyWriteExecute (compilers at run\n\
         # time), RestrictNamespaces (sandboxes), ProtectControlGroups (limits of memory).\n\
         NoNewPrivileges=yes\n\
         LockPersonality=yes\n\
         RestrictSUIDSGID=yes\n\
         RestrictRealtime=yes\n\
         RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK\n\
         SystemCallArchitectures=native\n\
         SystemCallFilter=@system-service\n\
         # Sandboxes of their own; an older systemd does not know the name, and goes on without.\n\
         SystemCallFilter=@sandbox\n\
         SystemCallErrorNumber=EPERM\n\
         CapabilityBoundingSet={capabilities}\n\
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
