//! Cursors and letters of those who follow the journals.

use std::collections::{BTreeMap, BTreeSet};

use eeveon_core::ProjectName;

use super::after;
use crate::{
    DEAD_LETTERS_KEPT, LETTERS_KEPT, Letter, LetterEnd, LetterFilter, LetterState, NewLetter, Position,
    StoreError,
};

#[derive(Debug, Default)]
pub(super) struct Outbox {
    cursors: BTreeMap<String, Position>,
    last: u64,
    letters: BTreeMap<u64, Letter>,
}

impl Outbox {
    pub(super) fn cursor(&self, follower: &str) -> Option<Position> {
        self.cursors.get(follower).copied()
    }

    pub(super) fn post(
        &mut self,
        follower: &str,
        upto: Position,
        letters: &[NewLetter],
    ) -> Result<bool, StoreError> {
        let cursor = self.cursor(follower);
        if cursor.is_some_and(|cursor| upto <= cursor) {
            return Ok(false);
        }
        self.add(
            follower,
            letters.iter().filter(|letter| cursor.is_none_or(|cursor| letter.position > cursor)),
        )?;
        self.cursors.insert(follower.to_owned(), upto);
        Ok(true)
    }

    pub(super) fn replace(&mut self, id: u64, by: &[NewLetter]) -> Result<bool, StoreError> {
        let waiting = |letter: &&Letter| letter.state == LetterState::Waiting;
        let Some(old) = self.letters.get(&id).filter(waiting).cloned() else { return Ok(false) };
        self.letters.remove(&id);
        self.add(&old.follower, by.iter())?;
        Ok(true)
    }

    /// Takes in the letters that are not there already.
    pub(super) fn add<'a>(
        &mut self,
        follower: &str,
        letters: impl Iterator<Item = &'a NewLetter>,
    ) -> Result<(), StoreError> {
        let own = self.letters.values().filter(|letter| letter.follower == follower);
        let mut there: BTreeSet<_> =
            own.map(|it| (it.project.clone(), it.channel.clone(), it.key.clone())).collect();
        let mut projects = BTreeSet::new();
        for new in letters {
            if there.insert((new.project.clone(), new.channel.clone(), new.key.clone())) {
                self.last = after(self.last)?;
                self.letters.insert(self.last, Letter::new(self.last, follower, new));
                projects.insert(&new.project);
            }
        }
        projects.into_iter().for_each(|project| self.crowd_out(project));
        Ok(())
    }

    /// Turns the oldest waiting letters of a project into dead ones, if there are too many.
    fn crowd_out(&mut self, project: &ProjectName) {
        let of_project = self.letters.values_mut().filter(|letter| letter.project == *project);
        let on_their_way: Vec<_> = of_project.filter(|letter| letter.state != LetterState::Dead).collect();
        let excess = on_their_way.len().saturating_sub(LETTERS_KEPT);
        let waiting = on_their_way.into_iter().filter(|letter| letter.state == LetterState::Waiting);
        waiting.take(excess).for_each(Letter::crowd_out);
        self.bury(project);
    }

    /// Removes the oldest dead letters of a project, if there are too many.
    fn bury(&mut self, project: &ProjectName) {
        let dead = |letter: &Letter| letter.project == *project && letter.state == LetterState::Dead;
        let dead: Vec<u64> = self.letters.values().filter(|it| dead(it)).map(|letter| letter.id).collect();
        let excess = dead.len().saturating_sub(DEAD_LETTERS_KEPT);
        dead.iter().take(excess).for_each(|id| drop(self.letters.remove(id)));
    }

    pub(super) fn letters(&self, filter: &LetterFilter) -> Vec<Letter> {
        let limit = match filter.limit {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let wanted = |it: &&Letter| {
            it.follower == filter.follower
                && filter.project.as_ref().is_none_or(|project| it.project == *project)
                && filter.channel.as_ref().is_none_or(|channel| it.channel == *channel)
                && filter.state.is_none_or(|state| it.state == state)
                && filter.due_by.is_none_or(|by| it.due_at <= by)
        };
        self.letters.values().filter(wanted).take(limit).cloned().collect()
    }

    /// Changes a letter if there is one and `change` says so; returns it then.
    pub(super) fn change(&mut self, id: u64, change: impl FnOnce(&mut Letter) -> bool) -> Option<Letter> {
        let letter = self.letters.get_mut(&id)?;
        change(letter).then(|| letter.clone())
    }

    pub(super) fn settle(&mut self, id: u64, end: LetterEnd) -> bool {
        let changed = match end {
            LetterEnd::Delivered => return self.remove(id),
            LetterEnd::Later { due_at, error } => self.change(id, |letter| letter.fail(Some(due_at), error)),
            LetterEnd::Unsent { error } => self.change(id, |letter| letter.unsend(error)),
            LetterEnd::Dead { error } => self.change(id, |letter| letter.fail(None, error)),
        };
        if let Some(letter) = &changed {
            self.bury(&letter.project);
        }
        changed.is_some()
    }

    pub(super) fn remove(&mut self, id: u64) -> bool {
        self.letters.remove(&id).is_some()
    }

    /// Removes the letters that `which` names; returns how many.
    pub(super) fn remove_all(&mut self, which: impl Fn(&Letter) -> bool) -> u64 {
        let before = self.letters.len();
        self.letters.retain(|_, letter| !which(letter));
        u64::try_from(before.saturating_sub(self.letters.len())).unwrap_or(u64::MAX)
    }
}
