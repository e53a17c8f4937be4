//! What keeps the daemon from deploying by itself before there is a deployment, told to people. No journal
//! has it; what a person asked for by hand tells that person.

use eeveon_core::{Actor, Class, CommitId, Diagnose as _, Failure, ProjectName, Retry, Stage, Trigger};
use eeveon_daemon::{Courier, DaemonError, Doing, Done, Start, Trouble};
use eeveon_notify::{NotStarted, Serving};
use jiff::Timestamp;

use crate::{App, CliError, compose::Site, view};

/// What a deployment only waits for: it begins by itself when the window opens.
const WAITS: &str = "daemon/window-shut";

/// What a forge told of too early, or took back: the next look sees what there is.
const TOO_EARLY: &str = "cli/not-shown";

/// Takes note of whether what a project's file names could be read: nothing is deployed without.
pub(crate) async fn after_reading(
    app: &App,
    courier: &Courier,
    project: &ProjectName,
    failed: Option<&DaemonError>,
) {
    let Some(error) = failed else { return courier.is_well(project, Doing::Reading) };
    let asked = Asked { project, actor: &Actor::Engine, trigger: Trigger::Poll, commit: None };
    let failure = Failure::of(error, Stage::Admit);
    tell(app, courier, Doing::Reading, false, asked, failure).await;
}

/// Takes note of how a look at a repository went.
pub(crate) async fn after_look(
    app: &App,
    courier: &Courier,
    project: &ProjectName,
    failed: Option<&CliError>,
) {
    let Some(error) = failed else { return courier.is_well(project, Doing::Looking) };
    let may_pass = error.retry() == Retry::Later || error.class() == Class::Unreachable;
    let asked = Asked { project, actor: &Actor::Engine, trigger: Trigger::Poll, commit: None };
    tell(app, courier, Doing::Looking, may_pass, asked, error.failure()).await;
}

/// Takes note of how carrying out a request went.
pub(crate) async fn after_request(app: &App, courier: &Courier, start: &Start, done: &Done) {
    let ask = &start.ask;
    match &done.failure {
        None => courier.is_well(&ask.project, Doing::Deploying),
        Some(_) if ask.trigger == Trigger::Manual => {}
        Some(failure) if [WAITS, TOO_EARLY].contains(&failure.code.as_str()) => {}
        Some(failure) => {
            let commit = done.commit.as_ref().or(ask.want.commit());
            let asked = Asked { project: &ask.project, actor: &ask.actor, trigger: ask.trigger, commit };
            tell(app, courier, Doing::Deploying, done.again, asked, failure.clone()).await;
        }
    }
}

/// Who asked for what.
struct Asked<'a> {
    project: &'a ProjectName,
    actor: &'a Actor,
    trigger: Trigger,
    commit: Option<&'a CommitId>,
}

async fn tell(
    app: &App,
    courier: &Courier,
    doing: Doing,
    may_pass: bool,
    asked: Asked<'_>,
    failure: Failure,
) {
    let Asked { project, actor, trigger, commit } = asked;
    let told = async {
        let what = NotStarted {
            project: project.clone(),
            actor: actor.label(),
            trigger,
            commit: commit.cloned(),
            failure,
            serving: serving(app, project).await?,
            at: Timestamp::now(),
        };
        Ok::<_, CliError>(courier.trouble(Trouble { doing, may_pass, what }).await?)
    };
    if let Err(error) = told.await {
        tracing::error!(%project, %error, "what keeps it from being deployed could not be told");
    }
}

/// Returns what serves: as it is, or where nobody can look, as it was recorded.
async fn serving(app: &App, project: &ProjectName) -> Result<Serving, CliError> {
    let look = async { Site::open(app, project).await?.live().await };
    let (release, revision) = match look.await {
        Ok(None) => return Ok(Serving::Nothing),
        Ok(Some(live)) => {
            let releases = app.store.releases(project).await?;
            let known = view::known(&releases, live.release);
            (live.release, known.map(|it| it.release.revision.commit.clone()))
        }
        Err(_) => match view::recorded_live(app, project).await? {
            None => return Ok(Serving::Nothing),
            Some(it) => (it.release.number, Some(it.release.revision.commit)),
        },
    };
    Ok(Serving::Release { release, revision })
}
