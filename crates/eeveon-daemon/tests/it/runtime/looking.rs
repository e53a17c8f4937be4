//! Looks at repositories: what is found is asked for once, and nothing is overlooked.

use std::time::Duration;

use eeveon_core::{Diagnose as _, ReleaseNumber};
use eeveon_daemon::{Ask, Cancelled, DaemonError, Limits, Project, Seen, Want, Watch};

use super::world::{Ending, Scene, pass, simple};
use crate::common::{ask, cancel, commit, project, push};

/// Somebody asks for the newest commit, whatever it is.
fn newest(name: &str) -> Ask {
    ask(name, Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(0) })
}

/// A project whose first commit is being deployed.
async fn deploying() -> Scene {
    let mut scene = Scene::empty([simple("a")]);
    scene.push("a", 1);
    scene.boot().await;
    pass(20).await;
    assert_eq!(scene.started(), [(1, "a".to_owned(), Some(1), 0)]);
    scene
}

#[tokio::test(start_paused = true)]
async fn what_is_found_is_deployed_once() {
    let scene = deploying().await;
    scene.end(1, Ending::Live).await;
    pass(120).await;
    assert_eq!(scene.starts(), [1]);
    let looks = scene.looks();
    assert!(looks.len() > 8, "{looks:?}");
    assert_eq!(looks[0], (project("a"), None));
    assert_eq!(looks[looks.len() - 1], (project("a"), Some(commit(1))));
    scene.push("a", 2);
    pass(20).await;
    assert_eq!(scene.started()[1], (2, "a".to_owned(), Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn what_serves_is_not_asked_for() {
    let mut scene = Scene::empty([simple("a")]);
    scene.push("a", 1);
    scene.serve("a", 1);
    scene.boot().await;
    pass(60).await;
    assert_eq!(scene.starts(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_failed_is_asked_for_again_only_if_it_may_pass() {
    let scene = deploying().await;
    scene.end(1, Ending::Failed).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
    scene.push("a", 2);
    pass(20).await;
    scene.end(2, Ending::Later).await;
    pass(20).await;
    assert_eq!(scene.started()[1..], [(2, "a".to_owned(), Some(2), 0), (3, "a".to_owned(), Some(2), 0)]);
    scene.end(3, Ending::Failed).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_was_under_way_does_not_hide_what_may_pass() {
    let scene = deploying().await;
    scene.hold_looks();
    pass(20).await;
    scene.end(1, Ending::Later).await;
    // It was told that the commit is known, and did not find out whether it serves.
    scene.release_looks().await;
    pass(30).await;
    assert_eq!(scene.started()[1], (2, "a".to_owned(), Some(1), 0));
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_asked_for_is_not_asked_for_again() {
    for somebody in [push("a", 1, 0), newest("a")] {
        let scene = Scene::with([simple("a")]).await;
        scene.push("a", 1);
        scene.handle().ask(somebody, None).await.unwrap();
        scene.end(1, Ending::Failed).await;
        pass(60).await;
        assert_eq!(scene.starts(), [1]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_asked_for_and_may_pass_is_asked_for_again() {
    let scene = deploying().await;
    scene.end(1, Ending::Live).await;
    scene.push("a", 2);
    scene.handle().ask(newest("a"), None).await.unwrap();
    scene.end(2, Ending::Later).await;
    pass(20).await;
    assert_eq!(scene.started()[2], (3, "a".to_owned(), Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn a_look_that_answers_late_may_know_more_than_who_told_meanwhile() {
    let scene = deploying().await;
    scene.end(1, Ending::Live).await;
    scene.push("a", 3);
    scene.hold_looks();
    pass(20).await;
    // While the look is on its way somebody tells of an earlier commit, and that is being deployed.
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    assert_eq!(scene.started()[1], (2, "a".to_owned(), Some(2), 0));
    scene.release_looks().await;
    scene.end(2, Ending::Live).await;
    assert_eq!(scene.started()[2], (3, "a".to_owned(), Some(3), 0));
}

#[tokio::test(start_paused = true)]
async fn a_new_commit_does_not_wait_for_what_is_tried_again() {
    let scene = deploying().await;
    for pause in [10, 20] {
        scene.end(1, Ending::NotNow).await;
        pass(pause + 1).await;
    }
    scene.end(1, Ending::NotNow).await;
    assert_eq!((scene.starts(), scene.waiting().await), (vec![1, 1, 1], vec![1]));
    // The next try is forty seconds away.
    pass(20).await;
    assert_eq!(scene.starts().len(), 3);
    scene.push("a", 2);
    pass(12).await;
    assert_eq!(scene.started()[3].2, Some(2));
}

#[tokio::test(start_paused = true)]
async fn an_older_release_that_may_pass_is_no_reason_to_try_the_newest_again() {
    let scene = deploying().await;
    scene.end(1, Ending::Failed).await;
    scene.handle().ask(ask("a", Want::Rollback { to: Some(ReleaseNumber(1)) }), None).await.unwrap();
    scene.end(2, Ending::Later).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_cancelled_is_not_asked_for_again() {
    let scene = deploying().await;
    scene.push("a", 2);
    pass(20).await;
    assert_eq!(scene.waiting().await, [2]);
    assert_eq!(scene.handle().cancel(cancel(2)).await.unwrap(), Cancelled::Cancelled);
    scene.end(1, Ending::Live).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_was_stopped_is_not_asked_for_again_whatever_came_of_it() {
    let mut scene = Scene::empty([simple("a")]);
    scene.push("a", 1);
    scene.be_stubborn();
    scene.boot().await;
    pass(20).await;
    assert_eq!(scene.handle().cancel(cancel(1)).await.unwrap(), Cancelled::Cancelled);
    scene.end(1, Ending::Later).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_look_that_panics_harms_nobody() {
    let scene = Scene::with([simple("a")]).await;
    scene.push("a", 1);
    scene.break_looks(true);
    pass(60).await;
    assert_eq!(scene.said(), ["a: its repository cannot be seen: the look broke off"]);
    scene.break_looks(false);
    pass(120).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn what_the_queue_had_no_room_for_is_asked_for_later() {
    let mut scene = Scene::empty([simple("a"), simple("b"), simple("c")]);
    // A place that everybody may have, and one that is kept for rollbacks.
    scene.limits = Limits { running: 1, waiting: 2, waiting_per_project: 2 };
    scene.boot().await;
    for name in ["a", "b"] {
        scene.handle().ask(push(name, 1, 0), None).await.unwrap();
    }
    scene.push("c", 1);
    pass(60).await;
    assert_eq!(scene.waiting().await, [2]);
    scene.end(1, Ending::Live).await;
    scene.end(2, Ending::Live).await;
    pass(20).await;
    assert_eq!(scene.started()[2..].len(), 1);
    assert_eq!(scene.started()[2].1, "c");
}

#[tokio::test(start_paused = true)]
async fn a_repository_that_cannot_be_seen_is_told_of_once_and_so_is_its_return() {
    let scene = Scene::with([simple("a")]).await;
    scene.hide("a");
    pass(200).await;
    assert_eq!(scene.said(), ["a: its repository cannot be seen: it is down"]);
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!(overview.unseen, [(project("a"), "it is down".to_owned())]);
    // Other settings, and the plan of looks begins anew.
    let watch = Watch { interval: Duration::from_secs(20), host: "forge".to_owned() };
    scene.set([Project { watch: Some(watch), ..simple("a") }]);
    pass(60).await;
    assert_eq!(scene.said().len(), 1, "{:?}", scene.said());
    scene.push("a", 1);
    pass(120).await;
    assert_eq!(scene.said()[1..], ["a: its repository can be seen again"]);
    assert_eq!(scene.handle().overview().await.unwrap().unseen, []);
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_automatic_is_looked_at_and_left_alone() {
    let manual = || Project { automatic: false, ..simple("a") };
    let mut scene = Scene::empty([manual()]);
    scene.push("a", 1);
    scene.boot().await;
    pass(60).await;
    assert!(!scene.looks().is_empty());
    assert_eq!(scene.starts(), [0; 0]);
    // By hand it is deployed all the same.
    scene.handle().ask(newest("a"), None).await.unwrap();
    scene.end(1, Ending::Live).await;
    scene.push("a", 2);
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
    scene.set([simple("a")]);
    pass(60).await;
    assert_eq!(scene.started()[1], (2, "a".to_owned(), Some(2), 0));
}

#[tokio::test(start_paused = true)]
async fn who_is_not_watched_is_not_looked_at() {
    let mut scene = Scene::empty([simple("a"), Project { watch: None, ..simple("b") }]);
    scene.push("b", 1);
    scene.boot().await;
    pass(60).await;
    assert!(scene.looks().iter().all(|(name, _)| *name == project("a")));
    assert_eq!(scene.handle().overview().await.unwrap().unseen.len(), 1);
    scene.set([Project { watch: None, ..simple("a") }, simple("b")]);
    pass(60).await;
    assert_eq!(scene.handle().overview().await.unwrap().unseen, []);
    let looks = scene.looks().len();
    assert_eq!(scene.started(), [(1, "b".to_owned(), Some(1), 0)]);
    pass(60).await;
    assert!(scene.looks()[looks..].iter().all(|(name, _)| *name == project("b")));
}

#[tokio::test(start_paused = true)]
async fn another_branch_is_looked_at_anew() {
    let scene = deploying().await;
    scene.end(1, Ending::Failed).await;
    scene.set([Project { branch: "next".to_owned(), ..simple("a") }]);
    pass(60).await;
    assert_eq!(scene.started()[1], (2, "a".to_owned(), Some(1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_project_that_is_removed_is_forgotten() {
    let mut scene = deploying().await;
    scene.end(1, Ending::Failed).await;
    let shut = Project { windows: super::timing::shut_for_ever(), ..simple("a") };
    scene.set([shut]);
    scene.handle().reload().await.unwrap();
    scene.handle().ask(newest("a"), None).await.unwrap();
    scene.hide("a");
    pass(20).await;
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!([overview.projects, overview.held.len(), overview.unseen.len()], [1, 1, 1]);
    scene.set([]);
    scene.handle().reload().await.unwrap();
    let overview = scene.handle().overview().await.unwrap();
    assert_eq!([overview.projects, overview.held.len(), overview.unseen.len()], [0, 0, 0]);
    assert_eq!(scene.waiting().await, [0; 0]);
    let looks = scene.looks().len();
    pass(60).await;
    assert_eq!(scene.looks().len(), looks);

    // Whoever comes under its name later is looked at as if nobody had been there, also when it went and
    // came while no daemon worked.
    scene.push("a", 1);
    scene.set([simple("a")]);
    pass(60).await;
    assert_eq!(scene.starts(), [1, 3]);
    scene.end(3, Ending::Failed).await;
    for projects in [Vec::new(), vec![simple("a")]] {
        scene.kill().await;
        scene.set(projects);
        scene.boot().await;
        pass(60).await;
    }
    assert_eq!(scene.starts(), [1, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn who_was_set_aside_is_not_asked_for_by_a_look() {
    let scene = deploying().await;
    for _ in 0..3 {
        scene.end(1, Ending::Panic).await;
    }
    pass(60).await;
    assert_eq!(scene.starts(), [1, 1, 1]);
    let refused = scene.handle().ask(push("a", 1, 0), None).await.unwrap_err();
    assert!(matches!(&refused, DaemonError::Refused(_)), "{refused}");
    assert_eq!(refused.code(), "daemon/refused");
    assert_eq!(scene.handle().lift(project("a")).await.unwrap(), 1);
    assert_eq!(scene.handle().lift(project("a")).await.unwrap(), 0);
    pass(20).await;
    assert_eq!(scene.started()[3].2, Some(1));
}
