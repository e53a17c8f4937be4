//! Making the files of a release, most of them from what lies there already.
//!
//! A file with the same content and mode as one of an earlier release is cloned where the file
//! system can, else becomes another name of the same file where that is safe; in both cases only
//! after its content is known to be what the manifest says. All else is written from the source.

use std::{
    collections::HashMap,
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use eeveon_core::{ContentId, ContentReader, Contents, FileKind, Permit, Progress, Release, StepError};
use rustix::{fs::FileType, io::Errno};

use crate::{
    HostError, crew,
    disk::{Folder, Meta, split},
    error::Place,
    host::lock,
    ledger::{Known, Ledger, content_of},
    manifest::{Manifest, Record, mode_of},
    tree::{Node, Tree},
    wanted::{Item, Wanted, leaves},
};

/// An earlier release files can be had from.
#[derive(Debug)]
pub(crate) struct Earlier {
    pub(crate) folder: Folder,
    pub(crate) manifest: Manifest,
}

/// All it takes to place a release.
pub(crate) struct Job<'a> {
    pub(crate) permit: &'a Permit,
    pub(crate) release: &'a Release,
    pub(crate) contents: &'a dyn Contents,
    pub(crate) wanted: &'a Wanted,
    pub(crate) earlier: Option<&'a Earlier>,
    pub(crate) ledger: &'a Ledger,
    /// Whether the file system clones files, as far as is known.
    pub(crate) clones: &'a AtomicBool,
    /// Whether two releases may have a file in common.
    pub(crate) links: bool,
}

/// What became of a release's files.
#[derive(Debug, Default)]
pub(crate) struct Made {
    /// The size in bytes, by position in the list of what is wanted.
    pub(crate) sizes: Vec<u64>,
    /// How many files and links were made anew.
    pub(crate) written: u64,
    /// What is known now about the files.
    pub(crate) known: Vec<Known>,
}

/// One thread's share of [`Made`].
#[derive(Default)]
struct Share {
    sizes: Vec<(usize, u64)>,
    written: u64,
    known: Vec<Known>,
}

/// A folder's paths, or some of them.
type Unit<'a> = (&'a Node<'a>, &'a [usize]);

/// How many paths a thread takes at a time.
const UNIT: usize = 128;

/// From how many bytes on a content is large: only one such is in memory at a time.
const LARGE: u64 = 8 << 20;

