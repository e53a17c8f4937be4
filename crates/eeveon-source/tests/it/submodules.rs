//! Submodules: off unless asked for, then pinned and confined.

use crate::common::*;
use eeveon_core::{Contents, FileKind};
use eeveon_testkit::git::Repo;

/// Makes `repo` have `module` as a submodule at `path`, under this url.
fn add(repo: &Repo, name: &str, path: &str, url: &str, commit: &str) {
    let modules = repo.path().join(".gitmodules");
    let before = std::fs::read_to_string(&modules).unwrap_or_default();
    repo.write(".gitmodules", format!("{before}[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n"));
    repo.git(["add", ".gitmodules"]);
    repo.git(["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    repo.pass(60);
    repo.git(["commit", "--quiet", "--message", "submodule"]);
}

#[tokio::test]
async fn they_are_empty_folders_unless_asked_for() {
    let repo = Repo::with(&[&[("a", "1")]]);
    add(&repo, "lib", "lib", "/nonexistent", &"1".repeat(40));
    let head = id(&repo.head());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&head, None, &permit()).await.unwrap();
    let entries = list(&mirror, &head).unwrap();
    assert_eq!(paths(&entries), [".gitmodules", "a", "lib"]);
    assert_eq!(entries[2].kind, FileKind::Folder);
}

#[tokio::test]
async fn they_are_placed_at_the_commit_they_are_pinned_to() {
    let repo = Repo::with(&[&[("a", "1"), ("site/index.html", "x")]]);
    // Beside the repository, so that `../` leads there.
    let library = repo.beside("library");
    repo.git(["init", "--quiet", "--initial-branch=main", library.to_str().unwrap()]);
    let library = library.to_str().unwrap();
    let inside = |arguments: &[&str]| repo.git([&["-C", library], arguments].concat());
    std::fs::write(format!("{library}/code"), "old").unwrap();
    inside(&["add", "."]);
    inside(&["commit", "--quiet", "-m", "old"]);
    let pinned = inside(&["rev-parse", "HEAD"]);
    std::fs::write(format!("{library}/code"), "new").unwrap();
    inside(&["commit", "--quiet", "-a", "-m", "new"]);
    add(&repo, "lib", "site/lib", "../library", &pinned);
    repo.write("site/.deployignore", "*.md\n");
    let head = id(&repo.commit("ignore"));
    repo.git(["update-index", "--add", "--cacheinfo", &format!("160000,{pinned},site/lib")]);
    repo.git(["commit", "--quiet", "--amend", "--message", "both"]);
    let head = if repo.head() == head.as_str() { head } else { id(&repo.head()) };
    for (dir, expected) in [("", "site/lib/code"), ("site", "lib/code")] {
        let mirror = mirror(&repo, |config| {
            config.submodules = true;
            config.dir = dir.to_owned();
        });
        mirror.fetch(&head, None, &permit()).await.unwrap();
        let entries = list(&mirror, &head).unwrap();
        let file = entries.iter().find(|entry| entry.path == expected.as_bytes()).expect(expected);
        let release = release(&mirror, &head);
        let mut out = Vec::new();
        mirror.reader(&release).unwrap().read(&file.id, &mut out).unwrap();
        assert_eq!(out, b"old");
    }
}

#[tokio::test]
async fn sub_rce_hostile_ones_are_refused() {
    for (name, path, url) in [
        ("../../x", "lib", "../library"),
        ("lib", "../lib", "../library"),
        ("lib", "-u", "../library"),
        ("lib", ".git/hooks", "../library"),
        ("lib", "a/.GIT/x", "../library"),
        ("lib", "lib", "ext::sh -c touch% /tmp/x"),
        ("lib", "lib", "-oProxyCommand=x"),
        ("lib", "lib", "/etc"),
        ("lib", "lib", "https://localhost/x"),
    ] {
        let repo = Repo::with(&[&[("a", "1")]]);
        repo.write(".gitmodules", format!("[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n"));
        repo.git(["add", "."]);
        let pinned = "1".repeat(40);
        repo.git(["update-index", "--add", "--cacheinfo", &format!("160000,{pinned},lib")]);
        repo.git(["commit", "--quiet", "--message", "hostile"]);
        let head = id(&repo.head());
        let mirror = mirror(&repo, |config| config.submodules = true);
        assert_eq!(
            code(mirror.fetch(&head, None, &permit()).await),
            "source/submodule",
            "{name} {path} {url}"
        );
    }
}

#[tokio::test]
async fn one_that_contains_itself_ends() {
    let repo = Repo::with(&[&[("a", "1")]]);
    // Pinned to its own earlier commit, which is pinned to the one before, and so on.
    for _ in 0..6 {
        let pinned = repo.head();
        repo.git(["rm", "--quiet", "--cached", "--ignore-unmatch", ".gitmodules"]);
        std::fs::remove_file(repo.path().join(".gitmodules")).ok();
        add(&repo, "me", "me", "../repo", &pinned);
    }
    let head = id(&repo.head());
    let mirror = mirror(&repo, |config| config.submodules = true);
    assert_eq!(code(mirror.fetch(&head, None, &permit()).await), "source/submodule");
}
