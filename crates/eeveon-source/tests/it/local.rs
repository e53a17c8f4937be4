//! Looking at, fetching, listing and reading repositories on this machine.

use std::fs;

use crate::common::*;
use eeveon_core::{Contents, Diagnose, Fence, FileKind, Permit, Progress, ReleaseNumber};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_testkit::git::{FIRST, Repo};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_commit_is_found_fetched_listed_and_read() {
    let repo = Repo::with(&[&[("index.html", "hello"), ("css/a.css", "body{}")]]);
    repo.write_executable("bin/run", "#!/bin/sh\n");
    repo.link("current", "css/a.css");
    let head = repo.commit("say \u{1b}[31mhello\n\nbody");
    let mirror = mirror(&repo, |_| {});
    assert_eq!(mirror.default_branch(&permit()).await.unwrap(), "main");
    let commit = mirror.resolve(&Want::Default, &permit()).await.unwrap();
    assert_eq!(commit.as_str(), head);
    let fetched = mirror.fetch(&commit, None, &permit()).await.unwrap();
    assert!(fetched.bytes > 0);
    assert_eq!(fetched.revision.commit, commit);
    assert_eq!(fetched.revision.subject.as_raw(), "say \u{1b}[31mhello");
    assert_eq!(fetched.revision.author.as_raw(), "A");
    assert_eq!(fetched.revision.committed_at.as_second(), FIRST + 120);

    let entries = list(&mirror, &commit).unwrap();
    let kinds: Vec<_> = paths(&entries).into_iter().zip(entries.iter().map(|entry| entry.kind)).collect();
    let expected = [
        ("bin/run", FileKind::Executable),
        ("css/a.css", FileKind::Regular),
        ("current", FileKind::Symlink),
        ("index.html", FileKind::Regular),
    ];
    assert_eq!(kinds, expected.map(|(path, kind)| (path.to_owned(), kind)));
    let release = release(&mirror, &commit);
    let mut reader = mirror.reader(&release).unwrap();
    let mut out = b"before".to_vec();
    reader.read(&entries[2].id, &mut out).unwrap();
    assert_eq!(out, b"css/a.css");
    reader.read(&entries[3].id, &mut out).unwrap();
    assert_eq!(out, b"hello");
    assert_eq!(reader.size(&entries[3].id).unwrap(), 5);
    let absent = "0123456789012345678901234567890123456789".parse().unwrap();
    assert_eq!(step_code(reader.read(&absent, &mut out)), "source/corrupt");
    assert_eq!(step_code(reader.size(&absent)), "source/corrupt");
    fsck(&repo);
}

#[tokio::test]
async fn a_commit_that_is_here_is_not_fetched_again() {
    let repo = Repo::with(&[&[("a", "1")], &[("a", "2")]]);
    let mirror = mirror(&repo, |config| config.depth = 0);
    let head = id(&repo.head());
    assert!(mirror.fetch(&head, None, &permit()).await.unwrap().bytes > 0);
    let before = id(&repo.git(["rev-parse", "HEAD~1"]));
    // The repository is gone, so any look at it would fail.
    fs::rename(repo.path(), repo.beside("away")).unwrap();
    assert_eq!(mirror.fetch(&head, None, &permit()).await.unwrap().bytes, 0);
    assert_eq!(mirror.fetch(&before, None, &permit()).await.unwrap().bytes, 0);
    assert_eq!(code(mirror.resolve(&Want::Default, &permit()).await), "source/repository-missing");
}

#[tokio::test]
async fn progress_is_reported_in_bytes() {
    let repo = Repo::new();
    // Nothing git could compress away.
    let mut state = 1u32;
    let noise: Vec<u8> = (0..1_000_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    repo.write("noise", noise);
    let head = id(&repo.commit("noise"));
    let (sender, receiver) = std::sync::mpsc::channel();
    let permit = permit().reporting(move |progress| sender.send(progress).unwrap());
    let fetched = mirror(&repo, |_| {}).fetch(&head, None, &permit).await.unwrap();
    let seen: Vec<_> = receiver.try_iter().collect();
    assert!(seen.len() > 5, "{seen:?}");
    assert_eq!(seen.last(), Some(&Progress::Bytes { done: fetched.bytes, total: Some(fetched.bytes) }));
    assert!(fetched.bytes > 900_000);
}

#[tokio::test]
async fn only_what_is_asked_for_comes() {
    let repo = Repo::new();
    let ids = repo.grow(30);
    repo.git(["branch", "other", &ids[10]]);
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&id(&ids[29]), None, &permit()).await.unwrap();
    assert_eq!(commits_in(&repo), 1);
    assert_eq!(mirror.parents(&id(&ids[28])).unwrap(), None);
    fsck(&repo);
}

