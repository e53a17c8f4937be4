//! Making an older release what it was when it was sealed: [`Inner::restore`].
//!
//! A file is never put right in place, because another release may have it in common: a new one is
//! made beside it and takes over its name.

use eeveon_core::{Permit, Placed, Release, StepError};
use rustix::{fs::FileType, io::Errno};

use crate::{
    HostError,
    disk::{Folder, split},
    host::Inner,
    layout::{Name, REVISION, shared_link},
    ledger::{Known, Ledger},
    manifest::{Manifest, Origin, Record, mode_of},
    place::{Source, is_plain, write_file},
    target::Site,
    verify::{Change, Difference, Sealed, verify},
};

/// How often to look again after mending: a folder nobody could enter hides what is in it.
const ROUNDS: usize = 4;

impl Inner {
    /// See [`eeveon_core::Deployer::restore`].
    pub(crate) fn restore(&self, permit: &Permit, release: &Release) -> Result<Placed, StepError> {
        let site = self.site_of(release.number)?;
        site.change(permit, || Ok(()))?;
        let sealed = self.sealed(&site, release.number)?;
        let mut ledger = Ledger::load(&site.own);
        let mut source = Source::new(&*self.contents, release);
        let (mut mended, mut left, mut learned) = (0_u64, 0, false);
        for round in 1.. {
            let findings = verify(permit, &sealed, &ledger)?;
            learned |= !findings.known.is_empty();
            ledger.learn(findings.known);
            let (extra, wrong): (Vec<_>, Vec<_>) =
                findings.differences.into_iter().partition(|it| it.how == Change::Extra);
            if wrong.is_empty() {
                left = extra.len() as u64;
                if !extra.is_empty() {
                    // A cache a running program keeps beside its files, most likely.
                    tracing::info!(release = %release.number, count = extra.len(), "paths that are not part of the release are left alone");
                }
                break;
            }
            let lost: Vec<&Difference> = wrong.iter().filter(|it| !can_mend(&sealed, it)).collect();
            if !lost.is_empty() || round > ROUNDS {
                let shown = if lost.is_empty() { wrong.iter().collect() } else { lost };
                let paths = shown.iter().take(10).map(|it| it.to_string()).collect();
                return Err(HostError::ReleaseAltered { release: release.number, paths }.into());
            }
            tracing::warn!(release = %release.number, count = wrong.len(), "the release was changed after it was sealed; mending it");
            let mut mender = Mender { site: &site, sealed: &sealed, permit, release, source: &mut source };
            for difference in &wrong {
                permit.check()?;
                ledger.learn(mender.mend(difference)?);
                mended = mended.saturating_add(1);
            }
        }
        if mended > 0 {
            site.releases.sync_file_system()?;
        }
        if mended > 0 || learned {
            ledger.save(&site.own, self.fine_times(&site.own));
        }
        Ok(Placed { written: mended, extra: left, ..self.placed(&sealed.manifest.header) })
    }
}

/// Tells whether what a difference takes can be had.
fn can_mend(sealed: &Sealed, difference: &Difference) -> bool {
    match sealed.manifest.find(&difference.path) {
        Some(record) if record.is_folder() => true,
        Some(record) if record.origin != Origin::Built => true,
        // Its content is right; nothing but its permissions has to be put back.
        Some(record) => {
            difference.how == Change::Mode && is_plain(record) && !is_shared(sealed, &difference.path)
        }
        // A folder with something in it.
        None => true,
    }
}

fn is_shared(sealed: &Sealed, path: &[u8]) -> bool {
    let (folder, name) = split(path);
    let meta = sealed.folder.descend(folder).and_then(|it| it.stat(name));
    !meta.is_ok_and(|meta| meta.is_some_and(|meta| meta.links == 1))
}

struct Mender<'a, 'b> {
    site: &'a Site,
    sealed: &'a Sealed,
    permit: &'a Permit,
    release: &'a Release,
    source: &'a mut Source<'b>,
}

impl Mender<'_, '_> {
    fn mend(&mut self, difference: &Difference) -> Result<Option<Known>, StepError> {
        let Sealed { folder: root, manifest } = self.sealed;
        let path = difference.path.as_slice();
        let (_, name) = split(path);
        match manifest.find(path) {
            Some(record) if !record.is_folder() => {
                let folder = make_way(root, manifest, split(path).0)?;
                if record.origin == Origin::Built {
                    let file = folder.open_file(name).map_err(|error| folder.fault("open", name, error))?;
                    rustix::fs::fchmod(&file, rustix::fs::Mode::from_raw_mode(record.permissions()))
                        .map_err(|error| folder.fault("change the permissions of", name, error))?;
                    return Ok(None);
                }
                self.renew(&folder, record, path, name)
            }
            _ => {
                make_way(root, manifest, path)?;
                Ok(None)
            }
        }
    }

    /// Makes the file or link anew and puts it in place.
    fn renew(
        &mut self,
        to: &Folder,
        record: &Record,
        path: &[u8],
        name: &[u8],
    ) -> Result<Option<Known>, StepError> {
        let mut content = Vec::new();
        match record.origin {
            Origin::Own if path == REVISION => {
                content.extend_from_slice(format!("{}\n", self.sealed.manifest.header.commit).as_bytes());
            }
            Origin::Own => content = shared_link(path),
            _ => self.source.reader()?.read(&record.id, &mut content)?,
        }
        let releases = &self.site.releases;
        let new = Name::Mend(self.release.number, self.permit.fence).text();
        releases.remove_all(&new)?;
        if record.file_type() == FileType::Symlink {
            releases.symlink(&content, &new)?;
        } else {
            write_file(releases, &new, &content, record.permissions())?;
        }
        if to.look(name)?.is_some_and(|meta| meta.file_type() == FileType::Directory) {
            to.remove_all(name)?;
        }
        releases.rename(&new, to, name)?;
        let meta = to.look(name)?.filter(|meta| meta.file_type() == FileType::RegularFile);
        Ok(meta.map(|meta| Known::new(&meta, record.id)))
    }
}

/// Opens the folder at `path` in a release. Where a part of it is missing or something else, it is
/// made; where its permissions are wrong, they are put right.
fn make_way(root: &Folder, manifest: &Manifest, path: &[u8]) -> Result<Folder, HostError> {
    let usual = mode_of(eeveon_core::FileKind::Folder) & 0o7777;
    let mut at = root.again().map_err(|error| root.fault("open", b"", error))?;
    let mut so_far = Vec::with_capacity(path.len());
    if path.is_empty() && root.meta()?.permissions() != usual {
        rustix::fs::fchmod(root, rustix::fs::Mode::from_raw_mode(usual))
            .map_err(|error| root.fault("change the permissions of", b"", error))?;
    }
    for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
        if !so_far.is_empty() {
            so_far.push(b'/');
        }
        so_far.extend_from_slice(part);
        let mode = manifest.find(&so_far).map_or(usual, Record::permissions);
        let next = match at.enter(part) {
            Err(Errno::NOENT) => at.make(part, mode)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                at.unlink(part)?;
                at.make(part, mode)?
            }
            Err(Errno::ACCESS) => {
                at.allow(part, mode).map_err(|error| at.fault("open", part, error))?;
                at.enter(part).map_err(|error| at.fault("open", part, error))?
            }
            entered => {
                let entered = entered.map_err(|error| at.fault("open", part, error))?;
                at.allow(part, mode).map_err(|error| at.fault("open", part, error))?;
                entered
            }
        };
        at = next;
    }
    Ok(at)
}
