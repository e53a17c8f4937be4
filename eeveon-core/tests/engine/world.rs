//! A world of two servers that exists only in memory. Everything in it yields half-way, leaves
//! debris when it is interrupted, and refuses whoever shows an old fence.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use eeveon_core::*;
use serde::{Deserialize, Serialize};
use tokio::task::yield_now;

/// What is wrong in a scenario. The engine has to cope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    Nothing,
    /// The gate says no.
    Gate,
    /// The second server runs full while the first is still being written to.
    Ship,
    /// The check after the switch fails.
    Check,
    /// Somebody asks to stop while a step runs.
    Cancel,
    /// The check fails, and then the switch cannot be taken back until a person has mended it.
    UndoSwitch,
    /// A step past the pivot fails until a person has mended it.
    AfterPivot,
}

/// A mistake put in on purpose, to see that the suite would find it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Bug {
    /// The journal accepts a position that is taken.
    JournalTakesTwice,
    /// A step acts before its beginning is recorded.
    ActsBeforeRecording,
    /// What must outlive a power cut does not.
    JournalNeverSyncs,
    /// Removing what is not there is an error.
    UndoNotIdempotent,
    /// Removing leaves what was only half written.
    UndoSkipsHalfDone,
    /// Writing a release fails over what an earlier attempt left.
    ShipChokesOnDebris,
    /// Writing a release takes what an earlier attempt left for complete.
    ShipAdoptsDebris,
    /// Traffic remembers that it turned before it has.
    TurnClaimsTooEarly,
    /// The servers obey a controller that lost its lease.
    FenceIgnored,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Form {
    Partial,
    Shipped,
    Sealed,
    Aside,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Server {
    pub(crate) releases: BTreeMap<ReleaseNumber, Form>,
    pub(crate) live: Option<ReleaseNumber>,
    fence: Fence,
    claimed: BTreeSet<ReleaseNumber>,
}

impl Server {
    fn put(&mut self, release: ReleaseNumber, form: Form) {
        self.releases.insert(release, form);
    }

    fn clear(&mut self, release: ReleaseNumber) {
        self.releases.remove(&release);
    }
}

/// What matters about a server in the end. What was set aside for inspection does not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sight {
    pub(crate) live: Option<u64>,
    pub(crate) usable: Vec<u64>,
    pub(crate) debris: Vec<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    servers: BTreeMap<String, Server>,
    /// Everything done to the world, in order.
    acts: Vec<String>,
    mended: bool,
    /// Whom a step tells that it wants to be stopped.
    session: Option<Session>,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    inner: Arc<Mutex<Inner>>,
    pub(crate) fault: Fault,
    pub(crate) bug: Option<Bug>,
}

#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Broken {
    pub(crate) what: &'static str,
    pub(crate) class: Class,
    pub(crate) retry: Retry,
}

impl Diagnose for Broken {
    fn code(&self) -> &'static str {
        "test/broken"
    }
    fn class(&self) -> Class {
        self.class
    }
    fn retry(&self) -> Retry {
        self.retry
    }
}

pub(crate) fn broken(what: &'static str) -> StepError {
    Broken { what, class: Class::Failed, retry: Retry::Never }.into()
}

impl World {
    /// Two servers on which releases 1 and 2 lie and 2 serves.
    pub(crate) fn new(fault: Fault, bug: Option<Bug>) -> Self {
        let releases = [1, 2].map(|n| (ReleaseNumber(n), Form::Sealed)).into();
        let server = Server { releases, live: Some(ReleaseNumber(2)), ..Server::default() };
        let servers = ["web-1", "web-2"].map(|name| (name.to_owned(), server.clone())).into();
        let inner = Arc::new(Mutex::new(Inner { servers, ..Inner::default() }));
        Self { inner, fault, bug }
    }

    pub(crate) fn sight(&self) -> Vec<Sight> {
        let inner = self.inner.lock().unwrap();
        let of = |server: &Server, forms: &[Form]| {
            server.releases.iter().filter(|(_, form)| forms.contains(form)).map(|(n, _)| n.0).collect()
        };
        inner
            .servers
            .values()
            .map(|server| Sight {
                live: server.live.map(|n| n.0),
                usable: of(server, &[Form::Sealed]),
                debris: of(server, &[Form::Partial, Form::Shipped]),
            })
            .collect()
    }

