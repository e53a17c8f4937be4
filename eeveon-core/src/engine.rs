//! The loop: decide, record, act, record.

use std::sync::{Arc, OnceLock};

use futures::future::join_all;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    Actor, Class, Clock, Decision, DeploymentId, Diagnose, Durability, Effect, Entry, FORMAT, Feed, Fence,
    Interrupted, Journal, JournalError, OnFailure, Outcome, Permit, Plan, Record, Registry, Request, Retry,
    RetryPolicy, Seq, State, StepContext, StepError, StepKey, StepProgress, StepSpec, SystemClock, decide,
    state::{IllegalRecord, Progress},
};

/// Drives deployments. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Engine {
    actions: Registry,
    journal: Arc<dyn Journal>,
    feed: Feed,
    clock: Arc<dyn Clock>,
    retry: RetryPolicy,
}

/// The engine had to stop; the deployment can be resumed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// Nothing is done that cannot be recorded first.
    #[error("stopped because the journal failed")]
    Journal(#[from] JournalError),
    /// The journal contradicts itself.
    #[error("deployment {deployment} cannot be continued")]
    Corrupt {
        /// Which.
        deployment: DeploymentId,
        /// How.
        source: IllegalRecord,
    },
    /// The journal was written by a version with another format.
    #[error("deployment {deployment} has a journal of format {found}; this version knows format {FORMAT}")]
    Foreign {
        /// Which.
        deployment: DeploymentId,
        /// The format found.
        found: u32,
    },
    /// A person must look at a step.
    #[error("step `{0}` waits for a person")]
    Parked(StepKey),
    /// Only a check, a hook, or a step that waits while it is taken back, can be skipped.
    #[error("deployment {0} does not wait at a check, a hook, or a step that was to be taken back")]
    NothingToSkip(DeploymentId),
    /// What was asked is not possible any more.
    #[error("deployment {0} is past the point of no return and can only go forward")]
    NoWayBack(DeploymentId),
}

impl Diagnose for EngineError {
    fn code(&self) -> &'static str {
        match self {
            Self::Journal(JournalError::Conflict { .. }) => "engine/taken-over",
            Self::Journal(JournalError::Unreadable { .. }) | Self::Foreign { .. } => "engine/foreign-journal",
            Self::Journal(JournalError::Unavailable(_)) => "engine/journal",
            Self::Corrupt { .. } => "engine/corrupt-journal",
            Self::Parked(_) => "engine/parked",
            Self::NothingToSkip(_) => "engine/nothing-to-skip",
            Self::NoWayBack(_) => "engine/no-way-back",
        }
    }

    fn hint(&self) -> Option<std::borrow::Cow<'static, str>> {
        Some(match self {
            Self::Journal(JournalError::Conflict { .. }) => {
                "another ee-deploy took over; `ee-deploy status` shows what it does".into()
            }
            Self::Journal(JournalError::Unreadable { .. }) | Self::Foreign { .. } => {
                "run the version of ee-deploy that began this deployment, or a newer one".into()
            }
            Self::Journal(JournalError::Unavailable(_)) => {
                "free space or repair the disk under the home folder; the next command goes on from here"
                    .into()
            }
            Self::Corrupt { .. } => "run `ee-deploy check`; other deployments are not affected".into(),
            Self::NothingToSkip(_) => "`ee-deploy why` tells what it waits for".into(),
            Self::Parked(_) => "mend the cause, then `ee-deploy resume`, or `ee-deploy cancel`".into(),
            Self::NoWayBack(_) => "use `ee-deploy resume`, or `ee-deploy rollback` once it has ended".into(),
        })
    }

    fn class(&self) -> Class {
        match self {
            Self::Journal(JournalError::Conflict { .. }) | Self::NoWayBack(_) => Class::Refused,
            Self::Parked(_) => Class::Failed,
            Self::NothingToSkip(_) => Class::Usage,
            _ => Class::Fault,
        }
    }
}

/// What one process may do with one deployment, and how it is told to stop.
#[derive(Clone, Debug)]
pub struct Session {
    fence: Fence,
    cancel: CancellationToken,
    asked: Arc<OnceLock<(Actor, Option<String>)>>,
}

