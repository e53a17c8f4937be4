//! What can go wrong with releases on this machine.

use std::{borrow::Cow, fmt, io, path::Path};

use eeveon_core::{Class, Diagnose, Fence, ReleaseNumber, Retry, untrusted::printable};

/// Something about releases on this machine could not be done.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The project's path cannot be one.
    #[error("`{path}` cannot be a project's path: {rule}")]
    BadPath {
        /// As given.
        path: Place,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A shared folder or file is named in a way that cannot work.
    #[error("`{name}` cannot be shared between releases: {rule}")]
    BadShared {
        /// As given.
        name: Place,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// This user may not write where the project belongs.
    #[error("cannot write to `{path}`")]
    NotWritable {
        /// Where.
        path: Place,
        /// What the system said.
        source: io::Error,
    },
    /// The project's path holds something EEveon did not make.
    #[error("`{path}` holds something that is not this project's: {found}")]
    NotOurs {
        /// Where.
        path: Place,
        /// What was found there.
        found: String,
    },
    /// The project's path is deployed to from another home.
    #[error("`{path}` belongs to another home, `{home}`")]
    OtherHome {
        /// Where.
        path: Place,
        /// The id of the home it belongs to.
        home: String,
    },
    /// A newer version wrote here.
    #[error("`{path}` was written by a newer version, in format {found}")]
    NewerFormat {
        /// What.
        path: Place,
        /// The format found.
        found: u32,
    },
    /// A file of ours is not as we wrote it.
    #[error("`{path}` is damaged: {how}")]
    Damaged {
        /// Which.
        path: Place,
        /// What is wrong with it.
        how: &'static str,
    },
    /// Shared files do not exist.
    #[error("missing in `{shared}`: {}", missing.join(", "))]
    SharedFileMissing {
        /// The folder they belong in.
        shared: Place,
        /// Which, all of them.
        missing: Vec<String>,
    },
    /// What should be shared and what there is do not go together.
    #[error("`{path}` is in the way of what releases share: {how}")]
    SharedConflict {
        /// What is in the way.
        path: Place,
        /// How.
        how: &'static str,
    },
    /// There is not enough room.
    #[error("not enough room at `{path}`: {}{free}", needed.as_ref().map(|it| format!("needed {it}, ")).unwrap_or_default())]
    DiskFull {
        /// Where.
        path: Place,
        /// What would be needed, where that is known.
        needed: Option<Room>,
        /// What is there.
        free: Free,
    },
    /// A newer holder of the project's lease was here.
    #[error("stopped: the target follows fence {seen}, this process has {ours}")]
    Fenced {
        /// The highest seen.
        seen: Fence,
        /// The caller's.
        ours: Fence,
    },
    /// Another process is changing the target and does not finish.
    #[error("`{path}` is locked by {}", match holder { Some(pid) => format!("process {pid}"), None => "another process".into() })]
    Locked {
        /// The lock.
        path: Place,
        /// Who holds it.
        holder: Option<u32>,
    },
    /// What says which release is live does not say so.
    #[error("`{path}` is not a link to a release: {found}")]
    CurrentNotOurs {
        /// The link.
        path: Place,
        /// What it is.
        found: String,
    },
    /// A release is not there.
    #[error("release {release} is not at `{path}`")]
    ReleaseMissing {
        /// Which.
        release: ReleaseNumber,
        /// Where it should be.
        path: Place,
    },
    /// A release was never completed.
    #[error("release {release} was never completed")]
    ReleaseUnsealed {
        /// Which.
        release: ReleaseNumber,
    },
    /// A release that serves cannot be removed or made anew.
    #[error("release {release} serves and is left alone")]
    ReleaseServes {
        /// Which.
        release: ReleaseNumber,
    },
    /// A release was changed by hand in a way that cannot be put right.
    #[error("release {release} was changed after it was completed: {}", paths.join(", "))]
    ReleaseAltered {
        /// Which.
        release: ReleaseNumber,
        /// The paths that cannot be put right, the first ten.
        paths: Vec<String>,
    },
    /// The machine restarted while a release was being made.
    #[error("the machine restarted while release {release} was being made, so parts of it may be lost")]
    Restarted {
        /// Which.
        release: ReleaseNumber,
    },
    /// The disk could not promise to keep what was written.
    #[error("the disk under `{path}` did not keep what was written")]
    NotDurable {
        /// Where.
        path: Place,
        /// What the system said.
        source: io::Error,
    },
    /// A release would contain something that must not be placed.
    #[error("`{path}` cannot be placed: {rule}")]
    BadContent {
        /// The path in the release.
        path: Place,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A link of the source goes through something shared and back out of it.
    #[error("symbolic link `{link}` must not be deployed: its target `{target}` leads out of what is shared")]
    SharedLink {
        /// The path of the link in the release.
        link: Place,
        /// What it points to.
        target: Place,
    },
    /// Folders of a release lie deeper in each other than can be kept.
    #[error("release {release} has folders nested more than {most} deep, below `{below}`")]
    TooDeep {
        /// Which.
        release: ReleaseNumber,
        /// The outermost of the folders.
        below: Place,
        /// How deep they may be.
        most: usize,
    },
    /// The system refused an operation.
    #[error("cannot {doing} `{path}`")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// With what.
        path: Place,
        /// What the system said.
        source: io::Error,
    },
}

/// A path, as it is safe to show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place(String);

impl Place {
    /// Makes the path showable.
    pub fn new(path: &Path) -> Self {
        Self(printable(&path.to_string_lossy()))
    }

    /// Makes a path of a release showable.
    pub fn of_bytes(path: &[u8]) -> Self {
        Self(printable(&String::from_utf8_lossy(path)))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An amount of one of the two things a disk can run out of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Room {
    /// Bytes.
    Bytes(u64),
    /// Places for files, whatever their size.
    Inodes(u64),
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Bytes(bytes) if bytes < 1024 => write!(f, "{bytes} bytes"),
            Self::Bytes(bytes) => write!(f, "{}", Mebibytes(bytes)),
            Self::Inodes(count) => write!(f, "{count} inodes"),
        }
    }
}

/// What is free on a disk, for users other than root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Free {
    /// Bytes.
    pub bytes: u64,
    /// Places for files; `None` where the file system has no bound.
    pub inodes: Option<u64>,
}

