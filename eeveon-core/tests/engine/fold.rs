//! Properties of the fold and of the decision: over random plans and random histories.

use std::collections::BTreeSet;

use eeveon_core::*;
use proptest::prelude::*;

use crate::stage::{facts, request};

/// The choices a history is made of; where they run out, everything goes well.
#[derive(Clone, Debug)]
struct Choices {
    left: Vec<u8>,
}

impl Choices {
    fn of(&mut self, options: usize) -> usize {
        self.left.pop().map_or(0, |choice| usize::from(choice) % options)
    }
}

fn plans() -> impl Strategy<Value = Plan> {
    let stages = [Stage::Admit, Stage::Ship, Stage::Switch, Stage::Check];
    let waves = prop::collection::vec(prop::collection::vec(0..stages.len(), 1..4), 0..5);
    (waves, prop::option::of(0_usize..5)).prop_map(move |(waves, pivot)| {
        let waves: Vec<Vec<StepSpec>> = waves
            .iter()
            .enumerate()
            .map(|(wave, steps)| {
                let step = |(n, stage): (usize, &usize)| StepSpec {
                    key: StepKey::new(format!("{wave}/{n}")),
                    stage: stages[*stage],
                    action: "test".into(),
                    params: serde_json::Value::Null,
                };
                steps.iter().enumerate().map(step).collect()
            })
            .collect();
        let pivot = pivot.filter(|pivot| *pivot < waves.len());
        Plan { waves, pivot }
    })
}

fn choices() -> impl Strategy<Value = Choices> {
    prop::collection::vec(any::<u8>(), 0..120).prop_map(|left| Choices { left })
}

fn opened(plan: &Plan) -> Record {
    Record::Opened { request: Box::new(request(&facts(Kind::Deploy))), plan: plan.clone() }
}

fn failure(class: Class) -> Failure {
    Failure {
        stage: Stage::Check,
        code: "test/broken".into(),
        class,
        message: "as chosen".into(),
        causes: Vec::new(),
        hint: None,
        details: None,
    }
}

fn ada() -> Actor {
    Actor::User("ada".into())
}

/// Every record that names no step out of nowhere, legal or not.
fn candidates(state: &State) -> Vec<Record> {
    let mut records = vec![
        opened(&state.plan),
        Record::Cancelled { by: Actor::Engine, reason: None },
        Record::Unparked { by: ada(), reason: None },
        Record::Closed { outcome: Outcome::Succeeded },
        Record::Closed { outcome: Outcome::Reverted { failure: None, served: false } },
        Record::Closed { outcome: Outcome::Refused { failure: failure(Class::Refused) } },
    ];
    let keys = state.plan.steps().map(|step| step.key.clone());
    for step in keys.chain([StepKey::new("unplanned")]) {
        records.push(Record::Started { step: step.clone(), attempt: 1 });
        records.push(Record::Finished { step: step.clone(), output: serde_json::Value::from(1) });
        records.push(Record::Failed { step: step.clone(), failure: failure(Class::Failed) });
        records.push(Record::UndoStarted { step: step.clone(), attempt: 1 });
        records.push(Record::UndoFinished { step: step.clone() });
        records.push(Record::Parked { step, failure: None });
    }
    records
}

/// Walks at random through everything that may be recorded, the engine's way or not.
fn any_history(plan: &Plan, choices: &mut Choices) -> (State, Vec<Record>) {
    let (mut state, mut history) = (State::default(), vec![opened(plan)]);
    state.apply(&history[0]).unwrap();
    while !choices.left.is_empty() && state.outcome.is_none() {
        let legal: Vec<Record> =
            candidates(&state).into_iter().filter(|record| state.clone().apply(record).is_ok()).collect();
        let record = legal[choices.of(legal.len())].clone();
        state.apply(&record).unwrap();
        history.push(record);
    }
    (state, history)
}

