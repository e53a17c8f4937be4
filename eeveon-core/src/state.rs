//! Where a deployment stands, folded from its journal, and what comes next.
//!
//! Both functions are pure. Everything hard about resuming is decided here and tested without a
//! clock, a runtime or a disk.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Class, Failure, Outcome, Plan, Record, Request, Stage, StepKey, StepSpec};

/// The life of one step.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Under way, or interrupted.
    Started,
    /// Done.
    Finished,
    /// Given up.
    Failed,
    /// Being taken back, or interrupted while at it.
    Undoing,
    /// Taken back.
    Undone,
}

/// The journal, summed up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// What was asked for. Set by the first record.
    pub request: Option<Request>,
    /// Set by the first record.
    pub plan: Plan,
    /// Absent steps were never started.
    pub steps: BTreeMap<StepKey, Progress>,
    /// How often each step was begun, in the direction it now goes.
    pub attempts: BTreeMap<StepKey, u32>,
    /// What finished steps produced.
    pub outputs: BTreeMap<StepKey, Value>,
    /// Set once the deployment turned back.
    pub unwinding: bool,
    /// The first failure.
    pub failure: Option<Failure>,
    /// The step a person must look at, and why.
    pub parked: Option<(StepKey, Option<Failure>)>,
    /// Set by the last record.
    pub outcome: Option<Outcome>,
}

