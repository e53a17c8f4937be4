//! What one entry means for the lists of deployments, releases and quarantined commits. Pure, and
//! used by every store, so that they cannot differ.

use eeveon_core::{
    Actor, CommitId, DeploymentId, Entry, Outcome, Quarantining, Record, Request, Seq, state::IllegalRecord,
};
use serde::{Deserialize, Serialize};

use crate::{Checked, Deployment, KnownRelease, Quarantined, ReleaseStatus, StoreError};

/// A journal, summed up. Its JSON form is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) deployment: Deployment,
    /// What the end will do to the quarantine.
    quarantine: Quarantining,
    /// The position after the last entry. A journal of another length is damaged.
    pub(crate) next: Seq,
}

/// What changes together with the journal.
#[derive(Debug)]
pub(crate) struct Consequences {
    /// The journal's summary from now on.
    pub(crate) summary: Summary,
    /// A release to remember, unless there is one with its number.
    pub(crate) release: Option<KnownRelease>,
    /// What became of the deployment's release; see [`settle`].
    pub(crate) settled: Option<ReleaseStatus>,
    /// Commits to let go. Comes before those to put aside.
    pub(crate) lift: Vec<CommitId>,
    /// Commits to put aside.
    pub(crate) put_aside: Vec<Quarantined>,
}

impl Consequences {
    fn of(summary: Summary) -> Self {
        Self { summary, release: None, settled: None, lift: Vec::new(), put_aside: Vec::new() }
    }
}

/// Tells what follows from appending `entry` to a journal that was summed up as `known`.
///
/// # Errors
///
/// `Conflict` when it is not for the next position; `Illegal` when the journal would not begin with
/// the record that opens it, or go on after its end.
pub(crate) fn follow(known: Option<Summary>, entry: &Entry) -> Result<Consequences, StoreError> {
    let (deployment, at) = (entry.deployment, entry.seq);
    if at != known.as_ref().map_or(Seq::default(), |summary| summary.next) {
        return Err(StoreError::Conflict { deployment, at });
    }
    let illegal = |why| StoreError::Illegal { deployment, at, source: IllegalRecord(why) };
    let mut summary = match (known, &entry.record) {
        (None, Record::Opened { request, .. }) => return Ok(open(entry, request)),
        (Some(summary), record) if !matches!(record, Record::Opened { .. }) => summary,
        _ => return Err(illegal("a journal opens once, with its first record")),
    };
    if summary.deployment.outcome.is_some() {
        return Err(illegal("a record follows the end"));
    }
    summary.next = at.next();
    summary.deployment.checks.extend(checked(&entry.record));
    match &entry.record {
        Record::Parked { step, failure } => summary.deployment.parked = Some((step.clone(), failure.clone())),
        Record::Unparked { .. } | Record::Cancelled { .. } => summary.deployment.parked = None,
        Record::UndoFinished { step } => summary.deployment.undone.push(step.clone()),
        Record::Closed { outcome } => return Ok(close(summary, entry, outcome)),
        Record::Opened { .. }
        | Record::Started { .. }
        | Record::Finished { .. }
        | Record::Failed { .. }
        | Record::UndoStarted { .. } => {}
    }
    Ok(Consequences::of(summary))
}

/// Tells how a health check went, when `record` ends one. What it produced, or what its failure
/// says beyond the message, counts its looks.
fn checked(record: &Record) -> Option<Checked> {
    let (step, passed, looked) = match record {
        Record::Finished { step, output } => (step, true, Some(output)),
        Record::Failed { step, failure } => (step, false, failure.details.as_ref()),
        Record::Parked { step, failure } => (step, false, failure.as_ref()?.details.as_ref()),
        _ => return None,
    };
    let looks = looked?.get("looks")?.as_u64()?;
    Some(Checked { step: step.clone(), passed, looks })
}

fn open(entry: &Entry, request: &Request) -> Consequences {
    let deployment = Deployment {
        id: entry.deployment,
        kind: request.kind,
        release: request.release.clone(),
        previous: request.previous.clone(),
        actor: request.actor.clone(),
        trigger: request.trigger,
        reason: request.reason.clone(),
        started_at: entry.at,
        finished_at: None,
        outcome: None,
        parked: None,
        checks: Vec::new(),
        undone: Vec::new(),
    };
    let release = KnownRelease {
        release: request.release.clone(),
        status: ReleaseStatus::Pending,
        deployment: entry.deployment,
        config: request.config.clone(),
        created_at: entry.at,
        pinned: false,
        irreversible: request.irreversible,
    };
    let summary = Summary { deployment, quarantine: request.quarantine.clone(), next: entry.seq.next() };
    Consequences { release: Some(release), ..Consequences::of(summary) }
}

fn close(mut summary: Summary, entry: &Entry, outcome: &Outcome) -> Consequences {
    let deployment = &mut summary.deployment;
    deployment.finished_at = Some(entry.at);
    deployment.outcome = Some(outcome.clone());
    deployment.parked = None;
    let mut follows = Consequences::of(summary);
    let Summary { deployment, quarantine, .. } = &follows.summary;
    match outcome {
        Outcome::Succeeded => {
            follows.settled = Some(ReleaseStatus::Succeeded);
            follows.lift.clone_from(&quarantine.lift_on_success);
        }
        Outcome::Reverted { .. } | Outcome::Refused { .. } => {
            follows.settled = Some(ReleaseStatus::Failed);
        }
    }
    let (reason, by) = match outcome.failure() {
        Some(failure) => (failure.message.clone(), Actor::Engine),
        None => {
            let back = || format!("rolled back to release {}", deployment.release.number);
            (deployment.reason.clone().unwrap_or_else(back), deployment.actor.clone())
        }
    };
    let leave = |commit| Quarantined {
        commit,
        reason: reason.clone().into(),
        deployment: Some(entry.deployment),
        by: by.clone(),
        at: entry.at,
    };
    let commits = quarantine.put_aside(&deployment.release.revision.commit, outcome);
    follows.put_aside = commits.into_iter().map(leave).collect();
    follows
}

/// Notes what became of `release` in `deployment`. Once it succeeded it stays so, and no other
/// deployment than the one that made it can make it fail.
pub(crate) fn settle(release: &mut KnownRelease, deployment: DeploymentId, status: ReleaseStatus) {
    if status == ReleaseStatus::Succeeded
        || (release.status == ReleaseStatus::Pending && release.deployment == deployment)
    {
        release.status = status;
    }
}

/// Puts quarantined commits into the order they are listed in: newest first.
pub(crate) fn newest_first(quarantined: &mut [Quarantined]) {
    quarantined.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.commit.cmp(&b.commit)));
}
