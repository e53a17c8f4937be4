//! From nothing to a sealed release: [`Inner::ship`] and [`Inner::seal`].
//!
//! A release is made as `releases/.new-<number>-<fence>` and gets its name when all its files are
//! there. What it consists of is written to `manifests/<number>.shipped` before that. Sealing makes
//! everything outlive a power cut with one syncfs(2), and then renames the manifest to
//! `manifests/<number>`: from then on, and not before, the release is one that can serve.

use std::os::fd::AsFd;

use eeveon_core::{CommitId, ContentId, Permit, Placed, Release, ReleaseNumber, StepError};
use rustix::fs::{FileType, Mode};

use crate::{
    HostError, crew,
    disk::{Folder, split},
    error::Place,
    hash,
    host::{Inner, lock},
    layout::Name,
    ledger::{Known, Ledger, read_content},
    manifest::{Header, Manifest, Origin, Record, Status, mode_of},
    place::{Earlier, Job, Made},
    target::Site,
    tree::Tree,
    wanted::Wanted,
};

impl Inner {
    /// See [`eeveon_core::Deployer::ship`].
    pub(crate) fn ship(&self, permit: &Permit, release: &Release) -> Result<Placed, StepError> {
        let number = release.number;
        let site = self.adopt(permit)?;
        site.refuse_foreign()?;
        site.change(permit, || Ok(()))?;
        let boot = boot_id()?;
        if let Some(manifest) = self.shipped_before(&site, release, &boot)? {
            return Ok(self.placed(&manifest.header));
        }
        self.discard(&site, permit, number)?;
        self.make_shared(&site)?;

        let wanted = self.wanted(release, &permit.cancel)?;
        let held = site.releases.again().map_err(|error| site.releases.fault("open", b"", error))?;
        *lock(&self.held) = Some((number, held));
        let name = Name::New(number, permit.fence).text();
        let folder = site.releases.make(&name, 0o755)?;
        let mut ledger = Ledger::load(&site.own);
        let earlier = self.earlier(&site, number)?;
        let job = Job {
            permit,
            release,
            contents: &*self.contents,
            wanted: &wanted,
            earlier: earlier.as_ref(),
            ledger: &ledger,
            clones: &self.clones,
            links: !self.options.commands_run,
        };
        let made = job.run(&folder)?;

        let header = totals(number, &release.revision.commit, boot, &wanted, &made);
        let placed = self.placed(&header);
        let records = wanted.items.iter().zip(&made.sizes).map(|(item, size)| {
            (item.path.as_slice(), Record::new(mode_of(item.kind), *size, item.id, item.origin()))
        });
        let manifest = Manifest::compose(&header, records);
        ledger.learn(made.known);
        ledger.save(&site.own, self.fine_times(&site.own));
        permit.check()?;
        site.change(permit, || {
            site.manifests.put(number, Status::Shipped, &manifest)?;
            match site.releases.rename_free(&name, &Name::Release(number).text())? {
                true => Ok(()),
                false => Err(site.releases.fault(
                    "rename to",
                    &Name::Release(number).text(),
                    std::io::Error::from(std::io::ErrorKind::AlreadyExists),
                )),
            }
        })?;
        self.forget_wanted();
        Ok(placed)
    }

    /// Returns the manifest of the release if an earlier call shipped it, and nothing since can have
    /// lost a part of it.
    fn shipped_before(
        &self,
        site: &Site,
        release: &Release,
        boot: &str,
    ) -> Result<Option<Manifest>, HostError> {
        let number = release.number;
        let name = Name::Release(number).text();
        if site.releases.look(&name)?.is_none() {
            return Ok(None);
        }
        for status in [Status::Sealed, Status::Shipped] {
            let manifest = match site.manifests.read(number, status) {
                Ok(Some(manifest)) => manifest,
                Ok(None) => continue,
                // A power cut can do that to one that was not sealed.
                Err(HostError::Damaged { .. }) if status == Status::Shipped => continue,
                Err(error) => return Err(error),
            };
            if manifest.header.commit != release.revision.commit {
                let commit = manifest.header.commit.short();
                let found = format!("release {number} is there already, of commit {commit}");
                return Err(HostError::NotOurs { path: Place::new(site.releases.path()), found });
            }
            if status == Status::Sealed || manifest.header.boot == boot {
                return Ok(Some(manifest));
            }
        }
        Ok(None)
    }

    /// Opens the release whose files are most like those of a new one: the live one, else the newest
    /// that is sealed. One that cannot be used is passed over.
    fn earlier(&self, site: &Site, new: ReleaseNumber) -> Result<Option<Earlier>, HostError> {
        let live = self.live(site).unwrap_or(None);
        let mut sealed = site.manifests.list()?.known;
        sealed.retain(|(release, status)| *status == Status::Sealed && *release != new);
        sealed.sort_by_key(|(release, _)| (Some(*release) == live, *release));
        while let Some((release, _)) = sealed.pop() {
            let manifest = site.manifests.read(release, Status::Sealed);
            if let (Ok(Some(manifest)), Ok(folder)) =
                (manifest, site.releases.enter(&Name::Release(release).text()))
            {
                return Ok(Some(Earlier { folder, manifest }));
            }
        }
        Ok(None)
    }

