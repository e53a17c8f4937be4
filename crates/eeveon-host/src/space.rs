//! Before anything is touched: could the release be placed, what would it change, is there room?

use eeveon_core::{FileKind, Permit, Release, StepError};

use crate::{
    Changes, HostError, crew,
    disk::Folder,
    error::{Free, Place, Room},
    host::Inner,
    layout::SHARED,
    manifest::{Manifest, Origin, Status, mode_of},
    place::Source,
    target::{Site, refuse_unwritable},
    wanted::{Item, Wanted},
};

/// What deploying a release would change against what is live, and take.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Estimate {
    /// The files that are different.
    pub changes: Changes,
    /// How many bytes of the disk the release would take.
    pub bytes_needed: u64,
    /// How many bytes are free there.
    pub bytes_free: u64,
}

/// The room a release would take.
#[derive(Debug, Default)]
struct Need {
    bytes: u64,
    inodes: u64,
}

/// What a file takes on a disk in whole blocks, in bytes.
const BLOCK: u64 = 4096;

impl Inner {
    /// See [`eeveon_core::Deployer::ready`].
    pub(crate) fn ready(&self, permit: &Permit, release: &Release) -> Result<(), StepError> {
        let site = self.site()?;
        match &site {
            Some(site) => {
                site.refuse_foreign()?;
                self.live(site)?;
                refuse_unwritable(&self.releases_path())?;
            }
            None => refuse_unwritable(&self.options.path)?,
        }
        self.refuse_missing_shared()?;
        let (_, need, free) = self.weigh(permit, release, site.as_ref())?;
        let path = || Place::new(&self.options.path);
        let bytes = need.bytes.saturating_add(self.options.reserve_bytes);
        if bytes > free.bytes {
            return Err(HostError::DiskFull { path: path(), needed: Some(Room::Bytes(bytes)), free }.into());
        }
        if free.inodes.is_some_and(|inodes| need.inodes > inodes) {
            let needed = Some(Room::Inodes(need.inodes));
            return Err(HostError::DiskFull { path: path(), needed, free }.into());
        }
        Ok(())
    }

    /// See [`crate::Host::estimate`].
    pub(crate) fn estimate(&self, permit: &Permit, release: &Release) -> Result<Estimate, StepError> {
        let site = self.site()?;
        Ok(self.weigh(permit, release, site.as_ref())?.0)
    }

