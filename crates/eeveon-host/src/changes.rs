//! What is different between two releases, by what is on record about them.

use eeveon_core::{ReleaseNumber, StepError};

use crate::{
    host::Inner,
    manifest::{Manifest, Origin},
};

/// Files and links in which two releases differ, sorted by path. Paths are relative to a release
/// and not necessarily UTF-8; sizes are in bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Changes {
    /// Those only the newer one has.
    pub added: Vec<(Vec<u8>, u64)>,
    /// Those that are different in it, with their new size.
    pub changed: Vec<(Vec<u8>, u64)>,
    /// Those it does not have any more, with their old size. What a build made is not counted.
    pub removed: Vec<(Vec<u8>, u64)>,
}

impl Changes {
    /// Returns every path that differs.
    pub fn paths(&self) -> impl Iterator<Item = &[u8]> {
        [&self.added, &self.changed, &self.removed].into_iter().flatten().map(|(path, _)| path.as_slice())
    }

    /// Tells whether any path that differs is `path` or lies in it.
    pub fn touch(&self, path: &[u8]) -> bool {
        let within = |it: &[u8]| it.strip_prefix(path).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
        self.paths().any(within)
    }
}

impl Inner {
    /// See [`crate::Host::changes`].
    pub(crate) fn changes(&self, from: ReleaseNumber, to: ReleaseNumber) -> Result<Changes, StepError> {
        let site = self.site_of(to)?;
        let (from, to) = (self.sealed(&site, from)?.manifest, self.sealed(&site, to)?.manifest);
        let mut changes = Changes::default();
        let files = |manifest: &Manifest| -> Vec<_> {
            let from_source =
                manifest.records().iter().filter(|it| !it.is_folder() && it.origin != Origin::Built);
            from_source.map(|record| (manifest.path(record).to_vec(), *record)).collect()
        };
        for (path, new) in files(&to) {
            match from.find(&path) {
                None => changes.added.push((path, new.size)),
                Some(old) if old.id != new.id || old.mode != new.mode => {
                    changes.changed.push((path, new.size))
                }
                Some(_) => {}
            }
        }
        let gone = files(&from).into_iter().filter(|(path, _)| to.find(path).is_none());
        changes.removed = gone.map(|(path, old)| (path, old.size)).collect();
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_touched_by_what_lies_in_it() {
        let changes = Changes { removed: vec![(b"db/migrate/1.sql".to_vec(), 1)], ..Changes::default() };
        assert!(changes.touch(b"db/migrate") && changes.touch(b"db") && changes.touch(b"db/migrate/1.sql"));
        assert!(!changes.touch(b"db/mig") && !changes.touch(b"migrate"));
    }
}
