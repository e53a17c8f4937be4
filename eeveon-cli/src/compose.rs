//! Where a project's parts are put together: the only place that knows all crates by name.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use eeveon_build::{Command, CommandLine, CommandParams, Limits, Place, Runner};
use eeveon_core::{
    Checkpoints, CommitId, Contents, Deployer as _, Engine, Feed, Fence, Live, Placed, PlanBuilder,
    ProjectName, Reach, Registry, Release, Slot, Stage, Target, TargetFacts, TargetName, Traffic as _,
    strategy::Facts,
};
use eeveon_host::{Host, HostOptions};
use eeveon_rollback::{OrderFacts, OrderGate, QuarantineFacts, QuarantineGate};
use eeveon_source::{Credentials, Mirror, RepoUrl, Secret, SourceConfig, Want};
use eeveon_store::FencedJournal;

use crate::{
    App, CliError,
    config::{self, ConfigError, HumanDuration, ProjectConfig},
    environment::Environment,
    lease::Held,
};

/// How much of a disk a deploy leaves free, so that what is live can go on writing.
const RESERVE_BYTES: u64 = 16 << 20;

/// A project with its parts.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// Its name.
    pub name: ProjectName,
    /// What its file says.
    pub config: ProjectConfig,
    /// What is here of its source. Asking the source itself goes through [`Site::source`].
    pub mirror: Arc<Mirror>,
    /// Why the source cannot be asked.
    no_token: Option<Arc<ConfigError>>,
    /// Where it goes.
    pub host: Arc<Host>,
    /// The one target there is so far.
    pub target: Target,
    /// What plans can use.
    registry: Registry,
}

impl Site {
    /// Reads a project's file and puts its parts together. Touches neither source nor target.
    ///
    /// # Errors
    ///
    /// The file is invalid, or something it points to is missing.
    pub(crate) async fn open(app: &App, name: &ProjectName) -> Result<Self, CliError> {
        let config = config::load(&app.home.project_file(name), name)?;
        // What needs no source, going back for one, must not fail because a token is missing.
        let (token, no_token) = match resolve_token(&config.source.token) {
            Ok(token) => (token, None),
            Err(error) => (None, Some(Arc::new(error))),
        };
        let settings = source_config(app, &config, token)?;
        let mirror = Arc::new(Mirror::open(&app.home.mirror(name), settings)?);
        let host = Host::new(
            HostOptions {
                path: PathBuf::from(&config.deploy.path),
                project: name.clone(),
                home_id: app.home_id.clone(),
                shared_dirs: config.deploy.shared_dirs.clone(),
                shared_files: config.deploy.shared_files.clone(),
                commands_run: config.runs_commands(),
                reserve_bytes: RESERVE_BYTES,
            },
            Arc::clone(&mirror) as Arc<dyn Contents>,
        );
        let host = Arc::new(host.map_err(eeveon_core::StepError::from)?);
        let target = Target {
            name: TargetName::new("local")?,
            deployer: "host".to_owned(),
            traffic: "symlink".to_owned(),
        };
        let mut registry = Registry::default();
        let mut reach = Reach::default();
        reach.deployers.insert(target.deployer.clone(), Arc::clone(&host) as _);
        reach.traffic.insert(target.traffic.clone(), Arc::clone(&host) as _);
        reach.register(&mut registry);
        registry.register(OrderGate).register(QuarantineGate);
        let variables = |variables: BTreeMap<String, String>| {
            eeveon_build::Environment::new(variables).map_err(eeveon_core::StepError::from)
        };
        let runner = Runner::new(variables(app.environment.for_commands.clone())?, limits(&config));
        registry.register(Command::new(runner, app.home.logs(), variables(config.build.env.clone())?));
        Ok(Self { name: name.clone(), config, mirror, no_token, host, target, registry })
    }

    /// As [`Site::open`], for a command that is about this one project.
    ///
    /// # Errors
    ///
    /// As [`Site::open`].
    pub(crate) async fn concerned(app: &App, name: &ProjectName) -> Result<Self, CliError> {
        let site = Self::open(app, name).await?;
        Ok(app.concerned.get_or_init(|| site).clone())
    }

