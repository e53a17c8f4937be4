//! How releases get onto targets and start to serve, and the verbs built from that.

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    Action, Class, Diagnose, Effect, Endpoint, Live, Permit, Release, ReleaseNumber, Slot, StepContext,
    StepError, Target, TargetName,
};

/// A release that lies on a target.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Where: for a plain server its folder.
    pub endpoint: Endpoint,
    /// Files in it.
    pub files: u64,
    /// Their size together, in bytes.
    pub bytes: u64,
    /// Files written anew; the others were shared with an earlier release.
    pub written: u64,
    /// Paths found in it that are not part of it, left alone.
    #[serde(default)]
    pub extra: u64,
}

/// A release found on a target.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Present {
    /// Which.
    pub release: ReleaseNumber,
    /// Whether it can serve; otherwise it is kept for inspection only.
    pub usable: bool,
    /// Its size in bytes; what it shares with others counts in each.
    pub bytes: u64,
    /// When it was placed or set aside.
    pub since: Timestamp,
}

/// What to do with a release that will not serve.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// Remove every trace.
    Discard,
    /// Keep it for inspection if it is complete, where nothing can take it for a usable one;
    /// otherwise as `Discard`.
    SetAside,
}

/// Puts releases on one kind of target.
///
/// Every method says how things should be, not what to do: called again with the same arguments it
/// changes nothing, and it copes with a half-finished earlier call. That is all the engine needs to
/// resume and to take back. Every change is refused when the target has seen a higher fence.
#[async_trait]
pub trait Deployer: fmt::Debug + Send + Sync {
    /// Finds out whether `release` could be shipped: the target is ours, can be written to, has the
    /// space, and what must exist there exists. Changes nothing anyone can see.
    async fn ready(&self, permit: &Permit, target: &Target, release: &Release) -> Result<(), StepError>;
    /// The release lies on the target, beside what serves, and can still be worked on.
    async fn ship(&self, permit: &Permit, target: &Target, release: &Release) -> Result<Placed, StepError>;
    /// The shipped release is complete: what it consists of is on record, it would outlive a power
    /// cut, and from now on nothing in it changes.
    async fn seal(&self, permit: &Permit, target: &Target, release: &Release) -> Result<Placed, StepError>;
    /// An older, sealed release is on the target just as it was sealed; what was changed since is
    /// put right, or the call fails.
    async fn restore(&self, permit: &Permit, target: &Target, release: &Release)
    -> Result<Placed, StepError>;
    /// The release runs beside what serves, and can be reached.
    async fn boot(&self, permit: &Permit, target: &Target, release: &Release) -> Result<Endpoint, StepError>;
    /// The release neither runs nor lies among the usable ones. Fails for the one that serves.
    async fn remove(
        &self,
        permit: &Permit,
        target: &Target,
        release: ReleaseNumber,
        how: Removal,
    ) -> Result<(), StepError>;
    /// Lists what lies on the target, lowest number first. Changes nothing.
    async fn present(&self, target: &Target) -> Result<Vec<Present>, StepError>;
}

/// Decides which of the releases on a target serves: a symlink, the embedded proxy, a cluster's
/// service, a cloud's load balancer.
#[async_trait]
pub trait Traffic: fmt::Debug + Send + Sync {
    /// Tells what serves. Changes nothing.
    async fn serving(&self, target: &Target) -> Result<Option<Live>, StepError>;
    /// `live` serves, and that outlives a power cut; `None` means that nothing does.
    async fn turn(&self, permit: &Permit, target: &Target, live: Option<&Live>) -> Result<(), StepError>;
}

/// What this process can reach, by the names targets use.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// By [`Target::deployer`].
    pub deployers: BTreeMap<String, Arc<dyn Deployer>>,
    /// By [`Target::traffic`].
    pub traffic: BTreeMap<String, Arc<dyn Traffic>>,
}

/// A target names something this process does not have.
#[derive(Debug, thiserror::Error)]
#[error("target `{target}` wants {what} `{name}`, which is not configured")]
pub struct OutOfReach {
    target: TargetName,
    what: &'static str,
    name: String,
}

impl Diagnose for OutOfReach {
    fn code(&self) -> &'static str {
        "engine/out-of-reach"
    }
    fn class(&self) -> Class {
        Class::Config
    }
}

impl Reach {
    /// Finds the deployer of `target`.
    ///
    /// # Errors
    ///
    /// `engine/out-of-reach` when this process has none of that name.
    pub fn deployer(&self, target: &Target) -> Result<&dyn Deployer, OutOfReach> {
        self.deployers.get(&target.deployer).map(|it| &**it).ok_or_else(|| OutOfReach {
            target: target.name.clone(),
            what: "deployer",
            name: target.deployer.clone(),
        })
    }

    /// Finds what decides which release serves on `target`.
    ///
    /// # Errors
    ///
    /// `engine/out-of-reach` when this process has none of that name.
    pub fn traffic(&self, target: &Target) -> Result<&dyn Traffic, OutOfReach> {
        self.traffic.get(&target.traffic).map(|it| &**it).ok_or_else(|| OutOfReach {
            target: target.name.clone(),
            what: "traffic",
            name: target.traffic.clone(),
        })
    }

    /// Teaches `registry` all verbs of this module.
    pub fn register(&self, registry: &mut crate::Registry) {
        registry
            .register(Ready(self.clone()))
            .register(Ship(self.clone()))
            .register(Seal(self.clone()))
            .register(Restore(self.clone()))
            .register(Switch(self.clone()))
            .register(Remove(self.clone()));
    }
}

