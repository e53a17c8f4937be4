//! What one entry means for the lists of deployments, releases and quarantined commits. Pure, and
//! used by every store, so that they cannot differ.

use eeveon_core::{
    Actor, Class, CommitId, DeploymentId, Entry, Outcome, Quarantining, Record, Request, Seq, Untrusted,
    state::IllegalRecord,
};
use serde::{Deserialize, Serialize};

use crate::{Deployment, KnownRelease, Quarantined, ReleaseStatus, StoreError};

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
    match &entry.record {
        Record::Parked { step, failure } => summary.deployment.parked = Some((step.clone(), failure.clone())),
        Record::Unparked { .. } | Record::Cancelled { .. } => summary.deployment.parked = None,
        Record::Closed { outcome } => return Ok(close(summary, entry, outcome)),
        Record::Opened { .. }
        | Record::Started { .. }
        | Record::Finished { .. }
        | Record::Failed { .. }
        | Record::UndoStarted { .. }
        | Record::UndoFinished { .. } => {}
    }
    Ok(Consequences::of(summary))
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
    };
    let release = KnownRelease {
        release: request.release.clone(),
        status: ReleaseStatus::Pending,
        deployment: entry.deployment,
        config: request.config.clone(),
        created_at: entry.at,
        pinned: false,
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
    let put_aside = |commit: &CommitId, reason: Untrusted, by: Actor| Quarantined {
        commit: commit.clone(),
        reason,
        deployment: Some(entry.deployment),
        by,
        at: entry.at,
    };
    match outcome {
        Outcome::Succeeded => {
            follows.settled = Some(ReleaseStatus::Succeeded);
            follows.lift.clone_from(&quarantine.lift_on_success);
            let number = deployment.release.number;
            let reason =
                deployment.reason.clone().unwrap_or_else(|| format!("rolled back to release {number}"));
            let leave = |commit| put_aside(commit, reason.clone().into(), deployment.actor.clone());
            follows.put_aside = quarantine.on_success.iter().map(leave).collect();
        }
        Outcome::Reverted { failure, served } => {
            follows.settled = Some(ReleaseStatus::Failed);
            if let Some(failure) = failure
                && *served
                // A fault of the machine says nothing about the commit.
                && failure.class == Class::Failed
                && quarantine.own_when_reverted
            {
                let commit = &deployment.release.revision.commit;
                follows.put_aside = vec![put_aside(commit, failure.message.clone().into(), Actor::Engine)];
            }
        }
        Outcome::Refused { .. } => follows.settled = Some(ReleaseStatus::Failed),
    }
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
