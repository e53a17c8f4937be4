//! What a release looks like, what it costs, what is shared.

use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt},
    },
    path::Path,
    sync::{Arc, Mutex},
};

use eeveon_core::{Deployer, FileKind, Removal};
use eeveon_testkit::deployer::permit;

use crate::common::{EXECUTABLE, FILE, FOLDER, LINK, Paths, Scene, Seen, code, expected, tree};

#[tokio::test]
async fn a_release_holds_the_commit_and_nothing_else() {
    let scene = Scene::new();
    let odd = b"od\xffd/na\nme \xc3\xa4";
    let paths: &[(&[u8], FileKind, &[u8])] = &[
        (b"a", FILE, b"a"),
        (b"a-b/c/d", FILE, b""),
        (b"bin/run", EXECUTABLE, b"#!/bin/sh\n"),
        (b"bin/start", LINK, b"run"),
        (b"empty/inner", FOLDER, b""),
        (odd, FILE, b"odd"),
        (b"-rf", FILE, b"dash"),
        (b"up", LINK, b"bin/../a"),
    ];
    let placed = scene.deploy(1, paths).await;
    assert_eq!(tree(&scene.release(1)), expected(&scene.contents, paths));
    assert_eq!((placed.files, placed.written), (8, 8), "seven paths and REVISION");
    assert_eq!(fs::read_link(scene.host.current_path()).unwrap().to_str(), Some("releases/1"));
    assert_eq!(scene.host.compare(eeveon_core::ReleaseNumber(1)).await.unwrap(), []);
}

#[tokio::test]
async fn an_empty_commit_can_be_deployed() {
    let scene = Scene::new();
    scene.deploy(1, &[]).await;
    assert_eq!(tree(&scene.release(1)).len(), 1);
}

#[tokio::test]
async fn the_projects_own_revision_file_gives_way() {
    let scene = Scene::new();
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"REVISION", FILE, b"v1"), (b"a", FILE, b"a")];
    scene.deploy(1, paths).await;
    let commit = scene.contents.release(1, paths).revision.commit;
    assert_eq!(fs::read_to_string(scene.release(1).join("REVISION")).unwrap(), format!("{commit}\n"));
}

#[tokio::test]
async fn only_what_changed_is_written_and_read() {
    let scene = Scene::new();
    let names: Vec<String> = (0..300).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let mut paths: Vec<(&[u8], FileKind, &[u8])> =
        names.iter().map(|name| (name.as_bytes(), FILE, name.as_bytes())).collect();
    assert_eq!(scene.deploy(1, &paths).await.written, 301);
    paths[3].2 = b"new";
    paths[4].1 = EXECUTABLE;
    let before = scene.contents.reads();
    assert_eq!(scene.deploy(2, &paths).await.written, 3, "two files and REVISION");
    assert_eq!(scene.contents.reads() - before, 2);
    assert_eq!(tree(&scene.release(2)), expected(&scene.contents, &paths));
    // A folder that moves keeps its files.
    let moved: Vec<String> = names.iter().map(|name| format!("moved/{name}")).collect();
    let moved: Vec<(&[u8], FileKind, &[u8])> = moved
        .iter()
        .zip(&paths)
        .map(|(name, (_, kind, content))| (name.as_bytes(), *kind, *content))
        .collect();
    assert_eq!(scene.deploy(3, &moved).await.written, 1, "REVISION");
    assert_eq!(tree(&scene.release(3)), expected(&scene.contents, &moved));
    // What a removal does to the common files raises no doubt about them.
    scene.remove(2, Removal::Discard).await.unwrap();
    assert_eq!(scene.deploy(4, &moved).await.written, 0, "not even REVISION");
}

