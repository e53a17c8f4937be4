//! Content ids, computed the way git does.
//!
//! Source: <https://git-scm.com/docs/gitformat-loose>, "blob SIZE\0" followed by the content.

use std::{
    fs::File,
    io::{self, Read},
};

use eeveon_core::ContentId;
use gix_hash::{Kind, hasher};

/// The length of a checksum in bytes.
pub(crate) const CHECKSUM: usize = 20;

/// Returns the id of `content`; `None` for a content made to break SHA-1, which has none.
pub(crate) fn of_bytes(content: &[u8]) -> Option<ContentId> {
    let mut hash = hasher(Kind::Sha1);
    hash.update(format!("blob {}\0", content.len()).as_bytes());
    hash.update(content);
    ContentId::from_bytes(hash.try_finalize().ok()?.as_slice())
}

/// Returns the id of the content of `file`, which must have `size` bytes; `None` when it has not.
/// `buffer` is scratch space.
pub(crate) fn of_file(mut file: &File, size: u64, buffer: &mut Vec<u8>) -> io::Result<Option<ContentId>> {
    let mut hash = hasher(Kind::Sha1);
    hash.update(format!("blob {size}\0").as_bytes());
    buffer.resize(128 << 10, 0);
    let mut left = size;
    loop {
        let got = match file.read(buffer) {
            Ok(0) => break,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(buffer.get(..got).unwrap_or_default());
        match left.checked_sub(got as u64) {
            Some(rest) => left = rest,
            None => return Ok(None),
        }
    }
    if left > 0 {
        return Ok(None);
    }
    Ok(hash.try_finalize().ok().and_then(|id| ContentId::from_bytes(id.as_slice())))
}

/// Returns a checksum of a file of ours, which shows any damage.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let mut hash = hasher(Kind::Sha1);
    hash.update(bytes);
    // What looks made to break SHA-1 gets a checksum nothing has: it will not be believed.
    hash.try_finalize().ok().and_then(|id| id.as_slice().try_into().ok()).unwrap_or([0; CHECKSUM])
}

/// Splits off the checksum at the end; `None` when it does not fit the rest.
pub(crate) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let expected = checksum(body);
    (expected == sum && expected != [0; CHECKSUM]).then_some(body)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        // git hash-object -t blob /dev/null
        assert_eq!(of_bytes(b"").unwrap().to_string(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        // printf 'hello\n' | git hash-object --stdin
        assert_eq!(of_bytes(b"hello\n").unwrap().to_string(), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn files_are_hashed_like_bytes() {
        let content = vec![7; 300_000];
        let path = tempfile::NamedTempFile::new().unwrap();
        path.as_file().write_all(&content).unwrap();
        let open = || File::open(path.path()).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(of_file(&open(), 300_000, &mut buffer).unwrap(), of_bytes(&content));
        for wrong in [0, 299_999, 300_001] {
            assert_eq!(of_file(&open(), wrong, &mut buffer).unwrap(), None);
        }
    }
}