    fn weigh(
        &self,
        permit: &Permit,
        release: &Release,
        site: Option<&Site>,
    ) -> Result<(Estimate, Need, Free), StepError> {
        let wanted = self.wanted(release, &permit.cancel)?;
        let live = match site {
            Some(site) => self.live(site)?.map(|live| site.manifests.read(live, Status::Sealed)).transpose(),
            None => Ok(None),
        };
        let live = match live {
            Ok(live) => live.flatten(),
            // What is live cannot be compared with then; all the more reason to deploy.
            Err(HostError::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let new: Vec<&Item> =
            wanted.items.iter().filter(|item| !item.is_folder() && !is_in(live.as_ref(), item)).collect();
        let sizes = self.sizes(permit, release, &new)?;

        let mut estimate = Estimate::default();
        for (item, size) in new.iter().zip(&sizes) {
            let known = live.as_ref().is_some_and(|live| live.find(&item.path).is_some());
            let list = if known { &mut estimate.changes.changed } else { &mut estimate.changes.added };
            list.push((item.path.clone(), *size));
        }
        estimate.changes.removed = removed(live.as_ref(), &wanted);

        let free = nearest(&self.options.path)?.free()?;
        let need = self.need(&wanted, live.as_ref(), &new, &sizes);
        estimate.bytes_needed = need.bytes;
        estimate.bytes_free = free.bytes;
        Ok((estimate, need, free))
    }

    /// Adds up what a release takes: its folders, its new files, and the names of all.
    fn need(&self, wanted: &Wanted, live: Option<&Manifest>, new: &[&Item], sizes: &[u64]) -> Need {
        let tree = wanted.tree();
        let folders = tree.folders.len() as u64;
        let blocks = |size: &u64| size.div_ceil(BLOCK).saturating_mul(BLOCK);
        let mut need = Need { bytes: sizes.iter().map(blocks).sum(), inodes: new.len() as u64 };
        if let Some(live) = live.filter(|_| self.options.commands_run) {
            // Nothing is shared with another release. What a build will add, nobody knows.
            let kept =
                wanted.items.iter().filter(|item| !item.is_folder()).filter_map(|item| live.find(&item.path));
            let kept: Vec<u64> = kept.map(|record| record.size).collect();
            if !self.clones.load(std::sync::atomic::Ordering::Relaxed) {
                need.bytes = need.bytes.saturating_add(kept.iter().map(blocks).sum());
            }
            need.inodes = need.inodes.saturating_add(kept.len() as u64);
        }
        need.inodes = need.inodes.saturating_add(folders);
        // A block per folder, and what names and the manifest take.
        let names: u64 = wanted.items.iter().map(|item| (item.path.len() as u64).saturating_add(128)).sum();
        need.bytes = need.bytes.saturating_add(folders.saturating_mul(BLOCK)).saturating_add(names);
        need
    }

    fn sizes(&self, permit: &Permit, release: &Release, items: &[&Item]) -> Result<Vec<u64>, StepError> {
        let units: Vec<(usize, &[&Item])> =
            items.chunks(256).enumerate().map(|(at, chunk)| (at.saturating_mul(256), chunk)).collect();
        let shares = crew::share(permit, &units, |rest| {
            let mut source = Source::new(&*self.contents, release);
            let mut sizes = Vec::new();
            for (start, chunk) in rest {
                for (at, item) in chunk.iter().enumerate() {
                    permit.check()?;
                    let size = match &item.own {
                        Some(content) => content.len() as u64,
                        None => source.reader()?.size(&item.id)?,
                    };
                    sizes.push((start.saturating_add(at), size));
                }
            }
            Ok(sizes)
        })?;
        let mut sizes: Vec<(usize, u64)> = shares.into_iter().flatten().collect();
        sizes.sort_unstable();
        Ok(sizes.into_iter().map(|(_, size)| size).collect())
    }

    /// Names all shared files that do not exist.
    fn refuse_missing_shared(&self) -> Result<(), HostError> {
        let root = Folder::open(&self.options.path).ok();
        let shared = self.options.path.join("shared");
        let mut missing = Vec::new();
        for path in &self.shared.files {
            let name = [SHARED, b"/", path].concat();
            match root.as_ref().map(|root| root.look_through(&name)).transpose()?.flatten() {
                Some(meta) if meta.file_type() == rustix::fs::FileType::Directory => {
                    let path = Place::of_bytes(&name);
                    return Err(HostError::SharedConflict {
                        path,
                        how: "a file is wanted, and it is a folder",
                    });
                }
                Some(_) => {}
                None => missing.push(Place::of_bytes(path).to_string()),
            }
        }
        for path in &self.shared.folders {
            let name = [SHARED, b"/", path].concat();
            let found = root.as_ref().map(|root| root.look_through(&name)).transpose()?.flatten();
            if found.is_some_and(|meta| meta.file_type() != rustix::fs::FileType::Directory) {
                let path = Place::of_bytes(&name);
                return Err(HostError::SharedConflict { path, how: "a folder is wanted, and it is none" });
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(HostError::SharedFileMissing { shared: Place::new(&shared), missing }),
        }
    }

    /// Makes the shared folders that do not exist, and those around shared files.
    pub(crate) fn make_shared(&self, site: &Site) -> Result<(), HostError> {
        self.refuse_missing_shared()?;
        if self.shared.paths().next().is_none() {
            return Ok(());
        }
        if site.root.look(SHARED)?.is_none() {
            site.root.make(SHARED, 0o755)?;
        }
        // An operator may keep `shared` on another disk, behind a link.
        let shared =
            Folder::open(&site.root.at(SHARED)).map_err(|error| site.root.fault("open", SHARED, error))?;
        for path in &self.shared.folders {
            if shared.look_through(path)?.is_some() {
                continue;
            }
            let mut at = shared.again().map_err(|error| shared.fault("open", b"", error))?;
            for part in path.split(|byte| *byte == b'/') {
                at = at.make(part, 0o755)?;
            }
        }
        Ok(())
    }
}

fn is_in(live: Option<&Manifest>, item: &Item) -> bool {
    let record = live.and_then(|live| live.find(&item.path));
    record.is_some_and(|it| it.id == item.id && it.mode == mode_of(item.kind))
}

fn removed(live: Option<&Manifest>, wanted: &Wanted) -> Vec<(Vec<u8>, u64)> {
    let Some(live) = live else { return Vec::new() };
    let is_wanted = |path: &[u8]| {
        let at = wanted.items.binary_search_by(|item| item.path.as_slice().cmp(path));
        at.ok().and_then(|at| wanted.items.get(at)).is_some_and(|item| item.kind != FileKind::Folder)
    };
    let old = live.records().iter().filter(|it| !it.is_folder() && it.origin != Origin::Built);
    let gone = old.filter(|record| !is_wanted(live.path(record)));
    gone.map(|record| (live.path(record).to_vec(), record.size)).collect()
}

/// Opens the path, or what is nearest to it as long as it does not exist.
fn nearest(path: &std::path::Path) -> Result<Folder, HostError> {
    let open = |path: &std::path::Path| Folder::open(path).ok();
    path.ancestors().find_map(open).ok_or_else(|| HostError::Io {
        doing: "open",
        path: Place::new(path),
        source: std::io::ErrorKind::NotFound.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_nearest_to_everything() {
        assert_eq!(
            nearest(std::path::Path::new("/no-such-folder/x")).unwrap().path(),
            std::path::Path::new("/")
        );
    }
}
