//! Processes that die while they tell people: nothing is lost, nothing told more than twice.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use eeveon_store::{LetterState, MemoryStore, SqliteStore};
use eeveon_testkit::store::{FailingStore, Loses, ManualTicks, failure, reverted, succeeded};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::scene::{Mood, Scene, work};

/// How many messages there are: opened and closed, twice, of each project that is told of one by one.
const EACH: usize = 4;

/// Fills a scene: `shop` is told of one by one; `news` is a burst; of `blog` nobody knew whom to tell.
/// Everything is still to be done when this returns.
async fn fill(scene: &Scene) {
    scene.courier().begin().await.unwrap();
    scene.unreadable(true);
    scene.deployment("blog", succeeded()).await;
    scene.deployment("blog", reverted(Some(failure("bad")), true)).await;
    scene.courier().post().await.unwrap();
    scene.unreadable(false);
    for of in ["shop", "news", "news", "news"] {
        scene.deployment(of, succeeded()).await;
    }
    scene.deployment("shop", reverted(Some(failure("bad")), true)).await;
}

/// Lets a process work that dies at its call number `at` to the store. Returns whether it died, rather
/// than came to its end before.
async fn dies(scene: &Scene, at: u64, loses: Loses) -> bool {
    let store = Arc::new(FailingStore::deadly(Arc::clone(&scene.store), at, loses));
    let courier = scene.courier_on(Arc::clone(&store) as _);
    tokio::select! {
        biased;
        () = store.died() => true,
        () = work(&courier) => false,
    }
}

/// Proves that everything was told to both channels, and nothing more than twice. What was given up
/// counts as told when `dead` allows it: a person sees it.
async fn judge(scene: &Scene, dead: bool, context: &str) {
    let counted = scene.counted();
    assert!(counted.values().all(|times| *times <= 2), "{context}: {counted:?}");
    let all = scene.all().await;
    assert!(dead || all.is_empty(), "{context}: {all:?}");
    assert!(all.iter().all(|it| it.state == LetterState::Dead), "{context}: {all:?}");
    for channel in ["a", "b"] {
        let given_up = |of: &str| {
            let of_channel = all.iter().filter(|it| it.channel == channel && it.project.as_str() == of);
            of_channel.map(|it| it.key.clone()).collect::<Vec<_>>()
        };
        for of in ["shop", "blog"] {
            let mut known = given_up(of);
            known.extend(scene.keys(channel).into_iter().filter(|key| key.starts_with(of)));
            known.sort();
            known.dedup();
            assert_eq!(known.len(), EACH, "lost, {context}: {channel} {of}: {known:?}");
        }
        // Of a burst the newest of each kind is told, and how many others it stands for.
        let mut stood_for: BTreeMap<String, u32> = BTreeMap::new();
        let news = |it: &&crate::scene::Sent| it.channel == channel && it.message.key.starts_with("news");
        for sent in scene.sent().iter().filter(news) {
            let kind = sent.message.key.rsplit('-').next().unwrap().to_owned();
            let sum = stood_for.entry(kind).or_default();
            *sum += 1 + sent.message.more;
        }
        for key in given_up("news") {
            let sum = stood_for.entry(key.rsplit('-').next().unwrap().to_owned()).or_default();
            // What it stood for is not known any more; that it did not arrive is.
            *sum = 3;
        }
        assert_eq!(stood_for.len(), 2, "{context}: {channel} {stood_for:?}");
        assert!(stood_for.values().all(|sum| *sum >= 3), "{context}: {channel} {stood_for:?}");
    }
}

/// A store on disk that is the same each time.
struct Disk {
    filled: TempDir,
}

impl Disk {
    async fn new() -> Self {
        let filled = tempfile::tempdir().unwrap();
        fill(&Scene::over(Arc::new(SqliteStore::open(filled.path().join("db")).await.unwrap()))).await;
        Self { filled }
    }

    /// Returns a folder with a copy.
    fn copy(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for file in fs::read_dir(self.filled.path()).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
        let db = folder.path().join("db");
        (folder, db)
    }
}

/// Opens the store as another process does.
async fn reopened(scene: Scene, db: &Path) -> Scene {
    scene.with_store(Arc::new(SqliteStore::open(db).await.unwrap()))
}