#[tokio::test]
async fn fifty_commits_forward_come_in_one_round_trip() {
    let repo = Repo::new();
    let old = id(repo.grow(100).last().unwrap());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&old, None, &permit()).await.unwrap();
    let new = repo.grow(50);
    let newest = id(new.last().unwrap());
    mirror.fetch(&newest, Some(&old), &permit()).await.unwrap();
    assert_eq!(commits_in(&repo), 51);
    assert_eq!(mirror.parents(&id(&new[0])).unwrap(), Some(vec![old.clone()]));
    let between = mirror.commits_between(&old, &newest, 100).unwrap();
    assert!(between.complete);
    let listed: Vec<_> = between.revisions.iter().map(|revision| revision.commit.to_string()).collect();
    assert_eq!(listed, new.iter().rev().cloned().collect::<Vec<_>>());
    let some = mirror.commits_between(&old, &newest, 10).unwrap();
    assert_eq!((some.revisions.len(), some.complete), (10, false));
    fsck(&repo);
}

#[tokio::test]
async fn commits_of_the_same_second_are_told_apart() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let mut ids = vec![repo.head()];
    for _ in 0..7 {
        repo.git(["commit", "--quiet", "--allow-empty", "--message", "x"]);
        ids.push(repo.head());
    }
    let mirror = mirror(&repo, |config| config.depth = 0);
    mirror.fetch(&id(&ids[7]), None, &permit()).await.unwrap();
    let between = |old: usize, new: usize| {
        let found = mirror.commits_between(&id(&ids[old]), &id(&ids[new]), 100).unwrap();
        assert!(found.complete);
        found.revisions.iter().map(|revision| revision.commit.to_string()).collect::<Vec<_>>()
    };
    assert!(between(7, 2).is_empty());
    assert_eq!(between(5, 7), [ids[7].clone(), ids[6].clone()]);
}

#[tokio::test]
async fn a_rewritten_tip_does_not_bring_all_history() {
    let repo = Repo::new();
    let old = id(repo.grow(300).last().unwrap());
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&old, None, &permit()).await.unwrap();
    repo.write("new", "x");
    let amended = id(&repo.amend("amended"));
    mirror.fetch(&amended, Some(&old), &permit()).await.unwrap();
    assert!(commits_in(&repo) <= 3, "{}", commits_in(&repo));
    assert!(!mirror.commits_between(&old, &amended, 100).unwrap().complete);
    assert_eq!(paths(&list(&mirror, &amended).unwrap()), ["counter", "new"]);
    fsck(&repo);
}

#[tokio::test]
async fn a_branch_put_back_to_something_older_is_fetched_by_depth() {
    let repo = Repo::new();
    let ids = repo.grow(100);
    let mirror = mirror(&repo, |_| {});
    mirror.fetch(&id(&ids[99]), None, &permit()).await.unwrap();
    repo.git(["reset", "--quiet", "--hard", &ids[40]]);
    mirror.fetch(&id(&ids[40]), Some(&id(&ids[99])), &permit()).await.unwrap();
    assert_eq!(commits_in(&repo), 2);
    fsck(&repo);
}

#[tokio::test]
async fn history_is_deepened_as_far_as_asked() {
    let repo = Repo::new();
    let ids = repo.grow(50);
    let mirror = mirror(&repo, |_| {});
    let tip = id(&ids[49]);
    mirror.fetch(&tip, None, &permit()).await.unwrap();
    assert!(mirror.deepen(std::slice::from_ref(&tip), 10, &permit()).await.unwrap());
    assert_eq!(commits_in(&repo), 11);
    assert_eq!(mirror.parents(&id(&ids[40])).unwrap(), Some(vec![id(&ids[39])]));
    assert_eq!(mirror.parents(&id(&ids[38])).unwrap(), None);
    assert!(mirror.deepen(std::slice::from_ref(&tip), u32::MAX, &permit()).await.unwrap());
    assert_eq!(mirror.parents(&id(&ids[0])).unwrap(), Some(Vec::new()));
    assert!(!mirror.deepen(&[tip], 10, &permit()).await.unwrap());
    assert_eq!(
        code(
            mirror
                .deepen(&[id(&"1".repeat(40))], 10, &permit())
                .await
                .map(|_| ())
                .and_then(|()| { mirror.keep(ReleaseNumber(1), &id(&"1".repeat(40))) })
        ),
        "source/corrupt"
    );
    fsck(&repo);
}

