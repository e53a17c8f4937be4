//! One at a time: the lease a process holds on a project while it changes anything of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use eeveon_core::{DeploymentId, Fence, ProjectName, Session};
use eeveon_store::{Acquired, CancelRequest, Holder, Lease, Liveness, Store, take_over};
use jiff::Timestamp;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    App, CliError,
    render::{Line, age},
};

/// A lease that is not renewed ends after this long.
const LIFETIME: Duration = Duration::from_secs(30);
/// How often it is renewed.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often a waiting process tries again, and a working one looks for a request to stop.
const LOOK: Duration = Duration::from_millis(500);

/// How long to wait for a lease somebody else holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wait {
    /// Not at all.
    No,
    /// At most so long.
    For(Duration),
}

impl Wait {
    /// As long as deployments wait unless told otherwise: 15 minutes.
    pub(crate) const DEFAULT: Self = Self::For(Duration::from_secs(15 * 60));
}

/// A lease that is held and kept alive until it is given back or dropped.
#[derive(Debug)]
pub(crate) struct Held {
    /// What the engine works under.
    pub session: Session,
    /// Whether somebody else held it first: what was found out before may be old.
    pub waited: bool,
    lease: Lease,
    store: Arc<dyn Store>,
    deployment: Arc<AtomicU64>,
    keeper: JoinHandle<()>,
}

/// Returns the name of a project's lease.
pub(crate) fn name_of(project: &ProjectName) -> String {
    format!("project/{project}")
}

/// Takes the lease of `project`, with a number above what its target has seen: the store may be
/// older than the target, after a backup was restored.
///
/// # Errors
///
/// `cli/busy` when somebody else holds it for longer than `wait`; the store failed; interrupted.
pub(crate) async fn hold(
    app: &App,
    project: &ProjectName,
    above: Fence,
    wait: Wait,
) -> Result<Held, CliError> {
    app.home.check_owner()?;
    let name = name_of(project);
    let began = Instant::now();
    let mut told = false;
    loop {
        let holder = match take_over(&*app.store, &name, &app.me, LIFETIME, above).await? {
            Acquired::Granted(lease) => {
                let mut held = Held::keep(app, lease);
                held.waited = told;
                return Ok(held);
            }
            Acquired::Held(holder) => holder,
        };
        let liveness = holder.owner.liveness(&app.me);
        let waited_enough = match wait {
            Wait::No => true,
            Wait::For(limit) => began.elapsed() >= limit,
        };
        if waited_enough {
            return Err(busy(project, &holder, liveness));
        }
        if !told {
            app.ui.note(Line::default().dim("  wait  ").plain(who(&holder, liveness)));
            told = true;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = app.interrupted.cancelled() => return Err(CliError::Interrupted),
        }
    }
}

/// Takes the lease that only one daemon of a home has.
///
/// # Errors
///
/// `cli/daemon-runs` when another one works; the store failed.
pub(crate) async fn of_daemon(app: &App) -> Result<Held, CliError> {
    match take_over(&*app.store, "daemon", &app.me, LIFETIME, Fence::default()).await? {
        Acquired::Granted(lease) => Ok(Held::keep(app, lease)),
        Acquired::Held(holder) => {
            let liveness = holder.owner.liveness(&app.me);
            Err(CliError::DaemonRuns { holder: who(&holder, liveness) })
        }
    }
}

/// Takes the lease of `project` if the process that holds it does not exist any more; otherwise
/// leaves it alone. Returns nothing when no dead process holds it.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn inherit(app: &App, project: &ProjectName) -> Result<Option<Held>, CliError> {
    let name = name_of(project);
    let Some(holder) = app.store.holder(&name).await? else {
        // Whoever had it stopped in the middle and lived to give it back.
        let open = crate::view::open_deployments(app, project).await?;
        return match open.iter().any(|it| it.parked.is_none()) {
            true => {
                match app.store.acquire(&name, &app.me, LIFETIME, None, seen(app, project).await).await? {
                    Acquired::Granted(lease) => Ok(Some(Held::keep(app, lease))),
                    Acquired::Held(_) => Ok(None),
                }
            }
            false => Ok(None),
        };
    };
    let dead = holder.owner.liveness(&app.me) == Liveness::Dead;
    if !dead && holder.remaining_ms > 0 {
        return Ok(None);
    }
    let evidence = dead.then_some(holder.fence);
    match app.store.acquire(&name, &app.me, LIFETIME, evidence, seen(app, project).await).await? {
        Acquired::Granted(lease) => Ok(Some(Held::keep(app, lease))),
        Acquired::Held(_) => Ok(None),
    }
}

