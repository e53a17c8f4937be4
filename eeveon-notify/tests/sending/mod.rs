//! What the tests of the webhook and of e-mail have in common: events and secrets.

use std::{collections::BTreeMap, sync::Arc};

use eeveon_core::{
    Class, CommitId, DeploymentId, Failure, Kind, ProjectName, ReleaseNumber, Revision, Secret, SecretError,
    SecretRef, Secrets, Seq, Stage, Trigger, Untrusted,
};
use eeveon_notify::{Event, EventKind, FORMAT, HttpOptions, Serving, Setup, Templates};
use jiff::Timestamp;

/// Secrets by the name of their variable.
#[derive(Debug, Default)]
pub(crate) struct Known(pub(crate) BTreeMap<String, String>);

impl Known {
    pub(crate) fn of(pairs: &[(&str, &str)]) -> Arc<Self> {
        Arc::new(Self(pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()))
    }
}

impl Secrets for Known {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let SecretRef::Env(name) = at else { return Err(SecretError::Reference("only env: here")) };
        let missing = || SecretError::Missing { at: at.to_string(), why: "is not set".into() };
        self.0.get(name).and_then(Secret::new).ok_or_else(missing)
    }
}

pub(crate) fn setup(name: &str, secrets: Arc<Known>) -> Setup {
    Setup { name: name.into(), secrets, templates: Templates::default(), http: HttpOptions::default() }
}

/// An event about deployment 7 of `shop`; what failed has a failure.
pub(crate) fn event(kind: EventKind, seq: u64) -> Event {
    let failed = matches!(
        kind,
        EventKind::NotStarted | EventKind::Failed | EventKind::RolledBack | EventKind::Refused
    );
    let failure = Failure {
        stage: Stage::Check,
        code: "health/unhealthy".into(),
        class: Class::Failed,
        message: "the release does not answer".into(),
        causes: vec!["GET /health: 502".into()],
        hint: Some("look at its log".into()),
        details: Some(serde_json::json!({"looks": 3})),
    };
    let old = Serving::Release { release: ReleaseNumber(11), revision: None };
    let new = Serving::Release { release: ReleaseNumber(12), revision: Some(commit()) };
    Event {
        format: FORMAT,
        kind,
        project: ProjectName::new("shop").unwrap(),
        deployment: DeploymentId(7),
        seq: Seq(seq),
        at: "2026-03-01T12:30:45.5Z".parse().unwrap(),
        operation: Kind::Deploy,
        release: ReleaseNumber(12),
        revision: Revision {
            commit: commit(),
            subject: Untrusted::from("Sell <umbrellas> & \"boots\""),
            author: Untrusted::from("Zoë Ödegård"),
            committed_at: Timestamp::from_second(1_700_000_000).unwrap(),
        },
        branch: Untrusted::from("main"),
        actor: Untrusted::from("user:ada"),
        trigger: Trigger::Manual,
        reason: None,
        duration_ms: 83_000,
        failure: failed.then_some(failure),
        step: None,
        serving: if kind == EventKind::Succeeded { new } else { old },
        quarantined: Vec::new(),
        link: Some("https://deploy.example.org/shop/7".into()),
        more: 0,
    }
}

fn commit() -> CommitId {
    CommitId::new("0123456789abcdef0123456789abcdef01234567").unwrap()
}

/// An event in which everything that others may write is `text`.
pub(crate) fn written_by_others(text: &str, seq: u64) -> Event {
    let mut event = event(EventKind::Failed, seq);
    event.revision.subject = text.into();
    event.revision.author = text.into();
    event.branch = text.into();
    event.reason = Some(text.into());
    if let Some(failure) = &mut event.failure {
        failure.message = text.into();
        failure.causes = vec![text.into()];
    }
    event
}
