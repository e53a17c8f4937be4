//! The story of a deploy: find out what is asked for, take the lease, look at the world, plan,
//! carry it out, tell how it ended. A rollback is the same story with an older release.

use std::time::Instant;

use eeveon_core::{
    Actor, CommitId, DeploymentId, EngineError, Failure, Feed, Kind, Permit, Plan, Quarantining, Release,
    ReleaseNumber, Request, Revision, TargetFacts, Trigger, strategy, strategy::Facts,
};
use eeveon_rollback::{OrderFacts, PutAside, QuarantineFacts, quarantine};
use eeveon_source::forge;
use eeveon_store::{Deployment, KnownRelease};

use crate::{
    App, CliError, Exit,
    compose::Site,
    config::OnFailure,
    lease::{self, Held, Wait},
    render::{self, Activity},
    settings::Settings,
    settling,
    situation::{Situation, lifted, order_facts, outworn, survey},
    steps::{Old, ProjectSteps},
    view, windows,
};

/// What somebody wants deployed.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    /// A commit, branch or tag; the newest commit of the project's branch when absent.
    pub rev: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Whether a commit older than the live one may go live.
    pub allow_older: bool,
    /// Whether to make a release even when nothing is new.
    pub again: bool,
    /// Whether the release changes something that going back does not change back.
    pub irreversible: bool,
    /// Whether it begins although windows are shut or somebody froze deployments.
    pub outside_window: bool,
    /// How long to wait for a project that is in use.
    pub wait: Wait,
    /// Who asks.
    pub actor: Actor,
    /// What set it off.
    pub trigger: Trigger,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// What was asked for is live already.
    Unchanged(KnownRelease),
    /// A deployment was carried out, to one end or another.
    Closed(Box<Deployment>),
    /// A deployment waits for a person.
    Parked(Box<Deployment>),
    /// The daemon could not open a deployment.
    NotOpened(Box<Failure>),
}

impl Wish {
    /// Wishes for the newest commit, in person.
    pub(crate) fn by_hand(app: &App) -> Self {
        Self {
            rev: None,
            reason: None,
            allow_older: false,
            again: false,
            irreversible: false,
            outside_window: false,
            wait: Wait::DEFAULT,
            actor: app.actor(),
            trigger: Trigger::Manual,
        }
    }
}

impl Ending {
    /// Returns the exit code a command ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Unchanged(_) => Exit::Done,
            Self::Parked(_) => Exit::Parked,
            Self::NotOpened(failure) => failure.class.into(),
            Self::Closed(deployment) => deployment.outcome.as_ref().map_or(Exit::Fault, Exit::from),
        }
    }
}

/// Deploys what is wished for, unless it is live already.
///
/// # Errors
///
/// It did not come to a deployment, or the engine had to stop in one.
pub(crate) async fn deploy(app: &App, site: &Site, wish: &Wish) -> Result<Ending, CliError> {
    let commit = match look(app, site, wish).await? {
        Look::Live(live) => return Ok(Ending::Unchanged(*live)),
        Look::New(commit) => commit,
    };
    let held = lease::hold(app, &site.name, site.seen(), wish.wait).await?;
    let ending = async {
        let commit = match held.waited {
            true => site.source()?.resolve(&site.want(wish.rev.as_deref()), &looking(app)).await?,
            false => commit,
        };
        deploy_held(app, site, wish, &commit, &held).await
    }
    .await;
    held.give_back().await;
    ending
}

/// What a look at the source comes to.
pub(crate) enum Look {
    /// What was asked for is live already.
    Live(Box<KnownRelease>),
    /// This is what there is to deploy.
    New(CommitId),
}

/// Finds out what is asked for. Most often nothing is new, and that takes one look and no lease.
///
/// # Errors
///
/// The source or the target cannot be read.
pub(crate) async fn look(app: &App, site: &Site, wish: &Wish) -> Result<Look, CliError> {
    let want = site.want(wish.rev.as_deref());
    let commit = site.source()?.resolve(&want, &looking(app)).await?;
    if !wish.again
        && view::open_deployments(app, &site.name).await?.is_empty()
        && let Some(live) = survey(app, site).await?.already_live(site, &commit)
    {
        return Ok(Look::Live(Box::new(live.clone())));
    }
    Ok(Look::New(commit))
}

