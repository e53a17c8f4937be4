//! Looks at the server and brings commits here. Every call runs off the async threads, one at a
//! time for each mirror, and stops soon after its permit says so.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use eeveon_core::{CommitId, Permit, Progress, Revision, action::Stopped};
use gix::{
    ObjectId,
    bstr::ByteSlice,
    progress::Discard,
    protocol::{fetch::Shallow, handshake::Ref},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Mirror, SourceError, Want,
    client::{Conversation, Received, Request},
    history::{History, commit_id, shallow},
    local,
    mirror::{Inner, missing, object_id, sync},
    nearby::{self, Errand},
    refs::{Spelling, branch_ref, shown, shown_bytes, spelling, tag_ref},
    url::Place,
    watch::chain,
};

/// How many commits are looked through for one that is here already.
const WALK: usize = 20_000;
/// How many names of branches a message lists.
const NAMES: usize = 8;

/// A commit that is here now.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The commit.
    pub revision: Revision,
    /// What was received for it, in bytes; 0 when it was here before.
    pub bytes: u64,
    /// How long that took.
    pub took: Duration,
}

/// What a piece of work off the async threads is given.
pub(crate) struct Job {
    pub(crate) permit: Permit,
    pub(crate) interrupt: Arc<AtomicBool>,
}

/// Tells a piece of work to stop when nobody waits for it any more.
struct Stop {
    cancel: CancellationToken,
    interrupt: Arc<AtomicBool>,
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.interrupt.store(true, Ordering::Relaxed);
    }
}

impl Mirror {
    /// Returns the branch the repository's HEAD names, without `refs/heads/`.
    ///
    /// # Errors
    ///
    /// `source/empty`, `source/detached-head`, and whatever keeps the server from answering.
    pub async fn default_branch(&self, permit: &Permit) -> Result<String, SourceError> {
        self.run(permit, |inner, job| inner.default_branch(&job)).await
    }

    /// Returns the commit `want` names now, without fetching it. From here on only the id counts.
    ///
    /// # Errors
    ///
    /// `source/branch-missing`, `source/tag-missing`, `source/revision-missing`,
    /// `source/ambiguous`, `source/ref-name`, `source/empty`, and whatever keeps the server from
    /// answering.
    pub async fn resolve(&self, want: &Want, permit: &Permit) -> Result<CommitId, SourceError> {
        let want = want.clone();
        self.run(permit, move |inner, job| inner.resolve(&want, &job)).await
    }

    /// Brings `commit` here, whole; at once when it is. With `from`, the commit that is live, the
    /// history between the two comes along in the same round trip as long as it is younger than
    /// `from`; what is older is left to [`Mirror::deepen`].
    ///
    /// # Errors
    ///
    /// `source/commit-missing`, `source/not-a-commit`, `source/pack-too-large`, and whatever keeps
    /// the server from answering.
    pub async fn fetch(
        &self,
        commit: &CommitId,
        from: Option<&CommitId>,
        permit: &Permit,
    ) -> Result<Fetched, SourceError> {
        let id = object_id(commit)?;
        let from = from.map(object_id).transpose()?;
        self.run(permit, move |inner, job| inner.fetch(id, from, &job)).await
    }

    /// Brings `by` more commits of history below `tips`, which must be here. Returns whether
    /// anything new is known now.
    ///
    /// # Errors
    ///
    /// Whatever keeps the server from answering.
    pub async fn deepen(&self, tips: &[CommitId], by: u32, permit: &Permit) -> Result<bool, SourceError> {
        let tips = tips.iter().map(object_id).collect::<Result<Vec<_>, _>>()?;
        self.run(permit, move |inner, job| inner.deepen(tips, by, &job)).await
    }

    /// Runs `work` off the async threads when it is its turn. When the returned future is dropped
    /// the work is told to stop.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        permit: &Permit,
        work: impl FnOnce(&Inner, Job) -> Result<T, SourceError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let mut permit = permit.clone();
        permit.cancel = permit.cancel.child_token();
        let cancel = permit.cancel.clone();
        let stop = Stop { cancel: cancel.clone(), interrupt: Arc::default() };
        let turn = tokio::select! {
            turn = Arc::clone(&self.inner.turn).lock_owned() => turn,
            () = cancel.cancelled() => return Err(Stopped.into()),
        };
        let job = Job { permit, interrupt: Arc::clone(&stop.interrupt) };
        let inner = Arc::clone(&self.inner);
        let mut working = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&inner, job)
        });
        let done = tokio::select! {
            biased;
            done = &mut working => done,
            () = cancel.cancelled() => {
                stop.interrupt.store(true, Ordering::Relaxed);
                working.await
            }
        };
        match done {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(Stopped.into()),
            },
        }
    }
}

