//! What a release consists of: the tree of its commit, without what is ignored, checked.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use eeveon_core::{
    ContentId, ContentReader, Contents, FileEntry, FileKind, Release, StepError, action::Stopped,
};
use gix::{
    ObjectId,
    objs::{Find, TreeRefIter},
    prelude::FindExt,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Mirror, SourceError,
    ignore::{self, Patterns},
    links::{LONGEST, Links},
    mirror::{Inner, missing, object_id},
    names::{check_part, check_path},
    refs::shown_bytes,
    submodule::{Module, Modules},
    watch::chain,
};

impl Contents for Mirror {
    fn list(&self, release: &Release, cancel: &CancellationToken) -> Result<Vec<FileEntry>, StepError> {
        Ok(list(&self.inner, object_id(&release.revision.commit)?, cancel)?)
    }

    fn reader(&self, _release: &Release) -> Result<Box<dyn ContentReader + '_>, StepError> {
        Ok(Box::new(Reader { inner: &self.inner, repos: vec![self.inner.local()?], all: false }))
    }
}

/// What one entry of a tree is.
enum Kind {
    Blob(FileKind),
    Tree,
    Module,
}

struct Entry {
    name: Vec<u8>,
    kind: Kind,
    id: ObjectId,
}

fn damaged(id: ObjectId) -> impl FnOnce(gix::Error) -> SourceError {
    move |error| SourceError::Corrupt { id: id.to_string(), detail: chain(&error) }
}

fn content_id(id: &ObjectId) -> Result<ContentId, SourceError> {
    ContentId::from_bytes(id.as_bytes()).ok_or_else(|| missing(*id))
}

/// Lists the release of `commit`, and finds out on the way whether it may be placed.
fn list(inner: &Inner, commit: ObjectId, cancel: &CancellationToken) -> Result<Vec<FileEntry>, SourceError> {
    let repo = inner.local()?;
    let tree = root(&repo, commit)?;
    let start = descend(&repo, tree, &inner.config.dir, commit)?;
    let mut lister = Lister {
        cancel,
        limit: inner.config.limits.files,
        commit,
        patterns: Patterns::new(&inner.config.ignore),
        entries: Vec::new(),
        links: HashMap::new(),
    };
    let modules = match inner.config.submodules {
        true => Some(Modules::read(inner, &repo, commit)?),
        false => None,
    };
    let below = inner.config.dir.trim_matches('/').as_bytes();
    let place = Place { repo: &repo, modules: modules.as_ref(), below, own: 0 };
    lister.walk(&place, start, &mut Vec::new())?;
    let Lister { mut entries, links, .. } = lister;
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let links = Links::new(links);
    links.check_all(cancel)?;
    Ok(entries)
}

/// Returns the tree of a commit.
pub(crate) fn root(repo: &gix::Repository, commit: ObjectId) -> Result<ObjectId, SourceError> {
    let mut buffer = Vec::new();
    let commits = repo.objects.find_commit(&commit, &mut buffer).map_err(damaged(commit))?;
    Ok(commits.tree())
}

/// Goes down to the folder that is deployed.
fn descend(
    repo: &gix::Repository,
    mut tree: ObjectId,
    dir: &str,
    commit: ObjectId,
) -> Result<ObjectId, SourceError> {
    let absent = || SourceError::DirMissing { dir: shown_bytes(dir.as_bytes()), commit: commit.to_string() };
    for part in dir.trim_matches('/').split('/').filter(|part| !part.is_empty()) {
        check_part(part.as_bytes(), false).map_err(|_| absent())?;
        let found = read_tree(repo, tree)?.into_iter().find(|entry| entry.name == part.as_bytes());
        tree = match found {
            Some(Entry { kind: Kind::Tree, id, .. }) => id,
            _ => return Err(absent()),
        };
    }
    Ok(tree)
}

