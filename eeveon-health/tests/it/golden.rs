//! What plans and journals hold stays readable.

use std::fmt::Debug;

use eeveon_health::{CheckSpec, GateParams, Looked, Phase, Reach, VerifyParams, WatchParams, What};
use serde::{Serialize, de::DeserializeOwned};

/// Reads each line of a file, and wants it to be written just so again.
fn stays<T: Serialize + DeserializeOwned + Debug>(file: &str) -> Vec<T> {
    let text = std::fs::read_to_string(format!("tests/golden/{file}")).unwrap();
    let values: Vec<T> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!values.is_empty());
    for (value, line) in values.iter().zip(text.lines()) {
        assert_eq!(serde_json::to_string(value).unwrap(), line);
    }
    values
}

#[test]
fn checks() {
    let checks: Vec<CheckSpec> = stays("check-1.json");
    assert!(checks.iter().all(|check| check.validate().is_ok()));
    assert!(matches!(checks[0].what, What::Http(_)));
    assert!(matches!(checks[1].what, What::Tcp(_)));
    assert!(matches!(checks[2].what, What::Command(_)));
}

#[test]
fn what_gates_watches_and_the_way_back_are_told() {
    let gates: Vec<GateParams> = stays("gate-params-1.json");
    assert_eq!((gates[0].phase, gates[0].reach, gates[0].ask), (Phase::Post, Reach::Operator, true));
    let watches: Vec<WatchParams> = stays("watch-params-1.json");
    assert_eq!(watches[0].bake.bake_ms, 300_000);
    let verify: Vec<VerifyParams> = stays("verify-params-1.json");
    assert_eq!(verify[0].checks.len(), 1);
}

#[test]
fn what_came_of_looking() {
    let looked: Vec<Option<Looked>> = stays("looked-1.json");
    assert_eq!(looked[0].as_ref().unwrap().looks, 3);
    assert_eq!(looked[2], None);
}
