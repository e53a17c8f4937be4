//! What is not ours, and who may not change what is.

use std::{fs, os::unix::fs::symlink, path::Path};

use eeveon_core::{Deployer, Diagnose, Fence, Permit, ProjectName, Traffic};
use eeveon_host::{Host, HostOptions};
use eeveon_testkit::deployer::permit;
use tokio_util::sync::CancellationToken;

use crate::common::{FILE, Paths, Scene, code, host_at, target, tree};

const PATHS: Paths<'_> = &[(b"a", FILE, b"a")];

#[tokio::test]
async fn a_path_that_holds_something_else_is_left_alone() {
    type Make = fn(&Path);
    let make: [(&str, Make); 6] = [
        ("index.html", |path| fs::write(path.join("index.html"), "hello").unwrap()),
        ("current", |path| fs::create_dir_all(path.join("current/x")).unwrap()),
        ("current", |path| symlink("/srv/other", path.join("current")).unwrap()),
        ("releases", |path| fs::create_dir_all(path.join("releases/20240101")).unwrap()),
        ("releases", |path| symlink("/tmp", path.join("releases")).unwrap()),
        (".eeveon", |path| fs::create_dir_all(path.join(".eeveon/notes")).unwrap()),
    ];
    for (name, make) in make {
        let scene = Scene::new();
        fs::create_dir(scene.path()).unwrap();
        make(&scene.path());
        let before = tree(&scene.path());
        let release = scene.contents.release(1, PATHS);
        let ready = scene.host.ready(&permit(1), &scene.target, &release).await.unwrap_err();
        assert_eq!(ready.diagnosis().code(), "host/not-ours");
        assert!(ready.to_string().contains(name), "{ready}");
        assert_eq!(code(scene.host.ship(&permit(1), &scene.target, &release).await), "host/not-ours");
        assert_eq!(code(scene.host.purge(&permit(1)).await), "host/not-ours");
        assert_eq!(code(scene.host.sweep(&permit(1)).await), "host/not-ours");
        assert_eq!(tree(&scene.path()), before);
    }
}

#[tokio::test]
async fn a_path_that_is_no_folder_is_left_alone() {
    let scene = Scene::new();
    fs::write(scene.path(), "a file").unwrap();
    assert_eq!(code(scene.place(1, PATHS).await), "host/not-ours");
    assert_eq!(fs::read(scene.path()).unwrap(), b"a file");
}

#[tokio::test]
async fn what_an_operator_prepares_is_no_obstacle() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path().join("shared/storage")).unwrap();
    fs::create_dir_all(scene.path().join("lost+found")).unwrap();
    // Nor is what a first deploy that died left.
    fs::create_dir_all(scene.path().join("releases")).unwrap();
    fs::create_dir_all(scene.path().join(".eeveon/manifests")).unwrap();
    fs::write(scene.path().join(".eeveon/lock"), "").unwrap();
    fs::write(scene.path().join(".eeveon/target.json.new"), "{").unwrap();
    scene.deploy(1, PATHS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_looks_while_a_path_becomes_ours_sees_nothing_foreign() {
    for _ in 0..60 {
        let scene = Scene::new();
        let is_over = CancellationToken::new();
        let (host, target, over) = (scene.host.clone(), scene.target.clone(), is_over.clone());
        let looking = tokio::spawn(async move {
            while !over.is_cancelled() {
                host.serving(&target).await.unwrap();
            }
        });
        scene.place(1, PATHS).await.unwrap();
        is_over.cancel();
        looking.await.unwrap();
    }
}

#[tokio::test]
async fn two_homes_or_projects_never_share_a_path() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let before = scene.everything();
    type Change = fn(&mut HostOptions);
    let others: [(&str, Change); 2] = [
        ("host/other-home", |options| options.home_id = "home-2".into()),
        ("host/not-ours", |options| options.project = ProjectName::new("blog").unwrap()),
    ];
    for (expected, change) in others {
        let other = scene.again(change);
        let release = scene.contents.release(2, PATHS);
        assert_eq!(code(other.ready(&permit(9), &scene.target, &release).await), expected);
        assert_eq!(code(other.ship(&permit(9), &scene.target, &release).await), expected);
        assert_eq!(code(other.turn(&permit(9), &scene.target, None).await), expected);
        assert_eq!(code(other.serving(&scene.target).await), expected);
        assert_eq!(code(other.purge(&permit(9)).await), expected);
    }
    assert_eq!(scene.everything(), before);
    scene.deploy(2, PATHS).await;
}

#[tokio::test]
async fn a_link_that_is_not_ours_is_never_replaced() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let current = scene.host.current_path();
    fs::remove_file(&current).unwrap();
    symlink("/srv/other", &current).unwrap();
    assert_eq!(code(scene.host.serving(&scene.target).await), "host/current-not-ours");
    assert_eq!(code(scene.turn(1).await), "host/current-not-ours");
    assert_eq!(code(scene.place(2, PATHS).await), "host/current-not-ours");
    assert_eq!(fs::read_link(&current).unwrap(), Path::new("/srv/other"));
    fs::remove_file(&current).unwrap();
    fs::write(&current, "a file").unwrap();
    assert_eq!(code(scene.turn(1).await), "host/current-not-ours");
    assert_eq!(code(scene.place(2, PATHS).await), "host/not-ours");
    assert_eq!(fs::read(&current).unwrap(), b"a file");
}

#[tokio::test]
async fn a_release_that_was_taken_away_serves_nothing() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    fs::remove_dir_all(scene.release(1)).unwrap();
    assert_eq!(scene.serving().await, None);
    assert_eq!(code(scene.restore(1, PATHS).await), "host/release-missing");
    scene.deploy(2, PATHS).await;
    assert_eq!(scene.serving().await, Some(2));
}