impl Inner {
    fn converse(&self, job: &Job) -> Result<Conversation, SourceError> {
        Conversation::open(&self.config.url, &self.config, &self.http, &job.permit)
    }

    fn default_branch(&self, job: &Job) -> Result<String, SourceError> {
        let mut server = self.converse(job)?;
        let refs = server.refs(&["HEAD"])?;
        self.head(&mut server, &refs).map(|(branch, _)| branch)
    }

    /// Returns the branch HEAD names and its commit.
    fn head(&self, server: &mut Conversation, refs: &[Ref]) -> Result<(String, ObjectId), SourceError> {
        let repo = || self.config.url.to_string();
        let head = refs.iter().find(|found| name_of(found) == b"HEAD");
        match head {
            Some(Ref::Symbolic { target, object, .. }) => {
                let target = target.to_str_lossy();
                let branch = target.strip_prefix("refs/heads/").unwrap_or_default();
                branch_ref(branch)?;
                Ok((branch.to_owned(), *object))
            }
            Some(Ref::Unborn { target, .. }) => {
                let branch = target.to_str_lossy();
                Err(self.no_branch(server, branch.strip_prefix("refs/heads/").unwrap_or(&branch))?)
            }
            Some(_) => Err(SourceError::DetachedHead { repo: repo() }),
            None => Err(self.no_branch(server, "HEAD")?),
        }
    }

    fn resolve(&self, want: &Want, job: &Job) -> Result<CommitId, SourceError> {
        let repo = || self.config.url.to_string();
        let ask = |full: &str| -> Result<(Conversation, Option<ObjectId>), SourceError> {
            let mut server = self.converse(job)?;
            let refs = server.refs(&[full])?;
            let found = find(&refs, full);
            Ok((server, found))
        };
        let id = match want {
            Want::Default => {
                let mut server = self.converse(job)?;
                let refs = server.refs(&["HEAD"])?;
                self.head(&mut server, &refs)?.1
            }
            Want::Branch(branch) => {
                let full = branch_ref(branch)?;
                let here = match &self.config.url.0 {
                    Place::Local { path } => local::branch(Path::new(path), &full),
                    _ => None,
                };
                match here {
                    Some(id) => id,
                    None => match ask(&full)? {
                        (_, Some(id)) => id,
                        (mut server, None) => return Err(self.no_branch(&mut server, branch)?),
                    },
                }
            }
            Want::Tag(tag) => match ask(&tag_ref(tag)?)? {
                (_, Some(id)) => id,
                (_, None) => return Err(SourceError::TagMissing { repo: repo(), tag: shown(tag) }),
            },
            Want::Revision(given) => match spelling(given)? {
                Spelling::Id(id) => return Ok(id),
                Spelling::Name { branch, tag, prefix } => {
                    let refs = self.converse(job)?.refs(&[&branch, &tag])?;
                    match (find(&refs, &branch), find(&refs, &tag)) {
                        (Some(one), Some(other)) if one != other => {
                            let candidates = vec![format!("branch at {one}"), format!("tag at {other}")];
                            return Err(SourceError::Ambiguous { given: shown(given), candidates });
                        }
                        (Some(id), _) | (None, Some(id)) => id,
                        (None, None) => self.by_prefix(given, prefix.as_deref())?,
                    }
                }
            },
        };
        commit_id(id)
    }

    /// Finds the one commit here whose id begins with `prefix`.
    fn by_prefix(&self, given: &str, prefix: Option<&str>) -> Result<ObjectId, SourceError> {
        let repo = self.local()?;
        let mut found = Default::default();
        if let Some(prefix) = prefix.and_then(|prefix| gix::hash::Prefix::from_hex(prefix).ok()) {
            repo.objects
                .lookup_prefix(prefix, Some(&mut found))
                .map_err(|error| self.failed("search", &error))?;
        }
        let is_commit = |id: &ObjectId| repo.find_header(*id).is_ok_and(|header| header.kind().is_commit());
        let mut commits: Vec<ObjectId> = found.into_iter().filter(is_commit).collect();
        commits.sort_unstable();
        match commits.as_slice() {
            [id] => Ok(*id),
            [] => Err(SourceError::RevisionMissing {
                repo: self.config.url.to_string(),
                given: shown(given),
                shallow: !shallow(self)?.is_empty(),
            }),
            several => Err(SourceError::Ambiguous {
                given: shown(given),
                candidates: several.iter().take(NAMES).map(ToString::to_string).collect(),
            }),
        }
    }

