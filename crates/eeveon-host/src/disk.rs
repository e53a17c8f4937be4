//! The file system, by folders held open: a name is looked up in one folder, and a link is never
//! followed unless a function says so. That way nothing put in a place of ours leads elsewhere.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{self, AtFlags, CWD, FileType, Mode, OFlags, RawDir, RenameFlags, Stat},
    io::Errno,
};

use crate::{
    HostError,
    error::{Free, Place},
};

/// What the system knows about a file, as far as it matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Meta {
    pub(crate) inode: u64,
    /// Type and permission bits, as in `st_mode`.
    pub(crate) mode: u32,
    pub(crate) links: u64,
    pub(crate) owner: u32,
    /// In bytes.
    pub(crate) size: u64,
    /// When the content last changed, in nanoseconds since 1970.
    pub(crate) modified: i64,
    /// When anything about the file last changed, in nanoseconds since 1970. Nobody can set it.
    pub(crate) changed: i64,
}

#[expect(clippy::unnecessary_cast, reason = "the widths differ between machines")]
impl From<Stat> for Meta {
    fn from(stat: Stat) -> Self {
        let nanos = |secs: i64, nanos: i64| secs.saturating_mul(1_000_000_000).saturating_add(nanos);
        Self {
            inode: stat.st_ino as u64,
            mode: stat.st_mode as u32,
            links: stat.st_nlink as u64,
            owner: stat.st_uid as u32,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: nanos(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: nanos(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        }
    }
}

impl Meta {
    pub(crate) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    pub(crate) fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }
}

/// Device and inode.
type Identity = (u64, u64);

#[expect(clippy::unnecessary_cast, reason = "the widths differ between machines")]
fn identity(stat: &Stat) -> Identity {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A folder that is held open.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: OwnedFd,
    /// Where it was when it was opened; for messages only.
    path: PathBuf,
}

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

impl Folder {
    /// Opens the folder at `path`, following links: only for paths an operator chose.
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let fd = fs::openat(CWD, path, FOLDER, Mode::empty())?;
        Ok(Self { fd, path: path.to_owned() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where `name` is, for messages.
    pub(crate) fn at(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    /// Puts what went wrong with `name` into words.
    pub(crate) fn fault(&self, doing: &'static str, name: &[u8], error: impl Into<io::Error>) -> HostError {
        let source = error.into();
        let path = Place::new(&self.at(name));
        match source.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => match self.free() {
                Ok(free) => HostError::DiskFull { path, needed: None, free },
                Err(_) => HostError::Io { doing, path, source },
            },
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) if doing != "read" => {
                HostError::NotWritable { path, source }
            }
            _ => HostError::Io { doing, path, source },
        }
    }

    /// Opens a folder in this one.
    pub(crate) fn enter(&self, name: &[u8]) -> Result<Self, Errno> {
        let fd = fs::openat(&self.fd, name, FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
        Ok(Self { fd, path: self.at(name) })
    }

    /// Opens the folder `path` below this one, part by part.
    pub(crate) fn descend(&self, path: &[u8]) -> Result<Self, Errno> {
        let mut at: Option<OwnedFd> = None;
        for part in path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            let from = at.as_ref().map_or(self.fd.as_fd(), AsFd::as_fd);
            at = Some(fs::openat(from, part, FOLDER | OFlags::NOFOLLOW, Mode::empty())?);
        }
        match at {
            Some(fd) => Ok(Self { fd, path: self.at(path) }),
            None => self.again(),
        }
    }

    /// Opens this folder once more.
    pub(crate) fn again(&self) -> Result<Self, Errno> {
        Ok(Self { fd: fs::openat(&self.fd, ".", FOLDER, Mode::empty())?, path: self.path.clone() })
    }

    /// Makes sure that there is a folder `name` and opens it. `mode` holds whatever the umask is,
    /// if the folder is new.
    pub(crate) fn make(&self, name: &[u8], mode: u32) -> Result<Self, HostError> {
        let fault = |error| self.fault("make the folder", name, error);
        match fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) => self.allow(name, mode).map_err(fault)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(fault(error)),
        }
        self.enter(name).map_err(fault)
    }

