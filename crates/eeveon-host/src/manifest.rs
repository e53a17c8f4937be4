//! What a release consists of, on record: the file `.eeveon/manifests/<number>`.
//!
//! A text header of `word value` lines that ends with an empty line; then one record per path,
//! sorted by path bytes: mode (4 bytes, little-endian), size (8, little-endian), origin (1), length
//! of the content id (1), content id, path, a zero byte; then a SHA-1 over all before it.

use std::fmt::Write;

use eeveon_core::{CommitId, ContentId, FileKind, ReleaseNumber};
use rustix::{
    fs::{AtFlags, FileType, Timespec, Timestamps, UTIME_NOW, utimensat},
    io::Errno,
};

use crate::{
    HostError,
    disk::{Folder, TEMPORARY},
    error::Place,
    hash,
    layout::Name,
};

/// The format this version writes, and the only one it reads.
pub(crate) const FORMAT: u32 = 1;
/// The folder of all manifests, in ours.
pub(crate) const MANIFESTS: &[u8] = b"manifests";
/// The end of the name of a manifest whose release is not sealed yet.
const SHIPPED: &[u8] = b".shipped";

/// Where the content of a path can be had again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Origin {
    /// From the source.
    Source,
    /// We made it ourselves: `REVISION` and the links to what is shared.
    Own,
    /// Nowhere: a command made it.
    Built,
}

impl Origin {
    fn byte(self) -> u8 {
        match self {
            Self::Source => b's',
            Self::Own => b'o',
            Self::Built => b'b',
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Source, Self::Own, Self::Built].into_iter().find(|it| it.byte() == byte)
    }
}

/// What a manifest says about the release as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) release: ReleaseNumber,
    pub(crate) commit: CommitId,
    /// Names the time between two starts of the machine in which the release was made.
    pub(crate) boot: String,
    /// How many files and links.
    pub(crate) files: u64,
    /// Their sizes together, in bytes.
    pub(crate) bytes: u64,
    /// How many were made anew.
    pub(crate) written: u64,
}

/// What a manifest says about one path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Record {
    /// Type and permission bits, as in `st_mode`.
    pub(crate) mode: u32,
    /// In bytes; for a link the length of what it points to.
    pub(crate) size: u64,
    /// Meaningless for a folder.
    pub(crate) id: ContentId,
    pub(crate) origin: Origin,
    path: (usize, usize),
}

impl Record {
    pub(crate) fn new(mode: u32, size: u64, id: ContentId, origin: Origin) -> Self {
        Self { mode, size, id, origin, path: (0, 0) }
    }

    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// Returns the mode a path of this kind has in every release.
pub(crate) fn mode_of(kind: FileKind) -> u32 {
    match kind {
        FileKind::Regular => 0o100_644,
        FileKind::Executable => 0o100_755,
        FileKind::Symlink => 0o120_777,
        FileKind::Folder => 0o040_755,
    }
}

/// A manifest that was read and is whole.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) header: Header,
    records: Vec<Record>,
    bytes: Vec<u8>,
}

impl Manifest {
    pub(crate) fn records(&self) -> &[Record] {
        &self.records
    }

    pub(crate) fn path(&self, record: &Record) -> &[u8] {
        self.bytes.get(record.path.0..record.path.1).unwrap_or_default()
    }

    /// Finds a path.
    pub(crate) fn find(&self, path: &[u8]) -> Option<&Record> {
        let at = self.records.binary_search_by(|record| self.path(record).cmp(path)).ok()?;
        self.records.get(at)
    }

    /// Writes a manifest out. `records` must be sorted by path.
    pub(crate) fn compose<'a>(header: &Header, records: impl Iterator<Item = (&'a [u8], Record)>) -> Vec<u8> {
        let Header { release, commit, boot, files, bytes, written } = header;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "eeveon-manifest {FORMAT}\nrelease {release}\ncommit {commit}\nboot {boot}\n\
             files {files}\nbytes {bytes}\nwritten {written}\n\n"
        );
        let mut out = text.into_bytes();
        for (path, record) in records {
            let id = record.id.as_bytes();
            out.extend_from_slice(&record.mode.to_le_bytes());
            out.extend_from_slice(&record.size.to_le_bytes());
            out.extend([record.origin.byte(), id.len() as u8]);
            out.extend_from_slice(id);
            out.extend_from_slice(path);
            out.push(0);
        }
        let sum = hash::checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, or that its format is another.
    pub(crate) fn parse(bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let (header, _) = Header::parse(&bytes)?;
        let body = hash::checked(&bytes).ok_or(Unreadable::Damaged("its checksum does not match"))?;
        let (_, mut rest) = Header::parse(body)?;
        let mut records = Vec::with_capacity(rest.len() / 64);
        let mut at = body.len().saturating_sub(rest.len());
        let bad = Unreadable::Damaged("a record makes no sense");
        while !rest.is_empty() {
            let (record, path, after) = Record::parse(rest).ok_or(bad)?;
            let start =
                at.saturating_add(rest.len().saturating_sub(after.len())).saturating_sub(path.len() + 1);
            at = start.saturating_add(path.len() + 1);
            records.push(Record { path: (start, start.saturating_add(path.len())), ..record });
            rest = after;
        }
        let manifest = Self { header, records, bytes };
        let sorted = manifest.records.is_sorted_by(|a, b| manifest.path(a) < manifest.path(b));
        if sorted { Ok(manifest) } else { Err(bad) }
    }
}