async fn deploy_held(
    app: &App,
    site: &Site,
    wish: &Wish,
    commit: &CommitId,
    held: &Held,
) -> Result<Ending, CliError> {
    settling::settle_held(app, site, held).await?;
    refuse_if_waiting(app, site).await?;
    if !wish.outside_window {
        windows::refuse_if_shut(app, site).await?;
    }
    let situation = survey(app, site).await?;
    let revision = fetch(app, site, commit, &situation, held).await?;
    if let Some(live) = situation.already_live(site, &revision.commit).filter(|_| !wish.again) {
        return Ok(Ending::Unchanged(live.clone()));
    }
    if let Some(live) = situation.live_release.as_ref().filter(|_| wish.trigger == Trigger::Poll)
        && !is_of_interest(site, &situation, held, &revision).await?
    {
        return Ok(Ending::Unchanged(live.clone()));
    }
    if let Some(seconds) = situation.clock_behind {
        app.ui.warn(format!("the clock is {seconds} s behind what was recorded before [cli/clock-behind]"));
    }
    let permit = Permit::new(held.session.fence(), held.session.cancellation().clone());
    let order = order_facts(site, &permit, &revision.commit, &situation, wish.allow_older).await?;
    let highest = situation.present.iter().map(|it| it.release).max().unwrap_or_default();
    let number = app.store.reserve_release(&site.name, highest).await?;
    let release = Release { project: site.name.clone(), number, revision };
    let lifted = lifted(site, &release.revision.commit, &situation);
    let irreversible = wish.irreversible || is_irreversible(site, &situation, &permit, &release).await?;
    let plan = plan_deploy(app, site, &situation, &release, order, irreversible).await?;
    let request = Request {
        format: eeveon_core::FORMAT,
        kind: Kind::Deploy,
        live: vec![(site.target.name.clone(), situation.live.clone())],
        previous: situation.live_commit().cloned(),
        actor: wish.actor.clone(),
        trigger: wish.trigger,
        reason: wish.reason.clone(),
        config: site.config.digest(),
        quarantine: Quarantining {
            on_success: Vec::new(),
            // What serves has proven itself; then something else is to blame.
            own_when_reverted: site.config.rollback.quarantine
                && situation.live_commit() != Some(&release.revision.commit),
            lift_on_success: lifted,
        },
        irreversible,
        settings: site.settings.to_value(),
        release,
    };
    carry_out(app, site, held, request, plan).await
}

/// Brings an earlier release back. The situation is of when the lease was held already.
///
/// # Errors
///
/// As [`deploy`].
pub(crate) async fn roll_back(
    app: &App,
    site: &Site,
    held: &Held,
    situation: &Situation,
    to: &KnownRelease,
    actor: Actor,
    reason: Option<String>,
) -> Result<Ending, CliError> {
    // What was in force when the release was deployed is in force again.
    let site = &match Settings::recorded(app, to).await? {
        Some(settings) => site.with(app, settings)?,
        None => site.clone(),
    };
    let steps = ProjectSteps {
        site,
        release: &to.release,
        settings: &site.settings,
        old: old(app, site, situation).await?,
        order: None,
        quarantine: quarantine_facts(situation, &to.release),
        on_failure: site.config.rollback.on_failure,
    };
    let facts = Facts {
        kind: Kind::Rollback,
        release: to.release.clone(),
        targets: vec![TargetFacts {
            target: site.target.clone(),
            live: situation.live.clone(),
            outworn: Vec::new(),
        }],
    };
    let plan = strategy::symlink(&facts, &steps);
    let left = situation.live_release.as_ref().filter(|live| live.number() > to.number());
    let left = left.map(|it| &it.release.revision.commit);
    let put_aside = quarantine::left_by_rollback(left, &to.release.revision.commit);
    let request = Request {
        format: eeveon_core::FORMAT,
        kind: Kind::Rollback,
        live: vec![(site.target.name.clone(), situation.live.clone())],
        previous: situation.live_commit().cloned(),
        actor,
        trigger: Trigger::Manual,
        reason,
        config: to.config.clone(),
        quarantine: Quarantining {
            on_success: if site.config.rollback.quarantine { put_aside } else { Vec::new() },
            ..Quarantining::default()
        },
        irreversible: false,
        settings: site.settings.to_value(),
        release: to.release.clone(),
    };
    carry_out(app, site, held, request, plan).await
}

