//! What keeps a project from being deployed before there is a deployment: told once, and not too soon.

use std::sync::Arc;

use eeveon_core::{CommitId, Trigger};
use eeveon_daemon::{Courier, Doing, Trouble};
use eeveon_notify::{NotStarted, Route, Serving};
use eeveon_store::LetterState;
use eeveon_testkit::store::{FailingStore, Loses, commit, failure, project, succeeded};

use crate::scene::{Mood, Scene, work};

fn trouble(scene: &Scene, doing: Doing, code: &str, commit: Option<CommitId>, may_pass: bool) -> Trouble {
    let mut failure = failure("bad");
    failure.code = code.to_owned();
    let what = NotStarted {
        project: project("shop"),
        actor: "engine".into(),
        trigger: Trigger::Poll,
        commit,
        failure,
        serving: Serving::Nothing,
        at: scene.now(),
    };
    Trouble { doing, may_pass, what }
}

async fn happens(scene: &Scene, courier: &Courier, trouble: Trouble) -> usize {
    courier.trouble(trouble).await.unwrap();
    work(courier).await;
    scene.later(1);
    scene.keys("a").len()
}

#[tokio::test]
async fn what_may_pass_is_told_when_it_lasts_and_then_once_until_it_is_over() {
    let scene = Scene::new().await;
    scene.channels(&[("a", Route::default())]);
    let courier = scene.courier();
    for _ in 0..2 {
        let mut told = Vec::new();
        let before = scene.keys("a").len();
        for _ in 0..6 {
            let down = trouble(&scene, Doing::Looking, "source/unreachable", None, true);
            told.push(happens(&scene, &courier, down).await - before);
        }
        assert_eq!(told, [0, 0, 1, 1, 1, 1]);
        courier.is_well(&project("shop"), Doing::Looking);
        // What is told again within ten minutes would be held back, to be folded.
        scene.later(600);
    }
    let sent = scene.sent().remove(0).message;
    assert!(sent.key.starts_with("shop-0-") && sent.key.ends_with("-not_started"), "{sent:?}");
    assert_eq!((sent.branch.as_str(), sent.link.as_deref()), ("main", Some("https://example.org")));
}

#[tokio::test]
async fn what_does_not_pass_is_told_at_once_for_each_code_and_commit() {
    let scene = Scene::new().await;
    scene.channels(&[("a", Route::default())]);
    let courier = scene.courier();
    let mut told = Vec::new();
    for (code, of) in [("a/b", 1), ("a/b", 1), ("a/b", 2), ("a/c", 2), ("a/b", 1), ("a/c", 2)] {
        let refused = trouble(&scene, Doing::Deploying, code, Some(commit(of)), false);
        told.push(happens(&scene, &courier, refused).await);
    }
    assert_eq!(told, [1, 1, 2, 3, 3, 3]);
    // Looks that go well say nothing about that.
    courier.is_well(&project("shop"), Doing::Looking);
    let again = trouble(&scene, Doing::Deploying, "a/b", Some(commit(1)), false);
    assert_eq!(happens(&scene, &courier, again).await, 3);
}

#[tokio::test]
async fn it_waits_its_turn_and_for_somebody_to_be_told() {
    let scene = Scene::new().await;
    scene.channels(&[("a", Route::default())]);
    let courier = scene.courier();
    scene.mood("a", Some(Mood::Down));
    scene.deployment("shop", succeeded()).await;
    let refused = |code| trouble(&scene, Doing::Deploying, code, None, false);
    assert_eq!(happens(&scene, &courier, refused("a/b")).await, 0);
    scene.mood("a", None);
    scene.unreadable(true);
    courier.trouble(refused("a/c")).await.unwrap();
    scene.unreadable(false);
    scene.later(60);
    work(&courier).await;
    let kinds: Vec<String> =
        scene.keys("a").iter().filter_map(|key| Some(key.rsplit_once('-')?.1.to_owned())).collect();
    assert_eq!(kinds, ["succeeded", "not_started", "not_started"]);
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
    // Whoever does not want to know is not told.
    scene.channels(&[("a", Route { levels: Vec::new(), events: Vec::new() })]);
    assert_eq!(happens(&scene, &courier, refused("a/d")).await, 3);
}

#[tokio::test]
async fn what_could_not_be_written_is_told_the_next_time() {
    for at in 1.. {
        let scene = Scene::new().await;
        scene.channels(&[("a", Route::default())]);
        let store = Arc::new(FailingStore::new(Arc::clone(&scene.store), at, Loses::Call));
        let courier = scene.courier_on(Arc::clone(&store) as _);
        let refused = || trouble(&scene, Doing::Deploying, "a/b", None, false);
        let failed = courier.trouble(refused()).await.is_err();
        assert_eq!(failed, store.struck().is_some());
        if !failed {
            break;
        }
        courier.trouble(refused()).await.unwrap();
        courier.trouble(refused()).await.unwrap();
        work(&courier).await;
        assert_eq!(scene.keys("a").len(), 1, "{:?}", store.struck());
    }
}
