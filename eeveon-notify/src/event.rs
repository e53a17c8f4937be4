//! What there is to tell: facts taken from the journal, worded later by each channel.

use std::{fmt, str::FromStr};

use eeveon_core::{
    Action as _, CommitId, DeploymentId, Entry, Failure, Kind, Outcome, ProjectName, Record, ReleaseNumber,
    Revision, Seq, State, StepKey, StepStatus, Trigger, Untrusted, deployer::Switch,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of an event's stored form. Golden files of every released one are in
/// `tests/golden/`.
pub const FORMAT: u32 = 1;

/// How much an event matters. A channel says which levels it wants.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It worked.
    Success,
    /// It did not.
    Failure,
    /// Somebody should look.
    Warning,
    /// Good to know.
    Info,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 4] = [Self::Success, Self::Failure, Self::Warning, Self::Info];

    /// Returns the word used in configuration and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

impl FromStr for Level {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|level| level.as_str() == text).ok_or_else(|| format!("no level `{text}`"))
    }
}

/// What kind of thing happened. A channel may name the kinds it wants instead of levels.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A deployment began.
    Started,
    /// A release serves.
    Succeeded,
    /// A deployment that nobody asked for in person could not even begin, so that no journal tells of it.
    NotStarted,
    /// A deployment failed; what served before never stopped serving.
    Failed,
    /// A release had begun to serve and was taken back.
    RolledBack,
    /// A gate said no.
    Refused,
    /// Somebody stopped a deployment, or it died.
    Cancelled,
    /// A deployment waits for somebody to allow it.
    WaitingForApproval,
    /// A deployment cannot go on without a person.
    Parked,
    /// A commit was put aside.
    Quarantined,
    /// A check passed, but not steadily.
    CheckFlapping,
    /// Somebody wants to know whether messages arrive.
    Test,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Started,
        Self::Succeeded,
        Self::NotStarted,
        Self::Failed,
        Self::RolledBack,
        Self::Refused,
        Self::Cancelled,
        Self::WaitingForApproval,
        Self::Parked,
        Self::Quarantined,
        Self::CheckFlapping,
        Self::Test,
    ];

    /// Returns the word used in configuration and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Succeeded => "succeeded",
            Self::NotStarted => "not_started",
            Self::Failed => "failed",
            Self::RolledBack => "rolled_back",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
            Self::WaitingForApproval => "waiting_for_approval",
            Self::Parked => "parked",
            Self::Quarantined => "quarantined",
            Self::CheckFlapping => "check_flapping",
            Self::Test => "test",
        }
    }

    /// Returns how much it matters.
    pub fn level(self) -> Level {
        match self {
            Self::Succeeded => Level::Success,
            Self::NotStarted | Self::Failed | Self::RolledBack => Level::Failure,
            Self::Refused
            | Self::Cancelled
            | Self::WaitingForApproval
            | Self::Parked
            | Self::Quarantined
            | Self::CheckFlapping => Level::Warning,
            Self::Started | Self::Test => Level::Info,
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("no event `{text}`"))
    }
}

/// What serves when an event is told.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Serving {
    /// This release.
    Release {
        /// Its number.
        release: ReleaseNumber,
        /// Its commit, where it is known.
        revision: Option<CommitId>,
    },
    /// Nothing: there was no release before.
    Nothing,
    /// It cannot be told from the journal: one of them.
    Either {
        /// The new release.
        new: ReleaseNumber,
        /// The one before, if there was one.
        old: Option<ReleaseNumber>,
    },
}

/// One thing people may want to be told. Its JSON form is stored until it has been delivered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The version of this form, [`FORMAT`].
    pub format: u32,
    /// What happened.
    pub kind: EventKind,
    /// Where.
    pub project: ProjectName,
    /// In which deployment.
    pub deployment: DeploymentId,
    /// The journal entry that says so.
    pub seq: Seq,
    /// When.
    pub at: Timestamp,
    /// Whether it was about a new release or going back.
    pub operation: Kind,
    /// The release it was about.
    pub release: ReleaseNumber,
    /// What that release was made from.
    pub revision: Revision,
    /// The branch the project deploys.
    pub branch: Untrusted,
    /// Who asked.
    pub actor: Untrusted,
    /// What set it off.
    pub trigger: Trigger,
    /// Why, in the asker's words.
    pub reason: Option<Untrusted>,
    /// How long the deployment has taken so far, in milliseconds.
    pub duration_ms: u64,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// The step that waits for a person, or whose check flaps.
    pub step: Option<StepKey>,
    /// What serves now.
    pub serving: Serving,
    /// Commits put aside by this.
    pub quarantined: Vec<CommitId>,
    /// Where to read more, when the operator configured it.
    pub link: Option<String>,
    /// How many further events of the same kind were left out because they came in a burst.
    pub more: u32,
}

