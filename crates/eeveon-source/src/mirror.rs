//! The bare mirror on disk: made so that a killed process leaves nothing half-made behind, opened so
//! that nothing but its own configuration applies, kept tidy.

use std::{
    fmt, fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use eeveon_core::{CommitId, ReleaseNumber};
use gix::{
    ObjectId, ThreadSafeRepository,
    odb::store::init::Slots,
    refs::{
        FullName, Target,
        transaction::{Change, LogChange, PreviousValue, RefEdit, RefLog},
    },
};
use serde::{Deserialize, Serialize};

use crate::{SourceConfig, SourceError, watch::chain};

/// The version of the mirror's layout. Recorded in `eeveon.json` inside it.
pub const MIRROR_FORMAT: u32 = 1;

const MARKER: &str = "eeveon.json";
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tlogAllRefUpdates = false\n";
/// Names the commits of releases that are kept.
const RELEASES: &str = "refs/eeveon/releases/";
/// Names commits that arrived whole. Without gc nothing is lost when one goes; they say what the
/// server need not send again.
const FETCHED: &str = "refs/eeveon/fetched/";
/// How many of those are kept.
const FETCHED_KEPT: usize = 64;
/// How many packs an open mirror can know at least. Each fetch adds one, also by other processes, and
/// gix finds nothing in what is beyond. 4096 take about half a megabyte.
const PACKS_KNOWN: usize = 4096;
/// What we and gix put into a mirror's folder, besides locks.
const PARTS: &[&str] = &["HEAD", "config", "objects", "refs", "shallow", "packed-refs", MODULES];
/// Where the mirrors of submodules are.
pub(crate) const MODULES: &str = "eeveon-modules";

/// A bare mirror of one repository. Cheap to clone; clones share one mirror.
///
/// Only the holder of the project's lease may change it; looking ([`Mirror::resolve`], reading) is
/// free to all.
#[derive(Clone)]
pub struct Mirror {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) path: PathBuf,
    pub(crate) config: SourceConfig,
    /// Opened when it is needed first: among many projects few are at work, and it takes half a megabyte.
    repo: OnceLock<ThreadSafeRepository>,
    /// The http client, so that the file of authorities is read once.
    pub(crate) http: OnceLock<reqwest::Client>,
    /// Whoever fetches holds this.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What `eeveon.json` says.
#[derive(Serialize, Deserialize)]
struct Marker {
    format: u32,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("path", &self.inner.path).field("url", &self.inner.config.url).finish()
    }
}

impl Mirror {
    /// Opens the mirror in folder `path`, or makes an empty one there. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// `source/mirror` when the folder holds something else, belongs to somebody else, or was
    /// written by a newer version; `source/io`. What a killed removal left of a mirror is moved
    /// aside for [`Mirror::sweep`], and a new one made.
    pub fn open(path: &Path, config: SourceConfig) -> Result<Self, SourceError> {
        if !is_ours(path)? {
            make(path)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                config,
                repo: OnceLock::new(),
                http: OnceLock::new(),
                turn: Arc::new(tokio::sync::Mutex::new(())),
            }),
        })
    }

    /// Returns what it was opened with.
    pub fn config(&self) -> &SourceConfig {
        &self.inner.config
    }

    /// Keeps the commit of a release from being lost. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// `source/io`; `source/corrupt` when the commit is not here.
    pub fn keep(&self, release: ReleaseNumber, commit: &CommitId) -> Result<(), SourceError> {
        let repo = self.inner.local()?;
        let id = object_id(commit)?;
        if !repo.has_object(id) {
            return Err(missing(id));
        }
        set_ref(&repo, &format!("{RELEASES}{release}"), Some(id))
    }

    /// Lets the commit of a release go. Harmless when it was not kept. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// `source/io`.
    pub fn forget(&self, release: ReleaseNumber) -> Result<(), SourceError> {
        set_ref(&self.inner.local()?, &format!("{RELEASES}{release}"), None)
    }

    /// Lets the commits of all releases but these go. Blocks, shortly.
    ///
    /// # Errors
    ///
    /// `source/io`.
    pub fn keep_only(&self, releases: &[ReleaseNumber]) -> Result<(), SourceError> {
        let folder = self.inner.path.join(RELEASES);
        if !folder.exists() {
            return Ok(());
        }
        for kept in entries(&folder)? {
            let number = kept.file_name().and_then(|name| name.to_str()?.parse().ok()).map(ReleaseNumber);
            if let Some(number) = number.filter(|number| !releases.contains(number)) {
                self.forget(number)?;
            }
        }
        Ok(())
    }

    /// Removes what killed processes left behind: temporary files, locks, packs without an index.
    /// The caller must hold the project's lease, and must not be fetching. Returns how many bytes
    /// were freed. Blocks.
    ///
    /// # Errors
    ///
    /// `source/io`.
    pub fn sweep(&self) -> Result<u64, SourceError> {
        let path = &self.inner.path;
        let mut freed = sweep_siblings(path)? + sweep_folder(path)?;
        let modules = path.join(MODULES);
        if modules.exists() {
            for module in entries(&modules)? {
                freed += match is_half_made(&module) {
                    true => remove(&module)?,
                    false => sweep_folder(&module)?,
                };
            }
        }
        self.inner.drop_old_marks()?;
        Ok(freed)
    }
}

