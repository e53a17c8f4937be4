//! Delivering: each channel's letters in their order, folded as the rules say, tried again or given up.

use std::{collections::BTreeSet, sync::PoisonError, time::Duration};

use eeveon_core::{Fence, ProjectName};
use eeveon_notify::{
    Event, Message, Next, NotifyError, Told, after_failure, coalesce, held_until, rest_after,
};
use eeveon_store::{Acquired, Lease, Letter, LetterEnd, LetterFilter, LetterState, StoreError, take_over};
use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{Channel, Courier, FOLLOWER, Round, UNKNOWN, Waiting, WaitsFor, read, rest::Rest};

/// Messages of one channel that are remembered as told.
const TOLD: usize = 20;

/// Letters of one channel looked at together.
const LETTERS: usize = 200;

/// A lease on a channel's letters ends this long after its last sign of life, which is before each
/// message: longer than sending one can take, which is four minutes for an e-mail to a server that
/// needs a minute for each answer.
const LIFETIME: Duration = Duration::from_secs(5 * 60);

/// What the error of a letter begins with that was being sent when its process died.
const INTERRUPTED: &str = "the process that sent it died, and it may have arrived";

/// A message on its way.
struct Parcel {
    letter: u64,
    message: Message,
    /// The letters that are folded into it.
    folded: Vec<u64>,
}