fn read_tree(repo: &gix::Repository, tree: ObjectId) -> Result<Vec<Entry>, SourceError> {
    let mut buffer = Vec::new();
    let iter: TreeRefIter<'_> = repo.objects.find_tree_iter(&tree, &mut buffer).map_err(damaged(tree))?;
    let entry = |entry: gix::Result<gix::objs::tree::EntryRef<'_>>| {
        let entry = entry.map_err(damaged(tree))?;
        let mode = entry.mode.value();
        let kind = match mode & 0o170_000 {
            0o040_000 => Kind::Tree,
            0o120_000 => Kind::Blob(FileKind::Symlink),
            0o160_000 => Kind::Module,
            0o100_000 if mode & 0o100 != 0 => Kind::Blob(FileKind::Executable),
            0o100_000 => Kind::Blob(FileKind::Regular),
            _ => {
                let path = shown_bytes(entry.filename);
                return Err(SourceError::Path { path, rule: "its mode is none git knows" });
            }
        };
        Ok(Entry { name: entry.filename.to_vec(), kind, id: entry.oid.to_owned() })
    };
    iter.map(entry).collect()
}

/// Whose tree is being walked.
struct Place<'a> {
    repo: &'a gix::Repository,
    modules: Option<&'a Modules>,
    /// A path of the release, less its first `own` bytes and with this before it, is one of `repo`.
    below: &'a [u8],
    own: usize,
}

impl Place<'_> {
    /// Returns the submodule that is at `path` of the release.
    fn module(&self, path: &[u8]) -> Option<&Module> {
        let path = path.get(self.own..)?;
        match self.below.is_empty() {
            true => self.modules?.at(path),
            false => self.modules?.at(&[self.below, b"/", path].concat()),
        }
    }
}

struct Lister<'a> {
    cancel: &'a CancellationToken,
    limit: usize,
    commit: ObjectId,
    patterns: Patterns,
    entries: Vec<FileEntry>,
    links: HashMap<Vec<u8>, Vec<u8>>,
}

impl Lister<'_> {
    /// Lists `tree`, which is at `path` of the release. Depth is bounded by `check_path`.
    fn walk(&mut self, place: &Place<'_>, tree: ObjectId, path: &mut Vec<u8>) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(Stopped.into());
        }
        let entries = read_tree(place.repo, tree)?;
        if entries.is_empty() && !path.is_empty() {
            return self.push(path, FileKind::Folder, tree);
        }
        self.patterns.enter(path, &self.ignore_file(place.repo, &entries)?);
        let mut names = HashSet::new();
        for entry in &entries {
            let parent = path.len();
            if parent > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let is_folder = matches!(entry.kind, Kind::Tree | Kind::Module);
            let left_out = (entry.name == ignore::FILE
                && matches!(entry.kind, Kind::Blob(FileKind::Regular | FileKind::Executable)))
                || self.patterns.excludes(path, is_folder);
            if !left_out {
                let refuse = |rule| SourceError::Path { path: shown_bytes(path), rule };
                let is_link = matches!(entry.kind, Kind::Blob(FileKind::Symlink));
                check_part(&entry.name, is_link).and_then(|()| check_path(path)).map_err(refuse)?;
                if !names.insert(&entry.name) {
                    return Err(refuse("it is there twice"));
                }
                self.place(place, entry, path)?;
            }
            path.truncate(parent);
        }
        self.patterns.leave();
        Ok(())
    }

    fn place(&mut self, place: &Place<'_>, entry: &Entry, path: &mut Vec<u8>) -> Result<(), SourceError> {
        match entry.kind {
            Kind::Tree => self.walk(place, entry.id, path),
            Kind::Module => match place.module(path) {
                None => self.push(path, FileKind::Folder, entry.id),
                Some(module) => {
                    let tree = root(&module.repo, entry.id)?;
                    let modules = Some(&module.modules);
                    let inner = Place { repo: &module.repo, modules, below: b"", own: path.len() + 1 };
                    self.walk(&inner, tree, path)
                }
            },
            Kind::Blob(kind) => {
                if kind == FileKind::Symlink {
                    let size = place.repo.find_header(entry.id).map_err(damaged(entry.id))?.size();
                    if size > LONGEST as u64 {
                        let path = shown_bytes(path);
                        let rule = "is longer than 4095 bytes";
                        return Err(SourceError::Link { path, target: "...".to_owned(), rule });
                    }
                    self.links.insert(path.clone(), read_blob(place.repo, entry.id)?);
                }
                self.push(path, kind, entry.id)
            }
        }
    }

    fn push(&mut self, path: &[u8], kind: FileKind, id: ObjectId) -> Result<(), SourceError> {
        if self.entries.len() >= self.limit {
            return Err(SourceError::TooManyFiles { commit: self.commit.to_string(), limit: self.limit });
        }
        self.entries.push(FileEntry { path: path.to_vec(), kind, id: content_id(&id)? });
        Ok(())
    }

    /// Returns what the folder's `.deployignore` says. Only a regular file is read.
    fn ignore_file(&self, repo: &gix::Repository, entries: &[Entry]) -> Result<Vec<u8>, SourceError> {
        let file = entries.iter().find(|entry| {
            entry.name == ignore::FILE
                && matches!(entry.kind, Kind::Blob(FileKind::Regular | FileKind::Executable))
        });
        let Some(file) = file else { return Ok(Vec::new()) };
        if repo.find_header(file.id).map_err(damaged(file.id))?.size() > ignore::LARGEST {
            let path = shown_bytes(ignore::FILE);
            return Err(SourceError::Path { path, rule: "it must not be larger than 1 MiB" });
        }
        read_blob(repo, file.id)
    }
}

