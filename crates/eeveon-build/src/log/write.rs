//! Writing a log: appended to, private to its owner, rotated when full.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use super::{StepLog, rotated};

#[derive(Debug)]
pub(crate) struct LogWriter {
    path: PathBuf,
    file: File,
    /// Bytes in the file.
    size: u64,
    limit: u64,
    mid_line: bool,
}

impl LogWriter {
    /// Opens the log, behind what is there already.
    pub(crate) fn open(log: &StepLog, limit: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(log.folder())?;
        let path = log.path();
        let file = open(&path, false)?;
        let size = file.metadata()?.len();
        Ok(Self { path, file, size, limit, mid_line: false })
    }

    /// Appends output as it came.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size.saturating_add(bytes.len() as u64) > self.limit {
            fs::rename(&self.path, rotated(&self.path))?;
            self.file = open(&self.path, true)?;
            self.size = 0;
        }
        self.file.write_all(bytes)?;
        self.size = self.size.saturating_add(bytes.len() as u64);
        self.mid_line = bytes.last().is_some_and(|last| *last != b'\n');
        Ok(())
    }

    /// Appends a line of EEveon's own.
    pub(crate) fn note(&mut self, text: &str) -> io::Result<()> {
        let gap = if self.mid_line { "\n" } else { "" };
        self.write(format!("{gap}eeveon: {text}\n").as_bytes())
    }
}

fn open(path: &PathBuf, new: bool) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).create_new(new).mode(0o600).open(path)
}