impl Job<'_> {
    /// Makes everything below the empty folder `root`.
    pub(crate) fn run(&self, root: &Folder) -> Result<Made, StepError> {
        let tree = self.wanted.tree();
        make_folders(self.permit, root, &tree)?;
        let same = self.matches();
        let total = self.wanted.items.iter().filter(|item| !item.is_folder()).count() as u64;
        let count = Count { permit: self.permit, done: AtomicU64::new(0), total };

        let units: Vec<Unit<'_>> = tree
            .folders
            .iter()
            .flat_map(|node| node.entries.chunks(UNIT).map(move |entries| (node, entries)))
            .collect();
        // Links come last: while files are being made there is no link anyone could step on.
        let files = self.pass(root, &units, &same, &count, Item::is_file)?;
        let has_link = |entries: &[usize]| entries.iter().any(|at| self.is_link(*at));
        let linked: Vec<Unit<'_>> = units.into_iter().filter(|(_, entries)| has_link(entries)).collect();
        let links = self.pass(root, &linked, &same, &count, |item| item.kind == FileKind::Symlink)?;

        let mut made = Made { sizes: vec![0; self.wanted.items.len()], ..Made::default() };
        for share in files.into_iter().chain(links) {
            made.written = made.written.saturating_add(share.written);
            made.known.extend(share.known);
            for (at, bytes) in share.sizes {
                if let Some(size) = made.sizes.get_mut(at) {
                    *size = bytes;
                }
            }
        }
        Ok(made)
    }

    fn is_link(&self, at: usize) -> bool {
        self.wanted.items.get(at).is_some_and(|item| item.kind == FileKind::Symlink)
    }

    /// Finds, for each wanted file, one of the earlier release with the same content and mode: at the
    /// same path if possible.
    fn matches(&self) -> Vec<Option<&Record>> {
        let Some(Earlier { manifest, .. }) = self.earlier else { return vec![None; self.wanted.items.len()] };
        let fits = |item: &Item, record: &Record| record.id == item.id && record.mode == mode_of(item.kind);
        let mut old = manifest.records().iter().peekable();
        let mut same: Vec<Option<&Record>> = Vec::with_capacity(self.wanted.items.len());
        let mut missing = false;
        for item in &self.wanted.items {
            while old.next_if(|record| manifest.path(record) < item.path.as_slice()).is_some() {}
            let found = old.peek().copied().filter(|record| manifest.path(record) == item.path);
            let found = found.filter(|record| item.is_file() && fits(item, record));
            missing |= found.is_none() && item.is_file();
            same.push(found);
        }
        if missing {
            // Moved files, and whole moved folders, keep their content.
            let elsewhere: HashMap<(ContentId, u32), &Record> =
                manifest.records().iter().map(|record| ((record.id, record.mode), record)).collect();
            for (item, found) in self.wanted.items.iter().zip(&mut same) {
                if found.is_none() && item.is_file() && item.own.is_none() {
                    *found = elsewhere.get(&(item.id, mode_of(item.kind))).copied();
                }
            }
        }
        same
    }

    fn pass(
        &self,
        root: &Folder,
        units: &[Unit<'_>],
        same: &[Option<&Record>],
        count: &Count<'_>,
        which: impl Fn(&Item) -> bool + Sync,
    ) -> Result<Vec<Share>, StepError> {
        let large = Mutex::new(());
        crew::share(self.permit, units, |rest| {
            let source = Source::new(self.contents, self.release);
            let user = rustix::process::geteuid().as_raw();
            let mut worker = Worker { job: self, user, source, buffer: Vec::new(), large: &large };
            let mut share = Share::default();
            for (node, entries) in rest {
                let to = root.descend(node.path).map_err(|error| root.fault("open", node.path, error))?;
                let beside = self.earlier.and_then(|it| it.folder.descend(node.path).ok());
                for at in entries.iter().copied() {
                    let Some(item) = self.wanted.items.get(at).filter(|item| which(item)) else { continue };
                    self.permit.check()?;
                    let same = same.get(at).copied().flatten();
                    worker.place(item, at, &to, same, beside.as_ref(), &mut share)?;
                    count.one();
                }
            }
            Ok(share)
        })
    }
}

/// Makes all folders of `tree` below `root`, mode 0755 whatever the umask.
fn make_folders(permit: &Permit, root: &Folder, tree: &Tree<'_>) -> Result<(), StepError> {
    const MODE: u32 = 0o755;
    // What the umask, or an ACL, does to the first folder, it does to all.
    let mut as_is = None;
    for node in tree.folders.iter().filter(|node| !node.folders.is_empty()) {
        permit.check()?;
        let folder = root.descend(node.path).map_err(|error| root.fault("open", node.path, error))?;
        for inner in node.folders.iter().filter_map(|at| tree.folders.get(*at)) {
            let (_, name) = split(inner.path);
            let fault = |error| folder.fault("make the folder", name, error);
            folder.mkdir(name, MODE).map_err(fault)?;
            let as_is = match as_is {
                Some(known) => known,
                None => *as_is.insert(folder.look(name)?.is_some_and(|meta| meta.permissions() == MODE)),
            };
            if !as_is {
                folder.allow(name, MODE).map_err(fault)?;
            }
        }
    }
    Ok(())
}

/// Counts what is done, and tells now and then.
struct Count<'a> {
    permit: &'a Permit,
    done: AtomicU64,
    total: u64,
}