pub(crate) fn read_blob(repo: &gix::Repository, id: ObjectId) -> Result<Vec<u8>, SourceError> {
    let mut buffer = Vec::new();
    let data = repo.objects.find(&id, &mut buffer).map_err(damaged(id))?;
    if data.kind != gix::objs::Kind::Blob {
        return Err(SourceError::Corrupt {
            id: id.to_string(),
            detail: format!("it is a {}, not a file", data.kind),
        });
    }
    Ok(buffer)
}

/// Reads contents from the mirror, or where it does not have them, from those of submodules.
struct Reader<'a> {
    inner: &'a Inner,
    repos: Vec<gix::Repository>,
    /// Whether the mirrors of submodules are open.
    all: bool,
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reader")
    }
}

impl Reader<'_> {
    /// Opens the mirrors of submodules. Returns whether there are more repositories now.
    fn open_all(&mut self) -> Result<bool, SourceError> {
        if self.all || !self.inner.config.submodules {
            return Ok(false);
        }
        self.all = true;
        self.repos.extend(Modules::every_repo(self.inner)?);
        Ok(true)
    }

    /// Returns what the first repository that has `id` says to `ask`.
    fn first<T>(
        &mut self,
        id: &ContentId,
        mut ask: impl FnMut(&gix::Repository, ObjectId) -> gix::Result<Option<T>>,
    ) -> Result<T, SourceError> {
        let id = ObjectId::try_from(id.as_bytes()).map_err(|_| SourceError::Corrupt {
            id: id.to_string(),
            detail: "its id is of another kind".to_owned(),
        })?;
        let mut asked = 0;
        loop {
            for repo in self.repos.iter().skip(asked) {
                if let Some(answer) = ask(repo, id).map_err(damaged(id))? {
                    return Ok(answer);
                }
            }
            asked = self.repos.len();
            if !self.open_all()? {
                return Err(missing(id));
            }
        }
    }
}

impl ContentReader for Reader<'_> {
    fn read(&mut self, id: &ContentId, out: &mut Vec<u8>) -> Result<(), StepError> {
        let kind = self.first(id, |repo, id| {
            out.clear();
            Ok(repo.objects.try_find(&id, out)?.map(|data| data.kind))
        })?;
        match kind {
            gix::objs::Kind::Blob => Ok(()),
            other => {
                let detail = format!("it is a {other}, not a file");
                Err(SourceError::Corrupt { id: id.to_string(), detail }.into())
            }
        }
    }

    fn size(&mut self, id: &ContentId) -> Result<u64, StepError> {
        Ok(self.first(id, |repo, id| Ok(repo.try_find_header(id)?.map(|header| header.size())))?)
    }
}