impl Record {
    /// Takes one record off the front: the record, its path, what follows.
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8], &[u8])> {
        let (mode, rest) = bytes.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (&[origin, len], rest) = rest.split_first_chunk()?;
        let (id, rest) = rest.split_at_checked(len.into())?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (path, rest) = rest.split_at_checked(end)?;
        let origin = Origin::from_byte(origin)?;
        let id = ContentId::from_bytes(id)?;
        let record = Self::new(u32::from_le_bytes(*mode), u64::from_le_bytes(*size), id, origin);
        Some((record, path, rest.get(1..)?))
    }
}

impl Header {
    /// Takes the header off the front. It is not checked against damage.
    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Unreadable> {
        let bad = Unreadable::Damaged("its header makes no sense");
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or(bad)?;
        let (text, rest) = bytes.split_at_checked(end.saturating_add(2)).ok_or(bad)?;
        let text = std::str::from_utf8(text).map_err(|_| bad)?;
        let mut lines = text.lines();
        let mut value = |word: &str| lines.next()?.strip_prefix(word)?.strip_prefix(' ');
        match value("eeveon-manifest").and_then(|format| format.parse().ok()).ok_or(bad)? {
            FORMAT => {}
            found => return Err(Unreadable::Format(found)),
        }
        let mut header = || {
            Some(Self {
                release: ReleaseNumber(value("release")?.parse().ok()?),
                commit: value("commit")?.parse().ok()?,
                boot: value("boot")?.to_owned(),
                files: value("files")?.parse().ok()?,
                bytes: value("bytes")?.parse().ok()?,
                written: value("written")?.parse().ok()?,
            })
        };
        header().map(|header| (header, rest)).ok_or(bad)
    }
}

/// Why a manifest cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unreadable {
    Damaged(&'static str),
    Format(u32),
}

/// The manifests of one target, by release.
#[derive(Debug)]
pub(crate) struct Manifests(pub(crate) Folder);

/// How far the release of a manifest has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Status {
    /// It lies there and may still be worked on.
    Shipped,
    /// It is complete, and can serve.
    Sealed,
    /// It was set aside for inspection.
    Failed,
}

impl Status {
    fn file(self, release: ReleaseNumber) -> Vec<u8> {
        match self {
            Self::Shipped => [Name::Release(release).text().as_slice(), SHIPPED].concat(),
            Self::Sealed => Name::Release(release).text(),
            Self::Failed => Name::Failed(release).text(),
        }
    }
}

/// What is in the folder of manifests.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) known: Vec<(ReleaseNumber, Status)>,
    /// The names of files that were about to become a manifest.
    pub(crate) unfinished: Vec<Vec<u8>>,
}

impl Manifests {
    /// Reads a manifest; `None` when there is none.
    ///
    /// # Errors
    ///
    /// `host/damaged`, `host/newer-format`, `host/io`.
    pub(crate) fn read(&self, release: ReleaseNumber, status: Status) -> Result<Option<Manifest>, HostError> {
        let name = status.file(release);
        let Some(bytes) = self.0.read(&name)? else { return Ok(None) };
        let path = Place::new(&self.0.at(&name));
        match Manifest::parse(bytes) {
            Ok(manifest) if manifest.header.release == release => Ok(Some(manifest)),
            Ok(_) => Err(HostError::Damaged { path, how: "it describes another release" }),
            Err(Unreadable::Damaged(how)) => Err(HostError::Damaged { path, how }),
            Err(Unreadable::Format(found)) => Err(HostError::NewerFormat { path, found }),
        }
    }

    /// Tells whether there is a manifest, without reading it.
    pub(crate) fn exists(&self, release: ReleaseNumber, status: Status) -> Result<bool, HostError> {
        self.0.look(&status.file(release)).map(|it| it.is_some())
    }