impl Count<'_> {
    fn one(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if done == self.total || done.is_multiple_of((self.total / 100).max(16)) {
            self.permit.report(Progress::Files { done, total: self.total });
        }
    }
}

/// Reads contents; opened when the first is needed.
pub(crate) struct Source<'a> {
    contents: &'a dyn Contents,
    release: &'a Release,
    reader: Option<Box<dyn ContentReader + 'a>>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(contents: &'a dyn Contents, release: &'a Release) -> Self {
        Self { contents, release, reader: None }
    }

    pub(crate) fn reader(&mut self) -> Result<&mut (dyn ContentReader + 'a), StepError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.contents.reader(self.release)?,
        };
        Ok(&mut **self.reader.insert(reader))
    }
}

struct Worker<'a> {
    job: &'a Job<'a>,
    /// Who runs this.
    user: u32,
    source: Source<'a>,
    buffer: Vec<u8>,
    /// Held by the thread that has a large content in memory.
    large: &'a Mutex<()>,
}

impl Worker<'_> {
    fn place(
        &mut self,
        item: &Item,
        at: usize,
        to: &Folder,
        same: Option<&Record>,
        beside: Option<&Folder>,
        share: &mut Share,
    ) -> Result<(), StepError> {
        let (_, name) = split(&item.path);
        if !item.is_file() {
            let size = self.link(item, name, to)?;
            share.sizes.push((at, size));
            share.written = share.written.saturating_add(1);
            return Ok(());
        }
        if let Some((record, earlier)) = same.zip(self.job.earlier) {
            let old_path = earlier.manifest.path(record);
            let (old_folder, old_name) = split(old_path);
            let moved = match old_path == item.path {
                true => None,
                false => earlier.folder.descend(old_folder).ok(),
            };
            if let Some(from) = moved.as_ref().or(beside.filter(|_| old_path == item.path))
                && let Some(known) = self.reuse(item, record, from, old_name, to, name)?
            {
                share.known.push(known);
                share.sizes.push((at, record.size));
                return Ok(());
            }
        }
        let meta = self.write(item, name, to)?;
        share.known.push(Known::new(&meta, item.id));
        share.sizes.push((at, meta.size));
        share.written = share.written.saturating_add(1);
        Ok(())
    }

    /// Makes a link. Only our own may leave the release.
    fn link(&mut self, item: &Item, name: &[u8], to: &Folder) -> Result<u64, StepError> {
        let target = match &item.own {
            Some(target) => target,
            None => {
                self.source.reader()?.read(&item.id, &mut self.buffer)?;
                if self.buffer.is_empty() || leaves(&item.path, &self.buffer) {
                    let path = Place::of_bytes(&item.path);
                    return Err(
                        HostError::BadContent { path, rule: "it is a link that leaves the release" }.into()
                    );
                }
                &self.buffer
            }
        };
        to.symlink(target, name)?;
        Ok(target.len() as u64)
    }

    fn write(&mut self, item: &Item, name: &[u8], to: &Folder) -> Result<Meta, StepError> {
        let permissions = mode_of(item.kind) & 0o7777;
        if let Some(content) = &item.own {
            return Ok(write_file(to, name, content, permissions)?);
        }
        let reader = self.source.reader()?;
        let alone = (reader.size(&item.id)? > LARGE).then(|| lock(self.large));
        // It may have waited for long.
        self.job.permit.check()?;
        reader.read(&item.id, &mut self.buffer)?;
        let meta = write_file(to, name, &self.buffer, permissions)?;
        if alone.is_some() {
            self.buffer = Vec::new();
        }
        Ok(meta)
    }

    /// Makes the file from the earlier one; `None` when that cannot be done or is not safe.
    fn reuse(
        &mut self,
        item: &Item,
        record: &Record,
        from: &Folder,
        old_name: &[u8],
        to: &Folder,
        name: &[u8],
    ) -> Result<Option<Known>, HostError> {
        let Ok(Some(before)) = from.stat(old_name) else { return Ok(None) };
        let alike = before.mode == record.mode && before.size == record.size && before.owner == self.user;
        if !alike || !(self.job.links || self.job.clones.load(Ordering::Relaxed)) {
            return Ok(None);
        }
        // A file that cannot be read here cannot be reused; that is all.
        let content = content_of(from, old_name, &before, self.job.ledger, &mut self.buffer).unwrap_or(None);
        if content != Some(item.id) {
            return Ok(None);
        }
        if self.job.clones.load(Ordering::Relaxed) {
            match clone(from, old_name, &before, to, name)? {
                Cloned::Done(meta) => return Ok(Some(Known::new(&meta, item.id))),
                Cloned::Changed => return Ok(None),
                Cloned::Unsupported => self.job.clones.store(false, Ordering::Relaxed),
            }
        }
        if !self.job.links {
            return Ok(None);
        }
        match to.link(from, old_name, name) {
            Ok(()) => {}
            Err(
                error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NOMEM | Errno::EXIST),
            ) => return Err(to.fault("make", name, error)),
            // Too many names already, a file system without links, one that protects them, ...
            Err(_) => return Ok(None),
        }
        let after = to.look(name)?;
        // Linking moved the change time and the number of links, and nothing else.
        match after.filter(|after| Meta { links: before.links, changed: before.changed, ..*after } == before)
        {
            Some(after) => Ok(Some(Known::new(&after, item.id))),
            None => {
                to.unlink(name)?;
                Ok(None)
            }
        }
    }
}