    /// Returns the engine that works under the lease.
    pub(crate) fn engine(&self, app: &App, held: &Held, feed: &Feed) -> Engine {
        let journal = FencedJournal { store: Arc::clone(&app.store), lease: Some(held.lease().clone()) };
        Engine::new(self.registry.clone(), Arc::new(journal), feed.clone())
    }

    /// Returns the source, to be asked over the network.
    ///
    /// # Errors
    ///
    /// `config/secret` when its token is missing.
    pub(crate) fn source(&self) -> Result<&Mirror, CliError> {
        match &self.no_token {
            None => Ok(&self.mirror),
            Some(error) => Err(CliError::Secret(Arc::clone(error))),
        }
    }

    /// Returns what to look up in the source: `rev`, or the project's branch.
    pub(crate) fn want(&self, rev: Option<&str>) -> Want {
        match rev {
            Some(rev) => Want::Revision(rev.to_owned()),
            None => Want::Branch(self.config.source.branch.clone()),
        }
    }

    /// Returns the highest lease the target has seen from this home.
    pub(crate) fn seen(&self) -> Fence {
        // What keeps it from being read keeps everything else from being done, and is told there.
        self.host.fence().unwrap_or_default()
    }

    /// Tells what is live.
    ///
    /// # Errors
    ///
    /// The target cannot be read, or what is there is not ours.
    pub(crate) async fn live(&self) -> Result<Option<Live>, CliError> {
        Ok(self.host.serving(&self.target).await?)
    }

    /// Lists what lies on the target.
    ///
    /// # Errors
    ///
    /// The target cannot be read.
    pub(crate) async fn present(&self) -> Result<Vec<eeveon_core::Present>, CliError> {
        Ok(self.host.present(&self.target).await?)
    }
}

fn limits(config: &ProjectConfig) -> Limits {
    let positive = |value: u64| (value > 0).then_some(value);
    Limits {
        nice: config.build.nice,
        memory_bytes: positive(config.build.memory.0),
        processes: positive(config.build.processes),
    }
}

/// Returns how the source of a project is reached and read.
///
/// # Errors
///
/// The repository's address is refused.
pub(crate) fn source_config(
    app: &App,
    config: &ProjectConfig,
    token: Option<Secret>,
) -> Result<SourceConfig, CliError> {
    let source = &config.source;
    let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
    let mut settings = SourceConfig::new(RepoUrl::parse(&source.repo)?);
    settings.dir = source.dir.clone();
    settings.ignore = config.deploy.ignore.clone();
    settings.depth = source.depth;
    settings.submodules = source.submodules;
    settings.credentials = Credentials {
        ssh_key: path(&source.ssh_key),
        known_hosts: path(&source.known_hosts),
        ssh_agent: app.environment.ssh_agent.clone(),
        home: app.environment.home.clone(),
        path: app.environment.path.clone(),
        proxy: app.environment.proxy.clone(),
        user: (!source.user.is_empty()).then(|| source.user.clone()),
        token,
        ca_file: path(&source.ca_file),
    };
    Ok(settings)
}

/// Returns the secret a reference points to; nothing for an empty one.
///
/// # Errors
///
/// It points nowhere.
pub(crate) fn resolve_token(reference: &str) -> Result<Option<Secret>, ConfigError> {
    let missing = |why: &str| ConfigError::Secret {
        key: "source.token",
        what: reference.to_owned(),
        why: why.to_owned(),
    };
    let value = match reference.split_once(':') {
        None => return Ok(None),
        Some(("env", name)) => Environment::variable(name).ok_or_else(|| missing("is not set"))?,
        Some((_, file)) => {
            std::fs::read_to_string(file).map_err(|error| missing(&format!("cannot be read: {error}")))?
        }
    };
    Secret::new(value.trim()).map(Some).ok_or_else(|| missing("is empty"))
}

