//! Fuzz targets: entries of the journal as they are stored, and journals in any order.

use eeveon_core::*;
use eeveon_testkit::fuzz::spell;

const V1: &str = include_str!("../golden/journal-v1.jsonl");

const WORDS: &[&str] = &[
    "null",
    "true",
    "0",
    "-1",
    "18446744073709551616",
    "1e999",
    "\"\"",
    "\"x\"",
    "{}",
    "[]",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"kind\":\"opened\"",
    "\"kind\":\"closed\"",
    "\"kind\"",
    "\"result\":\"reverted\"",
    "\"seq\":1",
    "\"format\":2",
    "\"step\":\"switch/local\"",
    "\"\\u0000\\ud800\"",
    "\"\u{202e}\"",
    "\\",
    "\"",
    "\u{1b}",
    "2026-11-22T12:00:00Z",
    "9999-12-31T23:59:60Z",
];

/// Makes an entry's text: what a person wrote as a seed, or a line of the golden journal with words
/// put into it at places the input chooses.
fn text(input: &[u8]) -> Vec<u8> {
    let [line, edits @ ..] = input else { return Vec::new() };
    if input.is_ascii() {
        return input.to_vec();
    }
    let lines: Vec<&str> = V1.lines().collect();
    let mut text = lines[usize::from(*line) % lines.len()].as_bytes().to_vec();
    for edit in edits.chunks_exact(4) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % (text.len() + 1);
        let end = (at + usize::from(edit[2] % 16)).min(text.len());
        text.splice(at..end, spell(&[0x80 | edit[3]], WORDS));
    }
    text
}

#[test]
fn stored_entries() {
    bolero::check!().with_max_len(13).with_iterations(6000).for_each(|input| {
        let Ok(entry) = serde_json::from_slice::<Entry>(&text(input)) else { return };
        let written = serde_json::to_vec(&entry).unwrap();
        let again: Entry = serde_json::from_slice(&written).unwrap();
        assert_eq!(again, entry);
        assert_eq!(serde_json::to_vec(&again).unwrap(), written, "there is one way to write it");
    });
}

/// Refuses a record without a trace, or takes it.
fn apply(state: &mut State, record: &Record) -> bool {
    let before = state.clone();
    let taken = state.apply(record).is_ok();
    assert!(taken || *state == before, "refused, and yet the state changed: {record:?}");
    taken
}

/// Checks that what is decided can be recorded, and returns that.
fn proposed(state: &State, nth: usize) -> Option<Record> {
    let pick = |steps: &[StepKey]| steps[nth % steps.len()].clone();
    let record = match decide(state) {
        Decision::Run(steps) => Record::Started { step: pick(&steps), attempt: 1 },
        Decision::Undo(steps) => Record::UndoStarted { step: pick(&steps), attempt: 1 },
        Decision::Close(outcome) => Record::Closed { outcome },
        Decision::Wait(_) => Record::Unparked { by: Actor::Engine, reason: None },
        Decision::Done(outcome) => {
            assert_eq!(state.outcome, Some(outcome));
            return None;
        }
    };
    assert!(apply(&mut state.clone(), &record), "decided, and refused: {record:?}\n{state:#?}");
    Some(record)
}

#[test]
fn journals_in_any_order() {
    let entries: Vec<Entry> = V1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let opened: Vec<&Entry> =
        entries.iter().filter(|entry| matches!(entry.record, Record::Opened { .. })).collect();
    bolero::check!().with_max_len(120).with_iterations(400).for_each(|input| {
        let [first, rest @ ..] = input else { return };
        let opening = opened[usize::from(*first) % opened.len()];
        let own: Vec<&Entry> = entries.iter().filter(|it| it.deployment == opening.deployment).collect();
        let mut state = State::default();
        assert!(apply(&mut state, &opening.record));
        for byte in rest {
            let nth = usize::from(byte / 4);
            let Some(next) = proposed(&state, nth) else { break };
            let steps: Vec<StepKey> = state.steps.keys().cloned().collect();
            let step = |nth: usize| steps.get(nth % steps.len().max(1)).cloned();
            let record = match (byte % 4, step(nth)) {
                // What may come to mind: any record that was ever written about this plan.
                (0, _) => own[nth % own.len()].record.clone(),
                (1, Some(step)) if state.unwinding => Record::UndoFinished { step },
                (1, Some(step)) => Record::Finished { step, output: serde_json::Value::Null },
                _ => next,
            };
            apply(&mut state, &record);
        }
        // However it went: from here on the decisions alone lead to an end.
        for _ in 0..10_000 {
            let Some(next) = proposed(&state, 0) else { break };
            assert!(apply(&mut state, &next));
            let done = match &next {
                Record::Started { step, .. } => {
                    Record::Finished { step: step.clone(), output: serde_json::Value::Null }
                }
                Record::UndoStarted { step, .. } => Record::UndoFinished { step: step.clone() },
                _ => continue,
            };
            assert!(apply(&mut state, &done), "{done:?}");
        }
        assert!(state.outcome.is_some(), "{state:#?}");
    });
}
