//! Handing a request to a working daemon, and following here what becomes of it. Without a daemon the
//! command does the work itself; both leave the same history.

use std::time::Duration;

use eeveon_core::{Actor, DeploymentId, Feed, ReleaseNumber, Seq, StepError, Trigger, Untrusted};
use eeveon_daemon::{
    Answer, Ask, Cancel, Cancelled, DaemonError, End, Fate, News, Refusal, RequestId, Seen, Want,
    control::{Client, Following},
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    App, CliError,
    compose::Site,
    deploying::{self, Ending, Look, Wish},
    lease::Wait,
    render::{self, Line},
    situation, view, windows,
};

/// How often the journal of a deployment is looked at that another process carries out.
const LOOK: Duration = Duration::from_millis(50);

/// Deploys what is wished for: by the daemon if one works, here otherwise.
///
/// # Errors
///
/// As [`deploying::deploy`].
pub(crate) async fn deploy(app: &App, site: &Site, wish: &Wish) -> Result<Ending, CliError> {
    // Who does not want to wait is not put in line.
    let (Wait::For(patience), Some(client)) = (wish.wait, Client::connect(app.home.root()).await) else {
        return deploying::deploy(app, site, wish).await;
    };
    let commit = match deploying::look(app, site, wish).await? {
        Look::Live(live) => return Ok(Ending::Unchanged(*live)),
        Look::New(commit) => commit,
    };
    if !wish.outside_window {
        windows::refuse_if_shut(app, site).await?;
    }
    let want = match wish {
        Wish { rev: None, allow_older: false, again: false, irreversible: false, .. } => {
            let branch = site.config.source.branch.clone();
            Want::Newest { branch, commit: Some(commit), seen: Seen::default() }
        }
        Wish { allow_older, again, irreversible, .. } => {
            let (allow_older, again, irreversible) = (*allow_older, *again, *irreversible);
            Want::Commit { commit, allow_older, again, irreversible }
        }
    };
    let ask = Ask {
        project: site.name.clone(),
        want,
        actor: wish.actor.clone(),
        trigger: wish.trigger,
        reason: wish.reason.as_deref().map(Untrusted::from),
        outside_window: wish.outside_window,
        shared: false,
    };
    match hand_over(app, site, client, ask, patience).await? {
        Some(ending) => Ok(ending),
        None => deploying::deploy(app, site, wish).await,
    }
}

/// Lets a working daemon bring an earlier release back. Returns nothing when there is none.
///
/// # Errors
///
/// As [`deploying::roll_back`].
pub(crate) async fn roll_back(
    app: &App,
    site: &Site,
    to: ReleaseNumber,
    reason: Option<&str>,
) -> Result<Option<Ending>, CliError> {
    let (Wait::For(patience), Some(client)) = (Wait::DEFAULT, Client::connect(app.home.root()).await) else {
        return Ok(None);
    };
    let ask = Ask {
        project: site.name.clone(),
        want: Want::Rollback { to: Some(to) },
        actor: app.actor(),
        trigger: Trigger::Manual,
        reason: reason.map(Untrusted::from),
        outside_window: false,
        shared: false,
    };
    hand_over(app, site, client, ask, patience).await
}

/// Lets a working daemon see at once what was changed, and not in a few seconds.
pub(crate) async fn wake_daemon(app: &App) {
    if let Some(client) = Client::connect(app.home.root()).await
        && let Err(error) = client.reload().await
    {
        tracing::debug!(%error, "the daemon was not woken; it looks by itself");
    }
}

/// Returns nothing when the daemon took nothing, because it does not answer.
async fn hand_over(
    app: &App,
    site: &Site,
    client: Client,
    ask: Ask,
    patience: Duration,
) -> Result<Option<Ending>, CliError> {
    let actor = ask.actor.clone();
    let (request, answer, following) = match client.ask(ask).await {
        Ok(taken) => taken,
        Err(DaemonError::Gone) => {
            app.ui
                .note(Line::default().warn("  note  ").plain("the daemon does not answer; going on without"));
            return Ok(None);
        }
        Err(error) => return Err(StepError::from(error).into()),
    };
    let words = match &answer {
        Answer::Queued { position: 1 } => "the daemon does it".to_owned(),
        Answer::Queued { position } => format!("number {position} in the daemon's line"),
        Answer::Coalesced { into, .. } => format!("request {into}, which the daemon has, does the same"),
        Answer::Replaced { earlier, position } => {
            format!("number {position} in the daemon's line, in place of request {earlier}")
        }
        Answer::Refused(refusal) => return Err(StepError::from(DaemonError::Refused(*refusal)).into()),
    };
    app.ui.note(Line::default().dim("  ask   ").plain(format!("request {request}: {words}")));
    let is_ours = !matches!(answer, Answer::Coalesced { .. });
    let mut follower =
        Follower { app, site, request, is_ours, actor, following, opened: None, seen: Seq::default() };
    let feed = Feed::default();
    let shown = render::watch(app.ui, &feed);
    let end = follower.follow(&feed, Instant::now() + patience).await;
    follower.pass_on(&feed).await;
    shown.finish().await;
    follower.sum_up(end?).await.map(Some)
}

