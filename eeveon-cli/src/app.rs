//! What every command has at hand.

use std::sync::{Arc, OnceLock};

use eeveon_core::{Actor, DeploymentId, ProjectName};
use eeveon_source::HttpClients;
use eeveon_store::{Owner, SqliteStore, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{CliError, compose::Site, environment::Environment, home::Home, render::Ui};

/// The home, the store, the surroundings, and whom to talk to.
#[derive(Clone, Debug)]
pub struct App {
    /// Whom to talk to, and how.
    pub ui: Ui,
    /// Where things are kept.
    pub home: Home,
    /// What tells the home from every other one.
    pub home_id: String,
    /// What is remembered.
    pub store: Arc<dyn Store>,
    /// What the surroundings say.
    pub environment: Environment,
    /// What talks to servers of repositories.
    pub clients: HttpClients,
    /// This process.
    pub me: Owner,
    /// The deployment the command has opened, once it has.
    pub(crate) opened: Arc<watch::Sender<Option<DeploymentId>>>,
    /// The project the command is about, once it is known: its failure then says what is live.
    pub(crate) concerned: Arc<OnceLock<Site>>,
    /// Fires when a person or the system wants the command to stop.
    pub interrupted: CancellationToken,
}

impl App {
    /// Opens the home and the store.
    ///
    /// # Errors
    ///
    /// Either cannot be opened.
    pub async fn open(ui: Ui, home: Home, environment: Environment, command: &str) -> Result<Self, CliError> {
        home.make()?;
        let home_id = home.id()?;
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(home.store()).await?);
        let me = Owner::this_process(format!("{}: ee-deploy {command}", environment.user));
        home.keep_ballast();
        let interrupted = crate::signals::listen()?;
        Ok(Self {
            ui,
            home,
            home_id,
            store,
            environment,
            clients: HttpClients::default(),
            me,
            interrupted,
            opened: Arc::default(),
            concerned: Arc::default(),
        })
    }

    /// Takes note of the deployment that the command has opened. Only the first counts.
    pub(crate) fn opens(&self, deployment: DeploymentId) {
        self.opened.send_if_modified(|opened| match opened {
            Some(_) => false,
            None => opened.replace(deployment).is_none(),
        });
    }

    /// Returns who asks.
    pub fn actor(&self) -> Actor {
        self.environment.actor()
    }

    /// Finds a project by what was typed.
    ///
    /// # Errors
    ///
    /// There is none of that name; the most similar one is named.
    pub fn project(&self, name: &str) -> Result<ProjectName, CliError> {
        let name = ProjectName::new(name)?;
        if !self.home.is_gone(&name)? {
            return Ok(name);
        }
        let names = self.home.project_names()?;
        let nearest = crate::config::nearest(name.as_str(), names.iter().map(ProjectName::as_str));
        let nearest = nearest.and_then(|nearest| ProjectName::new(nearest).ok());
        Err(CliError::UnknownProject { name, nearest })
    }

    /// Reads what names either a project or a deployment: `#12` is always a deployment, anything
    /// else a project if there is one, and a bare number otherwise a deployment.
    ///
    /// # Errors
    ///
    /// It names neither.
    pub fn subject(&self, text: &str) -> Result<Subject, CliError> {
        if let Some(number) = text.strip_prefix('#') {
            return deployment_id(number).map(Subject::Deployment);
        }
        match self.project(text) {
            Ok(name) => Ok(Subject::Project(name)),
            Err(error) => deployment_id(text).map(Subject::Deployment).map_err(|_| error),
        }
    }
}

/// What `why` and `logs` can be asked about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Subject {
    /// A project.
    Project(ProjectName),
    /// A deployment.
    Deployment(DeploymentId),
}

/// Reads a deployment's id, with or without a leading `#`.
///
/// # Errors
///
/// It is no number.
pub(crate) fn deployment_id(text: &str) -> Result<DeploymentId, CliError> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    digits.parse().map(DeploymentId).map_err(|_| {
        CliError::UnknownDeployment(text.chars().take(40).flat_map(char::escape_default).collect())
    })
}
