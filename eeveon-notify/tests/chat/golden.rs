//! The stored form of an event. Golden files are never changed: each released form must stay
//! readable, or be refused by name.

use std::collections::BTreeSet;

use eeveon_notify::{Event, EventKind, FORMAT};

/// An event of every kind with everything it can have, and three with as little as they can have.
const V1: &str = include_str!("../golden/event-v1.jsonl");

#[test]
fn format_1_is_written_as_it_was() {
    assert_eq!(FORMAT, 1, "a new format needs a golden file of its own, beside this one");
    for line in V1.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(event.format, 1);
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), read);
    }
}

#[test]
fn format_1_has_every_kind_of_everything() {
    let mut words: BTreeSet<String> = BTreeSet::new();
    for line in V1.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        for place in ["/kind", "/serving/state", "/operation", "/trigger"] {
            words.insert(event.pointer(place).unwrap().as_str().unwrap().to_owned());
        }
    }
    let kinds = EventKind::ALL.into_iter().map(EventKind::as_str);
    let others =
        ["release", "nothing", "either", "deploy", "rollback", "manual", "poll", "webhook", "schedule"];
    let expected: BTreeSet<String> = kinds.chain(others).map(str::to_owned).collect();
    assert_eq!(words, expected);
}