impl Courier {
    /// Delivers as [`Self::deliver`] does, for at most `bound`, or until `interrupted` fires. What has
    /// not answered then is tried again later, as after any attempt that took too long.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn deliver_within(
        &self,
        bound: Duration,
        interrupted: &CancellationToken,
    ) -> Result<Round, StoreError> {
        let stop = interrupted.child_token();
        let mut round = std::pin::pin!(self.deliver(&stop));
        tokio::select! {
            round = &mut round => return round,
            () = tokio::time::sleep(bound) => stop.cancel(),
        }
        // Only what is noted in the store is left.
        round.await
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
        due.retain(|channel| !self.lacks_still(channel));
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
        let rest = self.rest(&project, &channel).await?;
        if let Some(rest) = rest.filter(|it| it.lasts(self.clock.now(), &self.patience)) {
            // Whatever waits for it, and whoever asks.
            return self.left(&project, &channel, Round::default(), WaitsFor::Until(rest.until)).await;
        }
        let lease = match self.lease(&project, &channel).await? {
            Acquired::Granted(lease) => lease,
            // It delivers what we would.
            Acquired::Held(holder) => {
                let who = format!("{} (process {})", holder.owner.label, holder.owner.pid);
                return self.left(&project, &channel, Round::default(), WaitsFor::Process(who)).await;
            }
        };
        let result = match self.book.look_up(&project).await {
            Ok(Some(book)) => match book.channels.iter().find(|it| it.notifier.name() == channel) {
                Some(channel) => self.deliver_channel(&project, channel, &lease, rest.is_some(), stop).await,
                // Whoever posts next addresses them.
                None if channel == UNKNOWN => Ok(Round::default()),
                // It was taken away.
                None => self.forget(&project, &channel).await.map(|()| Round::default()),
            },
            // Nobody is left to be told.
            Ok(None) => self.forget(&project, &channel).await.map(|()| Round::default()),
            Err(why) => {
                let delayed = vec![(project.clone(), channel.clone(), why)];
                let round = Round { delayed, ..Round::default() };
                self.left(&project, &channel, round, WaitsFor::Another).await
            }
        };
        self.store.release(&lease).await?;
        result
    }

    async fn lease(&self, project: &ProjectName, channel: &str) -> Result<Acquired, StoreError> {
        let name = format!("notify/{project}/{channel}");
        take_over(&*self.store, &name, &self.me, LIFETIME, Fence(0)).await
    }

    /// Drops what waits for channels that are gone, before it is due. What is due is dropped when it is
    /// to be delivered.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn drop_gone(&self) -> Result<(), StoreError> {
        if self.store.next_due(FOLLOWER).await?.is_none() {
            return Ok(());
        }
        let waiting = Some(LetterState::Waiting);
        let filter =
            LetterFilter { follower: FOLLOWER.to_owned(), state: waiting, ..LetterFilter::default() };
        let letters = self.store.letters(&filter).await?.into_iter();
        let channels: BTreeSet<(ProjectName, String)> =
            letters.map(|letter| (letter.project, letter.channel)).collect();
        for (project, channel) in channels.into_iter().filter(|(_, channel)| channel != UNKNOWN) {
            let is_gone = match self.book.look_up(&project).await {
                Ok(Some(book)) => !book.channels.iter().any(|it| it.notifier.name() == channel),
                Ok(None) => true,
                // Nobody knows.
                Err(_) => false,
            };
            if is_gone {
                self.forget(&project, &channel).await?;
            }
        }
        Ok(())
    }

    /// Drops the letters of a channel that is not there any more, those given up apart.
    async fn forget(&self, project: &ProjectName, channel: &str) -> Result<(), StoreError> {
        for letter in self.of(project, channel).await? {
            self.store.forget(letter.id).await?;
        }
        self.set_rest(project, channel, None).await
    }

    /// Adds to what came of a channel how many of its letters were not even tried.
    async fn left(
        &self,
        project: &ProjectName,
        channel: &str,
        mut round: Round,
        what_for: WaitsFor,
    ) -> Result<Round, StoreError> {
        // What another process is sending at this moment is ours as well.
        let by_others = matches!(what_for, WaitsFor::Process(_));
        let letters = self.of(project, channel).await?;
        let waiting = letters.iter().filter(|it| by_others || it.state == LetterState::Waiting).count();
        let count = waiting.saturating_sub(round.delayed.len());
        if count > 0 {
            let (project, channel) = (project.clone(), channel.to_owned());
            round.waiting.push(Waiting { project, channel, count, what_for });
        }
        Ok(round)
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
        Ok(letters)
    }

    async fn deliver_channel(
        &self,
        project: &ProjectName,
        channel: &Channel,
        lease: &Lease,
        mut rested: bool,
        stop: &CancellationToken,
    ) -> Result<Round, StoreError> {
        let name = channel.notifier.name();
        let mut round = Round::default();
        'rounds: loop {
            let mut letters = self.of(project, name).await?;
            letters.truncate(LETTERS);
            if self.settle_interrupted(&letters, &mut round).await? {
                continue;
            }
            // What waits now is folded once and told to its end: what comes meanwhile is another round.
            let messages = self.messages(&letters).await?;
            if messages.is_empty() {
                break;
            }
            for (at, Parcel { letter, message, folded }) in messages.iter().enumerate() {
                let newer: Vec<Event> =
                    messages.iter().skip(at.saturating_add(1)).map(|it| it.message.event.clone()).collect();
                if self.is_held(project, channel, &message.event, &newer) {
                    // Later ones wait behind it: the order stays.
                    break 'rounds;
                }
                if stop.is_cancelled() || !self.store.renew(lease, LIFETIME).await? {
                    break 'rounds;
                }
                // Somebody dropped it meanwhile: the others are looked at anew.
                let Some(letter) = self.store.begin_sending(*letter).await? else { continue 'rounds };
                let sent = tokio::select! {
                    sent = channel.notifier.notify(message) => sent,
                    () = stop.cancelled() => Err(NotifyError::Unreachable {
                        channel: name.to_owned(),
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
                        if std::mem::take(&mut rested) {
                            self.set_rest(project, name, None).await?;
                        }
                    }
                    Err(error) => {
                        if !self.failed(project, channel, &letter, &error, &mut round).await? {
                            break 'rounds;
                        }
                    }
                }
            }
        }
        self.left(project, name, round, WaitsFor::Another).await
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
            Some(Parcel { letter: chosen.id, message: Message::of(told.event), folded })
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
        let next = after_failure(letter.attempts, letter.created_at, now, error, &self.patience, letter.id);
        let rest = rest_after(next, now, error, &self.patience);
        if let Some(until) = rest {
            // First: should we die in between, nobody is asked too early.
            let rest = Rest::new(until, error.retry_after().is_some());
            self.set_rest(project, channel.notifier.name(), Some(rest)).await?;
        }
        match next {
            Next::Again { at } => {
                round.delayed.push(told);
                self.store.settle(letter.id, LetterEnd::Later { due_at: at, error: text }).await?;
                Ok(false)
            }
            Next::Elsewhere => {
                self.lacks_secret(project, channel.notifier.name());
                round.delayed.push(told);
                self.store.settle(letter.id, LetterEnd::Unsent { error: text }).await?;
                Ok(false)
            }
            Next::Dead => {
                round.dead.push(told);
                self.store.settle(letter.id, LetterEnd::Dead { error: text }).await?;
                Ok(rest.is_none())
            }
        }
    }
}