/// Refuses to begin anything while a deployment waits for a person: it may be half way.
///
/// # Errors
///
/// `cli/waiting`.
pub(crate) async fn refuse_if_waiting(app: &App, site: &Site) -> Result<(), CliError> {
    match view::open_deployments(app, &site.name).await?.first() {
        Some(open) => Err(CliError::Waiting { project: site.name.clone(), deployment: open.id }),
        None => Ok(()),
    }
}

/// Returns a permit for looking only: it stops when the command is interrupted.
pub(crate) fn looking(app: &App) -> Permit {
    Permit::new(eeveon_core::Fence(0), app.interrupted.clone())
}

/// Brings a commit into the mirror, with a line for people.
///
/// # Errors
///
/// It cannot be had.
pub(crate) async fn fetch(
    app: &App,
    site: &Site,
    commit: &CommitId,
    situation: &Situation,
    held: &Held,
) -> Result<Revision, CliError> {
    let activity = Activity::begin(&app.ui, "fetch");
    let permit = Permit::new(held.session.fence(), held.session.cancellation().clone());
    let permit = permit.reporting(activity.reporter());
    let began = Instant::now();
    match site.source()?.fetch(commit, situation.live_commit(), &permit).await {
        Ok(fetched) => {
            let ms = began.elapsed().as_secs_f64() * 1e3;
            tracing::info!(project = %site.name, %commit, bytes = fetched.bytes, ms, "fetched");
            let (commit, subject) =
                (fetched.revision.commit.short(), fetched.revision.subject.for_terminal());
            let bytes = match fetched.bytes {
                0 => String::new(),
                bytes => format!(", {}", render::size(bytes)),
            };
            activity.end(&format!("{commit} {subject}{bytes}"));
            Ok(fetched.revision)
        }
        Err(_) if app.interrupted.is_cancelled() => Err(CliError::Interrupted),
        Err(error) => Err(error.into()),
    }
}

/// Tells whether `release` changes one of the paths that the operator declared irreversible.
///
/// # Errors
///
/// The source or the target cannot be read.
pub(crate) async fn is_irreversible(
    site: &Site,
    situation: &Situation,
    permit: &Permit,
    release: &Release,
) -> Result<bool, CliError> {
    let paths = &site.config.rollback.irreversible;
    if paths.is_empty() || situation.live.is_none() {
        return Ok(false);
    }
    let changes = site.host.estimate(permit, release).await?.changes;
    Ok(paths.iter().any(|path| changes.touch(path.trim_end_matches('/').as_bytes())))
}

/// Tells whether a commit that a look found changes anything that is to deploy by itself.
async fn is_of_interest(
    site: &Site,
    situation: &Situation,
    held: &Held,
    revision: &Revision,
) -> Result<bool, CliError> {
    let paths = &site.config.webhook.paths;
    if paths.is_empty() {
        return Ok(true);
    }
    // Only to be compared with what serves.
    let number = situation.known.first().map_or(0, |it| it.number().0).saturating_add(1);
    let release =
        Release { project: site.name.clone(), number: ReleaseNumber(number), revision: revision.clone() };
    let permit = Permit::new(held.session.fence(), held.session.cancellation().clone());
    let changes = site.host.estimate(&permit, &release).await?.changes;
    let dir = site.config.source.dir.trim_matches('/');
    let mut changed = changes.paths().map(|path| {
        let path = String::from_utf8_lossy(path);
        if dir.is_empty() { path.into_owned() } else { format!("{dir}/{path}") }
    });
    Ok(changed.any(|path| forge::selects(paths, &path)))
}

