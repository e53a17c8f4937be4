//! What a plan is made from: what is live, what there is, what was put aside, how commits stand to
//! each other, what is no longer needed. Looks, and changes nothing but what the mirror holds.

use eeveon_core::{CommitId, DeploymentId, Live, Permit, Present, ReleaseNumber};
use eeveon_rollback::{
    self as rollback, Candidates, Kept, OrderFacts, Parents, Policy, Roles, Standing, Verdict,
    gates::Compared, quarantine,
};
use eeveon_store::{DeploymentFilter, KnownRelease, Quarantined, ReleaseStatus};
use jiff::Timestamp;

use crate::{App, CliError, compose::Site, view};

/// What a plan is made from.
#[derive(Debug)]
pub(crate) struct Situation {
    /// What serves, on the target.
    pub live: Option<Live>,
    /// The same, as the store knows it.
    pub live_release: Option<KnownRelease>,
    /// Every release ever made, newest first.
    pub known: Vec<KnownRelease>,
    /// What lies on the target.
    pub present: Vec<Present>,
    /// Commits put aside.
    pub put_aside: Vec<Quarantined>,
    /// By how many seconds the clock is behind what was recorded, if it is.
    pub clock_behind: Option<i64>,
    /// What each successful deployment made serve, oldest first.
    pub served: Vec<(DeploymentId, ReleaseNumber)>,
}

impl Situation {
    /// Returns the commit that serves.
    pub(crate) fn live_commit(&self) -> Option<&CommitId> {
        self.live_release.as_ref().map(|it| &it.release.revision.commit)
    }

    /// Returns the live release if it is of `commit` and made with the present configuration.
    pub(crate) fn already_live(&self, site: &Site, commit: &CommitId) -> Option<&KnownRelease> {
        let live = self.live_release.as_ref()?;
        (live.release.revision.commit == *commit && live.config == site.config.digest()).then_some(live)
    }
}

/// Looks at what is live, what there is, and what must not be.
///
/// # Errors
///
/// The target or the store cannot be read.
pub(crate) async fn survey(app: &App, site: &Site) -> Result<Situation, CliError> {
    let live = site.live().await?;
    let known = app.store.releases(&site.name).await?;
    let live_release = live.as_ref().and_then(|live| view::known(&known, live.release)).cloned();
    let served = served(app, site).await?;
    Ok(Situation {
        present: site.present().await?,
        put_aside: app.store.quarantined(&site.name).await?,
        live,
        live_release,
        known,
        served,
        clock_behind: clock_behind(app).await?,
    })
}

async fn served(app: &App, site: &Site) -> Result<Vec<(DeploymentId, ReleaseNumber)>, CliError> {
    /// More than are ever kept.
    const LOOK_BACK: u64 = 1000;
    let filter = DeploymentFilter { project: Some(site.name.clone()), open: false, limit: LOOK_BACK };
    let deployments = app.store.deployments(&filter).await?.into_iter().rev();
    let succeeded = deployments.filter(|it| it.outcome == Some(eeveon_core::Outcome::Succeeded));
    Ok(succeeded.map(|it| (it.id, it.release.number)).collect())
}

/// Finds out how the candidate stands to the live commit, for the gate that keeps the order. When
/// older commits are welcome, not knowing is good enough.
///
/// # Errors
///
/// The history that would answer the question cannot be had.
pub(crate) async fn order_facts(
    site: &Site,
    permit: &Permit,
    candidate: &CommitId,
    situation: &Situation,
    allow_older: bool,
) -> Result<OrderFacts, CliError> {
    let live = match situation.live_commit() {
        Some(live) => {
            let verdict = match relate(site, permit, candidate, live).await {
                Err(_) if allow_older => Verdict::NeedsMore(Vec::new()),
                other => other?,
            };
            Some(Compared { commit: live.clone(), verdict })
        }
        None => None,
    };
    Ok(OrderFacts { candidate: candidate.clone(), live, allow_older })
}

/// Finds out how one commit stands to another. History is fetched as far as the question needs, and
/// the answer is never guessed.
async fn relate(
    site: &Site,
    permit: &Permit,
    candidate: &CommitId,
    live: &CommitId,
) -> Result<Verdict, CliError> {
    /// 1 + 2 + 4 + ... commits: more than any repository has.
    const DEEPENINGS: u32 = 30;
    let mut unanswered = Verdict::NeedsMore(Vec::new());
    let mut failed = None;
    for round in 0..=DEEPENINGS {
        let verdict = rollback::relate(candidate, live, &mut |commit| match site.mirror.parents(commit) {
            Ok(Some(parents)) => Parents::Known(parents),
            Ok(None) => Parents::Boundary,
            Err(error) => {
                failed = Some(error);
                Parents::Boundary
            }
        });
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        match verdict {
            needs_more @ Verdict::NeedsMore(_) => {
                unanswered = needs_more;
                if !deepen(site, [candidate, live], 1 << round.min(16), permit).await? {
                    break;
                }
            }
            verdict => return Ok(verdict),
        }
    }
    Ok(unanswered)
}

