//! Deployments that die, daemons that are killed, and daemons that end in good order.

use eeveon_core::Diagnose as _;
use eeveon_daemon::{Cancelled, DaemonError, End, Fate, News, Project, RequestId, Want};

use super::{
    timing::shut_for_ever,
    world::{Ending, GRACE, Scene, pass, simple},
};
use crate::common::{ask, cancel, commit, project, push};

/// Three projects, two of which may be deployed at the same time.
async fn three() -> Scene {
    three_in(Scene::empty(["a", "b", "c", "d"].map(simple))).await
}

async fn three_in(mut scene: Scene) -> Scene {
    scene.boot().await;
    for name in ["a", "b", "c"] {
        scene.handle().ask(push(name, 1, 0), None).await.unwrap();
    }
    pass(1).await;
    assert_eq!(scene.starts(), [1, 2]);
    scene
}

fn start(request: u64, project: &str, deaths: u8) -> (u64, String, Option<u64>, u8) {
    (request, project.to_owned(), Some(1), deaths)
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_death_of_one_deployment() {
    let scene = three().await;
    let mut follow = scene.handle().follow(RequestId(1)).await.unwrap();
    scene.end(1, Ending::Panic).await;
    scene.end(1, Ending::Panic).await;
    assert_eq!(scene.started()[2..], [start(1, "a", 1), start(1, "a", 2)]);
    scene.end(1, Ending::Panic).await;
    assert_eq!(scene.started()[4..], [start(3, "c", 0)]);
    let told: Vec<_> = std::iter::from_fn(|| follow.try_recv().ok()).collect();
    let set_aside = News::Ended(End { fate: Fate::SetAside { deaths: 3 }, done: None });
    assert_eq!(told.last(), Some(&set_aside), "{told:?}");
    assert!(scene.said().iter().any(|it| it.contains("request 1 is set aside")), "{:?}", scene.said());
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!(overview.aside, [(project("a"), RequestId(1))]);
    // What it left open is finished or taken back all the same.
    assert_eq!(scene.settled(), 2);

    for request in [2, 3] {
        scene.end(request, Ending::Live).await;
        assert!(scene.serves(if request == 2 { "b" } else { "c" }, 1));
    }
    let again = || scene.handle().ask(push("a", 1, 0), None);
    let refused = again().await.unwrap_err();
    assert!(matches!(refused, DaemonError::Refused(_)), "{}", refused.code());
    assert_eq!(scene.handle().lift(project("a")).await.unwrap(), 1);
    again().await.unwrap();
    pass(1).await;
    assert_eq!(scene.started()[5].1, "a");
}

#[tokio::test(start_paused = true)]
async fn after_a_kill_what_ran_runs_again_and_what_waited_waits() {
    let mut scene = three().await;
    scene.kill().await;
    scene.boot().await;
    assert_eq!(scene.started()[2..], [start(1, "a", 1), start(2, "b", 1)]);
    assert_eq!(scene.waiting().await, [3]);
    scene.end(1, Ending::Live).await;
    assert_eq!(scene.started()[4..], [start(3, "c", 0)]);
    // Each is counted by itself, and what died twice is alone, so that the third time is its own doing.
    scene.kill().await;
    scene.boot().await;
    assert_eq!(scene.started()[5..], [start(2, "b", 2)]);
    scene.kill().await;
    scene.boot().await;
    assert_eq!(scene.started()[6..], [start(3, "c", 1)]);
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!(overview.aside, [(project("b"), RequestId(2))]);
}

#[tokio::test(start_paused = true)]
async fn what_is_cancelled_when_its_daemon_dies_is_not_begun_again() {
    let scene = Scene::empty([simple("a"), simple("b"), simple("c")]);
    scene.be_stubborn();
    let mut scene = three_in(scene).await;
    scene.handle().cancel(cancel(1)).await.unwrap();
    scene.kill().await;
    scene.boot().await;
    assert_eq!(scene.starts()[2..], [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_waits_for_what_runs_and_begins_nothing() {
    let mut scene = three().await;
    scene.ask_to_end().await;
    scene.handle().ask(push("d", 1, 0), None).await.unwrap();
    scene.end(1, Ending::Live).await;
    pass(5).await;
    assert!(!scene.is_over());
    assert_eq!(scene.starts(), [1, 2]);
    scene.end(2, Ending::Live).await;
    scene.ended().await.unwrap();
    assert_eq!(scene.stopped(), [0; 0]);

    scene.boot().await;
    assert_eq!(scene.started()[2..], [start(3, "c", 0), start(4, "d", 0)]);
}

#[tokio::test(start_paused = true)]
async fn what_runs_too_long_is_taken_back_and_begun_again_by_the_next_daemon() {
    let mut scene = three().await;
    scene.ask_to_end().await;
    pass(GRACE.as_secs() - 1).await;
    assert_eq!(scene.stopped(), [0; 0]);
    let follow = scene.handle().wait(RequestId(1));
    let (told, ended) = tokio::join!(follow, async { scene.is_over() });
    assert!(!ended);
    assert_eq!(told.unwrap_err().code(), "daemon/ended", "it goes on under the next daemon");
    scene.ended().await.unwrap();
    assert_eq!(scene.stopped(), [1, 2]);
    assert_eq!(scene.said().iter().filter(|it| it.contains("time is over")).count(), 1);

    scene.boot().await;
    let mut begun = scene.started()[2..].to_vec();
    begun.sort();
    assert_eq!(begun, [start(1, "a", 0), start(2, "b", 0)]);
    assert_eq!(scene.waiting().await, [3]);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_cancelled_is_not_begun_again_by_the_next_daemon() {
    let mut scene = three().await;
    scene.ask_to_end().await;
    scene.handle().cancel(cancel(1)).await.unwrap();
    scene.ended().await.unwrap();
    scene.boot().await;
    assert_eq!(scene.starts()[2..], [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_listen_is_waited_for_and_told_once() {
    let mut scene = three().await;
    scene.be_stubborn();
    scene.handle().ask(ask("d", Want::commit_itself(commit(1))), None).await.unwrap();
    for request in [1, 2] {
        scene.end(request, Ending::Live).await;
    }
    scene.ask_to_end().await;
    pass(10 * GRACE.as_secs()).await;
    assert!(!scene.is_over());
    assert_eq!(scene.said().iter().filter(|it| it.contains("time is over")).count(), 1);
    for request in [3, 4] {
        scene.end(request, Ending::Live).await;
    }
    scene.ended().await.unwrap();
    scene.boot().await;
    assert_eq!(scene.starts(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_begins_again_after_an_orderly_end_whatever_is_shut() {
    let mut scene = Scene::with([Project { windows: shut_for_ever(), ..simple("a") }, simple("b")]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.ask_to_end().await;
    scene.ended().await.unwrap();
    scene.boot().await;
    assert!(!scene.is_over());
    assert_eq!(scene.waiting().await, [1]);
    scene.handle().ask(push("b", 1, 0), None).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [2]);
}

#[tokio::test(start_paused = true)]
async fn people_who_cannot_be_told_keep_no_daemon_from_its_end() {
    let mut scene = Scene::empty([simple("a")]);
    scene.be_mute();
    scene.boot().await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(300).await;
    scene.end(1, Ending::Live).await;
    let began = tokio::time::Instant::now();
    scene.ask_to_end().await;
    scene.ended().await.unwrap();
    assert!(began.elapsed().as_secs() <= 12, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn requests_are_taken_before_what_was_left_is_settled_and_carried_out_after() {
    let mut scene = three().await;
    scene.kill().await;
    scene.hold_settling();
    scene.boot().await;
    let (_, mut follow) = scene.handle().ask_and_follow(push("d", 1, 0)).await.unwrap();
    assert_eq!(scene.handle().cancel(cancel(2)).await.unwrap(), Cancelled::Cancelled);
    pass(60).await;
    assert_eq!(scene.starts(), [1, 2]);
    scene.release_settling().await;
    assert_eq!(scene.started()[2..], [start(1, "a", 1), start(3, "c", 0)]);
    scene.end(3, Ending::Live).await;
    assert_eq!(follow.recv().await, Some(News::Started));
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_settles_ends_when_that_is_done_or_its_time_is_over() {
    for is_done in [true, false] {
        let mut scene = three().await;
        scene.kill().await;
        scene.hold_settling();
        scene.boot().await;
        scene.ask_to_end().await;
        pass(GRACE.as_secs() / 2).await;
        assert!(!scene.is_over());
        if is_done {
            scene.release_settling().await;
        } else {
            pass(GRACE.as_secs()).await;
        }
        assert!(scene.is_over());
        scene.ended().await.unwrap();
        assert_eq!(scene.starts(), [1, 2]);
        if !is_done {
            scene.release_settling().await;
        }
        scene.boot().await;
        assert_eq!(scene.started()[2..], [start(1, "a", 0), start(2, "b", 0)]);
    }
}