impl fmt::Display for Free {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "free {}", Room::Bytes(self.bytes))?;
        match self.inodes {
            Some(inodes) => write!(f, " and {inodes} inodes"),
            None => Ok(()),
        }
    }
}

/// Bytes written as MiB with one decimal, rounded up so that nothing shows as free or needed less
/// than it is.
struct Mebibytes(u64);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.saturating_mul(10).div_ceil(1 << 20);
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

impl Diagnose for HostError {
    fn code(&self) -> &'static str {
        match self {
            Self::BadPath { .. } => "host/bad-path",
            Self::BadShared { .. } => "host/bad-shared",
            Self::NotWritable { .. } => "host/not-writable",
            Self::NotOurs { .. } => "host/not-ours",
            Self::OtherHome { .. } => "host/other-home",
            Self::NewerFormat { .. } => "host/newer-format",
            Self::Damaged { .. } => "host/damaged",
            Self::SharedFileMissing { .. } => "host/shared-file-missing",
            Self::SharedConflict { .. } => "host/shared-conflict",
            Self::DiskFull { .. } => "host/disk-full",
            Self::Fenced { .. } => "host/fenced",
            Self::Locked { .. } => "host/locked",
            Self::CurrentNotOurs { .. } => "host/current-not-ours",
            Self::ReleaseMissing { .. } => "host/release-missing",
            Self::ReleaseUnsealed { .. } => "host/release-unsealed",
            Self::ReleaseServes { .. } => "host/release-serves",
            Self::ReleaseAltered { .. } => "host/release-altered",
            Self::Restarted { .. } => "host/restarted",
            Self::NotDurable { .. } => "host/not-durable",
            Self::BadContent { .. } => "host/bad-content",
            Self::SharedLink { .. } => "host/shared-link",
            Self::TooDeep { .. } => "host/too-deep",
            Self::Io { .. } => "host/io",
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::BadPath { .. } => "set `deploy.path` to an absolute path of plain UTF-8".into(),
            Self::BadShared { .. } => "correct `deploy.shared_dirs` or `deploy.shared_files`".into(),
            Self::NotWritable { path, .. } => {
                format!("give the user that deploys the right to write there (`ls -ld {path}` shows who may)")
                    .into()
            }
            Self::NotOurs { .. } => {
                "nothing was touched; choose an empty `deploy.path`, or move away what is there".into()
            }
            Self::OtherHome { .. } => {
                "nothing was touched; deploy from that home, or choose another `deploy.path`".into()
            }
            Self::NewerFormat { .. } => "use the newer version of ee-deploy".into(),
            Self::Damaged { .. } => {
                "deploy again to get a whole release; `ee-deploy check` names the rest".into()
            }
            Self::SharedFileMissing { shared, .. } => {
                format!("create them in `{shared}`, then deploy again").into()
            }
            Self::SharedConflict { .. } => {
                "move it away, or take it out of `deploy.shared_dirs` and `deploy.shared_files`".into()
            }
            Self::DiskFull { .. } => {
                "free some space (`ee-deploy vacuum` helps), or lower `deploy.keep`".into()
            }
            Self::Fenced { .. } => "`ee-deploy status` shows who deploys now".into(),
            Self::Locked { .. } => "wait for that process, or end it if it hangs, then try again".into(),
            Self::CurrentNotOurs { path, .. } => {
                format!("nothing was touched; move `{path}` away if it is not needed, then deploy").into()
            }
            Self::ReleaseMissing { .. } | Self::ReleaseUnsealed { .. } => {
                "`ee-deploy releases` lists the releases one can go back to".into()
            }
            Self::ReleaseServes { .. } => "make another release live first".into(),
            Self::ReleaseAltered { .. } => {
                "what a build made cannot be made again from git; deploy that commit anew with `--rev`".into()
            }
            Self::Restarted { .. } => "deploy again".into(),
            Self::NotDurable { .. } => "look at `dmesg` and the health of the disk, then deploy again".into(),
            Self::BadContent { .. } => {
                "change it in the repository, or leave it out with `.deployignore`; if a build command left it, \
                 let the last one remove it"
                    .into()
            }
            Self::SharedLink { .. } => {
                "let it point to the shared path or below it, without a `..` after that".into()
            }
            Self::TooDeep { .. } => {
                "let the build remove them: it most likely made folders in a loop, or copied one into itself".into()
            }
            Self::Io { .. } => return None,
        })
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Locked { .. } => Retry::Later,
            _ => Retry::Never,
        }
    }

    fn class(&self) -> Class {
        match self {
            Self::BadPath { .. } | Self::BadShared { .. } => Class::Config,
            Self::Fenced { .. } | Self::Locked { .. } | Self::OtherHome { .. } => Class::Refused,
            Self::Damaged { .. } | Self::NotDurable { .. } | Self::Io { .. } => Class::Fault,
            _ => Class::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_shows_both_figures() {
        let error = HostError::DiskFull {
            path: Place::new(Path::new("/srv/shop")),
            needed: Some(Room::Bytes(64 << 20)),
            free: Free { bytes: 3_000_000, inodes: Some(17) },
        };
        assert_eq!(
            error.to_string(),
            "not enough room at `/srv/shop`: needed 64.0 MiB, free 2.9 MiB and 17 inodes"
        );
    }

    #[test]
    fn names_cannot_disturb_a_terminal() {
        let error = HostError::BadContent { path: Place::of_bytes(b"a\x1b[2J\xff"), rule: "x" };
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}