#[tokio::test]
async fn where_commands_run_no_file_is_common_to_two_releases() {
    let scene = Scene::with(|options| options.commands_run = true);
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"a", FILE, b"a"), (b"b/c", EXECUTABLE, b"c")];
    scene.deploy(1, paths).await;
    scene.deploy(2, paths).await;
    for name in ["a", "b/c"] {
        let inode = |number| fs::metadata(scene.release(number).join(name)).unwrap().ino();
        assert_ne!(inode(1), inode(2), "{name}");
        assert_eq!(fs::metadata(scene.release(1).join(name)).unwrap().nlink(), 1);
    }
}

#[tokio::test]
async fn what_a_build_made_is_part_of_the_release() {
    let scene = Scene::with(|options| options.commands_run = true);
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"src", FILE, b"source"), (b"gone", FILE, b"temporary")];
    let shipped = scene.ship(1, paths).await.unwrap();
    let release = scene.release(1);
    fs::create_dir(release.join("out")).unwrap();
    fs::write(release.join("out/app"), "built").unwrap();
    fs::remove_file(release.join("gone")).unwrap();
    std::os::unix::fs::symlink("out/app", release.join("app")).unwrap();
    let listed = scene.contents.release(1, paths);
    let sealed = scene.host.seal(&permit(1), &scene.target, &listed).await.unwrap();
    assert_eq!((shipped.files, sealed.files), (3, 4));
    assert_eq!((shipped.written, sealed.written), (3, 4));
    assert_eq!(scene.host.seal(&permit(1), &scene.target, &listed).await.unwrap(), sealed);
    assert_eq!(scene.restore(1, paths).await.unwrap().written, 0);

    // What comes from the source can be had again; what was built cannot.
    fs::write(release.join("src"), "tampered").unwrap();
    assert_eq!(scene.restore(1, paths).await.unwrap().written, 1);
    let whole = tree(&release);
    fs::write(release.join("out/app"), "tampered").unwrap();
    fs::write(release.join("src"), "tampered").unwrap();
    let error = scene.restore(1, paths).await.unwrap_err();
    assert_eq!(error.diagnosis().code(), "host/release-altered");
    assert!(error.to_string().contains("out/app"), "{error}");
    assert_eq!(fs::read(release.join("src")).unwrap(), b"tampered", "nothing was touched");
    fs::write(release.join("out/app"), "built").unwrap();
    scene.restore(1, paths).await.unwrap();
    assert_eq!(tree(&release), whole);
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"src", FILE, b"source")];
    let pipe = |path: &Path| {
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    };
    let socket = |path: &Path| drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    let linked = |path: &Path| {
        fs::write(path, "program").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
        fs::hard_link(path, path.with_file_name("other")).unwrap();
    };
    let leave: [&dyn Fn(&Path); 3] = [&pipe, &socket, &linked];
    for leave in leave {
        let scene = Scene::with(|options| options.commands_run = true);
        scene.ship(1, paths).await.unwrap();
        fs::create_dir(scene.release(1).join("tmp")).unwrap();
        let path = scene.release(1).join("tmp/odd");
        leave(&path);
        let release = scene.contents.release(1, paths);
        let error = scene.host.seal(&permit(1), &scene.target, &release).await.unwrap_err();
        assert_eq!(error.diagnosis().code(), "host/bad-content");
        assert!(error.to_string().contains("`tmp/o"), "{error}");

        // Once it is gone, nothing is in the way.
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        scene.host.seal(&permit(1), &scene.target, &release).await.unwrap();
        assert_eq!(tree(&scene.release(1)), expected(&scene.contents, paths));
    }
}

#[tokio::test]
async fn nothing_in_a_release_runs_as_its_owner() {
    let scene = Scene::with(|options| options.commands_run = true);
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"src", FILE, b"source")];
    scene.ship(1, paths).await.unwrap();
    let at = |name: &str| scene.release(1).join(name);
    fs::create_dir(at("out")).unwrap();
    fs::write(at("out/app"), "program").unwrap();
    for (name, before) in [("out/app", 0o6755), ("out", 0o2775), ("src", 0o4744), ("", 0o2755)] {
        fs::set_permissions(at(name), fs::Permissions::from_mode(before)).unwrap();
    }
    let release = scene.contents.release(1, paths);
    scene.host.seal(&permit(1), &scene.target, &release).await.unwrap();
    for (name, after) in [("out/app", 0o755), ("out", 0o775), ("src", 0o744), ("", 0o755)] {
        assert_eq!(fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777, after, "{name}");
    }
    assert_eq!(scene.host.compare(eeveon_core::ReleaseNumber(1)).await.unwrap(), []);
}

