//! Whose a project's path is, who may change it, and who changes it right now: `.eeveon/`.
//!
//! - `target.json` names the home and the project the path belongs to.
//! - `fence` holds the highest fence seen, twice: each slot is 64 bytes with a checksum, and the one
//!   that does not hold the highest is written next. It never grows, so a full disk, on which a
//!   rollback must work, is no obstacle.
//! - `lock` is locked with flock(2) around every change others could see, and names who holds it.

use std::{
    fs::{DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use eeveon_core::{Fence, Permit, ProjectName, StepError};
use rustix::{
    fs::{Access, AtFlags, CWD, FileType, accessat},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use crate::{
    HostError,
    disk::{Folder, TEMPORARY},
    error::Place,
    hash,
    layout::{CURRENT, OWN, RELEASES, SHARED},
    manifest::{MANIFESTS, Manifests},
};

/// The format of `target.json` this version writes, and the only one it reads.
const FORMAT: u32 = 1;
pub(crate) const MARKER: &[u8] = b"target.json";
pub(crate) const LOCK: &[u8] = b"lock";
pub(crate) const FENCE: &[u8] = b"fence";
const SLOT: usize = 64;
/// How long to wait for another process's change, which takes milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Whom a path belongs to.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Owner {
    format: u32,
    home: String,
    project: ProjectName,
}

impl Owner {
    pub(crate) fn new(home: String, project: ProjectName) -> Self {
        Self { format: FORMAT, home, project }
    }
}

/// The format of a marker, whatever else it says.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

/// A project's path that is ours.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) root: Folder,
    pub(crate) releases: Folder,
    pub(crate) own: Folder,
    pub(crate) manifests: Manifests,
}

impl Site {
    /// Opens the site; `None` when the path could become ours but is not yet.
    ///
    /// # Errors
    ///
    /// `host/not-ours`, `host/other-home` and others when it never can.
    pub(crate) fn find(path: &Path, owner: &Owner) -> Result<Option<Self>, HostError> {
        let Some(root) = open_root(path)? else { return Ok(None) };
        match is_ours(&root, owner)? {
            true => Self::open(root).map(Some),
            false => Ok(None),
        }
    }

    /// Opens the site, making the path ours first if need be.
    pub(crate) fn adopt(path: &Path, owner: &Owner, permit: &Permit) -> Result<Self, StepError> {
        if let Some(site) = Self::find(path, owner)? {
            return Ok(site);
        }
        let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
        made.map_err(|source| HostError::NotWritable { path: Place::new(path), source })?;
        let root = open_root(path)?.ok_or_else(|| HostError::NotWritable {
            path: Place::new(path),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let own = root.make(OWN, 0o700)?;
        let lock = Lock::take(&own, permit, PATIENCE)?;
        // Another process may have been quicker.
        if !is_ours(&root, owner)? {
            root.make(RELEASES, 0o755)?;
            own.make(MANIFESTS, 0o700)?;
            own.replace(FENCE, &[slot(Fence(0)), slot(Fence(0))].concat(), true)?;
            let marker =
                serde_json::to_vec_pretty(owner).map_err(|error| own.fault("write", MARKER, error))?;
            own.replace(MARKER, &marker, true)?;
            root.sync()?;
        }
        drop(lock);
        Ok(Self::open(root)?)
    }

    fn open(root: Folder) -> Result<Self, HostError> {
        let own = root.make(OWN, 0o700)?;
        let manifests = Manifests(own.make(MANIFESTS, 0o700)?);
        Ok(Self { releases: root.make(RELEASES, 0o755)?, own, manifests, root })
    }

    /// Makes a change others can see: alone, and only as the newest holder of the project's lease.
    pub(crate) fn change<T>(
        &self,
        permit: &Permit,
        change: impl FnOnce() -> Result<T, HostError>,
    ) -> Result<T, StepError> {
        let _lock = Lock::take(&self.own, permit, PATIENCE)?;
        self.admit(permit.fence)?;
        Ok(change()?)
    }

    /// Refuses a fence lower than one seen; remembers a higher one. Only under the lock.
    fn admit(&self, ours: Fence) -> Result<(), HostError> {
        let fault = |error: io::Error| self.own.fault("write", FENCE, error);
        let (first, seen) = read_fence(&self.own)?;
        if seen > ours {
            return Err(HostError::Fenced { seen, ours });
        }
        if seen < ours {
            let at = if first == Some(seen) { SLOT } else { 0 };
            let file = self.own.open_or_make(FENCE)?;
            // Not flushed: a power cut leaves nobody whom it could keep out.
            file.write_all_at(&slot(ours), at as u64).map_err(fault)?;
        }
        Ok(())
    }

    /// Looks for what someone else put where releases belong.
    pub(crate) fn refuse_foreign(&self) -> Result<(), HostError> {
        match self.root.look(CURRENT)? {
            Some(meta) if meta.file_type() != FileType::Symlink => Err(HostError::NotOurs {
                path: Place::new(self.root.path()),
                found: "`current` is not a link".into(),
            }),
            _ => Ok(()),
        }
    }
}

/// Returns the highest fence seen at `path`; `None` when it could become ours but is not yet. Takes no
/// lock: whoever writes the file leaves one half of it whole.
///
/// # Errors
///
/// As [`Site::find`], and `host/damaged`.
pub(crate) fn seen(path: &Path, owner: &Owner) -> Result<Option<Fence>, HostError> {
    let Some(root) = open_root(path)? else { return Ok(None) };
    if !is_ours(&root, owner)? {
        return Ok(None);
    }
    let own = root.enter(OWN).map_err(|error| root.fault("read", OWN, error))?;
    Ok(Some(read_fence(&own)?.1))
}

/// Returns what the first half of the file `fence` says, and the highest fence seen.
fn read_fence(own: &Folder) -> Result<(Option<Fence>, Fence), HostError> {
    let bytes = own.read(FENCE)?.filter(|bytes| bytes.len() == 2 * SLOT).unwrap_or_default();
    let (first, second) = bytes.split_at_checked(SLOT).unwrap_or_default();
    let (first, second) = (parse_slot(first), parse_slot(second));
    match first.max(second) {
        Some(seen) => Ok((first, seen)),
        None => Err(damaged(own, FENCE, "neither half of it has the right checksum")),
    }
}

pub(crate) fn open_root(path: &Path) -> Result<Option<Folder>, HostError> {
    match Folder::open(path) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::NOENT) => Ok(None),
        Err(Errno::NOTDIR) => {
            Err(HostError::NotOurs { path: Place::new(path), found: "it is not a folder".into() })
        }
        Err(Errno::ACCESS) => {
            Err(HostError::NotWritable { path: Place::new(path), source: Errno::ACCESS.into() })
        }
        Err(error) => Err(HostError::Io { doing: "open", path: Place::new(path), source: error.into() }),
    }
}

/// Tells whether the path is ours already.
///
/// # Errors
///
/// When it cannot become ours either.
fn is_ours(root: &Folder, owner: &Owner) -> Result<bool, HostError> {
    let path = || Place::new(root.path());
    let own = match root.enter(OWN) {
        Ok(own) => Some(own),
        Err(Errno::NOENT) => None,
        Err(Errno::ACCESS) => {
            return Err(HostError::NotWritable { path: path(), source: Errno::ACCESS.into() });
        }
        Err(_) => {
            return Err(HostError::NotOurs { path: path(), found: "`.eeveon` is not a folder".into() });
        }
    };
    let marker = own.as_ref().map(|own| own.read(MARKER)).transpose()?.flatten();
    let (Some(own), Some(marker)) = (&own, marker) else {
        let Some(found) = foreign(root, own.as_ref())? else { return Ok(false) };
        // What looks like somebody else's may be what another process of ours made in this moment.
        let is_marked = root.enter(OWN).is_ok_and(|own| own.read(MARKER).is_ok_and(|it| it.is_some()));
        return if is_marked {
            is_ours(root, owner)
        } else {
            Err(HostError::NotOurs { path: path(), found })
        };
    };
    let version: Version =
        serde_json::from_slice(&marker).map_err(|_| damaged(own, MARKER, "it is not what we write"))?;
    if version.format != FORMAT {
        return Err(HostError::NewerFormat { path: Place::new(&own.at(MARKER)), found: version.format });
    }
    let found: Owner =
        serde_json::from_slice(&marker).map_err(|_| damaged(own, MARKER, "it is not what we write"))?;
    if found.home != owner.home {
        return Err(HostError::OtherHome {
            path: path(),
            home: Place::of_bytes(found.home.as_bytes()).to_string(),
        });
    }
    if found.project != owner.project {
        let found = format!("project `{}` is deployed there", found.project);
        return Err(HostError::NotOurs { path: path(), found });
    }
    Ok(true)
}

fn damaged(own: &Folder, name: &[u8], how: &'static str) -> HostError {
    HostError::Damaged { path: Place::new(&own.at(name)), how }
}

/// Names what keeps a path without a marker from becoming ours. Only what an operator prepares
/// before the first deploy, and what a first deploy that died left, may be there.
fn foreign(root: &Folder, own: Option<&Folder>) -> Result<Option<String>, HostError> {
    let show = |name: &[u8]| Some(format!("`{}`", Place::of_bytes(name)));
    for (name, _) in root.names()? {
        match name.as_slice() {
            SHARED | b"lost+found" | OWN => {}
            RELEASES => match root.enter(RELEASES) {
                Ok(releases) if releases.names()?.is_empty() => {}
                _ => return Ok(show(RELEASES)),
            },
            other => return Ok(show(other)),
        }
    }
    for (name, _) in own.map(Folder::names).transpose()?.unwrap_or_default() {
        let ours = [LOCK, FENCE, MANIFESTS].contains(&name.as_slice())
            || [FENCE, MARKER].iter().any(|it| name == [it, TEMPORARY].concat());
        if !ours {
            return Ok(show(&[OWN, b"/", &name].concat()));
        }
    }
    Ok(None)
}

/// Refuses a path this user could not write to, as far as can be told without writing.
pub(crate) fn refuse_unwritable(path: &Path) -> Result<(), HostError> {
    let there = path.ancestors().find(|it| it.symlink_metadata().is_ok()).unwrap_or(path);
    accessat(CWD, there, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
        .map_err(|error| HostError::NotWritable { path: Place::new(there), source: error.into() })
}

/// One half of the file `fence`.
fn slot(fence: Fence) -> [u8; SLOT] {
    let text = format!("eeveon-fence 1 {:020} ", fence.0);
    let sum: String =
        hash::checksum(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let mut slot = [b' '; SLOT];
    for (to, from) in slot.iter_mut().zip(text.bytes().chain(sum.bytes())) {
        *to = from;
    }
    if let Some(end) = slot.last_mut() {
        *end = b'\n';
    }
    slot
}

fn parse_slot(bytes: &[u8]) -> Option<Fence> {
    let text = std::str::from_utf8(bytes).ok()?;
    let fence = Fence(text.strip_prefix("eeveon-fence 1 ")?.split_once(' ')?.0.parse().ok()?);
    (slot(fence) == bytes).then_some(fence)
}

/// The right to change the target; given back when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock.
    pub(crate) fn take(own: &Folder, permit: &Permit, patience: Duration) -> Result<Self, StepError> {
        let fault = |error: io::Error| own.fault("lock", LOCK, error);
        let until = Instant::now() + patience;
        loop {
            permit.check()?;
            let file = own.open_or_make(LOCK)?;
            match file.try_lock() {
                Ok(()) => {
                    // Whoever held it before may have removed the whole target.
                    let meta = rustix::fs::fstat(&file).map_err(|error| fault(error.into()))?;
                    if meta.st_nlink == 0 {
                        return Err(fault(io::ErrorKind::NotFound.into()).into());
                    }
                    let holder = format!("{:<15}\n", std::process::id());
                    file.write_all_at(holder.as_bytes(), 0).map_err(fault)?;
                    return Ok(Self { _file: file });
                }
                Err(TryLockError::Error(error)) => return Err(fault(error).into()),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(TryLockError::WouldBlock) => {
                    let text = own.read(LOCK)?.unwrap_or_default();
                    let holder = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
                    return Err(HostError::Locked { path: Place::new(&own.at(LOCK)), holder }.into());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_stays_readable() {
        let owner = Owner::new("home-1".into(), ProjectName::new("shop").unwrap());
        // Written by format 1; never regenerate it, add a file for a new format.
        let golden = include_bytes!("../tests/golden/target-1.json");
        assert_eq!(serde_json::to_vec_pretty(&owner).unwrap(), golden);
        assert_eq!(serde_json::from_slice::<Owner>(golden).unwrap(), owner);
    }

    #[test]
    fn the_fence_file_stays_readable() {
        let golden = include_bytes!("../tests/golden/fence-1");
        assert_eq!([slot(Fence(6)), slot(Fence(7))].concat(), golden);
        assert_eq!(parse_slot(&golden[..SLOT]), Some(Fence(6)));
    }

    #[test]
    fn whoever_waits_in_vain_learns_for_whom() {
        let folder = tempfile::TempDir::new().unwrap();
        let own = Folder::open(folder.path()).unwrap();
        let permit = Permit::new(Fence(1), tokio_util::sync::CancellationToken::new());
        let held = Lock::take(&own, &permit, PATIENCE).unwrap();
        let error = Lock::take(&own, &permit, Duration::ZERO).unwrap_err();
        assert_eq!(error.diagnosis().code(), "host/locked");
        assert!(error.to_string().ends_with(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        Lock::take(&own, &permit, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_torn_slot_is_not_believed() {
        for at in 0..SLOT {
            let mut bytes = slot(Fence(7));
            bytes[at] ^= 1;
            assert_eq!(parse_slot(&bytes), None, "byte {at}");
        }
    }
}
