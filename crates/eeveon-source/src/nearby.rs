//! Fetches from a repository on this machine without starting git, when it is about a few commits on
//! top of what is here: the everyday case. Anything else is left to git, which also knows how to say
//! what is wrong.
//!
//! What is read there is put into a pack and goes the way of every pack that comes from a server: each
//! object gets the id its content has, and only then it is looked whether everything is there. Format:
//! <https://git-scm.com/docs/gitformat-pack>.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    path::Path,
};

use eeveon_core::{Permit, action::Stopped};
use gix::{
    ObjectId,
    bstr::BString,
    objs::{CommitRef, Exists, Kind, TreeRefIter, tree::EntryKind},
    odb::pack::{
        Find,
        data::{Entry, Version, entry::Header, header},
    },
    zlib::{Compression, stream::deflate},
};

use crate::local;

/// More commits than that are a matter for git.
const COMMITS: usize = 256;
/// More bytes too: the pack is made in memory.
const BYTES: u64 = 32 << 20;
/// So large may an object be that is needed to make another of it.
const LIMIT: &str = "gitoxide.objects.allocLimit=64m";

/// What is to be fetched.
pub(crate) struct Errand<'a> {
    /// The repository.
    pub(crate) there: &'a Path,
    /// The commit.
    pub(crate) wanted: ObjectId,
    /// Commits that are here whole.
    pub(crate) tips: &'a [ObjectId],
    /// The mirror.
    pub(crate) here: &'a gix::Repository,
    /// A commit older than this, in seconds since 1970, is a matter for git.
    pub(crate) cutoff: i64,
}

/// What a commit says, as far as it matters here.
struct Commit {
    id: ObjectId,
    tree: ObjectId,
    parents: Vec<ObjectId>,
    /// In seconds since 1970.
    time: i64,
}

/// The entries of a tree, by name.
type Entries = HashMap<BString, (EntryKind, ObjectId)>;

/// Returns a pack of all that `errand` asks for and that is not here; nothing when it takes git.
///
/// # Errors
///
/// The permit says to stop.
pub(crate) fn pack(errand: &Errand<'_>, permit: &Permit) -> Result<Option<Vec<u8>>, Stopped> {
    let Some(there) = local::open(errand.there, [LIMIT]) else { return Ok(None) };
    if there.is_shallow().unwrap_or(true) {
        return Ok(None);
    }
    let mut odb = there.objects.into_inner();
    odb.prevent_pack_unload();
    // What is not here is no reason to list the mirror's packs again, for each object once.
    let mut here = errand.here.objects.clone().into_inner();
    here.refresh_never();
    let (walked, packed) = (HashSet::new(), HashSet::new());
    let mut parcel = Parcel { odb, here, walked, packed, pack: Vec::new() };
    Ok(parcel.fill(errand, permit)?.and_then(|()| parcel.close()))
}

/// A pack that is being made. What its methods return nothing for takes git.
struct Parcel {
    odb: gix::odb::Handle,
    /// The mirror's.
    here: gix::odb::Handle,
    /// Trees of which all that differs is packed or was here.
    walked: HashSet<ObjectId>,
    packed: HashSet<ObjectId>,
    /// What follows the header.
    pack: Vec<u8>,
}