#[tokio::test]
async fn depth_zero_brings_all_history_also_later() {
    let repo = Repo::new();
    let ids = repo.grow(20);
    mirror(&repo, |_| {}).fetch(&id(&ids[19]), None, &permit()).await.unwrap();
    let more = repo.grow(1);
    let whole = mirror(&repo, |config| config.depth = 0);
    whole.fetch(&id(&more[0]), None, &permit()).await.unwrap();
    assert_eq!(whole.parents(&id(&ids[0])).unwrap(), Some(Vec::new()));
    assert_eq!(commits_in(&repo), 21);
}

#[tokio::test]
async fn revisions_are_branches_tags_ids_or_beginnings_of_ids() {
    let repo = Repo::with(&[&[("a", "1")], &[("a", "2")]]);
    let (head, first) = (repo.head(), repo.git(["rev-parse", "HEAD~1"]));
    repo.git(["branch", "feature/x", &first]);
    repo.git(["tag", "light", &first]);
    repo.git(["tag", "-m", "annotated", "v1", &first]);
    repo.git(["branch", "both", &first]);
    repo.git(["tag", "both", &head]);
    repo.git(["branch", "main2", &first]);
    let mirror = mirror(&repo, |config| config.depth = 0);
    mirror.fetch(&id(&head), None, &permit()).await.unwrap();
    let resolve = async |want: Want| mirror.resolve(&want, &permit()).await.map(String::from);
    let revision = async |text: &str| resolve(Want::Revision(text.to_owned())).await;
    assert_eq!(resolve(Want::Branch("main".into())).await.unwrap(), head);
    assert_eq!(resolve(Want::Branch("feature/x".into())).await.unwrap(), first);
    assert_eq!(resolve(Want::Tag("light".into())).await.unwrap(), first);
    assert_eq!(resolve(Want::Tag("v1".into())).await.unwrap(), first);
    assert_eq!(revision("main").await.unwrap(), head);
    assert_eq!(revision("v1").await.unwrap(), first);
    assert_eq!(revision(&first).await.unwrap(), first);
    assert_eq!(revision(&first[..7]).await.unwrap(), first);
    assert_eq!(revision(&head[..12].to_uppercase()).await.unwrap(), head);
    assert_eq!(code(revision("both").await), "source/ambiguous");
    assert_eq!(code(revision(&first[..6]).await), "source/revision-missing");
    assert_eq!(code(revision("0000000").await), "source/revision-missing");
    assert_eq!(code(revision("-x").await), "source/ref-name");
    assert_eq!(code(resolve(Want::Branch("mai".into())).await), "source/branch-missing");
    assert_eq!(code(resolve(Want::Branch("v1".into())).await), "source/branch-missing");
    assert_eq!(code(resolve(Want::Tag("v2".into())).await), "source/tag-missing");
    let error = resolve(Want::Branch("nope".into())).await.unwrap_err();
    assert!(error.hint().unwrap().contains("main"), "{error:?}");
    // A blob whose id begins so is no commit.
    let blob = repo.git(["rev-parse", "HEAD:a"]);
    assert_eq!(code(revision(&blob[..10]).await), "source/revision-missing");
}

#[tokio::test]
async fn what_cannot_be_fetched_says_why() {
    let repo = Repo::with(&[&[("a", "1")]]);
    repo.git(["tag", "-m", "annotated", "v1"]);
    let mirror = mirror(&repo, |_| {});
    let nothing = id(&"12".repeat(20));
    assert_eq!(code(mirror.fetch(&nothing, None, &permit()).await), "source/commit-missing");
    let tag = id(&repo.git(["rev-parse", "v1"]));
    assert_eq!(code(mirror.fetch(&tag, None, &permit()).await), "source/not-a-commit");
    let blob = id(&repo.git(["rev-parse", "HEAD:a"]));
    assert_eq!(code(mirror.fetch(&blob, None, &permit()).await), "source/not-a-commit");
    let long = id(&"1".repeat(64));
    assert_eq!(code(mirror.fetch(&long, None, &permit()).await), "source/object-format");
}

