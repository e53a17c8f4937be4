//! Taking away: releases, what dead processes left, the whole target; and what is still there.

use std::{collections::BTreeMap, path::PathBuf};

use eeveon_core::{Permit, Present, ReleaseNumber, Removal, StepError};
use jiff::Timestamp;
use rustix::fs::FileType;

use crate::{
    HostError, crew,
    disk::{Folder, Meta, TEMPORARY, split},
    host::Inner,
    layout::{CURRENT, Name, OWN, RELEASES, SHARED, is_next_current},
    ledger::{Known, Ledger},
    manifest::{MANIFESTS, Manifest, Status},
    place::is_plain,
    target::{FENCE, LOCK, Lock, MARKER, PATIENCE, Site, open_root},
    tree::Tree,
};

/// What [`crate::Host::purge`] left alone.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// What is still there because it is not ours or is shared data.
    pub left: Vec<PathBuf>,
}

const STATUSES: [Status; 3] = [Status::Shipped, Status::Sealed, Status::Failed];

impl Inner {
    /// See [`eeveon_core::Deployer::remove`].
    pub(crate) fn remove(
        &self,
        permit: &Permit,
        release: ReleaseNumber,
        how: Removal,
    ) -> Result<(), StepError> {
        let Some(site) = self.site()? else { return Ok(()) };
        match how {
            Removal::Discard => self.discard(&site, permit, release),
            Removal::SetAside => {
                self.set_aside(&site, permit, release)?;
                remove_unfinished(&site, release)
            }
        }
    }

    /// Turns a release into a failed one, if it is there.
    fn set_aside(&self, site: &Site, permit: &Permit, release: ReleaseNumber) -> Result<(), StepError> {
        site.change(permit, || {
            let name = Name::Release(release).text();
            if site.releases.look(&name)?.is_none() {
                return Ok(());
            }
            self.refuse_live(site, release)?;
            let failed = Name::Failed(release).text();
            if !site.releases.rename_free(&name, &failed)? {
                site.releases.remove_all(&failed)?;
                site.releases.rename_free(&name, &failed)?;
            }
            for status in [Status::Shipped, Status::Sealed] {
                site.manifests.turn(release, status, Status::Failed)?;
            }
            site.manifests.touch(release, Status::Failed)
        })
    }