/// The steps a project adds to every plan: its gates and its commands.
#[derive(Clone, Debug)]
pub(crate) struct ProjectSteps<'a> {
    /// The project.
    pub site: &'a Site,
    /// What is to serve.
    pub release: &'a Release,
    /// The commit that serves now.
    pub previous: Option<&'a CommitId>,
    /// What the commit-order gate is to judge; absent for a rollback, which goes back on purpose.
    pub order: Option<OrderFacts>,
    /// What the quarantine gate is to judge.
    pub quarantine: QuarantineFacts,
}

impl Checkpoints for ProjectSteps<'_> {
    fn admit(&self, plan: &mut PlanBuilder, _: &Facts) {
        plan.step::<QuarantineGate>(Stage::Admit, "gate/quarantine", &self.quarantine);
        if let Some(order) = &self.order {
            plan.step::<OrderGate>(Stage::Admit, "gate/order", order);
        }
    }

    fn shipped(&self, plan: &mut PlanBuilder, _: &TargetFacts, placed: &Slot<Placed>) {
        let config = &self.site.config;
        self.commands(plan, Stage::Build, "build", &config.build.commands, config.build.timeout, placed);
        self.commands(
            plan,
            Stage::Build,
            "pre_switch",
            &config.hooks.pre_switch,
            config.hooks.timeout,
            placed,
        );
    }

    fn before_switch(&self, plan: &mut PlanBuilder, on: &TargetFacts, _: &Slot<Placed>) {
        // Taken back after the switch is: the service then has to pick the old release up again.
        let Some(live) = &on.live else { return };
        for (n, line) in self.site.config.hooks.post_switch.iter().enumerate().rev() {
            let params = CommandParams {
                name: line.clone(),
                run: None,
                undo: Some(self.line(line, self.site.config.hooks.timeout)),
                place: Place::Folder(PathBuf::from(&live.endpoint.0)),
                env: self.variables(live.release, self.previous),
            };
            // Not of stage `Switch`: it does nothing on the way forward.
            plan.step::<Command>(Stage::Check, &format!("settle/{}", n + 1), &params);
            plan.then();
        }
    }

    fn switched(&self, plan: &mut PlanBuilder, _: &TargetFacts, placed: &Slot<Placed>) {
        let hooks = &self.site.config.hooks;
        self.commands(plan, Stage::Switch, "post_switch", &hooks.post_switch, hooks.timeout, placed);
    }
}

impl ProjectSteps<'_> {
    fn commands(
        &self,
        plan: &mut PlanBuilder,
        stage: Stage,
        kind: &str,
        lines: &[String],
        timeout: HumanDuration,
        placed: &Slot<Placed>,
    ) {
        for (n, line) in lines.iter().enumerate() {
            let params = CommandParams {
                name: line.clone(),
                run: Some(self.line(line, timeout)),
                undo: None,
                place: Place::Release(placed.clone()),
                env: self.variables(self.release.number, Some(&self.release.revision.commit)),
            };
            plan.step::<Command>(stage, &format!("{kind}/{}", n + 1), &params);
            plan.then();
        }
    }

    fn line(&self, line: &str, timeout: HumanDuration) -> CommandLine {
        let millis = |it: HumanDuration| u64::try_from(it.0.as_millis()).unwrap_or(u64::MAX);
        let idle_ms = millis(self.site.config.build.idle_timeout);
        CommandLine { line: line.to_owned(), timeout_ms: millis(timeout), idle_ms }
    }

    fn variables(
        &self,
        release: eeveon_core::ReleaseNumber,
        commit: Option<&CommitId>,
    ) -> BTreeMap<String, String> {
        let config = &self.site.config;
        let text = |commit: Option<&CommitId>| commit.map(ToString::to_string).unwrap_or_default();
        BTreeMap::from([
            ("EEVEON_PROJECT".to_owned(), self.site.name.to_string()),
            ("EEVEON_RELEASE".to_owned(), release.to_string()),
            ("EEVEON_REVISION".to_owned(), text(commit)),
            ("EEVEON_BRANCH".to_owned(), config.source.branch.clone()),
            ("EEVEON_PATH".to_owned(), config.deploy.path.clone()),
            ("EEVEON_PREVIOUS_REVISION".to_owned(), text(self.previous)),
        ])
    }
}
