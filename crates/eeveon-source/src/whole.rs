//! Whether a commit is here with everything it consists of.

use std::collections::HashMap;

use gix::{ObjectId, bstr::BString, objs::tree::EntryKind, prelude::FindExt};

use crate::{
    SourceError,
    mirror::{Inner, missing},
    transfer::Job,
    watch::chain,
};

impl Inner {
    /// Fails unless `id` is a commit and everything it consists of is here. What `before` consists of
    /// as well, which is here whole, is not looked at again.
    pub(crate) fn check_whole(
        &self,
        repo: &gix::Repository,
        id: ObjectId,
        before: Option<ObjectId>,
        job: &Job,
    ) -> Result<(), SourceError> {
        let damaged = |id: ObjectId| {
            move |error: gix::Error| SourceError::Corrupt { id: id.to_string(), detail: chain(&error) }
        };
        if !repo.has_object(id) {
            return Err(SourceError::CommitMissing {
                repo: self.config.url.to_string(),
                commit: id.to_string(),
            });
        }
        let kind = repo.find_header(id).map_err(damaged(id))?.kind();
        if !kind.is_commit() {
            return Err(SourceError::NotACommit { id: id.to_string(), kind: kind.to_string() });
        }
        let tree_of = |id| repo.find_commit(id).and_then(|commit| commit.tree_id()).map(gix::Id::detach);
        let tree = tree_of(id).map_err(damaged(id))?;
        let mut buffer = Vec::new();
        let mut open = vec![(tree, before.and_then(|before| tree_of(before).ok()))];
        let mut met = gix::hashtable::HashSet::from_iter([tree]);
        while let Some((tree, before)) = open.pop() {
            job.permit.check()?;
            let known = before.and_then(|before| entries_of(repo, before, &mut buffer)).unwrap_or_default();
            let data = repo.objects.find_tree_iter(&tree, &mut buffer).map_err(damaged(tree))?;
            for entry in data {
                let entry = entry.map_err(damaged(tree))?;
                let id = entry.oid.to_owned();
                let before = known.get(entry.filename).copied();
                match entry.mode.kind() {
                    EntryKind::Commit => {}
                    _ if before == Some(id) || !met.insert(id) => {}
                    EntryKind::Tree => open.push((id, before)),
                    _ if !repo.has_object(id) => return Err(missing(id)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// Returns the entries of a tree by name; nothing if it is none.
fn entries_of(
    repo: &gix::Repository,
    tree: ObjectId,
    buffer: &mut Vec<u8>,
) -> Option<HashMap<BString, ObjectId>> {
    let entries = repo.objects.find_tree_iter(&tree, buffer).ok()?;
    entries.map(|entry| entry.ok().map(|it| (it.filename.to_owned(), it.oid.to_owned()))).collect()
}