impl Parcel {
    fn fill(&mut self, errand: &Errand<'_>, permit: &Permit) -> Result<Option<()>, Stopped> {
        let Some(new) = self.new_commits(errand) else { return Ok(None) };
        for commit in new {
            // Of the parents one is enough, and the first is most alike.
            let before = commit.parents.first().and_then(|first| self.commit(*first)).map(|it| it.tree);
            let mut open = vec![(commit.tree, before)];
            while let Some((tree, before)) = open.pop() {
                permit.check()?;
                if self.changed(tree, before, &mut open).is_none() {
                    return Ok(None);
                }
            }
            if self.add(commit.id).is_none() {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    /// Lists the commits that lead from what is here to what is wanted, parents first.
    fn new_commits(&self, errand: &Errand<'_>) -> Option<Vec<Commit>> {
        let (mut new, mut met, mut open) = (Vec::new(), HashSet::from([errand.wanted]), vec![errand.wanted]);
        let mut leads_here = false;
        while let Some(id) = open.pop() {
            let commit = self.commit(id)?;
            if commit.time < errand.cutoff || new.len() >= COMMITS {
                return None;
            }
            for parent in &commit.parents {
                match errand.tips.contains(parent) {
                    true => leads_here = true,
                    false if met.insert(*parent) => open.push(*parent),
                    false => {}
                }
            }
            new.push(commit);
        }
        new.reverse();
        leads_here.then_some(new)
    }

    fn commit(&self, id: ObjectId) -> Option<Commit> {
        let mut buffer = Vec::new();
        let data = self.odb.try_find(&id, &mut buffer).ok()??.0;
        let commit =
            CommitRef::from_bytes(data.data, id.kind()).ok().filter(|_| data.kind == Kind::Commit)?;
        let time = commit.time().ok()?.seconds;
        Some(Commit { id, tree: commit.tree(), parents: commit.parents().collect(), time })
    }

    fn entries(&self, tree: ObjectId) -> Option<Entries> {
        let mut buffer = Vec::new();
        let data = self.odb.try_find(&tree, &mut buffer).ok()??.0;
        if data.kind != Kind::Tree {
            return None;
        }
        let entries = TreeRefIter::from_bytes(data.data, tree.kind()).map(|entry| {
            let entry = entry.ok()?;
            Some((entry.filename.to_owned(), (entry.mode.kind(), entry.oid.to_owned())))
        });
        entries.collect()
    }

    /// Adds what differs between a tree and the one that was there before; folders in it are left to
    /// `open`.
    fn changed(
        &mut self,
        tree: ObjectId,
        before: Option<ObjectId>,
        open: &mut Vec<(ObjectId, Option<ObjectId>)>,
    ) -> Option<()> {
        if before == Some(tree) || !self.walked.insert(tree) {
            return Some(());
        }
        let old = before.map_or_else(|| Some(Entries::new()), |before| self.entries(before))?;
        for (name, (kind, id)) in self.entries(tree)? {
            match (kind, old.get(&name).copied()) {
                (_, Some((_, was))) if was == id => {}
                (EntryKind::Commit, _) => {}
                (EntryKind::Tree, Some((EntryKind::Tree, was))) => open.push((id, Some(was))),
                (EntryKind::Tree, _) => open.push((id, None)),
                _ => self.add(id)?,
            }
        }
        self.add(tree)
    }

    /// Adds an object unless it is here.
    fn add(&mut self, id: ObjectId) -> Option<()> {
        if self.here.exists(&id) || !self.packed.insert(id) {
            return Some(());
        }
        let mut buffer = Vec::new();
        // What is compressed and whole already can stay so.
        if let Some(location) = self.odb.location_by_oid(&id, &mut buffer).ok()?
            && let Some(found) = self.odb.entry_by_location(&location).filter(|it| it.version == Version::V2)
            && let Ok(entry) = Entry::from_bytes(&found.data, 0, id.kind())
            && entry.header.is_base()
        {
            self.pack.extend_from_slice(&found.data);
        } else {
            let data = self.odb.try_find(&id, &mut buffer).ok()??.0;
            let header = match data.kind {
                Kind::Commit => Header::Commit,
                Kind::Tree => Header::Tree,
                Kind::Blob => Header::Blob,
                Kind::Tag => Header::Tag,
            };
            header.write_to(data.data.len() as u64, &mut self.pack).ok()?;
            let mut deflate = deflate::Write::new(&mut self.pack, Compression::BEST_SPEED);
            deflate.write_all(data.data).and_then(|()| deflate.flush()).ok()?;
        }
        (self.pack.len() as u64 <= BYTES).then_some(())
    }

    /// Puts the header before it and the checksum behind.
    fn close(self) -> Option<Vec<u8>> {
        let count = u32::try_from(self.packed.len()).ok()?;
        let mut pack = header::encode(Version::V2, count).to_vec();
        pack.extend_from_slice(&self.pack);
        let mut hash = gix::hash::hasher(gix::hash::Kind::Sha1);
        hash.update(&pack);
        pack.extend_from_slice(hash.try_finalize().ok()?.as_slice());
        Some(pack)
    }
}
