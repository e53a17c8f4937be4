//! Strategies: from what is live to a plan. Pure, and the same for every kind of target.

use crate::{
    Kind, Live, Placed, Plan, PlanBuilder, Release, ReleaseNumber, Slot, Stage, Target,
    deployer::{On, Outworn, Ready, Remove, Restore, Seal, Ship, Switch, Turn},
};

/// What a strategy needs to know.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whether `release` is new or was deployed before.
    pub kind: Kind,
    /// What should serve.
    pub release: Release,
    /// Every target.
    pub targets: Vec<TargetFacts>,
}

/// What a strategy needs to know about one target.
#[derive(Clone, Debug)]
pub struct TargetFacts {
    /// Which.
    pub target: Target,
    /// What serves there now.
    pub live: Option<Live>,
    /// Releases that will not be needed any more once `Facts::release` serves.
    pub outworn: Vec<ReleaseNumber>,
}

/// Where capability crates put their own steps into every strategy. Each call may add any number of
/// steps and waves; what it adds runs before whatever the strategy adds next.
pub trait Checkpoints {
    /// Nothing was touched yet: gates, all of [`Stage::Admit`].
    fn admit(&self, _plan: &mut PlanBuilder, _facts: &Facts) {}
    /// A new release lies on the target and may still be worked on.
    fn shipped(&self, _plan: &mut PlanBuilder, _on: &TargetFacts, _placed: &Slot<Placed>) {}
    /// The release is complete and about to serve.
    fn before_switch(&self, _plan: &mut PlanBuilder, _on: &TargetFacts, _placed: &Slot<Placed>) {}
    /// The release serves; what is added here decides whether it stays.
    fn switched(&self, _plan: &mut PlanBuilder, _on: &TargetFacts, _placed: &Slot<Placed>) {}
    /// The release serves and will stay; what fails here waits for a person.
    fn kept(&self, _plan: &mut PlanBuilder, _on: &TargetFacts, _placed: &Slot<Placed>) {}
}

/// All targets at once, by a link: the release is made ready beside the live one everywhere, then
/// all links turn together. A rollback is the same, with a release that is already there.
pub fn symlink(facts: &Facts, checkpoints: &dyn Checkpoints) -> Plan {
    let mut plan = Plan::builder();
    let on = |it: &TargetFacts| On { target: it.target.clone(), release: facts.release.clone() };

    checkpoints.admit(&mut plan, facts);
    plan.then();
    let mut placed = Vec::new();
    match facts.kind {
        Kind::Deploy => {
            for it in &facts.targets {
                plan.step::<Ready>(Stage::Ship, &format!("ready/{}", it.target.name), &on(it));
            }
            plan.then();
            for it in &facts.targets {
                placed.push(plan.step::<Ship>(Stage::Ship, &format!("ship/{}", it.target.name), &on(it)));
            }
            plan.then();
            for (it, placed) in facts.targets.iter().zip(&placed) {
                checkpoints.shipped(&mut plan, it, placed);
            }
            plan.then();
            for it in &facts.targets {
                plan.step::<Seal>(Stage::Build, &format!("seal/{}", it.target.name), &on(it));
            }
        }
        Kind::Rollback => {
            for it in &facts.targets {
                let key = format!("restore/{}", it.target.name);
                placed.push(plan.step::<Restore>(Stage::Ship, &key, &on(it)));
            }
        }
    }
    plan.then();
    for (it, placed) in facts.targets.iter().zip(&placed) {
        checkpoints.before_switch(&mut plan, it, placed);
    }
    plan.then();
    for (it, at) in facts.targets.iter().zip(&placed) {
        let (to, from) = (facts.release.number, it.live.clone());
        let turn = Turn { target: it.target.clone(), to, at: at.clone(), from };
        plan.step::<Switch>(Stage::Switch, &format!("switch/{}", it.target.name), &turn);
    }
    plan.then();
    for (it, placed) in facts.targets.iter().zip(&placed) {
        checkpoints.switched(&mut plan, it, placed);
    }
    plan.pivot();
    for (it, placed) in facts.targets.iter().zip(&placed) {
        checkpoints.kept(&mut plan, it, placed);
    }
    plan.then();
    for it in facts.targets.iter().filter(|it| !it.outworn.is_empty()) {
        let outworn = Outworn { target: it.target.clone(), releases: it.outworn.clone() };
        plan.step::<Remove>(Stage::Retire, &format!("retire/{}", it.target.name), &outworn);
    }
    plan.build()
}