#[tokio::test]
async fn repositories_that_cannot_be_used_are_told_apart() {
    let repo = Repo::new();
    let open = |path: &std::path::Path| {
        let url = RepoUrl::parse(path.to_str().unwrap()).unwrap();
        Mirror::open(&mirror_path(&repo), SourceConfig::new(url)).unwrap()
    };
    let default = async |mirror: Mirror| mirror.resolve(&Want::Default, &permit()).await;
    assert_eq!(code(default(open(repo.path())).await), "source/empty");
    assert_eq!(
        code(open(repo.path()).resolve(&Want::Branch("main".into()), &permit()).await),
        "source/empty"
    );
    assert_eq!(code(default(open(&repo.beside("nothing"))).await), "source/repository-missing");
    fs::create_dir(repo.beside("plain")).unwrap();
    assert_eq!(code(default(open(&repo.beside("plain"))).await), "source/not-a-repository");
    repo.write("a", "1");
    let head = repo.commit("one");
    repo.git(["checkout", "--quiet", "--detach", &head]);
    assert_eq!(code(default(open(repo.path())).await), "source/detached-head");
    repo.git(["symbolic-ref", "HEAD", "refs/heads/gone"]);
    assert_eq!(code(default(open(repo.path())).await), "source/branch-missing");
    let hashes = repo.beside("sha256");
    repo.git(["init", "--quiet", "--object-format=sha256", hashes.to_str().unwrap()]);
    assert_eq!(code(default(open(&hashes)).await), "source/object-format");
}

#[tokio::test]
async fn a_missing_program_is_named_with_its_package() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let local = mirror(&repo, |config| config.credentials.path = Some("/nonexistent".into()));
    let error = local.resolve(&Want::Default, &permit()).await.unwrap_err();
    assert_eq!(error.code(), "source/tool-missing");
    assert!(error.hint().unwrap().ends_with("git"));
    let ssh = mirror(&repo, |config| {
        config.url = RepoUrl::parse("git@127.0.0.1:x").unwrap();
        config.credentials.path = Some("/nonexistent".into());
    });
    let error = ssh.resolve(&Want::Default, &permit()).await.unwrap_err();
    assert!(error.hint().unwrap().ends_with("openssh-client"), "{error:?}");
}

#[tokio::test]
async fn a_pack_that_is_too_large_is_given_up() {
    let repo = Repo::new();
    repo.grow(100);
    let mirror = mirror(&repo, |config| {
        config.depth = 0;
        config.limits.pack_bytes = 1000;
    });
    let head = id(&repo.head());
    assert_eq!(code(mirror.fetch(&head, None, &permit()).await), "source/pack-too-large");
    assert_eq!(commits_in(&repo), 0);
}

#[tokio::test]
async fn a_cancelled_fetch_stops_and_leaves_nothing() {
    let repo = Repo::new();
    repo.grow(50);
    let mirror = mirror(&repo, |config| config.depth = 0);
    let cancelled = permit();
    cancelled.cancel.cancel();
    let head = id(&repo.head());
    assert_eq!(code(mirror.fetch(&head, None, &cancelled).await), "engine/cancelled");
    assert_eq!(code(mirror.resolve(&Want::Default, &cancelled).await), "engine/cancelled");
    // Cancelled by what the fetch itself reports, in its midst.
    let token = CancellationToken::new();
    let cancel = token.clone();
    let midway = Permit::new(Fence(1), token).reporting(move |_| cancel.cancel());
    let noise: String =
        (0..200_000u64).map(|n| format!("{:x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    repo.write("noise", noise);
    let large = id(&repo.commit("large"));
    assert_eq!(code(mirror.fetch(&large, None, &midway).await), "engine/cancelled");
    assert!(mirror.fetch(&large, None, &permit()).await.is_ok());
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let silent = repo.beside("bin");
    fs::create_dir(&silent).unwrap();
    fs::write(silent.join("git"), "#!/bin/sh\nexec /bin/sleep 1000\n").unwrap();
    fs::set_permissions(silent.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mirror = mirror(&repo, |config| {
        config.credentials.path = Some(silent.into());
        config.limits.idle = std::time::Duration::from_millis(300);
    });
    assert_eq!(code(mirror.resolve(&Want::Default, &permit()).await), "source/timed-out");
}