impl Session {
    /// Begins a session under the lease with this number.
    pub fn new(fence: Fence) -> Self {
        Self { fence, cancel: CancellationToken::new(), asked: Arc::default() }
    }

    /// Asks the deployment to stop and go back. Only the first call counts; past the point of no
    /// return it goes on to its end.
    pub fn cancel(&self, by: Actor, reason: Option<String>) {
        let _first_wins = self.asked.set((by, reason));
        self.cancel.cancel();
    }

    /// Stops at once without going back, because the lease is lost: whoever has it now goes on.
    pub fn abandon(&self) {
        self.cancel.cancel();
    }

    /// Returns what fires when the work should stop.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Returns the number of the lease.
    pub fn fence(&self) -> Fence {
        self.fence
    }
}

impl Engine {
    /// Builds an engine from the verbs it knows and the place it records to.
    pub fn new(actions: Registry, journal: Arc<dyn Journal>, feed: Feed) -> Self {
        Self { actions, journal, feed, clock: Arc::new(SystemClock), retry: RetryPolicy::default() }
    }

    /// Replaces the clock.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces how patiently a step is tried again.
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Records the plan and carries it out.
    ///
    /// # Errors
    ///
    /// The engine had to stop; see [`EngineError`]. A deployment that failed is no error but an
    /// [`Outcome`].
    pub async fn deploy(
        &self,
        id: DeploymentId,
        request: Request,
        plan: Plan,
        session: &Session,
    ) -> Result<Outcome, EngineError> {
        let run = Run::empty(self, id, session);
        run.record(Record::Opened { request: Box::new(request), plan }).await?;
        run.drive().await
    }

    /// Takes up a deployment after the process that ran it died: once it is past the pivot it is
    /// finished, until then it is taken back, and an irreversible release that serves waits for a
    /// person. Never runs a step forward before the pivot, so that any command can call it.
    ///
    /// # Errors
    ///
    /// As [`Engine::deploy`].
    pub async fn recover(&self, id: DeploymentId, session: &Session) -> Result<Outcome, EngineError> {
        let run = Run::load(self, id, session).await?;
        let (past_pivot, settled, undecided) = {
            let ledger = run.ledger.lock().await;
            let state = &ledger.state;
            let settled = state.unwinding || state.parked.is_some() || state.outcome.is_some();
            (state.is_past_pivot(), settled, state.undecided())
        };
        if let (false, false, Some((step, has_begun))) = (past_pivot, settled, undecided) {
            // It serves, and going back does not change everything back: a person decides.
            if !has_begun {
                run.record(Record::Started { step: step.clone(), attempt: 1 }).await?;
            }
            run.record(Record::Parked { step, failure: None }).await?;
        } else if !past_pivot && !settled {
            let reason = Some("the process that ran it died".to_owned());
            run.record(Record::Cancelled { by: Actor::Engine, reason }).await?;
        }
        run.drive().await
    }

    /// Goes on where the journal ends, forward too.
    ///
    /// # Errors
    ///
    /// As [`Engine::deploy`].
    pub async fn resume(&self, id: DeploymentId, session: &Session) -> Result<Outcome, EngineError> {
        Run::load(self, id, session).await?.drive().await
    }

    /// Goes on with a parked deployment, after a person has looked.
    ///
    /// # Errors
    ///
    /// As [`Engine::deploy`].
    pub async fn unpark(
        &self,
        id: DeploymentId,
        by: Actor,
        reason: Option<String>,
        session: &Session,
    ) -> Result<Outcome, EngineError> {
        let run = Run::load(self, id, session).await?;
        if run.ledger.lock().await.state.parked.is_some() {
            run.record(Record::Unparked { by, reason }).await?;
        }
        run.drive().await
    }