    /// Says why a branch was not found: the repository is empty, or has others.
    fn no_branch(&self, server: &mut Conversation, branch: &str) -> Result<SourceError, SourceError> {
        let refs = server.refs(&["refs/heads/"])?;
        let names = refs.iter().filter_map(|found| name_of(found).strip_prefix(b"refs/heads/"));
        let present: Vec<_> = names.take(NAMES).map(shown_bytes).collect();
        let repo = self.config.url.to_string();
        Ok(match present.is_empty() {
            true => SourceError::Empty { repo },
            false => SourceError::BranchMissing { repo, branch: shown(branch), present },
        })
    }

    pub(crate) fn fetch(
        &self,
        id: ObjectId,
        from: Option<ObjectId>,
        job: &Job,
    ) -> Result<Fetched, SourceError> {
        let started = Instant::now();
        let repo = self.local()?;
        let mut history = History::of(self)?;
        let tips = self.tips(&repo)?;
        let mut bytes = 0;
        if !self.is_marked(&repo, id) && !history.reaches(&tips, id, WALK)? {
            bytes = self.bring(&repo, id, self.reach(&mut history, from, &tips)?, &tips, job)?;
        }
        if self.config.submodules {
            bytes += self.fetch_submodules(&repo, id, job)?;
        }
        let revision = History::of(self)?.revision(id)?;
        Ok(Fetched { revision, bytes, took: started.elapsed() })
    }

    /// Decides how much history comes along.
    fn reach(
        &self,
        history: &mut History,
        from: Option<ObjectId>,
        tips: &[ObjectId],
    ) -> Result<Shallow, SourceError> {
        let Some(depth) = std::num::NonZeroU32::new(self.config.depth) else {
            return Ok(match shallow(self)?.is_empty() {
                true => Shallow::NoChange,
                false => Shallow::undo(),
            });
        };
        // Everything younger than the live commit: that is what leads to its successor, and after a
        // rewritten history it is little. Asking for no change would then bring all that is below.
        if let Some(from) = from
            && let Some(seen) = history.look(from)?
            && seen.time > 0
            && history.reaches(tips, from, WALK)?
        {
            let cutoff = gix::date::Time { seconds: seen.time, offset: 0 };
            return Ok(Shallow::Since { cutoff });
        }
        Ok(Shallow::DepthAtRemote(depth))
    }

    /// Fetches `id` and marks it as whole. Returns how many bytes that took.
    fn bring(
        &self,
        repo: &gix::Repository,
        id: ObjectId,
        reach: Shallow,
        tips: &[ObjectId],
        job: &Job,
    ) -> Result<u64, SourceError> {
        let since = matches!(reach, Shallow::Since { .. });
        let request = |shallow| Request { wants: vec![id], haves: tips.to_vec(), shallow };
        let mut result = match self.bring_nearby(repo, id, &reach, tips, job)? {
            Some(received) => Ok(received),
            None => self.converse(job)?.fetch(repo, request(reach), &job.interrupt),
        };
        // A server ends the conversation when nothing is that young: history was rewritten to
        // something older.
        let depth = std::num::NonZeroU32::new(self.config.depth);
        if let (true, Some(depth), Err(error)) = (since, depth, &result)
            && !matches!(
                error,
                SourceError::Stopped(_)
                    | SourceError::TimedOut { .. }
                    | SourceError::PackTooLarge { .. }
                    | SourceError::Io { .. }
            )
        {
            tracing::debug!(%id, "nothing younger than the live commit, fetching by depth");
            result = self.converse(job)?.fetch(repo, request(Shallow::DepthAtRemote(depth)), &job.interrupt);
        }
        let received = match result {
            Ok(received) => received,
            Err(SourceError::CommitMissing { repo, .. }) => {
                return Err(SourceError::CommitMissing { repo, commit: id.to_string() });
            }
            Err(error) => return Err(error),
        };
        self.check_whole(repo, id, tips.first().copied(), job)?;
        for file in &received.files {
            sync(file)?;
        }
        sync(&self.path.join("objects/pack"))?;
        self.mark(repo, id)?;
        if let Some(keep) = &received.keep {
            std::fs::remove_file(keep).map_err(SourceError::io("remove", keep))?;
        }
        tracing::debug!(%id, bytes = received.bytes, "fetched");
        Ok(received.bytes)
    }

