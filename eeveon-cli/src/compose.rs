//! Where a project's parts are put together: the only place that knows all crates by name.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use eeveon_build::{Command, Limits, Runner};
use eeveon_core::{
    Contents, Deployer as _, DeploymentId, Engine, Feed, Fence, Live, ProjectName, Reach, Registry, Secret,
    SecretError, SecretRef, Secrets as _, Target, TargetName, Traffic as _,
};
use eeveon_health::Checks;
use eeveon_host::{Host, HostOptions};
use eeveon_rollback::{OrderGate, QuarantineGate};
use eeveon_source::{Credentials, Mirror, RepoUrl, SourceConfig, Want};
use eeveon_store::FencedJournal;

use crate::{
    App, CliError,
    config::{self, ProjectConfig},
    environment::Environment,
    lease::Held,
    probing::CheckCommands,
    settings::Settings,
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
    /// What of that travels with a release.
    pub settings: Settings,
    /// What is here of its source. Asking the source itself goes through [`Site::source`].
    pub mirror: Arc<Mirror>,
    /// Why the source cannot be asked.
    no_token: Option<SecretError>,
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
        let settings = Settings::of(&config);
        Self::assemble(app, name, config, settings)
    }

    /// Returns the same project with the settings that an earlier release was deployed with.
    ///
    /// # Errors
    ///
    /// As [`Site::open`].
    pub(crate) fn with(&self, app: &App, settings: Settings) -> Result<Self, CliError> {
        Self::assemble(app, &self.name, settings.applied_to(&self.config), settings)
    }

    /// Returns the same project with the settings that a deployment was opened with: whoever goes on
    /// with it must not work by others.
    ///
    /// # Errors
    ///
    /// As [`Site::open`].
    pub(crate) async fn as_opened(&self, app: &App, deployment: DeploymentId) -> Result<Self, CliError> {
        match Settings::of_deployment(app, deployment).await? {
            Some(settings) => self.with(app, settings),
            None => Ok(self.clone()),
        }
    }

    fn assemble(
        app: &App,
        name: &ProjectName,
        config: ProjectConfig,
        settings: Settings,
    ) -> Result<Self, CliError> {
        // What needs no source, going back for one, must not fail because a token is missing.
        let (token, no_token) = match resolve_token(&app.environment, &config.source.token) {
            Ok(token) => (token, None),
            Err(error) => (None, Some(error)),
        };
        let source = source_config(app, &config, token)?;
        // Said before the mirror says that it is another user's, which sounds as if it were in the way.
        app.home.check_owner()?;
        let mirror = Arc::new(Mirror::open(&app.home.mirror(name), source)?);
        let host = Host::new(
            HostOptions {
                path: PathBuf::from(&config.deploy.path),
                project: name.clone(),
                home_id: app.home_id.clone(),
                shared_dirs: config.deploy.shared_dirs.clone(),
                shared_files: config.deploy.shared_files.clone(),
                commands_run: settings.runs_commands(),
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
        let own = variables(config.build.env.clone())?;
        registry.register(Command::new(runner.clone(), app.home.logs(), own.clone()));
        let commands = CheckCommands { runner, logs: app.home.logs(), env: own };
        Checks::new(Arc::new(commands), Arc::new(app.environment.clone())).register(&mut registry);
        Ok(Self { name: name.clone(), config, settings, mirror, no_token, host, target, registry })
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
            Some(error) => Err(CliError::Secret(error.clone())),
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
    settings.clients = app.clients.clone();
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
pub(crate) fn resolve_token(
    environment: &Environment,
    reference: &str,
) -> Result<Option<Secret>, SecretError> {
    match SecretRef::parse(reference)? {
        Some(at) => environment.reveal(&at).map(Some),
        None => Ok(None),
    }
}