/// Returns the highest lease the project's target has seen; what keeps it from being read is told by
/// whoever works on it next.
async fn seen(app: &App, project: &ProjectName) -> Fence {
    crate::compose::Site::open(app, project).await.map(|site| site.seen()).unwrap_or_default()
}

/// Describes who holds a lease, for people.
pub(crate) fn who(holder: &Holder, liveness: Liveness) -> String {
    let state = match liveness {
        Liveness::Alive => "running",
        Liveness::Stopped => "stopped by a signal",
        Liveness::Dead => "dead",
        Liveness::Unknown => "on another machine",
    };
    let (owner, since) = (&holder.owner, age(holder.since, Timestamp::now()));
    format!("`{}` (process {} on {}, {state}, since {since})", owner.label, owner.pid, owner.host)
}

fn busy(project: &ProjectName, holder: &Holder, liveness: Liveness) -> CliError {
    let pid = holder.owner.pid;
    let hint = match liveness {
        Liveness::Stopped => {
            format!("let it go on with `kill -CONT {pid}`, or end it with `kill -KILL {pid}`")
        }
        Liveness::Unknown => {
            format!(
                "look after it on {}; its lease ends {} s after its last sign of life",
                holder.owner.host,
                LIFETIME.as_secs()
            )
        }
        Liveness::Alive | Liveness::Dead => {
            format!(
                "wait for it (--wait), follow it with `ee-deploy logs {project} -f`, or stop it with `ee-deploy cancel ID`; `ee-deploy status {project}` tells the ID"
            )
        }
    };
    CliError::Busy { project: project.clone(), holder: who(holder, liveness), hint }
}

impl Held {
    fn keep(app: &App, lease: Lease) -> Self {
        let session = Session::new(lease.fence);
        let deployment = Arc::new(AtomicU64::new(0));
        let keeper = Keeper {
            store: Arc::clone(&app.store),
            lease: lease.clone(),
            session: session.clone(),
            deployment: Arc::clone(&deployment),
        };
        let (actor, interrupted) = (app.actor(), app.interrupted.clone());
        let keeper = tokio::spawn(async move {
            tokio::select! {
                () = keeper.renew() => {}
                () = keeper.listen() => {}
                () = async {
                    interrupted.cancelled().await;
                    match keeper.request_to_stop().await {
                        Some(request) => keeper.session.cancel(request.by, request.reason),
                        None => keeper.session.cancel(actor, Some("interrupted".to_owned())),
                    }
                    // The lease is still needed while things are taken back: the renewing goes on.
                    std::future::pending::<()>().await;
                } => {}
            }
        });
        Self { session, waited: false, lease, store: Arc::clone(&app.store), deployment, keeper }
    }

    /// Returns the lease.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Names the deployment that is worked on, so that requests to stop it are heard.
    pub(crate) fn works_on(&self, deployment: DeploymentId) {
        self.deployment.store(deployment.0, Ordering::Relaxed);
    }

    /// Gives the lease back. When that fails the lease ends by itself, and what was done stays done.
    pub(crate) async fn give_back(self) {
        self.keeper.abort();
        if let Err(error) = self.store.release(&self.lease).await {
            tracing::warn!(%error, "the lease could not be given back; it ends by itself");
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

struct Keeper {
    store: Arc<dyn Store>,
    lease: Lease,
    session: Session,
    deployment: Arc<AtomicU64>,
}

impl Keeper {
    /// Renews the lease until it is lost.
    async fn renew(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            match self.store.renew(&self.lease, LIFETIME).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "could not renew the lease");
                    if renewed.elapsed() + HEARTBEAT >= LIFETIME {
                        break;
                    }
                }
            }
        }
        self.session.abandon();
    }

    /// Passes requests to stop on. Never returns.
    async fn listen(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            if self.session.cancellation().is_cancelled() {
                continue;
            }
            if let Some(request) = self.request_to_stop().await {
                self.session.cancel(request.by, request.reason);
            }
        }
    }

    /// Returns who asked for the deployment to stop, if anybody did.
    async fn request_to_stop(&self) -> Option<CancelRequest> {
        let deployment = DeploymentId(self.deployment.load(Ordering::Relaxed));
        if deployment.0 == 0 {
            return None;
        }
        let requested = self.store.cancel_requested(deployment).await;
        requested.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not look for requests to stop");
            None
        })
    }
}
