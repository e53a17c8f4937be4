//! Actions: the verbs a plan can use, typed for authors and erased for the engine.

use std::{any::type_name, collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{Class, DeploymentId, Diagnose, Fence, Slot, StepError, StepKey, StepSpec};

/// What to do with a step that was under way when the process died.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Interrupted {
    /// Running it again is harmless.
    Rerun,
    /// Only a person can tell; stop and ask.
    Park,
}

/// What the engine does once a step before the point of no return has failed for good.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnFailure {
    /// Take everything back.
    TurnBack,
    /// Leave things as they are and ask a person.
    Ask,
}

/// How far an action reaches. Before an action that reaches into the world runs, its intent must
/// outlive a power cut; for one that only prepares the new release, a process's death is enough,
/// because a release nobody remembers is swept away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Only what no one else can see yet.
    Release,
    /// Anything.
    World,
}

/// How far something has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Files done, and how many there are.
    Files {
        /// So far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// Bytes done, and how many there are if that is known.
    Bytes {
        /// So far.
        done: u64,
        /// In all.
        total: Option<u64>,
    },
}

/// What a caller shows to whatever changes the world: its fence, how to stop it, whom to tell.
#[derive(Clone)]
pub struct Permit {
    /// The number of the caller's lease. A target refuses a lower one than it has seen.
    pub fence: Fence,
    /// Fires when the work should stop. What has begun may be left half done: undo copes.
    pub cancel: CancellationToken,
    report: Arc<dyn Fn(Progress) + Send + Sync>,
}

impl Permit {
    /// Makes a permit whose progress nobody watches.
    pub fn new(fence: Fence, cancel: CancellationToken) -> Self {
        Self { fence, cancel, report: Arc::new(|_| ()) }
    }

    /// Returns the permit with `report` called for every progress.
    pub fn reporting(mut self, report: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// Tells how far the work has come. Cheap; may be called often.
    pub fn report(&self, progress: Progress) {
        (self.report)(progress);
    }

    /// Fails if the work should stop.
    ///
    /// # Errors
    ///
    /// `engine/cancelled`.
    pub fn check(&self) -> Result<(), Stopped> {
        match self.cancel.is_cancelled() {
            true => Err(Stopped),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("fence", &self.fence).finish_non_exhaustive()
    }
}

/// The work was told to stop.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("stopped because the deployment was cancelled")]
pub struct Stopped;

impl Diagnose for Stopped {
    fn code(&self) -> &'static str {
        "engine/cancelled"
    }
}

/// One verb: how to do it and how to take it back.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The name plans refer to. Changing it, or the meaning of the parameters, breaks resuming
    /// journals written before.
    const NAME: &'static str;
    /// How far it reaches.
    const EFFECT: Effect;
    /// What the plan must say.
    type Params: Serialize + DeserializeOwned + Send + Sync;
    /// What later steps, and `undo`, may read.
    type Output: Serialize + DeserializeOwned + Send + Sync;

    /// Does it. Must accept that an earlier run did all, part or none of it.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being done.
    async fn run(&self, cx: &StepContext<'_>, params: &Self::Params) -> Result<Self::Output, StepError>;

    /// Takes it back. Called after success, after failure and after an interruption, so it must
    /// accept that `run` did all, part or none of its work; `output` is present only after success.
    /// There is no default: every author says what taking back means, even if it is nothing.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being taken back. The engine tries again and then parks.
    async fn undo(
        &self,
        cx: &StepContext<'_>,
        params: &Self::Params,
        output: Option<&Self::Output>,
    ) -> Result<(), StepError>;

    /// What to do when the process died during `run`.
    fn interrupted(&self) -> Interrupted {
        Interrupted::Rerun
    }

    /// Whether a person may leave it out where it waits for one. Its output is `null` then.
    fn can_be_left_out(&self) -> bool {
        false
    }

    /// What to do when `run` has failed and is not tried again.
    fn on_failure(&self, _params: &Self::Params) -> OnFailure {
        OnFailure::TurnBack
    }
}

/// What an action may see besides its parameters.
#[derive(Debug)]
pub struct StepContext<'a> {
    /// The deployment this step is part of.
    pub deployment: DeploymentId,
    /// The step itself.
    pub step: &'a StepSpec,
    /// Counts from one, separately for doing and taking back.
    pub attempt: u32,
    /// What to show to whatever changes the world. Its cancellation never fires while taking back.
    pub permit: Permit,
    /// What earlier steps produced.
    pub outputs: &'a BTreeMap<StepKey, Value>,
}

