//! The gates: the plan's answer before anything runs is the answer when it runs, and what stands in
//! journals stays readable.
#![cfg(test)]

use std::collections::BTreeMap;

use eeveon_core::{
    Action, Class, CommitId, DeploymentId, Diagnose, Fence, Permit, Stage, StepContext, StepKey, StepSpec,
};
use eeveon_rollback::{
    GateState, OrderFacts, OrderGate, PutAside, QuarantineFacts, QuarantineGate, Verdict,
    gates::Compared,
    quarantine::{self, left_by_rollback},
};
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

fn commit(digit: char) -> CommitId {
    CommitId::new(digit.to_string().repeat(40)).unwrap()
}

fn order(verdict: Verdict, allow_older: bool) -> OrderFacts {
    let live = Some(Compared { commit: commit('b'), verdict });
    OrderFacts { candidate: commit('a'), live, allow_older }
}

fn aside(digit: char) -> PutAside {
    let reason = "rolled back by ada: the hats are on fire".into();
    PutAside { commit: commit(digit), reason, since: Timestamp::from_second(1_700_000_000).unwrap() }
}

async fn run<A: Action>(action: &A, params: &A::Params) -> Result<A::Output, (&'static str, Class)> {
    let step = StepSpec {
        key: StepKey::new("gate"),
        stage: Stage::Admit,
        action: A::NAME.into(),
        params: serde_json::Value::Null,
    };
    let permit = Permit::new(Fence(1), CancellationToken::new());
    let outputs = BTreeMap::new();
    let cx = StepContext { deployment: DeploymentId(1), step: &step, attempt: 1, permit, outputs: &outputs };
    let result = action.run(&cx, params).await;
    action.undo(&cx, params, None).await.unwrap();
    result.map_err(|error| (error.diagnosis().code(), error.diagnosis().class()))
}

async fn check_order(facts: OrderFacts, expected: Result<&str, &'static str>) {
    let GateState { name, open, why } = facts.state();
    assert_eq!((name.as_str(), open), ("rollback.order", expected.is_ok()));
    match (run(&OrderGate, &facts).await, expected) {
        (Ok(output), Ok(line)) => assert_eq!((output.as_str(), why.as_str()), (line, line)),
        (Err(refusal), Err(code)) => assert_eq!(refusal, (code, Class::Refused)),
        (was, should) => panic!("{was:?}, not {should:?}"),
    }
}

#[tokio::test]
async fn the_order_gate_says_in_one_line_why_it_lets_pass() {
    check_order(order(Verdict::Ahead { commits: Some(3) }, false), Ok("3 commits ahead of the live one"))
        .await;
    check_order(order(Verdict::Ahead { commits: Some(1) }, false), Ok("1 commit ahead of the live one"))
        .await;
    check_order(order(Verdict::Ahead { commits: None }, false), Ok("ahead of the live one")).await;
    check_order(order(Verdict::Same, false), Ok("the same commit as the live one")).await;
    let diverged = "on another line of history than bbbbbbbb, which serves";
    check_order(order(Verdict::Diverged, false), Ok(diverged)).await;
    let older = "older than the live one, which is allowed this time";
    check_order(order(Verdict::Behind, true), Ok(older)).await;
    let first = OrderFacts { live: None, ..order(Verdict::Same, false) };
    check_order(first, Ok("nothing serves yet")).await;
}

#[tokio::test]
async fn the_order_gate_refuses_what_is_or_may_be_older() {
    check_order(order(Verdict::Behind, false), Err("rollback/older-commit")).await;
    check_order(order(Verdict::NeedsMore(vec![commit('c')]), false), Err("rollback/order-unknown")).await;
    assert_eq!(
        order(Verdict::Behind, false).state().why,
        "commit aaaaaaaa is older than bbbbbbbb, which serves"
    );
}

#[tokio::test]
async fn the_quarantine_gate_knows_exact_commits_only() {
    let facts = |put_aside| QuarantineFacts { candidate: commit('a'), put_aside };
    let open = facts(vec![aside('b'), aside('c')]);
    assert_eq!(run(&QuarantineGate, &open).await.unwrap(), "not in quarantine");
    assert!(open.state().open);
    let shut = facts(vec![aside('b'), aside('a')]);
    assert_eq!(run(&QuarantineGate, &shut).await.unwrap_err(), ("rollback/quarantined", Class::Refused));
    assert_eq!(
        shut.state(),
        GateState {
            name: "rollback.quarantine".into(),
            open: false,
            why: "commit aaaaaaaa is in quarantine since 2023-11-14T22:13:20Z: rolled back by ada: the hats are on fire"
                .into(),
        }
    );
    let hint = quarantine::admit(&commit('a'), &[aside('a')]).unwrap_err().hint().unwrap().into_owned();
    assert!(hint.contains("ee-deploy quarantine NAME aaaaaaaa --lift"), "{hint}");
}

#[test]
fn a_rollback_puts_aside_what_it_leaves() {
    let (a, b, c) = (commit('a'), commit('b'), commit('c'));
    assert_eq!(left_by_rollback([&b, &c, &b], &a), [b.clone(), c]);
    assert_eq!(left_by_rollback([&a, &b], &a), [b], "another release of the same commit puts nothing aside");
    assert_eq!(left_by_rollback([], &a), []);
}

/// What plans of format 1 say; never changed.
#[test]
fn parameters_of_format_1_stay_readable() {
    let golden: Vec<&str> = include_str!("golden/gates-v1.jsonl").lines().collect();
    let orders = [
        order(Verdict::Same, false),
        order(Verdict::Ahead { commits: Some(3) }, false),
        order(Verdict::Ahead { commits: None }, false),
        order(Verdict::Behind, true),
        order(Verdict::Diverged, false),
        order(Verdict::NeedsMore(vec![commit('c')]), false),
        OrderFacts { live: None, ..order(Verdict::Same, false) },
    ];
    for (line, facts) in golden.iter().zip(&orders) {
        assert_eq!(serde_json::from_str::<OrderFacts>(line).unwrap(), *facts);
        assert_eq!(serde_json::to_string(facts).unwrap(), *line);
    }
    let facts = QuarantineFacts { candidate: commit('a'), put_aside: vec![aside('b')] };
    assert_eq!(serde_json::to_string(&facts).unwrap(), golden[orders.len()]);
    assert_eq!(serde_json::from_str::<QuarantineFacts>(golden[orders.len()]).unwrap(), facts);
    assert_eq!(golden.len(), orders.len() + 1);
}
