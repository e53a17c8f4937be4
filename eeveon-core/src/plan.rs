//! A plan: waves of steps, as plain data, fixed before anything runs.

use std::{collections::BTreeSet, fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Action, Stage};

/// Names one step within one plan, such as `ship/local`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepKey(String);

impl StepKey {
    /// Wraps a key.
    pub fn new(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The typed promise of a step's output, to be put in a later step's parameters.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slot<T> {
    key: StepKey,
    #[serde(skip)]
    output: PhantomData<fn() -> T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), output: PhantomData }
    }
}

impl<T> Slot<T> {
    /// Returns the step that fills this slot.
    pub fn key(&self) -> &StepKey {
        &self.key
    }
}

/// One step: which action to run, with which parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Unique within the plan.
    pub key: StepKey,
    /// The stage shown to people.
    pub stage: Stage,
    /// The registered action to run.
    pub action: String,
    /// The action's parameters.
    pub params: Value,
}

/// Waves run one after another; the steps of a wave run side by side.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The steps, in order.
    pub waves: Vec<Vec<StepSpec>>,
    /// From this wave on, a failure no longer takes the deployment back.
    pub pivot: Option<usize>,
}

impl Plan {
    /// Starts an empty plan.
    pub fn builder() -> PlanBuilder {
        PlanBuilder::default()
    }

    /// Finds a step by key.
    pub fn step(&self, key: &StepKey) -> Option<&StepSpec> {
        self.steps().find(|step| step.key == *key)
    }

    /// Returns all steps, in order.
    pub fn steps(&self) -> impl Iterator<Item = &StepSpec> {
        self.waves.iter().flatten()
    }

    /// Returns the steps before the pivot: those that are taken back when one of them fails.
    pub fn before_pivot(&self) -> impl Iterator<Item = &StepSpec> {
        self.waves.iter().take(self.pivot.unwrap_or(usize::MAX)).flatten()
    }

    /// Tells whether a failure of the step takes the deployment back.
    pub fn is_before_pivot(&self, key: &StepKey) -> bool {
        self.before_pivot().any(|step| step.key == *key)
    }
}

/// A plan a person can read: one line per wave, the pivot marked. Tests of strategies compare it.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, wave) in self.waves.iter().enumerate() {
            if self.pivot == Some(n) {
                writeln!(f, "-- no way back --")?;
            }
            let keys: Vec<_> = wave.iter().map(|step| step.key.as_str()).collect();
            writeln!(f, "{}", keys.join("  "))?;
        }
        Ok(())
    }
}

/// Collects steps into waves.
#[derive(Debug, Default)]
pub struct PlanBuilder {
    plan: Plan,
    keys: BTreeSet<StepKey>,
}

impl PlanBuilder {
    /// Adds a step to the current wave.
    ///
    /// # Panics
    ///
    /// When `key` was used before, or `params` have no JSON form: the strategy has a bug.
    #[expect(clippy::expect_used, reason = "documented; strategies are code, not input")]
    pub fn step<A: Action>(&mut self, stage: Stage, key: &str, params: &A::Params) -> Slot<A::Output> {
        let key = StepKey::new(key);
        assert!(self.keys.insert(key.clone()), "step `{key}` was added twice");
        let params = serde_json::to_value(params).expect("parameters have a JSON form");
        let step = StepSpec { key: key.clone(), stage, action: A::NAME.to_owned(), params };
        match self.plan.waves.last_mut() {
            Some(wave) => wave.push(step),
            None => self.plan.waves.push(vec![step]),
        }
        Slot { key, output: PhantomData }
    }

    /// Ends the current wave: what follows waits for everything before.
    pub fn then(&mut self) -> &mut Self {
        if self.plan.waves.last().is_some_and(|wave| !wave.is_empty()) {
            self.plan.waves.push(Vec::new());
        }
        self
    }

    /// Marks the point of no return: what follows is only ever retried forward.
    pub fn pivot(&mut self) -> &mut Self {
        self.then();
        self.plan.pivot = Some(self.plan.waves.len().saturating_sub(1));
        self
    }

    /// Finishes the plan.
    pub fn build(mut self) -> Plan {
        self.plan.waves.retain(|wave| !wave.is_empty());
        // A pivot with nothing behind it forbids nothing.
        self.plan.pivot = self.plan.pivot.filter(|pivot| *pivot < self.plan.waves.len());
        self.plan
    }
}
