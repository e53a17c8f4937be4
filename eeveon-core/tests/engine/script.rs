//! An action that does what a test tells it to, step by step.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eeveon_core::*;
use eeveon_testkit::journal::MemoryJournal;
use tokio::task::yield_now;

use crate::{
    stage::{ID, facts, request},
    world::Broken,
};

/// How one call goes: after so many yields it succeeds, or fails in this way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Turn {
    pub(crate) yields: usize,
    pub(crate) fails: Option<Retry>,
}

pub(crate) const NEVER: Turn = Turn { yields: 0, fails: Some(Retry::Never) };
pub(crate) const LATER: Turn = Turn { yields: 0, fails: Some(Retry::Later) };

impl Turn {
    pub(crate) fn after(self, yields: usize) -> Self {
        Self { yields, ..self }
    }
}

/// What each call is to do, in order; calls not told about succeed at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    turns: BTreeMap<String, VecDeque<Turn>>,
    log: Vec<String>,
}

impl Script {
    /// Tells how the coming calls go, such as those to `run a` or `undo a`.
    pub(crate) fn tell(self, call: &str, turns: impl IntoIterator<Item = Turn>) -> Self {
        self.inner.lock().unwrap().turns.insert(call.to_owned(), turns.into_iter().collect());
        self
    }

    /// What was called, with the attempt and whether it went well, and forgets it.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.inner.lock().unwrap().log)
    }

    async fn call(&self, call: &str, attempt: u32) -> Result<(), StepError> {
        let turn = {
            let mut inner = self.inner.lock().unwrap();
            inner.log.push(format!("{call} {attempt}"));
            inner.turns.get_mut(call).and_then(VecDeque::pop_front).unwrap_or_default()
        };
        for _ in 0..turn.yields {
            yield_now().await;
        }
        let ended = if turn.fails.is_some() { "failed" } else { "done" };
        self.inner.lock().unwrap().log.push(format!("{call} {ended}"));
        match turn.fails {
            Some(retry) => Err(Broken { what: "as told", class: Class::Failed, retry }.into()),
            None => Ok(()),
        }
    }

    pub(crate) fn engine(&self, journal: &Arc<MemoryJournal>) -> Engine {
        let mut registry = Registry::default();
        registry.register(Told::<false>(self.clone())).register(Told::<true>(self.clone()));
        let retry = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        Engine::new(registry, Arc::clone(journal) as Arc<dyn Journal>, Feed::default()).with_retry(retry)
    }

    /// Runs `plan` to its end.
    pub(crate) async fn deploy(
        &self,
        journal: &Arc<MemoryJournal>,
        plan: Plan,
    ) -> Result<Outcome, EngineError> {
        let request = request(&facts(Kind::Deploy));
        self.engine(journal).deploy(ID, request, plan, &Session::new(Fence(1))).await
    }
}

/// The action. With `ASKS`, a person decides after it was interrupted or failed.
struct Told<const ASKS: bool>(Script);

#[async_trait]
impl<const ASKS: bool> Action for Told<ASKS> {
    const NAME: &'static str = if ASKS { "test.asks" } else { "test.told" };
    const EFFECT: Effect = Effect::World;
    type Params = ();
    type Output = ();

    async fn run(&self, cx: &StepContext<'_>, (): &()) -> Result<(), StepError> {
        self.0.call(&format!("run {}", cx.step.key), cx.attempt).await
    }

    async fn undo(&self, cx: &StepContext<'_>, (): &(), _: Option<&()>) -> Result<(), StepError> {
        self.0.call(&format!("undo {}", cx.step.key), cx.attempt).await
    }

    fn interrupted(&self) -> Interrupted {
        if ASKS { Interrupted::Park } else { Interrupted::Rerun }
    }

    fn can_be_left_out(&self) -> bool {
        ASKS
    }

    fn on_failure(&self, (): &()) -> OnFailure {
        if ASKS { OnFailure::Ask } else { OnFailure::TurnBack }
    }
}

/// A plan from a picture such as `a b, c | d`: waves between commas, the pivot at the bar. A step
/// whose name ends in `?` asks a person when it was interrupted or failed, and can be left out.
pub(crate) fn plan(picture: &str) -> Plan {
    let mut plan = Plan::builder();
    for (half, waves) in picture.split('|').enumerate() {
        if half == 1 {
            plan.pivot();
        }
        for wave in waves.split(',') {
            plan.then();
            for key in wave.split_whitespace() {
                match key.ends_with('?') {
                    true => plan.step::<Told<true>>(Stage::Switch, key, &()),
                    false => plan.step::<Told<false>>(Stage::Switch, key, &()),
                };
            }
        }
    }
    plan.build()
}