/// Makes a file with this content; its permissions hold whatever the umask.
pub(crate) fn write_file(
    to: &Folder,
    name: &[u8],
    content: &[u8],
    permissions: u32,
) -> Result<Meta, HostError> {
    let file = to.create(name, permissions).map_err(|error| to.fault("make", name, error))?;
    write_into(&file, content, permissions).map_err(|error| to.fault("write", name, error))
}

fn write_into(mut file: &File, content: &[u8], permissions: u32) -> io::Result<Meta> {
    file.write_all(content)?;
    let meta = Meta::from(rustix::fs::fstat(file)?);
    if meta.permissions() == permissions {
        return Ok(meta);
    }
    file.set_permissions(Permissions::from_mode(permissions))?;
    Ok(Meta::from(rustix::fs::fstat(file)?))
}

enum Cloned {
    Done(Meta),
    /// The earlier file is not what it was a moment ago.
    Changed,
    /// The file system has no clones.
    Unsupported,
}

/// Makes a file that shares its blocks with an earlier one until either is written to.
/// Source: ioctl_ficlone(2).
fn clone(
    from: &Folder,
    old_name: &[u8],
    before: &Meta,
    to: &Folder,
    name: &[u8],
) -> Result<Cloned, HostError> {
    let Ok(old) = from.open_file(old_name) else { return Ok(Cloned::Changed) };
    let permissions = before.permissions();
    let new = to.create(name, permissions).map_err(|error| to.fault("make", name, error))?;
    let cloned = rustix::fs::ioctl_ficlone(&new, &old);
    let unchanged = rustix::fs::fstat(&old).is_ok_and(|stat| Meta::from(stat) == *before);
    match cloned {
        Ok(()) if unchanged => write_into(&new, b"", permissions)
            .map(Cloned::Done)
            .map_err(|error| to.fault("write", name, error)),
        Ok(()) => to.unlink(name).map(|()| Cloned::Changed),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS)) => {
            Err(to.fault("write", name, error))
        }
        Err(_) => to.unlink(name).map(|()| Cloned::Unsupported),
    }
}

/// Tells whether a record is a plain file.
pub(crate) fn is_plain(record: &Record) -> bool {
    record.file_type() == FileType::RegularFile
}