    fn refuse_live(&self, site: &Site, release: ReleaseNumber) -> Result<(), HostError> {
        // A link that is not ours makes no release of ours live.
        match self.live(site) {
            Ok(Some(live)) if live == release => Err(HostError::ReleaseServes { release }),
            Ok(_) | Err(HostError::CurrentNotOurs { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes every trace of a release that is not live.
    pub(crate) fn discard(
        &self,
        site: &Site,
        permit: &Permit,
        release: ReleaseNumber,
    ) -> Result<(), StepError> {
        let gone = Name::Gone(release, permit.fence).text();
        let mut manifest = None;
        site.change(permit, || {
            self.refuse_live(site, release)?;
            for status in STATUSES {
                // Only saves time later; a damaged one is no reason to keep a release.
                manifest = manifest.take().or(site.manifests.read(release, status).unwrap_or(None));
            }
            // From here on nothing can take it for a release, however far the removal gets.
            for name in [Name::Release(release), Name::Failed(release)] {
                if site.releases.look(&name.text())?.is_some() {
                    site.releases.remove_all(&gone)?;
                    site.releases.rename(&name.text(), &site.releases, &gone)?;
                }
            }
            STATUSES.into_iter().try_for_each(|status| site.manifests.remove(release, status))
        })?;
        if let (Some(manifest), Ok(folder)) = (manifest, site.releases.enter(&gone)) {
            self.unlink_listed(site, permit, &folder, &manifest)?;
        }
        site.releases.remove_all(&gone)?;
        remove_unfinished(site, release)
    }

    /// Removes the files a manifest lists, in parallel, and enters in the ledger what that does to
    /// the same files of the live release: without it, all of them would be in doubt.
    fn unlink_listed(
        &self,
        site: &Site,
        permit: &Permit,
        folder: &Folder,
        manifest: &Manifest,
    ) -> Result<(), StepError> {
        let live = match self.live(site) {
            Ok(Some(live)) => site.releases.enter(&Name::Release(live).text()).ok(),
            _ => None,
        };
        let mut ledger = Ledger::load(&site.own);
        let tree =
            Tree::new(manifest.records().iter().map(|record| (manifest.path(record), record.is_folder())));
        let shares = crew::share(permit, &tree.folders, |rest| {
            let (mut known, mut gone) = (Vec::new(), Vec::new());
            for node in rest {
                permit.check()?;
                let Ok(from) = folder.descend(node.path) else { continue };
                let survivor = live.as_ref().and_then(|live| live.descend(node.path).ok());
                for record in node.entries.iter().filter_map(|at| manifest.records().get(*at)) {
                    let (_, name) = split(manifest.path(record));
                    let before = if is_plain(record) { from.stat(name).ok().flatten() } else { None };
                    if from.unlink(name).is_err() {
                        continue;
                    }
                    let Some(before) = before else { continue };
                    let after = survivor.as_ref().and_then(|it| it.stat(name).ok().flatten());
                    match ledger.content(&before).zip(after.filter(|after| only_unlinked(&before, after))) {
                        Some((id, after)) => known.push(Known::new(&after, id)),
                        None => gone.push(before.inode),
                    }
                }
            }
            Ok((known, gone))
        })?;
        for (known, gone) in shares {
            ledger.forget(gone);
            ledger.learn(known);
        }
        ledger.save(&site.own, self.fine_times(&site.own));
        remove_folders(permit, folder, &tree)
    }

    /// See [`eeveon_core::Deployer::present`].
    pub(crate) fn present(&self) -> Result<Vec<Present>, StepError> {
        let Some(site) = self.site()? else { return Ok(Vec::new()) };
        let mut present = Vec::new();
        for (name, kind) in site.releases.names()? {
            let (release, statuses) = match Name::parse(&name) {
                Some(Name::Release(release)) => (release, [Status::Sealed, Status::Shipped].as_slice()),
                Some(Name::Failed(release)) => (release, [Status::Failed].as_slice()),
                _ => continue,
            };
            if kind != FileType::Directory {
                continue;
            }
            let mut glances = statuses.iter().filter_map(|status| {
                let glance = site.manifests.glance(release, *status).transpose()?;
                Some(glance.map(|glance| (*status, glance)))
            });
            let (usable, bytes, since) = match glances.next().transpose()? {
                Some((status, (bytes, since))) => (status == Status::Sealed, bytes, since),
                None => (false, 0, site.releases.look(&name)?.map_or(0, |meta| meta.changed)),
            };
            let since = Timestamp::from_nanosecond(since.into()).unwrap_or(Timestamp::UNIX_EPOCH);
            present.push(Present { release, usable, bytes, since });
        }
        present.sort_by_key(|it| (it.release, !it.usable));
        Ok(present)
    }

    /// See [`crate::Host::sweep`].
    pub(crate) fn sweep(&self, permit: &Permit) -> Result<u64, StepError> {
        let Some(site) = self.site()? else {
            return Ok(self.unclaimed(permit)?.map_or(0, |(_, swept)| swept));
        };
        // Whoever was there before us cannot change anything from now on.
        site.change(permit, || Ok(()))?;
        let mut swept = 0_u64;
        let boot = crate::ship::boot_id()?;
        let mut there = Vec::new();
        for (name, _) in site.releases.names()? {
            permit.check()?;
            match Name::parse(&name) {
                Some(Name::New(_, fence) | Name::Gone(_, fence) | Name::Mend(_, fence))
                    if fence != permit.fence =>
                {
                    site.releases.remove_all(&name)?;
                    swept = swept.saturating_add(1);
                }
                Some(known) => there.push(known),
                None => {}
            }
        }
        for (name, _) in site.root.names()?.into_iter().filter(|(name, _)| is_next_current(name)) {
            site.root.unlink(&name)?;
            swept = swept.saturating_add(1);
        }
        for (name, _) in site.own.names()?.into_iter().filter(|(name, _)| name.ends_with(TEMPORARY)) {
            site.own.unlink(&name)?;
            swept = swept.saturating_add(1);
        }
        let manifests = site.manifests.list()?;
        for name in manifests.unfinished {
            site.manifests.0.unlink(&name)?;
            swept = swept.saturating_add(1);
        }
        for (release, status) in manifests.known {
            let name = match status {
                Status::Failed => Name::Failed(release),
                Status::Shipped | Status::Sealed => Name::Release(release),
            };
            if !there.contains(&name) {
                site.manifests.remove(release, status)?;
                swept = swept.saturating_add(1);
            } else if status == Status::Shipped && !self.can_be_sealed(&site, release, &boot)? {
                self.discard(&site, permit, release)?;
                swept = swept.saturating_add(1);
            }
        }
        Ok(swept)
    }

    /// Tells whether a shipped release may still become a sealed one: not after a restart, when
    /// nobody knows what of it was lost.
    fn can_be_sealed(&self, site: &Site, release: ReleaseNumber, boot: &str) -> Result<bool, HostError> {
        match site.manifests.read(release, Status::Shipped) {
            Ok(manifest) => Ok(manifest.is_some_and(|it| it.header.boot == boot)),
            Err(HostError::Damaged { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// See [`crate::Host::purge`].
    pub(crate) fn purge(&self, permit: &Permit) -> Result<Purged, StepError> {
        let path = &self.options.path;
        let Some(site) = self.site()? else {
            if let Some((root, _)) = self.unclaimed(permit)? {
                root.remove_all(OWN)?;
            }
            // As below: both go only if they are empty, as an earlier purge that died leaves them.
            let _ = std::fs::remove_dir(path.join(".eeveon"));
            let _ = std::fs::remove_dir(path);
            return Ok(self.left());
        };
        site.change(permit, || {
            if self.live(&site).is_ok_and(|live| live.is_some()) {
                site.root.unlink(CURRENT)?;
            }
            for (name, _) in site.root.names()?.into_iter().filter(|(name, _)| is_next_current(name)) {
                site.root.unlink(&name)?;
            }
            site.root.sync()?;
            retire_all(&site, permit)?;
            for (name, _) in site.releases.names()? {
                if Name::parse(&name).is_some() {
                    site.releases.remove_all(&name)?;
                }
            }
            site.root.rmdir(RELEASES)?;
            // Folders that were made for what is shared, and nothing was ever put into.
            if let Ok(shared) = site.root.enter(SHARED) {
                for folder in &self.shared.folders {
                    remove_empty(&shared, folder)?;
                }
            }
            site.root.rmdir(SHARED).or_else(|error| match site.root.look(SHARED)? {
                // A link to where an operator keeps the shared data.
                Some(meta) if meta.file_type() == FileType::Symlink => Ok(false),
                _ => Err(error),
            })?;
            // As long as the marker is there this can be done again, which takes the fence; and
            // without it, a lock and a fence are in nobody's way.
            for (name, _) in site.own.names()? {
                if ![MARKER, LOCK, FENCE].contains(&name.as_slice()) {
                    site.own.remove_all(&name)?;
                }
            }
            site.own.unlink(MARKER)?;
            site.root.remove_all(OWN)?;
            site.root.sync()
        })?;
        // Fails when something is left, and when the path is where something is mounted.
        let _ = std::fs::remove_dir(path);
        Ok(self.left())
    }

    /// Finds our own folder as a process left it that died while it made the path ours, or while it
    /// gave it up: without the marker, and with nothing but what stands beside it. Removes files
    /// that were being written. Returns the path's folder and how many those were.
    fn unclaimed(&self, permit: &Permit) -> Result<Option<(Folder, u64)>, StepError> {
        let Some(root) = open_root(&self.options.path)? else { return Ok(None) };
        let Some(meta) = root.look(OWN)? else { return Ok(None) };
        if meta.file_type() != FileType::Directory {
            return Ok(None);
        }
        // Not to be entered: then it is for the command that has to enter it to say so.
        let Ok(own) = root.enter(OWN) else { return Ok(None) };
        let names = own.names()?;
        let is_known = |name: &[u8]| [LOCK, FENCE, MANIFESTS].contains(&name) || name.ends_with(TEMPORARY);
        if names.is_empty() || !names.iter().all(|(name, _)| is_known(name)) {
            return Ok(None);
        }
        let _alone = Lock::take(&own, permit, PATIENCE)?;
        let mut swept = 0_u64;
        for (name, _) in names.iter().filter(|(name, _)| name.ends_with(TEMPORARY)) {
            own.unlink(name)?;
            swept = swept.saturating_add(1);
        }
        Ok(Some((root, swept)))
    }

    fn left(&self) -> Purged {
        let entries = std::fs::read_dir(&self.options.path).into_iter().flatten();
        let mut left: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        left.sort();
        Purged { left }
    }
}

/// Turns all releases into what sweeping removes: from then on nothing can take them for releases,
/// however far their removal gets.
fn retire_all(site: &Site, permit: &Permit) -> Result<(), HostError> {
    for (name, _) in site.releases.names()? {
        let Some(Name::Release(release) | Name::Failed(release)) = Name::parse(&name) else { continue };
        let gone = Name::Gone(release, permit.fence).text();
        // There is one when a number has both a release and one that was set aside.
        site.releases.remove_all(&gone)?;
        site.releases.rename(&name, &site.releases, &gone)?;
        STATUSES.into_iter().try_for_each(|status| site.manifests.remove(release, status))?;
    }
    site.releases.sync()?;
    site.manifests.0.sync()
}

/// Removes the folders of a tree that are empty, in parallel, those deepest down first: a disk may
/// take milliseconds for each.
fn remove_folders(permit: &Permit, root: &Folder, tree: &Tree<'_>) -> Result<(), StepError> {
    let mut by_depth: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    for node in tree.folders.iter().filter(|node| !node.path.is_empty()) {
        let depth = node.path.iter().filter(|byte| **byte == b'/').count();
        by_depth.entry(depth).or_default().push(node.path);
    }
    for paths in by_depth.into_values().rev() {
        crew::share(permit, &paths, |rest| {
            for path in rest {
                let (parent, name) = split(path);
                // Whatever stays for whatever reason is removed, or complained about, one by one.
                if let Ok(parent) = root.descend(parent) {
                    let _ = parent.rmdir(name);
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Removes the folder at `path` and those around it that are empty then.
fn remove_empty(root: &Folder, path: &[u8]) -> Result<(), HostError> {
    let mut path = path;
    while !path.is_empty() {
        let (parent, name) = split(path);
        let Ok(folder) = root.descend(parent) else { return Ok(()) };
        if folder.look(name)?.is_some_and(|it| it.file_type() != FileType::Directory)
            || !folder.rmdir(name)?
        {
            return Ok(());
        }
        path = parent;
    }
    Ok(())
}

/// Removes what an earlier, unfinished making or removal of a release left.
fn remove_unfinished(site: &Site, release: ReleaseNumber) -> Result<(), StepError> {
    for (name, _) in site.releases.names()? {
        let of = match Name::parse(&name) {
            Some(Name::New(of, _) | Name::Gone(of, _) | Name::Mend(of, _)) => of,
            _ => continue,
        };
        if of == release {
            site.releases.remove_all(&name)?;
        }
    }
    Ok(())
}

/// Tells whether all that happened to a file is that it lost a name.
fn only_unlinked(before: &Meta, after: &Meta) -> bool {
    Meta { links: before.links, changed: before.changed, ..*after } == *before
}

#[cfg(test)]
mod tests {
    use eeveon_core::{Fence, ProjectName};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::target::Owner;

    #[test]
    fn retired_releases_are_none() {
        let place = tempfile::TempDir::new().unwrap();
        let owner = Owner::new("home-1".into(), ProjectName::new("shop").unwrap());
        let permit = Permit::new(Fence(3), CancellationToken::new());
        let site = Site::adopt(place.path(), &owner, &permit).unwrap();
        for name in ["1", "2", "3", "failed-3", "failed-4", ".gone-2-3", ".new-5-3", "mine"] {
            site.releases.make(name.as_bytes(), 0o755).unwrap().create(b"file", 0o644).unwrap();
        }
        for (release, status) in [
            (1, Status::Sealed),
            (2, Status::Shipped),
            (3, Status::Sealed),
            (3, Status::Failed),
            (4, Status::Failed),
        ] {
            site.manifests.put(ReleaseNumber(release), status, b"").unwrap();
        }
        retire_all(&site, &permit).unwrap();
        let names =
            site.releases.names().unwrap().into_iter().map(|(name, _)| String::from_utf8(name).unwrap());
        assert_eq!(
            names.collect::<Vec<_>>(),
            [".gone-1-3", ".gone-2-3", ".gone-3-3", ".gone-4-3", ".new-5-3", "mine"]
        );
        assert_eq!(site.manifests.0.names().unwrap(), []);
    }
}
