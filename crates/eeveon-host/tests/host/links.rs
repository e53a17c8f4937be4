//! No link anyone puts anywhere is ever followed.

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::PathBuf,
};

use eeveon_core::{Deployer, Removal};
use eeveon_testkit::deployer::permit;

use crate::common::{FILE, Paths, Scene, code, expected, tree};

const PATHS: Paths<'_> = &[(b"a/b", FILE, b"b"), (b"c", FILE, b"c")];

/// A folder that must stay as it is.
fn precious(scene: &Scene) -> PathBuf {
    let outside = scene.folder.path().join("outside");
    fs::create_dir_all(outside.join("a")).unwrap();
    fs::write(outside.join("a/b"), "b").unwrap();
    fs::write(outside.join("c"), "precious").unwrap();
    outside
}

#[tokio::test]
async fn links_where_a_release_is_to_be_made_are_taken_away() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let outside = precious(&scene);
    let before = tree(&outside);
    for name in [".new-2-1", ".new-2-7", ".gone-2-1", ".mend-1-1", ".mend-2-1"] {
        symlink(&outside, scene.path().join("releases").join(name)).unwrap();
    }
    symlink(&outside, scene.path().join(".current-1")).unwrap();
    symlink(outside.join("c"), scene.path().join(".eeveon/ledger.new")).unwrap();
    symlink(outside.join("c"), scene.path().join(".eeveon/manifests/2.shipped.new")).unwrap();
    scene.deploy(2, PATHS).await;
    assert_eq!(tree(&scene.release(2)), expected(&scene.contents, PATHS));
    fs::write(scene.release(1).join("c"), "?").unwrap();
    scene.restore(1, PATHS).await.unwrap();
    assert_eq!(tree(&scene.release(1)), expected(&scene.contents, PATHS));
    scene.remove(1, Removal::Discard).await.unwrap();
    assert_eq!(tree(&outside), before);
}

#[tokio::test]
async fn a_release_that_became_a_link_is_none() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let outside = precious(&scene);
    let before = tree(&outside);
    fs::remove_dir_all(scene.release(1)).unwrap();
    symlink(&outside, scene.release(1)).unwrap();
    assert!(scene.restore(1, PATHS).await.is_err());
    assert_eq!(code(scene.turn(1).await), "host/release-missing");
    // Nothing is taken from there for a new one.
    let placed = scene.deploy(2, PATHS).await;
    assert_eq!(placed.written, 3);
    scene.remove(1, Removal::Discard).await.unwrap();
    assert_eq!(tree(&outside), before);
    assert!(!scene.release(1).is_symlink());
}

#[tokio::test]
async fn files_reached_through_a_link_are_not_reused() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let outside = precious(&scene);
    fs::remove_dir_all(scene.release(1).join("a")).unwrap();
    symlink(outside.join("a"), scene.release(1).join("a")).unwrap();
    fs::remove_file(scene.release(1).join("c")).unwrap();
    symlink(outside.join("a/b"), scene.release(1).join("c")).unwrap();
    scene.deploy(2, PATHS).await;
    assert_eq!(tree(&scene.release(2)), expected(&scene.contents, PATHS));
    assert_eq!(fs::metadata(outside.join("a/b")).unwrap().nlink(), 1);
}

#[tokio::test]
async fn a_pipe_in_place_of_a_file_stops_nothing() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let path = scene.release(1).join("c");
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o644.into(), 0).unwrap();
    scene.deploy(2, PATHS).await;
    scene.restore(1, PATHS).await.unwrap();
    assert_eq!(tree(&scene.release(1)), expected(&scene.contents, PATHS));
}

#[tokio::test]
async fn our_own_folders_may_not_be_links() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let outside = precious(&scene);
    let before = tree(&outside);
    for name in ["releases", ".eeveon"] {
        let real = scene.folder.path().join("real");
        fs::rename(scene.path().join(name), &real).unwrap();
        symlink(&outside, scene.path().join(name)).unwrap();
        let release = scene.contents.release(2, PATHS);
        assert!(scene.host.ship(&permit(1), &scene.target, &release).await.is_err(), "{name}");
        assert!(scene.remove(1, Removal::Discard).await.is_err(), "{name}");
        assert!(scene.host.purge(&permit(1)).await.is_err(), "{name}");
        fs::remove_file(scene.path().join(name)).unwrap();
        fs::rename(&real, scene.path().join(name)).unwrap();
    }
    assert_eq!(tree(&outside), before);
    assert_eq!(scene.serving().await, Some(1));
}