#[tokio::test]
async fn what_is_shared_is_the_same_in_every_release() {
    let scene = Scene::with(|options| {
        options.shared_dirs = vec!["storage".into(), "var/log/".into()];
        options.shared_files = vec![".env".into(), "config/secret".into()];
    });
    let paths: &[(&[u8], FileKind, &[u8])] =
        &[(b"config/app", FILE, b"app"), (b"storage/keep", FILE, b""), (b"storage/old", FILE, b"x")];
    let error = scene.place(1, paths).await.unwrap_err();
    assert_eq!(error.diagnosis().code(), "host/shared-file-missing");
    assert!(error.to_string().contains(".env, config/secret"), "all are named: {error}");
    assert!(!scene.path().exists(), "nothing was touched");

    fs::create_dir_all(scene.host.shared_path().join("config")).unwrap();
    fs::write(scene.host.shared_path().join(".env"), "A=1").unwrap();
    fs::write(scene.host.shared_path().join("config/secret"), "hush").unwrap();
    scene.deploy(1, paths).await;
    fs::write(scene.release(1).join("storage/upload"), "kept").unwrap();
    fs::write(scene.release(1).join("var/log/app"), "line").unwrap();
    scene.deploy(2, paths).await;
    let current = scene.host.current_path();
    assert_eq!(fs::read(current.join("storage/upload")).unwrap(), b"kept");
    assert_eq!(fs::read(current.join("var/log/app")).unwrap(), b"line");
    assert_eq!(fs::read(current.join(".env")).unwrap(), b"A=1");
    assert!(!current.join("storage/old").exists(), "what the commit has there is left out");
    let all = tree(&scene.release(2));
    assert_eq!(all[b"config/secret".as_slice()], Seen::Link(b"../../../shared/config/secret".to_vec()));
    // The links are relative, so the whole project can be moved.
    let moved = scene.folder.path().join("elsewhere");
    fs::rename(scene.path(), &moved).unwrap();
    assert_eq!(fs::read(moved.join("current/storage/upload")).unwrap(), b"kept");
}

#[tokio::test]
async fn a_shared_folder_may_be_a_link_of_the_operators() {
    let scene = Scene::with(|options| options.shared_dirs = vec!["storage".into()]);
    let disk = scene.folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    fs::create_dir_all(scene.host.shared_path()).unwrap();
    std::os::unix::fs::symlink(&disk, scene.host.shared_path().join("storage")).unwrap();
    scene.deploy(1, &[]).await;
    fs::write(scene.release(1).join("storage/x"), "x").unwrap();
    assert!(disk.join("x").exists());
}

#[tokio::test]
async fn an_estimate_names_what_would_change() {
    let scene = Scene::new();
    let old: &[(&[u8], FileKind, &[u8])] = &[(b"a", FILE, b"a"), (b"b", FILE, b"bb"), (b"c", FILE, b"ccc")];
    let new: &[(&[u8], FileKind, &[u8])] =
        &[(b"a", FILE, b"a"), (b"b", FILE, b"BBBB"), (b"d", FILE, b"ddddd")];
    let all = scene.host.estimate(&permit(1), &scene.contents.release(1, old)).await;
    assert_eq!(all.unwrap().changes.added.len(), 4, "and REVISION");
    assert!(!scene.path().exists(), "it changes nothing");
    scene.deploy(1, old).await;
    let estimate = scene.host.estimate(&permit(1), &scene.contents.release(2, new)).await.unwrap();
    assert_eq!(estimate.changes.added, [(b"d".to_vec(), 5)]);
    assert_eq!(estimate.changes.changed, [(b"REVISION".to_vec(), 41), (b"b".to_vec(), 4)]);
    assert_eq!(estimate.changes.removed, [(b"c".to_vec(), 3)]);
    assert!(estimate.bytes_needed >= 3 * 4096 && estimate.bytes_free > 0, "{estimate:?}");
}

