//! The same repository over every transport, from real servers on loopback.

use std::path::PathBuf;

use crate::common::*;
use eeveon_core::Diagnose;
use eeveon_core::Secret;
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_testkit::{
    git::Repo,
    servers::{Access, GitDaemon, GitHttps, GitSsh},
    skip_unless,
};

/// A folder of bare repositories: `shop.git` with 30 commits, and `empty.git`.
struct Served {
    repo: Repo,
    root: PathBuf,
}

impl Served {
    fn new() -> Self {
        let repo = Repo::new();
        repo.grow(30);
        let root = repo.beside("served");
        let served = Self { repo, root };
        served.publish();
        served.repo.git(["init", "--quiet", "--bare", served.root.join("empty.git").to_str().unwrap()]);
        served
    }

    /// Brings what was committed since to the server.
    fn publish(&self) {
        let bare = self.root.join("shop.git");
        if !bare.exists() {
            std::fs::create_dir_all(&self.root).unwrap();
            self.repo.git(["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
        }
        self.repo.git(["push", "--quiet", "--force", bare.to_str().unwrap(), "main"]);
    }

    fn mirror(&self, url: &str, change: impl FnOnce(&mut SourceConfig)) -> Mirror {
        let mut config = SourceConfig::new(RepoUrl::parse(url).unwrap());
        change(&mut config);
        Mirror::open(&mirror_path(&self.repo), config).unwrap()
    }

    /// Does everything a deploy does, twice, with new commits between.
    async fn exercise(&self, mirror: &Mirror) {
        assert_eq!(mirror.default_branch(&permit()).await.unwrap(), "main");
        let old = mirror.resolve(&Want::Default, &permit()).await.unwrap();
        assert_eq!(old.as_str(), self.repo.head());
        assert!(mirror.fetch(&old, None, &permit()).await.unwrap().bytes > 0);
        assert_eq!(paths(&list(mirror, &old).unwrap()), ["counter"]);
        assert_eq!(commits_in(&self.repo), 1);
        let grown = self.repo.grow(5);
        self.publish();
        let new = mirror.resolve(&Want::Branch("main".into()), &permit()).await.unwrap();
        assert_eq!(new.as_str(), grown[4]);
        mirror.fetch(&new, Some(&old), &permit()).await.unwrap();
        assert_eq!(mirror.parents(&id(&grown[0])).unwrap(), Some(vec![old.clone()]));
        assert_eq!(commits_in(&self.repo), 6);
        assert!(mirror.deepen(std::slice::from_ref(&new), 10, &permit()).await.unwrap());
        assert_eq!(commits_in(&self.repo), 16);
        fsck(&self.repo);
        let missing = mirror.resolve(&Want::Branch("nope".into()), &permit()).await;
        assert_eq!(code(missing), "source/branch-missing");
        let nothing = mirror.fetch(&id(&"12".repeat(20)), None, &permit()).await;
        assert_eq!(code(nothing), "source/commit-missing");
        // Rewritten to something older than what is live.
        self.repo.git(["reset", "--quiet", "--hard", "HEAD~20"]);
        self.repo.write("other", "x");
        self.repo.pass(-3600);
        let rewritten = id(&self.repo.commit("rewritten"));
        self.publish();
        mirror.fetch(&rewritten, Some(&new), &permit()).await.unwrap();
        assert_eq!(paths(&list(mirror, &rewritten).unwrap()), ["counter", "other"]);
        fsck(&self.repo);
    }
}

async fn look(mirror: &Mirror) -> &'static str {
    code(mirror.resolve(&Want::Default, &permit()).await)
}

/// Servers behind an sshd that does not pass `GIT_PROTOCOL` on speak version 0.
#[tokio::test]
async fn over_protocol_version_0() {
    let served = Served::new();
    let tools = served.repo.beside("tools");
    std::fs::create_dir(&tools).unwrap();
    let script = "#!/bin/sh\nunset GIT_PROTOCOL\nPATH=/usr/local/bin:/usr/bin:/bin\nexec git \"$@\"\n";
    std::fs::write(tools.join("git"), script).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(tools.join("git"), executable).unwrap();
    let url = served.root.join("shop.git");
    let mirror = served.mirror(url.to_str().unwrap(), |config| config.credentials.path = Some(tools.into()));
    served.exercise(&mirror).await;
}

#[tokio::test]
async fn over_git_daemon() {
    skip_unless!(GitDaemon::available());
    let served = Served::new();
    let server = GitDaemon::start(&served.root).unwrap();
    served.exercise(&served.mirror(&server.url("shop.git"), |_| {})).await;
    assert_eq!(look(&served.mirror(&server.url("empty.git"), |_| {})).await, "source/empty");
    assert_eq!(look(&served.mirror(&server.url("nope.git"), |_| {})).await, "source/repository-missing");
    let gone = server.url("shop.git");
    drop(server);
    assert_eq!(look(&served.mirror(&gone, |_| {})).await, "source/unreachable");
}

#[tokio::test]
async fn over_ssh() {
    skip_unless!(GitSsh::available());
    let served = Served::new();
    let mut server = GitSsh::start(&served.root).unwrap();
    let open = |server: &GitSsh, name: &str, change: &dyn Fn(&mut SourceConfig)| {
        served.mirror(&server.url(name), |config| {
            config.credentials.ssh_key = Some(server.key_file());
            config.credentials.known_hosts = Some(server.known_hosts());
            change(config);
        })
    };
    served.exercise(&open(&server, "shop.git", &|_| {})).await;
    assert_eq!(look(&open(&server, "empty.git", &|_| {})).await, "source/empty");
    assert_eq!(look(&open(&server, "nope.git", &|_| {})).await, "source/repository-missing");
    let nobody = served.repo.beside("nobody");
    std::fs::write(&nobody, "").unwrap();
    let unknown = open(&server, "shop.git", &|config| config.credentials.known_hosts = Some(nobody.clone()));
    assert_eq!(look(&unknown).await, "source/host-key-unknown");
    let key = served.repo.beside("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().unwrap()])
        .status();
    assert!(made.unwrap().success());
    let stranger = open(&server, "shop.git", &|config| config.credentials.ssh_key = Some(key.clone()));
    assert_eq!(look(&stranger).await, "source/credentials");
    server.change_host_key().unwrap();
    let error = open(&server, "shop.git", &|_| {}).resolve(&Want::Default, &permit()).await.unwrap_err();
    assert_eq!(error.code(), "source/host-key-changed");
    let gone = open(&server, "shop.git", &|_| {});
    drop(server);
    assert_eq!(look(&gone).await, "source/unreachable");
}

#[tokio::test]
async fn over_https_with_a_password() {
    skip_unless!(GitHttps::available());
    let served = Served::new();
    let server = GitHttps::start(&served.root, Access::Password).unwrap();
    let open = |name: &str, token: Option<&str>, trusted: bool| {
        served.mirror(&server.url(name), |config| {
            config.credentials.ca_file = trusted.then(|| server.ca_file());
            config.credentials.user = Some(server.user().to_owned());
            config.credentials.token = token.and_then(Secret::new);
        })
    };
    let right = Some(server.password());
    served.exercise(&open("shop.git", right, true)).await;
    assert_eq!(look(&open("empty.git", right, true)).await, "source/empty");
    assert_eq!(look(&open("nope.git", right, true)).await, "source/repository-missing");
    assert_eq!(look(&open("shop.git", None, true)).await, "source/credentials");
    let wrong = open("shop.git", Some("wr0ng-password"), true);
    let error = wrong.resolve(&Want::Default, &permit()).await.unwrap_err();
    assert_eq!(error.code(), "source/credentials");
    assert!(!format!("{error:?} {wrong:?} {:?}", wrong.config()).contains("wr0ng-password"));
    assert_eq!(look(&open("shop.git", right, false)).await, "source/certificate");
    let gone = open("shop.git", right, true);
    assert!(gone.resolve(&Want::Default, &permit()).await.is_ok());
    drop(server);
    assert_eq!(look(&gone).await, "source/unreachable");
}

#[tokio::test]
async fn over_https_for_anyone() {
    skip_unless!(GitHttps::available());
    let served = Served::new();
    let server = GitHttps::start(&served.root, Access::Anonymous).unwrap();
    let ca_file = Some(server.ca_file());
    served
        .exercise(&served.mirror(&server.url("shop.git"), |config| config.credentials.ca_file = ca_file))
        .await;
}