    /// Sets the permissions of the folder `name`, also of one that cannot be opened.
    pub(crate) fn allow(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, name, flags, Mode::empty())?;
        match Meta::from(fs::fstat(&fd)?).permissions() == mode {
            true => Ok(()),
            // A descriptor made with O_PATH refuses fchmod(2); its entry under /proc does not.
            false => fs::chmod(format!("/proc/self/fd/{}", fd.as_raw_fd()), Mode::from_raw_mode(mode)),
        }
    }

    pub(crate) fn mkdir(&self, name: &[u8], mode: u32) -> Result<(), Errno> {
        fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
    }

    /// Looks at `name` itself; `None` when it does not exist.
    pub(crate) fn look(&self, name: &[u8]) -> Result<Option<Meta>, HostError> {
        self.stat(name).map_err(|error| self.fault("read", name, error))
    }

    pub(crate) fn stat(&self, name: &[u8]) -> Result<Option<Meta>, Errno> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Looks at whatever `name` leads to: only for what an operator put there.
    pub(crate) fn look_through(&self, name: &[u8]) -> Result<Option<Meta>, HostError> {
        match fs::statat(&self.fd, name, AtFlags::empty()) {
            Ok(stat) => Ok(Some(stat.into())),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.fault("read", name, error)),
        }
    }

    /// Looks at this folder itself.
    pub(crate) fn meta(&self) -> Result<Meta, HostError> {
        fs::fstat(&self.fd).map(Meta::from).map_err(|error| self.fault("read", b"", error))
    }

    /// Returns what the link `name` points to.
    pub(crate) fn read_link(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        fs::readlinkat(&self.fd, name, Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// Opens the file `name` for reading.
    pub(crate) fn open_file(&self, name: &[u8]) -> Result<File, Errno> {
        // Without NONBLOCK, opening a pipe someone put there would wait for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        fs::openat(&self.fd, name, flags, Mode::empty()).map(File::from)
    }

    /// Opens the file `name` for reading and writing, making it if need be.
    pub(crate) fn open_or_make(&self, name: &[u8]) -> Result<File, HostError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o600))
            .map(File::from)
            .map_err(|error| self.fault("open", name, error))
    }

    /// Makes a new file; fails if the name is taken, be it by a link.
    pub(crate) fn create(&self, name: &[u8], mode: u32) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode)).map(File::from)
    }

    pub(crate) fn symlink(&self, to: &[u8], name: &[u8]) -> Result<(), HostError> {
        fs::symlinkat(to, &self.fd, name).map_err(|error| self.fault("make the link", name, error))
    }

    /// Makes `name` another name of the file `from_name`.
    pub(crate) fn link(&self, from: &Self, from_name: &[u8], name: &[u8]) -> Result<(), Errno> {
        fs::linkat(&from.fd, from_name, &self.fd, name, AtFlags::empty())
    }

    /// Renames over whatever is at the new name.
    pub(crate) fn rename(&self, name: &[u8], to: &Self, to_name: &[u8]) -> Result<(), HostError> {
        fs::renameat(&self.fd, name, &to.fd, to_name).map_err(|error| to.fault("rename to", to_name, error))
    }

    /// Renames within this folder to a name that must be free. Returns false when it is not.
    pub(crate) fn rename_free(&self, name: &[u8], to: &[u8]) -> Result<bool, HostError> {
        let plain = || match self.stat(to)? {
            Some(_) => Err(Errno::EXIST),
            None => fs::renameat(&self.fd, name, &self.fd, to),
        };
        match fs::renameat_with(&self.fd, name, &self.fd, to, RenameFlags::NOREPLACE) {
            // Some network file systems do not know the flag. We hold the lock: looking first will do.
            Err(Errno::INVAL | Errno::NOSYS) => plain(),
            done => done,
        }
        .map(|()| true)
        .or_else(|error| match error {
            Errno::EXIST | Errno::NOTEMPTY => Ok(false),
            error => Err(self.fault("rename to", to, error)),
        })
    }

    /// Removes a file or link; it may be gone already.
    pub(crate) fn unlink(&self, name: &[u8]) -> Result<(), HostError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.fault("remove", name, error)),
        }
    }

    /// Removes an empty folder. Returns false when it is not empty; it may be gone already.
    pub(crate) fn rmdir(&self, name: &[u8]) -> Result<bool, HostError> {
        match fs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(self.fault("remove", name, error)),
        }
    }

    /// Removes `name` and, if it is a folder, everything in it. No link is followed.
    ///
    /// However deep the tree: only the folder being emptied is open, and the way back up is by `..`.
    pub(crate) fn remove_all(&self, name: &[u8]) -> Result<(), HostError> {
        if self.remove_plain(name)? {
            return Ok(());
        }
        let (mut at, mut id) = self.enter_to_empty(name)?;
        let mut rest = at.names()?;
        // Of the folders around `at`, the outermost first: which it is, what else is in it, and the
        // name in it of the next.
        let mut around = Vec::new();
        loop {
            while let Some((inner, kind)) = rest.pop() {
                if kind != FileType::Directory && at.remove_plain(&inner)? {
                    continue;
                }
                let (deeper, deeper_id) = at.enter_to_empty(&inner)?;
                around.push((id, std::mem::replace(&mut rest, deeper.names()?), inner));
                (at, id) = (deeper, deeper_id);
            }
            let Some((outer_id, left, inner)) = around.pop() else { break };
            at = at.leave(outer_id)?;
            at.remove_emptied(&inner)?;
            (id, rest) = (outer_id, left);
        }
        self.remove_emptied(name)
    }

    /// Removes `name` unless it is a folder, and tells whether it is gone.
    fn remove_plain(&self, name: &[u8]) -> Result<bool, HostError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            // Linux says EISDIR, POSIX says EPERM.
            Err(error @ (Errno::ISDIR | Errno::PERM)) => match self.look(name)? {
                Some(meta) if meta.file_type() == FileType::Directory => Ok(false),
                _ => Err(self.fault("remove", name, error)),
            },
            Err(error) => Err(self.fault("remove", name, error)),
        }
    }

    fn remove_emptied(&self, name: &[u8]) -> Result<(), HostError> {
        match self.rmdir(name)? {
            true => Ok(()),
            false => Err(self.fault("remove", name, Errno::NOTEMPTY)),
        }
    }

    /// Opens a folder in this one so that whatever is in it can be removed, and tells which it is.
    fn enter_to_empty(&self, name: &[u8]) -> Result<(Self, Identity), HostError> {
        const ALL: u32 = 0o700;
        let fault = |error| self.fault("remove", name, error);
        // A folder nobody may enter can be removed all the same by who owns it.
        let folder = match self.enter(name) {
            Err(Errno::ACCESS) => self.allow(name, ALL).and_then(|()| self.enter(name)),
            entered => entered,
        }
        .map_err(fault)?;
        let stat = fs::fstat(&folder.fd).map_err(fault)?;
        if Meta::from(stat).permissions() & ALL != ALL {
            // Where that is refused, removing what is in it says why.
            let _ = fs::fchmod(&folder.fd, Mode::from_raw_mode(ALL));
        }
        Ok((folder, identity(&stat)))
    }

    /// Opens the folder this one is in, which must be the one it was entered from.
    fn leave(&self, outer: Identity) -> Result<Self, HostError> {
        let fault = |error| self.fault("remove", b"", error);
        let fd = fs::openat(&self.fd, "..", FOLDER, Mode::empty()).map_err(fault)?;
        match identity(&fs::fstat(&fd).map_err(fault)?) == outer {
            true => Ok(Self { fd, path: self.path.parent().unwrap_or(&self.path).to_owned() }),
            // Someone moved it while it was being emptied.
            false => Err(fault(Errno::STALE)),
        }
    }

    /// Lists what is in this folder, sorted by name.
    pub(crate) fn names(&self) -> Result<Vec<(Vec<u8>, FileType)>, HostError> {
        let fault = |error| self.fault("read", b"", error);
        let folder = self.again().map_err(fault)?;
        let mut buffer = Vec::with_capacity(16 << 10);
        let mut entries = RawDir::new(&folder.fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(fault)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push((name.to_vec(), entry.file_type()));
            }
        }
        // Some file systems do not say what an entry is.
        for (name, kind) in names.iter_mut().filter(|(_, kind)| *kind == FileType::Unknown) {
            if let Some(meta) = self.look(name)? {
                *kind = meta.file_type();
            }
        }
        names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(names)
    }

    /// Reads the whole file `name`; `None` when it does not exist.
    pub(crate) fn read(&self, name: &[u8]) -> Result<Option<Vec<u8>>, HostError> {
        let fault = |error: io::Error| self.fault("read", name, error);
        let mut file = match self.open_file(name) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(fault(error.into())),
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(fault)?;
        Ok(Some(bytes))
    }

    /// Puts a file `name` with this content in place of whatever file was there: after any death it
    /// is the old or the new one. With `durable` that holds for power cuts too.
    pub(crate) fn replace(&self, name: &[u8], content: &[u8], durable: bool) -> Result<(), HostError> {
        let new = [name, TEMPORARY].concat();
        let fault = |error: io::Error| self.fault("write", &new, error);
        self.unlink(&new)?;
        let mut file = self.create(&new, 0o600).map_err(|error| fault(error.into()))?;
        let mut write = || {
            file.write_all(content)?;
            if durable {
                fs::fsync(&file)?;
            }
            Ok(())
        };
        if let Err(error) = write().map_err(fault) {
            // On a full disk every block counts.
            self.unlink(&new)?;
            return Err(error);
        }
        self.rename(&new, self, name)?;
        if durable { self.sync() } else { Ok(()) }
    }

    /// Makes the names in this folder outlive a power cut.
    pub(crate) fn sync(&self) -> Result<(), HostError> {
        fs::fsync(&self.fd).map_err(|error| self.not_durable(error))
    }

    /// Makes everything on this folder's file system outlive a power cut.
    pub(crate) fn sync_file_system(&self) -> Result<(), HostError> {
        fs::syncfs(&self.fd).map_err(|error| self.not_durable(error))
    }

    fn not_durable(&self, error: Errno) -> HostError {
        match error {
            Errno::NOSPC | Errno::DQUOT => self.fault("write", b"", error),
            error => HostError::NotDurable { path: Place::new(&self.path), source: error.into() },
        }
    }

    /// Tells how much room the file system has left.
    pub(crate) fn free(&self) -> Result<Free, HostError> {
        let stat = fs::fstatvfs(&self.fd).map_err(|source| HostError::Io {
            doing: "read",
            path: Place::new(&self.path),
            source: source.into(),
        })?;
        Ok(Free {
            bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: Some(stat.f_favail).filter(|_| stat.f_files != 0),
        })
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The end of the name of a file that is about to replace another.
pub(crate) const TEMPORARY: &[u8] = b".new";

/// Splits a path into its folder and its name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => path.split_at_checked(at).map_or((b"", path), |(folder, rest)| {
            (folder, rest.split_first().map_or(rest, |(_, name)| name))
        }),
        None => (b"", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_removed_however_deep() {
        let place = tempfile::TempDir::new().unwrap();
        let folder = Folder::open(place.path()).unwrap();
        let mut at = folder.make(b"top", 0o755).unwrap();
        for level in 0..5000 {
            if level % 1000 == 0 {
                at.create(b"file", 0o644).unwrap();
                at.symlink(b"..", b"link").unwrap();
                // These must be opened up first.
                at.mkdir(b"empty", 0o000).unwrap();
                at.make(b"full", 0o755).unwrap().create(b"file", 0o644).unwrap();
                at.allow(b"full", 0o400).unwrap();
            }
            // Step by step: the whole path is too long for a call.
            let next = at.make(b"d", 0o755).unwrap();
            at = Folder { path: PathBuf::from("d"), ..next };
        }
        drop(at);
        std::thread::scope(|scope| {
            let small = std::thread::Builder::new().stack_size(256 << 10);
            small.spawn_scoped(scope, || folder.remove_all(b"top").unwrap()).unwrap().join().unwrap();
        });
        assert_eq!(folder.names().unwrap(), []);
        folder.remove_all(b"top").unwrap();
    }
}
