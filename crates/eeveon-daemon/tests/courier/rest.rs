//! A channel that asked to be left alone, or failed, is left alone: whatever waits for it.

use std::time::Duration;

use eeveon_core::Fence;
use eeveon_daemon::WaitsFor;
use eeveon_notify::Route;
use eeveon_store::{Acquired, LetterState, Owner, take_over};
use eeveon_testkit::store::{failure, project, reverted, succeeded};
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::scene::{Mood, Scene, work};

fn failed() -> eeveon_core::Record {
    reverted(Some(failure("bad")), false)
}

#[tokio::test]
async fn nothing_is_asked_of_it_before_its_time_whatever_waits() {
    let scene = Scene::new().await;
    scene.channels(&[("a", Route::default()), ("b", Route::default())]);
    scene.mood("b", Some(Mood::Throttling(60)));
    scene.deployment("shop", failed()).await;
    let courier = scene.courier();
    work(&courier).await;
    assert_eq!(scene.asked("b"), 1);
    scene.mood("b", None);
    // A burst: what was throttled is folded into the newest of its kind, and others come before that.
    for _ in 0..4 {
        scene.deployment("shop", succeeded()).await;
        scene.deployment("shop", failed()).await;
    }
    work(&courier).await;
    scene.later(59);
    // Another process knows of it as well.
    work(&scene.courier()).await;
    assert_eq!(scene.asked("b"), 1, "{:?}", scene.sent());
    let told = scene.keys("a").len();
    assert!(told > 1, "the other one is told at once");
    scene.later(2);
    work(&courier).await;
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
    assert!(scene.asked("b") > 1);
}

/// Who deployed is told that the message waits, for how long, or behind what.
#[tokio::test]
async fn what_is_not_even_tried_is_told() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Throttling(60)));
    let courier = scene.courier();
    let round = async || {
        courier.post().await.unwrap();
        courier.deliver(&CancellationToken::new()).await.unwrap()
    };
    for _ in 0..3 {
        scene.deployment("shop", failed()).await;
    }
    let behind = round().await;
    assert_eq!(behind.delayed.len(), 1);
    let told: Vec<_> =
        behind.waiting.iter().map(|it| (it.channel.as_str(), it.count, &it.what_for)).collect();
    assert_eq!(told, [("b", 2, &WaitsFor::Another)]);
    scene.deployment("shop", failed()).await;
    let until = scene.now() + SignedDuration::from_secs(60);
    scene.later(10);
    let rests = round().await;
    assert_eq!(rests.delayed, []);
    let told: Vec<_> = rests.waiting.iter().map(|it| (it.channel.as_str(), it.count, &it.what_for)).collect();
    assert_eq!(told, [("b", 4, &WaitsFor::Until(until))]);
    scene.mood("b", None);
    scene.later(60);
    assert_eq!(round().await.waiting, []);
}

/// A person who mended what was down need not wait; a service that asked is not asked.
#[tokio::test]
async fn it_can_be_woken_unless_it_asked_for_its_rest() {
    for (mood, asked) in [(Mood::Down, 2), (Mood::Throttling(60), 1)] {
        let scene = Scene::new().await;
        scene.channels(&[("b", Route::default())]);
        scene.mood("b", Some(mood));
        scene.deployment("shop", failed()).await;
        let courier = scene.courier();
        work(&courier).await;
        scene.mood("b", None);
        let rests = courier.wake(&project("shop"), "b").await.unwrap();
        assert_eq!(rests.is_some(), asked == 1, "{mood:?}");
        // Something is due, or nobody would look.
        scene.deployment("shop", succeeded()).await;
        work(&courier).await;
        assert_eq!(scene.asked("b") > 1, asked > 1, "{mood:?}");
    }
}

/// What one process lacks another may have, and need not wait for it.
#[tokio::test]
async fn a_secret_that_one_process_lacks_bars_no_other_one() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Lacking));
    scene.deployment("shop", failed()).await;
    for _ in 0..9 {
        work(&scene.courier()).await;
    }
    assert_eq!(scene.asked("b"), 9, "each process tries");
    let letter = scene.all().await.remove(0);
    assert_eq!((letter.state, letter.attempts), (LetterState::Waiting, 0));
    assert!(letter.due_at <= scene.now() && letter.error.unwrap().contains("notify/secret"));
    scene.mood("b", None);
    work(&scene.courier()).await;
    assert_eq!((scene.all().await.len(), scene.keys("b").len()), (0, 1));
}

/// Nor does it count once the secret is there and the service is not.
#[tokio::test]
async fn a_service_that_is_down_is_asked_as_if_no_secret_had_been_lacking() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Lacking));
    scene.deployment("shop", failed()).await;
    for _ in 0..9 {
        work(&scene.courier()).await;
    }
    scene.mood("b", Some(Mood::Down));
    work(&scene.courier()).await;
    scene.mood("b", None);
    // After ten seconds, a quarter more at most.
    scene.later(13);
    work(&scene.courier()).await;
    assert_eq!(scene.keys("b").len(), 1);
}

