//! The steps a project adds to every plan: its gates, its commands, its health checks.

use std::{collections::BTreeMap, path::PathBuf};

use eeveon_build::{Command, CommandLine, CommandParams, Place};
use eeveon_core::{
    Checkpoints, CommitId, Live, Placed, PlanBuilder, Release, ReleaseNumber, Slot, Stage, TargetFacts,
    strategy::Facts,
};
use eeveon_health::{
    Bake, Gate, GateParams, LookAt, Phase, Place as LookPlace, Reach, Verify, VerifyParams, Watch,
    WatchParams,
};
use eeveon_rollback::{OrderFacts, OrderGate, QuarantineFacts, QuarantineGate};

use crate::{
    compose::Site,
    config::{OnFailure, When},
    settings::{Check, Settings},
};

/// The steps a project adds to every plan.
#[derive(Clone, Debug)]
pub(crate) struct ProjectSteps<'a> {
    /// The project.
    pub site: &'a Site,
    /// What is to serve.
    pub release: &'a Release,
    /// What it is deployed with.
    pub settings: &'a Settings,
    /// What serves now, if it is known.
    pub old: Option<Old<'a>>,
    /// What the commit-order gate is to judge; absent for a rollback, which goes back on purpose.
    pub order: Option<OrderFacts>,
    /// What the quarantine gate is to judge.
    pub quarantine: QuarantineFacts,
    /// What to do when something fails after the switch.
    pub on_failure: OnFailure,
}

/// The release that serves when a plan is made.
#[derive(Clone, Debug)]
pub(crate) struct Old<'a> {
    /// Its commit.
    pub commit: &'a CommitId,
    /// What it was deployed with.
    pub settings: Settings,
}

impl Checkpoints for ProjectSteps<'_> {
    fn admit(&self, plan: &mut PlanBuilder, facts: &Facts) {
        plan.step::<QuarantineGate>(Stage::Admit, "gate/quarantine", &self.quarantine);
        if let Some(order) = &self.order {
            plan.step::<OrderGate>(Stage::Admit, "gate/order", order);
        }
        plan.then();
        // Before anything serves, only what is meant for this moment alone can be looked at.
        let live = facts.targets.iter().find_map(|it| it.live.as_ref());
        let is_due = |when: When| when == When::Pre || when == When::Both && live.is_some();
        let folder = live.map_or_else(|| PathBuf::from("/"), |live| PathBuf::from(&live.endpoint.0));
        for check in self.checks(is_due) {
            let place = LookPlace::Folder(folder.clone());
            self.gate(plan, Phase::Pre, check, self.serving(live, place), false);
        }
    }

    fn shipped(&self, plan: &mut PlanBuilder, _: &TargetFacts, placed: &Slot<Placed>) {
        self.commands(plan, Stage::Build, "build", &self.settings.build, placed, false);
        self.commands(plan, Stage::Build, "pre_switch", &self.settings.pre_switch, placed, false);
    }

    fn before_switch(&self, plan: &mut PlanBuilder, on: &TargetFacts, placed: &Slot<Placed>) {
        for check in self.checks(|when| when == When::Candidate) {
            self.gate(plan, Phase::Candidate, check, self.new_release(placed), false);
        }
        plan.then();
        let (Some(live), Some(old)) = (&on.live, &self.old) else { return };
        // What follows does nothing now. It is taken back after the switch is: the service has to
        // pick the old release up again, and then the old release has to prove that it is well.
        let checks: Vec<_> = old.settings.checks.iter().filter(|it| it.when.is_after()).collect();
        if !checks.is_empty() {
            let place = LookPlace::Folder(PathBuf::from(&live.endpoint.0));
            let params = VerifyParams {
                checks: checks.into_iter().map(|it| it.spec.clone()).collect(),
                reach: Reach::Operator,
                look_at: self.serving(Some(live), place),
            };
            plan.step::<Verify>(Stage::Check, &format!("verify/{}", on.target.name), &params);
            plan.then();
        }
        for (n, line) in old.settings.post_switch.iter().enumerate().rev() {
            let params = CommandParams {
                name: line.line.clone(),
                run: None,
                undo: Some(line.clone()),
                place: Place::Folder(PathBuf::from(&live.endpoint.0)),
                env: self.variables(live.release, Some(old.commit)),
                ask: false,
            };
            // Not of stage `Switch`: it does nothing on the way forward.
            plan.step::<Command>(Stage::Check, &format!("settle/{}", n + 1), &params);
            plan.then();
        }
    }

    fn switched(&self, plan: &mut PlanBuilder, _: &TargetFacts, placed: &Slot<Placed>) {
        if self.on_failure != OnFailure::Never {
            self.after_switch(plan, placed, self.on_failure == OnFailure::Ask);
        }
    }

    fn kept(&self, plan: &mut PlanBuilder, _: &TargetFacts, placed: &Slot<Placed>) {
        if self.on_failure == OnFailure::Never {
            self.after_switch(plan, placed, false);
        }
    }
}