#[tokio::test]
async fn paths_that_cannot_work_are_refused_at_once() {
    let scene = Scene::new();
    let options = |path: &str| HostOptions {
        path: path.into(),
        project: ProjectName::new("shop").unwrap(),
        home_id: "home-1".into(),
        shared_dirs: Vec::new(),
        shared_files: Vec::new(),
        commands_run: false,
        reserve_bytes: 0,
    };
    for path in ["shop", "", "./x", "/srv/../shop"] {
        let refused = eeveon_host::Host::new(options(path), scene.contents.clone()).unwrap_err();
        assert_eq!(eeveon_core::Diagnose::code(&refused), "host/bad-path", "{path}");
    }
    let shared = HostOptions { shared_dirs: vec!["../x".into()], ..options("/srv/shop") };
    let refused = eeveon_host::Host::new(shared, scene.contents.clone()).unwrap_err();
    assert_eq!(eeveon_core::Diagnose::code(&refused), "host/bad-shared");
}

#[tokio::test]
async fn a_path_nobody_can_write_to_is_named() {
    let scene = Scene::new();
    // Not even root can make anything here.
    let host = host_at(Path::new("/proc/eeveon/shop"), &scene.contents, |_| ());
    let release = scene.contents.release(1, PATHS);
    let shipped = host.ship(&permit(1), &target(), &release).await.unwrap_err();
    assert_eq!(shipped.diagnosis().code(), "host/not-writable");
    assert!(shipped.to_string().contains("/proc/eeveon/shop"), "{shipped}");
}

#[tokio::test]
async fn a_shared_name_of_the_wrong_kind_is_named() {
    let scene = Scene::with(|options| {
        options.shared_dirs = vec!["storage".into()];
    });
    fs::create_dir_all(scene.host.shared_path()).unwrap();
    fs::write(scene.host.shared_path().join("storage"), "").unwrap();
    assert_eq!(code(scene.place(1, PATHS).await), "host/shared-conflict");
}

#[tokio::test]
async fn too_little_room_is_found_out_beforehand() {
    let scene = Scene::with(|options| options.reserve_bytes = u64::MAX / 2);
    let error = scene.place(1, PATHS).await.unwrap_err();
    assert_eq!(error.diagnosis().code(), "host/disk-full");
    assert!(error.to_string().contains("needed") && error.to_string().contains("free"), "{error}");
    assert!(!scene.path().exists());
}

#[tokio::test]
async fn files_of_a_newer_version_are_left_alone() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let marker = scene.path().join(".eeveon/target.json");
    fs::write(&marker, r#"{"format": 2, "owner": ["home-1", "shop"]}"#).unwrap();
    assert_eq!(code(scene.place(2, PATHS).await), "host/newer-format");
    assert_eq!(code(scene.host.serving(&scene.target).await), "host/newer-format");
    fs::write(&marker, "").unwrap();
    assert_eq!(code(scene.place(2, PATHS).await), "host/damaged");
}

#[tokio::test]
async fn the_highest_fence_seen_is_told() {
    let scene = Scene::new();
    let seen = |host: &Host| host.fence().map_err(|error| error.code());
    assert_eq!(seen(&scene.host), Ok(Fence(0)), "there is no such path");
    fs::create_dir(scene.path()).unwrap();
    assert_eq!(seen(&scene.host), Ok(Fence(0)), "it is not ours yet");
    assert_eq!(fs::read_dir(scene.path()).unwrap().count(), 0, "asking changes nothing");
    scene.deploy(1, PATHS).await;
    for number in [1, 6, 7] {
        let permit = Permit::new(Fence(number), CancellationToken::new());
        scene.host.turn(&permit, &scene.target, None).await.unwrap();
        assert_eq!(seen(&scene.host), Ok(Fence(number)));
    }
    assert_eq!(seen(&scene.again(|options| options.home_id = "home-2".into())), Ok(Fence(0)));
    let other = |options: &mut HostOptions| options.project = ProjectName::new("blog").unwrap();
    assert_eq!(seen(&scene.again(other)), Ok(Fence(0)));
    fs::write(scene.path().join(".eeveon/fence"), "").unwrap();
    assert_eq!(seen(&scene.host), Err("host/damaged"));
}

#[tokio::test]
async fn one_half_of_the_fence_is_enough_and_none_is_not() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let fence = |fence| Permit::new(Fence(fence), CancellationToken::new());
    for number in 2..=5 {
        scene.host.turn(&fence(number), &scene.target, None).await.unwrap();
    }
    let path = scene.path().join(".eeveon/fence");
    let whole = fs::read(&path).unwrap();
    assert_eq!(whole.len(), 128, "it never grows");
    for half in [0..64, 64..128] {
        let mut torn = whole.clone();
        torn[half].fill(b'?');
        fs::write(&path, &torn).unwrap();
        assert_eq!(code(scene.host.turn(&fence(3), &scene.target, None).await), "host/fenced");
        scene.host.turn(&fence(5), &scene.target, None).await.unwrap();
    }
    for broken in [vec![b'?'; 128], Vec::new()] {
        fs::write(&path, broken).unwrap();
        assert_eq!(code(scene.host.turn(&fence(9), &scene.target, None).await), "host/damaged");
    }
}

#[tokio::test]
async fn a_cancelled_caller_does_not_wait_for_the_lock() {
    let scene = Scene::new();
    scene.deploy(1, PATHS).await;
    let lock = fs::File::open(scene.path().join(".eeveon/lock")).unwrap();
    lock.lock().unwrap();
    let cancelled = permit(1);
    cancelled.cancel.cancel();
    assert_eq!(code(scene.host.turn(&cancelled, &scene.target, None).await), "engine/cancelled");
    assert_eq!(scene.serving().await, Some(1));
}
