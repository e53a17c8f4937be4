//! Which repository a person stands in, and whether there is work in it that is not committed.
//!
//! Nothing of that repository is run: no filter, no hook, no file system monitor. So the question
//! is answered here from the index, the commit and the files themselves.

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs,
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use gix::{
    ObjectId,
    bstr::BString,
    index::{
        entry::{Flags, Mode, Stat, stat},
        fs::Metadata,
    },
    objs::tree::EntryKind,
    prelude::FindExt,
    sec::trust::Mapping,
};

use crate::{SourceError, refs::shown_bytes, untracked::any_untracked, watch::chain};

/// A repository on this machine, seen from a folder in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalRepository {
    /// Its top folder; for a bare repository the repository itself.
    pub root: PathBuf,
    /// The folder one stands in, relative to `root`, with `/` between parts; empty at the top.
    pub subdir: String,
    /// Whether a tracked file differs from the newest commit, or a file is neither tracked nor
    /// ignored. A file that git converts on the way in (line ends, large files kept elsewhere) may
    /// count without need once it was touched, and so does one that only a person's own
    /// `core.excludesFile` ignores. Not every file of a large tree is looked at for untracked ones.
    pub dirty: bool,
    /// The branch that is checked out; `None` when HEAD is detached.
    pub branch: Option<String>,
}

/// Finds the repository `path` is in. Blocks.
///
/// # Errors
///
/// `source/repository-missing` when there is no such path, `source/io` when it or the repository
/// cannot be read.
pub fn discover(path: &Path) -> Result<Option<LocalRepository>, SourceError> {
    let path = path.canonicalize().map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            SourceError::RepositoryMissing { repo: shown_bytes(path.as_os_str().as_bytes()) }
        }
        _ => SourceError::io("look at", path)(error),
    })?;
    let options = gix::open::Options::isolated();
    let options = Mapping { full: options.clone(), reduced: options };
    let found = gix::ThreadSafeRepository::discover_opts(&path, Default::default(), options);
    let repo = match found {
        Ok(repo) => repo.to_thread_local(),
        Err(error) if holds_git(&path) => return Err(unreadable(&path)(error)),
        Err(_) => return Ok(None),
    };
    let branch = repo.head_name().map_err(unreadable(&path))?.map(|name| name.shorten().to_string());
    let Some(root) = repo.workdir() else {
        let root = repo.git_dir().to_owned();
        return Ok(Some(LocalRepository { root, subdir: String::new(), dirty: false, branch }));
    };
    let root = root.canonicalize().map_err(SourceError::io("look at", root))?;
    let subdir = path.strip_prefix(&root).unwrap_or(Path::new(""));
    let subdir = subdir.to_str().ok_or_else(|| SourceError::Path {
        path: shown_bytes(subdir.as_os_str().as_bytes()),
        rule: "a folder to deploy must have a name in UTF-8",
    })?;
    Ok(Some(LocalRepository { subdir: subdir.to_owned(), dirty: is_dirty(&repo, &root)?, branch, root }))
}

/// Whether there is a repository that merely could not be opened.
fn holds_git(path: &Path) -> bool {
    path.ancestors().any(|folder| folder.join(".git").exists())
}

fn unreadable(path: &Path) -> impl Fn(gix::Error) -> SourceError {
    move |error| SourceError::Io {
        action: "read the repository at",
        path: path.to_owned(),
        source: std::io::Error::other(chain(&error)),
    }
}

fn is_dirty(repo: &gix::Repository, root: &Path) -> Result<bool, SourceError> {
    let failed = unreadable(root);
    let index = repo.index_or_empty().map_err(&failed)?;
    // A sparse index stands for files that are not here; it is compared with the files alone.
    if !index.is_sparse() {
        let mut committed = HashMap::new();
        if let Ok(tree) = repo.head_tree_id() {
            flatten(repo, tree.detach(), BString::default(), &mut committed).map_err(&failed)?;
        }
        if committed.len() != index.entries().len() {
            return Ok(true);
        }
        let same = |entry: &gix::index::Entry| {
            committed.get(entry.path(&index)).is_some_and(|(mode, id)| (*mode, *id) == (entry.mode, entry.id))
        };
        if !index.entries().iter().all(same) {
            return Ok(true);
        }
    }
    for entry in index.entries() {
        let skipped = Flags::ASSUME_VALID | Flags::SKIP_WORKTREE;
        if entry.flags.intersects(skipped) || matches!(entry.mode, Mode::COMMIT | Mode::DIR) {
            continue;
        }
        if entry.stage_raw() != 0 || differs(root, entry, &index)? {
            return Ok(true);
        }
    }
    Ok(!index.is_sparse() && any_untracked(root, &index, &repo.common_dir().join("info/exclude")))
}

/// Lists every file of a tree.
fn flatten(
    repo: &gix::Repository,
    tree: ObjectId,
    path: BString,
    out: &mut HashMap<BString, (Mode, ObjectId)>,
) -> gix::Result {
    let mut buffer = Vec::new();
    for entry in repo.objects.find_tree_iter(&tree, &mut buffer)? {
        let entry = entry?;
        let mut path = path.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(entry.filename);
        let mode = match entry.mode.kind() {
            EntryKind::Tree => {
                flatten(repo, entry.oid.to_owned(), path, out)?;
                continue;
            }
            EntryKind::Blob => Mode::FILE,
            EntryKind::BlobExecutable => Mode::FILE_EXECUTABLE,
            EntryKind::Link => Mode::SYMLINK,
            EntryKind::Commit => Mode::COMMIT,
        };
        out.insert(path, (mode, entry.oid.to_owned()));
    }
    Ok(())
}

/// Whether the file behind an entry of the index is another than when it was added.
fn differs(root: &Path, entry: &gix::index::Entry, index: &gix::index::State) -> Result<bool, SourceError> {
    let place = root.join(OsStr::from_bytes(entry.path(index)));
    let Ok(metadata) = Metadata::from_path_no_follow(&place) else { return Ok(true) };
    let mode = match () {
        () if metadata.is_symlink() => Mode::SYMLINK,
        () if metadata.is_file() && metadata.is_executable() => Mode::FILE_EXECUTABLE,
        () if metadata.is_file() => Mode::FILE,
        () => return Ok(true),
    };
    if mode != entry.mode {
        return Ok(true);
    }
    let options = stat::Options::default();
    let racy = entry.stat.is_racy(index.timestamp(), options);
    if let Ok(now) = Stat::from_fs(&metadata)
        && now.matches(&entry.stat, options)
        && !racy
    {
        return Ok(false);
    }
    // Git writes size 0 for files it was unsure of itself.
    if entry.stat.size != 0 && u64::from(entry.stat.size) != metadata.len() & u64::from(u32::MAX) {
        return Ok(true);
    }
    let content = match mode {
        Mode::SYMLINK => fs::read_link(&place).map(|target| target.as_os_str().as_bytes().to_vec()),
        _ => fs::read(&place),
    };
    let content = content.map_err(SourceError::io("read", &place))?;
    let id = gix::objs::compute_hash(entry.id.kind(), gix::objs::Kind::Blob, &content);
    Ok(id.map_or(true, |id| id != entry.id))
}
