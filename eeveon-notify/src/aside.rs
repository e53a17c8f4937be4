//! Events that no journal tells of: a test, and a deployment that could not even begin. They have the
//! number 0, which is no deployment's.

use eeveon_core::{
    CommitId, DeploymentId, Failure, Kind, ProjectName, Release, ReleaseNumber, Revision, Seq, Trigger,
    Untrusted,
};
use jiff::Timestamp;

use crate::{Event, EventKind, FORMAT, Serving};

/// What is known of a deployment that could not begin.
#[derive(Clone, Debug)]
pub struct NotStarted {
    /// Where.
    pub project: ProjectName,
    /// Who asked.
    pub actor: Untrusted,
    /// What set it off.
    pub trigger: Trigger,
    /// What was to be deployed, where that is known.
    pub commit: Option<CommitId>,
    /// What kept it from beginning.
    pub failure: Failure,
    /// What serves now.
    pub serving: Serving,
    /// When.
    pub at: Timestamp,
}

impl Event {
    /// Makes an event by which somebody finds out whether messages arrive. It is about the release
    /// that serves, or about none yet.
    pub fn test(
        project: &ProjectName,
        release: Option<&Release>,
        branch: Untrusted,
        actor: Untrusted,
        at: Timestamp,
    ) -> Option<Self> {
        let nothing = || {
            Some(Revision {
                subject: Untrusted::from("nothing was deployed yet"),
                author: actor.clone(),
                ..unknown(at)?
            })
        };
        let revision = release.map(|it| it.revision.clone()).or_else(nothing)?;
        Some(Self {
            release: release.map_or_else(ReleaseNumber::default, |it| it.number),
            serving: match release {
                Some(it) => {
                    Serving::Release { release: it.number, revision: Some(it.revision.commit.clone()) }
                }
                None => Serving::Nothing,
            },
            branch,
            actor,
            ..bare(EventKind::Test, project, revision, at)
        })
    }

    /// Makes the event that tells of a deployment which could not begin. The branch and the link are added
    /// by whoever knows them.
    pub fn not_started(it: NotStarted) -> Option<Self> {
        let NotStarted { project, actor, trigger, commit, failure, serving, at } = it;
        let revision = unknown(at)?;
        let revision = Revision { commit: commit.unwrap_or(revision.commit), ..revision };
        Some(Self {
            actor,
            trigger,
            failure: Some(failure),
            serving,
            ..bare(EventKind::NotStarted, &project, revision, at)
        })
    }

    /// Tells whether it is about a deployment.
    pub fn has_deployment(&self) -> bool {
        self.deployment != DeploymentId::default()
    }

    /// Tells whether the commit is known: git, too, has zeros for none.
    pub fn has_commit(&self) -> bool {
        self.revision.commit.as_str().bytes().any(|b| b != b'0')
    }
}

fn unknown(at: Timestamp) -> Option<Revision> {
    let nobody = Untrusted::default();
    let commit = CommitId::new("0".repeat(40)).ok()?;
    Some(Revision { commit, subject: nobody.clone(), author: nobody, committed_at: at })
}

fn bare(kind: EventKind, project: &ProjectName, revision: Revision, at: Timestamp) -> Event {
    Event {
        format: FORMAT,
        kind,
        project: project.clone(),
        deployment: DeploymentId::default(),
        // Each is a message of its own.
        seq: Seq(u64::try_from(at.as_millisecond()).unwrap_or_default()),
        at,
        operation: Kind::Deploy,
        release: ReleaseNumber::default(),
        revision,
        branch: Untrusted::default(),
        actor: Untrusted::default(),
        trigger: Trigger::Manual,
        reason: None,
        duration_ms: 0,
        failure: None,
        step: None,
        serving: Serving::Nothing,
        quarantined: Vec::new(),
        link: None,
        more: 0,
    }
}