/// Does what the engine does, with outcomes, deaths and a person's acts as chosen, until the end.
/// Checks every decision on the way; returns the records.
fn engine_history(mut state: State, choices: &mut Choices) -> Result<Vec<Record>, TestCaseError> {
    let mut history = Vec::new();
    let mut record = |state: &mut State, record: Record| {
        let accepted = state.apply(&record);
        prop_assert!(accepted.is_ok(), "{record:?} was refused: {accepted:?}");
        history.push(record);
        Ok(())
    };
    // Each choice brings at most one more round than the plan itself needs.
    let bound = 4 * (state.plan.steps().count() + 2) + 2 * choices.left.len();
    for _ in 0..=bound {
        let may_cancel = state.outcome.is_none() && !state.unwinding && state.can_turn_back();
        if may_cancel && choices.of(16) == 15 {
            record(&mut state, Record::Cancelled { by: ada(), reason: None })?;
        }
        match decide(&state) {
            Decision::Run(steps) => {
                check_run(&state, &steps)?;
                let (mut begun, mut turn) = (Vec::new(), steps);
                while let Some(step) = turn.pop() {
                    if state.unwinding || state.parked.is_some() {
                        break;
                    }
                    record(&mut state, Record::Started { step: step.clone(), attempt: 1 })?;
                    match choices.of(3) {
                        2 => end(&mut state, step, choices, &mut record)?,
                        _ => begun.push(step),
                    }
                }
                for step in begun {
                    end(&mut state, step, choices, &mut record)?;
                }
            }
            Decision::Undo(steps) => {
                check_undo(&state, &steps)?;
                for step in &steps {
                    record(&mut state, Record::UndoStarted { step: step.clone(), attempt: 1 })?;
                }
                for step in steps {
                    match choices.of(6) {
                        4 => record(&mut state, Record::Parked { step, failure: None })?,
                        // The process died.
                        5 => {}
                        _ => record(&mut state, Record::UndoFinished { step })?,
                    }
                }
            }
            Decision::Wait(step) => {
                prop_assert!(state.steps.contains_key(&step));
                match state.can_turn_back() && choices.of(2) == 1 {
                    true => record(&mut state, Record::Cancelled { by: ada(), reason: None })?,
                    false => record(&mut state, Record::Unparked { by: ada(), reason: None })?,
                }
            }
            Decision::Close(outcome) => {
                check_close(&state, &outcome)?;
                record(&mut state, Record::Closed { outcome })?;
            }
            Decision::Done(outcome) => {
                prop_assert_eq!(Some(outcome), state.outcome);
                return Ok(history);
            }
        }
    }
    Err(TestCaseError::fail(format!("it goes on for ever: {history:?}")))
}

/// A step that has begun ends in some way, or the process dies.
fn end(
    state: &mut State,
    step: StepKey,
    choices: &mut Choices,
    record: &mut impl FnMut(&mut State, Record) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let before_pivot = state.plan.is_before_pivot(&step);
    match choices.of(8) {
        5 if before_pivot => record(state, Record::Failed { step, failure: failure(Class::Refused) }),
        6 if before_pivot => record(state, Record::Failed { step, failure: failure(Class::Failed) }),
        5 | 6 => record(state, Record::Parked { step, failure: Some(failure(Class::Failed)) }),
        7 => Ok(()),
        _ => record(state, Record::Finished { step, output: serde_json::Value::from(1) }),
    }
}

/// The steps are of one wave, all waves before it are finished, and none that ended runs again.
fn check_run(state: &State, steps: &[StepKey]) -> Result<(), TestCaseError> {
    prop_assert!(!state.unwinding && state.parked.is_none() && !steps.is_empty());
    let chosen: BTreeSet<_> = steps.iter().collect();
    let waves: Vec<BTreeSet<_>> =
        state.plan.waves.iter().map(|wave| wave.iter().map(|step| &step.key).collect()).collect();
    let wave = waves.iter().position(|wave| wave.is_superset(&chosen));
    prop_assert!(wave.is_some(), "{steps:?} are of several waves");
    for earlier in waves.iter().take(wave.unwrap_or_default()).flatten() {
        prop_assert_eq!(state.steps.get(*earlier), Some(&StepStatus::Finished));
    }
    for step in steps {
        prop_assert!(matches!(state.steps.get(step), None | Some(StepStatus::Started)));
    }
    Ok(())
}

