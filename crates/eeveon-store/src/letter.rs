//! Letters: what a follower of the journal has to tell somebody, kept until it has arrived. What
//! becomes of one is decided here, once, for every store.

use eeveon_core::ProjectName;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Position;

/// How many letters of one project may be on their way, dead ones not counted.
pub const LETTERS_KEPT: usize = 10_000;

/// How many dead letters of one project are kept; the oldest go first.
pub const DEAD_LETTERS_KEPT: usize = 1_000;

/// A letter on its way, or one that never arrived. Its JSON form is stored.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// Its number, never given to another one.
    pub id: u64,
    /// Who posted it, such as `notify`.
    pub follower: String,
    /// What it is about.
    pub project: ProjectName,
    /// Where it goes.
    pub channel: String,
    /// Tells it from the follower's other letters about the project to the same channel.
    pub key: String,
    /// What it says, as JSON of its follower's making. Holds no secret.
    pub body: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it is to be sent, or sent again.
    pub due_at: Timestamp,
    /// How often sending it was begun, since it was posted or revived.
    pub attempts: u32,
    /// Where it is.
    pub state: LetterState,
    /// Why it has not arrived yet.
    pub error: Option<String>,
}

/// Where a letter is. Its JSON form is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LetterState {
    /// It is to be sent when it is due.
    Waiting,
    /// It may have left. A process that died meanwhile leaves it so.
    Sending,
    /// It is not tried again, unless somebody revives it.
    Dead,
}

impl LetterState {
    /// Returns the word used in lists and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sending => "sending",
            Self::Dead => "dead",
        }
    }
}

/// A letter to be posted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewLetter {
    /// The newest entry it tells of.
    pub position: Position,
    /// What it is about.
    pub project: ProjectName,
    /// Where it goes.
    pub channel: String,
    /// Tells it from the follower's other letters about the project to the same channel.
    pub key: String,
    /// What it says, as JSON of its follower's making. Holds no secret.
    pub body: String,
    /// When it was written.
    pub created_at: Timestamp,
    /// When it is to be sent.
    pub due_at: Timestamp,
}

/// What came of sending a letter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LetterEnd {
    /// It arrived, and need not be remembered.
    Delivered,
    /// It is to be tried again.
    Later {
        /// When.
        due_at: Timestamp,
        /// Why it did not arrive.
        error: String,
    },
    /// It was not even sent, for whoever was to send it lacks what others may have: it waits as before, and
    /// no attempt is counted.
    Unsent {
        /// What is lacking.
        error: String,
    },
    /// It is given up.
    Dead {
        /// Why it did not arrive.
        error: String,
    },
}

/// Which letters to list.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Only those of this follower.
    pub follower: String,
    /// Only those about this project.
    pub project: Option<ProjectName>,
    /// Only those to this channel.
    pub channel: Option<String>,
    /// Only those in this state.
    pub state: Option<LetterState>,
    /// Only those due at this moment or before.
    pub due_by: Option<Timestamp>,
    /// At most so many; zero for all.
    pub limit: u32,
}

impl Letter {
    pub(crate) fn new(id: u64, follower: &str, new: &NewLetter) -> Self {
        Self {
            id,
            follower: follower.to_owned(),
            project: new.project.clone(),
            channel: new.channel.clone(),
            key: new.key.clone(),
            body: new.body.clone(),
            created_at: new.created_at,
            due_at: new.due_at,
            attempts: 0,
            state: LetterState::Waiting,
            error: None,
        }
    }

    /// Begins to send it. Returns whether it was waiting; nothing is changed if not.
    pub(crate) fn begin(&mut self) -> bool {
        let waiting = self.state == LetterState::Waiting;
        if waiting {
            self.state = LetterState::Sending;
            self.attempts = self.attempts.saturating_add(1);
        }
        waiting
    }

    /// Notes that it did not arrive, and is to be tried again at `again`, if ever. Returns whether it
    /// was being sent; nothing is changed if not.
    pub(crate) fn fail(&mut self, again: Option<Timestamp>, error: String) -> bool {
        let sending = self.state == LetterState::Sending;
        if sending {
            self.state = again.map_or(LetterState::Dead, |_| LetterState::Waiting);
            self.due_at = again.unwrap_or(self.due_at);
            self.error = Some(error);
        }
        sending
    }

    /// Notes that it was not even sent, as if nobody had begun to. Returns whether somebody had; nothing is
    /// changed if not.
    pub(crate) fn unsend(&mut self, error: String) -> bool {
        let sending = self.state == LetterState::Sending;
        if sending {
            self.state = LetterState::Waiting;
            self.attempts = self.attempts.saturating_sub(1);
            self.error = Some(error);
        }
        sending
    }

    /// Gives it another life. Returns whether it was dead; nothing is changed if not.
    pub(crate) fn revive(&mut self, now: Timestamp) -> bool {
        let dead = self.state == LetterState::Dead;
        if dead {
            self.state = LetterState::Waiting;
            self.attempts = 0;
            // Its time begins anew.
            self.created_at = now;
            self.due_at = now;
            self.error = None;
        }
        dead
    }

    /// Makes room for newer ones.
    pub(crate) fn crowd_out(&mut self) {
        self.state = LetterState::Dead;
        self.error = Some(format!(
            "more than {LETTERS_KEPT} letters of {} were waiting: the oldest were given up",
            self.project
        ));
    }
}
