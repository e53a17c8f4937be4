//! What the daemon is put into: projects, repositories and deployments, as whoever composes it knows
//! them.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use eeveon_core::{CommitId, DeploymentId, Failure, ProjectName};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::{Edge, Missed, Schedule, Start, Watch, Windows};

/// A project, as far as the daemon has to know it.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// The branch it deploys.
    pub branch: String,
    /// Where and how often to look; not at all without.
    pub watch: Option<Watch>,
    /// Whether it deploys by itself; what is asked for by hand it deploys anyway.
    pub automatic: bool,
    /// When it deploys without a new commit.
    pub schedules: Vec<(Schedule, Missed)>,
    /// When it may.
    pub windows: Windows,
    /// How long a deployment is expected to take.
    pub expected: Duration,
    /// What it waits for.
    pub after: Vec<Edge>,
}

/// Why a project cannot be used now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Unusable {
    /// What there is of it makes no sense, in one line.
    Broken(String),
    /// Its file is not there: it was removed, or is just being written anew.
    Missing,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) => f.write_str(why),
            Self::Missing => f.write_str("its file is not there"),
        }
    }
}

/// All projects there are; with those that cannot be used now, why.
pub type Projects = BTreeMap<ProjectName, Result<Project, Unusable>>;

/// What a look at a repository found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sighting {
    /// The newest commit of the branch.
    pub commit: CommitId,
    /// Whether it is live already.
    pub live: bool,
}

/// How carrying out a request went.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The deployment, if it came to one.
    pub deployment: Option<DeploymentId>,
    /// The commit that was to serve, once it was known.
    pub commit: Option<CommitId>,
    /// Whether a release of it went live.
    pub went_live: bool,
    /// Whether the same may be tried again by itself, because the cause may pass. What nobody asked for
    /// in person and did not come to a deployment then waits in line again.
    pub again: bool,
    /// What kept it from coming to a deployment.
    pub failure: Option<Failure>,
    /// Whether that is another process at work on the project. Whoever asked, it then waits in line until
    /// the project is free.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub in_use: bool,
    /// Whether whoever asked told of a commit that was not there yet when another one was deployed: the
    /// same is asked for once more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goes_on: bool,
}

/// What the daemon is put into: everything it cannot do itself.
///
/// Each of the asynchronous methods may be dropped where it waits when the daemon ends: that has to be
/// no worse than the death of the process. `settle` runs beside looks and before anything is carried out, and
/// again when something was set aside.
#[async_trait]
pub trait World: fmt::Debug + Send + Sync {
    /// Returns all projects when any of them changed since the last call, and nothing otherwise, or when
    /// they cannot be told. Nothing is carried out before they were told once. One that is missing is no
    /// more, and nothing of it waits any longer; of one that cannot be used now everything waits.
    async fn changed(&self) -> Option<Projects>;
    /// Looks at a project's repository. Whether the newest commit is live need not be found out when it
    /// is `known`: nothing follows from it.
    ///
    /// # Errors
    ///
    /// Says in one line why it cannot be seen.
    async fn look(&self, project: &ProjectName, known: Option<&CommitId>) -> Result<Sighting, String>;
    /// Carries a request out, to its end, and names the deployment as soon as it is open. When `stop`
    /// fires the deployment is taken back. Does not wait for a project that another process works on.
    async fn carry_out(
        &self,
        start: &Start,
        stop: &CancellationToken,
        opened: oneshot::Sender<DeploymentId>,
    ) -> Done;
    /// Waits until no other process works on a project.
    async fn free(&self, project: &ProjectName);
    /// Finishes or takes back what processes left that died.
    async fn settle(&self);
    /// Delivers what there is to tell, until `stop` fires.
    async fn tell(&self, stop: &CancellationToken);
    /// Says something to whoever runs the daemon.
    fn say(&self, project: Option<&ProjectName>, words: &str);
}