impl Event {
    /// Returns how much it matters.
    pub fn level(&self) -> Level {
        self.kind.level()
    }
}

/// Tells what `entry` is worth telling, given the deployment `state` with the entry already in it
/// and the time it was `opened`. `branch` and `link` are the project's.
pub fn tell(
    state: &State,
    entry: &Entry,
    opened: Timestamp,
    branch: &Untrusted,
    link: Option<&str>,
) -> Vec<Event> {
    let Some(request) = &state.request else { return Vec::new() };
    let old = request.live.iter().find_map(|(_, live)| live.as_ref().map(|live| live.release));
    let before = match old {
        Some(release) => Serving::Release { release, revision: request.previous.clone() },
        None => Serving::Nothing,
    };
    let new = Serving::Release {
        release: request.release.number,
        revision: Some(request.release.revision.commit.clone()),
    };
    let event = |kind, serving| Event {
        format: FORMAT,
        kind,
        project: request.release.project.clone(),
        deployment: entry.deployment,
        seq: entry.seq,
        at: entry.at,
        operation: request.kind,
        release: request.release.number,
        revision: request.release.revision.clone(),
        branch: branch.clone(),
        actor: request.actor.label(),
        trigger: request.trigger,
        reason: request.reason.clone().map(Untrusted::from),
        duration_ms: u64::try_from(entry.at.as_millisecond().saturating_sub(opened.as_millisecond()))
            .unwrap_or(0),
        failure: None,
        step: None,
        serving,
        quarantined: Vec::new(),
        link: link.map(str::to_owned),
        more: 0,
    };
    match &entry.record {
        Record::Opened { .. } => vec![event(EventKind::Started, before)],
        Record::Parked { step, failure } => {
            let serving = match is_turned(state) {
                Some(true) => new,
                Some(false) => before,
                None => Serving::Either { new: request.release.number, old },
            };
            vec![Event {
                step: Some(step.clone()),
                failure: failure.clone(),
                ..event(EventKind::Parked, serving)
            }]
        }
        Record::Finished { step, output } => {
            let flapped = output.get("flapped").and_then(serde_json::Value::as_u64).unwrap_or(0);
            let is_check =
                state.plan.step(step).is_some_and(|it| it.action.starts_with("health.") && flapped > 0);
            let serving = if state.has_switched() { new } else { before };
            is_check
                .then(|| Event { step: Some(step.clone()), ..event(EventKind::CheckFlapping, serving) })
                .into_iter()
                .collect()
        }
        Record::Closed { outcome } => closed(request, outcome, event, new, before),
        Record::Started { .. }
        | Record::Failed { .. }
        | Record::Cancelled { .. }
        | Record::UndoStarted { .. }
        | Record::UndoFinished { .. }
        | Record::Unparked { .. } => Vec::new(),
    }
}

/// Tells whether the new release serves; `None` when a switch was begun, in either direction, and nobody
/// knows whether it happened.
fn is_turned(state: &State) -> Option<bool> {
    if !state.has_switched() {
        return Some(false);
    }
    let switches = state.plan.steps().filter(|it| it.action == Switch::NAME);
    let switches: Vec<_> = switches.map(|it| state.steps.get(&it.key)).collect();
    let all = |are: &[Option<StepStatus>]| {
        !switches.is_empty() && switches.iter().all(|it| are.contains(&it.copied()))
    };
    match (all(&[Some(StepStatus::Finished)]), all(&[None, Some(StepStatus::Undone)])) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    }
}

fn closed(
    request: &eeveon_core::Request,
    outcome: &Outcome,
    event: impl Fn(EventKind, Serving) -> Event,
    new: Serving,
    before: Serving,
) -> Vec<Event> {
    let (kind, serving) = match outcome {
        Outcome::Succeeded => (EventKind::Succeeded, new),
        Outcome::Reverted { failure: None, .. } => (EventKind::Cancelled, before),
        Outcome::Reverted { served: true, .. } => (EventKind::RolledBack, before),
        Outcome::Reverted { .. } => (EventKind::Failed, before),
        Outcome::Refused { .. } => (EventKind::Refused, before),
    };
    let quarantined = request.quarantine.put_aside(&request.release.revision.commit, outcome);
    let told = Event { failure: outcome.failure().cloned(), ..event(kind, serving.clone()) };
    let mut events = vec![told];
    if !quarantined.is_empty() {
        events.push(Event { quarantined, ..event(EventKind::Quarantined, serving) });
    }
    events
}
