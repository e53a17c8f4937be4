//! Every gate that stands before a deploy, and its state: for `plan` and `why`.

use eeveon_core::{Deployer as _, Permit, Plan, Release, StepSpec};
use eeveon_rollback::{GateState, OrderFacts, OrderGate, QuarantineFacts, QuarantineGate};
use eeveon_store::Liveness;
use serde::de::DeserializeOwned;

use crate::{App, CliError, compose::Site, lease, render::Line, situation::Situation, view};

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
    let mut states = vec![lease_gate(app, site).await?, waiting_gate(app, site).await?];
    for step in plan.steps() {
        states.extend(order_or_quarantine(step));
    }
    let ready = site.host.ready(permit, &site.target, release).await;
    states.push(match ready {
        Ok(()) => gate("target", true, "ours, writable, with enough space and every shared file"),
        Err(error) => gate("target", false, &error.to_string()),
    });
    let unchanged = situation.already_live(site, &release.revision.commit);
    states.push(match unchanged {
        Some(live) => {
            gate("something new", false, &format!("release {} of this commit is live", live.number()))
        }
        None => gate("something new", true, "this commit, with this configuration, is not live"),
    });
    Ok(states)
}

/// Returns a gate's state as a line for people.
pub(crate) fn line(gate: &GateState) -> Line {
    let mark = match gate.open {
        true => Line::default().good("  open  "),
        false => Line::default().bad("  shut  "),
    };
    mark.plain(format!("{:<14}", gate.name)).plain(&gate.why)
}

fn gate(name: &str, open: bool, why: &str) -> GateState {
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