    /// Goes on with a deployment that waits, leaving out the step it waits at: a check that a person
    /// overrules, or something to be taken back that a person saw to.
    ///
    /// # Errors
    ///
    /// `NothingToSkip` when it waits at no such step; otherwise as [`Engine::deploy`].
    pub async fn skip(
        &self,
        id: DeploymentId,
        by: Actor,
        reason: Option<String>,
        session: &Session,
    ) -> Result<Outcome, EngineError> {
        let run = Run::load(self, id, session).await?;
        let state = run.ledger.lock().await.state.clone();
        let Some((step, _)) = state.parked else { return Err(EngineError::NothingToSkip(id)) };
        let planned = state.plan.step(&step).map(|it| self.actions.get(&it.action));
        let may_be_left_out = planned.is_some_and(|it| it.is_ok_and(|it| it.can_be_left_out()));
        let [begin, end] = match state.steps.get(&step) {
            Some(Progress::Undoing) => {
                [Record::UndoStarted { step: step.clone(), attempt: 1 }, Record::UndoFinished { step }]
            }
            Some(Progress::Started) if may_be_left_out => [
                Record::Started { step: step.clone(), attempt: 1 },
                Record::Finished { step, output: serde_json::Value::Null },
            ],
            _ => return Err(EngineError::NothingToSkip(id)),
        };
        run.record(Record::Unparked { by, reason }).await?;
        run.record(begin).await?;
        run.record(end).await?;
        run.drive().await
    }

    /// Takes back a deployment that no process runs.
    ///
    /// # Errors
    ///
    /// `NoWayBack` once a step past the pivot has begun, unless it has ended already; otherwise as
    /// [`Engine::deploy`].
    pub async fn cancel(
        &self,
        id: DeploymentId,
        by: Actor,
        reason: Option<String>,
        session: &Session,
    ) -> Result<Outcome, EngineError> {
        let run = Run::load(self, id, session).await?;
        let (ended, can_turn_back) = {
            let state = &run.ledger.lock().await.state;
            (state.outcome.is_some(), state.can_turn_back())
        };
        match (ended, can_turn_back) {
            (true, _) => {}
            (false, true) => run.record(Record::Cancelled { by, reason }).await?,
            (false, false) => return Err(EngineError::NoWayBack(id)),
        }
        run.drive().await
    }
}

/// One deployment in this process. The ledger's lock makes it the single writer.
struct Run<'a> {
    engine: &'a Engine,
    session: &'a Session,
    id: DeploymentId,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    state: State,
    next: Seq,
    /// Time of the newest entry.
    latest: Option<jiff::Timestamp>,
}

impl<'a> Run<'a> {
    fn empty(engine: &'a Engine, id: DeploymentId, session: &'a Session) -> Self {
        Self { engine, session, id, ledger: Mutex::default() }
    }

    async fn load(engine: &'a Engine, id: DeploymentId, session: &'a Session) -> Result<Self, EngineError> {
        let mut ledger = Ledger::default();
        for entry in engine.journal.read(id, Seq::default()).await? {
            if let Record::Opened { request, .. } = &entry.record
                && request.format != FORMAT
            {
                return Err(EngineError::Foreign { deployment: id, found: request.format });
            }
            let corrupt = |source| EngineError::Corrupt { deployment: id, source };
            ledger.state.apply(&entry.record).map_err(corrupt)?;
            ledger.next = entry.seq.next();
            ledger.latest = Some(entry.at);
        }
        if ledger.state.request.is_none() {
            return Err(EngineError::Corrupt { deployment: id, source: IllegalRecord("it is empty") });
        }
        Ok(Self { engine, session, id, ledger: Mutex::new(ledger) })
    }

    async fn record(&self, record: Record) -> Result<(), EngineError> {
        let mut ledger = self.ledger.lock().await;
        self.write(&mut ledger, record).await
    }

    async fn write(&self, ledger: &mut Ledger, record: Record) -> Result<(), EngineError> {
        let corrupt = |source| EngineError::Corrupt { deployment: self.id, source };
        // What cannot follow is never written.
        let mut state = ledger.state.clone();
        state.apply(&record).map_err(corrupt)?;
        let now = self.engine.clock.now();
        let at = ledger.latest.map_or(now, |latest| latest.max(now));
        let durability = self.durability(&state, &record);
        let entry = Entry { deployment: self.id, seq: ledger.next, at, record };
        self.engine.journal.append(&entry, durability).await?;
        ledger.state = state;
        ledger.next = entry.seq.next();
        ledger.latest = Some(at);
        self.engine.feed.publish(entry);
        Ok(())
    }

