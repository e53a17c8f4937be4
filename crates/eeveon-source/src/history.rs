//! What the mirror knows of history: one commit, its parents, the commits between two.

use std::collections::{HashMap, HashSet};

use eeveon_core::{CommitId, Revision, Untrusted};
use gix::{ObjectId, objs::CommitRef, prelude::FindExt};
use jiff::Timestamp;

use crate::{
    Mirror, SourceError,
    mirror::{Inner, missing, object_id},
    range::between,
    watch::chain,
};

/// The commits that lead from one to another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Between {
    /// Newest first.
    pub revisions: Vec<Revision>,
    /// Whether these are all, and `old` has none of them. Not known when history is cut off on the
    /// way; not so when there are more than asked for.
    pub complete: bool,
}

impl Mirror {
    /// Describes a commit. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// `source/corrupt` when it is not here or damaged.
    pub fn revision(&self, commit: &CommitId) -> Result<Revision, SourceError> {
        let id = object_id(commit)?;
        History::of(&self.inner)?.revision(id)
    }

    /// Returns the parents of a commit, none for a first one; `None` when the commit is not here.
    /// Where history is cut off the commit still names its parents, and they are not here. Blocks,
    /// shortly.
    ///
    /// # Errors
    ///
    /// `source/corrupt` when the commit is damaged.
    pub fn parents(&self, commit: &CommitId) -> Result<Option<Vec<CommitId>>, SourceError> {
        let history = History::of(&self.inner)?;
        let id = object_id(commit)?;
        if !history.repo.has_object(id) {
            return Ok(None);
        }
        let mut buffer = Vec::new();
        let parents: Vec<ObjectId> = history.read(id, &mut buffer)?.parents().collect();
        parents.into_iter().map(commit_id).collect::<Result<_, _>>().map(Some)
    }

    /// Lists the commits that `new` has and `old` has not, newest first as far as their clocks can be
    /// believed, at most `limit`. Never lists one that `old` visibly has, whatever the clocks say.
    /// Blocks.
    ///
    /// # Errors
    ///
    /// `source/corrupt` when `new` is not here or something is damaged.
    pub fn commits_between(
        &self,
        old: &CommitId,
        new: &CommitId,
        limit: usize,
    ) -> Result<Between, SourceError> {
        let mut history = History::of(&self.inner)?;
        let (old, new) = (object_id(old)?, object_id(new)?);
        if history.look(new)?.is_none() {
            return Err(missing(new));
        }
        let (ids, complete) = between(old, new, limit, |id| history.look(id))?;
        let revisions = ids.into_iter().map(|id| history.revision(id)).collect::<Result<_, _>>()?;
        Ok(Between { revisions, complete })
    }
}

/// One commit, as far as its place in history goes.
#[derive(Clone)]
pub(crate) struct Seen {
    /// The committer's clock, in seconds.
    pub(crate) time: i64,
    /// Empty where history is cut off.
    pub(crate) parents: Vec<ObjectId>,
    /// Whether it has parents that are not here.
    pub(crate) cut: bool,
}

/// Walks through what is here.
pub(crate) struct History {
    repo: gix::Repository,
    shallow: HashSet<ObjectId>,
    seen: HashMap<ObjectId, Option<Seen>>,
}

impl History {
    pub(crate) fn of(inner: &Inner) -> Result<Self, SourceError> {
        let repo = inner.local()?;
        let shallow = shallow(inner)?;
        Ok(Self { repo, shallow, seen: HashMap::new() })
    }

    /// Looks a commit up; `None` when it is not here.
    pub(crate) fn look(&mut self, id: ObjectId) -> Result<Option<Seen>, SourceError> {
        if let Some(seen) = self.seen.get(&id) {
            return Ok(seen.clone());
        }
        let seen = match self.repo.has_object(id) {
            false => None,
            true => {
                let mut buffer = Vec::new();
                let commit = self.read(id, &mut buffer)?;
                let time = commit.time().map_or(0, |time| time.seconds);
                let parents: Vec<_> = commit.parents().collect();
                // A server that sent too little also leaves a gap; it counts as a cut.
                let cut =
                    self.shallow.contains(&id) || parents.iter().any(|parent| !self.repo.has_object(*parent));
                let parents = if cut { Vec::new() } else { parents };
                Some(Seen { time, parents, cut })
            }
        };
        self.seen.insert(id, seen.clone());
        Ok(seen)
    }

