//! What the strategies plan, written out.

use eeveon_core::{
    strategy::{Checkpoints, Facts, TargetFacts, symlink},
    *,
};
use insta::assert_snapshot;

use crate::{
    stage::{Parts, facts, live, release, target},
    world::{Part, PartParams},
};

/// Adds nothing.
struct Bare;
impl Checkpoints for Bare {}

/// The facts about one target only.
fn one(mut facts: Facts) -> Facts {
    facts.targets.truncate(1);
    facts
}

#[test]
fn a_deploy_makes_ready_beside_what_serves_and_then_turns() {
    assert_snapshot!(symlink(&one(facts(Kind::Deploy)), &Bare), @"
    ready/web-1
    ship/web-1
    seal/web-1
    switch/web-1
    -- no way back --
    retire/web-1
    ");
}

#[test]
fn two_targets_turn_together_once_both_are_ready() {
    assert_snapshot!(symlink(&facts(Kind::Deploy), &Bare), @"
    ready/web-1  ready/web-2
    ship/web-1  ship/web-2
    seal/web-1  seal/web-2
    switch/web-1  switch/web-2
    -- no way back --
    retire/web-1  retire/web-2
    ");
}

#[test]
fn the_first_deploy_has_nothing_to_retire() {
    let targets = vec![TargetFacts { target: target("web-1"), live: None, outworn: Vec::new() }];
    let first = Facts { kind: Kind::Deploy, release: release(1), targets };
    let plan = symlink(&first, &Bare);
    assert_snapshot!(plan, @"
    ready/web-1
    ship/web-1
    seal/web-1
    switch/web-1
    ");
    assert_eq!(plan.pivot, None, "with nothing to retire everything can be taken back");
    let switch = plan.step(&StepKey::new("switch/web-1")).unwrap();
    assert_eq!(switch.params["from"], serde_json::Value::Null);
}

#[test]
fn a_rollback_only_checks_what_is_there() {
    assert_snapshot!(symlink(&facts(Kind::Rollback), &Bare), @"
    restore/web-1  restore/web-2
    switch/web-1  switch/web-2
    ");
}

#[test]
fn checkpoints_find_their_places() {
    assert_snapshot!(symlink(&facts(Kind::Deploy), &Parts), @"
    gate/web-1
    ready/web-1  ready/web-2
    ship/web-1  ship/web-2
    build/web-1  build/web-2
    seal/web-1  seal/web-2
    switch/web-1  switch/web-2
    check/web-1  check/web-2
    -- no way back --
    retire/web-1  retire/web-2
    ");
    assert_snapshot!(symlink(&facts(Kind::Rollback), &Parts), @"
    gate/web-1
    restore/web-1  restore/web-2
    switch/web-1  switch/web-2
    check/web-1  check/web-2
    ");
}

/// Adds several waves at every place.
struct Many;
impl Many {
    fn add(plan: &mut PlanBuilder, stage: Stage, on: &TargetFacts, parts: &[&str]) {
        for part in parts {
            let params = PartParams { part: (*part).to_owned(), target: on.target.clone() };
            plan.step::<Part>(stage, &format!("{part}/{}", on.target.name), &params);
            plan.then();
        }
    }
}
impl Checkpoints for Many {
    fn admit(&self, plan: &mut PlanBuilder, facts: &Facts) {
        Self::add(plan, Stage::Admit, &facts.targets[0], &["order", "quarantine"]);
    }
    fn shipped(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        Self::add(plan, Stage::Build, on, &["share", "build"]);
    }
    fn before_switch(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        Self::add(plan, Stage::Check, on, &["hook", "probe"]);
    }
    fn switched(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        Self::add(plan, Stage::Check, on, &["reload", "watch"]);
    }
}

#[test]
fn what_a_checkpoint_adds_is_over_before_the_strategy_goes_on() {
    assert_snapshot!(symlink(&one(facts(Kind::Deploy)), &Many), @"
    order/web-1
    quarantine/web-1
    ready/web-1
    ship/web-1
    share/web-1
    build/web-1
    seal/web-1
    hook/web-1
    probe/web-1
    switch/web-1
    reload/web-1
    watch/web-1
    -- no way back --
    retire/web-1
    ");
}

#[test]
fn the_switch_knows_where_to_and_where_from() {
    let plan = symlink(&facts(Kind::Deploy), &Bare);
    let switch = plan.step(&StepKey::new("switch/web-2")).unwrap();
    assert_eq!((switch.stage, switch.action.as_str()), (Stage::Switch, "deploy.switch"));
    assert_eq!(switch.params["to"], 3);
    assert_eq!(switch.params["at"], "ship/web-2");
    assert_eq!(switch.params["from"], serde_json::to_value(live("web-2", 2)).unwrap());
}

#[test]
fn without_targets_there_is_nothing_to_do() {
    let nowhere = Facts { kind: Kind::Deploy, release: release(1), targets: Vec::new() };
    assert_eq!(symlink(&nowhere, &Bare), Plan::default());
}

#[test]
#[should_panic(expected = "added twice")]
fn a_step_cannot_be_added_twice() {
    let mut twice = facts(Kind::Deploy);
    twice.targets[1].target.name = twice.targets[0].target.name.clone();
    symlink(&twice, &Bare);
}