#[tokio::test]
async fn killed_between_any_two_calls_to_the_store_on_disk() {
    let disk = Disk::new().await;
    for loses in [Loses::Call, Loses::Answer] {
        let mut at = 1;
        loop {
            let (_folder, db) = disk.copy();
            let scene = Scene::over(Arc::new(SqliteStore::open(&db).await.unwrap()));
            let died = dies(&scene, at, loses).await;
            let scene = reopened(scene, &db).await;
            work(&scene.courier()).await;
            judge(&scene, false, &format!("call {at} lost its {loses:?}")).await;
            if !died {
                break;
            }
            at += 1;
        }
        assert!(at > 60, "only {at} calls");
    }
}

#[tokio::test]
async fn killed_between_any_two_calls_while_a_channel_is_down() {
    let mut at = 1;
    loop {
        let scene = Scene::new().await;
        fill(&scene).await;
        scene.mood("b", Some(Mood::Down));
        let died = dies(&scene, at, Loses::Answer).await;
        scene.mood("b", None);
        scene.later(3000);
        work(&scene.courier()).await;
        judge(&scene, false, &format!("call {at}")).await;
        if !died {
            break;
        }
        at += 1;
    }
    assert!(at > 40, "only {at} calls");
}

/// A process that goes on after its store failed once, such as a daemon on a disk that was full.
#[tokio::test]
async fn a_store_that_fails_at_any_call_loses_nothing() {
    for loses in [Loses::Call, Loses::Answer] {
        let mut at = 1;
        loop {
            let ticks = Arc::new(ManualTicks::default());
            let scene = Scene::over(Arc::new(MemoryStore::with_ticks(Arc::clone(&ticks) as _)));
            fill(&scene).await;
            let store = Arc::new(FailingStore::new(Arc::clone(&scene.store), at, loses));
            let courier = scene.courier_on(Arc::clone(&store) as _);
            let stop = CancellationToken::new();
            let failed = async { courier.post().await.is_err() || courier.deliver(&stop).await.is_err() };
            assert_eq!(failed.await, store.struck().is_some(), "call {at}, {:?}", store.struck());
            if store.struck().is_none() {
                break;
            }
            // A lease that it could not give back ends by itself.
            ticks.advance(Duration::from_secs(301));
            work(&courier).await;
            judge(&scene, false, &format!("call {at}, {:?}, lost its {loses:?}", store.struck())).await;
            at += 1;
        }
        assert!(at > 60, "only {at} calls");
    }
}

#[tokio::test]
async fn killed_twice_at_any_two_calls_a_message_is_given_up_rather_than_told_a_third_time() {
    let mut given_up = 0;
    let mut first = 1;
    loop {
        let mut second = 1;
        let died = loop {
            let scene = Scene::new().await;
            fill(&scene).await;
            let died = dies(&scene, first, Loses::Call).await;
            let died_again = dies(&scene, second, Loses::Call).await;
            work(&scene.courier()).await;
            judge(&scene, true, &format!("calls {first} and {second}")).await;
            given_up += scene.letters(LetterState::Dead).await;
            if !died_again {
                break died;
            }
            second += 5;
        };
        if !died {
            break;
        }
        first += 3;
    }
    assert!(given_up > 0, "no message was ever in doubt twice");
}

/// Also in the middle of sending, where no call to the store is.
#[tokio::test]
async fn killed_at_any_moment_once_nothing_is_lost_and_nothing_sent_more_than_twice() {
    let mut moments = 0;
    loop {
        let scene = Scene::new().await;
        fill(&scene).await;
        let ended = {
            let courier = scene.courier();
            let mut dying = std::pin::pin!(work(&courier));
            let mut poll = || dying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
            (0..=moments).any(|_| poll())
        };
        work(&scene.courier()).await;
        judge(&scene, false, &format!("{moments} moments")).await;
        if ended {
            break;
        }
        moments += 1;
    }
    assert!(moments >= 8, "it died only {moments} times");
}

#[tokio::test]
async fn killed_again_and_again_right_after_a_message_is_out() {
    let scene = Scene::new().await;
    scene.deployment("shop", succeeded()).await;
    for _ in 0..6 {
        let courier = scene.courier();
        let before = scene.sent().len();
        let mut dying = std::pin::pin!(work(&courier));
        while scene.sent().len() == before {
            if dying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
                break;
            }
        }
    }
    let counted = scene.counted();
    assert!(counted.values().all(|times| *times <= 2), "{counted:?}");
    work(&scene.courier()).await;
    let known = counted.len() + scene.letters(LetterState::Dead).await;
    assert!(known >= 4, "lost without a word: {counted:?}");
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
}