/// The process itself looks again after a minute, and what nobody could send for too long is given up.
#[tokio::test]
async fn a_process_that_lacks_a_secret_looks_for_it_once_a_minute() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Lacking));
    let courier = scene.courier();
    scene.deployment("shop", failed()).await;
    for (later, asked) in [(0, 1), (0, 1), (59, 1), (1, 2), (59, 2)] {
        scene.later(later);
        work(&courier).await;
        assert_eq!(scene.asked("b"), asked);
    }
    // More messages are no reason to look more often, and another channel does not wait.
    scene.channels(&[("a", Route::default()), ("b", Route::default())]);
    scene.deployment("shop", succeeded()).await;
    work(&courier).await;
    assert_eq!((scene.asked("a"), scene.asked("b")), (1, 2));
    scene.later(1);
    work(&courier).await;
    assert_eq!((scene.asked("b"), scene.letters(LetterState::Waiting).await), (3, 2));
    // The scene gives everything up after an hour.
    scene.later(3600);
    work(&courier).await;
    assert_eq!(scene.letters(LetterState::Dead).await, 2);
    scene.mood("b", None);
    scene.retry().await;
    work(&courier).await;
    assert_eq!(scene.keys("b").len(), 2);
}

#[tokio::test]
async fn a_message_that_is_given_up_does_not_end_the_wait() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Throttling(600)));
    scene.deployment("shop", failed()).await;
    let courier = scene.courier();
    work(&courier).await;
    scene.deployment("shop", succeeded()).await;
    // Its time is over; the service has not changed its mind.
    scene.later(3600);
    work(&courier).await;
    assert_eq!((scene.letters(LetterState::Dead).await, scene.asked("b")), (1, 2));
    scene.later(599);
    work(&courier).await;
    assert_eq!(scene.asked("b"), 2);
    scene.later(1);
    work(&courier).await;
    assert_eq!(scene.asked("b"), 3);
}

/// Nobody waits for a channel that was taken out of the file, also when it asked to be left alone.
#[tokio::test]
async fn what_waits_for_a_channel_that_is_gone_is_dropped_before_its_time() {
    for due in [false, true] {
        let scene = Scene::new().await;
        scene.channels(&[("b", Route::default())]);
        scene.mood("b", Some(Mood::Throttling(3600)));
        scene.deployment("shop", failed()).await;
        let courier = scene.courier();
        work(&courier).await;
        assert_eq!(scene.letters(LetterState::Waiting).await, 1);
        if due {
            // It is due at once, and its channel rests.
            scene.deployment("shop", failed()).await;
            courier.post().await.unwrap();
        }
        scene.channels(&[("a", Route::default())]);
        assert_eq!(courier.has_work().await.unwrap(), due);
        courier.drop_gone().await.unwrap();
        assert_eq!(scene.all().await, [], "due: {due}");
        assert!(!courier.has_work().await.unwrap());
    }
    // As long as nobody can read the file, nobody knows that it is gone.
    let scene = Scene::new().await;
    scene.mood("b", Some(Mood::Throttling(3600)));
    scene.deployment("shop", failed()).await;
    work(&scene.courier()).await;
    scene.channels(&[]);
    scene.unreadable(true);
    scene.courier().drop_gone().await.unwrap();
    assert_eq!(scene.letters(LetterState::Waiting).await, 2);
    scene.unreadable(false);
    scene.courier().drop_gone().await.unwrap();
    assert_eq!(scene.all().await, []);
}

#[tokio::test]
async fn who_sends_what_another_process_has_in_hand_is_told() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.deployment("shop", failed()).await;
    scene.deployment("shop", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let other = Owner::this_process("ada: ee-deploy up");
    let lease =
        take_over(&*scene.store, "notify/shop/b", &other, Duration::from_secs(300), Fence(0)).await.unwrap();
    let Acquired::Granted(lease) = lease else { panic!("{lease:?}") };
    // It has begun with one of them.
    scene.store.begin_sending(scene.all().await[0].id).await.unwrap().unwrap();
    let round = courier.deliver(&CancellationToken::new()).await.unwrap();
    assert_eq!((round.arrived, scene.asked("b")), (0, 0));
    let who = WaitsFor::Process(format!("ada: ee-deploy up (process {})", std::process::id()));
    let told: Vec<_> = round.waiting.iter().map(|it| (it.channel.as_str(), it.count, &it.what_for)).collect();
    assert_eq!(told, [("b", 2, &who)]);
    scene.store.release(&lease).await.unwrap();
    let round = courier.deliver(&CancellationToken::new()).await.unwrap();
    assert_eq!((round.arrived, round.waiting), (2, vec![]));
}
