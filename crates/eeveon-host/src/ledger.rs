//! What we know about the content of files without reading them: the file `.eeveon/ledger`.
//!
//! A file whose change time (`st_ctime`) is still the one it had when its content was known has
//! that content: everything that alters a file, a restored modification time included, moves the
//! change time, and nobody can set it. Linking and unlinking move it too, so whenever we do that,
//! the new time is entered. The ledger is a cache: without it everything is read again, once.
//!
//! Where change times are coarse (before Linux 6.13: 1 to 10 ms, see
//! <https://docs.kernel.org/filesystems/multigrain-ts.html>), two changes can bear the same time.
//! There an entry whose time is too close to when the ledger was written is not believed.
//!
//! Format: `eeveon-ledger 1\n`, the time up to which entries are believed (8 bytes, nanoseconds),
//! then per file: inode, size, modified, changed (8 bytes each), mode (4), length of the content id
//! (1), content id padded to 32, three zero bytes; then a SHA-1 over all before. Little-endian.

use std::{
    collections::HashMap,
    os::unix::fs::PermissionsExt,
    time::{SystemTime, UNIX_EPOCH},
};

use eeveon_core::ContentId;
use rustix::fs::FileType;

use crate::{
    HostError,
    disk::{Folder, Meta},
    hash,
};

const FILE: &[u8] = b"ledger";
const MAGIC: &[u8] = b"eeveon-ledger 1\n";
const ENTRY: usize = 72;
/// Twice the coarsest tick of a kernel, in nanoseconds.
const TICK: i64 = 20_000_000;

/// A file as it was when its content was known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Known {
    pub(crate) inode: u64,
    size: u64,
    modified: i64,
    changed: i64,
    mode: u32,
    id: ContentId,
}

impl Known {
    pub(crate) fn new(meta: &Meta, id: ContentId) -> Self {
        let Meta { inode, size, modified, changed, mode, .. } = *meta;
        Self { inode, size, modified, changed, mode, id }
    }
}

/// Files with known content, by inode. All are on the target's file system.
#[derive(Debug)]
pub(crate) struct Ledger {
    known: HashMap<u64, Known>,
    /// Entries that changed at this time or later are not believed.
    settled: i64,
}

impl Ledger {
    /// Reads the ledger; whatever is wrong with it, an empty one is as good.
    pub(crate) fn load(own: &Folder) -> Self {
        let read = own.read(FILE).unwrap_or_else(|error| {
            tracing::debug!(%error, "the ledger cannot be read; files are hashed instead");
            None
        });
        read.and_then(|bytes| Self::parse(&bytes))
            .unwrap_or(Self { known: HashMap::new(), settled: i64::MIN })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (settled, entries) = hash::checked(bytes)?.strip_prefix(MAGIC)?.split_first_chunk()?;
        let (entries, []) = entries.as_chunks::<ENTRY>() else { return None };
        let known = entries.iter().map(|entry| {
            let known = parse_entry(entry)?;
            Some((known.inode, known))
        });
        Some(Self { known: known.collect::<Option<_>>()?, settled: i64::from_le_bytes(*settled) })
    }

    fn compose(&self, settled: i64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.known.len().saturating_mul(ENTRY).saturating_add(64));
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&settled.to_le_bytes());
        for known in self.known.values() {
            let id = known.id.as_bytes();
            let mut padded = [0; 32];
            for (to, from) in padded.iter_mut().zip(id) {
                *to = *from;
            }
            out.extend_from_slice(&known.inode.to_le_bytes());
            out.extend_from_slice(&known.size.to_le_bytes());
            out.extend_from_slice(&known.modified.to_le_bytes());
            out.extend_from_slice(&known.changed.to_le_bytes());
            out.extend_from_slice(&known.mode.to_le_bytes());
            out.push(id.len() as u8);
            out.extend_from_slice(&padded);
            out.extend_from_slice(&[0; 3]);
        }
        let sum = hash::checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// Writes the ledger. `fine` says whether change times tell any two changes apart. Failing to
    /// write it costs time later, nothing else.
    pub(crate) fn save(&self, own: &Folder, fine: bool) {
        let settled = match fine {
            true => i64::MAX,
            false => now().saturating_sub(TICK),
        };
        if let Err(error) = own.replace(FILE, &self.compose(settled), false) {
            tracing::debug!(%error, "the ledger cannot be written; files will be hashed instead");
        }
    }

    /// Returns the content of a file that looks like `meta`, if it is known.
    pub(crate) fn content(&self, meta: &Meta) -> Option<ContentId> {
        let known = self.known.get(&meta.inode)?;
        (*known == Known::new(meta, known.id) && known.changed < self.settled).then_some(known.id)
    }

    /// Enters what was learned. It is believed from the next time the ledger is loaded.
    pub(crate) fn learn(&mut self, known: impl IntoIterator<Item = Known>) {
        self.known.extend(known.into_iter().map(|known| (known.inode, known)));
    }

    /// Strikes out files that are no more.
    pub(crate) fn forget(&mut self, inodes: impl IntoIterator<Item = u64>) {
        for inode in inodes {
            self.known.remove(&inode);
        }
    }
}

