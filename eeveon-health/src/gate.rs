//! The verbs made from checks: a gate, a watch after it, and the proof that the old release is well.

use std::{path::PathBuf, time::Duration};

use async_trait::async_trait;
use eeveon_core::{
    Action, CommitId, Effect, OnFailure, Placed, ProjectName, ReleaseNumber, Slot, StepContext, StepError,
};
use serde::{Deserialize, Serialize};

use crate::{
    CheckSpec, Checks, HealthError, Looked, Origin, Phase, Reach, Subject,
    judge::{Judge, Verdict},
    look::{pass, until_decided},
};

/// Which release is looked at, and where it lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LookAt {
    /// Whose release.
    pub project: ProjectName,
    /// Which release.
    pub release: ReleaseNumber,
    /// Of which commit.
    pub commit: CommitId,
    /// Where it lies.
    pub place: Place,
}

/// Where a release lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Where an earlier step placed it.
    Release(Slot<Placed>),
    /// In this folder.
    Folder(PathBuf),
}

impl LookAt {
    fn subject(&self, cx: &StepContext<'_>) -> Result<Subject, StepError> {
        let folder = match &self.place {
            Place::Release(slot) => PathBuf::from(cx.read(slot)?.endpoint.0),
            Place::Folder(folder) => folder.clone(),
        };
        let (project, commit) = (self.project.clone(), self.commit.clone());
        Ok(Subject { project, release: self.release, commit, folder })
    }
}

fn origin(cx: &StepContext<'_>, undo: bool) -> Origin {
    Origin { deployment: cx.deployment, step: cx.step.key.clone(), undo }
}

fn on_failure(ask: bool) -> OnFailure {
    if ask { OnFailure::Ask } else { OnFailure::TurnBack }
}

/// Goes on only when a check passes.
#[derive(Clone, Debug)]
pub struct Gate(pub Checks);

/// What the plan says about a gate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GateParams {
    /// When it stands in the way.
    pub phase: Phase,
    /// What must pass.
    pub check: CheckSpec,
    /// Who wrote the check.
    pub reach: Reach,
    /// What is looked at.
    pub look_at: LookAt,
    /// Whether a failure is left to a person.
    pub ask: bool,
}

#[async_trait]
impl Action for Gate {
    const NAME: &'static str = "health.gate";
    const EFFECT: Effect = Effect::Release;
    type Params = GateParams;
    /// Absent when a person went past it.
    type Output = Option<Looked>;

    async fn run(&self, cx: &StepContext<'_>, params: &GateParams) -> Result<Option<Looked>, StepError> {
        let subject = params.look_at.subject(cx)?;
        let check = self.0.make(&params.check, params.reach, &origin(cx, false)).await?;
        let pace = &params.check.pace;
        Ok(Some(pass(&*check, params.phase, pace, &subject, &cx.permit).await?))
    }

    // Looking leaves nothing to take back.
    async fn undo(
        &self,
        _: &StepContext<'_>,
        _: &GateParams,
        _: Option<&Option<Looked>>,
    ) -> Result<(), StepError> {
        Ok(())
    }

    fn can_be_left_out(&self) -> bool {
        true
    }

    fn on_failure(&self, params: &GateParams) -> OnFailure {
        on_failure(params.ask)
    }
}

/// Keeps an eye on a release that serves.
#[derive(Clone, Debug)]
pub struct Watch(pub Checks);

/// How long a release is watched, and how closely.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Bake {
    /// Time between healthy looks, in milliseconds.
    pub every_ms: u64,
    /// Time after which the release has proved itself, in milliseconds.
    pub bake_ms: u64,
}

/// The longest time a release is watched: one day, in milliseconds. A deployment is open as long.
const LONGEST_BAKE_MS: u64 = 24 * 60 * 60 * 1000;

