//! Windows, freezes, schedules, and projects that wait for others. Tests begin at eight o'clock.

use std::time::Duration;

use eeveon_core::{DeploymentId, ReleaseNumber, Untrusted};
use eeveon_daemon::{
    Answer, Ask, Crossing, Edge, Follow, Freeze, Missed, News, Project, RequestId, Schedule, Seen,
    SpanConfig, Taken, Want, WindowConfig, Windows,
};

use super::world::{Ending, Scene, pass, simple};
use crate::common::{ask, commit, project, push, rollback, second};

/// Nothing may be deployed before five past eight.
fn shut() -> Project {
    let deny =
        SpanConfig { from: "08:00".parse().unwrap(), to: "08:05".parse().unwrap(), ..SpanConfig::default() };
    let windows = Windows::new(&WindowConfig { deny: vec![deny], ..WindowConfig::default() }).unwrap();
    Project { windows, ..simple("a") }
}

fn frozen(why: &str, until: Option<i64>) -> Windows {
    let mut windows = Windows::default();
    windows.set_freeze(Some(Freeze { reason: Untrusted::from(why), until: until.map(second) }));
    windows
}

pub(super) fn shut_for_ever() -> Windows {
    frozen("holidays", None)
}

fn urgent(want: Want) -> Ask {
    Ask { outside_window: true, ..ask("a", want) }
}

fn newest() -> Want {
    Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(0) }
}

/// Deploys at five past every hour.
fn hourly(name: &str, missed: Missed) -> Project {
    Project { schedules: vec![("5 * * * *".parse::<Schedule>().unwrap(), missed)], ..simple(name) }
}

fn after(name: &str, upstream: &str, follow: Follow) -> Project {
    Project { after: vec![Edge { project: project(name), after: project(upstream), follow }], ..simple(name) }
}