    /// A record must outlive a power cut before something outside the new release is touched, before
    /// anybody is told about it, and before the direction changes: a release must never be taken
    /// away by a deployment that then, its memory lost, goes on forward.
    fn durability(&self, state: &State, record: &Record) -> Durability {
        match record {
            Record::Started { step, .. } | Record::UndoStarted { step, .. } => {
                let action = state.plan.step(step).map(|step| self.engine.actions.get(&step.action));
                match action {
                    Some(Ok(action)) if action.effect() == Effect::Release => Durability::Process,
                    _ => Durability::Power,
                }
            }
            Record::Opened { .. } | Record::Finished { .. } | Record::UndoFinished { .. } => {
                Durability::Process
            }
            Record::Failed { .. }
            | Record::Cancelled { .. }
            | Record::Parked { .. }
            | Record::Unparked { .. }
            | Record::Closed { .. } => Durability::Power,
        }
    }

    async fn drive(&self) -> Result<Outcome, EngineError> {
        self.settle_interrupted().await?;
        loop {
            self.turn_back_if_asked().await?;
            let decision = decide(&self.ledger.lock().await.state);
            let results = match decision {
                Decision::Run(steps) => join_all(steps.iter().map(|step| self.run_step(step))).await,
                Decision::Undo(steps) => join_all(steps.iter().map(|step| self.undo_step(step))).await,
                Decision::Wait(step) => return Err(EngineError::Parked(step)),
                Decision::Close(outcome) => {
                    self.record(Record::Closed { outcome }).await?;
                    continue;
                }
                Decision::Done(outcome) => return Ok(outcome),
            };
            results.into_iter().collect::<Result<(), _>>()?;
        }
    }

    /// A step already begun when we took over was interrupted; some need a person's eye.
    async fn settle_interrupted(&self) -> Result<(), EngineError> {
        let state = self.ledger.lock().await.state.clone();
        if state.unwinding || state.parked.is_some() {
            // Taking back accepts half-done work, so there is nothing to ask.
            return Ok(());
        }
        for step in state.plan.steps() {
            // A step without attempts is one a person has looked at since.
            let interrupted = state.steps.get(&step.key) == Some(&Progress::Started)
                && state.attempts.contains_key(&step.key);
            let parks = self.engine.actions.get(&step.action).map(|it| it.interrupted());
            if interrupted && parks.is_ok_and(|it| it == Interrupted::Park) {
                return self.record(Record::Parked { step: step.key.clone(), failure: None }).await;
            }
        }
        Ok(())
    }

    async fn turn_back_if_asked(&self) -> Result<(), EngineError> {
        if !self.session.cancel.is_cancelled() {
            return Ok(());
        }
        let Some((by, reason)) = self.session.asked.get().cloned() else {
            // Abandoned: the lease is gone, and with it the right to write.
            let at = self.ledger.lock().await.next;
            return Err(JournalError::Conflict { deployment: self.id, at }.into());
        };
        let may = {
            let state = &self.ledger.lock().await.state;
            !state.unwinding && state.outcome.is_none() && state.can_turn_back() && !state.is_past_pivot()
        };
        match may {
            true => self.record(Record::Cancelled { by, reason }).await,
            false => Ok(()),
        }
    }

