//! Every gate that stands before a deploy, and its state: for `plan` and `why`.

use eeveon_core::{CommitId, Deployer as _, Permit, Plan, Release, StepError, StepSpec};
use eeveon_daemon::{Follow, Limits, Overview, Saved, State, control::Client};
use eeveon_rollback::{GateState, OrderFacts, OrderGate, QuarantineFacts, QuarantineGate};
use eeveon_store::Liveness;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::{
    App, CliError,
    commands::queue,
    compose::Site,
    lease,
    render::{Line, age},
    situation::Situation,
    view, windows,
};

/// Whether the project deploys by itself at all.
const AUTOMATIC: &str = "automatic";

/// Whether another project's deployment runs alone.
const ALONE: &str = "alone";

/// Whether something is tried again later.
const RETRY: &str = "retry";

/// Whether another project comes first.
const DEPENDENCY: &str = "dependency";

/// Returns the state of every gate a deploy of `release` by `plan` would meet.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn states(
    app: &App,
    site: &Site,
    situation: &Situation,
    permit: &Permit,
    release: &Release,
    plan: &Plan,
) -> Result<Vec<GateState>, CliError> {
    let commit = &release.revision.commit;
    let mut states = of_project(app, site).await?;
    states.extend(of_commit(app, site, situation, commit).await?);
    states.extend(of_plan(site, permit, release, plan).await);
    Ok(states)
}

/// Returns the gates that stand before any deploy of the project, whatever its newest commit is.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn of_project(app: &App, site: &Site) -> Result<Vec<GateState>, CliError> {
    Ok(vec![
        lease_gate(app, site).await?,
        waiting_gate(app, site).await?,
        automatic_gate(app, site).await?,
        window_gate(app, site).await,
        retry_gate(app, site).await,
        alone_gate(app, site).await,
    ])
}

/// Returns the gates that a commit meets and that can be told without fetching it.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn of_commit(
    app: &App,
    site: &Site,
    situation: &Situation,
    commit: &CommitId,
) -> Result<Vec<GateState>, CliError> {
    let mut states = vec![queue_gate(app, site, Some(commit)).await?];
    states.extend(dependency_gates(app, site, commit).await?);
    states.push(match situation.already_live(site, commit) {
        Some(live) => {
            gate("something new", false, &format!("release {} of this commit is live", live.number()))
        }
        None => gate("something new", true, "this commit, with this configuration, is not live"),
    });
    Ok(states)
}

/// Returns the gates that a plan has, and those of the place it is for.
async fn of_plan(site: &Site, permit: &Permit, release: &Release, plan: &Plan) -> Vec<GateState> {
    let mut states = Vec::new();
    for step in plan.steps() {
        states.extend(order_or_quarantine(step));
    }
    let ready = site.host.ready(permit, &site.target, release).await;
    let (mut disk, mut target) =
        (gate("disk", true, "enough space"), gate("target", true, "ours, writable, with every shared file"));
    if let Err(error) = ready {
        let shut = if error.diagnosis().code() == "host/disk-full" { &mut disk } else { &mut target };
        *shut = gate(&shut.name, false, &error.to_string());
    }
    states.extend([disk, target]);
    states
}

/// Returns a gate's state as a line for people.
pub(crate) fn line(gate: &GateState) -> Line {
    let mark = match gate.open {
        true => Line::default().good("  open  "),
        false => Line::default().bad("  shut  "),
    };
    mark.plain(format!("{:<14}", gate.name)).plain(&gate.why)
}

pub(crate) fn gate(name: &str, open: bool, why: &str) -> GateState {
    GateState { name: name.to_owned(), open, why: why.to_owned() }
}

fn named(name: &str, state: GateState) -> GateState {
    GateState { name: name.to_owned(), ..state }
}

async fn lease_gate(app: &App, site: &Site) -> Result<GateState, CliError> {
    let holder = app.store.holder(&lease::name_of(&site.name)).await?;
    // Ourselves we do not stand in the way of.
    let other = holder.filter(|it| it.owner != app.me && it.remaining_ms > 0);
    let other =
        other.map(|it| (it.owner.liveness(&app.me), it)).filter(|(state, _)| *state != Liveness::Dead);
    Ok(match other {
        Some((state, holder)) => gate("lease", false, &lease::who(&holder, state)),
        None => gate("lease", true, "no other process works on the project"),
    })
}

async fn waiting_gate(app: &App, site: &Site) -> Result<GateState, CliError> {
    let open = view::open_deployments(app, &site.name).await?;
    Ok(match open.iter().find(|it| it.parked.is_some()) {
        Some(parked) => {
            gate("person", false, &format!("deployment {} waits for one; see `ee-deploy why {0}`", parked.id))
        }
        None => gate("person", true, "no deployment waits for one"),
    })
}

