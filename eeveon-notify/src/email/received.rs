//! Who has got a message already, while others could not take it yet: they are not to get it again
//! with every attempt. Kept in memory only; after a restart a letter may come twice, with one id.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::Mailbox;

/// How many messages are kept in mind.
const MESSAGES: usize = 64;

/// The addresses that got a message, by its key, oldest first.
#[derive(Default)]
pub(super) struct Received(Mutex<VecDeque<(String, BTreeSet<String>)>>);

impl Received {
    /// Returns those of `all` that did not get the message yet.
    pub(super) fn left<'a>(&self, key: &str, all: &'a [Mailbox]) -> Vec<&'a Mailbox> {
        let messages = self.messages();
        let got = messages.iter().find(|(of, _)| of == key).map(|(_, got)| got);
        all.iter().filter(|whom| got.is_none_or(|got| !got.contains(whom.address()))).collect()
    }

    /// Notes that these got it, too.
    pub(super) fn remember<'a>(&self, key: &str, taken: impl Iterator<Item = &'a &'a Mailbox>) {
        let taken = taken.map(|whom| whom.address().to_owned());
        let mut messages = self.messages();
        match messages.iter_mut().find(|(of, _)| of == key) {
            Some((_, got)) => got.extend(taken),
            None => messages.push_back((key.to_owned(), taken.collect())),
        }
        while messages.len() > MESSAGES {
            messages.pop_front();
        }
    }

    /// Forgets a message that is not sent any more.
    pub(super) fn forget(&self, key: &str) {
        self.messages().retain(|(of, _)| of != key);
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<(String, BTreeSet<String>)>> {
        // Whatever is noted is true, even if somebody panicked afterwards.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_forgets() {
        let all: Vec<Mailbox> = ["a@b", "c@d"].map(|it| it.parse().unwrap()).into();
        let received = Received::default();
        for at in 0..MESSAGES + 1 {
            received.remember(&at.to_string(), [&all[0]].iter());
        }
        assert_eq!(received.left("0", &all).len(), 2, "the oldest is forgotten");
        assert_eq!(received.left("1", &all), [&all[1]]);
        received.remember("1", [&all[1]].iter());
        assert!(received.left("1", &all).is_empty());
        received.forget("1");
        assert_eq!(received.left("1", &all).len(), 2);
    }
}