/// Opens the repository of a mirror that is known to be ours.
fn open_repository(path: &Path) -> Result<ThreadSafeRepository, SourceError> {
    gix::open::Options::isolated()
        .open_path_as_is(true)
        // Ownership has been checked before.
        .with(gix::sec::Trust::Full)
        .object_store_slots(Slots::AsNeededByDiskState { multiplier: 2.0, minimum: PACKS_KNOWN })
        .config_overrides([
            "core.useReplaceRefs=false",
            "core.commitGraph=false",
            "core.logAllRefUpdates=false",
        ])
        .open(path)
        .map_err(|error| foreign(path, chain(&error)))
}

impl Inner {
    /// Returns a handle for use in this thread.
    ///
    /// # Errors
    ///
    /// `source/mirror` when it cannot be opened any more.
    pub(crate) fn local(&self) -> Result<gix::Repository, SourceError> {
        let repo = match self.repo.get() {
            Some(repo) => repo,
            None => {
                let repo = open_repository(&self.path)?;
                self.repo.get_or_init(|| repo)
            }
        };
        Ok(repo.to_thread_local())
    }

    /// Returns the commits that are here whole, newest first, at most as many as are worth telling a
    /// server about.
    pub(crate) fn tips(&self, repo: &gix::Repository) -> Result<Vec<ObjectId>, SourceError> {
        let mut tips: Vec<_> = self.marks(repo)?.into_iter().map(|(_, time, id)| (time, id)).collect();
        tips.sort_unstable();
        tips.dedup();
        tips.reverse();
        tips.truncate(FETCHED_KEPT);
        Ok(tips.into_iter().map(|(_, id)| id).collect())
    }

    /// Lists the refs of ours whose commits are here: name, committer's time in seconds, id.
    fn marks(&self, repo: &gix::Repository) -> Result<Vec<(String, i64, ObjectId)>, SourceError> {
        let failed = |error: gix::Error| self.failed("read the refs of", &error);
        let mut marks = Vec::new();
        for reference in repo.references().map_err(failed)?.prefixed("refs/eeveon/").map_err(failed)? {
            let Ok(reference) = reference else { continue };
            let Some(id) = reference.try_id().map(gix::Id::detach) else { continue };
            let Ok(time) = repo.find_commit(id).and_then(|commit| commit.time()) else { continue };
            marks.push((reference.name().as_bstr().to_string(), time.seconds, id));
        }
        Ok(marks)
    }

    /// Whether `id` was marked as whole.
    pub(crate) fn is_marked(&self, repo: &gix::Repository, id: ObjectId) -> bool {
        repo.has_object(id)
            && repo.try_find_reference(format!("{FETCHED}{id}").as_str()).is_ok_and(|found| found.is_some())
    }

    /// Marks `id` as whole.
    pub(crate) fn mark(&self, repo: &gix::Repository, id: ObjectId) -> Result<(), SourceError> {
        set_ref(repo, &format!("{FETCHED}{id}"), Some(id))
    }

    fn drop_old_marks(&self) -> Result<(), SourceError> {
        let folder = self.path.join(FETCHED);
        if !folder.exists() || entries(&folder)?.len() <= FETCHED_KEPT {
            return Ok(());
        }
        let repo = self.local()?;
        let mut marks = self.marks(&repo)?;
        marks.retain(|(name, ..)| name.starts_with(FETCHED));
        marks.sort_unstable_by_key(|(_, time, id)| std::cmp::Reverse((*time, *id)));
        for (name, ..) in marks.iter().skip(FETCHED_KEPT) {
            set_ref(&repo, name, None)?;
        }
        Ok(())
    }