/// Which release, where.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct On {
    /// Where.
    pub target: Target,
    /// Which.
    pub release: Release,
}

/// Which release should serve, and which served when the plan was made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Turn {
    /// Where.
    pub target: Target,
    /// Should serve.
    pub to: ReleaseNumber,
    /// Where it lies or runs.
    pub at: Slot<Placed>,
    /// Served before, and serves again if the deployment turns back.
    pub from: Option<Live>,
}

/// Which releases are no longer needed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outworn {
    /// Where.
    pub target: Target,
    /// Which.
    pub releases: Vec<ReleaseNumber>,
}

/// What became of the releases that were no longer needed. A leftover is no failure of a
/// deployment: the next one, and `vacuum`, try again.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Removed {
    /// Gone.
    pub removed: Vec<ReleaseNumber>,
    /// Still there, and why.
    pub left: Vec<(ReleaseNumber, String)>,
}

/// Finds out whether a target can take a release.
#[derive(Debug)]
pub struct Ready(pub Reach);
/// Places a release.
#[derive(Debug)]
pub struct Ship(pub Reach);
/// Completes a placed release.
#[derive(Debug)]
pub struct Seal(pub Reach);
/// Makes sure that an older release is as it was.
#[derive(Debug)]
pub struct Restore(pub Reach);
/// Makes a release serve.
#[derive(Debug)]
pub struct Switch(pub Reach);
/// Removes releases that are no longer needed.
#[derive(Debug)]
pub struct Remove(pub Reach);

#[async_trait]
impl Action for Ready {
    const NAME: &'static str = "deploy.ready";
    const EFFECT: Effect = Effect::Release;
    type Params = On;
    type Output = ();

    async fn run(&self, cx: &StepContext<'_>, on: &On) -> Result<(), StepError> {
        self.0.deployer(&on.target)?.ready(&cx.permit, &on.target, &on.release).await
    }

    // Looking leaves nothing to take back.
    async fn undo(&self, _: &StepContext<'_>, _: &On, _: Option<&()>) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl Action for Ship {
    const NAME: &'static str = "deploy.ship";
    const EFFECT: Effect = Effect::Release;
    type Params = On;
    type Output = Placed;

    async fn run(&self, cx: &StepContext<'_>, on: &On) -> Result<Placed, StepError> {
        self.0.deployer(&on.target)?.ship(&cx.permit, &on.target, &on.release).await
    }

    async fn undo(&self, cx: &StepContext<'_>, on: &On, _: Option<&Placed>) -> Result<(), StepError> {
        let deployer = self.0.deployer(&on.target)?;
        deployer.remove(&cx.permit, &on.target, on.release.number, Removal::SetAside).await
    }
}

#[async_trait]
impl Action for Seal {
    const NAME: &'static str = "deploy.seal";
    const EFFECT: Effect = Effect::Release;
    type Params = On;
    type Output = Placed;

    async fn run(&self, cx: &StepContext<'_>, on: &On) -> Result<Placed, StepError> {
        self.0.deployer(&on.target)?.seal(&cx.permit, &on.target, &on.release).await
    }

    // Taking back `ship` takes the seal with it.
    async fn undo(&self, _: &StepContext<'_>, _: &On, _: Option<&Placed>) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl Action for Restore {
    const NAME: &'static str = "deploy.restore";
    const EFFECT: Effect = Effect::Release;
    type Params = On;
    type Output = Placed;

    async fn run(&self, cx: &StepContext<'_>, on: &On) -> Result<Placed, StepError> {
        self.0.deployer(&on.target)?.restore(&cx.permit, &on.target, &on.release).await
    }

    // A release that is as it was sealed needs nothing taken back.
    async fn undo(&self, _: &StepContext<'_>, _: &On, _: Option<&Placed>) -> Result<(), StepError> {
        Ok(())
    }
}

#[async_trait]
impl Action for Switch {
    const NAME: &'static str = "deploy.switch";
    const EFFECT: Effect = Effect::World;
    type Params = Turn;
    type Output = ();

    async fn run(&self, cx: &StepContext<'_>, turn: &Turn) -> Result<(), StepError> {
        let live = Live { release: turn.to, endpoint: cx.read(&turn.at)?.endpoint };
        self.0.traffic(&turn.target)?.turn(&cx.permit, &turn.target, Some(&live)).await
    }

    async fn undo(&self, cx: &StepContext<'_>, turn: &Turn, _: Option<&()>) -> Result<(), StepError> {
        self.0.traffic(&turn.target)?.turn(&cx.permit, &turn.target, turn.from.as_ref()).await
    }
}

#[async_trait]
impl Action for Remove {
    const NAME: &'static str = "deploy.remove";
    const EFFECT: Effect = Effect::World;
    type Params = Outworn;
    type Output = Removed;

    async fn run(&self, cx: &StepContext<'_>, outworn: &Outworn) -> Result<Removed, StepError> {
        let deployer = self.0.deployer(&outworn.target)?;
        let mut result = Removed::default();
        for &release in &outworn.releases {
            match deployer.remove(&cx.permit, &outworn.target, release, Removal::Discard).await {
                Ok(()) => result.removed.push(release),
                Err(error) => result.left.push((release, error.to_string())),
            }
        }
        Ok(result)
    }

    // Only ever planned past the pivot.
    async fn undo(&self, _: &StepContext<'_>, _: &Outworn, _: Option<&Removed>) -> Result<(), StepError> {
        Ok(())
    }
}
