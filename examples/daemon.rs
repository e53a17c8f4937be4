//! A program with the daemon in it: watches a repository and deploys what is new, by the queue, the
//! polling and the recovery that `ee-deploy serve` works with.
//!
//! `cargo run -p eeveon-examples --bin daemon -- /srv/git/shop.git /var/www/shop` goes on until Ctrl-C.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    env,
    error::Error,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{CommitId, DeploymentId, Outcome, Permit, ProjectName, Session, SystemClock};
use eeveon_daemon::{
    Daemon, Done, Limits, PollingConfig, Project, Projects, Sighting, Start, Watch, Windows, World,
};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_store::SqliteStore;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

#[path = "embed.rs"]
#[expect(dead_code, reason = "it is a program, too")]
mod embed;

/// What the daemon is put into: one project, its repository, and how to deploy it.
#[derive(Debug)]
struct Shop {
    repo: String,
    folder: PathBuf,
    mirror: Mirror,
    is_told: AtomicBool,
}

#[async_trait]
impl World for Shop {
    async fn changed(&self) -> Option<Projects> {
        // Nothing of it ever changes, so it is told once.
        if self.is_told.swap(true, Ordering::Relaxed) {
            return None;
        }
        let name = ProjectName::new("embedded").ok()?;
        let project = Project {
            name: name.clone(),
            branch: "main".to_owned(),
            watch: Some(Watch { interval: Duration::from_secs(1), host: String::new() }),
            automatic: true,
            schedules: Vec::new(),
            windows: Windows::default(),
            expected: Duration::from_secs(1),
            after: Vec::new(),
        };
        Some([(name, Ok(project))].into())
    }

    async fn look(&self, _: &ProjectName, _: Option<&CommitId>) -> Result<Sighting, String> {
        let session = Session::new(eeveon_core::Fence(0));
        let permit = Permit::new(session.fence(), session.cancellation().clone());
        let commit = self.mirror.resolve(&Want::Default, &permit).await.map_err(|error| error.to_string())?;
        // What is live already, `carry_out` finds out.
        Ok(Sighting { commit, live: false })
    }

    async fn carry_out(
        &self,
        start: &Start,
        _: &CancellationToken,
        _: oneshot::Sender<DeploymentId>,
    ) -> Done {
        let outcome = embed::deploy(&self.repo, &self.folder).await.map_err(|error| error.to_string());
        match &outcome {
            Ok(None) => println!("nothing changed"),
            Ok(Some(outcome)) => println!("the deployment ended as {}", outcome.as_str()),
            Err(error) => println!("it could not be deployed: {error}"),
        }
        Done {
            deployment: None,
            commit: start.ask.want.commit().cloned(),
            went_live: outcome == Ok(Some(Outcome::Succeeded)),
            again: outcome.is_err(),
            failure: None,
            in_use: false,
            goes_on: false,
        }
    }

    async fn free(&self, _: &ProjectName) {}

    async fn settle(&self) {}

    async fn tell(&self, _: &CancellationToken) {}

    fn say(&self, _: Option<&ProjectName>, words: &str) {
        println!("{words}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [repo, folder] = arguments.as_slice() else { return Err("usage: daemon REPOSITORY FOLDER".into()) };
    let folder = std::path::absolute(folder)?;
    std::fs::create_dir_all(&folder)?;
    let mirror = Mirror::open(&folder.join("watched.git"), SourceConfig::new(RepoUrl::parse(repo)?))?;
    let store = Arc::new(SqliteStore::open(&folder.join("eeveon.db")).await?);
    let shop = Shop { repo: repo.clone(), folder, mirror, is_told: AtomicBool::new(false) };
    let (limits, polling) = (Limits::default(), PollingConfig::default());
    let daemon = Daemon::load(Arc::new(shop), store, Arc::new(SystemClock), limits, polling, 1).await?;
    // `daemon.handle()` asks for deployments, follows and cancels them, from anywhere in the program.
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    println!("watching");
    daemon.run(shutdown, Duration::from_secs(10)).await?;
    Ok(())
}
