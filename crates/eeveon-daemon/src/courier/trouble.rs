//! What keeps a project from being deployed by itself before there is a deployment: no journal tells of
//! it, so whoever works by itself says it here, as often as it happens, and people are told once.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use eeveon_core::ProjectName;
use eeveon_notify::{Event, Message, NotStarted};
use eeveon_store::{NewLetter, Position, StoreError};

use super::{Addressees, Courier, FOLLOWER, UNKNOWN};

/// How often in a row something that may pass by itself has to fail before people are told.
const LASTING: u32 = 3;

/// How many different troubles of one project are kept in mind.
const KEPT: usize = 50;

/// What a project was kept from.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Doing {
    /// Reading what its file names, such as a calendar.
    Reading,
    /// Looking at its repository.
    Looking,
    /// Deploying.
    Deploying,
}

/// A deployment, or the look before it, that could not begin.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// At what.
    pub doing: Doing,
    /// Whether it is tried again by itself, and may be over then.
    pub may_pass: bool,
    /// What there is to tell.
    pub what: NotStarted,
}

pub(super) type Troubles = BTreeMap<(ProjectName, Doing), Lately>;

/// How it went lately.
#[derive(Debug, Default)]
pub(super) struct Lately {
    in_a_row: u32,
    /// The codes and commits that were told.
    told: BTreeSet<Mark>,
}

/// What tells one trouble from another: its code, and the commit if there is one.
type Mark = (String, String);

impl Lately {
    /// Takes note of another failure. Returns whether people are to be told.
    fn is_news(&mut self, mark: &Mark, may_pass: bool) -> bool {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if may_pass && self.in_a_row < LASTING {
            return false;
        }
        if self.told.len() >= KEPT {
            self.told.clear();
        }
        self.told.insert(mark.clone())
    }
}

impl Courier {
    /// Takes note of a trouble, and writes a letter for everybody who wants to be told, once for each code
    /// and commit until [`Self::is_well`]. What may pass is told when it happens the third time in a row.
    ///
    /// # Errors
    ///
    /// The store failed.
    pub async fn trouble(&self, trouble: Trouble) -> Result<(), StoreError> {
        let Trouble { doing, may_pass, what } = trouble;
        let key = (what.project.clone(), doing);
        let commit = what.commit.as_ref().map(ToString::to_string).unwrap_or_default();
        let mark = (what.failure.code.clone(), commit);
        let is_news = {
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            troubles.entry(key.clone()).or_default().is_news(&mark, may_pass)
        };
        let Some(event) = Event::not_started(what).filter(|_| is_news) else { return Ok(()) };
        let written = self.write(event).await;
        if written.is_err() {
            // It was not told, so the next time it is.
            let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            troubles.entry(key).or_default().told.remove(&mark);
        }
        written
    }

    async fn write(&self, event: Event) -> Result<(), StoreError> {
        // What was recorded before is told before.
        self.post().await?;
        let letters = match self.book.look_up(&event.project).await {
            Ok(Some(book)) => self.to_all(&event, &book),
            Ok(None) => Vec::new(),
            // Kept for when the configuration can be read again.
            Err(_) => vec![self.letter(UNKNOWN, &Message::of(event))],
        };
        self.store.add_letters(FOLLOWER, &letters).await
    }

    /// Takes note that it went well again: what fails from now on is news.
    pub fn is_well(&self, project: &ProjectName, doing: Doing) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.remove(&(project.clone(), doing));
    }

    fn to_all(&self, event: &Event, book: &Addressees) -> Vec<NewLetter> {
        let event = Event { branch: book.branch.clone(), link: book.link.clone(), ..event.clone() };
        let message = Message::of(event);
        let wanted = book.channels.iter().filter(|it| it.route.wants(&message.event));
        wanted.map(|it| self.letter(it.notifier.name(), &message)).collect()
    }

    fn letter(&self, channel: &str, message: &Message) -> NewLetter {
        let now = self.clock.now();
        NewLetter {
            position: Position::default(),
            project: message.event.project.clone(),
            channel: channel.to_owned(),
            key: message.key.clone(),
            body: serde_json::to_string(&message.event).unwrap_or_default(),
            created_at: now,
            due_at: now,
        }
    }
}