fn parse_entry(entry: &[u8; ENTRY]) -> Option<Known> {
    let (inode, rest) = entry.split_first_chunk()?;
    let (size, rest) = rest.split_first_chunk()?;
    let (modified, rest) = rest.split_first_chunk()?;
    let (changed, rest) = rest.split_first_chunk()?;
    let (mode, rest) = rest.split_first_chunk()?;
    let (&[len], rest) = rest.split_first_chunk()?;
    Some(Known {
        inode: u64::from_le_bytes(*inode),
        size: u64::from_le_bytes(*size),
        modified: i64::from_le_bytes(*modified),
        changed: i64::from_le_bytes(*changed),
        mode: u32::from_le_bytes(*mode),
        id: ContentId::from_bytes(rest.get(..len.into())?)?,
    })
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Finds out whether change times on this file system tell any two changes apart, as long as each
/// was looked at. Makes a file in `own` for it.
pub(crate) fn has_fine_times(own: &Folder) -> Result<bool, HostError> {
    const PROBE: &[u8] = b"probe.new";
    let fault = |error: std::io::Error| own.fault("write", PROBE, error);
    own.unlink(PROBE)?;
    let file = own.create(PROBE, 0o600).map_err(|error| fault(error.into()))?;
    // Sixteen changes take some microseconds; a coarse clock gives most of them the same time.
    let mut times = Vec::new();
    for turn in 0..16 {
        file.set_permissions(PermissionsExt::from_mode(0o600 + turn % 2)).map_err(fault)?;
        times.extend(own.look(PROBE)?.map(|meta| meta.changed));
    }
    own.unlink(PROBE)?;
    Ok(times.is_sorted_by(|a, b| a < b))
}

/// Finds out the content of the file `name`, which looks like `meta`: from the ledger, or by
/// reading it. `None` when it is no plain file or was changed meanwhile.
pub(crate) fn content_of(
    folder: &Folder,
    name: &[u8],
    meta: &Meta,
    ledger: &Ledger,
    buffer: &mut Vec<u8>,
) -> Result<Option<ContentId>, HostError> {
    match ledger.content(meta) {
        Some(id) => Ok(Some(id)),
        None => read_content(folder, name, meta, buffer),
    }
}

/// Finds out the content of the file `name`, which looks like `meta`, by reading it. `None` when it
/// is no plain file or was changed meanwhile.
pub(crate) fn read_content(
    folder: &Folder,
    name: &[u8],
    meta: &Meta,
    buffer: &mut Vec<u8>,
) -> Result<Option<ContentId>, HostError> {
    let fault = |error: std::io::Error| folder.fault("read", name, error);
    if meta.file_type() != FileType::RegularFile {
        return Ok(None);
    }
    let file = folder.open_file(name).map_err(|error| fault(error.into()))?;
    let id = hash::of_file(&file, meta.size, buffer).map_err(fault)?;
    let after = rustix::fs::fstat(&file).map(Meta::from).map_err(|error| fault(error.into()))?;
    Ok(id.filter(|_| after == *meta))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta { inode: 5, mode: 0o100_644, links: 2, owner: 0, size: 3, modified: 10, changed: 20 }
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger { known: HashMap::new(), settled: i64::MAX };
        ledger.learn([Known::new(&meta(), ContentId::from_bytes(&[9; 20]).unwrap())]);
        ledger
    }

    #[test]
    fn the_format_stays() {
        // Written by format 1; never regenerate it, add a file for a new format.
        let golden = include_bytes!("../tests/golden/ledger-1");
        assert_eq!(ledger().compose(i64::MAX), golden);
        assert_eq!(Ledger::parse(golden).unwrap().content(&meta()), ledger().content(&meta()));
    }

    #[test]
    fn any_difference_is_a_doubt() {
        let ledger = ledger();
        assert!(ledger.content(&meta()).is_some());
        assert!(
            ledger.content(&Meta { links: 9, ..meta() }).is_some(),
            "links are counted in the change time"
        );
        for other in [
            Meta { inode: 6, ..meta() },
            Meta { mode: 0o100_755, ..meta() },
            Meta { size: 4, ..meta() },
            Meta { modified: 11, ..meta() },
            Meta { changed: 21, ..meta() },
        ] {
            assert_eq!(ledger.content(&other), None, "{other:?}");
        }
    }

    #[test]
    fn entries_too_close_to_the_writing_are_not_believed() {
        let coarse = Ledger { settled: meta().changed, ..ledger() };
        assert_eq!(coarse.content(&meta()), None);
    }

    #[test]
    fn damage_empties_the_ledger() {
        let whole = ledger().compose(i64::MAX);
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(Ledger::parse(&bytes).is_none(), "byte {at}");
            assert!(Ledger::parse(&whole[..at]).is_none(), "the first {at} bytes");
        }
    }
}