#[tokio::test(start_paused = true)]
async fn who_is_shut_out_waits_and_starts_at_the_edge() {
    let scene = Scene::with([shut(), simple("b")]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.handle().ask(push("b", 1, 0), None).await.unwrap();
    pass(298).await;
    assert_eq!(scene.starts(), [2]);
    let held = scene.handle().overview().await.unwrap().held;
    assert!(matches!(&held[..], [(name, why)] if name.as_str() == "a" && why.contains("denies")), "{held:?}");
    pass(3).await;
    assert_eq!(scene.starts(), [2, 1]);
    assert_eq!(scene.handle().overview().await.unwrap().held, []);
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_judged_by_the_clock_of_that_moment() {
    let scene = Scene::with([shut()]).await;
    scene.jump(600);
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [1]);
    scene.end(1, Ending::Live).await;
    scene.jump(-600);
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [1]);
    // Nobody asks, and it is noticed all the same.
    scene.jump(600);
    pass(11).await;
    assert_eq!(scene.starts(), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_would_not_be_done_in_time_waits_for_the_next_window() {
    let allow = |from: &str, to: &str| SpanConfig {
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        ..SpanConfig::default()
    };
    let config = WindowConfig {
        allow: vec![allow("08:00", "08:10"), allow("09:00", "09:10")],
        crossing: Crossing::FinishBefore,
        ..WindowConfig::default()
    };
    let windows = Windows::new(&config).unwrap();
    let expected = Duration::from_secs(300);
    let scene = Scene::with([Project { windows, expected, ..simple("a") }]).await;
    // No window ends here, but it would before the deployment does.
    pass(301).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(3290).await;
    assert_eq!(scene.starts(), [0; 0]);
    pass(10).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_is_exempt_starts_at_once_past_who_waits() {
    let scene = Scene::with([shut()]).await;
    let handle = scene.handle();
    handle.ask(push("a", 1, 0), None).await.unwrap();
    handle.ask(urgent(Want::commit_itself(commit(2))), None).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [2]);
    handle.ask(ask("a", Want::Rollback { to: Some(ReleaseNumber(1)) }), None).await.unwrap();
    scene.end(2, Ending::Live).await;
    assert_eq!(scene.starts(), [2, 3]);
    scene.end(3, Ending::Live).await;
    assert_eq!(scene.waiting().await, [1]);
    // Also for the very thing that waits.
    let taken = handle.ask(urgent(newest()), None).await.unwrap();
    let answer = Answer::Replaced { earlier: RequestId(1), position: 1 };
    assert_eq!(taken, Taken::Answered { request: RequestId(4), answer });
    pass(1).await;
    assert_eq!(scene.starts(), [2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn an_exemption_outlives_its_daemon_and_passes_to_what_takes_its_place() {
    let mut scene = Scene::with([shut()]).await;
    scene.handle().ask(urgent(newest()), None).await.unwrap();
    pass(1).await;
    // It would be held, if it had not taken the place of what was not.
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    scene.kill().await;
    scene.boot().await;
    assert_eq!(scene.starts().len(), 2);
    assert_eq!(scene.waiting().await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_freeze_holds_until_it_is_lifted_and_says_why() {
    let scene = Scene::with([simple("a")]).await;
    let handle = scene.handle();
    let held = async || handle.overview().await.unwrap().held;
    for (windows, why) in [(frozen("sales", None), "sales"), (frozen("audit", Some(120)), "audit")] {
        scene.set([Project { windows, ..simple("a") }]);
        handle.reload().await.unwrap();
        let held = held().await;
        assert!(matches!(&held[..], [(_, told)] if told.contains(why)), "{held:?}");
    }
    handle.ask(push("a", 1, 0), None).await.unwrap();
    pass(110).await;
    assert_eq!(scene.starts(), [0; 0]);
    scene.set([simple("a")]);
    handle.reload().await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [1]);
    assert_eq!(held().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_runs_once_at_each_of_its_times() {
    let mut scene = Scene::with([hourly("a", Missed::Once), hourly("b", Missed::Once)]).await;
    pass(295).await;
    assert_eq!(scene.starts(), [0; 0]);
    pass(10).await;
    assert_eq!(scene.started(), [(1, "a".to_owned(), None, 0), (2, "b".to_owned(), None, 0)]);
    for request in [1, 2] {
        scene.end(request, Ending::Live).await;
    }
    scene.kill().await;
    scene.boot().await;
    pass(3500).await;
    assert_eq!(scene.starts(), [1, 2]);
    pass(120).await;
    assert_eq!(scene.starts(), [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn what_was_missed_is_made_up_for_once_by_who_wants_it() {
    let mut scene = Scene::with([hourly("a", Missed::Once), hourly("b", Missed::Skip)]).await;
    // It saw its schedules, and nothing ever happened to it.
    scene.kill().await;
    pass(3 * 3600 + 1200).await;
    scene.boot().await;
    assert_eq!(scene.started(), [(1, "a".to_owned(), None, 0)]);
    scene.end(1, Ending::Live).await;
    pass(1200).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_automatic_keeps_to_no_schedule() {
    let scene = Scene::with([Project { automatic: false, ..hourly("a", Missed::Once) }]).await;
    pass(4000).await;
    scene.set([hourly("a", Missed::Once)]);
    // What passed meanwhile was not missed.
    pass(3000).await;
    assert_eq!(scene.starts(), [0; 0]);
    pass(600).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_follows_each_of_its_successes() {
    let scene = Scene::with([simple("a"), after("b", "a", Follow::AnySuccess)]).await;
    let handle = scene.handle();
    handle.ask(push("a", 1, 0), None).await.unwrap();
    scene.end(1, Ending::Failed).await;
    assert_eq!(scene.starts(), [1]);
    handle.ask(push("a", 2, 0), None).await.unwrap();
    scene.end(2, Ending::Live).await;
    assert_eq!(scene.started()[2..], [(3, "b".to_owned(), None, 0)]);
    // While it is busy, however much happens makes one turn.
    for (request, number) in [(4, 3), (5, 4)] {
        handle.ask(push("a", number, 0), None).await.unwrap();
        scene.end(request, Ending::Live).await;
    }
    assert_eq!(scene.starts(), [1, 2, 3, 4, 5]);
    scene.end(3, Ending::Live).await;
    assert_eq!(scene.started()[5..], [(6, "b".to_owned(), None, 0)]);
    scene.end(6, Ending::Live).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1, 2, 3, 4, 5, 6]);
}

#[tokio::test(start_paused = true)]
async fn who_goes_back_is_not_followed() {
    let scene = Scene::with([simple("a"), after("b", "a", Follow::AnySuccess)]).await;
    scene.handle().ask(rollback("a"), None).await.unwrap();
    scene.end(1, Ending::Live).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_turn_comes_also_after_deaths_and_when_there_was_no_room() {
    let mut scene = Scene::empty([simple("a"), after("b", "a", Follow::AnySuccess), simple("c")]);
    scene.limits = eeveon_daemon::Limits { running: 2, waiting: 2, waiting_per_project: 2 };
    scene.boot().await;
    let handle = scene.handle();
    handle.ask(push("b", 1, 0), None).await.unwrap();
    handle.ask(push("a", 1, 0), None).await.unwrap();
    scene.end(2, Ending::Live).await;
    for _ in 0..3 {
        scene.end(1, Ending::Panic).await;
    }
    // The turn it could not have while it ran.
    assert_eq!(scene.started()[4..], [(3, "b".to_owned(), None, 0)]);
    scene.end(3, Ending::Live).await;

    handle.ask(push("a", 2, 0), None).await.unwrap();
    handle.ask(push("c", 2, 0), None).await.unwrap();
    handle.ask(ask("c", Want::commit_itself(commit(9))), None).await.unwrap();
    scene.end(4, Ending::Live).await;
    assert_eq!(scene.started()[7..], [], "c waits for itself, and the queue is full");
    scene.end(5, Ending::Live).await;
    let started = scene.started()[7..].iter().map(|(_, name, ..)| name.clone()).collect::<Vec<_>>();
    assert_eq!(started, ["c", "b"]);
}

#[tokio::test(start_paused = true)]
async fn who_follows_the_same_commit_deploys_it_and_no_other() {
    let web = Project {
        after: [after("web", "api", Follow::SameCommit), after("web", "db", Follow::SameCommit)]
            .into_iter()
            .flat_map(|it| it.after)
            .collect(),
        ..simple("web")
    };
    let off = Project { automatic: false, ..after("off", "api", Follow::SameCommit) };
    let scene = Scene::with([simple("api"), simple("db"), web, off]).await;
    for (name, number) in [("api", 1), ("db", 2)] {
        scene.handle().ask(push(name, number, 0), None).await.unwrap();
    }
    scene.end(1, Ending::Live).await;
    scene.end(2, Ending::Live).await;
    assert_eq!(scene.starts(), [1, 2]);
    scene.handle().ask(push("db", 1, 0), None).await.unwrap();
    scene.end(3, Ending::Live).await;
    assert_eq!(scene.started()[3..], [(4, "web".to_owned(), Some(1), 0)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_led_does_not_go_ahead() {
    let mut scene = Scene::empty([simple("api"), after("web", "api", Follow::SameCommit)]);
    scene.push("web", 1);
    scene.boot().await;
    pass(60).await;
    assert_eq!(scene.starts(), [0; 0]);
    scene.handle().ask(push("api", 1, 0), None).await.unwrap();
    scene.end(1, Ending::Live).await;
    assert_eq!(scene.started()[1..], [(2, "web".to_owned(), Some(1), 0)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_found_to_serve_is_followed_once() {
    let scene = Scene::with([simple("a"), after("b", "a", Follow::AnySuccess)]).await;
    scene.serve("a", 1);
    scene.push("a", 1);
    pass(60).await;
    assert_eq!(scene.started(), [(1, "b".to_owned(), None, 0)]);
    scene.end(1, Ending::Live).await;
    // It is looked at as if for the first time, and nothing is new.
    for automatic in [false, true] {
        scene.set([Project { automatic, ..simple("a") }, after("b", "a", Follow::AnySuccess)]);
        pass(60).await;
    }
    assert_eq!(scene.starts(), [1]);
}

#[tokio::test(start_paused = true)]
async fn projects_that_wait_for_each_other_are_told_of_and_deployed_by_themselves() {
    let scene = Scene::with([after("a", "b", Follow::AnySuccess), after("b", "a", Follow::AnySuccess)]).await;
    assert!(scene.said().iter().any(|it| it.contains("a -> b -> a")), "{:?}", scene.said());
    let (_, mut follow) = scene.handle().ask_and_follow(push("a", 1, 0)).await.unwrap();
    scene.end(1, Ending::Live).await;
    assert_eq!(follow.recv().await, Some(News::Started));
    assert_eq!(follow.recv().await, Some(News::Opened(DeploymentId(1))));
    assert_eq!(scene.starts(), [1]);
}