    /// Returns the size of the release in bytes and when its manifest was written (nanoseconds since
    /// 1970), reading as little as it takes.
    pub(crate) fn glance(
        &self,
        release: ReleaseNumber,
        status: Status,
    ) -> Result<Option<(u64, i64)>, HostError> {
        use std::io::Read;
        let name = status.file(release);
        let (Ok(file), Some(meta)) = (self.0.open_file(&name), self.0.look(&name)?) else { return Ok(None) };
        let mut start = Vec::new();
        file.take(1024).read_to_end(&mut start).map_err(|error| self.0.fault("read", &name, error))?;
        // Only shown to people: a damaged header counts as nothing here, and is found when it is used.
        Ok(Some((Header::parse(&start).map_or(0, |(header, _)| header.bytes), meta.modified)))
    }

    /// Puts a manifest in place. It need not outlive a power cut yet: sealing sees to that.
    pub(crate) fn put(&self, release: ReleaseNumber, status: Status, bytes: &[u8]) -> Result<(), HostError> {
        self.0.replace(&status.file(release), bytes, false)
    }

    /// Turns a manifest of one status into one of another; it may have been done before.
    pub(crate) fn turn(&self, release: ReleaseNumber, from: Status, to: Status) -> Result<(), HostError> {
        match self.exists(release, from)? {
            true => self.0.rename(&from.file(release), &self.0, &to.file(release)),
            false => Ok(()),
        }
    }

    /// Notes that the status is of now.
    pub(crate) fn touch(&self, release: ReleaseNumber, status: Status) -> Result<(), HostError> {
        let name = status.file(release);
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        match utimensat(&self.0, name.as_slice(), &times, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.0.fault("write", &name, error)),
        }
    }

    pub(crate) fn remove(&self, release: ReleaseNumber, status: Status) -> Result<(), HostError> {
        self.0.unlink(&status.file(release))
    }

    /// Lists all manifests.
    pub(crate) fn list(&self) -> Result<Listed, HostError> {
        let Listed { mut known, mut unfinished } = Listed::default();
        for (name, _) in self.0.names()? {
            let shipped = name.strip_suffix(SHIPPED).and_then(Name::parse);
            match (shipped, Name::parse(&name)) {
                (Some(Name::Release(release)), _) => known.push((release, Status::Shipped)),
                (_, Some(Name::Release(release))) => known.push((release, Status::Sealed)),
                (_, Some(Name::Failed(release))) => known.push((release, Status::Failed)),
                _ if name.ends_with(TEMPORARY) => unfinished.push(name),
                _ => {}
            }
        }
        Ok(Listed { known, unfinished })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let id = |n: u8| ContentId::from_bytes(&[n; 20]).unwrap();
        let header = Header {
            release: ReleaseNumber(12),
            commit: CommitId::new("0123456789abcdef0123456789abcdef01234567").unwrap(),
            boot: "5b0dbf1c-28ac-4d5a-8e39-9d2a3cd1a1a4".into(),
            files: 4,
            bytes: 46,
            written: 1,
        };
        let records: [(&[u8], Record); 5] = [
            (b"REVISION", Record::new(0o100_644, 41, id(1), Origin::Own)),
            (b"bin/run", Record::new(0o100_755, 5, id(2), Origin::Source)),
            (b"empty", Record::new(0o040_755, 0, id(0), Origin::Source)),
            (b"link", Record::new(0o120_777, 0, ContentId::from_bytes(&[3; 32]).unwrap(), Origin::Source)),
            (b"name \xff\n", Record::new(0o100_600, u64::MAX, id(4), Origin::Built)),
        ];
        Manifest::compose(&header, records.into_iter())
    }

    #[test]
    fn the_format_stays() {
        // Written by format 1; never regenerate it, add a file for a new format.
        let golden = include_bytes!("../tests/golden/manifest-1");
        assert_eq!(sample(), golden);
        let manifest = Manifest::parse(golden.to_vec()).unwrap();
        assert_eq!(manifest.header.release, ReleaseNumber(12));
        assert_eq!(manifest.records().len(), 5);
        let odd = manifest.find(b"name \xff\n").unwrap();
        assert_eq!((odd.size, odd.origin, odd.permissions()), (u64::MAX, Origin::Built, 0o600));
        assert!(manifest.find(b"empty").unwrap().is_folder());
        assert_eq!(manifest.find(b"bin"), None);
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let whole = sample();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                assert!(Manifest::parse(bytes).is_err(), "bit {bit} of byte {at}");
            }
            assert!(Manifest::parse(whole[..at].to_vec()).is_err(), "the first {at} bytes");
        }
    }

    #[test]
    fn a_newer_format_is_named() {
        let mut bytes = sample();
        bytes["eeveon-manifest ".len()] = b'2';
        assert_eq!(Manifest::parse(bytes).unwrap_err(), Unreadable::Format(2));
    }
}
