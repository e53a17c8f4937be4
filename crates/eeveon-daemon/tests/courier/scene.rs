//! A project, its channels and a courier, with everything in a test's hands: time, services, deaths.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{
    Clock, DeploymentId, Durability, Entry, Outcome, ProjectName, Record, SecretError, Seq, Untrusted,
};
use eeveon_daemon::{AddressBook, Addressees, Channel, Courier, courier::FOLLOWER};
use eeveon_notify::{EventKind, Message, Notifier, NotifyError, Patience, Route};
use eeveon_store::{Letter, LetterFilter, LetterState, MemoryStore, Owner, Store};
use eeveon_testkit::store::{failure, opened, project, request, ship};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

/// How a service is, unless it takes what it is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mood {
    /// It breaks down.
    Down,
    /// It will have nothing of it.
    Refusing,
    /// It asks to be left alone for so many seconds.
    Throttling(u64),
    /// Whoever sends lacks its secret.
    Lacking,
    /// It takes the message and never answers.
    Silent,
}

/// What each channel was sent, and how it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Services(Arc<Mutex<Heard>>);

#[derive(Debug, Default)]
struct Heard {
    sent: Vec<Sent>,
    /// How often each was asked, whatever it answered.
    asked: BTreeMap<String, usize>,
    moods: BTreeMap<String, Mood>,
}

/// A message that a service has got.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Sent {
    pub(crate) channel: String,
    pub(crate) message: Told,
}

/// What of a message matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Told {
    pub(crate) key: String,
    pub(crate) more: u32,
    pub(crate) branch: String,
    pub(crate) link: Option<String>,
}

#[derive(Debug)]
struct Fake {
    name: String,
    services: Services,
}

#[async_trait]
impl Notifier for Fake {
    fn name(&self) -> &str {
        &self.name
    }

    async fn notify(&self, message: &Message) -> Result<(), NotifyError> {
        // A moment in which a process may die, before and after the message is out.
        tokio::task::yield_now().await;
        let mood = {
            let mut heard = self.services.0.lock().unwrap();
            let mood = heard.moods.get(&self.name).copied();
            *heard.asked.entry(self.name.clone()).or_default() += 1;
            if !matches!(mood, Some(Mood::Down | Mood::Refusing | Mood::Throttling(_) | Mood::Lacking)) {
                let event = &message.event;
                let message = Told {
                    key: message.key.clone(),
                    more: event.more,
                    branch: event.branch.as_raw().to_owned(),
                    link: event.link.clone(),
                };
                heard.sent.push(Sent { channel: self.name.clone(), message });
            }
            mood
        };
        tokio::task::yield_now().await;
        let channel = self.name.clone();
        match mood {
            None => Ok(()),
            Some(Mood::Down) => Err(NotifyError::Unreachable { channel, why: "down".to_owned() }),
            Some(Mood::Refusing) => Err(NotifyError::Refused { channel, answer: Untrusted::from("no") }),
            Some(Mood::Throttling(seconds)) => {
                let after = Some(Duration::from_secs(seconds));
                Err(NotifyError::Throttled { channel, after, answer: Untrusted::from("slow down") })
            }
            Some(Mood::Lacking) => {
                let source = SecretError::Missing { at: "env:B".to_owned(), why: "is not set".to_owned() };
                Err(NotifyError::Secret { channel, source })
            }
            Some(Mood::Silent) => std::future::pending().await,
        }
    }

    async fn check(&self) -> Result<String, NotifyError> {
        Ok(String::new())
    }
}

/// Everybody is told everything; the configuration can be unreadable.
#[derive(Clone, Debug)]
pub(crate) struct Book {
    services: Services,
    unreadable: Arc<Mutex<bool>>,
    channels: Arc<Mutex<Vec<(String, Route)>>>,
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
        let channel = |(name, route): &(String, Route)| Channel {
            route: route.clone(),
            notifier: Arc::new(Fake { name: name.clone(), services: self.services.clone() }),
        };
        Ok(Some(Addressees {
            branch: "main".into(),
            link: Some("https://example.org".to_owned()),
            channels: self.channels.lock().unwrap().iter().map(channel).collect(),
        }))
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

/// Everything together. Channels `a` and `b` are told everything.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) store: Arc<dyn Store>,
    book: Book,
    hands: Hands,
    processes: AtomicU64,
}

impl Scene {
    /// Makes one in which nothing has happened yet.
    pub(crate) async fn new() -> Self {
        let scene = Self::over(Arc::new(MemoryStore::default()));
        scene.courier().begin().await.unwrap();
        scene
    }

