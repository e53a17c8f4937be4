//! Whatever happens in whatever order: what is present, what serves and what it contains is what a
//! simple model says.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use eeveon_core::{Deployer, FileKind, Removal};
use proptest::prelude::*;

use crate::common::{EXECUTABLE, FILE, LINK, Scene, expected, tree};

#[derive(Clone, Debug)]
enum Step {
    Ship { number: u64, commit: usize },
    Seal { number: u64 },
    Turn { number: u64 },
    Restore { number: u64 },
    Remove { number: u64, aside: bool },
    Scribble { number: u64, file: usize, how: u8 },
    LoseLedger,
}

fn step() -> impl Strategy<Value = Step> {
    let number = 1..5_u64;
    prop_oneof![
        4 => (number.clone(), 0..4_usize).prop_map(|(number, commit)| Step::Ship { number, commit }),
        4 => number.clone().prop_map(|number| Step::Seal { number }),
        3 => number.clone().prop_map(|number| Step::Turn { number }),
        2 => number.clone().prop_map(|number| Step::Restore { number }),
        1 => (number.clone(), any::<bool>()).prop_map(|(number, aside)| Step::Remove { number, aside }),
        3 => (number, 0..6_usize, 0..5_u8).prop_map(|(number, file, how)| Step::Scribble { number, file, how }),
        1 => Just(Step::LoseLedger),
    ]
}

type Tree = Vec<(&'static [u8], FileKind, &'static [u8])>;

fn commits() -> Vec<Tree> {
    vec![
        vec![(b"a", FILE, b"1"), (b"b/c", FILE, b"2"), (b"b/d", EXECUTABLE, b"3"), (b"l", LINK, b"b/c")],
        vec![(b"a", FILE, b"1"), (b"b/c", FILE, b"4"), (b"b/d", FILE, b"3"), (b"l", LINK, b"b/d")],
        vec![(b"a/x", FILE, b"2"), (b"b", FILE, b"1"), (b"l", FILE, b"b/c")],
        vec![(b"a", FILE, b"1"), (b"b/c", FILE, b"2"), (b"b/e", EXECUTABLE, b"3")],
    ]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Status {
    Shipped,
    Sealed,
    Failed,
}

async fn run(steps: Vec<Step>) {
    let scene = Scene::new();
    let commits = commits();
    let mut model: BTreeMap<u64, (Status, usize)> = BTreeMap::new();
    let mut live = None;
    for step in steps {
        match step {
            Step::Ship { number, commit } => {
                let done = scene.ship(number, &commits[commit]).await.is_ok();
                match model.get(&number) {
                    Some((Status::Failed, _)) => {
                        // A number is never used again by the engine; what is set aside stays.
                        if done {
                            scene.remove(number, Removal::Discard).await.unwrap();
                            model.remove(&number);
                        }
                    }
                    Some((_, of)) => assert_eq!(done, *of == commit),
                    None => {
                        assert!(done);
                        model.insert(number, (Status::Shipped, commit));
                    }
                }
            }
            Step::Seal { number } => {
                let commit = model.get(&number).map_or(0, |(_, commit)| *commit);
                let release = scene.contents.release(number, &commits[commit]);
                let permit = eeveon_testkit::deployer::permit(1);
                let done = scene.host.seal(&permit, &scene.target, &release).await.is_ok();
                let there = model.get_mut(&number).filter(|it| it.0 != Status::Failed);
                assert_eq!(done, there.is_some());
                if let Some(it) = there {
                    it.0 = Status::Sealed;
                }
            }
            Step::Turn { number } => {
                let can = model.get(&number).is_some_and(|it| it.0 == Status::Sealed);
                assert_eq!(scene.turn(number).await.is_ok(), can);
                if can {
                    live = Some(number);
                }
            }
            Step::Restore { number } => {
                let commit = model.get(&number).map_or(0, |(_, commit)| *commit);
                let can = model.get(&number).is_some_and(|it| it.0 == Status::Sealed);
                assert_eq!(scene.restore(number, &commits[commit]).await.is_ok(), can);
                if can {
                    assert_eq!(tree(&scene.release(number)), expected(&scene.contents, &commits[commit]));
                }
            }
            Step::Remove { number, aside } => {
                let how = if aside { Removal::SetAside } else { Removal::Discard };
                assert_eq!(scene.remove(number, how).await.is_ok(), live != Some(number));
                match (live == Some(number), aside, model.get_mut(&number)) {
                    (false, true, Some(it)) => it.0 = Status::Failed,
                    (false, false, _) => drop(model.remove(&number)),
                    _ => {}
                }
            }
            Step::Scribble { number, file, how } => {
                // Before it is sealed a release is nobody's but ours.
                if let Some((Status::Sealed, commit)) = model.get(&number)
                    && let Some((path, _, _)) = commits[*commit].get(file)
                {
                    let path = scene.release(number).join(std::str::from_utf8(path).unwrap());
                    scribble(&path, how);
                }
            }
            Step::LoseLedger => drop(fs::remove_file(scene.path().join(".eeveon/ledger"))),
        }
        let present = scene.host.present(&scene.target).await.unwrap();
        let present: Vec<_> = present.iter().map(|it| (it.release.0, it.usable)).collect();
        let should: Vec<_> = model.iter().map(|(number, it)| (*number, it.0 == Status::Sealed)).collect();
        assert_eq!(present, should);
        assert_eq!(scene.serving().await, live);
    }
    // All can be had back, and having one back harms no other.
    let sealed: Vec<_> = model.into_iter().filter(|(_, it)| it.0 == Status::Sealed).collect();
    for (number, (_, commit)) in &sealed {
        scene.restore(*number, &commits[*commit]).await.unwrap();
    }
    for (number, (_, commit)) in &sealed {
        assert_eq!(tree(&scene.release(*number)), expected(&scene.contents, &commits[*commit]));
    }
}

fn scribble(path: &std::path::Path, how: u8) {
    let is_file = path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    match how {
        0 if is_file => fs::write(path, "scribbled").unwrap(),
        1 if is_file => {
            let modified = fs::metadata(path).unwrap().modified().unwrap();
            fs::write(path, "?").unwrap();
            fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        }
        2 if is_file => fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap(),
        3 if is_file || path.is_symlink() => fs::remove_file(path).unwrap(),
        4 if is_file => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_agrees_with_the_model(steps in proptest::collection::vec(step(), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(run(steps));
    }
}
