//! Whether there are files that git neither tracks nor has been told to ignore.
//!
//! Source: gitignore(5), <https://git-scm.com/docs/gitignore>, and git-status(1). What a person
//! ignores in all repositories (`core.excludesFile`) is not known here.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, path::Path};

use gix::{bstr::ByteSlice, index::State};

use crate::ignore::Patterns;

/// After how many files and folders the search ends. Large trees are seen in part.
const MOST: usize = 20_000;

/// Whether a file below `root` is neither in `index` nor ignored, by a `.gitignore` or by what the
/// file `exclude` says. What cannot be read is passed over, as git does.
pub(crate) fn any_untracked(root: &Path, index: &State, exclude: &Path) -> bool {
    let mut patterns = Patterns::new(&[]);
    patterns.enter(b"", &fs::read(exclude).unwrap_or_default());
    Search { root, index, patterns, left: MOST }.finds_any(b"")
}

struct Search<'a> {
    root: &'a Path,
    index: &'a State,
    patterns: Patterns,
    left: usize,
}

impl Search<'_> {
    /// Looks at what is in `folder`, which is relative to the root.
    fn finds_any(&mut self, folder: &[u8]) -> bool {
        let place = self.root.join(OsStr::from_bytes(folder));
        let file = place.join(".gitignore");
        // Git follows no link here.
        let is_file = fs::symlink_metadata(&file).is_ok_and(|file| file.is_file());
        let content = if is_file { fs::read(&file).unwrap_or_default() } else { Vec::new() };
        self.patterns.enter(folder, &content);
        let found = fs::read_dir(&place)
            .is_ok_and(|entries| entries.flatten().any(|entry| self.is_untracked(folder, &entry)));
        self.patterns.leave();
        found
    }

    fn is_untracked(&mut self, folder: &[u8], entry: &fs::DirEntry) -> bool {
        let name = entry.file_name();
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        let Ok(kind) = entry.file_type() else { return false };
        if name == ".git" || !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
            return false;
        }
        let mut path = folder.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.as_bytes());
        // A folder that is tracked itself is a submodule, and not looked into.
        if self.is_tracked(&path) || self.patterns.excludes(&path, kind.is_dir()) {
            return false;
        }
        if !kind.is_dir() {
            return true;
        }
        // Git shows another repository as one thing, whatever is in it.
        let is_repository = entry.path().join(".git").exists();
        (is_repository && !self.tracks_below(&path)) || self.finds_any(&path)
    }

    fn is_tracked(&self, path: &[u8]) -> bool {
        self.index.entry_index_by_path(path.as_bstr()).is_ok()
    }

    fn tracks_below(&self, folder: &[u8]) -> bool {
        let folder = [folder, b"/"].concat();
        self.index.prefixed_entries_range(folder.as_bstr()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_ends() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("a")).unwrap();
        fs::write(root.path().join("a/b"), "").unwrap();
        let index = State::new(gix::hash::Kind::Sha1);
        let finds = |left: usize| {
            let patterns = Patterns::new(&[]);
            Search { root: root.path(), index: &index, patterns, left }.finds_any(b"")
        };
        assert!(finds(2));
        assert!(!finds(1));
    }
}