async fn automatic_gate(app: &App, site: &Site) -> Result<GateState, CliError> {
    Ok(match app.store.automatic(&site.name).await? {
        Some(off) => {
            let reason = off.reason.map(|it| format!(": {it}")).unwrap_or_default();
            let since = age(off.at, Timestamp::now());
            gate(AUTOMATIC, false, &format!("off, by {} {since}{reason}", off.by.label().for_terminal()))
        }
        None => gate(AUTOMATIC, true, "on, as long as a daemon works"),
    })
}

async fn window_gate(app: &App, site: &Site) -> GateState {
    let expected = windows::expected(app, &site.name).await;
    let state = windows::of(app, site).await.map(|it| it.may_start(Timestamp::now(), expected));
    match state {
        Ok(State::Open) => gate("window", true, "nothing is frozen, and no window is shut"),
        Ok(State::Shut(shut)) => gate("window", false, &shut.to_string()),
        Err(error) => gate("window", false, &error.to_string()),
    }
}

/// Whether a working daemon waits before it tries something again.
async fn retry_gate(app: &App, site: &Site) -> GateState {
    let overview = match Client::connect(app.home.root()).await {
        Some(client) => client.overview().await.unwrap_or_default(),
        None => Overview::default(),
    };
    match overview.paused.into_iter().find(|(name, _)| *name == site.name) {
        Some((_, why)) => gate(RETRY, false, &why),
        None => gate(RETRY, true, "nothing waits to be tried again"),
    }
}

/// Whether a working daemon begins nothing because a deployment runs alone, or is about to.
async fn alone_gate(app: &App, site: &Site) -> GateState {
    match queue::Alone::of(app).await {
        Some(alone) => gate(ALONE, alone.runs && alone.project == site.name, &alone.words()),
        None => gate(ALONE, true, "no deployment runs alone because its process died twice"),
    }
}

pub(crate) async fn queue_gate(
    app: &App,
    site: &Site,
    commit: Option<&CommitId>,
) -> Result<GateState, CliError> {
    let requests = queue::rows(app, Some(&site.name)).await?;
    let find = |state| requests.iter().find(|it| it.state == state).map(queue::Row::words);
    // For any other commit it does not matter.
    let aside =
        requests.iter().find(|it| it.state == "set_aside" && commit.is_some() && it.want.commit() == commit);
    let aside = aside.map(queue::Row::words);
    Ok(match (aside, find("running").or(find("interrupted")), find("waiting")) {
        (Some(aside), ..) => {
            let name = &site.name;
            gate("queue", false, &format!("{aside} was set aside: `ee-deploy queue lift {name}`"))
        }
        (None, Some(running), _) => gate("queue", true, &format!("{running} runs")),
        (None, None, Some(waiting)) => gate("queue", true, &format!("{waiting} waits")),
        (None, None, None) => gate("queue", true, "nothing waits"),
    })
}

/// What other projects have to do with it.
async fn dependency_gates(app: &App, site: &Site, commit: &CommitId) -> Result<Vec<GateState>, CliError> {
    if site.config.after.is_empty() {
        return Ok(Vec::new());
    }
    let saved = Saved::load(&*app.store, Limits::default()).await.map_err(StepError::from)?;
    let gates = site.config.after.iter().map(|after| {
        let name = &after.project;
        match after.on {
            Follow::AnySuccess => {
                gate(DEPENDENCY, true, &format!("deploys also whenever {name} was deployed"))
            }
            Follow::SameCommit if saved.progress.has_deployed(name, commit) => {
                gate(DEPENDENCY, true, &format!("{name} has deployed this commit"))
            }
            Follow::SameCommit => gate(DEPENDENCY, false, &format!("{name} has not deployed this commit")),
        }
    });
    Ok(gates.collect())
}

/// Tells whether a gate only keeps a project from deploying by itself; commands pass it.
pub(crate) fn is_for_triggers(gate: &GateState) -> bool {
    [AUTOMATIC, DEPENDENCY, RETRY].contains(&gate.name.as_str())
}

fn order_or_quarantine(step: &StepSpec) -> Option<GateState> {
    fn params<T: DeserializeOwned>(step: &StepSpec) -> Option<T> {
        T::deserialize(&step.params).ok()
    }
    use eeveon_core::Action;
    match step.action.as_str() {
        OrderGate::NAME => params::<OrderFacts>(step).map(|facts| named("order", facts.state())),
        QuarantineGate::NAME => {
            params::<QuarantineFacts>(step).map(|facts| named("quarantine", facts.state()))
        }
        _ => None,
    }
}
