//! The courier: follows the journal by a stored cursor, writes a letter for everybody who wants to be
//! told, and delivers. A follower like any other; no deployment waits for it.
//!
//! Nothing is lost and nothing is sent more than twice, wherever a process dies: a letter is posted
//! in one transaction with the cursor, is noted as being sent before it leaves, and is removed once
//! it arrived. One that was being sent when its process died may have arrived, so it is sent once
//! more; when that process dies too, it is given up with that reason, for a person to look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use eeveon_core::{Clock, DeploymentId, Entry, Fence, ProjectName, Record, Seq, State, Untrusted};
use eeveon_notify::{
    Event, Message, Next, Notifier, NotifyError, Patience, Route, Told, after_failure, coalesce, held_until,
    tell,
};
use eeveon_store::{
    Acquired, Lease, Letter, LetterEnd, LetterFilter, LetterState, Liveness, NewLetter, Owner, Position,
    Store, StoreError,
};
use futures::future::join_all;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

/// The name the courier follows under.
pub const FOLLOWER: &str = "notify";

/// Entries read at once.
const BATCH: u32 = 500;

/// Messages of one channel that are remembered as told.
const TOLD: usize = 20;

/// Letters of one channel looked at together.
const LETTERS: usize = 200;

/// A lease on a project's letters ends this long after its last sign of life, which is before each
/// message: sending one is over much earlier.
const LIFETIME: Duration = Duration::from_secs(60);

/// What the error of a letter begins with that was being sent when its process died.
const INTERRUPTED: &str = "the process that sent it died, and it may have arrived";

/// Somebody who wants to be told.
#[derive(Clone, Debug)]
pub struct Channel {
    /// What of.
    pub route: Route,
    /// How.
    pub notifier: Arc<dyn Notifier>,
}

/// Whom a project tells, and what of itself.
#[derive(Clone, Debug, Default)]
pub struct Addressees {
    /// The branch that is deployed.
    pub branch: Untrusted,
    /// Where to read more.
    pub link: Option<String>,
    /// Everybody, each under a name of their own.
    pub channels: Vec<Channel>,
}

/// Knows whom each project tells.
#[async_trait]
pub trait AddressBook: fmt::Debug + Send + Sync {
    /// Returns whom `project` tells now; `None` when there is no such project any more.
    ///
    /// # Errors
    ///
    /// Why nobody can say, for people.
    async fn look_up(&self, project: &ProjectName) -> Result<Option<Addressees>, String>;
}

/// What came of a round.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Round {
    /// Messages that arrived.
    pub arrived: u32,
    /// Messages that did not arrive and are tried again, with the channel and why.
    pub delayed: Vec<(ProjectName, String, String)>,
    /// Messages that were given up, with the channel and why.
    pub dead: Vec<(ProjectName, String, String)>,
}

impl Round {
    fn add(&mut self, other: Self) {
        self.arrived = self.arrived.saturating_add(other.arrived);
        self.delayed.extend(other.delayed);
        self.dead.extend(other.dead);
    }
}

/// Follows the journal and delivers.
#[derive(Clone, Debug)]
pub struct Courier {
    store: Arc<dyn Store>,
    book: Arc<dyn AddressBook>,
    clock: Arc<dyn Clock>,
    me: Owner,
    patience: Patience,
    /// What each channel was told last, as long as this process lives.
    told: Arc<Mutex<ToldBefore>>,
}

/// The newest events each channel of each project was told of.
type ToldBefore = BTreeMap<(ProjectName, String), Vec<Event>>;

/// A message on its way.
struct Parcel {
    letter: u64,
    due_at: Timestamp,
    message: Message,
    /// The letters that are folded into it.
    folded: Vec<u64>,
}

impl Courier {
    /// Makes a courier that works as the process `me`.
    pub fn new(store: Arc<dyn Store>, book: Arc<dyn AddressBook>, clock: Arc<dyn Clock>, me: Owner) -> Self {
        Self { store, book, clock, me, patience: Patience::default(), told: Arc::default() }
    }

