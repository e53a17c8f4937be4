//! The courier, killed between any two moments, and in front of services that misbehave.
#![cfg(test)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    task::{Context, Waker},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Clock, Durability, Entry, Outcome, ProjectName, Record, Seq, Untrusted};
use eeveon_daemon::{AddressBook, Addressees, Channel, Courier, courier::FOLLOWER};
use eeveon_notify::{EventKind, Message, Notifier, NotifyError, Patience, Route};
use eeveon_store::{LetterFilter, LetterState, MemoryStore, Owner, Position, Store};
use eeveon_testkit::store::{failure, opened, project, request, reverted, ship, succeeded};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

/// What each channel was sent, by key, and how it answers.
#[derive(Clone, Debug, Default)]
struct Services(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    sent: Vec<(String, String)>,
    more: u32,
    broken: BTreeMap<String, bool>,
}

#[derive(Debug)]
struct Fake {
    name: &'static str,
    services: Services,
}

#[async_trait]
impl Notifier for Fake {
    fn name(&self) -> &str {
        self.name
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        // A moment in which a process may die, before and after the message is out.
        tokio::task::yield_now().await;
        let never = {
            let mut heard = self.services.0.lock().unwrap();
            match heard.broken.get(self.name).copied() {
                None => {
                    heard.sent.push((self.name.to_owned(), message.key.clone()));
                    heard.more += message.event.more;
                    None
                }
                broken => broken,
            }
        };
        tokio::task::yield_now().await;
        let channel = self.name.to_owned();
        match never {
            None => Ok(()),
            Some(false) => Err(NotifyError::Unreachable { channel, why: "down".to_owned() }),
            Some(true) => Err(NotifyError::Refused { channel, answer: Untrusted::from("no") }),
        }
    }

    async fn check(&self) -> Result<String, NotifyError> {
        Ok(String::new())
    }
}

/// Everybody is told everything; the configuration can be unreadable.
#[derive(Clone, Debug, Default)]
struct Book {
    services: Services,
    unreadable: Arc<Mutex<bool>>,
}

#[async_trait]
impl AddressBook for Book {
    async fn look_up(&self, project: &ProjectName) -> Result<Option<Addressees>, String> {
        if project.as_str() == "gone" {
            return Ok(None);
        }
        if *self.unreadable.lock().unwrap() {
            return Err("line 3: no".to_owned());
        }
        let channel = |name| Channel {
            route: Route { events: EventKind::ALL.to_vec(), ..Route::default() },
            notifier: Arc::new(Fake { name, services: self.services.clone() }),
        };
        Ok(Some(Addressees { channels: vec![channel("a"), channel("b")], ..Addressees::default() }))
    }
}

/// A clock that is set.
#[derive(Clone, Debug)]
struct Hands(Arc<Mutex<Timestamp>>);

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

struct Scene {
    store: Arc<MemoryStore>,
    book: Book,
    hands: Hands,
    processes: u32,
}

impl Scene {
    async fn new() -> Self {
        let hands = Hands(Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap())));
        let mut scene =
            Self { store: Arc::new(MemoryStore::default()), book: Book::default(), hands, processes: 0 };
        scene.courier().begin().await.unwrap();
        scene
    }

    /// A courier of a new process: those before it are seen to be dead.
    fn courier(&mut self) -> Courier {
        self.processes += 1;
        let me = Owner { started: u64::from(self.processes), ..Owner::this_process("test") };
        let patience = Patience { total: Duration::from_secs(3600), ..Patience::default() };
        let (store, book): (Arc<dyn Store>, Arc<dyn AddressBook>) =
            (Arc::clone(&self.store) as _, Arc::new(self.book.clone()));
        Courier::new(store, book, Arc::new(self.hands.clone()), me).with_patience(patience)
    }

    fn later(&self, seconds: i64) {
        let mut now = self.hands.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    /// Records a deployment of `of`, opened and closed by `end`.
    async fn deployment(&self, of: &str, end: Record) {
        let id = self.store.reserve_deployment().await.unwrap();
        let step = ship();
        let mut records =
            vec![opened(request(&project(of), id.0)), Record::Started { step: step.clone(), attempt: 1 }];
        records.extend(match &end {
            Record::Closed { outcome: Outcome::Succeeded } => {
                vec![Record::Finished { step, output: serde_json::Value::Null }]
            }
            _ => vec![
                Record::Failed { step: step.clone(), failure: failure("bad") },
                Record::UndoStarted { step: step.clone(), attempt: 1 },
                Record::UndoFinished { step },
            ],
        });
        records.push(end);
        for (seq, record) in (0..).zip(records) {
            let entry = Entry { deployment: id, seq: Seq(seq), at: self.hands.now(), record };
            self.store.append(&entry, Durability::Process, None).await.unwrap();
        }
    }

    fn sent(&self) -> Vec<(String, String)> {
        self.book.services.0.lock().unwrap().sent.clone()
    }

    fn breaks(&self, channel: &str, never: Option<bool>) {
        let mut heard = self.book.services.0.lock().unwrap();
        match never {
            Some(never) => heard.broken.insert(channel.to_owned(), never),
            None => heard.broken.remove(channel),
        };
    }

    async fn letters(&self, state: LetterState) -> usize {
        let filter = LetterFilter { follower: FOLLOWER.to_owned(), state: Some(state), ..Default::default() };
        self.store.letters(&filter).await.unwrap().len()
    }
}