/// Follows one request.
struct Follower<'a> {
    app: &'a App,
    site: &'a Site,
    request: RequestId,
    /// Whether it is this command's own, and not one that does the same.
    is_ours: bool,
    actor: Actor,
    following: Following,
    opened: Option<DeploymentId>,
    /// The next entry of the journal to show.
    seen: Seq,
}

impl Follower<'_> {
    /// Shows what happens until the end.
    async fn follow(&mut self, feed: &Feed, patience: Instant) -> Result<End, CliError> {
        let (mut started, mut stopping) = (false, false);
        loop {
            tokio::select! {
                news = self.following.next() => match news.map_err(StepError::from)? {
                    News::Started => started = true,
                    News::Opened(deployment) => {
                        self.opened = Some(deployment);
                        self.app.opens(deployment);
                    }
                    News::Replaced { by } => {
                        let text = format!("request {by}, which is newer, does it");
                        self.app.ui.note(Line::default().dim("  ask   ").plain(text));
                        (self.request, self.is_ours) = (by, false);
                    }
                    News::Ended(end) => return Ok(end),
                },
                () = sleep(LOOK), if self.opened.is_some() => self.pass_on(feed).await,
                () = self.app.interrupted.cancelled(), if !stopping => {
                    stopping = true;
                    self.stop("interrupted").await?;
                }
                () = sleep_until(patience), if !started && !stopping && self.is_ours => {
                    stopping = true;
                    self.app.ui.note(Line::default().warn("  note  ").plain("it has waited for long enough"));
                    self.stop("waited for too long").await?;
                }
            }
        }
    }

    /// Lets the request end, unless others want the same: what has begun is taken back.
    ///
    /// # Errors
    ///
    /// `cli/goes-on`: it goes on for the others.
    async fn stop(&self, why: &str) -> Result<(), CliError> {
        let goes_on = CliError::GoesOn { request: self.request };
        if !self.is_ours {
            return Err(goes_on);
        }
        let (request, by, why) = (self.request, self.actor.clone(), Some(why.to_owned()));
        let Some(client) = Client::connect(self.app.home.root()).await else { return Ok(()) };
        match client.cancel(Cancel { request, by, why, unless_shared: true }).await {
            Ok(Cancelled::Shared) => Err(goes_on),
            // One that is over is told of as such.
            Ok(Cancelled::Cancelled | Cancelled::Unknown) => Ok(()),
            Err(error) => Err(StepError::from(error).into()),
        }
    }

    /// Hands what the journal has to whoever shows it.
    async fn pass_on(&mut self, feed: &Feed) {
        let Some(deployment) = self.opened else { return };
        match self.app.store.read(deployment, self.seen).await {
            Ok(entries) => {
                for entry in entries {
                    self.seen = entry.seq.next();
                    feed.publish(entry);
                }
            }
            Err(error) => tracing::warn!(%error, "the journal could not be followed"),
        }
    }

    async fn sum_up(&self, end: End) -> Result<Ending, CliError> {
        match end.fate {
            Fate::Cancelled => return Err(CliError::Interrupted),
            Fate::SetAside { .. } => {
                let refusal = Refusal::SetAside { request: self.request };
                return Err(StepError::from(DaemonError::Refused(refusal)).into());
            }
            Fate::Ended | Fate::Replaced { .. } => {}
        }
        let Some(done) = end.done else { return Err(StepError::from(DaemonError::Gone).into()) };
        match (done.deployment, done.failure, done.commit) {
            (Some(id), ..) => {
                let deployment = Box::new(view::deployment(self.app, id).await?);
                Ok(if deployment.outcome.is_some() {
                    Ending::Closed(deployment)
                } else {
                    Ending::Parked(deployment)
                })
            }
            (None, Some(failure), _) => Ok(Ending::NotOpened(Box::new(failure))),
            (None, None, commit) => {
                let situation = situation::survey(self.app, self.site).await?;
                let live = situation.live_release.filter(|live| {
                    commit.as_ref().is_none_or(|commit| *commit == live.release.revision.commit)
                });
                live.map(Ending::Unchanged).ok_or_else(|| StepError::from(DaemonError::Gone).into())
            }
        }
    }
}
