//! Writing letters: what was recorded becomes one letter for everybody who wants to be told. What was
//! recorded while nobody could say who that is becomes one that is replaced by theirs later.

use std::collections::BTreeMap;

use eeveon_core::{DeploymentId, Entry, ProjectName, Record, Seq, State};
use eeveon_notify::{Event, Message, tell};
use eeveon_store::{Letter, LetterFilter, LetterState, NewLetter, Position, StoreError};
use jiff::Timestamp;

use super::{Addressees, Courier, FOLLOWER, UNKNOWN, read};

/// Entries read at once.
const BATCH: u32 = 500;

/// Whom each project tells, asked once and so the same for all that is posted together.
type Books = BTreeMap<ProjectName, Result<Option<Addressees>, String>>;

impl Courier {
    /// Writes letters for everything that was recorded since the last time, after those that were
    /// written before and can be addressed only now. Returns whether anything was recorded.
    ///
    /// # Errors
    ///
    /// The store failed; the next call goes on from there.
    pub async fn post(&self) -> Result<bool, StoreError> {
        let mut books = Books::new();
        self.address(&mut books).await?;
        let mut is_news = false;
        loop {
            let come = self.store.cursor(FOLLOWER).await?.unwrap_or_default();
            let followed = self.store.follow(come, BATCH).await?;
            let Some(upto) = followed.last().map(|(position, _)| *position) else { return Ok(is_news) };
            is_news = true;
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

    /// Replaces letters that were written while nobody could say whom to tell by one for each channel
    /// that wants it, as soon as somebody can.
    async fn address(&self, books: &mut Books) -> Result<(), StoreError> {
        let filter = LetterFilter {
            follower: FOLLOWER.to_owned(),
            channel: Some(UNKNOWN.to_owned()),
            state: Some(LetterState::Waiting),
            ..LetterFilter::default()
        };
        for letter in self.store.letters(&filter).await? {
            let letters = match self.book(&letter.project, books).await {
                Ok(Some(book)) => self.addressed(&letter, book),
                Ok(None) => Vec::new(),
                Err(_) => continue,
            };
            self.store.replace(letter.id, &letters).await?;
        }
        Ok(())
    }

    fn addressed(&self, letter: &Letter, book: &Addressees) -> Vec<NewLetter> {
        // It was not known then. What this version cannot read each channel gives up by itself.
        let event =
            read(letter).map(|event| Event { branch: book.branch.clone(), link: book.link.clone(), ..event });
        let body = event.as_ref().and_then(|event| serde_json::to_string(event).ok());
        let body = body.unwrap_or_else(|| letter.body.clone());
        let now = self.clock.now();
        let wants = |channel: &&super::Channel| event.as_ref().is_none_or(|it| channel.route.wants(it));
        let letter = |channel: &super::Channel| NewLetter {
            position: Position::default(),
            project: letter.project.clone(),
            channel: channel.notifier.name().to_owned(),
            key: letter.key.clone(),
            body: body.clone(),
            created_at: now,
            due_at: now,
        };
        book.channels.iter().filter(wants).map(letter).collect()
    }

    /// Returns whom `project` tells.
    async fn book<'a>(
        &self,
        project: &ProjectName,
        books: &'a mut Books,
    ) -> Result<Option<&'a Addressees>, ()> {
        if !books.contains_key(project) {
            books.insert(project.clone(), self.book.look_up(project).await);
        }
        match books.get(project) {
            Some(Ok(book)) => Ok(book.as_ref()),
            Some(Err(_)) | None => Err(()),
        }
    }

    async fn letters_about(
        &self,
        position: Position,
        entry: &Entry,
        books: &mut Books,
    ) -> Result<Vec<NewLetter>, StoreError> {
        let Some((state, opened)) = self.state_at(entry.deployment, entry.seq).await? else {
            return Ok(Vec::new());
        };
        let Some(project) = state.request.as_ref().map(|it| it.project().clone()) else {
            return Ok(Vec::new());
        };
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
        let (book, unknown) = match self.book(&project, books).await {
            Ok(Some(book)) => (book, false),
            Ok(None) => return Ok(Vec::new()),
            Err(()) => (&nobody, true),
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
}

/// Tells whether an entry may be worth a message, so that most journals need not be read.
fn may_be_news(entry: &Entry) -> bool {
    match &entry.record {
        Record::Opened { .. } | Record::Parked { .. } | Record::Closed { .. } => true,
        Record::Finished { output, .. } => output.get("flapped").is_some(),
        _ => false,
    }
}
