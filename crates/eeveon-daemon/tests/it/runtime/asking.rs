//! Asking a daemon, and following what becomes of it.

use eeveon_core::DeploymentId;
use eeveon_daemon::{
    Answer, Ask, Cancel, Cancelled, End, Fate, Limits, News, RequestId, Taken, Want, end_of,
};
use eeveon_store::Delivery;
use futures::FutureExt as _;
use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::world::{Ending, Scene, code, pass, simple};
use crate::common::{ask, cancel, commit, project, push, second};

fn exact(name: &str, number: u64) -> Ask {
    ask(name, Want::commit_itself(commit(number)))
}

/// Returns what came so far; a daemon that hung up is not still there.
fn news(follow: &mut Receiver<News>) -> Vec<News> {
    let mut all = Vec::new();
    loop {
        match follow.try_recv() {
            Ok(news) => all.push(news),
            Err(TryRecvError::Empty) => return all,
            Err(TryRecvError::Disconnected) => {
                assert!(matches!(all.last(), Some(News::Ended(_))), "{all:?}");
                return all;
            }
        }
    }
}

fn opened(deployment: u64) -> News {
    News::Opened(DeploymentId(deployment))
}

/// The end of what went live, as a follower hears it.
fn went_live(news: &News) -> bool {
    let News::Ended(End { fate: Fate::Ended, done: Some(done) }) = news else { return false };
    done.went_live
}

fn answered(taken: Taken) -> Answer {
    match taken {
        Taken::Answered { answer, .. } => answer,
        Taken::Repeated => panic!("it did not come before"),
    }
}

