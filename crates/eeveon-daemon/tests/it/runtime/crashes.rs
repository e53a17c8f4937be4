//! A store that fails, and a daemon that dies, at each call it makes of its store: what was promised is
//! kept by the next daemon.

use std::sync::Arc;

use eeveon_core::Diagnose as _;
use eeveon_daemon::{DaemonError, Edge, Follow, Missed, Project, Schedule, Taken};
use eeveon_store::{Delivery, MemoryStore};
use eeveon_testkit::store::{FailingStore, Loses};

use super::world::{Scene, pass, simple};
use crate::common::{project, push, second};

/// More calls than the story makes.
const MOST: u64 = 200;

fn delivery() -> Delivery {
    Delivery {
        project: project("hooked"),
        provider: "forge".to_owned(),
        id: "one".to_owned(),
        received_at: second(0),
        accepted: true,
        why: "a push".to_owned(),
        ask: None,
        request: None,
    }
}

/// A project with a webhook, two that a schedule deploys at the same moment, one that waits for one of
/// those, and one that is only looked at.
fn world(store: Arc<dyn eeveon_store::Store>) -> Scene {
    let hourly = |name| Project {
        schedules: vec![("5 * * * *".parse::<Schedule>().unwrap(), Missed::Once)],
        ..simple(name)
    };
    let edge = Edge { project: project("later"), after: project("hourly"), follow: Follow::AnySuccess };
    let later = Project { after: vec![edge], ..simple("later") };
    let mut scene =
        Scene::empty([simple("hooked"), hourly("hourly"), hourly("too"), later, simple("looked")]);
    scene.store = store;
    for name in ["hooked", "hourly", "too", "later", "looked"] {
        // All but one serve what is newest already.
        scene.push(name, 1);
        if name != "looked" {
            scene.serve(name, 1);
        }
    }
    scene.be_easy();
    scene
}

/// A webhook after a minute, and time for everything else, unless the daemon ends. Returns what became of
/// the webhook.
async fn story(scene: &Scene) -> Result<Taken, DaemonError> {
    pass(60).await;
    scene.push("hooked", 2);
    let taken = scene.handle().ask(push("hooked", 2, 0), Some(delivery())).await;
    for _ in 0..80 {
        if !scene.is_over() {
            pass(5).await;
        }
    }
    taken
}

/// Says that all there is to do was done: what a delivery asked for only if that was taken.
async fn check(scene: &Scene, at: &str) {
    let started: Vec<String> = scene.started().into_iter().map(|(_, name, ..)| name).collect();
    let last = |name: &str| started.iter().rposition(|it| it == name);
    for name in ["hooked", "hourly", "later", "looked", "too"] {
        assert!(last(name).is_some(), "{at}: {name} is not in {started:?}");
    }
    assert!(last("later") > last("hourly"), "{at}: {started:?}");
    assert!(scene.serves("hooked", 2), "{at}");
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!([overview.waiting.len(), overview.running.len(), overview.aside.len()], [0; 3], "{at}");
}

