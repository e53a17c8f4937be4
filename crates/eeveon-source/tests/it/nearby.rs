//! Fetching from a repository on this machine: a few commits on top of what is here come without git.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

use crate::common::*;
use eeveon_core::{CommitId, Contents, Progress};
use eeveon_source::{Mirror, SourceConfig, SourceError};
use eeveon_testkit::git::Repo;

/// Opens the mirror where there is no git.
fn alone(repo: &Repo, change: impl FnOnce(&mut SourceConfig)) -> Mirror {
    mirror(repo, |config| {
        config.credentials.path = Some("/nonexistent".into());
        change(config);
    })
}

/// Fetches `new` without git, after `old` was fetched with it.
async fn after(repo: &Repo, old: &str, new: &str) -> Result<Mirror, SourceError> {
    let (old, new) = (id(old), id(new));
    mirror(repo, |_| {}).fetch(&old, None, &permit()).await?;
    let mirror = alone(repo, |_| {});
    mirror.fetch(&new, Some(&old), &permit()).await.map(|_| mirror)
}

/// Fails unless the mirror lists what git lists, and every content can be read.
fn is_whole(repo: &Repo, mirror: &Mirror, commit: &CommitId) {
    let mut listed = Vec::new();
    let release = release(mirror, commit);
    let mut reader = mirror.reader(&release).unwrap();
    let mut content = Vec::new();
    for entry in list(mirror, commit).unwrap() {
        reader.read(&entry.id, &mut content).unwrap();
        listed.push(format!("{} {}", entry.id, String::from_utf8(entry.path).unwrap()));
    }
    let expected = repo.git(["ls-tree", "-r", "--format=%(objectname) %(path)", commit.as_str()]);
    assert_eq!(listed.join("\n"), expected);
    fsck(repo);
}

#[tokio::test]
async fn a_few_commits_come_without_git_loose_or_packed() {
    for packed in [false, true] {
        let repo = Repo::with(&[&[("a/b/c", "1"), ("a/d", "1"), ("e", "1"), ("gone/x", "1"), ("f", "1")]]);
        let old = repo.head();
        repo.write("a/b/c", "2");
        repo.git(["mv", "a/d", "moved"]);
        repo.git(["rm", "--quiet", "-r", "gone"]);
        let first = repo.commit("first");
        repo.write_executable("e", "1");
        repo.link("link", "a/b/c");
        // What was a file is a folder now, as large as what compresses well, twice the same.
        repo.git(["rm", "--quiet", "f"]);
        for file in ["f/one", "f/two"] {
            repo.write(file, "all work and no play\n".repeat(1000));
        }
        repo.commit("second");
        repo.write("f/one", "all work and no play\n".repeat(1001));
        let newest = repo.commit("third");
        if packed {
            repo.git(["gc", "--quiet", "--prune=now"]);
        }
        let mirror = after(&repo, &old, &newest).await.unwrap();
        is_whole(&repo, &mirror, &id(&newest));
        is_whole(&repo, &mirror, &id(&first));
        let between = mirror.commits_between(&id(&old), &id(&newest), 10).unwrap();
        assert_eq!((between.revisions.len(), between.complete), (3, true));
        // It is known to be whole now, and its successor stands on it.
        assert_eq!(mirror.fetch(&id(&newest), None, &permit()).await.unwrap().bytes, 0);
        repo.write("a/b/c", "3");
        let next = id(&repo.commit("next"));
        mirror.fetch(&next, Some(&id(&newest)), &permit()).await.unwrap();
        is_whole(&repo, &mirror, &next);
    }
}

#[tokio::test]
async fn what_was_merged_comes_along() {
    let repo = Repo::with(&[&[("a", "1"), ("b", "1")]]);
    let old = repo.head();
    repo.git(["checkout", "--quiet", "-b", "side"]);
    repo.write("side/new", "1");
    let side = repo.commit("side");
    repo.git(["checkout", "--quiet", "main"]);
    repo.write("a", "2");
    repo.commit("main");
    repo.git(["merge", "--quiet", "--no-edit", "side"]);
    let merged = repo.head();
    let mirror = after(&repo, &old, &merged).await.unwrap();
    is_whole(&repo, &mirror, &id(&merged));
    is_whole(&repo, &mirror, &id(&side));
}

