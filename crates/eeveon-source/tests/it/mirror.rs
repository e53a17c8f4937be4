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
async fn a_mirror_that_lost_where_its_history_ends_in_a_power_cut_is_made_anew() {
    let repo = Repo::new();
    let head = id(repo.grow(3).last().unwrap());
    mirror(&repo, |_| {}).fetch(&head, None, &permit()).await.unwrap();
    let shallow = mirror_path(&repo).join("shallow");
    let sound = fs::read(&shallow).unwrap();
    assert_eq!(mirror(&repo, |_| {}).fetch(&head, None, &permit()).await.unwrap().bytes, 0);
    for left in
        [Vec::new(), vec![0; sound.len()], sound[..sound.len() - 1].to_vec(), [&sound[..], &[0]].concat()]
    {
        fs::write(&shallow, &left).unwrap();
        let again = mirror(&repo, |_| {});
        assert!(again.fetch(&head, None, &permit()).await.unwrap().bytes > 0, "{left:?}");
        assert_eq!(fs::read(&shallow).unwrap(), sound);
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

/// How many packs the mirror has.
fn packs_in(repo: &Repo) -> usize {
    let packs = fs::read_dir(mirror_path(repo).join("objects/pack")).unwrap();
    packs
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|found| found == "pack"))
        .count()
}

/// Grows the repository by so many commits, each fetched on its own.
async fn fetch_one_by_one(repo: &Repo, mirror: &Mirror, count: usize) -> Vec<eeveon_core::CommitId> {
    let mut commits = Vec::new();
    for number in 0..count {
        repo.write("counter", format!("{number}"));
        let commit = id(&repo.commit("more"));
        mirror.fetch(&commit, None, &permit()).await.unwrap();
        commits.push(commit);
    }
    commits
}

#[tokio::test]
async fn an_open_mirror_sees_what_another_fetches_however_many_packs_that_makes() {
    let repo = Repo::with(&[&[("counter", "first")]]);
    let (open, other) = (mirror(&repo, |_| {}), mirror(&repo, |_| {}));
    let head = id(&repo.head());
    open.fetch(&head, None, &permit()).await.unwrap();
    let commits = fetch_one_by_one(&repo, &other, 50).await;
    assert!(packs_in(&repo) > 50);
    for commit in [commits.last().unwrap(), &commits[0], &head] {
        assert_eq!(paths(&list(&open, commit).unwrap()), ["counter"]);
        assert_eq!(open.fetch(commit, None, &permit()).await.unwrap().bytes, 0);
    }
}

#[tokio::test]
async fn compact_makes_one_pack_and_loses_nothing_that_is_named() {
    let repo = Repo::with(&[&[("counter", "first")]]);
    let (open, mirror) = (mirror(&repo, |_| {}), mirror(&repo, |_| {}));
    let commits = fetch_one_by_one(&repo, &mirror, 20).await;
    assert_eq!(mirror.compact(&permit()).await.unwrap(), 0, "so few are left alone");
    let commits = [commits, fetch_one_by_one(&repo, &mirror, 5).await].concat();
    assert_eq!(paths(&list(&open, &commits[3]).unwrap()), ["counter"]);
    let path = mirror_path(&repo);
    let path = path.to_str().unwrap();
    // Named by a release only; by nothing.
    mirror.keep(ReleaseNumber(1), &commits[0]).unwrap();
    for commit in &commits[..2] {
        repo.git(["--git-dir", path, "update-ref", "-d", &format!("refs/eeveon/fetched/{commit}")]);
    }
    let without_git = crate::common::mirror(&repo, |config| {
        config.credentials.path = Some("/nonexistent".into());
    });
    assert_eq!(without_git.compact(&permit()).await.unwrap(), 0);
    let cancelled = permit();
    cancelled.cancel.cancel();
    assert_eq!(code(mirror.compact(&cancelled).await), "engine/cancelled");
    assert_eq!(packs_in(&repo), 25);

    assert!(mirror.compact(&permit()).await.unwrap() > 20_000, "25 packs and their indices");
    assert_eq!(packs_in(&repo), 1);
    assert_eq!(fs::read_dir(mirror_path(&repo).join("objects/pack")).unwrap().count(), 2);
    assert_eq!(commits_in(&repo), 24);
    fsck(&repo);
    // One that was open before reads from the new pack, and fetches on top of it.
    for mirror in [&open, &mirror] {
        for commit in commits.iter().take(1).chain(&commits[2..]) {
            assert_eq!(paths(&list(mirror, commit).unwrap()), ["counter"]);
        }
    }
    assert_eq!(mirror.compact(&permit()).await.unwrap(), 0);
    let next = fetch_one_by_one(&repo, &open, 1).await;
    assert_eq!(paths(&list(&mirror, &next[0]).unwrap()), ["counter"]);
    assert!(mirror.fetch(&commits[1], None, &permit()).await.unwrap().bytes > 0);
    fsck(&repo);
}

#[tokio::test]
async fn compact_of_a_damaged_mirror_removes_nothing() {
    let repo = Repo::with(&[&[("counter", "first")]]);
    let mirror = mirror(&repo, |_| {});
    fetch_one_by_one(&repo, &mirror, 21).await;
    let stray = mirror_path(&repo).join("refs/eeveon/releases/9");
    fs::create_dir_all(stray.parent().unwrap()).unwrap();
    fs::write(stray, format!("{}\n", "12".repeat(20))).unwrap();
    assert_eq!(code(mirror.compact(&permit()).await), "source/io");
    assert_eq!(packs_in(&repo), 21);
}

#[tokio::test]
async fn what_a_killed_removal_left_is_set_aside() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let head = id(&repo.head());
    let path = mirror_path(&repo);
    for gone in [&["eeveon.json"][..], &["eeveon.json", "config", "HEAD", "refs"]] {
        mirror(&repo, |_| {}).fetch(&head, None, &permit()).await.unwrap();
        for part in gone {
            let part = path.join(part);
            if part.is_dir() { fs::remove_dir_all(part) } else { fs::remove_file(part) }.unwrap();
        }
        let again = mirror(&repo, |_| {});
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 2, "the remnant is beside it");
        assert!(again.fetch(&head, None, &permit()).await.unwrap().bytes > 0);
        again.sweep().unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
    // Another's repository is not ours, whatever it is called; nor is ours under another name.
    fs::remove_file(path.join("eeveon.json")).unwrap();
    let renamed = path.with_file_name("precious");
    fs::rename(&path, &renamed).unwrap();
    let bare = repo.beside("bare.git");
    repo.git(["init", "--quiet", "--bare", bare.to_str().unwrap()]);
    let plain = repo.beside("plain.git");
    repo.git(["init", "--quiet", "--bare", "--template=", plain.to_str().unwrap()]);
    let checkout = repo.beside("checkout.git");
    repo.git(["clone", "--quiet", "--", repo.path().to_str().unwrap(), checkout.to_str().unwrap()]);
    for path in [renamed, bare, plain, checkout] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let before = fs::read_dir(&path).unwrap().count();
        assert_eq!(code(Mirror::open(&path, config(&repo))), "source/mirror", "{path:?}");
        assert_eq!(fs::read_dir(&path).unwrap().count(), before);
    }
}
