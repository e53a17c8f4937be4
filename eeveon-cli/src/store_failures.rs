//! Whatever call to the store fails: what people are told agrees with the world, the next command
//! settles what is left, and the next deploy works.

use std::{fs, path::PathBuf, sync::Arc};

use clap::Parser as _;
use eeveon_core::{Outcome, ProjectName};
use eeveon_source::HttpClients;
use eeveon_store::{Deployment, DeploymentFilter, MemoryStore, Owner, Store};
use eeveon_testkit::{
    git::Repo,
    store::{FailingStore, Loses},
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{
    App, Cli, Exit, Unable, act,
    environment::Environment,
    home::Home,
    render::{ColorChoice, Serving, Ui},
    settling, view,
};

/// More calls than any command makes.
const ENOUGH: u64 = 500;

const DEPLOY: &[&str] = &["deploy", "app", "--no-wait"];

/// A home with a project `app`. Each commit has a file `n` with its number.
struct World {
    folder: TempDir,
    repo: Repo,
    store: Arc<dyn Store>,
    pushed: u32,
}

impl World {
    async fn new() -> Self {
        let (folder, store) = (tempfile::tempdir().unwrap(), Arc::new(MemoryStore::new()));
        let mut world = Self { folder, repo: Repo::new(), store, pushed: 0 };
        world.push();
        let site = world.site().display().to_string();
        let app = world.app(Arc::clone(&world.store));
        app.home.make().unwrap();
        run(&app, &["init", "--repo", &world.repo.url(), "--name", "app", "--path", &site]).await.unwrap();
        world
    }

    fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    fn push(&mut self) {
        self.pushed += 1;
        self.repo.write("n", self.pushed.to_string());
        self.repo.commit("more");
    }

    /// Returns what a process of its own has at hand, which is dead for all others.
    fn app(&self, store: Arc<dyn Store>) -> App {
        let me = Owner { pid: i32::MAX.cast_unsigned(), started: 1, ..Owner::this_process("test") };
        App {
            ui: Ui::new(false, true, ColorChoice::Never, true),
            home: Home::find(Some(self.folder.path().join("home")), None).unwrap(),
            home_id: "0".repeat(32),
            store,
            environment: Environment { path: std::env::var_os("PATH"), ..Environment::default() },
            clients: HttpClients::default(),
            me,
            concerned: Arc::default(),
            opened: Arc::default(),
            interrupted: CancellationToken::new(),
        }
    }

    /// Returns the number of the commit that is live.
    fn live(&self) -> Option<u32> {
        fs::read_to_string(self.site().join("current/n")).ok()?.parse().ok()
    }

    fn live_release(&self) -> Option<String> {
        let link = fs::read_link(self.site().join("current")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// Deploys with a sound store, after settling what was left.
    async fn deploy(&self) {
        let app = self.app(Arc::clone(&self.store));
        assert_eq!(run(&app, DEPLOY).await.unwrap(), Exit::Done);
        assert_eq!(self.live(), Some(self.pushed));
    }

    async fn newest(&self) -> Option<Deployment> {
        let filter = DeploymentFilter { limit: 1, ..DeploymentFilter::default() };
        self.store.deployments(&filter).await.unwrap().into_iter().next()
    }

    /// Runs a command that makes commit `new` serve, with a store whose call number `at` fails, and
    /// judges what is told and what is there. Returns false when the command makes fewer calls.
    async fn strike(&self, words: &[&str], new: u32, at: u64, loses: Loses) -> bool {
        let store = Arc::new(FailingStore::new(Arc::clone(&self.store), at, loses));
        let (old, before) = (self.live(), self.newest().await.map(|it| it.id));
        let told = run(&self.app(Arc::clone(&store) as _), words).await;
        let context = format!("call {at}, {:?}, loses its {loses:?}: {told:?}", store.struck());
        match &told {
            Ok(Exit::Done) => assert_eq!(self.live(), Some(new), "{context}"),
            Ok(_) => assert_eq!(self.live(), old, "{context}"),
            Err(Unable { serving: Serving::Release { release, .. }, .. }) => {
                assert_eq!(Some(release.to_string()), self.live_release(), "{context}");
            }
            Err(Unable { serving: Serving::Nothing, .. }) => assert_eq!(self.live(), None, "{context}"),
            Err(_) => {}
        }

        let sound = self.app(Arc::clone(&self.store));
        settling::settle(&sound).await.unwrap();
        let project = ProjectName::new("app").unwrap();
        assert_eq!(view::open_deployments(&sound, &project).await.unwrap(), [], "{context}");
        let after = self.newest().await.filter(|it| Some(it.id) != before);
        let succeeded = after.is_some_and(|it| it.outcome == Some(Outcome::Succeeded));
        assert_eq!(self.live(), if succeeded { Some(new) } else { old }, "{context}");
        // Once told, it stays so.
        if let Ok(exit) = told {
            assert_eq!(succeeded, exit == Exit::Done, "{context}");
        }
        store.struck().is_some()
    }
}

async fn run(app: &App, words: &[&str]) -> Result<Exit, Unable> {
    let words = ["ee-deploy"].into_iter().chain(words.iter().copied());
    act(app, Cli::try_parse_from(words).unwrap().command).await
}

#[tokio::test]
async fn a_deploy_copes_with_any_call_that_fails() {
    for loses in [Loses::Call, Loses::Answer] {
        let mut world = World::new().await;
        let mut at = 1;
        // From the first release on: each goes over what the one before left.
        while world.strike(DEPLOY, world.pushed, at, loses).await {
            world.deploy().await;
            world.push();
            at += 1;
            assert!(at < ENOUGH, "it never comes to an end");
        }
        assert!(at > 20, "only {at} calls");
    }
}

#[tokio::test]
async fn a_rollback_copes_with_any_call_that_fails() {
    for loses in [Loses::Call, Loses::Answer] {
        let mut world = World::new().await;
        world.deploy().await;
        let mut at = 1;
        loop {
            let earlier = world.live().unwrap();
            world.push();
            world.deploy().await;
            let words = ["rollback", "app", "--yes", "--reason", "test"];
            if !world.strike(&words, earlier, at, loses).await {
                break;
            }
            at += 1;
            assert!(at < ENOUGH, "it never comes to an end");
        }
        assert!(at > 20, "only {at} calls");
    }
}
