//! How long a command delivers, by paused time.

use std::{fs, time::Duration};

use eeveon_daemon::courier::COMMAND_DELIVERS;
use eeveon_store::LetterState;
use eeveon_testkit::store::succeeded;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::scene::{Mood, Scene, work};

#[tokio::test(start_paused = true)]
async fn a_command_delivers_for_ten_seconds_and_no_longer() {
    let scene = Scene::new().await;
    scene.mood("b", Some(Mood::Silent));
    scene.deployment("shop", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let began = Instant::now();
    let round = courier.deliver_within(COMMAND_DELIVERS, &CancellationToken::new()).await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert_eq!((round.arrived, round.delayed.len(), round.dead.len()), (2, 1, 0), "{round:?}");
    assert!(round.delayed[0].2.contains("when the time was over"), "{round:?}");
    // What was on its way is tried again, as after any attempt that took too long; and is not lost
    // however often that happens.
    assert_eq!(scene.letters(LetterState::Waiting).await, 2);
    for _ in 0..5 {
        scene.later(600);
        let began = Instant::now();
        scene.courier().deliver_within(COMMAND_DELIVERS, &CancellationToken::new()).await.unwrap();
        assert_eq!(began.elapsed(), COMMAND_DELIVERS);
        assert_eq!(scene.letters(LetterState::Dead).await, 0);
    }
    scene.mood("b", None);
    scene.later(600);
    work(&scene.courier()).await;
    assert_eq!(scene.all().await, []);
}

#[tokio::test(start_paused = true)]
async fn without_anybody_who_is_slow_it_takes_no_time_and_an_interruption_ends_it_at_once() {
    let scene = Scene::new().await;
    scene.deployment("shop", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let began = Instant::now();
    let interrupted = CancellationToken::new();
    let round = courier.deliver_within(COMMAND_DELIVERS, &interrupted).await.unwrap();
    assert_eq!((round.arrived, began.elapsed()), (4, Duration::ZERO));
    assert!(!interrupted.is_cancelled());

    scene.mood("a", Some(Mood::Silent));
    scene.deployment("shop", succeeded()).await;
    courier.post().await.unwrap();
    let (round, ()) = tokio::join!(courier.deliver_within(COMMAND_DELIVERS, &interrupted), async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        interrupted.cancel();
    });
    assert_eq!((round.unwrap().arrived, began.elapsed()), (2, Duration::from_secs(3)));
}

#[test]
fn the_guide_tells_how_long_a_command_delivers() {
    assert_eq!(COMMAND_DELIVERS, Duration::from_secs(10));
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/notifications.md");
    let words: Vec<String> =
        fs::read_to_string(guide).unwrap().split_whitespace().map(str::to_owned).collect();
    assert!(words.join(" ").contains("for at most ten seconds"));
}