    /// Whether `wanted` can be reached from `tips` within `limit` commits.
    pub(crate) fn reaches(
        &mut self,
        tips: &[ObjectId],
        wanted: ObjectId,
        limit: usize,
    ) -> Result<bool, SourceError> {
        let mut open = tips.to_vec();
        let mut met: HashSet<ObjectId> = open.iter().copied().collect();
        while let Some(id) = open.pop() {
            if id == wanted {
                return Ok(true);
            }
            if met.len() > limit {
                return Ok(false);
            }
            if let Some(seen) = self.look(id)? {
                open.extend(seen.parents.into_iter().filter(|parent| met.insert(*parent)));
            }
        }
        Ok(false)
    }

    /// Returns how many generations below `tips`, their own included, the farthest commit is.
    pub(crate) fn depth(&mut self, tips: &[ObjectId]) -> Result<u32, SourceError> {
        let mut met: HashSet<ObjectId> = tips.iter().copied().collect();
        let mut generation = tips.to_vec();
        let mut depth = 0;
        while !generation.is_empty() {
            depth += 1;
            let mut next = Vec::new();
            for id in generation {
                let seen = self.look(id)?;
                next.extend(
                    seen.into_iter().flat_map(|seen| seen.parents).filter(|parent| met.insert(*parent)),
                );
            }
            generation = next;
        }
        Ok(depth)
    }

    pub(crate) fn revision(&self, id: ObjectId) -> Result<Revision, SourceError> {
        let mut buffer = Vec::new();
        let commit = self.read(id, &mut buffer)?;
        let seconds = commit.time().map_or(0, |time| time.seconds);
        Ok(Revision {
            commit: commit_id(id)?,
            subject: short(commit.message().title),
            author: short(commit.author().map(|author| author.name).unwrap_or_default()),
            committed_at: Timestamp::from_second(seconds).unwrap_or_default(),
        })
    }

    fn read<'a>(&self, id: ObjectId, buffer: &'a mut Vec<u8>) -> Result<CommitRef<'a>, SourceError> {
        let damaged = |error: gix::Error| SourceError::Corrupt { id: id.to_string(), detail: chain(&error) };
        let data = self.repo.objects.find(&id, buffer).map_err(damaged)?;
        if data.kind != gix::objs::Kind::Commit {
            return Err(SourceError::NotACommit { id: id.to_string(), kind: data.kind.to_string() });
        }
        CommitRef::from_bytes(data.data, self.repo.object_hash()).map_err(damaged)
    }
}

/// Reads where history is cut off. Format: <https://git-scm.com/docs/shallow>.
pub(crate) fn shallow(inner: &Inner) -> Result<HashSet<ObjectId>, SourceError> {
    let path = inner.path.join("shallow");
    match std::fs::read(&path) {
        Ok(bytes) => {
            Ok(bytes.split(|byte| *byte == b'\n').filter_map(|line| ObjectId::from_hex(line).ok()).collect())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(HashSet::new()),
        Err(error) => Err(SourceError::io("read", path)(error)),
    }
}

pub(crate) fn commit_id(id: ObjectId) -> Result<CommitId, SourceError> {
    CommitId::new(id.to_string()).map_err(|_| missing(id))
}

/// Returns a line of a commit, cut where nobody reads on: it is kept with every deployment.
fn short(line: &[u8]) -> Untrusted {
    /// More than any forge shows.
    const LONGEST: usize = 1_000;
    let text = String::from_utf8_lossy(line);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => Untrusted::from(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Untrusted::from(text.into_owned()),
    }
}