impl ProjectSteps<'_> {
    fn after_switch(&self, plan: &mut PlanBuilder, placed: &Slot<Placed>, ask: bool) {
        self.commands(plan, Stage::Switch, "post_switch", &self.settings.post_switch, placed, ask);
        plan.then();
        for check in self.checks(When::is_after) {
            self.gate(plan, Phase::Post, check, self.new_release(placed), ask);
        }
        plan.then();
        let Some(bake) = self.bake() else { return };
        for check in self.checks(When::is_after) {
            let (check, look_at) = (check.spec.clone(), self.new_release(placed));
            let key = format!("watch/{}", check.name);
            let params = WatchParams { check, reach: Reach::Operator, look_at, bake, ask };
            plan.step::<Watch>(Stage::Check, &key, &params);
        }
        plan.then();
    }

    fn bake(&self) -> Option<Bake> {
        let rollback = &self.site.config.rollback;
        let millis = |it: std::time::Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
        let (bake_ms, every_ms) = (millis(rollback.watch.0), millis(rollback.watch_interval.0));
        (bake_ms > 0).then_some(Bake { every_ms: every_ms.min(bake_ms), bake_ms })
    }

    fn checks(&self, is_due: impl Fn(When) -> bool) -> impl Iterator<Item = &Check> {
        self.settings.checks.iter().filter(move |it| is_due(it.when))
    }

    fn gate(&self, plan: &mut PlanBuilder, phase: Phase, check: &Check, look_at: LookAt, ask: bool) {
        let kind = match phase {
            Phase::Pre => "pre",
            Phase::Candidate => "candidate",
            Phase::Post => "post",
            Phase::Watch => "watch",
        };
        let key = format!("{kind}/{}", check.spec.name);
        let params = GateParams { phase, check: check.spec.clone(), reach: Reach::Operator, look_at, ask };
        plan.step::<Gate>(Stage::Check, &key, &params);
    }

    fn new_release(&self, placed: &Slot<Placed>) -> LookAt {
        LookAt {
            project: self.site.name.clone(),
            release: self.release.number,
            commit: self.release.revision.commit.clone(),
            place: LookPlace::Release(placed.clone()),
        }
    }

    /// What serves now; where nothing does, the release that is to.
    fn serving(&self, live: Option<&Live>, place: LookPlace) -> LookAt {
        let commit = self.old.as_ref().map_or(&self.release.revision.commit, |old| old.commit);
        LookAt {
            project: self.site.name.clone(),
            release: live.map_or(self.release.number, |live| live.release),
            commit: commit.clone(),
            place,
        }
    }

    fn commands(
        &self,
        plan: &mut PlanBuilder,
        stage: Stage,
        kind: &str,
        lines: &[CommandLine],
        placed: &Slot<Placed>,
        ask: bool,
    ) {
        for (n, line) in lines.iter().enumerate() {
            let params = CommandParams {
                name: line.line.clone(),
                run: Some(line.clone()),
                undo: None,
                place: Place::Release(placed.clone()),
                env: self.variables(self.release.number, Some(&self.release.revision.commit)),
                ask,
            };
            plan.step::<Command>(stage, &format!("{kind}/{}", n + 1), &params);
            plan.then();
        }
    }

    fn variables(&self, release: ReleaseNumber, commit: Option<&CommitId>) -> BTreeMap<String, String> {
        let previous = self.old.as_ref().map(|old| old.commit);
        variables(self.site, release, commit, previous)
    }
}

/// Returns what commands find in their environment, besides the project's own variables.
pub(crate) fn variables(
    site: &Site,
    release: ReleaseNumber,
    commit: Option<&CommitId>,
    previous: Option<&CommitId>,
) -> BTreeMap<String, String> {
    let text = |commit: Option<&CommitId>| commit.map(ToString::to_string).unwrap_or_default();
    BTreeMap::from([
        ("EEVEON_PROJECT".to_owned(), site.name.to_string()),
        ("EEVEON_RELEASE".to_owned(), release.to_string()),
        ("EEVEON_REVISION".to_owned(), text(commit)),
        ("EEVEON_BRANCH".to_owned(), site.config.source.branch.clone()),
        ("EEVEON_PATH".to_owned(), site.config.deploy.path.clone()),
        ("EEVEON_PREVIOUS_REVISION".to_owned(), text(previous)),
    ])
}
