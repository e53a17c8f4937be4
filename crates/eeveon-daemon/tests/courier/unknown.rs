//! What is recorded while the project file cannot be read.

use eeveon_daemon::courier::UNKNOWN;
use eeveon_notify::{Level, Route};
use eeveon_store::LetterState;
use eeveon_testkit::store::{failure, reverted, succeeded};
use tokio_util::sync::CancellationToken;

use crate::scene::{Mood, Scene, work};

/// Two messages wait for a file that can be read.
async fn unaddressed() -> Scene {
    let scene = Scene::new().await;
    scene.unreadable(true);
    scene.deployment("shop", succeeded()).await;
    scene.courier().post().await.unwrap();
    assert!(scene.all().await.iter().all(|letter| letter.channel == UNKNOWN));
    assert_eq!(scene.letters(LetterState::Waiting).await, 2);
    scene
}

#[tokio::test]
async fn what_cannot_be_addressed_waits_until_it_can_and_a_gone_project_tells_nobody() {
    let scene = unaddressed().await;
    scene.deployment("gone", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let round = courier.deliver(&CancellationToken::new()).await.unwrap();
    assert_eq!(round.delayed.len(), 1, "{round:?}");
    assert!(round.delayed[0].2.contains("line 3"), "{round:?}");
    let waiting: Vec<_> = round.waiting.iter().map(|it| (it.channel.as_str(), it.count)).collect();
    assert_eq!(waiting, [(UNKNOWN, 1)], "beside the one that is told with the reason");
    assert!(courier.has_work().await.unwrap(), "it is said again");
    scene.unreadable(false);
    work(&courier).await;
    assert_eq!(scene.sent().len(), 4, "{:?}", scene.sent());
    assert_eq!(scene.all().await, []);
    let told = &scene.sent()[0].message;
    assert_eq!(
        (told.branch.as_str(), told.link.as_deref()),
        ("main", Some("https://example.org")),
        "what the file says is told, too"
    );
}

#[tokio::test]
async fn each_channel_has_its_own_letter_and_its_own_retries() {
    let scene = unaddressed().await;
    scene.mood("a", Some(Mood::Refusing));
    scene.mood("b", Some(Mood::Down));
    scene.channels(&[
        ("a", Route::default()),
        ("b", Route::default()),
        ("c", Route::default()),
        ("quiet", Route { levels: vec![Level::Failure], events: Vec::new() }),
    ]);
    scene.unreadable(false);
    let courier = scene.courier();
    work(&courier).await;
    let state = async |channel: &str| -> Vec<LetterState> {
        scene.all().await.iter().filter(|it| it.channel == channel).map(|it| it.state).collect()
    };
    assert_eq!(state("a").await, [LetterState::Dead]);
    assert_eq!(state("b").await, [LetterState::Waiting]);
    assert_eq!((state("c").await, state(UNKNOWN).await, state("quiet").await), (vec![], vec![], vec![]));
    assert_eq!(scene.keys("c").len(), 1, "the start is not what it wants");
    // The file was unreadable for longer than a message is tried: its time begins when it is addressed.
    scene.mood("b", None);
    scene.later(60);
    work(&courier).await;
    assert_eq!(scene.keys("b"), scene.keys("c"));
    // A dead one that is tried again goes to nobody else.
    scene.mood("a", None);
    scene.retry().await;
    work(&courier).await;
    let counted = scene.counted();
    assert_eq!(counted.len(), 3, "{counted:?}");
    assert!(counted.values().all(|times| *times == 1), "{counted:?}");
    assert_eq!(scene.all().await, []);
}

#[tokio::test]
async fn a_long_time_unreadable_is_no_time_lost_for_attempts() {
    let scene = unaddressed().await;
    scene.later(100_000);
    scene.unreadable(false);
    scene.mood("a", Some(Mood::Down));
    work(&scene.courier()).await;
    assert_eq!(scene.letters(LetterState::Dead).await, 0);
    assert_eq!(scene.letters(LetterState::Waiting).await, 2);
}

#[tokio::test]
async fn what_came_while_nobody_knew_whom_to_tell_is_told_before_what_came_later() {
    let scene = unaddressed().await;
    scene.unreadable(false);
    scene.deployment("shop", reverted(Some(failure("bad")), false)).await;
    work(&scene.courier()).await;
    for channel in ["a", "b"] {
        let keys = scene.keys(channel);
        let seqs: Vec<(u64, u64)> = keys
            .iter()
            .map(|key| {
                let mut parts = key.split('-').skip(1).map(|part| part.parse().unwrap());
                (parts.next().unwrap(), parts.next().unwrap())
            })
            .collect();
        assert_eq!(keys.len(), 4);
        assert!(seqs.is_sorted(), "{keys:?}");
    }
}

#[tokio::test]
async fn what_this_version_cannot_read_is_given_up_by_each_channel_and_said() {
    let scene = unaddressed().await;
    let letters = scene.all().await;
    for letter in &letters {
        let body = letter.body.replace("\"format\":1", "\"format\":99");
        assert_ne!(body, letter.body);
        let later = eeveon_store::NewLetter {
            position: eeveon_store::Position(0),
            project: letter.project.clone(),
            channel: UNKNOWN.to_owned(),
            key: letter.key.clone(),
            body,
            created_at: letter.created_at,
            due_at: letter.due_at,
        };
        assert!(scene.store.replace(letter.id, &[later]).await.unwrap());
    }
    scene.unreadable(false);
    let courier = scene.courier();
    work(&courier).await;
    assert_eq!(scene.sent(), []);
    let all = scene.all().await;
    assert_eq!(all.len(), 4, "{all:?}");
    assert!(all.iter().all(|it| it.state == LetterState::Dead && it.error.is_some()), "{all:?}");
}