    /// Makes an error of one that concerns the mirror itself.
    pub(crate) fn failed(&self, action: &'static str, error: &gix::Error) -> SourceError {
        SourceError::Io { action, path: self.path.clone(), source: io::Error::other(chain(error)) }
    }
}

fn foreign(path: &Path, rule: impl Into<String>) -> SourceError {
    SourceError::Mirror { path: path.to_owned(), rule: rule.into() }
}

pub(crate) fn missing(id: ObjectId) -> SourceError {
    SourceError::Corrupt { id: id.to_string(), detail: "it is missing".to_owned() }
}

/// Turns a commit id into git's.
pub(crate) fn object_id(commit: &CommitId) -> Result<ObjectId, SourceError> {
    ObjectId::from_hex(commit.as_str().as_bytes())
        .map_err(|_| SourceError::ObjectFormat { repo: commit.to_string(), format: "sha256".to_owned() })
}

/// Sets or removes one ref.
fn set_ref(repo: &gix::Repository, name: &str, id: Option<ObjectId>) -> Result<(), SourceError> {
    let failed = |error: gix::Error| SourceError::Io {
        action: "change the refs of",
        path: repo.git_dir().to_owned(),
        source: io::Error::other(chain(&error)),
    };
    let log = LogChange { mode: RefLog::AndReference, force_create_reflog: false, message: "eeveon".into() };
    let change = match id {
        Some(id) => Change::Update { log, expected: PreviousValue::Any, new: Target::Object(id) },
        None => Change::Delete { log: RefLog::AndReference, expected: PreviousValue::Any },
    };
    let name = FullName::try_from(name).map_err(|error| failed(gix::Error::from_error(error)))?;
    repo.edit_reference(RefEdit { change, name, deref: false }).map_err(failed)?;
    Ok(())
}

