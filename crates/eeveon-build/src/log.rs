//! What commands wrote: bounded files on disk, and readers that never hold much of them.
//!
//! A log holds the bytes as they came; they become harmless when shown, because a line is
//! [`Untrusted`](eeveon_core::Untrusted). When a log is full it becomes `NAME.1`, in place of the one before, so that
//! a command leaves at most twice the limit on disk, whatever it writes.

mod read;
mod write;

use std::path::{Path, PathBuf};

use eeveon_core::{DeploymentId, StepKey};

pub use read::{LogReader, tail};
pub(crate) use write::LogWriter;

/// The longest line a reader returns, in bytes. A longer one comes in pieces.
pub const MAX_LINE_BYTES: usize = 8 * 1024;

/// How large a log grows before it is rotated, in bytes, unless told otherwise.
pub const DEFAULT_LIMIT_BYTES: u64 = 10 * 1024 * 1024;

/// Where one step of one deployment leaves its output: `LOGS/DEPLOYMENT/STEP.log`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StepLog {
    folder: PathBuf,
    stem: String,
}

impl StepLog {
    /// Names the log of what the step does.
    pub fn new(logs: &Path, deployment: DeploymentId, step: &StepKey) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
        let stem = step.as_str().chars().map(plain).collect();
        Self { folder: logs.join(deployment.to_string()), stem }
    }

    /// Names the log of taking the step back, so that it does not push out what made it necessary.
    pub fn undo(&self) -> Self {
        Self { folder: self.folder.clone(), stem: format!("{}.undo", self.stem) }
    }

    /// Returns the log's file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.file_name())
    }

    /// Returns the last part of [`StepLog::path`].
    pub fn file_name(&self) -> String {
        format!("{}.log", self.stem)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that says which process writes this log.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.folder.join(format!("{}.pid", self.stem))
    }
}

/// Where a full log goes.
fn rotated(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_names_one_file_in_the_folder_of_its_deployment() {
        let log = |key: &str| StepLog::new(Path::new("/logs"), DeploymentId(7), &StepKey::new(key));
        assert_eq!(log("build/web-1/2").path(), Path::new("/logs/7/build-web-1-2.log"));
        assert_eq!(log("build/web-1/2").undo().path(), Path::new("/logs/7/build-web-1-2.undo.log"));
        assert_eq!(log("../../x\n\u{1b}").path(), Path::new("/logs/7/------x--.log"));
    }
}
