//! What dead processes leave, and what is left of a target that is removed.

use std::{fs, path::Path};

use eeveon_core::{Deployer, Fence, Permit, Removal};
use eeveon_testkit::deployer::permit;
use gix_hash::{Kind, hasher};
use tokio_util::sync::CancellationToken;

use crate::common::{FILE, Paths, Scene, code, expected, tree};

const PATHS: Paths<'_> = &[(b"a/b", FILE, b"b"), (b"c", FILE, b"c")];

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Makes a manifest look as if it was written before the machine last started.
fn before_the_restart(manifest: &Path) {
    let mut bytes = fs::read(manifest).unwrap();
    let at = bytes.windows(6).position(|it| it == b"\nboot ").unwrap() + 6;
    bytes[at] = if bytes[at] == b'0' { b'1' } else { b'0' };
    let body = bytes.len() - 20;
    let mut hash = hasher(Kind::Sha1);
    hash.update(&bytes[..body]);
    bytes.truncate(body);
    bytes.extend_from_slice(hash.try_finalize().unwrap().as_slice());
    fs::write(manifest, bytes).unwrap();
}

#[tokio::test]
async fn sweeping_takes_what_the_dead_left_and_nothing_else() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    scene.place(2, PATHS).await.unwrap();
    scene.remove(2, Removal::SetAside).await.unwrap();
    scene.ship(3, PATHS).await.unwrap();
    let releases = scene.path().join("releases");
    let own = scene.path().join(".eeveon");
    for name in [".new-9-1", ".gone-8-1/x", "mine"] {
        fs::create_dir_all(releases.join(name)).unwrap();
    }
    fs::write(releases.join(".mend-1-1"), "").unwrap();
    std::os::unix::fs::symlink("releases/9", scene.path().join(".current-1")).unwrap();
    fs::write(own.join("ledger.new"), "").unwrap();
    fs::write(own.join("manifests/7"), "of a release that is gone").unwrap();
    fs::write(own.join("manifests/3.shipped.new"), "").unwrap();

    let newer = Permit::new(Fence(2), CancellationToken::new());
    assert_eq!(scene.host.sweep(&newer).await.unwrap(), 7);
    assert_eq!(names(&releases), ["1", "3", "failed-2", "mine"]);
    assert_eq!(names(&own), ["fence", "ledger", "lock", "manifests", "target.json"]);
    assert_eq!(names(&own.join("manifests")), ["1", "3.shipped", "failed-2"]);
    assert_eq!(names(&scene.path()), [".eeveon", "current", "releases"]);
    assert_eq!(scene.host.sweep(&newer).await.unwrap(), 0);
    assert_eq!(code(scene.host.sweep(&permit(1)).await), "host/fenced");
}

#[tokio::test]
async fn a_release_from_before_a_restart_is_made_anew() {
    let scene = Scene::new();
    let release = scene.contents.release(1, PATHS);
    scene.ship(1, PATHS).await.unwrap();
    let shipped = scene.path().join(".eeveon/manifests/1.shipped");
    before_the_restart(&shipped);
    // What a power cut may do to files that were not synced.
    fs::write(scene.release(1).join("c"), "").unwrap();
    assert_eq!(code(scene.host.seal(&permit(1), &scene.target, &release).await), "host/restarted");
    scene.ship(1, PATHS).await.unwrap();
    scene.place(1, PATHS).await.unwrap();
    assert_eq!(tree(&scene.release(1)), expected(&scene.contents, PATHS));

    scene.ship(2, PATHS).await.unwrap();
    before_the_restart(&scene.path().join(".eeveon/manifests/2.shipped"));
    scene.ship(3, PATHS).await.unwrap();
    fs::write(scene.path().join(".eeveon/manifests/3.shipped"), "").unwrap();
    assert_eq!(scene.host.sweep(&permit(1)).await.unwrap(), 2);
    assert_eq!(names(&scene.path().join("releases")), ["1"]);
}

#[tokio::test]
async fn a_half_removed_release_is_no_release() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    scene.place(2, PATHS).await.unwrap();
    fs::rename(scene.release(2), scene.path().join("releases/.gone-2-1")).unwrap();
    fs::remove_file(scene.path().join("releases/.gone-2-1/c")).unwrap();
    assert_eq!(code(scene.turn(2).await), "host/release-missing");
    assert_eq!(code(scene.restore(2, PATHS).await), "host/release-missing");
    scene.remove(2, Removal::Discard).await.unwrap();
    assert_eq!(names(&scene.path().join("releases")), ["1"]);
    assert_eq!(names(&scene.path().join(".eeveon/manifests")), ["1"]);
}

#[tokio::test]
async fn a_release_number_means_one_commit() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let other: Paths<'_> = &[(b"x", FILE, b"x")];
    assert_eq!(code(scene.ship(1, other).await), "host/not-ours");
    assert_eq!(tree(&scene.release(1)), expected(&scene.contents, PATHS));
}