/// Brings more of the history below two commits, which may themselves be missing. Returns whether
/// there was more.
async fn deepen(site: &Site, tips: [&CommitId; 2], by: u32, permit: &Permit) -> Result<bool, CliError> {
    let mut is_new = false;
    for tip in tips {
        if site.mirror.parents(tip)?.is_none() {
            site.source()?.fetch(tip, None, permit).await?;
            is_new = true;
        }
    }
    Ok(site.source()?.deepen(&tips.map(Clone::clone), by, permit).await? || is_new)
}

/// Returns the put-aside commits that `commit` descends from: once it is live, they need no guard.
/// Looks only at the history that is here; not knowing means that a commit stays put aside.
pub(crate) fn lifted(site: &Site, commit: &CommitId, situation: &Situation) -> Vec<CommitId> {
    let put_aside: Vec<CommitId> = situation.put_aside.iter().map(|it| it.commit.clone()).collect();
    let mut parents = |commit: &CommitId| match site.mirror.parents(commit) {
        Ok(Some(parents)) => Parents::Known(parents),
        Ok(None) | Err(_) => Parents::Boundary,
    };
    quarantine::lifted_by(commit, &put_aside, &mut parents).commits
}

/// Returns the releases on the target that are no longer needed once `next` serves; without one, as
/// things are.
pub(crate) fn outworn(site: &Site, situation: &Situation, next: Option<ReleaseNumber>) -> Vec<ReleaseNumber> {
    let deploy = &site.config.deploy;
    let policy = Policy {
        keep: deploy.keep as usize,
        inspect_for: deploy.keep_failed.0,
        inspect_bytes: deploy.keep_failed_size.0,
    };
    let kept: Vec<Kept> = situation
        .present
        .iter()
        .map(|present| {
            let known = view::known(&situation.known, present.release);
            Kept {
                release: present.release,
                standing: match known.map(|it| it.status) {
                    Some(ReleaseStatus::Succeeded) => Standing::Succeeded,
                    Some(ReleaseStatus::Failed | ReleaseStatus::Pending) => Standing::Failed,
                    None => Standing::Unknown,
                },
                usable: present.usable,
                bytes: present.bytes,
                since: present.since,
                pinned: known.is_some_and(|it| it.pinned),
            }
        })
        .collect();
    let live = situation.live.as_ref().map(|live| live.release);
    let predecessor = match next {
        // Once `next` serves, what is live now is what served before.
        Some(_) => None,
        None => rollback::predecessor(&situation.served, live),
    };
    // By a clock known to be wrong nothing is old.
    let now = situation.clock_behind.map_or_else(Timestamp::now, |_| Timestamp::UNIX_EPOCH);
    rollback::outworn(&kept, &Roles { live, predecessor, next }, &policy, now)
}

/// Returns by how many seconds the clock is behind the newest deployment recorded, if it is behind
/// by more than clocks of one machine drift.
///
/// # Errors
///
/// The store failed.
pub(crate) async fn clock_behind(app: &App) -> Result<Option<i64>, CliError> {
    const TOLERANCE_SECONDS: i64 = 120;
    let filter = DeploymentFilter { project: None, open: false, limit: 20 };
    let newest = app
        .store
        .deployments(&filter)
        .await?
        .into_iter()
        .map(|it| it.finished_at.unwrap_or(it.started_at))
        .max();
    let behind = newest.map_or(0, |newest| newest.as_second().saturating_sub(Timestamp::now().as_second()));
    Ok((behind > TOLERANCE_SECONDS).then_some(behind))
}

/// Returns every release ever made, as far as choosing one needs it.
pub(crate) fn candidates(situation: &Situation) -> Vec<rollback::KnownRelease> {
    let known = situation.known.iter().map(|known| rollback::KnownRelease {
        release: known.number(),
        commit: known.release.revision.commit.clone(),
        succeeded: known.status == ReleaseStatus::Succeeded,
        irreversible: known.irreversible,
    });
    known.collect()
}

/// Chooses the release to go back to: the one before, or the one that `version` names.
///
/// # Errors
///
/// There is none that fits.
pub(crate) fn choose(situation: &Situation, version: Option<&str>) -> Result<ReleaseNumber, CliError> {
    let from = Candidates {
        known: &candidates(situation),
        present: &situation.present,
        served: &situation.served,
        live: situation.live.as_ref().map(|live| live.release),
    };
    Ok(rollback::choose(version, &from)?)
}