#[tokio::test(start_paused = true)]
async fn without_a_failure_everything_happens_once() {
    let mut scene = world(Arc::new(MemoryStore::new()));
    scene.boot().await;
    story(&scene).await.unwrap();
    check(&scene, "never").await;
    // What is found to serve is a success others may follow, and so is what the schedule deploys.
    let mut started: Vec<String> = scene.started().into_iter().map(|(_, name, ..)| name).collect();
    started.sort();
    assert_eq!(started, ["hooked", "hourly", "later", "later", "looked", "too"]);
    assert!(scene.started().iter().all(|(.., deaths)| *deaths == 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_while_is_tried_again_and_nothing_is_lost() {
    let mut struck = Vec::new();
    for (call, loses, lasts) in
        (1..MOST).flat_map(|call| [(call, Loses::Call, 1), (call, Loses::Answer, 1), (call, Loses::Call, 20)])
    {
        let inner: Arc<dyn eeveon_store::Store> = Arc::new(MemoryStore::new());
        let failing = Arc::new(FailingStore::new(Arc::clone(&inner), call, loses).lasting(lasts));
        let mut scene = world(Arc::clone(&failing) as Arc<_>);
        let at = format!("call {call}, {loses:?}, {lasts} times");
        match scene.load().await {
            // Who cannot read what was left does not begin.
            Err(error) => {
                assert_eq!(error.code(), "daemon/store", "{at}");
                scene.store = inner;
                scene.boot().await;
                story(&scene).await.unwrap();
            }
            Ok(daemon) => {
                scene.live(daemon);
                let taken = story(&scene).await;
                let Some(method) = failing.struck() else { break };
                struck.push(method);
                assert!(!scene.is_over(), "{at}");
                if let Err(error) = taken {
                    assert_eq!(error.code(), "daemon/store", "{at}");
                    // As a forge does it.
                    let again = scene.handle().ask(push("hooked", 2, 0), Some(delivery())).await;
                    again.unwrap_or_else(|error| panic!("{at}: {error}"));
                    pass(60).await;
                }
                let said = scene.said();
                let count = |words: &str| said.iter().filter(|it| it.contains(words)).count();
                assert_eq!(count("cannot be saved"), count("can be saved again"), "{at}: {said:?}");
            }
        }
        check(&scene, &at).await;
        // What the next daemon finds is the same.
        scene.kill().await;
        scene.boot().await;
        pass(60).await;
        check(&scene, &at).await;
        scene.kill().await;
    }
    for method in ["take_delivery", "save_states"] {
        assert!(struck.contains(&method), "{method} never failed");
    }
}

#[tokio::test(start_paused = true)]
async fn who_cannot_save_takes_nothing_on_begins_nothing_and_ends_when_told_to() {
    let mut scene = Scene::empty([simple("a"), simple("b")]);
    let inner = Arc::clone(&scene.store);
    scene.boot().await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(1).await;
    scene.kill().await;
    // The disk is full from here on.
    scene.store = Arc::new(FailingStore::new(Arc::clone(&inner), 4, Loses::Call).lasting(u64::MAX / 2));
    scene.boot().await;
    assert_eq!(scene.starts(), [1], "it is not begun again before that is saved");
    let refused = scene.handle().ask(push("b", 1, 0), None).await.unwrap_err();
    assert_eq!(refused.code(), "daemon/store");
    let overview = scene.handle().overview().await.unwrap();
    assert!(overview.unsaved.is_some_and(|why| why.contains("told to fail")));
    assert_eq!(scene.said().iter().filter(|it| it.contains("cannot be saved")).count(), 1);
    pass(600).await;
    assert!(!scene.is_over());
    scene.ask_to_end().await;
    assert_eq!(scene.ended().await.unwrap_err().code(), "daemon/store");

    scene.store = inner;
    scene.boot().await;
    assert_eq!(scene.starts(), [1, 1]);
    assert_eq!(scene.waiting().await, [0; 0], "what was refused was not taken");
}

#[tokio::test(start_paused = true)]
async fn whoever_waited_for_a_success_learns_of_it_when_the_daemon_dies_over_it() {
    let alone = |name| Project { watch: None, ..simple(name) };
    let edge = Edge { project: project("later"), after: project("first"), follow: Follow::AnySuccess };
    let mut struck = Vec::new();
    for (call, loses) in (1..MOST).flat_map(|call| [(call, Loses::Call), (call, Loses::Answer)]) {
        let inner: Arc<dyn eeveon_store::Store> = Arc::new(MemoryStore::new());
        let deadly = Arc::new(FailingStore::deadly(Arc::clone(&inner), call, loses));
        let mut scene =
            Scene::empty([alone("first"), Project { after: vec![edge.clone()], ..alone("later") }]);
        scene.store = Arc::clone(&inner);
        scene.be_easy();
        scene.boot().await;
        scene.handle().ask(push("first", 1, 0), None).await.unwrap();
        scene.kill().await;

        scene.store = Arc::clone(&deadly) as Arc<_>;
        tokio::select! {
            () = async { scene.boot().await; pass(60).await } => {}
            () = deadly.died() => {}
        }
        let Some(method) = deadly.struck() else { break };
        struck.push(method);
        scene.kill_if_alive().await;
        scene.store = inner;
        scene.boot().await;
        pass(60).await;
        assert!(scene.serves("first", 1), "call {call}, {loses:?}");
        let last = scene.started().pop();
        assert_eq!(last.map(|(_, name, ..)| name), Some("later".to_owned()), "call {call}, {loses:?}");
        scene.kill().await;
    }
    assert!(struck.len() > 10, "{struck:?}");
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_dies_anywhere_leaves_nothing_undone() {
    let mut deaths = 0;
    for (call, loses) in (1..MOST).flat_map(|call| [(call, Loses::Call), (call, Loses::Answer)]) {
        let inner: Arc<dyn eeveon_store::Store> = Arc::new(MemoryStore::new());
        let deadly = Arc::new(FailingStore::deadly(Arc::clone(&inner), call, loses));
        let mut scene = world(Arc::clone(&deadly) as Arc<_>);
        let at = format!("call {call}, {loses:?}");
        let is_over = tokio::select! {
            daemon = scene.load() => {
                scene.live(daemon.unwrap());
                tokio::select! {
                    _ = story(&scene) => true,
                    () = deadly.died() => false,
                }
            }
            () = deadly.died() => false,
        };
        if is_over {
            break;
        }
        deaths += 1;
        scene.kill_if_alive().await;
        scene.store = inner;
        scene.boot().await;
        story(&scene).await.unwrap();
        check(&scene, &at).await;
        scene.kill().await;
    }
    assert!(deaths > 20, "{deaths}");
}