/// Makes the plan of a deploy.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn plan_deploy(
    app: &App,
    site: &Site,
    situation: &Situation,
    release: &Release,
    order: OrderFacts,
    irreversible: bool,
) -> Result<Plan, CliError> {
    let steps = ProjectSteps {
        site,
        release,
        settings: &site.settings,
        old: old(app, site, situation).await?,
        order: Some(order),
        quarantine: quarantine_facts(situation, release),
        on_failure: match (site.config.rollback.on_failure, irreversible) {
            // What cannot be gone back from is not gone back from without a person's word.
            (OnFailure::Auto, true) => OnFailure::Ask,
            (policy, _) => policy,
        },
    };
    let facts = Facts {
        kind: Kind::Deploy,
        release: release.clone(),
        targets: vec![TargetFacts {
            target: site.target.clone(),
            live: situation.live.clone(),
            outworn: outworn(site, situation, Some(release.number)),
        }],
    };
    Ok(strategy::symlink(&facts, &steps))
}

/// Returns what serves now, and what it was deployed with.
async fn old<'a>(app: &App, site: &Site, situation: &'a Situation) -> Result<Option<Old<'a>>, CliError> {
    let Some(live) = &situation.live_release else { return Ok(None) };
    let settings = Settings::recorded(app, live).await?.unwrap_or_else(|| site.settings.clone());
    Ok(Some(Old { commit: &live.release.revision.commit, settings }))
}

/// Only what concerns the release: the facts are written into the plan.
fn quarantine_facts(situation: &Situation, release: &Release) -> QuarantineFacts {
    let candidate = release.revision.commit.clone();
    let concerned = situation.put_aside.iter().filter(|it| it.commit == candidate);
    let put_aside =
        concerned.map(|it| PutAside { commit: it.commit.clone(), reason: it.reason.clone(), since: it.at });
    QuarantineFacts { put_aside: put_aside.collect(), candidate }
}

/// Opens a deployment and carries its plan out.
async fn carry_out(
    app: &App,
    site: &Site,
    held: &Held,
    request: Request,
    plan: Plan,
) -> Result<Ending, CliError> {
    let id = app.store.reserve_deployment().await?;
    held.works_on(id);
    app.opens(id);
    let feed = Feed::default();
    let follower = render::watch(app.ui, &feed);
    let engine = site.engine(app, held, &feed);
    let commit = request.release.revision.commit.clone();
    let number = request.release.number;
    if request.kind == Kind::Deploy {
        // What repairs the release later must not be lost. Going back needs no more than is there.
        site.mirror.keep(number, &commit)?;
    }
    let result = engine.deploy(id, request, plan, &held.session).await;
    follower.finish().await;
    let ending = ended(app, id, result.map(|_| ())).await?;
    forget_removed(app, site).await;
    Ok(ending)
}

/// Sums up how a run of the engine ended.
///
/// # Errors
///
/// It could not go on.
pub(crate) async fn ended(
    app: &App,
    id: DeploymentId,
    result: Result<(), EngineError>,
) -> Result<Ending, CliError> {
    match result {
        Ok(()) => Ok(Ending::Closed(Box::new(view::deployment(app, id).await?))),
        Err(EngineError::Parked(_)) => Ok(Ending::Parked(Box::new(view::deployment(app, id).await?))),
        Err(error) => Err(error.into()),
    }
}

/// Lets go of the commits of releases that no longer lie on the target. They are only kept to
/// repair those.
async fn forget_removed(app: &App, site: &Site) {
    let Ok(present) = site.present().await else { return };
    let present: Vec<ReleaseNumber> = present.into_iter().map(|it| it.release).collect();
    if let Err(error) = site.mirror.keep_only(&present) {
        app.ui.warn(format!("commits of removed releases could not be let go: {error}"));
    }
}