    /// See [`eeveon_core::Deployer::seal`].
    pub(crate) fn seal(&self, permit: &Permit, release: &Release) -> Result<Placed, StepError> {
        let number = release.number;
        let site = self.site_of(number)?;
        site.change(permit, || Ok(()))?;
        let folder = site.releases.enter(&Name::Release(number).text()).map_err(|_| self.missing(number))?;
        if let Some(manifest) = site.manifests.read(number, Status::Sealed)? {
            return Ok(self.placed(&manifest.header));
        }
        let shipped = site.manifests.read(number, Status::Shipped)?.ok_or_else(|| self.missing(number))?;
        // Whatever was written before the machine went down may be lost, and no one would know.
        if shipped.header.boot != boot_id()? {
            return Err(HostError::Restarted { release: number }.into());
        }
        let mut header = shipped.header.clone();
        if self.options.commands_run {
            let stock = take_stock(permit, &folder, &shipped)?;
            header = stock.header;
            site.manifests.put(
                number,
                Status::Shipped,
                &Manifest::compose(
                    &header,
                    stock.paths.iter().map(|(path, record)| (path.as_slice(), *record)),
                ),
            )?;
            let mut ledger = Ledger::load(&site.own);
            ledger.learn(stock.known);
            ledger.save(&site.own, self.fine_times(&site.own));
        }
        permit.check()?;
        let held = lock(&self.held).take_if(|(of, _)| *of == number);
        let synced = held.as_ref().map_or(&site.releases, |(_, folder)| folder).sync_file_system();
        if let Err(error) = synced {
            // The system reports a failed write once. Without its manifest the release can never be
            // sealed, so that nobody tries again and is told that all is well.
            site.manifests.remove(number, Status::Shipped)?;
            return Err(error.into());
        }
        site.change(permit, || {
            site.manifests.turn(number, Status::Shipped, Status::Sealed)?;
            site.manifests.0.sync()
        })?;
        Ok(self.placed(&header))
    }
}

fn totals(release: ReleaseNumber, commit: &CommitId, boot: String, wanted: &Wanted, made: &Made) -> Header {
    Header {
        release,
        commit: commit.clone(),
        boot,
        files: wanted.items.iter().filter(|item| !item.is_folder()).count() as u64,
        bytes: made.sizes.iter().sum(),
        written: made.written,
    }
}

/// Names the time since the machine started.
///
/// Source: random(4), `/proc/sys/kernel/random/boot_id`.
pub(crate) fn boot_id() -> Result<String, HostError> {
    let path = std::path::Path::new("/proc/sys/kernel/random/boot_id");
    match std::fs::read_to_string(path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(source) => Err(HostError::Io { doing: "read", path: Place::new(path), source }),
    }
}

/// What a release consists of after commands ran in it.
struct Stock {
    header: Header,
    paths: Vec<(Vec<u8>, Record)>,
    known: Vec<Known>,
}