/// Whether a mirror of ours, whole, is at `path`. What is half there is removed.
fn is_ours(path: &Path) -> Result<bool, SourceError> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(SourceError::io("look at", path)(error)),
    };
    if !metadata.is_dir() {
        return Err(foreign(path, "it is not a folder"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(foreign(path, "it belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(foreign(path, "others may write to it"));
    }
    let marker = match fs::read(path.join(MARKER)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let left = entries(path)?;
            if !left.is_empty() {
                if !is_remnant(path, &left)? {
                    return Err(foreign(path, "it holds something that is not a mirror of ours"));
                }
                set_aside(path)?;
            }
            return Ok(false);
        }
        Err(error) => return Err(SourceError::io("read", path.join(MARKER))(error)),
    };
    let marker: Marker =
        serde_json::from_slice(&marker).map_err(|_| foreign(path, format!("its {MARKER} is damaged")))?;
    if marker.format != MIRROR_FORMAT {
        return Err(foreign(path, format!("it has format {}, made by another version", marker.format)));
    }
    if path.join("objects/info/alternates").exists() {
        return Err(foreign(path, "it borrows objects from elsewhere"));
    }
    let parts = ["HEAD", "config", "objects/pack", "refs"].iter().all(|part| path.join(part).exists());
    let whole = parts && says_where_history_ends(path)?;
    if !whole {
        fs::remove_dir_all(path).map_err(SourceError::io("remove", path))?;
    }
    Ok(whole)
}

/// Whether `shallow`, if there is one, can be believed. git's libraries put it there without a flush,
/// so a power cut can leave one that holds nothing; what it held, nobody else knows.
///
/// Format: <https://git-scm.com/docs/shallow>.
fn says_where_history_ends(path: &Path) -> Result<bool, SourceError> {
    let file = path.join("shallow");
    let text = match fs::read(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(SourceError::io("read", file)(error)),
    };
    let Some(lines) = text.strip_suffix(b"\n") else { return Ok(false) };
    Ok(lines.split(|byte| *byte == b'\n').all(|line| ObjectId::from_hex(line).is_ok()))
}

/// Whether `left` is what remains of a mirror of ours: nothing but parts of one, and our configuration
/// if there is any. A checkout, or a repository made by git, has more, or another.
fn is_remnant(path: &Path, left: &[PathBuf]) -> Result<bool, SourceError> {
    let only_parts = left.iter().all(|entry| {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        PARTS.contains(&name.strip_suffix(".lock").unwrap_or(name))
    });
    if !has_extension(path, "git") || !only_parts {
        return Ok(false);
    }
    let config = path.join("config");
    match fs::read(&config) {
        Ok(bytes) => Ok(bytes == CONFIG.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(SourceError::io("read", config)(error)),
    }
}

/// Moves the remnant of a mirror to where [`sweep_siblings`] finds it.
fn set_aside(path: &Path) -> Result<(), SourceError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let aside = path.with_file_name(format!(".{name}.new-remnant-{}", std::process::id()));
    remove(&aside)?;
    tracing::warn!(path = %path.display(), "the mirror was half removed, making a new one");
    fs::rename(path, aside).map_err(SourceError::io("move aside", path))
}

/// Makes an empty mirror beside `path` and moves it there.
fn make(path: &Path) -> Result<(), SourceError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(foreign(path, "it is no place for a folder"));
    };
    let mut folder = fs::DirBuilder::new();
    folder.recursive(true).mode(0o700);
    folder.create(parent).map_err(SourceError::io("make", parent))?;
    let new = parent.join(format!(".{name}.new-{}", std::process::id()));
    remove(&new)?;
    let marker = serde_json::to_string(&Marker { format: MIRROR_FORMAT }).map_err(io::Error::other);
    let marker = marker.map_err(SourceError::io("write", &new))? + "\n";
    for part in ["objects/info", "objects/pack", "refs/heads", "refs/tags"] {
        folder.create(new.join(part)).map_err(SourceError::io("make", &new))?;
    }
    for (part, text) in [("HEAD", "ref: refs/heads/main\n"), ("config", CONFIG), (MARKER, &marker)] {
        let file = new.join(part);
        fs::write(&file, text).map_err(SourceError::io("write", &file))?;
        sync(&file)?;
    }
    for part in ["objects", "refs", ""] {
        sync(&new.join(part))?;
    }
    // An empty folder is replaced; anything else was made by another process meanwhile.
    let moved = fs::rename(&new, path);
    if moved.is_err() && is_ours(path)? {
        remove(&new)?;
        return Ok(());
    }
    moved.map_err(SourceError::io("make", path))?;
    sync(parent)
}

/// Makes a file or folder durable.
pub(crate) fn sync(path: &Path) -> Result<(), SourceError> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(SourceError::io("make durable", path))
}

pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>, SourceError> {
    let read =
        |folder: &Path| fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    read(folder).map_err(SourceError::io("list", folder))
}

/// Removes a file or folder if it is there. Returns how many bytes that frees, as far as is easily
/// known.
pub(crate) fn remove(path: &Path) -> Result<u64, SourceError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(0) };
    let removed = match metadata.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.map_err(SourceError::io("remove", path))?;
    Ok(if metadata.is_file() { metadata.len() } else { 0 })
}

/// Whether this is a mirror that was still being made.
pub(crate) fn is_half_made(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with('.') && name.contains(".new-")
}

fn sweep_siblings(path: &Path) -> Result<u64, SourceError> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Ok(0);
    };
    let ours = format!(".{name}.new-");
    let mut freed = 0;
    for entry in entries(parent)? {
        if entry.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&ours)) {
            freed += remove(&entry)?;
        }
    }
    Ok(freed)
}

fn sweep_folder(path: &Path) -> Result<u64, SourceError> {
    let mut freed = 0;
    let mut folders = vec![path.join("refs")];
    for entry in entries(path)? {
        if has_extension(&entry, "lock") {
            freed += remove(&entry)?;
        }
    }
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            match entry.is_dir() {
                true => folders.push(entry),
                false if has_extension(&entry, "lock") => freed += remove(&entry)?,
                false => {}
            }
        }
    }
    for entry in entries(&path.join("objects/pack"))? {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let alone = (has_extension(&entry, "pack") && !entry.with_extension("idx").exists())
            || (has_extension(&entry, "idx") && !entry.with_extension("pack").exists());
        if alone || has_extension(&entry, "keep") || name.starts_with(".tmp") || name.starts_with("tmp_") {
            freed += remove(&entry)?;
        }
    }
    Ok(freed)
}

pub(crate) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