#[tokio::test]
async fn with_all_history_clocks_do_not_matter() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let old = id(&repo.head());
    mirror(&repo, |config| config.depth = 0).fetch(&old, None, &permit()).await.unwrap();
    repo.pass(-1_000_000);
    repo.write("a", "2");
    let new = id(&repo.commit("from the past"));
    let mirror = alone(&repo, |config| config.depth = 0);
    mirror.fetch(&new, Some(&old), &permit()).await.unwrap();
    is_whole(&repo, &mirror, &new);
}

#[tokio::test]
async fn its_size_is_reported_and_limited() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let old = id(&repo.head());
    mirror(&repo, |_| {}).fetch(&old, None, &permit()).await.unwrap();
    repo.write("a", "2");
    let new = id(&repo.commit("new"));
    let (sender, receiver) = std::sync::mpsc::channel();
    let telling = permit().reporting(move |progress| sender.send(progress).unwrap());
    let small = mirror(&repo, |config| config.limits.pack_bytes = 20);
    assert_eq!(code(small.fetch(&new, Some(&old), &permit()).await), "source/pack-too-large");
    let fetched = alone(&repo, |_| {}).fetch(&new, Some(&old), &telling).await.unwrap();
    assert!(fetched.bytes > 20);
    let all = Progress::Bytes { done: fetched.bytes, total: Some(fetched.bytes) };
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [all]);
}

#[tokio::test]
async fn what_is_not_plain_is_left_to_git() {
    // Something older than what is live came in.
    let repo = Repo::new();
    let ids = repo.grow(5);
    repo.git(["checkout", "--quiet", "-b", "side", &ids[2]]);
    repo.write("side", "1");
    repo.commit("side");
    repo.git(["checkout", "--quiet", "main"]);
    repo.git(["merge", "--quiet", "--no-edit", "side"]);
    let merged = repo.head();
    assert_eq!(code(after(&repo, &ids[4], &merged).await.map(drop)), "source/tool-missing");
    mirror(&repo, |_| {}).fetch(&id(&merged), Some(&id(&ids[4])), &permit()).await.unwrap();

    // Nothing leads to what is here.
    let repo = Repo::with(&[&[("a", "1")]]);
    let old = repo.head();
    let other = repo.amend("rewritten");
    assert_eq!(code(after(&repo, &old, &other).await.map(drop)), "source/tool-missing");

    // The repository says that it may have more to say.
    let repo = Repo::with(&[&[("a", "1")], &[("a", "2")]]);
    let (old, new) = (repo.git(["rev-parse", "HEAD~1"]), repo.head());
    repo.git(["config", "uploadpack.hideRefs", "refs/heads/none"]);
    assert_eq!(code(after(&repo, &old, &new).await.map(drop)), "source/tool-missing");
    repo.git(["config", "--unset", "uploadpack.hideRefs"]);
    // Its own history ends somewhere.
    fs::write(repo.path().join(".git/shallow"), format!("{old}\n")).unwrap();
    assert_eq!(code(alone(&repo, |_| {}).fetch(&id(&new), None, &permit()).await), "source/tool-missing");
    fs::remove_file(repo.path().join(".git/shallow")).unwrap();
    after(&repo, &old, &new).await.unwrap();
}

#[tokio::test]
async fn what_is_damaged_there_is_not_believed() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let old = repo.head();
    repo.write("a", "something new");
    let new = repo.commit("new");
    let blob = repo.git(["rev-parse", "HEAD:a"]);
    let other = repo.blob("something else");
    let loose = |id: &str| repo.path().join(".git/objects").join(&id[..2]).join(&id[2..]);
    let whole = fs::read(loose(&blob)).unwrap();
    fs::set_permissions(loose(&blob), Permissions::from_mode(0o644)).unwrap();
    fs::copy(loose(&other), loose(&blob)).unwrap();
    assert_eq!(code(after(&repo, &old, &new).await.map(drop)), "source/corrupt");
    fs::set_permissions(loose(&blob), Permissions::from_mode(0o644)).unwrap();
    fs::write(loose(&blob), whole).unwrap();
    let mirror = after(&repo, &old, &new).await.unwrap();
    is_whole(&repo, &mirror, &id(&new));
}