/// Reads everything in the release.
fn take_stock(permit: &Permit, root: &Folder, shipped: &Manifest) -> Result<Stock, StepError> {
    let mut found = Vec::new();
    list(permit, shipped.header.release, root, &mut Vec::new(), &mut found)?;
    found.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let tree = Tree::new(found.iter().map(|(path, mode)| (path.as_slice(), mode.is_some())));
    let units: Vec<_> = tree
        .folders
        .iter()
        .flat_map(|node| node.entries.chunks(128).map(move |chunk| (node, chunk)))
        .collect();
    let shares = crew::share(permit, &units, |rest| {
        let (mut records, mut known, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
        for (node, entries) in rest {
            let folder = root.descend(node.path).map_err(|error| root.fault("open", node.path, error))?;
            for (at, (path, _)) in entries.iter().filter_map(|at| Some((*at, found.get(*at)?))) {
                permit.check()?;
                let (_, name) = split(path);
                let (mode, size, id, learned) = read_path(&folder, path, name, &mut buffer)?;
                known.extend(learned);
                let same = shipped
                    .find(path)
                    .filter(|it| it.id == id && it.file_type() == FileType::from_raw_mode(mode));
                records.push((at, Record::new(mode, size, id, same.map_or(Origin::Built, |it| it.origin))));
            }
        }
        Ok((records, known))
    })?;

    let (mut records, mut known) = (vec![None; found.len()], Vec::new());
    for (share, learned) in shares {
        known.extend(learned);
        for (at, record) in share {
            if let Some(slot) = records.get_mut(at) {
                *slot = Some(record);
            }
        }
    }
    let no_content = hash::of_bytes(b"").ok_or(HostError::Damaged {
        path: Place::new(root.path()),
        how: "an empty file has no content id",
    })?;
    let mut header = Header { files: 0, bytes: 0, ..shipped.header.clone() };
    let mut paths = Vec::with_capacity(found.len());
    let written_by_us = shipped.header.written.saturating_sub(built(shipped.records()));
    for ((path, folder), record) in found.into_iter().zip(records) {
        let record = match (record, folder) {
            (Some(record), _) => {
                header.files = header.files.saturating_add(1);
                header.bytes = header.bytes.saturating_add(record.size);
                record
            }
            (None, Some(mode)) => {
                let origin = shipped.find(&path).map_or(Origin::Built, |it| it.origin);
                Record::new(mode, 0, no_content, origin)
            }
            // Does not happen: whatever is no folder was read.
            (None, None) => continue,
        };
        paths.push((path, record));
    }
    let built = paths.iter().filter(|(_, it)| is_built(it)).count() as u64;
    // What we wrote and a command removed or wrote over must not count as well.
    header.written = written_by_us.saturating_add(built).min(header.files);
    Ok(Stock { header, paths, known })
}

fn is_built(record: &Record) -> bool {
    record.origin == Origin::Built && !record.is_folder()
}

fn built(records: &[Record]) -> u64 {
    records.iter().filter(|record| is_built(record)).count() as u64
}

/// What was found at a path: mode, size, content, what is known about the file from now on.
type Found = (u32, u64, ContentId, Option<Known>);

/// Reads what a command may have left. A program that runs as its owner or group does not get into a
/// release as such.
fn read_path(folder: &Folder, path: &[u8], name: &[u8], buffer: &mut Vec<u8>) -> Result<Found, HostError> {
    let fault = |error: std::io::Error| folder.fault("read", name, error);
    let bad = |rule| Err(HostError::BadContent { path: Place::of_bytes(path), rule });
    let busy = || fault(std::io::Error::other("it is being written to, or made to break SHA-1"));
    let mut meta = folder.look(name)?.ok_or_else(busy)?;
    match meta.file_type() {
        FileType::RegularFile => {
            if meta.mode & SET_ID != 0 {
                // The other name may be outside the release, where it is none of our business.
                if meta.links > 1 {
                    return bad("it is a setuid or setgid file with another name");
                }
                let file = folder.open_file(name).map_err(|error| fault(error.into()))?;
                clear_set_id(folder, &file, name, meta.mode)?;
                meta = folder.look(name)?.ok_or_else(busy)?;
            }
            let id = read_content(folder, name, &meta, buffer)?.ok_or_else(busy)?;
            Ok((meta.mode, meta.size, id, Some(Known::new(&meta, id))))
        }
        FileType::Symlink => {
            let to = folder.read_link(name).map_err(|error| fault(error.into()))?;
            let id = hash::of_bytes(&to).ok_or_else(busy)?;
            Ok((mode_of(eeveon_core::FileKind::Symlink), to.len() as u64, id, None))
        }
        _ => bad("it is neither a file, a link nor a folder"),
    }
}

/// The bits that make a program run as its owner or group, and what is made in a folder belong to the
/// folder's group. Source: inode(7).
const SET_ID: u32 = 0o6000;

fn clear_set_id(folder: &Folder, fd: impl AsFd, name: &[u8], mode: u32) -> Result<(), HostError> {
    rustix::fs::fchmod(fd, Mode::from_raw_mode(mode & 0o7777 & !SET_ID))
        .map_err(|error| folder.fault("change the permissions of", name, error))
}

/// How deep folders of a release may be nested. Each level takes stack and a file descriptor.
const DEEPEST: usize = 256;

/// Lists everything below `folder` but folders of mode 0755 with something in them, which go without
/// saying. For a folder the mode is given.
fn list(
    permit: &Permit,
    release: ReleaseNumber,
    folder: &Folder,
    path: &mut Vec<u8>,
    found: &mut Vec<(Vec<u8>, Option<u32>)>,
) -> Result<(), StepError> {
    permit.check()?;
    if path.iter().filter(|byte| **byte == b'/').count() >= DEEPEST {
        let below = path.split(|byte| *byte == b'/').next().unwrap_or_default();
        return Err(HostError::TooDeep { release, below: Place::of_bytes(below), most: DEEPEST }.into());
    }
    let names = folder.names()?;
    let mut mode = folder.meta()?.mode;
    if mode & SET_ID != 0 {
        clear_set_id(folder, folder, b"", mode)?;
        mode &= !SET_ID;
    }
    if !path.is_empty() && (names.is_empty() || mode != mode_of(eeveon_core::FileKind::Folder)) {
        found.push((path.clone(), Some(mode)));
    }
    let length = path.len();
    for (name, kind) in names {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        match kind {
            FileType::Directory => {
                let inner = folder.enter(&name).map_err(|error| folder.fault("open", &name, error))?;
                list(permit, release, &inner, path, found)?;
            }
            _ => found.push((path.clone(), None)),
        }
        path.truncate(length);
    }
    Ok(())
}
