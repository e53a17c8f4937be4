//! A release is never altered by what happens in another one; what was altered is put right.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::Path,
};

use eeveon_core::{FileKind, ReleaseNumber, Removal};
use eeveon_host::{Change, Difference};

use crate::common::{EXECUTABLE, FILE, FOLDER, LINK, Paths, Scene, code, expected, tree};

const OLD: Paths<'_> = &[
    (b"a", FILE, b"the first"),
    (b"bin/run", EXECUTABLE, b"#!/bin/sh\n"),
    (b"deep/er/est", FILE, b"three folders down"),
    (b"empty", FOLDER, b""),
    (b"link", LINK, b"a"),
    (b"only-old", FILE, b"old"),
];
const NEW: Paths<'_> = &[
    (b"a", FILE, b"the first"),
    (b"bin/run", EXECUTABLE, b"#!/bin/sh\n"),
    (b"deep/er/est", FILE, b"three folders down"),
    (b"empty", FOLDER, b""),
    (b"link", LINK, b"a"),
    (b"only-new", FILE, b"new"),
];

/// Waits until a change now gets another time than one before: kernels before 6.13 tick slowly.
fn next_tick(folder: &Path) {
    let probe = folder.join("probe");
    let time = || {
        fs::write(&probe, "x").unwrap();
        let meta = fs::metadata(&probe).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let start = time();
    while time() == start {}
    fs::remove_file(probe).unwrap();
}

/// Does `change` to every file below `folder`.
fn each_file(folder: &Path, change: &dyn Fn(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap() {
            meta if meta.is_dir() => each_file(&path, change),
            meta if meta.is_file() => change(&path),
            _ => {}
        }
    }
}

fn overwrite(path: &Path) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"?").unwrap();
}

fn append(path: &Path) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
}

fn overwrite_unseen(path: &Path) {
    let before = fs::metadata(path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(before.len() - 1)).unwrap();
    file.write_all(b"?").unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    let after = fs::metadata(path).unwrap();
    assert_eq!((before.len(), before.modified().unwrap()), (after.len(), after.modified().unwrap()));
}

fn truncate(path: &Path) {
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
}

fn chmod(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
}

#[tokio::test]
async fn writing_through_the_live_release_never_shows_in_the_one_before() {
    for scribble in [overwrite, append, overwrite_unseen, truncate, chmod] {
        let scene = Scene::new();
        scene.deploy(1, OLD).await;
        scene.deploy(2, NEW).await;
        next_tick(scene.folder.path());
        each_file(&scene.release(2), &scribble);
        assert!(tree(&scene.release(2)) != expected(&scene.contents, NEW), "the test does something");

        scene.restore(1, OLD).await.unwrap();
        scene.turn(1).await.unwrap();
        assert_eq!(tree(&scene.host.current_path()), expected(&scene.contents, OLD));
        // And forth again.
        scene.restore(2, NEW).await.unwrap();
        scene.turn(2).await.unwrap();
        assert_eq!(tree(&scene.host.current_path()), expected(&scene.contents, NEW));
        assert_eq!(tree(&scene.release(1)), expected(&scene.contents, OLD));
    }
}

#[tokio::test]
async fn what_was_written_to_is_not_carried_into_the_next_release() {
    for scribble in [overwrite, append, overwrite_unseen, truncate, chmod] {
        let scene = Scene::new();
        scene.deploy(1, OLD).await;
        scene.deploy(2, OLD).await;
        next_tick(scene.folder.path());
        each_file(&scene.release(2), &scribble);
        scene.deploy(3, NEW).await;
        assert_eq!(tree(&scene.release(3)), expected(&scene.contents, NEW));
        // Also where nothing is known about any file.
        fs::remove_file(scene.path().join(".eeveon/ledger")).unwrap();
        each_file(&scene.release(3), &scribble);
        scene.deploy(4, OLD).await;
        assert_eq!(tree(&scene.release(4)), expected(&scene.contents, OLD));
        scene.restore(1, OLD).await.unwrap();
        assert_eq!(tree(&scene.release(1)), expected(&scene.contents, OLD));
    }
}