async fn work(courier: &Courier) {
    courier.post().await.unwrap();
    courier.deliver(&CancellationToken::new()).await.unwrap();
}

#[tokio::test]
async fn killed_at_any_moment_once_nothing_is_lost_and_nothing_sent_more_than_twice() {
    let mut moments = 0;
    loop {
        let mut scene = Scene::new().await;
        scene.deployment("shop", succeeded()).await;
        scene.deployment("shop", reverted(Some(failure("bad")), true)).await;
        let ended = {
            let courier = scene.courier();
            let mut dying = std::pin::pin!(work(&courier));
            let mut ended = false;
            for _ in 0..=moments {
                ended = dying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
                if ended {
                    break;
                }
            }
            ended
        };
        work(&scene.courier()).await;
        let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
        for sent in scene.sent() {
            *counted.entry(sent).or_default() += 1;
        }
        // Opened and closed, twice, to two channels; the second deployment also puts a commit aside,
        // if its request said so.
        let all = LetterFilter { follower: FOLLOWER.to_owned(), ..Default::default() };
        let left: Vec<_> = scene.store.letters(&all).await.unwrap();
        assert!(counted.len() >= 8, "lost after {moments} moments: {counted:?}, left {left:?}");
        assert!(counted.values().all(|times| *times <= 2), "after {moments} moments: {counted:?}");
        for state in [LetterState::Waiting, LetterState::Sending, LetterState::Dead] {
            assert_eq!(scene.letters(state).await, 0, "{state:?} after {moments} moments");
        }
        if ended {
            break;
        }
        moments += 1;
    }
    assert!(moments >= 8, "it died only {moments} times");
}

#[tokio::test]
async fn killed_again_and_again_a_message_is_given_up_rather_than_sent_a_third_time() {
    let mut scene = Scene::new().await;
    scene.deployment("shop", succeeded()).await;
    // Each process dies right after the first messages are out.
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
    let mut counted: BTreeMap<(String, String), usize> = BTreeMap::new();
    for sent in scene.sent() {
        *counted.entry(sent).or_default() += 1;
    }
    assert!(counted.values().all(|times| *times <= 2), "{counted:?}");
    work(&scene.courier()).await;
    let known = counted.len() + scene.letters(LetterState::Dead).await;
    assert!(known >= 4, "lost without a word: {counted:?}");
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
}

#[tokio::test]
async fn a_broken_channel_delays_no_other_and_order_is_kept() {
    let mut scene = Scene::new().await;
    scene.breaks("b", Some(false));
    scene.deployment("shop", succeeded()).await;
    scene.deployment("shop", succeeded()).await;
    work(&scene.courier()).await;
    assert_eq!(scene.sent().len(), 4, "all to the one that works");
    assert_eq!(scene.letters(LetterState::Waiting).await, 4);
    scene.breaks("b", None);
    work(&scene.courier()).await;
    assert_eq!(scene.sent().len(), 4, "it is not due yet");
    scene.later(60);
    work(&scene.courier()).await;
    let keys = |channel: &str| -> Vec<String> {
        scene.sent().into_iter().filter(|(to, _)| to == channel).map(|(_, key)| key).collect()
    };
    assert_eq!(keys("a"), keys("b"));
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
}

#[tokio::test]
async fn patience_ends_with_a_dead_letter_and_a_refusal_at_once() {
    let mut scene = Scene::new().await;
    scene.breaks("a", Some(false));
    scene.breaks("b", Some(true));
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
    scene.breaks("a", None);
    scene.breaks("b", None);
    let filter = LetterFilter { follower: FOLLOWER.to_owned(), ..Default::default() };
    for letter in scene.store.letters(&filter).await.unwrap() {
        scene.store.revive(letter.id, scene.hands.now()).await.unwrap();
    }
    work(&courier).await;
    assert_eq!(scene.sent().len(), 4);
}

#[tokio::test]
async fn a_burst_is_folded_and_counted() {
    let mut scene = Scene::new().await;
    for _ in 0..20 {
        scene.deployment("shop", succeeded()).await;
    }
    work(&scene.courier()).await;
    let heard = scene.book.services.0.lock().unwrap();
    assert_eq!(heard.sent.len(), 4, "one of each kind to each: {:?}", heard.sent);
    assert_eq!(heard.sent.len() + heard.more as usize, 80, "and every other one is counted");
}

#[tokio::test]
async fn what_cannot_be_addressed_waits_until_it_can_and_a_gone_project_tells_nobody() {
    let mut scene = Scene::new().await;
    *scene.book.unreadable.lock().unwrap() = true;
    scene.deployment("shop", succeeded()).await;
    scene.deployment("gone", succeeded()).await;
    let courier = scene.courier();
    courier.post().await.unwrap();
    let round = courier.deliver(&CancellationToken::new()).await.unwrap();
    assert_eq!(round.delayed.len(), 1, "{round:?}");
    *scene.book.unreadable.lock().unwrap() = false;
    work(&courier).await;
    assert_eq!(scene.sent().len(), 4, "{:?}", scene.sent());
    assert_eq!(scene.letters(LetterState::Waiting).await, 0);
}

#[tokio::test]
async fn what_was_before_the_beginning_is_nobodys_news() {
    let hands = Hands(Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap())));
    let mut scene =
        Scene { store: Arc::new(MemoryStore::default()), book: Book::default(), hands, processes: 0 };
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
