//! What a step is called and what it came to, for people.

use eeveon_core::{Placed, StepSpec, deployer::Removed};
use eeveon_health::Looked;
use serde_json::Value;

use super::{count, size};

/// Returns a step's name for people: `ship/local` is `ship` as long as there is one target.
pub(crate) fn label(step: &StepSpec) -> String {
    let key = step.key.as_str();
    match (step.params.get("name").and_then(Value::as_str), key.split_once('/')) {
        // Commands bring a name of their own: the line that is run.
        (Some(name), Some((kind, _))) => format!("{kind}: {name}"),
        (None, Some((verb, "local"))) => verb.to_owned(),
        _ => key.replace('/', " "),
    }
}

/// Tells whether doing the step does anything: some only say how another is taken back.
pub(crate) fn does_something(step: &StepSpec) -> bool {
    match step.action.as_str() {
        "build.command" => step.params.get("run").is_some_and(|run| !run.is_null()),
        "health.verify" => false,
        _ => true,
    }
}

/// Tells whether taking the step back does anything a person would want to see.
pub(crate) fn leaves_something(step: &StepSpec) -> bool {
    match step.action.as_str() {
        "deploy.ship" | "deploy.switch" | "health.verify" => true,
        "build.command" => step.params.get("undo").is_some_and(|undo| !undo.is_null()),
        _ => false,
    }
}

/// Returns what a finished step came to, or nothing when its name says it all.
pub(crate) fn describe_step(step: &StepSpec, output: &Value) -> String {
    match step.action.as_str() {
        "deploy.ship" | "deploy.restore" => serde_json::from_value::<Placed>(output.clone()).map_or_else(
            |_| String::new(),
            |placed| {
                let new = match placed.written {
                    0 => "all as before".to_owned(),
                    written if written == placed.files => "all new".to_owned(),
                    written => format!("{written} new"),
                };
                let extra = match placed.extra {
                    0 => String::new(),
                    extra => format!("; {} not part of it left alone", count(extra, "path")),
                };
                format!("{}, {}, {new}{extra}", count(placed.files, "file"), size(placed.bytes))
            },
        ),
        "deploy.remove" => serde_json::from_value::<Removed>(output.clone()).map_or_else(
            |_| String::new(),
            |removed| {
                let gone = count(removed.removed.len() as u64, "old release");
                match removed.left.first() {
                    None => format!("{gone} removed"),
                    Some((release, why)) => format!("{gone} removed; release {release} is left: {why}"),
                }
            },
        ),
        "health.gate" | "health.watch" => serde_json::from_value::<Option<Looked>>(output.clone())
            .map(|looked| looked.map_or_else(|| "left out".to_owned(), looks))
            .unwrap_or_default(),
        // Gates say why they were open.
        _ => output.as_str().unwrap_or_default().to_owned(),
    }
}

fn looks(looked: Looked) -> String {
    let looks = count(looked.looks.into(), "look");
    match (looked.looks.saturating_sub(looked.healthy), looked.last) {
        (0, _) | (_, None) => looks,
        (bad, Some(last)) => format!("{looks}, {bad} not healthy: {}", last.for_terminal()),
    }
}
