//! The mirror's folder: made, opened, kept tidy, and never taken from somebody else.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::common::*;
use eeveon_core::ReleaseNumber;
use eeveon_source::{MIRROR_FORMAT, Mirror};
use eeveon_testkit::git::Repo;

#[tokio::test]
async fn the_folder_is_private_and_has_the_recorded_format() {
    let repo = Repo::with(&[&[("a", "1")]]);
    mirror(&repo, |_| {});
    let path = mirror_path(&repo);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let golden = include_str!("../golden/mirror-1.json");
    assert_eq!(fs::read_to_string(path.join("eeveon.json")).unwrap(), golden);
    assert_eq!(MIRROR_FORMAT, 1);
    assert!(!path.join("hooks").exists());
}

#[tokio::test]
async fn what_is_not_ours_is_neither_used_nor_touched() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let path = mirror_path(&repo);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("precious"), "x").unwrap();
    assert_eq!(code(Mirror::open(&path, config(&repo))), "source/mirror");
    assert_eq!(fs::read(path.join("precious")).unwrap(), b"x");
    fs::remove_file(path.join("precious")).unwrap();
    // An empty folder is taken.
    assert!(Mirror::open(&path, config(&repo)).is_ok());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(code(Mirror::open(&path, config(&repo))), "source/mirror");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(path.join("objects/info/alternates"), "/etc\n").unwrap();
    assert_eq!(code(Mirror::open(&path, config(&repo))), "source/mirror");
    fs::remove_file(path.join("objects/info/alternates")).unwrap();
    for marker in ["{\"format\":2}", "{}", "nonsense"] {
        fs::write(path.join("eeveon.json"), marker).unwrap();
        assert_eq!(code(Mirror::open(&path, config(&repo))), "source/mirror", "{marker}");
    }
    let file = repo.beside("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(code(Mirror::open(&file, config(&repo))), "source/mirror");
    let link = repo.beside("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(code(Mirror::open(&link, config(&repo))), "source/mirror");
}

#[tokio::test]
async fn a_half_made_mirror_is_made_anew() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let head = id(&repo.head());
    for part in ["HEAD", "config", "refs", "objects/pack"] {
        mirror(&repo, |_| {}).fetch(&head, None, &permit()).await.unwrap();
        let part = mirror_path(&repo).join(part);
        if part.is_dir() {
            fs::remove_dir_all(&part).unwrap()
        } else {
            fs::remove_file(&part).unwrap()
        }
        let again = mirror(&repo, |_| {});
        assert!(again.fetch(&head, None, &permit()).await.unwrap().bytes > 0, "{part:?}");
    }
}

#[tokio::test]
async fn sweep_removes_what_a_killed_fetch_left() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let head = id(&repo.head());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&head, None, &permit()).await.unwrap();
    mirror.keep(ReleaseNumber(1), &head).unwrap();
    let path = mirror_path(&repo);
    let left = [
        "shallow.lock",
        "packed-refs.lock",
        "refs/eeveon/releases/1.lock",
        "objects/pack/.tmpA1b2C3",
        "objects/pack/tmp_pack_x",
        "objects/pack/pack-1234.pack",
        "objects/pack/pack-1234.keep",
        "objects/pack/pack-5678.idx",
    ];
    for file in left {
        fs::write(path.join(file), "12345").unwrap();
    }
    let half = path.with_file_name(".m.git.new-1234567");
    fs::create_dir(&half).unwrap();
    let other = path.with_file_name(".other.git.new-1");
    fs::create_dir(&other).unwrap();
    assert_eq!(mirror.sweep().unwrap(), 5 * left.len() as u64);
    for file in left {
        assert!(!path.join(file).exists(), "{file}");
    }
    assert!(!half.exists());
    assert!(other.exists(), "another project's");
    assert_eq!(mirror.fetch(&head, None, &permit()).await.unwrap().bytes, 0);
    assert_eq!(paths(&list(&mirror, &head).unwrap()), ["a"]);
    fsck(&repo);
}

#[tokio::test]
async fn kept_releases_survive_a_collection_by_git() {
    let repo = Repo::new();
    let old = id(repo.grow(5).last().unwrap());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&old, None, &permit()).await.unwrap();
    mirror.keep(ReleaseNumber(7), &old).unwrap();
    let path = mirror_path(&repo);
    let path = path.to_str().unwrap();
    let named = repo.git([
        "--git-dir",
        path,
        "for-each-ref",
        "--format=%(refname) %(objectname)",
        "refs/eeveon/releases",
    ]);
    assert_eq!(named, format!("refs/eeveon/releases/7 {old}"));
    repo.git(["--git-dir", path, "gc", "--quiet", "--prune=now"]);
    let reopened = crate::common::mirror(&repo, |_| {});
    assert_eq!(paths(&list(&reopened, &old).unwrap()), ["counter"]);
    reopened.forget(ReleaseNumber(7)).unwrap();
    reopened.forget(ReleaseNumber(7)).unwrap();
    assert_eq!(repo.git(["--git-dir", path, "for-each-ref", "refs/eeveon/releases"]), "");
}

#[tokio::test]
async fn owner_nothing_of_the_repositorys_configuration_is_run() {
    let repo = Repo::with(&[&[("a", "1"), (".gitattributes", "* filter=evil\n")]]);
    let trap = repo.beside("trapped");
    let touch = format!("touch {}", trap.to_str().unwrap());
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "uploadpack.packObjectsHook",
        "filter.evil.smudge",
        "filter.evil.clean",
        "filter.evil.process",
        "credential.helper",
        "core.alternateRefsCommand",
    ] {
        repo.git(["config", key, &touch]);
    }
    repo.git(["config", "uploadpack.advertiseBundleURIs", "true"]);
    repo.git(["config", "core.hooksPath", repo.beside("hooks").to_str().unwrap()]);
    for hook in ["post-checkout", "reference-transaction", "pre-receive", "post-index-change"] {
        let hook = repo.beside("hooks").join(hook);
        fs::create_dir_all(hook.parent().unwrap()).unwrap();
        fs::write(&hook, format!("#!/bin/sh\n{touch}\n")).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let head = id(&repo.head());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&head, None, &permit()).await.unwrap();
    list(&mirror, &head).unwrap();
    fs::write(repo.path().join("a"), "2").unwrap();
    assert!(eeveon_source::discover(repo.path()).unwrap().unwrap().dirty);
    assert!(!trap.exists());
}

#[tokio::test]
async fn bundle_uri_a_server_cannot_send_us_elsewhere() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let target = repo.beside("written");
    repo.git(["config", "uploadpack.advertiseBundleURIs", "true"]);
    repo.git(["config", "bundle.version", "1"]);
    repo.git(["config", "bundle.mode", "all"]);
    repo.git(["config", "bundle.x.uri", target.to_str().unwrap()]);
    let head = id(&repo.head());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&head, None, &permit()).await.unwrap();
    assert!(!target.exists());
    fsck(&repo);
}