/// A record that cannot follow the ones before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the journal is not well formed: {0}")]
pub struct IllegalRecord(pub &'static str);

impl State {
    /// Folds a journal.
    ///
    /// # Errors
    ///
    /// A record cannot follow the ones before it.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Result<Self, IllegalRecord> {
        let mut state = Self::default();
        records.into_iter().try_for_each(|record| state.apply(record))?;
        Ok(state)
    }

    /// Takes one more record into account.
    ///
    /// # Errors
    ///
    /// The record cannot follow the ones before it; the state is unchanged.
    pub fn apply(&mut self, record: &Record) -> Result<(), IllegalRecord> {
        if self.outcome.is_some() {
            return Err(IllegalRecord("a record follows the end"));
        }
        if self.request.is_some() == matches!(record, Record::Opened { .. }) {
            return Err(IllegalRecord("a journal opens once, with its first record"));
        }
        match record {
            Record::Opened { request, plan } => {
                self.request = Some((**request).clone());
                self.plan = plan.clone();
            }
            Record::Started { step, attempt } => {
                if self.plan.step(step).is_none() {
                    return Err(IllegalRecord("a step starts that was not planned"));
                }
                if self.unwinding || self.parked.is_some() {
                    return Err(IllegalRecord("a step starts while turning back or waiting"));
                }
                if !matches!(self.steps.get(step), None | Some(Progress::Started)) {
                    return Err(IllegalRecord("a step starts again after it ended"));
                }
                if !self.due().contains(step) {
                    return Err(IllegalRecord("a step starts before its turn"));
                }
                self.steps.insert(step.clone(), Progress::Started);
                self.attempts.insert(step.clone(), *attempt);
            }
            Record::Finished { step, output } => {
                self.expect(step, Progress::Started)?;
                self.steps.insert(step.clone(), Progress::Finished);
                self.outputs.insert(step.clone(), output.clone());
            }
            Record::Failed { step, failure } => {
                self.expect(step, Progress::Started)?;
                if !self.plan.is_before_pivot(step) {
                    return Err(IllegalRecord("past the pivot a step is parked, not failed"));
                }
                self.steps.insert(step.clone(), Progress::Failed);
                self.failure.get_or_insert_with(|| failure.clone());
                self.unwinding = true;
                // Another step of the wave may have asked a person: there is nothing to decide now.
                self.unpark();
            }
            Record::Cancelled { .. } => {
                if !self.can_turn_back() {
                    return Err(IllegalRecord("cancelled past the point of no return"));
                }
                // What made it wait for a person is why it is taken back.
                if let (false, Some((_, Some(failure)))) = (self.unwinding, &self.parked) {
                    self.failure.get_or_insert_with(|| failure.clone());
                }
                self.unwinding = true;
                self.unpark();
            }
            Record::UndoStarted { step, attempt } => {
                if !self.unwinding || !self.steps.contains_key(step) {
                    return Err(IllegalRecord("a step is taken back that never ran"));
                }
                if self.steps.get(step) == Some(&Progress::Undone) {
                    return Err(IllegalRecord("a step is taken back twice"));
                }
                if !self.due().contains(step) {
                    return Err(IllegalRecord("a step is taken back before its turn"));
                }
                self.steps.insert(step.clone(), Progress::Undoing);
                self.attempts.insert(step.clone(), *attempt);
            }
            Record::UndoFinished { step } => {
                self.expect(step, Progress::Undoing)?;
                self.steps.insert(step.clone(), Progress::Undone);
                self.outputs.remove(step);
            }
            Record::Parked { step, failure } => {
                self.expect(step, if self.unwinding { Progress::Undoing } else { Progress::Started })?;
                self.parked = Some((step.clone(), failure.clone()));
            }
            Record::Unparked { .. } => {
                if self.parked.is_none() {
                    return Err(IllegalRecord("nothing was waiting"));
                }
                self.unpark();
            }
            Record::Closed { outcome } => {
                if self.parked.is_some() || !self.due().is_empty() {
                    return Err(IllegalRecord("it ends with work left"));
                }
                if self.unwinding == (*outcome == Outcome::Succeeded) {
                    return Err(IllegalRecord("it ends as it did not go"));
                }
                self.outcome = Some(outcome.clone());
            }
        }
        Ok(())
    }

    /// Tells whether everything can still be taken back: no step past the pivot has begun.
    pub fn can_turn_back(&self) -> bool {
        !self.steps.keys().any(|step| !self.plan.is_before_pivot(step))
    }

    /// Tells whether only work past the pivot is left, so that going on is the way out.
    pub fn is_past_pivot(&self) -> bool {
        !self.unwinding
            && self.plan.before_pivot().all(|step| self.steps.get(&step.key) == Some(&Progress::Finished))
    }

    /// Tells whether the release may have served: some switch had begun.
    pub fn has_switched(&self) -> bool {
        self.plan.steps().any(|step| step.stage == Stage::Switch && self.steps.contains_key(&step.key))
    }

    /// Returns the step a person has to be asked at, when the process died while an irreversible release
    /// served: the one that was under way, or the next. And whether it had begun.
    pub fn undecided(&self) -> Option<(StepKey, bool)> {
        let is_irreversible = self.request.as_ref().is_some_and(|it| it.irreversible);
        let is = |it: &StepSpec, progress| self.steps.get(&it.key) == Some(&progress);
        let served = self.plan.steps().any(|it| it.stage == Stage::Switch && is(it, Progress::Finished));
        if !is_irreversible || !served || self.unwinding {
            return None;
        }
        let begun = self.plan.steps().find(|it| is(it, Progress::Started)).map(|it| (it.key.clone(), true));
        begun.or_else(|| self.due().into_iter().next().map(|step| (step, false)))
    }

    /// Returns the steps of the wave whose turn it is: to be run, or when turning back to be taken
    /// back. Empty when nothing is left.
    fn due(&self) -> Vec<StepKey> {
        let is_open = |step: &&StepSpec| match self.steps.get(&step.key) {
            None => !self.unwinding,
            Some(Progress::Undone) => false,
            Some(Progress::Finished) => self.unwinding,
            Some(Progress::Started | Progress::Failed | Progress::Undoing) => true,
        };
        let open =
            |wave: &Vec<StepSpec>| wave.iter().filter(is_open).map(|it| it.key.clone()).collect::<Vec<_>>();
        let mut waves = self.plan.waves.iter().map(open).filter(|open| !open.is_empty());
        if self.unwinding { waves.next_back() } else { waves.next() }.unwrap_or_default()
    }

    fn unpark(&mut self) {
        if let Some((step, _)) = self.parked.take() {
            self.attempts.remove(&step);
        }
    }

    fn expect(&self, step: &StepKey, progress: Progress) -> Result<(), IllegalRecord> {
        match self.steps.get(step) == Some(&progress) {
            true => Ok(()),
            false => Err(IllegalRecord("a step skips a state")),
        }
    }
}

/// What the engine does next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Run these side by side.
    Run(Vec<StepKey>),
    /// Take these back side by side.
    Undo(Vec<StepKey>),
    /// Wait for a person to look at this step.
    Wait(StepKey),
    /// Record the end.
    Close(Outcome),
    /// The end is recorded.
    Done(Outcome),
}

/// Decides what comes next.
pub fn decide(state: &State) -> Decision {
    if let Some(outcome) = &state.outcome {
        return Decision::Done(outcome.clone());
    }
    if let Some((step, _)) = &state.parked {
        return Decision::Wait(step.clone());
    }
    let due = state.due();
    match (due.is_empty(), state.unwinding) {
        (false, false) => Decision::Run(due),
        (false, true) => Decision::Undo(due),
        (true, false) => Decision::Close(Outcome::Succeeded),
        (true, true) => Decision::Close(match &state.failure {
            Some(failure) if failure.class == Class::Refused && !state.has_switched() => {
                Outcome::Refused { failure: failure.clone() }
            }
            failure => Outcome::Reverted { failure: failure.clone(), served: state.has_switched() },
        }),
    }
}