/// The steps are of one wave, have begun, and nothing after them is left to take back.
fn check_undo(state: &State, steps: &[StepKey]) -> Result<(), TestCaseError> {
    prop_assert!(state.unwinding && state.parked.is_none() && !steps.is_empty());
    prop_assert!(steps.iter().all(|step| state.steps.contains_key(step)), "one of {steps:?} never began");
    prop_assert!(steps.iter().all(|step| state.plan.is_before_pivot(step)), "one of {steps:?} must stay");
    let wave = state.plan.waves.iter().position(|wave| wave.iter().any(|step| step.key == steps[0]));
    for later in state.plan.waves.iter().skip(wave.unwrap_or_default() + 1).flatten() {
        prop_assert!(matches!(state.steps.get(&later.key), None | Some(StepStatus::Undone)));
    }
    Ok(())
}

/// At the end all is done, or all that began is undone.
fn check_close(state: &State, outcome: &Outcome) -> Result<(), TestCaseError> {
    let all = |status| state.steps.values().all(|it| *it == status);
    match outcome {
        Outcome::Succeeded => {
            prop_assert!(all(StepStatus::Finished) && state.steps.len() == state.plan.steps().count());
        }
        Outcome::Reverted { failure, served } => {
            prop_assert!(all(StepStatus::Undone));
            prop_assert_eq!(failure, &state.failure);
            prop_assert_eq!(*served, state.has_switched());
        }
        Outcome::Refused { failure } => {
            prop_assert!(all(StepStatus::Undone) && !state.has_switched());
            prop_assert_eq!(failure.class, Class::Refused);
        }
    }
    Ok(())
}

