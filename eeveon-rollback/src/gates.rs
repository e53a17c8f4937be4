//! Order and quarantine as steps of a plan. What they decide from stands in their parameters, so that
//! a plan can say whether its gates are open before anything runs.

use async_trait::async_trait;
use eeveon_core::{Action, CommitId, Effect, StepContext, StepError};
use serde::{Deserialize, Serialize};

use crate::{PutAside, RollbackError, Verdict, order, quarantine};

/// Whether a gate lets pass, and why.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct GateState {
    /// The gate's name, as in the plan.
    pub name: String,
    /// Whether it lets pass.
    pub open: bool,
    /// Why, in one line.
    pub why: String,
}

impl GateState {
    fn of(name: &str, decision: Result<String, RollbackError>) -> Self {
        let open = decision.is_ok();
        let why = decision.unwrap_or_else(|error| error.to_string());
        Self { name: name.to_owned(), open, why }
    }
}

/// Refuses a commit that is older than what serves.
#[derive(Clone, Copy, Debug)]
pub struct OrderGate;

/// What [`OrderGate`] decides from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct OrderFacts {
    /// Is to go live.
    pub candidate: CommitId,
    /// What serves, and how the candidate relates to it.
    pub live: Option<Compared>,
    /// Whether an older commit is welcome.
    pub allow_older: bool,
}

/// What serves, compared with the candidate.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    /// Serves.
    pub commit: CommitId,
    /// How the candidate relates to it.
    pub verdict: Verdict,
}

impl OrderFacts {
    /// Tells whether the gate is open.
    pub fn state(&self) -> GateState {
        GateState::of(OrderGate::NAME, self.decide())
    }

    fn decide(&self) -> Result<String, RollbackError> {
        let Some(Compared { commit, verdict }) = &self.live else {
            return Ok("nothing serves yet".to_owned());
        };
        order::admit(&self.candidate, commit, verdict, self.allow_older)?;
        Ok(match verdict {
            Verdict::Same => "the same commit as the live one".to_owned(),
            Verdict::Ahead { commits: Some(1) } => "1 commit ahead of the live one".to_owned(),
            Verdict::Ahead { commits: Some(n) } => format!("{n} commits ahead of the live one"),
            Verdict::Ahead { commits: None } => "ahead of the live one".to_owned(),
            Verdict::Diverged => format!("on another line of history than {}, which serves", commit.short()),
            Verdict::Behind => "older than the live one, which is allowed this time".to_owned(),
            Verdict::NeedsMore(_) => "perhaps older than the live one, which is allowed this time".to_owned(),
        })
    }
}

/// Refuses a commit that is put aside.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineGate;

/// What [`QuarantineGate`] decides from.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct QuarantineFacts {
    /// Is to go live.
    pub candidate: CommitId,
    /// What is put aside.
    pub put_aside: Vec<PutAside>,
}

impl QuarantineFacts {
    /// Tells whether the gate is open.
    pub fn state(&self) -> GateState {
        GateState::of(QuarantineGate::NAME, self.decide())
    }

    fn decide(&self) -> Result<String, RollbackError> {
        quarantine::admit(&self.candidate, &self.put_aside)?;
        Ok("not in quarantine".to_owned())
    }
}

#[async_trait]
impl Action for OrderGate {
    const NAME: &'static str = "rollback.order";
    const EFFECT: Effect = Effect::Release;
    type Params = OrderFacts;
    type Output = String;

    async fn run(&self, _: &StepContext<'_>, facts: &OrderFacts) -> Result<String, StepError> {
        Ok(facts.decide()?)
    }

    // A decision leaves nothing to take back.
    async fn undo(&self, _: &StepContext<'_>, _: &OrderFacts, _: Option<&String>) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl Action for QuarantineGate {
    const NAME: &'static str = "rollback.quarantine";
    const EFFECT: Effect = Effect::Release;
    type Params = QuarantineFacts;
    type Output = String;

    async fn run(&self, _: &StepContext<'_>, facts: &QuarantineFacts) -> Result<String, StepError> {
        Ok(facts.decide()?)
    }

    // A decision leaves nothing to take back.
    async fn undo(
        &self,
        _: &StepContext<'_>,
        _: &QuarantineFacts,
        _: Option<&String>,
    ) -> Result<(), StepError> {
        Ok(())
    }
}