impl StepContext<'_> {
    /// Reads what an earlier step produced.
    ///
    /// # Errors
    ///
    /// `engine/plan` when that step has not finished or produced something else: a bug, or a
    /// journal from another version.
    pub fn read<T: DeserializeOwned>(&self, slot: &Slot<T>) -> Result<T, StepError> {
        let value = self.outputs.get(slot.key()).ok_or_else(|| PlanBug::Unfilled(slot.key().clone()))?;
        T::deserialize(value).map_err(|source| PlanBug::Decode { what: type_name::<T>(), source }.into())
    }
}

/// A plan and its actions disagree: a bug, or a journal from another version.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanBug {
    #[error("step `{0}` has not produced its output yet")]
    Unfilled(StepKey),
    #[error("cannot decode {what}")]
    Decode { what: &'static str, source: serde_json::Error },
    #[error("no action is registered as `{0}`")]
    Unknown(String),
}

impl Diagnose for PlanBug {
    fn code(&self) -> &'static str {
        "engine/plan"
    }
    fn class(&self) -> Class {
        Class::Fault
    }
}

/// The verbs this process knows.
#[derive(Clone, Default)]
pub struct Registry {
    actions: BTreeMap<&'static str, Arc<dyn ErasedAction>>,
}

impl Registry {
    /// Teaches the engine a verb.
    pub fn register<A: Action>(&mut self, action: A) -> &mut Self {
        self.actions.insert(A::NAME, Arc::new(action));
        self
    }

    pub(crate) fn get(&self, name: &str) -> Result<&dyn ErasedAction, StepError> {
        self.actions.get(name).map(|action| &**action).ok_or_else(|| PlanBug::Unknown(name.to_owned()).into())
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.actions.keys()).finish()
    }
}

#[async_trait]
pub(crate) trait ErasedAction: Send + Sync {
    async fn run(&self, cx: &StepContext<'_>) -> Result<Value, StepError>;
    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError>;
    fn interrupted(&self) -> Interrupted;
    fn can_be_left_out(&self) -> bool;
    fn on_failure(&self, params: &Value) -> OnFailure;
    fn effect(&self) -> Effect;
}

#[async_trait]
impl<A: Action> ErasedAction for A {
    async fn run(&self, cx: &StepContext<'_>) -> Result<Value, StepError> {
        let output = Action::run(self, cx, &decode::<A::Params>(&cx.step.params)?).await?;
        serde_json::to_value(output)
            .map_err(|source| PlanBug::Decode { what: type_name::<A::Output>(), source }.into())
    }

    async fn undo(&self, cx: &StepContext<'_>) -> Result<(), StepError> {
        let output = cx.outputs.get(&cx.step.key).map(decode::<A::Output>).transpose()?;
        Action::undo(self, cx, &decode::<A::Params>(&cx.step.params)?, output.as_ref()).await
    }

    fn interrupted(&self) -> Interrupted {
        Action::interrupted(self)
    }

    fn can_be_left_out(&self) -> bool {
        Action::can_be_left_out(self)
    }

    fn on_failure(&self, params: &Value) -> OnFailure {
        // Parameters that cannot be read have failed the step; that is no reason to ask.
        decode::<A::Params>(params).map_or(OnFailure::TurnBack, |params| Action::on_failure(self, &params))
    }

    fn effect(&self) -> Effect {
        A::EFFECT
    }
}

fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, PlanBug> {
    T::deserialize(value).map_err(|source| PlanBug::Decode { what: type_name::<T>(), source })
}
