//! How the end of a deployment is told: one verdict for people and scripts, made from what the
//! journal says.

use eeveon_build::StepLog;
use eeveon_core::{
    CommitId, DeploymentId, Outcome, ProjectName, ReleaseNumber, Seq, State, StepKey, Untrusted,
};
use eeveon_store::Deployment;
use serde::Serialize;

use crate::{
    App, CliError, Exit,
    compose::Site,
    deploying::Ending,
    render::{Line, duration},
    view::{self, DeploymentRow},
};

/// Lines of a failing command's output that are shown with the failure.
const TAIL: usize = 20;

#[derive(Serialize)]
struct Unchanged<'a> {
    project: &'a ProjectName,
    release: ReleaseNumber,
    revision: &'a CommitId,
    outcome: &'static str,
}

/// Tells how a deployment ended and returns the exit code that says the same.
///
/// # Errors
///
/// Standard output cannot be written.
pub(crate) async fn report(app: &App, site: &Site, ending: Ending) -> Result<Exit, CliError> {
    let exit = ending.exit();
    let current = site.host.current_path();
    match ending {
        Ending::Unchanged(live) => {
            let revision = &live.release.revision;
            if app.ui.json {
                let (project, release) = (&site.name, live.number());
                app.ui.json(&Unchanged {
                    project,
                    release,
                    revision: &revision.commit,
                    outcome: "unchanged",
                })?;
            } else {
                let text = format!(
                    "nothing changed: release {} ({}) is live at ",
                    live.number(),
                    revision.commit.short()
                );
                app.ui.out(
                    Line::default()
                        .strong(site.name.as_str())
                        .plain(": ")
                        .plain(text)
                        .plain(current.display().to_string()),
                )?;
            }
        }
        Ending::NotOpened(failure) => {
            app.ui.failure("", &failure, &view::serving(app, site).await, &[]);
        }
        Ending::Closed(deployment) | Ending::Parked(deployment) => {
            if deployment.outcome == Some(Outcome::Succeeded) {
                if !app.ui.json {
                    succeeded(app, site, &deployment)?;
                }
            } else {
                failed(app, site, &deployment).await?;
            }
            if app.ui.json {
                app.ui.json(&DeploymentRow::from(*deployment))?;
            }
        }
    }
    Ok(exit)
}

fn succeeded(app: &App, site: &Site, deployment: &Deployment) -> Result<(), CliError> {
    let release = &deployment.release;
    let took =
        deployment.finished_at.and_then(|end| end.duration_since(deployment.started_at).try_into().ok());
    let line = Line::default()
        .strong(site.name.as_str())
        .plain(": ")
        .good(format!("release {} is live", release.number))
        .plain(format!(" at {}", site.host.current_path().display()))
        .dim(took.map(|took| format!("  ({})", duration(took))).unwrap_or_default());
    app.ui.out(line)?;
    let subject = release.revision.subject.for_terminal();
    app.ui.note(Line::default().dim(format!("  {} {subject}", release.revision.commit.short())));
    Ok(())
}

/// Tells of a deployment that did not succeed: what failed, why, what serves now, what to do next.
///
/// # Errors
///
/// None so far; the signature leaves room.
pub(crate) async fn failed(app: &App, site: &Site, deployment: &Deployment) -> Result<(), CliError> {
    let serving = view::serving(app, site).await;
    let outcome = deployment.outcome.as_ref();
    let failure = outcome.and_then(Outcome::failure);
    let parked = deployment.parked.as_ref();
    let context = match (outcome, parked) {
        (None, Some((step, _))) => {
            format!("deployment {} waits for a person at `{step}`, which failed", deployment.id)
        }
        (Some(Outcome::Refused { .. }), _) => format!("deployment {} was refused", deployment.id),
        (Some(Outcome::Reverted { served: true, .. }), _) => {
            format!("deployment {} failed after the switch and was rolled back", deployment.id)
        }
        _ => format!("deployment {} failed", deployment.id),
    };
    let failure = failure.or(parked.and_then(|(_, failure)| failure.as_ref()));
    match failure {
        Some(failure) => {
            let output = last_output(app, deployment).await;
            app.ui.failure(&context, failure, &serving, &output);
        }
        None => {
            let text = match parked {
                Some(_) => context,
                None => format!("deployment {} was cancelled and taken back", deployment.id),
            };
            app.ui.err(Line::default().warn(text));
            if let Some(sentence) = serving.sentence() {
                app.ui.err(Line::default().dim("  now   ").plain(sentence));
            }
        }
    }
    if app.ui.json {
        return Ok(());
    }
    if let (Some((step, _)), None) = (parked, outcome) {
        let next = match is_question(app, deployment.id, step).await {
            Some(true) => format!(
                "`ee-deploy resume {0}` looks again, `ee-deploy resume {0} --skip` keeps the release, `ee-deploy cancel {0}` goes back",
                deployment.id
            ),
            Some(false) => format!(
                "`ee-deploy resume {0}` looks again, `ee-deploy resume {0} --skip` keeps the release",
                deployment.id
            ),
            None => format!(
                "`ee-deploy resume {0}` tries again, `ee-deploy resume {0} --skip` leaves the step out",
                deployment.id
            ),
        };
        app.ui.err(Line::default().dim("  next  ").plain(next));
    }
    if deployment.undone.iter().any(|step| step.as_str().starts_with("verify/")) {
        app.ui.err(Line::default().dim("  now   ").plain("what serves again has passed its checks"));
    }
    Ok(())
}

/// Tells, when a check on the way forward failed, whether going back is still possible.
async fn is_question(app: &App, id: DeploymentId, step: &StepKey) -> Option<bool> {
    let journal = app.store.read(id, Seq::default()).await.ok()?;
    let state = State::of(journal.iter().map(|entry| &entry.record)).ok()?;
    let action = state.plan.step(step)?.action.as_str();
    let is_asked = matches!(action, "health.gate" | "health.watch" | "build.command");
    (is_asked && !state.unwinding).then(|| state.can_turn_back())
}

/// Returns the end of what the failing step printed, if it printed anything.
pub(crate) async fn last_output(app: &App, deployment: &Deployment) -> Vec<Untrusted> {
    let Ok(entries) = app.store.read(deployment.id, eeveon_core::Seq::default()).await else {
        return Vec::new();
    };
    let failed = entries.iter().rev().find_map(|entry| match &entry.record {
        eeveon_core::Record::Failed { step, .. } | eeveon_core::Record::Parked { step, .. } => {
            Some(step.clone())
        }
        _ => None,
    });
    let Some(step) = failed else { return Vec::new() };
    let log = StepLog::new(&app.home.logs(), deployment.id, &step);
    eeveon_build::log::tail(&log.path(), TAIL).unwrap_or_default()
}
