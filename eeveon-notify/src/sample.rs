//! One event of every kind, with everything it can have and with as little as it can have:
//! what templates are tried on.

use eeveon_core::{
    Class, CommitId, DeploymentId, Failure, Kind, ProjectName, ReleaseNumber, Revision, Seq, Stage, StepKey,
    Trigger, Untrusted,
};
use jiff::Timestamp;

use crate::{Event, EventKind, FORMAT, Serving};

/// Returns the events; none if its own names were not valid.
pub(crate) fn all() -> Vec<Event> {
    EventKind::ALL.into_iter().flat_map(|kind| [full(kind), bare(kind)]).flatten().collect()
}

fn full(kind: EventKind) -> Option<Event> {
    let commit = CommitId::new("0123456789abcdef0123456789abcdef01234567").ok()?;
    Some(Event {
        operation: Kind::Rollback,
        reason: Some(Untrusted::from("a reason")),
        failure: fails(kind, kind == EventKind::Parked).map(|failure| Failure {
            causes: vec!["connection refused".to_owned()],
            hint: Some("look at its log".to_owned()),
            ..failure
        }),
        step: matches!(kind, EventKind::Parked | EventKind::CheckFlapping)
            .then(|| StepKey::new("health/post")),
        serving: Serving::Release { release: ReleaseNumber(11), revision: Some(commit.clone()) },
        quarantined: if kind == EventKind::Quarantined { vec![commit] } else { Vec::new() },
        link: Some("https://example.org/shop".to_owned()),
        more: 2,
        ..bare(kind)?
    })
}

/// Returns the least that is known when something failed: some kinds always come with a failure.
fn fails(kind: EventKind, also: bool) -> Option<Failure> {
    let failed = matches!(
        kind,
        EventKind::NotStarted | EventKind::Failed | EventKind::RolledBack | EventKind::Refused
    );
    (failed || also).then(|| Failure {
        stage: Stage::Check,
        code: "health/unhealthy".to_owned(),
        class: Class::Failed,
        message: "the release does not answer".to_owned(),
        causes: Vec::new(),
        hint: None,
        details: None,
    })
}

fn bare(kind: EventKind) -> Option<Event> {
    Some(Event {
        format: FORMAT,
        kind,
        project: ProjectName::new("shop").ok()?,
        deployment: DeploymentId(7),
        seq: Seq(9),
        at: Timestamp::UNIX_EPOCH,
        operation: Kind::Deploy,
        release: ReleaseNumber(12),
        revision: Revision {
            commit: CommitId::new("89abcdef0123456789abcdef0123456789abcdef").ok()?,
            subject: Untrusted::from("a subject"),
            author: Untrusted::from("an author"),
            committed_at: Timestamp::UNIX_EPOCH,
        },
        branch: Untrusted::from("main"),
        actor: Untrusted::from("user:ada"),
        trigger: Trigger::Manual,
        reason: None,
        duration_ms: 1234,
        failure: fails(kind, false),
        step: None,
        serving: Serving::Nothing,
        quarantined: Vec::new(),
        link: None,
        more: 0,
    })
}
