//! Reads the file of certificate authorities that are trusted beside those of the machine.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::Path,
};

/// A file larger than this, in bytes, holds no authorities: all those of a machine are a quarter of a megabyte.
const LIMIT_BYTES: u64 = 4 << 20;

/// Returns what is in the file.
///
/// # Errors
///
/// Why it cannot be used, without its name.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        // A pipe or a device would keep whoever opens it.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let mut pem = Vec::new();
        File::open(path)?.take(LIMIT_BYTES).read_to_end(&mut pem)?;
        Ok(pem)
    };
    read().map_err(|error| error.to_string())
}
