//! A disk that remembers every write and every flush, in order: one file in user space, to put a loop
//! device on. What a power cut at any moment would have left can be made from it later.
//!
//! Source: `linux/fuse.h`, and for what a disk promises
//! <https://docs.kernel.org/block/writeback_cache_control.html>.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, INodeNo,
    LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyOpen, ReplyWrite, Request,
    WriteFlags,
};

/// Nothing changes behind the kernel's back.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// Something that happened to the disk.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Bytes were written here, and lie in the disk's cache.
    Write(u64, Vec<u8>),
    /// Everything written before is safe.
    Flush,
}

/// The disk, while it is in use.
pub(crate) struct Disk {
    session: BackgroundSession,
    path: PathBuf,
    log: Arc<Mutex<Vec<Event>>>,
}

impl Disk {
    /// Makes the content of `image` appear as the file `path`, which need not exist, and remembers
    /// from then on. `image` itself is written to, too.
    ///
    /// # Errors
    ///
    /// `image` cannot be opened, or nothing can be mounted.
    pub(crate) fn attach(image: &Path, path: &Path) -> Result<Self> {
        let content = File::options().read(true).write(true).open(image);
        let content = content.with_context(|| format!("cannot open {}", image.display()))?;
        let size = content.metadata()?.len();
        File::create(path).with_context(|| format!("cannot make {}", path.display()))?;
        let log = Arc::default();
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("powercut".to_owned())];
        let platter = Platter { content, size, log: Arc::clone(&log) };
        let session = fuser::spawn_mount(platter, path, &config)
            .with_context(|| format!("cannot mount {}", path.display()))?;
        Ok(Self { session, path: path.to_owned(), log })
    }

    /// Returns the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how much has happened so far.
    pub(crate) fn events(&self) -> usize {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes the file away. Returns all that happened.
    ///
    /// # Errors
    ///
    /// Somebody still uses it.
    pub(crate) fn detach(self) -> Result<Vec<Event>> {
        self.session.umount_and_join().context("cannot take the disk away")?;
        Ok(std::mem::take(&mut *self.log.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// What answers the kernel. There is nothing but the file.
struct Platter {
    content: File,
    size: u64,
    log: Arc<Mutex<Vec<Event>>>,
}

impl Platter {
    fn attributes(&self) -> FileAttr {
        FileAttr {
            ino: INodeNo::ROOT,
            size: self.size,
            blocks: self.size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind: FileType::RegularFile,
            perm: 0o600,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }

    fn remember(&self, event: Event) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

impl Filesystem for Platter {
    fn getattr(&self, _: &Request, _: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attributes());
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // A cache of the kernel's would put writes together and in another order.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let length = u64::from(size).min(self.size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        match self.content.read_exact_at(&mut bytes, offset) {
            Ok(()) => reply.data(&bytes),
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.content.write_all_at(data, offset) {
            Ok(()) => {
                self.remember(Event::Write(offset, data.to_vec()));
                reply.written(u32::try_from(data.len()).unwrap_or_default());
            }
            Err(error) => reply.error(Errno::from(error)),
        }
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        self.remember(Event::Flush);
        reply.ok();
    }
}