    /// Makes one with this store.
    pub(crate) fn over(store: Arc<dyn Store>) -> Self {
        let hands = Hands(Arc::new(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap())));
        let all = Route { events: EventKind::ALL.to_vec(), ..Route::default() };
        let book = Book {
            services: Services::default(),
            unreadable: Arc::default(),
            channels: Arc::new(Mutex::new(vec![("a".to_owned(), all.clone()), ("b".to_owned(), all)])),
        };
        Self { store, book, hands, processes: AtomicU64::new(0) }
    }

    /// Returns the scene with its store opened anew.
    pub(crate) fn with_store(self, store: Arc<dyn Store>) -> Self {
        Self { store, ..self }
    }

    /// A courier of a new process: those before it are seen to be dead.
    pub(crate) fn courier(&self) -> Courier {
        self.courier_on(Arc::clone(&self.store))
    }

    /// The same, in front of another store.
    pub(crate) fn courier_on(&self, store: Arc<dyn Store>) -> Courier {
        let started = self.processes.fetch_add(1, Ordering::Relaxed) + 1;
        let me = Owner { started, ..Owner::this_process("test") };
        let patience = Patience { total: Duration::from_secs(3600), ..Patience::default() };
        let book: Arc<dyn AddressBook> = Arc::new(self.book.clone());
        Courier::new(store, book, Arc::new(self.hands.clone()), me).with_patience(patience)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.hands.now()
    }

    pub(crate) fn later(&self, seconds: i64) {
        let mut now = self.hands.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_secs(seconds)).unwrap();
    }

    pub(crate) fn unreadable(&self, unreadable: bool) {
        *self.book.unreadable.lock().unwrap() = unreadable;
    }

    /// Replaces whom the projects tell.
    pub(crate) fn channels(&self, channels: &[(&str, Route)]) {
        let channels = channels.iter().map(|(name, route)| ((*name).to_owned(), route.clone()));
        *self.book.channels.lock().unwrap() = channels.collect();
    }

    /// Records a deployment of `of`, of a commit of its own, opened and closed by `end`.
    pub(crate) async fn deployment(&self, of: &str, end: Record) -> DeploymentId {
        self.deployment_of(of, None, end).await
    }

    /// The same, of a commit that may be another one's.
    pub(crate) async fn deployment_of(&self, of: &str, commit: Option<u64>, end: Record) -> DeploymentId {
        let id = self.store.reserve_deployment().await.unwrap();
        let step = ship();
        let request = request(&project(of), commit.unwrap_or(id.0));
        let mut records = vec![opened(request), Record::Started { step: step.clone(), attempt: 1 }];
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
            let entry = Entry { deployment: id, seq: Seq(seq), at: self.now(), record };
            self.store.append(&entry, Durability::Process, None).await.unwrap();
        }
        id
    }

    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.book.services.0.lock().unwrap().sent.clone()
    }

    /// Returns the keys of what a channel was sent, in that order.
    pub(crate) fn keys(&self, channel: &str) -> Vec<String> {
        let sent = self.sent().into_iter().filter(|it| it.channel == channel);
        sent.map(|it| it.message.key).collect()
    }

    /// Returns how often a channel was asked, whatever it answered.
    pub(crate) fn asked(&self, channel: &str) -> usize {
        self.book.services.0.lock().unwrap().asked.get(channel).copied().unwrap_or_default()
    }

    /// Counts how often each channel was sent each message.
    pub(crate) fn counted(&self) -> BTreeMap<(String, String), usize> {
        let mut counted = BTreeMap::new();
        for Sent { channel, message } in self.sent() {
            *counted.entry((channel, message.key)).or_default() += 1;
        }
        counted
    }

    /// Sets how a service is; `None` when it is well.
    pub(crate) fn mood(&self, channel: &str, mood: Option<Mood>) {
        let mut heard = self.book.services.0.lock().unwrap();
        match mood {
            Some(mood) => heard.moods.insert(channel.to_owned(), mood),
            None => heard.moods.remove(channel),
        };
    }

    /// Returns all letters there are.
    pub(crate) async fn all(&self) -> Vec<Letter> {
        let filter = LetterFilter { follower: FOLLOWER.to_owned(), ..LetterFilter::default() };
        self.store.letters(&filter).await.unwrap()
    }

    /// Counts the letters in a state.
    pub(crate) async fn letters(&self, state: LetterState) -> usize {
        self.all().await.iter().filter(|letter| letter.state == state).count()
    }

    /// Does what `ee-deploy notify retry` does.
    pub(crate) async fn retry(&self) {
        for letter in self.all().await {
            self.store.revive(letter.id, self.now()).await.unwrap();
        }
    }
}

/// Posts and delivers, as a command does.
pub(crate) async fn work(courier: &Courier) {
    courier.post().await.unwrap();
    courier.deliver(&CancellationToken::new()).await.unwrap();
}