    /// Everything done to the world, in order.
    pub(crate) fn acts(&self) -> Vec<String> {
        self.inner.lock().unwrap().acts.clone()
    }

    /// Writes a line among the acts.
    pub(crate) fn note(&self, line: String) {
        self.inner.lock().unwrap().acts.push(line);
    }

    pub(crate) fn mend(&self) {
        self.inner.lock().unwrap().mended = true;
    }

    /// A new process works on the world from now on.
    pub(crate) fn enter(&self, session: &Session) {
        self.inner.lock().unwrap().session = Some(session.clone());
    }

    /// The verbs, working on this world.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        let mut reach = Reach::default();
        reach.deployers.insert("fake".into(), Arc::new(self.clone()));
        reach.traffic.insert("fake".into(), Arc::new(self.clone()));
        reach.register(&mut registry);
        registry.register(Part(self.clone()));
        registry
    }

    fn mended(&self) -> bool {
        self.inner.lock().unwrap().mended
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn form(&self, target: &Target, release: ReleaseNumber) -> Option<Form> {
        self.inner.lock().unwrap().servers[target.name.as_str()].releases.get(&release).copied()
    }

    fn change(
        &self,
        permit: &Permit,
        target: &Target,
        act: &str,
        change: impl FnOnce(&mut Server),
    ) -> Result<(), StepError> {
        let mut inner = self.inner.lock().unwrap();
        let name = target.name.as_str();
        let server = inner.servers.get_mut(name).unwrap();
        if permit.fence < server.fence && self.bug != Some(Bug::FenceIgnored) {
            return Err(broken("the server has seen a higher fence"));
        }
        server.fence = server.fence.max(permit.fence);
        change(server);
        inner.acts.push(format!("{act}/{name}"));
        Ok(())
    }
}

fn placed(target: &Target, release: &Release) -> Placed {
    let endpoint = Endpoint(format!("/{}/{}", target.name, release.number));
    Placed { endpoint, files: 1, bytes: 10, written: 1, extra: 0 }
}

#[async_trait]
impl Deployer for World {
    async fn ready(&self, permit: &Permit, target: &Target, _: &Release) -> Result<(), StepError> {
        yield_now().await;
        self.change(permit, target, "ready", |_| ())
    }

    async fn ship(&self, permit: &Permit, target: &Target, release: &Release) -> Result<Placed, StepError> {
        let number = release.number;
        match self.form(target, number) {
            Some(Form::Partial) if self.is(Bug::ShipAdoptsDebris) => return Ok(placed(target, release)),
            Some(Form::Partial) if self.is(Bug::ShipChokesOnDebris) => {
                return Err(broken("it is there already"));
            }
            Some(Form::Shipped | Form::Sealed) => return Ok(placed(target, release)),
            Some(Form::Partial | Form::Aside) | None => {}
        }
        self.change(permit, target, "begin", |it| it.put(number, Form::Partial))?;
        // The first server is slow, so that the second can fail while it is being written to.
        for _ in 0..if target.name.as_str() == "web-1" { 6 } else { 2 } {
            yield_now().await;
        }
        permit.check()?;
        if self.fault == Fault::Ship && target.name.as_str() == "web-2" {
            return Err(broken("no space is left"));
        }
        self.change(permit, target, "ship", |it| it.put(number, Form::Shipped))?;
        yield_now().await;
        Ok(placed(target, release))
    }

    async fn seal(&self, permit: &Permit, target: &Target, release: &Release) -> Result<Placed, StepError> {
        yield_now().await;
        if !matches!(self.form(target, release.number), Some(Form::Shipped | Form::Sealed)) {
            return Err(broken("the release is not complete"));
        }
        self.change(permit, target, "seal", |it| it.put(release.number, Form::Sealed))?;
        yield_now().await;
        Ok(placed(target, release))
    }

    async fn restore(
        &self,
        permit: &Permit,
        target: &Target,
        release: &Release,
    ) -> Result<Placed, StepError> {
        yield_now().await;
        if self.form(target, release.number) != Some(Form::Sealed) {
            return Err(broken("the release is not there"));
        }
        self.change(permit, target, "restore", |_| ())?;
        Ok(placed(target, release))
    }