fn fold(history: &[Record]) -> State {
    let mut state = State::default();
    for record in history {
        state.apply(record).unwrap();
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// The engine's own histories: each decision is legal, the end is reached, and from every
    /// prefix of the journal an engine can go on to an end.
    #[test]
    fn every_journal_of_the_engine_can_be_resumed_from_every_prefix(plan in plans(), mut choices in choices()) {
        let start = fold(&[opened(&plan)]);
        let mut history = vec![opened(&plan)];
        history.extend(engine_history(start, &mut choices)?);
        let is_past = |record: &Record| matches!(record, Record::Started { step, .. } if !plan.is_before_pivot(step));
        let is_back = |record: &Record| matches!(record, Record::UndoStarted { .. } | Record::Cancelled { .. });
        prop_assert!(!history.iter().skip_while(|record| !is_past(record)).any(is_back), "past the pivot everything stays: {history:?}");
        for end in 1..=history.len() {
            let prefix = fold(&history[..end]);
            prop_assert_eq!(&prefix, &fold(&history[..end]), "the fold depends on nothing but the records");
            engine_history(prefix, &mut Choices { left: Vec::new() })?;
        }
    }

    /// Whatever may legally be recorded, the engine finds its way to an end from there.
    #[test]
    fn no_legal_history_is_a_dead_end(
        plan in plans(), mut choices in choices(), mut then in choices(),
    ) {
        let (state, history) = any_history(&plan, &mut choices);
        prop_assert_eq!(&state, &fold(&history));
        engine_history(state, &mut then)?;
    }

    /// What is refused leaves no trace; what is accepted never contradicts the decision.
    #[test]
    fn what_is_refused_changes_nothing(plan in plans(), mut choices in choices()) {
        let (state, _) = any_history(&plan, &mut choices);
        let decision = decide(&state);
        for record in candidates(&state) {
            let mut after = state.clone();
            match (after.apply(&record), &record) {
                (Err(_), _) => prop_assert_eq!(&after, &state, "{:?}", record),
                (Ok(()), Record::Started { step, .. }) => {
                    prop_assert!(matches!(&decision, Decision::Run(due) if due.contains(step)), "{step}");
                }
                (Ok(()), Record::Closed { outcome }) => {
                    let agrees = matches!(&decision, Decision::Close(due)
                        if (*due == Outcome::Succeeded) == (*outcome == Outcome::Succeeded));
                    prop_assert!(agrees, "{outcome:?}, not {decision:?}");
                }
                (Ok(()), Record::Opened { .. }) => prop_assert!(false, "a journal opened twice"),
                (Ok(()), _) => {}
            }
        }
    }
}

#[test]
fn each_refusal_says_why() {
    let plan = crate::script::plan("a b, c | d");
    let step = |key: &str| StepKey::new(key);
    let started = |key: &str| Record::Started { step: step(key), attempt: 1 };
    let finished = |key: &str| Record::Finished { step: step(key), output: serde_json::Value::Null };
    let failed = |key: &str| Record::Failed { step: step(key), failure: failure(Class::Failed) };
    let undoing = |key: &str| Record::UndoStarted { step: step(key), attempt: 1 };
    let undone = |key: &str| Record::UndoFinished { step: step(key) };
    let cancelled = Record::Cancelled { by: ada(), reason: None };
    let closed = Record::Closed { outcome: Outcome::Succeeded };
    let cases: &[(&[Record], Record, &str)] = &[
        (&[], opened(&plan), "a journal opens once, with its first record"),
        (&[], started("x"), "a step starts that was not planned"),
        (&[], started("c"), "a step starts before its turn"),
        (&[], finished("a"), "a step skips a state"),
        (&[started("a"), finished("a")], started("a"), "a step starts again after it ended"),
        (&[started("a"), failed("a")], started("b"), "a step starts while turning back or waiting"),
        (&[], undoing("a"), "a step is taken back that never ran"),
        (
            &[started("a"), finished("a"), started("b"), finished("b"), started("c"), failed("c")],
            undoing("a"),
            "a step is taken back before its turn",
        ),
        (&[started("a"), failed("a"), undoing("a"), undone("a")], undoing("a"), "a step is taken back twice"),
        (&[], Record::Unparked { by: ada(), reason: None }, "nothing was waiting"),
        (&[], Record::Parked { step: step("a"), failure: None }, "a step skips a state"),
        (&[], closed.clone(), "it ends with work left"),
        (std::slice::from_ref(&cancelled), closed, "it ends as it did not go"),
        (
            &[
                started("a"),
                finished("a"),
                started("b"),
                finished("b"),
                started("c"),
                finished("c"),
                started("d"),
            ],
            cancelled.clone(),
            "cancelled past the point of no return",
        ),
        (
            &[
                started("a"),
                finished("a"),
                started("b"),
                finished("b"),
                started("c"),
                finished("c"),
                started("d"),
            ],
            failed("d"),
            "past the pivot a step is parked, not failed",
        ),
    ];
    for (before, record, why) in cases {
        let mut state = fold(&[opened(&plan)]);
        for record in *before {
            state.apply(record).unwrap();
        }
        let refused = state.clone().apply(record).expect_err(why);
        assert_eq!(refused.0, *why, "{record:?}");
    }
    let mut ended = fold(&[opened(&Plan::default()), Record::Closed { outcome: Outcome::Succeeded }]);
    let refused = ended.apply(&Record::Cancelled { by: ada(), reason: None }).unwrap_err();
    assert_eq!(refused.0, "a record follows the end");
    assert_eq!(
        State::default().apply(&started("a")).unwrap_err().0,
        "a journal opens once, with its first record"
    );
}
