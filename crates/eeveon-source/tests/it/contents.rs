//! What a release consists of, and which trees are refused.

use std::fs;

use crate::common::*;
use eeveon_core::{Contents, FileKind};
use eeveon_source::SourceError;
use eeveon_testkit::git::Repo;
use tokio_util::sync::CancellationToken;

/// Fetches the newest commit of `repo` and lists it.
async fn listed(
    repo: &Repo,
    change: impl FnOnce(&mut eeveon_source::SourceConfig),
) -> Result<Vec<eeveon_core::FileEntry>, eeveon_core::StepError> {
    let mirror = mirror(repo, change);
    let head = id(&repo.git(["rev-parse", "main"]));
    mirror.fetch(&head, None, &permit()).await.unwrap();
    list(&mirror, &head)
}

/// Lists a commit of one hostile tree.
async fn hostile(entries: &[(&str, &[u8], &str)], repo: &Repo) -> &'static str {
    let tree = repo.tree(entries);
    repo.commit_tree(&tree);
    match listed(repo, |_| {}).await {
        Ok(entries) => panic!("accepted: {:?}", paths(&entries)),
        Err(error) => error.diagnosis().code(),
    }
}

#[tokio::test]
async fn read_escape_names_that_must_not_be_placed_are_refused() {
    let repo = Repo::new();
    let blob = repo.blob("x");
    for name in [
        &b".."[..],
        b".",
        b"a/b",
        b"/etc",
        b".git",
        b".GIT",
        b"git~1",
        b".git ",
        ".g\u{200c}it".as_bytes(),
        &[b'x'; 256],
    ] {
        assert_eq!(hostile(&[("100644", name, &blob)], &repo).await, "source/path", "{name:?}");
        let folder = repo.tree(&[("100644", b"f", &blob)]);
        assert_eq!(hostile(&[("40000", name, &folder)], &repo).await, "source/path", "{name:?}");
    }
}

#[tokio::test]
async fn trees_that_contradict_themselves_are_refused() {
    let repo = Repo::new();
    let (blob, folder) = (repo.blob("x"), {
        let blob = repo.blob("y");
        repo.tree(&[("100644", b"f", &blob)])
    });
    assert_eq!(hostile(&[("100644", b"a", &blob), ("100644", b"a", &blob)], &repo).await, "source/path");
    assert_eq!(hostile(&[("100644", b"a", &blob), ("40000", b"a", &folder)], &repo).await, "source/path");
    assert_eq!(hostile(&[("120000", b"a", &blob), ("40000", b"a", &folder)], &repo).await, "source/path");
}

#[tokio::test]
async fn nesting_and_the_number_of_files_are_bounded() {
    let repo = Repo::new();
    let blob = repo.blob("x");
    let mut tree = repo.tree(&[("100644", b"f", &blob)]);
    for _ in 0..256 {
        tree = repo.tree(&[("40000", b"d", &tree)]);
    }
    repo.commit_tree(&tree);
    assert_eq!(step_code(listed(&repo, |_| {}).await), "source/path");
    // Ten folders of ten folders of ...: ten thousand million files from eleven objects.
    let mut tree = repo.tree(&[("100644", b"f", &blob)]);
    for _ in 0..10 {
        let names: Vec<[u8; 1]> = (b'a'..=b'j').map(|name| [name]).collect();
        let entries: Vec<_> = names.iter().map(|name| ("40000", &name[..], tree.as_str())).collect();
        tree = repo.tree(&entries);
    }
    repo.commit_tree(&tree);
    assert_eq!(
        step_code(listed(&repo, |config| config.limits.files = 10_000).await),
        "source/too-many-files"
    );
}

#[tokio::test]
async fn rel_symlink_links_that_leave_are_refused() {
    for links in [
        &[("a", "/etc/passwd")][..],
        &[("a", "..")],
        &[("d/a", "../../x")],
        &[("cur", "."), ("par", "cur/..")],
        &[("d/up", ".."), ("x", "d/up/../y")],
    ] {
        let repo = Repo::with(&[&[("d/f", "x")]]);
        for (path, target) in links {
            repo.link(path, target);
        }
        repo.commit("links");
        assert_eq!(step_code(listed(&repo, |_| {}).await), "source/link", "{links:?}");
    }
    let repo = Repo::with(&[&[("site/index.html", "x"), ("secret", "x")]]);
    repo.link("site/out", "../secret");
    repo.commit("out of the folder that is deployed");
    assert!(listed(&repo, |_| {}).await.is_ok());
    assert_eq!(step_code(listed(&repo, |config| config.dir = "site".into()).await), "source/link");
    let ignoring = listed(&repo, |config| {
        config.dir = "site".into();
        config.ignore = vec!["out".into()];
    });
    assert_eq!(paths(&ignoring.await.unwrap()), ["index.html"]);
}

#[tokio::test]
async fn links_with_targets_no_system_takes_are_refused() {
    let repo = Repo::new();
    for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
        let blob = repo.blob(target);
        assert_eq!(hostile(&[("120000", b"l", &blob)], &repo).await, "source/link");
    }
    let blob = repo.blob("x");
    assert_eq!(hostile(&[("120000", b".gitmodules", &blob)], &repo).await, "source/path");
}