#[tokio::test]
async fn a_removed_release_takes_nothing_with_it() {
    let scene = Scene::new();
    for number in 1..=4 {
        scene.deploy(number, if number % 2 == 0 { NEW } else { OLD }).await;
    }
    for number in 1..=2 {
        scene.remove(number, Removal::Discard).await.unwrap();
    }
    assert_eq!(scene.restore(3, OLD).await.unwrap().written, 0);
    assert_eq!(tree(&scene.release(3)), expected(&scene.contents, OLD));
    assert_eq!(tree(&scene.release(4)), expected(&scene.contents, NEW));
}

#[tokio::test]
async fn every_kind_of_damage_is_named_and_mended() {
    let scene = Scene::new();
    scene.deploy(1, OLD).await;
    let release = scene.release(1);
    let at = |name: &str| release.join(name);

    fs::remove_file(at("a")).unwrap();
    fs::remove_file(at("only-old")).unwrap();
    fs::create_dir_all(at("only-old/x")).unwrap();
    fs::write(at("bin/run"), "#!/bin/false").unwrap();
    fs::remove_file(at("link")).unwrap();
    symlink("bin", at("link")).unwrap();
    fs::remove_dir(at("empty")).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::remove_dir_all(at("deep")).unwrap();
    let outside = scene.folder.path().join("outside");
    fs::create_dir_all(outside.join("er")).unwrap();
    fs::write(outside.join("er/est"), "precious").unwrap();
    symlink(&outside, at("deep")).unwrap();
    fs::set_permissions(at("bin"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(at("cache"), "kept").unwrap();
    fs::remove_file(at("REVISION")).unwrap();

    let found = scene.host.compare(ReleaseNumber(1)).await.unwrap();
    let of = |path: &str, how| Difference { path: path.into(), how };
    assert_eq!(
        found,
        [
            of("REVISION", Change::Missing),
            of("a", Change::Missing),
            of("bin", Change::Mode),
            of("bin/run", Change::Content),
            of("cache", Change::Extra),
            of("deep", Change::Missing),
            of("deep/er", Change::Missing),
            of("deep/er/est", Change::Missing),
            of("empty", Change::Missing),
            of("link", Change::Content),
            of("only-old", Change::Kind),
        ]
    );
    assert_eq!(scene.restore(1, OLD).await.unwrap().extra, 1);
    let mut whole = tree(&release);
    assert!(whole.remove(b"cache".as_slice()).is_some(), "what a program put there stays");
    assert_eq!(whole, expected(&scene.contents, OLD));
    assert_eq!(fs::read(outside.join("er/est")).unwrap(), b"precious");
    assert_eq!(scene.restore(1, OLD).await.unwrap().written, 0);
}

#[tokio::test]
async fn the_permissions_of_folders_are_part_of_a_release() {
    let scene = Scene::with(|options| options.commands_run = true);
    let paths: Paths<'_> = &[(b"a/b", FILE, b"b")];
    scene.ship(1, paths).await.unwrap();
    let closed = scene.release(1).join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("key"), "k").unwrap();
    let mode = |mode| fs::set_permissions(&closed, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    scene.place(1, paths).await.unwrap();
    assert_eq!(scene.host.compare(ReleaseNumber(1)).await.unwrap(), []);
    mode(0o777);
    scene.restore(1, paths).await.unwrap();
    assert_eq!(fs::metadata(&closed).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_damaged_manifest_is_never_used() {
    let scene = Scene::new();
    scene.deploy(1, OLD).await;
    scene.deploy(2, NEW).await;
    let path = scene.path().join(".eeveon/manifests/1");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert_eq!(code(scene.restore(1, OLD).await), "host/damaged");
    assert_eq!(code(scene.host.compare(ReleaseNumber(1)).await), "host/damaged");
    // Another release's manifest is as wrong as a damaged one.
    fs::copy(scene.path().join(".eeveon/manifests/2"), &path).unwrap();
    assert_eq!(code(scene.restore(1, OLD).await), "host/damaged");
    // A new release does not need it.
    fs::write(scene.path().join(".eeveon/manifests/2"), "").unwrap();
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"a", FILE, b"the first")];
    scene.deploy(3, paths).await;
    assert_eq!(tree(&scene.release(3)), expected(&scene.contents, paths));
}
