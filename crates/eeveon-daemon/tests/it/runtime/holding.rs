//! Projects that cannot be used for a while, are switched off, or are removed while requests of theirs
//! wait; and requests that cannot begin yet.

use eeveon_daemon::{Edge, End, Fate, Follow, News, Project, Want, end_of};

use super::{
    asking::delivery,
    world::{Ending, Scene, pass, simple},
};
use crate::common::{ask, commit, project, push, rollback};

/// More than the daemon needs to notice what changed in project files.
const NOTICED: u64 = 6;

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_project_that_cannot_be_used_waits_until_it_can() {
    let mut scene = Scene::with([simple("a"), simple("b")]).await;
    scene.spoil("a");
    pass(NOTICED).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.handle().ask(push("b", 1, 0), None).await.unwrap();
    pass(60).await;
    assert_eq!(scene.starts(), [2]);
    let overview = scene.handle().overview().await.unwrap();
    assert!(matches!(&overview.held[..], [(name, why)] if name.as_str() == "a" && why.contains("broken")));
    let said = || scene.said().iter().filter(|it| it.starts_with("a: it cannot be used")).count();
    assert_eq!(said(), 1, "{:?}", scene.said());
    scene.spoil("a");
    pass(NOTICED).await;
    assert_eq!(said(), 1, "it is told once");

    // So it is with a daemon that begins then, and with one that cannot tell which projects there are.
    scene.end(2, Ending::Live).await;
    for is_blind in [true, false] {
        scene.kill().await;
        scene.be_blind(is_blind);
        scene.boot().await;
        pass(60).await;
        assert_eq!((scene.starts(), scene.waiting().await), (vec![2], vec![1]));
    }
    scene.set([simple("a"), simple("b")]);
    pass(NOTICED).await;
    assert_eq!(scene.starts(), [2, 1]);
    assert_eq!(scene.said().last().map(String::as_str), Some("a: it can be used again"));
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_project_that_is_removed_is_dropped_and_told() {
    let mut scene = Scene::with([simple("a"), simple("b")]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    let (_, mut follow) = scene.handle().ask_and_follow(push("a", 2, 0)).await.unwrap();
    scene.set([simple("b")]);
    pass(NOTICED).await;
    assert_eq!(follow.recv().await, Some(News::Ended(End { fate: Fate::Cancelled, done: None })));
    scene.end(1, Ending::Live).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
    assert!(scene.said().iter().any(|it| it.starts_with("a: the project was removed")), "{:?}", scene.said());

    // Another one of its name begins anew, also when no daemon saw the first one go.
    scene.handle().ask(push("b", 1, 0), None).await.unwrap();
    scene.handle().ask(push("b", 2, 0), None).await.unwrap();
    scene.kill().await;
    scene.set([simple("a")]);
    scene.boot().await;
    scene.push("a", 2);
    pass(60).await;
    assert_eq!(scene.started().last().map(|it| (it.1.as_str(), it.2)), Some(("a", Some(2))));
    assert_eq!(scene.waiting().await, [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_begin_yet_waits_in_line_and_is_tried_again_less_and_less_often() {
    let scene = Scene::with([Project { watch: None, ..simple("a") }]).await;
    let (_, mut follow) = scene.handle().ask_and_follow(push("a", 1, 0)).await.unwrap();
    scene.end(1, Ending::NotNow).await;
    let held = scene.handle().overview().await.unwrap().held;
    assert!(matches!(&held[..], [(_, why)] if why.contains("tried again at")), "{held:?}");
    assert_eq!(scene.waiting().await, [1]);
    // A newer commit takes its place, and its turn.
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    pass(9).await;
    assert_eq!(scene.starts(), [1]);
    let mut pauses = Vec::new();
    for tries in 2..=8 {
        let began = tokio::time::Instant::now();
        while scene.starts().len() < tries {
            pass(1).await;
        }
        pauses.push(began.elapsed().as_secs() / 10);
        scene.end(2, Ending::NotNow).await;
    }
    assert_eq!(pauses, [0, 2, 4, 8, 16, 32, 60], "tens of seconds");
    pass(700).await;
    assert_eq!(scene.starts(), [1, 2, 2, 2, 2, 2, 2, 2, 2]);
    scene.end(2, Ending::NotNow).await;
    pass(7000).await;
    assert_eq!((scene.starts().len(), scene.waiting().await), (9, vec![]), "it is given up");
    let mut last = None;
    while let Ok(news) = follow.try_recv() {
        last = Some(news);
    }
    assert!(matches!(last, Some(News::Ended(End { fate: Fate::Ended, .. }))), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn who_asks_in_person_neither_waits_for_what_is_tried_again_nor_is() {
    let scene = Scene::with([Project { watch: None, ..simple("a") }]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.end(1, Ending::NotNow).await;
    let (_, mut follow) =
        scene.handle().ask_and_follow(ask("a", Want::commit_itself(commit(2)))).await.unwrap();
    pass(1).await;
    assert_eq!(scene.starts(), [1, 1]);
    scene.end(1, Ending::Live).await;
    scene.end(2, Ending::NotNow).await;
    while let Some(news) = follow.recv().await {
        if let News::Ended(end) = news {
            assert_eq!(end.fate, Fate::Ended);
        }
    }
    assert_eq!(scene.starts(), [1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_another_process_keeps_no_place_from_others() {
    let alone = |name| Project { watch: None, ..simple(name) };
    let mut scene = Scene::empty([alone("a"), alone("b")]);
    scene.limits.running = 1;
    scene.boot().await;
    scene.occupy("a");
    scene.handle().ask(rollback("a"), None).await.unwrap();
    scene.handle().ask(ask("a", Want::commit_itself(commit(1))), None).await.unwrap();
    scene.handle().ask(push("b", 1, 0), None).await.unwrap();
    pass(60).await;
    assert_eq!(scene.starts().last(), Some(&3), "{:?}", scene.starts());
    let paused = scene.handle().overview().await.unwrap().paused;
    assert!(matches!(&paused[..], [(_, why)] if why.contains("once that is over")), "{paused:?}");
    scene.end(3, Ending::Live).await;
    let before = scene.starts().len();
    pass(600).await;
    assert_eq!(scene.starts().len(), before, "nobody tries what cannot be");
    scene.vacate("a").await;
    assert_eq!(scene.starts()[before..], [1]);
    scene.end(1, Ending::Live).await;
    scene.end(2, Ending::Live).await;
    assert!(scene.serves("a", 1));
}

#[tokio::test(start_paused = true)]
async fn who_asks_in_person_waits_a_quarter_of_an_hour_for_another_process() {
    let scene = Scene::with([Project { watch: None, ..simple("a") }]).await;
    scene.occupy("a");
    let (_, mut follow) =
        scene.handle().ask_and_follow(ask("a", Want::commit_itself(commit(1)))).await.unwrap();
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    pass(899).await;
    assert_eq!((scene.starts(), scene.waiting().await), (vec![1], vec![1, 2]));
    pass(2).await;
    let mut last = None;
    while let Ok(news) = follow.try_recv() {
        last = Some(news);
    }
    let Some(News::Ended(End { fate: Fate::Ended, done: Some(done) })) = last else { panic!("{last:?}") };
    assert!(done.in_use && !done.went_live);
    // What nobody waits for goes on waiting.
    assert_eq!(scene.waiting().await, [2]);
    pass(20).await;
    scene.vacate("a").await;
    pass(20).await;
    scene.end(2, Ending::Live).await;
    assert!(scene.serves("a", 2));
}

#[tokio::test(start_paused = true)]
async fn a_delivery_is_seen_to_at_once_whatever_waits_to_be_tried_again() {
    let scene = Scene::with([Project { watch: None, ..simple("a") }]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    for _ in 0..5 {
        scene.end(1, Ending::NotNow).await;
        while scene.handle().overview().await.unwrap().running.is_empty() {
            pass(1).await;
        }
    }
    scene.end(1, Ending::NotNow).await;
    let before = scene.starts().len();
    scene.handle().ask(push("a", 2, 0), Some(delivery("a", "one"))).await.unwrap();
    pass(1).await;
    // The one that waited looks for the newest, too.
    assert_eq!((scene.starts().len(), scene.waiting().await), (before + 1, vec![2]));
}

#[tokio::test(start_paused = true)]
async fn a_project_that_goes_is_told_as_gone_and_one_that_comes_back_is_not_told() {
    let alone = |name| Project { watch: None, ..simple(name) };
    let scene = Scene::with([alone("a"), alone("b")]).await;
    scene.take_away("a");
    pass(NOTICED).await;
    assert_eq!(scene.said(), [""; 0]);
    scene.set([alone("a"), alone("b")]);
    pass(NOTICED).await;
    assert_eq!(scene.said(), [""; 0], "an editor writes a file anew");
    scene.take_away("a");
    pass(NOTICED).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    pass(NOTICED).await;
    assert_eq!(scene.starts(), [0; 0], "nothing of it begins meanwhile");
    scene.set([alone("b")]);
    pass(NOTICED).await;
    scene.set([]);
    pass(NOTICED).await;
    assert_eq!(
        scene.said(),
        ["a: the project was removed, and what waited for it is dropped", "b: the project was removed"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_a_project_that_is_removed_is_not_begun_again_for_its_successor() {
    for kill in [true, false] {
        let mut scene = Scene::with([simple("a"), simple("b")]).await;
        scene.handle().ask(push("a", 1, 0), None).await.unwrap();
        pass(1).await;
        scene.set([simple("b")]);
        pass(NOTICED).await;
        match kill {
            true => {
                scene.kill().await;
                scene.set([simple("a"), simple("b")]);
                scene.boot().await;
            }
            false => {
                scene.end(1, Ending::Panic).await;
                scene.set([simple("a"), simple("b")]);
            }
        }
        pass(60).await;
        assert_eq!((scene.starts(), scene.waiting().await), (vec![1], vec![]), "{kill}");
        let end = end_of(&*scene.store, eeveon_daemon::RequestId(1)).await.unwrap();
        assert_eq!(end, Some(End { fate: Fate::Cancelled, done: None }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_circle_is_told_once_until_it_changes() {
    let edge = |from: &str, to: &str| Edge {
        project: project(from),
        after: project(to),
        follow: Follow::AnySuccess,
    };
    let circle = |interval| {
        let watch = simple("a").watch.map(|it| eeveon_daemon::Watch { interval, ..it });
        [
            Project { after: vec![edge("a", "b")], watch, ..simple("a") },
            Project { after: vec![edge("b", "a")], ..simple("b") },
        ]
    };
    let scene = Scene::with(circle(std::time::Duration::from_secs(10))).await;
    scene.set(circle(std::time::Duration::from_secs(20)));
    pass(NOTICED).await;
    let told = || scene.said().iter().filter(|it| it.contains("wait for each other")).count();
    assert_eq!(told(), 1, "{:?}", scene.said());
    scene.set([simple("a"), simple("b")]);
    pass(NOTICED).await;
    scene.set(circle(std::time::Duration::from_secs(10)));
    pass(NOTICED).await;
    assert_eq!(told(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_turn_is_not_used_up_while_its_project_cannot_be_used() {
    let edge = Edge { project: project("b"), after: project("a"), follow: Follow::AnySuccess };
    let follower = Project { after: vec![edge], watch: None, ..simple("b") };
    let mut scene = Scene::with([simple("a"), follower.clone()]).await;
    scene.spoil("b");
    pass(NOTICED).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.end(1, Ending::Live).await;
    pass(60).await;
    assert_eq!(scene.starts(), [1]);
    // Also for a daemon that never saw it usable.
    scene.kill().await;
    scene.boot().await;
    pass(60).await;
    scene.set([simple("a"), follower]);
    pass(NOTICED).await;
    assert_eq!(scene.started()[1..], [(2, "b".to_owned(), None, 0)]);
}

#[tokio::test(start_paused = true)]
async fn who_is_switched_off_begins_nothing_that_waited_before_it_is_on_again() {
    let off = || Project { automatic: false, ..simple("a") };
    let mut scene = Scene::with([simple("a")]).await;
    scene.handle().ask(push("a", 1, 0), None).await.unwrap();
    scene.handle().ask(push("a", 2, 0), None).await.unwrap();
    scene.set([off()]);
    pass(NOTICED).await;
    scene.end(1, Ending::Live).await;
    scene.handle().ask(rollback("a"), None).await.unwrap();
    pass(60).await;
    assert_eq!(scene.starts(), [1, 3]);
    scene.end(3, Ending::Live).await;
    scene.kill().await;
    scene.boot().await;
    pass(60).await;
    assert_eq!((scene.starts(), scene.waiting().await), (vec![1, 3], vec![2]));
    scene.set([simple("a")]);
    pass(NOTICED).await;
    assert_eq!(scene.starts(), [1, 3, 2]);
}

#[tokio::test(start_paused = true)]
async fn who_is_switched_on_again_is_looked_for_also_when_only_deliveries_tell_of_news() {
    let heard = |automatic| Project { automatic, watch: None, ..simple("a") };
    let scene = Scene::with([heard(false)]).await;
    scene.push("a", 3);
    pass(60).await;
    assert_eq!((scene.starts(), scene.looks().len()), (vec![], 0));
    scene.set([heard(true)]);
    pass(NOTICED).await;
    assert_eq!(scene.started(), [(1, "a".to_owned(), None, 0)]);
    scene.end(1, Ending::Live).await;
    assert!(scene.serves("a", 3));
}