impl Bake {
    /// Finds out whether a release can be watched like this, for the check that people call `check`.
    ///
    /// # Errors
    ///
    /// `health/invalid` names the number that is wrong and the rule it breaks.
    pub fn validate(&self, check: &str) -> Result<(), HealthError> {
        let (key, rule) = match self {
            Self { bake_ms, .. } if !(1..=LONGEST_BAKE_MS).contains(bake_ms) => {
                ("bake", "it goes from 1 ms to 1 day")
            }
            Self { every_ms: 0, .. } => ("every", "it must not be 0"),
            Self { every_ms, bake_ms } if every_ms > bake_ms => {
                ("every", "it must not be longer than `bake`")
            }
            _ => return Ok(()),
        };
        Err(HealthError::invalid(check, key, rule))
    }
}

/// What the plan says about a watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WatchParams {
    /// What must not go bad. Its pace says how many bad looks in a row that takes; its deadline and
    /// its successes are no matter here.
    pub check: CheckSpec,
    /// Who wrote the check.
    pub reach: Reach,
    /// What is looked at.
    pub look_at: LookAt,
    /// How long, and how often.
    pub bake: Bake,
    /// Whether a failure is left to a person.
    pub ask: bool,
}

#[async_trait]
impl Action for Watch {
    const NAME: &'static str = "health.watch";
    const EFFECT: Effect = Effect::Release;
    type Params = WatchParams;
    /// Absent when a person went past it.
    type Output = Option<Looked>;

    async fn run(&self, cx: &StepContext<'_>, params: &WatchParams) -> Result<Option<Looked>, StepError> {
        let subject = params.look_at.subject(cx)?;
        params.bake.validate(&params.check.name)?;
        let check = self.0.make(&params.check, params.reach, &origin(cx, false)).await?;
        let pace = &params.check.pace;
        let (over, every) =
            (Duration::from_millis(params.bake.bake_ms), Duration::from_millis(params.bake.every_ms));
        let judge = Judge::watch(pace, over, every);
        match until_decided(&*check, pace, None, judge, &subject, &cx.permit).await? {
            (Verdict::Shut, looked, _) => {
                let check = params.check.name.clone();
                Err(HealthError::WentBad { check, looked: Box::new(looked) }.into())
            }
            (_, looked, _) => Ok(Some(looked)),
        }
    }

    // Looking leaves nothing to take back.
    async fn undo(
        &self,
        _: &StepContext<'_>,
        _: &WatchParams,
        _: Option<&Option<Looked>>,
    ) -> Result<(), StepError> {
        Ok(())
    }

    fn can_be_left_out(&self) -> bool {
        true
    }

    fn on_failure(&self, params: &WatchParams) -> OnFailure {
        on_failure(params.ask)
    }
}

/// Proves, when a deployment is taken back, that what serves again is healthy.
#[derive(Clone, Debug)]
pub struct Verify(pub Checks);

/// What the plan says about the way back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VerifyParams {
    /// All that must pass, one after the other.
    pub checks: Vec<CheckSpec>,
    /// Who wrote the checks.
    pub reach: Reach,
    /// The release that serves again.
    pub look_at: LookAt,
}

#[async_trait]
impl Action for Verify {
    const NAME: &'static str = "health.verify";
    const EFFECT: Effect = Effect::Release;
    type Params = VerifyParams;
    type Output = ();

    // There is something to prove only on the way back.
    async fn run(&self, _: &StepContext<'_>, _: &VerifyParams) -> Result<(), StepError> {
        Ok(())
    }

    async fn undo(
        &self,
        cx: &StepContext<'_>,
        params: &VerifyParams,
        _: Option<&()>,
    ) -> Result<(), StepError> {
        let subject = params.look_at.subject(cx)?;
        for spec in &params.checks {
            let check = self.0.make(spec, params.reach, &origin(cx, true)).await?;
            match pass(&*check, Phase::Post, &spec.pace, &subject, &cx.permit).await {
                Err(
                    HealthError::Unhealthy { check, looked, .. }
                    | HealthError::NoAnswer { check, looked, .. },
                ) => {
                    return Err(HealthError::BothBad { check, release: subject.release, looked }.into());
                }
                passed => passed?,
            };
        }
        Ok(())
    }
}