#[tokio::test]
async fn purging_leaves_what_is_not_ours() {
    let scene = Scene::with(|options| options.shared_dirs = vec!["storage".into(), "var/log".into()]);
    scene.deploy(1, PATHS).await;
    scene.place(2, PATHS).await.unwrap();
    scene.remove(2, Removal::SetAside).await.unwrap();
    fs::write(scene.release(1).join("storage/upload"), "kept").unwrap();
    fs::create_dir(scene.path().join("releases/mine")).unwrap();
    fs::write(scene.path().join("notes"), "kept").unwrap();
    let purged = scene.host.purge(&permit(1)).await.unwrap();
    let left: Vec<_> = purged.left.iter().map(|it| it.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(left, ["notes", "releases", "shared"]);
    assert_eq!(names(&scene.path().join("releases")), ["mine"]);
    assert_eq!(names(&scene.path().join("shared")), ["storage"]);
    assert_eq!(fs::read(scene.path().join("shared/storage/upload")).unwrap(), b"kept");
}

#[tokio::test]
async fn purging_leaves_nothing_where_all_is_ours() {
    let scene = Scene::with(|options| options.shared_dirs = vec!["var/log".into()]);
    scene.deploy(1, PATHS).await;
    assert_eq!(scene.host.purge(&permit(1)).await.unwrap().left, Vec::<std::path::PathBuf>::new());
    assert!(!scene.path().exists());
    assert_eq!(scene.host.purge(&permit(1)).await.unwrap().left, Vec::<std::path::PathBuf>::new());
    assert!(scene.host.present(&scene.target).await.is_ok_and(|present| present.is_empty()));
    scene.deploy(2, PATHS).await;
}

/// Makes a folder within a folder, and so on. Step by step: the whole path may be too long for a call.
fn nest(top: &Path, depth: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let mut at = fs::File::open(top).unwrap();
    for _ in 0..depth {
        mkdirat(&at, "d", Mode::RWXU).unwrap();
        at = openat(&at, "d", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap().into();
    }
}

#[tokio::test]
async fn folders_nested_too_deep_are_refused_and_can_be_removed() {
    let scene = Scene::with(|options| options.commands_run = true);
    let release = scene.contents.release(1, PATHS);
    scene.ship(1, PATHS).await.unwrap();
    nest(&scene.release(1).join("a"), 256);
    let error = scene.host.seal(&permit(1), &scene.target, &release).await.unwrap_err();
    assert_eq!(error.diagnosis().code(), "host/too-deep");
    assert!(error.to_string().contains("below `a`"), "{error}");
    scene.remove(1, Removal::SetAside).await.unwrap();
    scene.remove(1, Removal::Discard).await.unwrap();
    assert_eq!(names(&scene.path().join("releases")), Vec::<String>::new());

    scene.ship(2, PATHS).await.unwrap();
    nest(&scene.release(2), 256);
    scene.host.seal(&permit(1), &scene.target, &scene.contents.release(2, PATHS)).await.unwrap();
    assert_eq!(scene.host.compare(eeveon_core::ReleaseNumber(2)).await.unwrap(), []);

    let left = scene.path().join("releases/.new-3-1");
    fs::create_dir(&left).unwrap();
    nest(&left, 1500);
    let newer = Permit::new(Fence(2), CancellationToken::new());
    assert_eq!(scene.host.sweep(&newer).await.unwrap(), 1);
    assert!(scene.host.purge(&newer).await.unwrap().left.is_empty());
}

#[tokio::test]
async fn a_path_that_was_only_just_made_ours_or_given_up_is_cleared() {
    let scene = Scene::new();
    let own = scene.path().join(".eeveon");
    fs::create_dir_all(own.join("manifests")).unwrap();
    for name in ["lock", "fence", "fence.new", "target.json.new"] {
        fs::write(own.join(name), "").unwrap();
    }
    assert_eq!(scene.host.sweep(&permit(1)).await.unwrap(), 2);
    assert_eq!(names(&own), ["fence", "lock", "manifests"]);
    assert_eq!(scene.host.purge(&permit(1)).await.unwrap().left, Vec::<std::path::PathBuf>::new());
    assert!(!scene.path().exists());

    fs::create_dir_all(&own).unwrap();
    scene.host.purge(&permit(1)).await.unwrap();
    assert!(!scene.path().exists(), "the last thing a purge takes is an empty folder");

    // Anything else in it is not ours to judge.
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("lock"), "").unwrap();
    fs::write(own.join("diary"), "dear").unwrap();
    assert_eq!(code(scene.host.purge(&permit(1)).await), "host/not-ours");
    assert_eq!(names(&own), ["diary", "lock"]);
}
