//! What a release consists of: a list of files, and the bytes behind each. Whoever knows the source
//! (git) implements it; whoever places releases (a host) asks it; neither knows the other.

use std::{fmt, str::FromStr};

use tokio_util::sync::CancellationToken;

use crate::{InvalidName, Release, StepError};

/// The id of a file's content: git's object id of the blob, SHA-1 (20 bytes) or SHA-256 (32).
///
/// Source: <https://git-scm.com/docs/gitformat-loose>; the id is the hash of `"blob SIZE\0"`
/// followed by the content.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ContentId {
    len: u8,
    bytes: [u8; 32],
}

impl ContentId {
    /// Wraps a raw digest of 20 or 32 bytes; `None` for any other length.
    pub fn from_bytes(digest: &[u8]) -> Option<Self> {
        let len = u8::try_from(digest.len()).ok().filter(|len| matches!(len, 20 | 32))?;
        let mut bytes = [0; 32];
        bytes.get_mut(..digest.len())?.copy_from_slice(digest);
        Some(Self { len, bytes })
    }

    /// Returns the raw digest.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&self.bytes)
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName {
            what: "content id",
            given: text.chars().take(80).flat_map(char::escape_default).collect(),
            rule: "40 or 64 hexadecimal digits",
        };
        let digit = |c: u8| (c as char).to_digit(16);
        let mut digest = Vec::with_capacity(32);
        for pair in text.as_bytes().chunks(2) {
            match pair {
                [high, low] => match (digit(*high), digit(*low)) {
                    (Some(high), Some(low)) => digest.push((high * 16 + low) as u8),
                    _ => return Err(invalid()),
                },
                _ => return Err(invalid()),
            }
        }
        Self::from_bytes(&digest).ok_or_else(invalid)
    }
}

/// What a path in a release is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum FileKind {
    /// A file, mode 0644.
    Regular,
    /// A file, mode 0755.
    Executable,
    /// A symbolic link; its content is the path it points to. Never one that leaves the release.
    Symlink,
    /// An empty folder. Folders with something in them are not listed.
    Folder,
}

/// One path of a release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileEntry {
    /// Relative to the release, parts divided by `/`. Not necessarily UTF-8; never absolute, never
    /// with an empty, `.`, `..` or `.git` part.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Its content. Meaningless for a folder.
    pub id: ContentId,
}

/// Knows what releases consist of. Calls block: make them off the async threads.
pub trait Contents: fmt::Debug + Send + Sync {
    /// Lists every path of `release`, sorted by path bytes, each once, no path below a file or link.
    ///
    /// # Errors
    ///
    /// The source cannot be read, holds something that must not be placed, or `cancel` fired.
    fn list(&self, release: &Release, cancel: &CancellationToken) -> Result<Vec<FileEntry>, StepError>;

    /// Opens a reader for the contents of `release`; each thread opens its own.
    ///
    /// # Errors
    ///
    /// The source cannot be opened.
    fn reader(&self, release: &Release) -> Result<Box<dyn ContentReader + '_>, StepError>;
}

/// Reads contents, one at a time.
pub trait ContentReader {
    /// Replaces `out` with the content of `id`.
    ///
    /// # Errors
    ///
    /// The content is missing or corrupt.
    fn read(&mut self, id: &ContentId, out: &mut Vec<u8>) -> Result<(), StepError>;

    /// Returns the size of `id` in bytes, without reading all of it where that is possible.
    ///
    /// # Errors
    ///
    /// The content is missing or corrupt.
    fn size(&mut self, id: &ContentId) -> Result<u64, StepError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_their_text() {
        let id: ContentId = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".parse().unwrap();
        assert_eq!(id.to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(id.as_bytes().len(), 20);
        for bad in ["", "e6", "zz9de29bb2d1d6434b8b29ae775ad8c2e48c5391", "e69"] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
    }
}