    async fn run_step(&self, key: &StepKey) -> Result<(), EngineError> {
        let mut waits = self.engine.retry.waits();
        let before_pivot = self.ledger.lock().await.state.plan.is_before_pivot(key);
        loop {
            let (step, outputs, attempt) = {
                let mut ledger = self.ledger.lock().await;
                let state = &ledger.state;
                let stopped = before_pivot && self.session.cancel.is_cancelled();
                if stopped || state.unwinding || state.parked.is_some() {
                    // Since this step was chosen, or while it waited for another attempt, another
                    // one of its wave failed, or somebody asked to stop. What it left half done is
                    // taken back, or done again, with the others.
                    return Ok(());
                }
                let step = self.planned(state, key)?;
                let attempt = state.attempts.get(key).copied().unwrap_or(0).saturating_add(1);
                let outputs = state.outputs.clone();
                self.write(&mut ledger, Record::Started { step: key.clone(), attempt }).await?;
                (step, outputs, attempt)
            };
            // Past the pivot the only way is forward: a wish to stop is not heard there.
            let cancel = match before_pivot {
                true => self.session.cancel.clone(),
                false => CancellationToken::new(),
            };
            let context = self.context(&step, &outputs, attempt, cancel);
            let done = match self.engine.actions.get(&step.action) {
                Ok(action) => action.run(&context).await,
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(output) => return self.record(Record::Finished { step: key.clone(), output }).await,
                Err(error) => error,
            };
            if before_pivot && self.session.cancel.is_cancelled() {
                // Not a failure: the step stays begun, and turning back takes care of it.
                return Ok(());
            }
            if self.waited_to_retry(&error, &mut waits, &context.permit).await {
                continue;
            }
            let failure = error.into_failure(step.stage);
            let asks = self
                .engine
                .actions
                .get(&step.action)
                .is_ok_and(|it| it.on_failure(&step.params) == OnFailure::Ask);
            let mut ledger = self.ledger.lock().await;
            // When another step of the wave has turned the deployment back, there is nothing to ask.
            let record = match before_pivot && (!asks || ledger.state.unwinding) {
                true => Record::Failed { step: key.clone(), failure },
                false => Record::Parked { step: key.clone(), failure: Some(failure) },
            };
            return self.write(&mut ledger, record).await;
        }
    }

    async fn undo_step(&self, key: &StepKey) -> Result<(), EngineError> {
        let mut waits = self.engine.retry.waits();
        loop {
            let (step, outputs, attempt) = {
                let state = &self.ledger.lock().await.state;
                let step = self.planned(state, key)?;
                let before = match state.steps.get(key) {
                    Some(Progress::Undoing) => state.attempts.get(key).copied().unwrap_or(0),
                    _ => 0,
                };
                (step, state.outputs.clone(), before.saturating_add(1))
            };
            self.record(Record::UndoStarted { step: key.clone(), attempt }).await?;
            let context = self.context(&step, &outputs, attempt, CancellationToken::new());
            let done = match self.engine.actions.get(&step.action) {
                Ok(action) => action.undo(&context).await,
                Err(error) => Err(error),
            };
            let error = match done {
                Ok(()) => return self.record(Record::UndoFinished { step: key.clone() }).await,
                Err(error) => error,
            };
            if self.waited_to_retry(&error, &mut waits, &context.permit).await {
                continue;
            }
            let failure = Some(error.into_failure(step.stage));
            return self.record(Record::Parked { step: key.clone(), failure }).await;
        }
    }

    fn planned(&self, state: &State, key: &StepKey) -> Result<StepSpec, EngineError> {
        let source = IllegalRecord("a step is named that was not planned");
        state.plan.step(key).cloned().ok_or(EngineError::Corrupt { deployment: self.id, source })
    }

    fn context<'s>(
        &self,
        step: &'s StepSpec,
        outputs: &'s std::collections::BTreeMap<StepKey, serde_json::Value>,
        attempt: u32,
        cancel: CancellationToken,
    ) -> StepContext<'s> {
        let (feed, deployment, key) = (self.engine.feed.clone(), self.id, step.key.clone());
        let permit = Permit::new(self.session.fence, cancel).reporting(move |progress| {
            feed.report(StepProgress { deployment, step: key.clone(), progress });
        });
        StepContext { deployment: self.id, step, attempt, permit, outputs }
    }

    /// Waits if another attempt may help and there is one left. A wish to stop ends the wait early;
    /// it is heard before the next attempt begins.
    async fn waited_to_retry(
        &self,
        error: &StepError,
        waits: &mut (impl Iterator<Item = std::time::Duration> + Send),
        permit: &Permit,
    ) -> bool {
        if error.diagnosis().retry() != Retry::Later {
            return false;
        }
        let Some(wait) = waits.next() else { return false };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = permit.cancel.cancelled() => {}
        }
        true
    }
}