#[tokio::test]
async fn a_link_that_leaves_the_release_is_refused() {
    let scene = Scene::new();
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"x/link", LINK, b"../../../etc")];
    assert_eq!(code(scene.place(1, paths).await), "host/bad-content");
    assert_eq!(scene.serving().await, None);
}

#[tokio::test]
async fn a_content_that_is_lost_fails_the_release() {
    let scene = Scene::new();
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"a", FILE, b"a"), (b"b", FILE, b"b")];
    let release = scene.contents.release(1, paths);
    scene.contents.lose(b"b");
    assert_eq!(code(scene.host.ship(&permit(1), &scene.target, &release).await), "fake/lost");
    assert_eq!(code(scene.host.seal(&permit(1), &scene.target, &release).await), "host/release-missing");
}

#[tokio::test]
async fn progress_reaches_its_end() {
    let scene = Scene::new();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let names: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let paths: Vec<(&[u8], FileKind, &[u8])> =
        names.iter().map(|it| (it.as_bytes(), FILE, it.as_bytes())).collect();
    let release = scene.contents.release(1, &paths);
    let sink = seen.clone();
    let permit = permit(1).reporting(move |progress| sink.lock().unwrap().push(progress));
    scene.host.ship(&permit, &scene.target, &release).await.map_err(|error| error.to_string()).unwrap();
    let end = eeveon_core::Progress::Files { done: 101, total: 101 };
    assert!(seen.lock().unwrap().contains(&end));
    assert!(scene.release(1).as_os_str().as_bytes().ends_with(b"/releases/1"));
}

#[tokio::test]
async fn no_link_leads_out_of_what_is_shared() {
    let scene = Scene::with(|options| options.shared_dirs = vec!["up".into()]);
    let fine: Paths<'_> = &[(b"to", LINK, b"up/x"), (b"via", LINK, b"to/y")];
    scene.deploy(1, fine).await;
    let direct: Paths<'_> = &[(b"leak", LINK, b"up/../secret")];
    let chained: Paths<'_> = &[(b"to", LINK, b"up"), (b"a/leak", LINK, b"../to/../secret")];
    for paths in [direct, chained] {
        let error = scene.ship(2, paths).await.unwrap_err();
        assert_eq!(error.diagnosis().code(), "host/shared-link");
        // Also for who does not ask first.
        let release = scene.contents.release(2, paths);
        let shipped = scene.host.ship(&permit(1), &scene.target, &release).await;
        assert_eq!(code(shipped), "host/shared-link");
        assert!(!scene.release(2).exists());
    }
}

#[tokio::test]
async fn large_contents_are_in_memory_one_at_a_time() {
    let scene = Scene::new();
    let large = vec![7; (8 << 20) + 1];
    let paths: Paths<'_> = &[(b"a/f", FILE, &large), (b"b/f", FILE, &large), (b"c/f", FILE, &large)];
    let release = scene.contents.release(1, paths);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (making, size, written) = (scene.path().join("releases/.new-1-1"), large.len() as u64, seen.clone());
    scene.contents.on_read(move |_| {
        let whole = |it: &&&str| fs::metadata(making.join(it)).is_ok_and(|meta| meta.len() == size);
        written.lock().unwrap().push(["a/f", "b/f", "c/f"].iter().filter(whole).count());
    });
    scene.host.ship(&permit(1), &scene.target, &release).await.unwrap();
    // Each was read when all before it had been written.
    assert_eq!(*seen.lock().unwrap(), [0, 1, 2]);
}