    /// Replaces how patiently a message is tried again.
    pub fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Takes note of where the journal ends, the first time ever: what was before is nobody's news.
    /// To be called before anything new is recorded.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn begin(&self) -> Result<(), StoreError> {
        if self.store.cursor(FOLLOWER).await?.is_none() {
            let end = self.store.newest_position().await?;
            self.store.post(FOLLOWER, end, &[]).await?;
        }
        Ok(())
    }

    /// Tells whether there is anything to do now.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn has_work(&self) -> Result<bool, StoreError> {
        let come = self.store.cursor(FOLLOWER).await?.unwrap_or_default();
        if self.store.newest_position().await? > come {
            return Ok(true);
        }
        let due = self.store.next_due(FOLLOWER).await?;
        Ok(due.is_some_and(|due| due <= self.clock.now()))
    }

    /// Writes letters for everything that was recorded since the last time.
    ///
    /// # Errors
    ///
    /// The store failed; the next call goes on from there.
    pub async fn post(&self) -> Result<(), StoreError> {
        let mut books: BTreeMap<ProjectName, Result<Option<Addressees>, String>> = BTreeMap::new();
        loop {
            let come = self.store.cursor(FOLLOWER).await?.unwrap_or_default();
            let followed = self.store.follow(come, BATCH).await?;
            let Some(upto) = followed.last().map(|(position, _)| *position) else { return Ok(()) };
            let mut letters = Vec::new();
            for (position, entry) in &followed {
                match entry {
                    Ok(entry) if may_be_news(entry) => {
                        letters.extend(self.letters_about(*position, entry, &mut books).await?);
                    }
                    Ok(_) => {}
                    // Not ours to guess at; the deployment it belongs to is told of by its own reader.
                    Err(error) => tracing::warn!(%error, "an entry of the journal cannot be told of"),
                }
            }
            self.store.post(FOLLOWER, upto, &letters).await?;
        }
    }

    async fn letters_about(
        &self,
        position: Position,
        entry: &Entry,
        books: &mut BTreeMap<ProjectName, Result<Option<Addressees>, String>>,
    ) -> Result<Vec<NewLetter>, StoreError> {
        let Some((state, opened)) = self.state_at(entry.deployment, entry.seq).await? else {
            return Ok(Vec::new());
        };
        let Some(project) = state.request.as_ref().map(|it| it.project().clone()) else {
            return Ok(Vec::new());
        };
        if !books.contains_key(&project) {
            let book = self.book.look_up(&project).await;
            books.insert(project.clone(), book);
        }
        let now = self.clock.now();
        let letter = |channel: &str, message: &Message| NewLetter {
            position,
            project: project.clone(),
            channel: channel.to_owned(),
            key: message.key.clone(),
            body: serde_json::to_string(&message.event).unwrap_or_default(),
            created_at: now,
            due_at: now,
        };
        let nobody = Addressees::default();
        let (book, unknown) = match books.get(&project) {
            Some(Ok(Some(book))) => (book, false),
            Some(Err(_)) => (&nobody, true),
            Some(Ok(None)) | None => return Ok(Vec::new()),
        };
        let mut letters = Vec::new();
        for event in tell(&state, entry, opened, &book.branch, book.link.as_deref()) {
            let message = Message::of(event);
            if unknown {
                // Kept for when the configuration can be read again.
                letters.push(letter(UNKNOWN, &message));
            }
            let wanted = book.channels.iter().filter(|it| it.route.wants(&message.event));
            letters.extend(wanted.map(|it| letter(it.notifier.name(), &message)));
        }
        Ok(letters)
    }

    /// Folds a deployment's journal up to and including one entry.
    async fn state_at(
        &self,
        deployment: DeploymentId,
        seq: Seq,
    ) -> Result<Option<(State, Timestamp)>, StoreError> {
        let mut state = State::default();
        let mut opened = None;
        for entry in self.store.read(deployment, Seq::default()).await? {
            if entry.seq > seq {
                break;
            }
            opened.get_or_insert(entry.at);
            if let Err(error) = state.apply(&entry.record) {
                tracing::warn!(%deployment, %error, "a journal cannot be told of");
                return Ok(None);
            }
        }
        Ok(opened.map(|opened| (state, opened)))
    }

    /// Delivers everything that is due, every project and channel beside the others, until it is done
    /// or `stop` fires. A message that is on its way then is waited for no longer.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn deliver(&self, stop: &CancellationToken) -> Result<Round, StoreError> {
        let filter = LetterFilter { follower: FOLLOWER.to_owned(), ..LetterFilter::default() };
        let mut due: BTreeSet<(ProjectName, String)> = BTreeSet::new();
        for letter in self.store.letters(&filter).await? {
            let waits = letter.state == LetterState::Waiting && letter.due_at <= self.clock.now();
            if waits || letter.state == LetterState::Sending {
                due.insert((letter.project, letter.channel));
            }
        }
        // Each channel by itself, also against other processes: none waits for a slow one.
        let rounds = due.into_iter().map(|(project, channel)| self.deliver_to(project, channel, stop));
        let mut sum = Round::default();
        for round in join_all(rounds).await {
            sum.add(round?);
        }
        Ok(sum)
    }

    async fn deliver_to(
        &self,
        project: ProjectName,
        channel: String,
        stop: &CancellationToken,
    ) -> Result<Round, StoreError> {
        let Some(lease) = self.lease(&project, &channel).await? else { return Ok(Round::default()) };
        let result = match self.book.look_up(&project).await {
            Ok(Some(book)) if channel == UNKNOWN => self.readdress(&project, &book, stop).await,
            Ok(Some(book)) => match book.channels.iter().find(|it| it.notifier.name() == channel) {
                Some(channel) => self.deliver_channel(&project, channel, &lease, stop).await,
                // It was taken away.
                None => self.forget(&project, &channel).await.map(|()| Round::default()),
            },
            // Nobody is left to be told.
            Ok(None) => self.forget(&project, &channel).await.map(|()| Round::default()),
            Err(why) => Ok(Round { delayed: vec![(project.clone(), channel, why)], ..Round::default() }),
        };
        self.store.release(&lease).await?;
        result
    }

    async fn lease(&self, project: &ProjectName, channel: &str) -> Result<Option<Lease>, StoreError> {
        let name = format!("notify/{project}/{channel}");
        let mut dead = None;
        loop {
            match self.store.acquire(&name, &self.me, LIFETIME, dead, Fence(0)).await? {
                Acquired::Granted(lease) => return Ok(Some(lease)),
                Acquired::Held(holder) if holder.owner.liveness(&self.me) == Liveness::Dead => {
                    dead = Some(holder.fence);
                }
                // It delivers what we would.
                Acquired::Held(_) => return Ok(None),
            }
        }
    }

    /// Drops the letters of a channel that is not there any more, those given up apart.
    async fn forget(&self, project: &ProjectName, channel: &str) -> Result<(), StoreError> {
        for letter in self.of(project, channel).await? {
            self.store.forget(letter.id).await?;
        }
        Ok(())
    }

    /// Returns the letters of a channel that are on their way.
    async fn of(&self, project: &ProjectName, channel: &str) -> Result<Vec<Letter>, StoreError> {
        let filter = LetterFilter {
            follower: FOLLOWER.to_owned(),
            project: Some(project.clone()),
            channel: Some(channel.to_owned()),
            ..LetterFilter::default()
        };
        let mut letters = self.store.letters(&filter).await?;
        letters.retain(|it| it.state != LetterState::Dead);
        letters.truncate(LETTERS);
        Ok(letters)
    }

    /// Sends letters that were written while the configuration could not be read to everybody who wants
    /// them, once. Nobody knew whom to tell, so none is kept for each of them.
    async fn readdress(
        &self,
        project: &ProjectName,
        book: &Addressees,
        stop: &CancellationToken,
    ) -> Result<Round, StoreError> {
        let mut round = Round::default();
        let letters = self.of(project, UNKNOWN).await?;
        let letters = match self.settle_interrupted(&letters, &mut round).await? {
            true => self.of(project, UNKNOWN).await?,
            false => letters,
        };
        for letter in letters {
            if stop.is_cancelled() {
                break;
            }
            let Some(letter) = self.store.begin_sending(letter.id).await? else { continue };
            let mut end = LetterEnd::Delivered;
            if let Some(event) = read(&letter) {
                let message = Message::of(event);
                let wanted = book.channels.iter().filter(|it| it.route.wants(&message.event));
                let sending = wanted.map(|channel| async {
                    let sent = tokio::select! {
                        sent = channel.notifier.notify(&message) => sent.map_err(|error| error.to_string()),
                        () = stop.cancelled() => Err("it had not answered when the time was over".to_owned()),
                    };
                    (channel.notifier.name().to_owned(), sent)
                });
                for (name, sent) in join_all(sending).await {
                    match sent {
                        Ok(()) => round.arrived = round.arrived.saturating_add(1),
                        Err(error) => {
                            let error = format!("{name}: {error}");
                            round.dead.push((project.clone(), name, error.clone()));
                            end = LetterEnd::Dead { error };
                        }
                    }
                }
            }
            self.store.settle(letter.id, end).await?;
        }
        Ok(round)
    }

    async fn deliver_channel(
        &self,
        project: &ProjectName,
        channel: &Channel,
        lease: &Lease,
        stop: &CancellationToken,
    ) -> Result<Round, StoreError> {
        let mut round = Round::default();
        'rounds: loop {
            let letters = self.of(project, channel.notifier.name()).await?;
            if self.settle_interrupted(&letters, &mut round).await? {
                continue;
            }
            // What waits now is folded once and told to its end: what comes meanwhile is another round.
            let messages = self.messages(&letters).await?;
            if messages.is_empty() {
                break;
            }
            for (at, Parcel { letter, due_at, message, folded }) in messages.iter().enumerate() {
                let newer: Vec<Event> =
                    messages.iter().skip(at.saturating_add(1)).map(|it| it.message.event.clone()).collect();
                if *due_at > self.clock.now() || self.is_held(project, channel, &message.event, &newer) {
                    // Later ones wait behind it: the order stays.
                    break 'rounds;
                }
                if stop.is_cancelled() || !self.store.renew(lease, LIFETIME).await? {
                    break 'rounds;
                }
                let Some(letter) = self.store.begin_sending(*letter).await? else { break 'rounds };
                let sent = tokio::select! {
                    sent = channel.notifier.notify(message) => sent,
                    () = stop.cancelled() => Err(NotifyError::Unreachable {
                        channel: channel.notifier.name().to_owned(),
                        why: "it had not answered when the time was over".to_owned(),
                    }),
                };
                match sent {
                    Ok(()) => {
                        // What it stands for first: should we die in between, it is at most sent again.
                        for id in folded {
                            self.store.settle(*id, LetterEnd::Delivered).await?;
                        }
                        self.store.settle(letter.id, LetterEnd::Delivered).await?;
                        round.arrived = round.arrived.saturating_add(1);
                        self.was_told(project, channel, &message.event);
                    }
                    Err(error) => {
                        if !self.failed(project, channel, &letter, &error, &mut round).await? {
                            break 'rounds;
                        }
                    }
                }
            }
        }
        Ok(round)
    }

    /// Tells whether a message is held back because the same failure was told shortly before.
    fn is_held(&self, project: &ProjectName, channel: &Channel, event: &Event, newer: &[Event]) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.get(&(project.clone(), channel.notifier.name().to_owned()));
        let until = held_until(event, told.map_or(&[], Vec::as_slice), newer);
        until.is_some_and(|until| until > self.clock.now())
    }

    fn was_told(&self, project: &ProjectName, channel: &Channel, event: &Event) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry((project.clone(), channel.notifier.name().to_owned())).or_default();
        told.push(event.clone());
        let old = told.len().saturating_sub(TOLD);
        told.drain(..old);
    }

    /// Sees to letters that a process was sending when it died. Returns whether there were any.
    async fn settle_interrupted(&self, letters: &[Letter], round: &mut Round) -> Result<bool, StoreError> {
        let mut any = false;
        for letter in letters.iter().filter(|it| it.state == LetterState::Sending) {
            any = true;
            let again = letter.error.as_ref().is_some_and(|error| error.starts_with(INTERRUPTED));
            let error = INTERRUPTED.to_owned();
            let end = match again {
                true => {
                    round.dead.push((letter.project.clone(), letter.channel.clone(), error.clone()));
                    LetterEnd::Dead { error }
                }
                false => LetterEnd::Later { due_at: self.clock.now(), error },
            };
            self.store.settle(letter.id, end).await?;
        }
        Ok(any)
    }

    /// Makes messages of the letters that wait, folded as the rules say.
    async fn messages(&self, letters: &[Letter]) -> Result<Vec<Parcel>, StoreError> {
        let mut waiting: Vec<(&Letter, Event)> = Vec::new();
        for letter in letters.iter().filter(|it| it.state == LetterState::Waiting) {
            match read(letter) {
                Some(event) => waiting.push((letter, event)),
                None => {
                    // Written by another version, or damaged: nobody can tell it any more.
                    self.store.begin_sending(letter.id).await?;
                    let error = "what it says cannot be read by this version".to_owned();
                    self.store.settle(letter.id, LetterEnd::Dead { error }).await?;
                }
            }
        }
        let events: Vec<Event> = waiting.iter().map(|(_, event)| event.clone()).collect();
        let letter = |at: usize| waiting.get(at).map(|(letter, _)| *letter);
        let parcel = |told: Told| {
            let chosen = letter(told.at)?;
            let folded = told.folded.iter().filter_map(|at| letter(*at)).map(|it| it.id).collect();
            let (letter, due_at) = (chosen.id, chosen.due_at);
            Some(Parcel { letter, due_at, message: Message::of(told.event), folded })
        };
        Ok(coalesce(&events).into_iter().filter_map(parcel).collect())
    }

    /// Notes that a message did not arrive. Returns whether others may be tried now.
    async fn failed(
        &self,
        project: &ProjectName,
        channel: &Channel,
        letter: &Letter,
        error: &NotifyError,
        round: &mut Round,
    ) -> Result<bool, StoreError> {
        let failure = eeveon_core::Failure::of(error, eeveon_core::Stage::Retire);
        let causes = failure.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
        let mut text = format!("{}{causes} [{}]", failure.message, failure.code);
        if letter.error.as_ref().is_some_and(|before| before.starts_with(INTERRUPTED)) {
            text = format!("{INTERRUPTED}; then: {text}");
        }
        let told = (project.clone(), channel.notifier.name().to_owned(), text.clone());
        let now = self.clock.now();
        match after_failure(letter.attempts, letter.created_at, now, error, &self.patience, letter.id) {
            Next::Again { at } => {
                round.delayed.push(told);
                self.store.settle(letter.id, LetterEnd::Later { due_at: at, error: text }).await?;
                Ok(false)
            }
            Next::Dead => {
                round.dead.push(told);
                self.store.settle(letter.id, LetterEnd::Dead { error: text }).await?;
                Ok(true)
            }
        }
    }
}

/// The channel of letters that were written while nobody could say whom to tell.
const UNKNOWN: &str = "(unknown)";

/// Tells whether an entry may be worth a message, so that most journals need not be read.
fn may_be_news(entry: &Entry) -> bool {
    match &entry.record {
        Record::Opened { .. } | Record::Parked { .. } | Record::Closed { .. } => true,
        Record::Finished { output, .. } => output.get("flapped").is_some(),
        _ => false,
    }
}

fn read(letter: &Letter) -> Option<Event> {
    let event: Event = serde_json::from_str(&letter.body).ok()?;
    (event.format == eeveon_notify::FORMAT).then_some(event)
}