#[tokio::test]
async fn every_mode_and_name_arrives() {
    let repo = Repo::new();
    let (blob, empty) = (repo.blob("x"), repo.tree(&[]));
    let nested = repo.tree(&[("40000", b"empty", &empty)]);
    let pinned = "1".repeat(40);
    let tree = repo.tree(&[
        ("100644", b"\xff\xfe name", &blob),
        ("100664", b"group", &blob),
        ("100755", b"run", &blob),
        ("40000", b"void", &nested),
        ("160000", b"module", &pinned),
        ("100644", b"a.b", &blob),
        ("40000", b"a", &repo.tree(&[("100644", b"x", &blob)])),
    ]);
    repo.commit_tree(&tree);
    let entries = listed(&repo, |_| {}).await.unwrap();
    let found: Vec<_> = entries.iter().map(|entry| (&entry.path[..], entry.kind)).collect();
    assert_eq!(
        found,
        [
            (&b"a.b"[..], FileKind::Regular),
            (b"a/x", FileKind::Regular),
            (b"group", FileKind::Regular),
            (b"module", FileKind::Folder),
            (b"run", FileKind::Executable),
            (b"void/empty", FileKind::Folder),
            (b"\xff\xfe name", FileKind::Regular),
        ]
    );
    repo.commit_tree(&empty);
    assert!(listed(&repo, |_| {}).await.unwrap().is_empty());
}

#[tokio::test]
async fn only_the_folder_asked_for_is_deployed() {
    let repo = Repo::with(&[&[("a/b/c", "1"), ("a/b/d/e", "2"), ("a/f", "3"), ("file", "4")]]);
    repo.link("link", "a");
    repo.commit("link");
    for dir in ["a/b", "/a/b/", "a//b"] {
        assert_eq!(paths(&listed(&repo, |config| config.dir = dir.into()).await.unwrap()), ["c", "d/e"]);
    }
    for dir in ["nope", "a/nope", "file", "link", "link/b", "a/../a", ".", ".git"] {
        assert_eq!(
            step_code(listed(&repo, |config| config.dir = dir.into()).await),
            "source/dir-missing",
            "{dir}"
        );
    }
}

#[tokio::test]
async fn what_deployignore_names_is_left_out() {
    let repo = Repo::with(&[&[
        (".deployignore", "*.log\n/secret/\n!keep.log\n"),
        ("a.log", "x"),
        ("keep.log", "x"),
        ("secret/keep.log", "x"),
        ("sub/.deployignore", "!*.log\nonly-here\n"),
        ("sub/b.log", "x"),
        ("sub/only-here", "x"),
        ("only-here", "x"),
        ("gone/.deployignore", "*"),
        ("gone/x", "x"),
    ]]);
    let entries = listed(&repo, |_| {}).await.unwrap();
    assert_eq!(paths(&entries), ["keep.log", "only-here", "sub/b.log"]);
    let entries =
        listed(&repo, |config| config.ignore = vec!["keep.log".into(), "sub".into()]).await.unwrap();
    assert_eq!(paths(&entries), ["only-here"]);
    let entries = listed(&repo, |config| config.dir = "sub".into()).await.unwrap();
    assert_eq!(paths(&entries), ["b.log"]);
}

#[tokio::test]
async fn read_escape_a_deployignore_that_is_a_link_is_not_read() {
    let repo = Repo::with(&[&[("patterns", "*.html\n"), ("index.html", "x")]]);
    repo.link(".deployignore", "patterns");
    repo.commit("link");
    assert_eq!(paths(&listed(&repo, |_| {}).await.unwrap()), [".deployignore", "index.html", "patterns"]);
    let repo = Repo::new();
    repo.write(".deployignore", vec![b'#'; 1024 * 1024 + 1]);
    repo.commit("huge");
    assert_eq!(step_code(listed(&repo, |_| {}).await), "source/path");
}

#[tokio::test]
async fn a_cancelled_listing_stops() {
    let repo = Repo::with(&[&[("a", "1")]]);
    let mirror = mirror(&repo, |_| {});
    let head = id(&repo.head());
    mirror.fetch(&head, None, &permit()).await.unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert_eq!(step_code(mirror.list(&release(&mirror, &head), &cancel)), "engine/cancelled");
}

#[tokio::test]
async fn a_damaged_object_is_noticed() {
    let repo = Repo::new();
    let text: String =
        (0..20_000u64).map(|n| format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    repo.write("large", text);
    let head = id(&repo.commit("large"));
    let whole = mirror(&repo, |_| {});
    whole.fetch(&head, None, &permit()).await.unwrap();
    let entries = list(&whole, &head).unwrap();
    let packs = mirror_path(&repo).join("objects/pack");
    let pack = fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().path());
    let pack = pack.into_iter().find(|path| path.extension().is_some_and(|end| end == "pack")).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    let damaged = mirror(&repo, |_| {});
    let release = release(&damaged, &head);
    let mut reader = damaged.reader(&release).unwrap();
    assert_eq!(step_code(reader.read(&entries[0].id, &mut Vec::new())), "source/corrupt");
}

#[tokio::test]
async fn a_server_that_leaves_something_out_is_noticed() {
    let repo = Repo::new();
    // The tree names a blob that does not exist; upload-pack is told not to look.
    let blob = repo.blob("there");
    let tree = repo.tree(&[("100644", b"a", &blob), ("100644", b"b", &"2".repeat(40))]);
    let head = id(&repo.commit_tree(&tree));
    let mirror = mirror(&repo, |_| {});
    let error = mirror.fetch(&head, None, &permit()).await.unwrap_err();
    assert!(
        matches!(
            error,
            SourceError::Corrupt { .. }
                | SourceError::Protocol { .. }
                | SourceError::RepositoryMissing { .. }
        ),
        "{error:?}"
    );
    assert!(mirror.fetch(&head, None, &permit()).await.is_err(), "it must not count as whole");
}