    /// Fetches `id` without starting git, where that is possible.
    fn bring_nearby(
        &self,
        repo: &gix::Repository,
        id: ObjectId,
        reach: &Shallow,
        tips: &[ObjectId],
        job: &Job,
    ) -> Result<Option<Received>, SourceError> {
        let (Place::Local { path }, limits) = (&self.config.url.0, &self.config.limits) else {
            return Ok(None);
        };
        let cutoff = match reach {
            Shallow::NoChange => i64::MIN,
            Shallow::Since { cutoff } => cutoff.seconds,
            _ => return Ok(None),
        };
        let errand = Errand { there: Path::new(path), wanted: id, tips, here: repo, cutoff };
        let Some(pack) = nearby::pack(&errand, &job.permit)? else { return Ok(None) };
        let bytes = pack.len() as u64;
        if bytes > limits.pack_bytes {
            return Ok(None);
        }
        // One thread has packed it already before others have begun.
        match Received::store(repo, &mut pack.as_slice(), limits, Some(1), &mut Discard, &job.interrupt) {
            Ok(received) => {
                job.permit.report(Progress::Bytes { done: bytes, total: Some(bytes) });
                Ok(Some(Received { bytes, ..received }))
            }
            Err(error) => {
                job.permit.check()?;
                // What is wrong with the repository, or the disk, git meets again.
                tracing::debug!(%id, error = chain(&error), "could not be fetched without git");
                Ok(None)
            }
        }
    }

    fn deepen(&self, tips: Vec<ObjectId>, by: u32, job: &Job) -> Result<bool, SourceError> {
        let repo = self.local()?;
        let before = shallow(self)?;
        if before.is_empty() || by == 0 || tips.is_empty() {
            return Ok(false);
        }
        if let Some(absent) = tips.iter().find(|tip| !repo.has_object(**tip)) {
            return Err(missing(*absent));
        }
        let mut server = self.converse(job)?;
        let mut wants = tips.clone();
        if !server.serves_any_commit() {
            let named: Vec<_> = server.refs(&["refs/"])?.iter().filter_map(id_of).collect();
            wants.retain(|tip| named.contains(tip));
        }
        let Some(first) = tips.first().filter(|_| wants.is_empty()) else {
            let haves = self.tips(&repo)?;
            // Counted from the tips, not from the boundary: version 0 of the protocol, as gix speaks
            // it, cannot do the other.
            let depth = History::of(self)?.depth(&tips)?.saturating_add(by);
            let shallow_by = match std::num::NonZeroU32::new(depth) {
                Some(depth) if depth.get() < i32::MAX as u32 => Shallow::DepthAtRemote(depth),
                _ => Shallow::undo(),
            };
            let received =
                server.fetch(&repo, Request { wants, haves, shallow: shallow_by }, &job.interrupt)?;
            if let Some(keep) = &received.keep {
                std::fs::remove_file(keep).map_err(SourceError::io("remove", keep))?;
            }
            return Ok(shallow(self)? != before);
        };
        Err(SourceError::CommitMissing { repo: self.config.url.to_string(), commit: first.to_string() })
    }
}

fn name_of(found: &Ref) -> &[u8] {
    match found {
        Ref::Peeled { full_ref_name, .. }
        | Ref::Direct { full_ref_name, .. }
        | Ref::Symbolic { full_ref_name, .. }
        | Ref::Unborn { full_ref_name, .. } => full_ref_name,
    }
}

/// Returns what a ref names, behind any tag object.
fn id_of(found: &Ref) -> Option<ObjectId> {
    match found {
        Ref::Peeled { object, .. } | Ref::Direct { object, .. } | Ref::Symbolic { object, .. } => {
            Some(*object)
        }
        Ref::Unborn { .. } => None,
    }
}

fn find(refs: &[Ref], full: &str) -> Option<ObjectId> {
    refs.iter().find(|found| name_of(found) == full.as_bytes()).and_then(id_of)
}
