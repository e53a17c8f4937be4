//! Deploys a repository with the library crates alone: no project file, no command line tool.
//!
//! `cargo run -p eeveon-examples -- /srv/git/shop.git /var/www/shop` puts a mirror, a store and the
//! site below `/var/www/shop`. Again, it deploys what is new since.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{env, error::Error, path::Path, sync::Arc, time::Duration};

use eeveon_core::{
    Actor, Checkpoints, Engine, FORMAT, Facts, Feed, Kind, Outcome, Permit, ProjectName, Quarantining, Reach,
    Record, Registry, Release, Request, Session, Target, TargetFacts, TargetName, Traffic as _, Trigger,
    strategy,
};
use eeveon_host::{Host, HostOptions};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_store::{Acquired, FencedJournal, Owner, SqliteStore, Store};

/// Adds no gates and no commands to the plan.
struct Bare;

impl Checkpoints for Bare {}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [repo, folder] = arguments.as_slice() else { return Err("usage: embed REPOSITORY FOLDER".into()) };
    match deploy(repo, &std::path::absolute(folder)?).await? {
        None => println!("nothing changed"),
        Some(Outcome::Succeeded) => println!("live at {folder}/site/current"),
        Some(other) => return Err(format!("the deployment ended as {}", other.as_str()).into()),
    }
    Ok(())
}

/// Deploys the newest commit of the repository's default branch, unless it is live already.
pub(crate) async fn deploy(
    repo: &str,
    folder: &Path,
) -> Result<Option<Outcome>, Box<dyn Error + Send + Sync>> {
    // The parts: where code comes from, where it goes, what is remembered.
    std::fs::create_dir_all(folder)?;
    let project = ProjectName::new("embedded")?;
    let source = SourceConfig::new(RepoUrl::parse(repo)?);
    let mirror = Arc::new(Mirror::open(&folder.join("mirror.git"), source)?);
    let options = HostOptions {
        path: folder.join("site"),
        project: project.clone(),
        home_id: "embedded".to_owned(),
        shared_dirs: Vec::new(),
        shared_files: Vec::new(),
        commands_run: false,
        reserve_bytes: 0,
    };
    let host = Arc::new(Host::new(options, Arc::clone(&mirror) as _)?);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.join("eeveon.db")).await?);

    // One at a time. This short program does not renew its lease, so it takes a long one.
    let me = Owner::this_process("embed");
    let granted = store.acquire("embedded", &me, Duration::from_secs(600), None, host.fence()?).await?;
    let Acquired::Granted(lease) = granted else { return Err("another process deploys".into()) };
    let session = Session::new(lease.fence);
    let permit = Permit::new(lease.fence, session.cancellation().clone());

    // Facts: which commit, and what is live.
    let commit = mirror.resolve(&Want::Default, &permit).await?;
    let target =
        Target { name: TargetName::new("here")?, deployer: "host".to_owned(), traffic: "link".to_owned() };
    let live = host.serving(&target).await.map_err(|error| error.to_string())?;
    let known = store.releases(&project).await?;
    let previous = live.as_ref().and_then(|live| known.iter().find(|it| it.number() == live.release));
    let previous = previous.map(|it| it.release.revision.commit.clone());
    if previous.as_ref() == Some(&commit) {
        store.release(&lease).await?;
        return Ok(None);
    }
    let revision = mirror.fetch(&commit, previous.as_ref(), &permit).await?.revision;
    let above = live.as_ref().map_or_else(Default::default, |live| live.release);
    let number = store.reserve_release(&project, above).await?;
    mirror.keep(number, &commit)?;
    let release = Release { project, number, revision };

    // The facts become a plan.
    let on = TargetFacts { target: target.clone(), live: live.clone(), outworn: Vec::new() };
    let facts = Facts { kind: Kind::Deploy, release: release.clone(), targets: vec![on] };
    let plan = strategy::symlink(&facts, &Bare);

    // The engine carries it out and writes the journal. Everything else reads the journal.
    let (mut registry, mut reach, feed) = (Registry::default(), Reach::default(), Feed::default());
    reach.deployers.insert("host".to_owned(), Arc::clone(&host) as _);
    reach.traffic.insert("link".to_owned(), host);
    reach.register(&mut registry);
    let journal = FencedJournal { store: Arc::clone(&store), lease: Some(lease.clone()) };
    let engine = Engine::new(registry, Arc::new(journal), feed.clone());
    let mut entries = feed.subscribe();
    let request = Request {
        format: FORMAT,
        kind: Kind::Deploy,
        release,
        live: vec![(target.name, live)],
        previous,
        actor: Actor::User("embed".into()),
        trigger: Trigger::Manual,
        reason: None,
        config: String::new(),
        quarantine: Quarantining::default(),
        irreversible: false,
        settings: None,
    };
    let outcome = engine.deploy(store.reserve_deployment().await?, request, plan, &session).await?;
    while let Ok(entry) = entries.try_recv() {
        match &entry.record {
            Record::Finished { step, .. } => println!("done: {step}"),
            Record::Failed { step, failure } => println!("failed: {step}: {failure}"),
            _ => {}
        }
    }
    store.release(&lease).await?;
    Ok(Some(outcome))
}
