//! Order, patience, bursts, and who is not told.

use eeveon_daemon::courier::FOLLOWER;
use eeveon_notify::Route;
use eeveon_store::{LetterFilter, LetterState, MemoryStore, Position};
use eeveon_testkit::store::{failure, reverted, succeeded};
use tokio_util::sync::CancellationToken;

use crate::scene::{Mood, Scene, work};

#[tokio::test]
async fn a_broken_channel_delays_no_other_and_order_is_kept() {
    let scene = Scene::new().await;
    scene.mood("b", Some(Mood::Down));
    scene.deployment("shop", succeeded()).await;
    scene.deployment("shop", succeeded()).await;
    work(&scene.courier()).await;
    assert_eq!(scene.sent().len(), 4, "all to the one that works");
    assert_eq!(scene.letters(LetterState::Waiting).await, 4);
    scene.mood("b", None);
    work(&scene.courier()).await;
    assert_eq!(scene.sent().len(), 4, "it is not due yet");
    scene.later(60);
    work(&scene.courier()).await;
    assert_eq!(scene.keys("a"), scene.keys("b"));
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
}

#[tokio::test]
async fn patience_ends_with_a_dead_letter_and_a_refusal_at_once() {
    let scene = Scene::new().await;
    scene.mood("a", Some(Mood::Down));
    scene.mood("b", Some(Mood::Refusing));
    scene.deployment("shop", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let round = courier.deliver(&CancellationToken::new()).await.unwrap();
    assert_eq!((round.arrived, round.delayed.len(), round.dead.len()), (0, 1, 2), "{round:?}");
    for _ in 0..8 {
        scene.later(3600);
        work(&courier).await;
    }
    assert_eq!(scene.letters(LetterState::Dead).await, 4);
    // A person gives them another life.
    scene.mood("a", None);
    scene.mood("b", None);
    scene.retry().await;
    work(&courier).await;
    assert_eq!(scene.sent().len(), 4);
}

#[tokio::test]
async fn a_burst_is_folded_and_counted() {
    let scene = Scene::new().await;
    for _ in 0..20 {
        scene.deployment("shop", succeeded()).await;
    }
    work(&scene.courier()).await;
    let sent = scene.sent();
    assert_eq!(sent.len(), 4, "one of each kind to each: {sent:?}");
    let more: u32 = sent.iter().map(|it| it.message.more).sum();
    assert_eq!(sent.len() + more as usize, 80, "and every other one is counted");
}

#[tokio::test]
async fn a_service_that_is_to_be_left_alone_is_not_asked_sooner_for_what_comes_meanwhile() {
    let scene = Scene::new().await;
    scene.channels(&[("b", Route::default())]);
    scene.mood("b", Some(Mood::Down));
    let courier = scene.courier();
    let failed = || reverted(Some(failure("bad")), false);
    scene.deployment("shop", failed()).await;
    work(&courier).await;
    scene.mood("b", None);
    // The same failure, which is folded, and one of another kind, which keeps its place.
    scene.deployment_of("shop", Some(1), failed()).await;
    work(&courier).await;
    scene.deployment("shop", succeeded()).await;
    work(&courier).await;
    assert_eq!(scene.sent(), [], "ten seconds are not over");
    scene.later(60);
    work(&courier).await;
    let told: Vec<u32> = scene.sent().iter().map(|it| it.message.more).collect();
    assert_eq!(told, [1, 0], "{:?}", scene.sent());
}

/// Nothing else may ever come that would make somebody look.
#[tokio::test]
async fn what_a_process_that_died_was_sending_is_work() {
    let scene = Scene::over(std::sync::Arc::new(MemoryStore::default()));
    let courier = scene.courier();
    courier.begin().await.unwrap();
    scene.deployment("shop", succeeded()).await;
    courier.post().await.unwrap();
    let filter = LetterFilter { follower: FOLLOWER.to_owned(), ..LetterFilter::default() };
    for letter in scene.store.letters(&filter).await.unwrap() {
        scene.store.begin_sending(letter.id).await.unwrap().unwrap();
    }
    assert!(courier.has_work().await.unwrap());
    courier.deliver(&CancellationToken::new()).await.unwrap();
    assert!(!scene.sent().is_empty());
    assert!(!courier.has_work().await.unwrap());
}

#[tokio::test]
async fn what_was_before_the_beginning_is_nobodys_news() {
    let scene = Scene::over(std::sync::Arc::new(MemoryStore::default()));
    scene.deployment("shop", reverted(None, false)).await;
    let courier = scene.courier();
    courier.begin().await.unwrap();
    assert!(!courier.has_work().await.unwrap());
    scene.deployment("shop", succeeded()).await;
    assert!(courier.has_work().await.unwrap());
    work(&courier).await;
    assert_eq!(scene.sent().len(), 4);
    assert!(scene.store.cursor(FOLLOWER).await.unwrap() > Some(Position(2)));
}

#[tokio::test]
async fn the_same_failure_is_told_once_in_ten_minutes_and_counted() {
    let scene = Scene::new().await;
    let courier = scene.courier();
    let failed = || reverted(Some(failure("bad")), false);
    scene.deployment_of("shop", Some(9), failed()).await;
    work(&courier).await;
    let told = |channel: &str| scene.keys(channel).iter().filter(|key| key.ends_with("-failed")).count();
    assert_eq!(told("a"), 1);
    for _ in 0..3 {
        scene.later(60);
        scene.deployment_of("shop", Some(9), failed()).await;
        work(&courier).await;
    }
    scene.later(600);
    work(&courier).await;
    let last = scene.sent().into_iter().rfind(|it| it.message.key.ends_with("-failed")).unwrap();
    assert_eq!((told("a"), told("b"), last.message.more), (2, 2, 2), "{:?}", scene.sent());
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
    // Another commit that fails in the same way is news.
    scene.deployment_of("shop", Some(10), failed()).await;
    work(&courier).await;
    assert_eq!((told("a"), told("b")), (3, 3));
}