pub(super) fn delivery(name: &str, id: &str) -> Delivery {
    Delivery {
        project: project(name),
        provider: "forge".to_owned(),
        id: id.to_owned(),
        received_at: second(0),
        accepted: true,
        why: "a push".to_owned(),
        ask: None,
        request: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_followed_from_its_start_to_its_end() {
    let scene = Scene::with([simple("a")]).await;
    let (taken, mut follow) = scene.handle().ask_and_follow(push("a", 1, 0)).await.unwrap();
    assert_eq!(answered(taken), Answer::Queued { position: 1 });
    pass(1).await;
    assert_eq!(news(&mut follow), [News::Started, opened(1)]);
    scene.end(1, Ending::Live).await;
    let rest = news(&mut follow);
    assert!(matches!(&rest[..], [end] if went_live(end)), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_brought_together_with_others_follows_those() {
    let mut scene = Scene::empty([simple("a"), simple("b")]);
    scene.limits = Limits { running: 1, ..Limits::default() };
    scene.boot().await;
    let handle = scene.handle();
    let (_, mut running) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    pass(1).await;
    let (taken, mut with_running) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    assert_eq!(answered(taken), Answer::Coalesced { into: RequestId(1), commit: Some(commit(1)) });
    handle.ask(push("b", 1, 0), None).await.unwrap();
    let (taken, mut with_waiting) = handle.ask_and_follow(push("b", 1, 0)).await.unwrap();
    assert_eq!(answered(taken), Answer::Coalesced { into: RequestId(3), commit: Some(commit(1)) });
    assert_eq!(news(&mut with_waiting), []);
    scene.end(1, Ending::Live).await;
    for follow in [&mut running, &mut with_running] {
        let all = news(follow);
        assert_eq!(all[..2], [News::Started, opened(1)]);
        assert!(matches!(&all[2..], [end] if went_live(end)), "{all:?}");
    }
    scene.end(3, Ending::Live).await;
    let all = news(&mut with_waiting);
    assert_eq!(all[..2], [News::Started, opened(2)]);
    assert!(matches!(&all[2..], [end] if went_live(end)), "{all:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_replaced_follows_what_took_the_place() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    handle.ask(exact("a", 9), None).await.unwrap();
    let (_, mut follow) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    handle.ask(push("a", 2, 0), None).await.unwrap();
    handle.ask(push("a", 3, 0), None).await.unwrap();
    let by = |request| News::Replaced { by: RequestId(request) };
    assert_eq!(news(&mut follow), [by(3), by(4)]);
    scene.end(1, Ending::Live).await;
    assert_eq!(news(&mut follow), [News::Started, opened(2)]);
    scene.end(4, Ending::Live).await;
    assert!(went_live(&news(&mut follow)[0]));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_request() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    handle.ask(push("a", 1, 0), None).await.unwrap();
    let waiter = tokio::spawn({
        let handle = handle.clone();
        async move { handle.wait(RequestId(1)).await }
    });
    pass(1).await;
    assert!(!waiter.is_finished());
    scene.end(1, Ending::Live).await;
    assert!(went_live(&News::Ended(waiter.await.unwrap().unwrap())));
    // Nothing more is known of what was over before, or never was.
    for over in [1, 77] {
        let end = handle.wait(RequestId(over)).await.unwrap();
        assert_eq!(end, End { fate: Fate::Ended, done: None });
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_cancelled_and_what_runs_is_stopped() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    let (_, mut running) = handle.ask_and_follow(exact("a", 1)).await.unwrap();
    let (_, mut waiting) = handle.ask_and_follow(exact("a", 2)).await.unwrap();
    pass(1).await;
    assert_eq!(handle.cancel(cancel(2)).await.unwrap(), Cancelled::Cancelled);
    assert_eq!(news(&mut waiting), [News::Ended(End { fate: Fate::Cancelled, done: None })]);
    assert_eq!(scene.stopped(), [0; 0]);
    assert_eq!(handle.cancel(cancel(1)).await.unwrap(), Cancelled::Cancelled);
    pass(1).await;
    assert_eq!(scene.stopped(), [1]);
    let all = news(&mut running);
    assert!(matches!(&all[2..], [News::Ended(End { fate: Fate::Ended, .. })]), "{all:?}");
    for over in [1, 2, 77] {
        assert_eq!(handle.cancel(cancel(over)).await.unwrap(), Cancelled::Unknown);
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_taken_once_whoever_dies() {
    let mut scene = Scene::with([simple("a")]).await;
    let deliver =
        async |scene: &Scene| scene.handle().ask(push("a", 1, 0), Some(delivery("a", "one"))).await.unwrap();
    assert_eq!(answered(deliver(&scene).await), Answer::Queued { position: 1 });
    assert_eq!(deliver(&scene).await, Taken::Repeated);
    scene.kill().await;
    scene.boot().await;
    assert_eq!(deliver(&scene).await, Taken::Repeated);
    scene.end(1, Ending::Live).await;
    assert_eq!(deliver(&scene).await, Taken::Repeated);
    pass(60).await;
    assert_eq!(scene.starts(), [1, 1], "begun, and begun again");
    assert_eq!(
        scene.store.deliveries(&project("a"), 9).await.unwrap(),
        [Delivery { request: Some(1), ..delivery("a", "one") }]
    );
}

#[tokio::test(start_paused = true)]
async fn a_delivery_that_is_refused_counts_when_it_comes_again() {
    let mut scene = Scene::empty([simple("a")]);
    scene.limits = Limits { running: 1, waiting: 9, waiting_per_project: 1 };
    scene.boot().await;
    for number in [1, 2] {
        scene.handle().ask(exact("a", number), None).await.unwrap();
    }
    let deliver = || scene.handle().ask(push("a", 3, 0), Some(delivery("a", "one")));
    assert_eq!(code(deliver().await), "daemon/refused");
    assert_eq!(scene.store.deliveries(&project("a"), 9).await.unwrap(), []);
    scene.end(1, Ending::Live).await;
    assert_eq!(answered(deliver().await.unwrap()), Answer::Queued { position: 1 });
}

#[tokio::test(start_paused = true)]
async fn nothing_is_taken_from_whoever_does_not_wait_for_the_answer() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    assert!(handle.ask(push("a", 1, 0), Some(delivery("a", "one"))).now_or_never().is_none());
    pass(1).await;
    assert_eq!(scene.starts(), [0; 0]);
    assert_eq!(scene.store.deliveries(&project("a"), 9).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_listen_holds_nobody_up() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    let (_, follow) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    drop(follow);
    let (_, mut deaf) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    scene.end(1, Ending::Live).await;
    handle.ask(push("a", 2, 0), None).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [1, 3]);
    assert_eq!(news(&mut deaf).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_is_no_more_says_so() {
    let mut scene = Scene::with([simple("a")]).await;
    let handle = scene.handle().clone();
    let (_, mut follow) = handle.ask_and_follow(push("a", 1, 0)).await.unwrap();
    let waiter = tokio::spawn({
        let handle = handle.clone();
        async move { handle.wait(RequestId(1)).await }
    });
    pass(1).await;
    scene.kill().await;
    assert_eq!(follow.recv().await, Some(News::Started));
    assert_eq!(follow.recv().await, Some(opened(1)));
    assert_eq!(follow.recv().await, None);
    assert_eq!(code(waiter.await.unwrap()), "daemon/ended");
    assert_eq!(code(handle.ask(push("a", 1, 0), None).await), "daemon/ended");
    assert_eq!(code(handle.cancel(cancel(1)).await), "daemon/ended");
    assert_eq!(code(handle.lift(project("a")).await), "daemon/ended");
    assert_eq!(code(handle.reload().await), "daemon/ended");
    assert_eq!(code(handle.overview().await), "daemon/ended");
}

#[tokio::test(start_paused = true)]
async fn what_others_want_too_goes_on_when_one_leaves() {
    let scene = Scene::with([simple("a"), simple("b")]).await;
    let handle = scene.handle();
    let leave = |request| handle.cancel(Cancel { unless_shared: true, ..cancel(request) });
    // Alone.
    handle.ask(push("a", 1, 0), None).await.unwrap();
    assert_eq!(leave(1).await.unwrap(), Cancelled::Cancelled);
    pass(1).await;
    // Somebody joins what runs, or takes the place of what waited.
    handle.ask(push("a", 2, 0), None).await.unwrap();
    handle.ask(push("a", 2, 0), None).await.unwrap();
    assert_eq!(leave(2).await.unwrap(), Cancelled::Shared);
    handle.ask(push("a", 3, 0), None).await.unwrap();
    handle.ask(push("a", 4, 0), None).await.unwrap();
    assert_eq!(scene.waiting().await, [5]);
    assert_eq!(leave(5).await.unwrap(), Cancelled::Shared);
    assert_eq!(leave(4).await.unwrap(), Cancelled::Unknown);
    // Whoever says that it is for all is heard.
    assert_eq!(handle.cancel(cancel(5)).await.unwrap(), Cancelled::Cancelled);
    scene.end(2, Ending::Live).await;
    assert_eq!(scene.starts(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_cancelled_what_runs_is_on_record() {
    let scene = Scene::with([simple("a")]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(1).await;
    let why = Some("wrong one".to_owned());
    scene.handle().cancel(Cancel { why, ..cancel(1) }).await.unwrap();
    let said = scene.store.cancel_requested(DeploymentId(1)).await.unwrap().unwrap();
    assert_eq!((said.by, said.reason.as_deref()), (cancel(1).by, Some("wrong one")));
    assert_eq!(scene.stopped(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_came_of_a_delivery_can_be_found() {
    let mut scene = Scene::with([simple("a")]).await;
    for (id, number) in [("one", 1), ("two", 2), ("three", 3), ("four", 3)] {
        scene.handle().ask(push("a", number, 0), Some(delivery("a", id))).await.unwrap();
    }
    let store = scene.store.clone();
    let requests = || async {
        let deliveries = store.deliveries(&project("a"), 10).await.unwrap();
        let mut requests: Vec<_> = deliveries.into_iter().map(|it| (it.id, it.request.unwrap())).collect();
        requests.sort();
        requests
    };
    let named = [("four", 3), ("one", 1), ("three", 3), ("two", 2)];
    assert_eq!(requests().await, named.map(|(id, request)| (id.to_owned(), request)));
    scene.end(1, Ending::Live).await;
    scene.kill().await;
    let end = |request| {
        let store = store.clone();
        async move { end_of(&*store, RequestId(request)).await.unwrap() }
    };
    let first = end(1).await.unwrap();
    assert_eq!((first.fate, first.done.and_then(|it| it.deployment)), (Fate::Ended, Some(DeploymentId(1))));
    assert_eq!(end(2).await.map(|it| it.fate), Some(Fate::Replaced { by: RequestId(3) }));
    assert_eq!(end(3).await, None, "it is not over");
    assert_eq!(end(1001).await, None, "another one");
}