    async fn boot(&self, _: &Permit, target: &Target, release: &Release) -> Result<Endpoint, StepError> {
        Ok(placed(target, release).endpoint)
    }

    async fn remove(
        &self,
        permit: &Permit,
        target: &Target,
        release: ReleaseNumber,
        how: Removal,
    ) -> Result<(), StepError> {
        yield_now().await;
        if self.inner.lock().unwrap().servers[target.name.as_str()].live == Some(release) {
            return Err(broken("it serves"));
        }
        match (self.form(target, release), how) {
            (None, _) if self.is(Bug::UndoNotIdempotent) => return Err(broken("it is not there")),
            (Some(Form::Partial), _) if self.is(Bug::UndoSkipsHalfDone) => return Ok(()),
            (Some(Form::Aside), Removal::SetAside) => return Ok(()),
            (Some(Form::Sealed), Removal::SetAside) => {
                return self.change(permit, target, "aside", |it| it.put(release, Form::Aside));
            }
            (Some(_), _) => {
                self.change(permit, target, "clear", |it| it.put(release, Form::Partial))?;
            }
            (None, _) => {}
        }
        yield_now().await;
        self.change(permit, target, "remove", |it| it.clear(release))?;
        yield_now().await;
        Ok(())
    }

    async fn present(&self, _: &Target) -> Result<Vec<Present>, StepError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Traffic for World {
    async fn serving(&self, _: &Target) -> Result<Option<Live>, StepError> {
        Ok(None)
    }

    async fn turn(&self, permit: &Permit, target: &Target, live: Option<&Live>) -> Result<(), StepError> {
        let to = live.map(|live| live.release).ok_or_else(|| broken("something must serve"))?;
        yield_now().await;
        if self.form(target, to) != Some(Form::Sealed) {
            return Err(broken("the link would lead nowhere"));
        }
        let back = self.fault == Fault::UndoSwitch && to == ReleaseNumber(2);
        if back && target.name.as_str() == "web-1" && !self.mended() {
            return Err(broken("the link cannot be turned"));
        }
        if self.is(Bug::TurnClaimsTooEarly) {
            let mut was_claimed = false;
            self.change(permit, target, "claim", |it| was_claimed = !it.claimed.insert(to))?;
            if was_claimed {
                return Ok(());
            }
            yield_now().await;
        }
        self.change(permit, target, &format!("turn-to-{to}"), |it| it.live = Some(to))?;
        yield_now().await;
        Ok(())
    }
}

/// What the checkpoints of these tests add: a gate, a build, a check, and something past the pivot.
#[derive(Debug)]
pub(crate) struct Part(pub(crate) World);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PartParams {
    pub(crate) part: String,
    pub(crate) target: Target,
}

#[async_trait]
impl Action for Part {
    const NAME: &'static str = "test.part";
    const EFFECT: Effect = Effect::World;
    type Params = PartParams;
    type Output = String;

    async fn run(&self, cx: &StepContext<'_>, params: &PartParams) -> Result<String, StepError> {
        let World { inner, fault, .. } = &self.0;
        yield_now().await;
        self.0.change(&cx.permit, &params.target, &params.part, |_| ())?;
        let second = params.target.name.as_str() == "web-2";
        if *fault == Fault::Cancel && params.part == "build" && second {
            let session = inner.lock().unwrap().session.clone().unwrap();
            session.cancel(Actor::User("ada".into()), Some("not today".into()));
        }
        yield_now().await;
        match (params.part.as_str(), *fault) {
            ("gate", Fault::Gate) => {
                let what = "not on a Friday";
                Err(Broken { what, class: Class::Refused, retry: Retry::Never }.into())
            }
            ("check", Fault::Check | Fault::UndoSwitch) if second => Err(broken("503")),
            ("after", Fault::AfterPivot) if !self.0.mended() => Err(broken("unreachable")),
            _ => Ok(format!("{} done", params.part)),
        }
    }

    // A part only looks.
    async fn undo(&self, _: &StepContext<'_>, _: &PartParams, _: Option<&String>) -> Result<(), StepError> {
        yield_now().await;
        Ok(())
    }
}
