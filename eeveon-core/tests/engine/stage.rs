//! What the tests deploy: requests, facts, checkpoints, plans.

use eeveon_core::{
    strategy::{Checkpoints, Facts, TargetFacts, symlink},
    *,
};
use jiff::Timestamp;

use crate::world::{Part, PartParams};

pub(crate) const ID: DeploymentId = DeploymentId(7);

pub(crate) fn release(number: u64) -> Release {
    let revision = Revision {
        commit: CommitId::new(format!("{number:040x}")).unwrap(),
        subject: "Sell more hats".into(),
        author: "Ada".into(),
        committed_at: Timestamp::UNIX_EPOCH,
    };
    Release { project: ProjectName::new("shop").unwrap(), number: ReleaseNumber(number), revision }
}

pub(crate) fn target(name: &str) -> Target {
    Target { name: TargetName::new(name).unwrap(), deployer: "fake".into(), traffic: "fake".into() }
}

pub(crate) fn live(target: &str, number: u64) -> Live {
    Live { release: ReleaseNumber(number), endpoint: Endpoint(format!("/{target}/{number}")) }
}

/// Release 2 serves on both targets; a deploy brings 3 and retires 1, a rollback brings 1 back.
pub(crate) fn facts(kind: Kind) -> Facts {
    let (number, outworn) = match kind {
        Kind::Deploy => (3, vec![ReleaseNumber(1)]),
        Kind::Rollback => (1, Vec::new()),
    };
    let targets = ["web-1", "web-2"].map(|name| TargetFacts {
        target: target(name),
        live: Some(live(name, 2)),
        outworn: outworn.clone(),
    });
    Facts { kind, release: release(number), targets: targets.into() }
}

pub(crate) fn request(facts: &Facts) -> Request {
    let live = facts.targets.iter().map(|it| (it.target.name.clone(), it.live.clone())).collect();
    Request {
        format: FORMAT,
        kind: facts.kind,
        release: facts.release.clone(),
        live,
        previous: Some(release(2).revision.commit),
        actor: Actor::User("ada".into()),
        trigger: Trigger::Manual,
        reason: None,
        config: "c0ffee".into(),
        quarantine: Quarantining::default(),
        irreversible: false,
        settings: None,
    }
}

/// A gate, a build for each target, a check for each target after the switch.
pub(crate) struct Parts;

impl Parts {
    fn add(plan: &mut PlanBuilder, stage: Stage, part: &str, on: &TargetFacts) {
        let params = PartParams { part: part.to_owned(), target: on.target.clone() };
        plan.step::<Part>(stage, &format!("{part}/{}", on.target.name), &params);
    }
}

impl Checkpoints for Parts {
    fn admit(&self, plan: &mut PlanBuilder, facts: &Facts) {
        Self::add(plan, Stage::Admit, "gate", &facts.targets[0]);
    }
    fn shipped(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        Self::add(plan, Stage::Build, "build", on);
    }
    fn switched(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        Self::add(plan, Stage::Check, "check", on);
    }
}

/// The plan of the crash tests: a whole symlink deployment with one more step past the pivot.
pub(crate) fn plan(kind: Kind) -> Plan {
    let facts = facts(kind);
    let mut plan = symlink(&facts, &Parts);
    let mut after = Plan::builder();
    Parts::add(&mut after, Stage::Retire, "after", &facts.targets[1]);
    plan.pivot = plan.pivot.or(Some(plan.waves.len()));
    plan.waves.extend(after.build().waves);
    plan
}
