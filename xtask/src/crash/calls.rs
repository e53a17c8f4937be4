//! Which system calls change what is on disk or leave the machine, and what each is about.
//!
//! Numbers and arguments are those of x86-64, see `syscalls(2)` and
//! <https://github.com/torvalds/linux/blob/master/arch/x86/entry/syscalls/syscall_64.tbl>.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use nix::{
    libc::{self, c_long, user_regs_struct},
    unistd::Pid,
};

/// Calls that fail for the same reasons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Class {
    /// Waits until the disk has it.
    Sync,
    /// Tells people that the command is done: writes to standard output.
    Tell,
    /// Gives something another name.
    Rename,
    /// Changes the content of a file.
    Write,
    /// Gives something one more name, or makes a symbolic link.
    Link,
    /// Makes a folder.
    Mkdir,
    /// Takes a name away.
    Remove,
    /// Opens a file that must exist.
    Open,
    /// Reads a file, or lists a folder.
    Read,
    /// Opens a file and may make it or empty it.
    Create,
    /// Changes what is known of a file: mode, owner, times.
    Meta,
    /// Asks or tells somebody over the network.
    Send,
    /// Ends the process.
    Exit,
}

impl Class {
    /// Tells whether such a call may leave something changed, or is the last one.
    pub(crate) fn changes_state(self) -> bool {
        !matches!(self, Self::Open | Self::Read)
    }
}

/// Where a call says what it is about: the number of an argument.
#[derive(Clone, Copy)]
enum Subject {
    /// An open file.
    Fd(usize),
    /// A path.
    Path(usize),
    /// A folder and a path from there.
    At(usize, usize),
    /// Nothing.
    Process,
}

use Subject::{At, Fd, Path as Named, Process};

const CALLS: &[(c_long, &str, Class, Subject)] = &[
    (libc::SYS_fsync, "fsync", Class::Sync, Fd(0)),
    (libc::SYS_fdatasync, "fdatasync", Class::Sync, Fd(0)),
    (libc::SYS_syncfs, "syncfs", Class::Sync, Fd(0)),
    (libc::SYS_sync_file_range, "sync_file_range", Class::Sync, Fd(0)),
    (libc::SYS_rename, "rename", Class::Rename, Named(1)),
    (libc::SYS_renameat, "renameat", Class::Rename, At(2, 3)),
    (libc::SYS_renameat2, "renameat2", Class::Rename, At(2, 3)),
    (libc::SYS_write, "write", Class::Write, Fd(0)),
    (libc::SYS_writev, "writev", Class::Write, Fd(0)),
    (libc::SYS_pwrite64, "pwrite64", Class::Write, Fd(0)),
    (libc::SYS_pwritev, "pwritev", Class::Write, Fd(0)),
    (libc::SYS_pwritev2, "pwritev2", Class::Write, Fd(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Class::Write, Fd(2)),
    (libc::SYS_sendfile, "sendfile", Class::Write, Fd(0)),
    (libc::SYS_splice, "splice", Class::Write, Fd(2)),
    (libc::SYS_ftruncate, "ftruncate", Class::Write, Fd(0)),
    (libc::SYS_truncate, "truncate", Class::Write, Named(0)),
    (libc::SYS_fallocate, "fallocate", Class::Write, Fd(0)),
    (libc::SYS_link, "link", Class::Link, Named(1)),
    (libc::SYS_linkat, "linkat", Class::Link, At(2, 3)),
    (libc::SYS_symlink, "symlink", Class::Link, Named(1)),
    (libc::SYS_symlinkat, "symlinkat", Class::Link, At(1, 2)),
    (libc::SYS_mkdir, "mkdir", Class::Mkdir, Named(0)),
    (libc::SYS_mkdirat, "mkdirat", Class::Mkdir, At(0, 1)),
    (libc::SYS_mknod, "mknod", Class::Mkdir, Named(0)),
    (libc::SYS_mknodat, "mknodat", Class::Mkdir, At(0, 1)),
    (libc::SYS_unlink, "unlink", Class::Remove, Named(0)),
    (libc::SYS_unlinkat, "unlinkat", Class::Remove, At(0, 1)),
    (libc::SYS_rmdir, "rmdir", Class::Remove, Named(0)),
    (libc::SYS_open, "open", Class::Open, Named(0)),
    (libc::SYS_openat, "openat", Class::Open, At(0, 1)),
    (libc::SYS_openat2, "openat2", Class::Open, At(0, 1)),
    (libc::SYS_read, "read", Class::Read, Fd(0)),
    (libc::SYS_pread64, "pread64", Class::Read, Fd(0)),
    (libc::SYS_getdents64, "getdents64", Class::Read, Fd(0)),
    (libc::SYS_creat, "creat", Class::Create, Named(0)),
    (libc::SYS_chmod, "chmod", Class::Meta, Named(0)),
    (libc::SYS_fchmod, "fchmod", Class::Meta, Fd(0)),
    (libc::SYS_fchmodat, "fchmodat", Class::Meta, At(0, 1)),
    (libc::SYS_chown, "chown", Class::Meta, Named(0)),
    (libc::SYS_lchown, "lchown", Class::Meta, Named(0)),
    (libc::SYS_fchown, "fchown", Class::Meta, Fd(0)),
    (libc::SYS_fchownat, "fchownat", Class::Meta, At(0, 1)),
    (libc::SYS_utimensat, "utimensat", Class::Meta, At(0, 1)),
    (libc::SYS_connect, "connect", Class::Send, Fd(0)),
    (libc::SYS_sendto, "sendto", Class::Send, Fd(0)),
    (libc::SYS_sendmsg, "sendmsg", Class::Send, Fd(0)),
    (libc::SYS_ioctl, "ioctl FICLONE", Class::Write, Fd(0)),
    (libc::SYS_exit_group, "exit_group", Class::Exit, Process),
];

/// `FICLONE` of `linux/fs.h`: share the content of another file.
const FICLONE: u64 = 0x4004_9409;

/// A call that concerns the folder under watch.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its name.
    pub(crate) name: &'static str,
    /// What kind it is of.
    pub(crate) class: Class,
    /// The file it is about.
    pub(crate) on: PathBuf,
}

impl Call {
    /// Returns the call that `thread` is about to make, if it is one of [`CALLS`] and about something
    /// below `root` or somebody beyond the machine, or what tells people that a command is done:
    /// writing to standard output and ending.
    pub(crate) fn about_to(thread: Pid, regs: &user_regs_struct, root: &Path) -> Option<Self> {
        let number = c_long::try_from(regs.orig_rax).ok()?;
        let (_, name, class, subject) = CALLS.iter().find(|(listed, ..)| *listed == number)?;
        if number == libc::SYS_ioctl && regs.rsi != FICLONE {
            return None;
        }
        let on = match *subject {
            Process => return Some(Self { name, class: *class, on: PathBuf::new() }),
            Fd(fd) => match argument(regs, fd)? {
                1 if *class != Class::Read => {
                    let on = PathBuf::from("standard output");
                    return Some(Self { name, class: Class::Tell, on });
                }
                fd => {
                    let on = opened(thread, fd)?;
                    if *class != Class::Read && on.to_string_lossy().starts_with("socket:") {
                        return Some(Self { name, class: Class::Send, on: PathBuf::from("the network") });
                    }
                    Some(on).filter(|path| path.starts_with(root))?
                }
            },
            Named(path) => {
                named(thread, AT_FDCWD, argument(regs, path)?).filter(|it| it.starts_with(root))?
            }
            At(folder, path) => named(thread, argument(regs, folder)?, argument(regs, path)?)
                .filter(|it| it.starts_with(root))?,
        };
        let class = match class {
            Class::Open if may_create(thread, regs)? => Class::Create,
            class => *class,
        };
        Some(Self { name, class, on })
    }
}

const AT_FDCWD: u64 = libc::AT_FDCWD as u64;

fn argument(regs: &user_regs_struct, number: usize) -> Option<u64> {
    [regs.rdi, regs.rsi, regs.rdx, regs.r10].get(number).copied()
}

fn opened(thread: Pid, fd: u64) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{thread}/fd/{fd}")).ok()
}

fn named(thread: Pid, folder: u64, path: u64) -> Option<PathBuf> {
    let path = PathBuf::from(text(thread, path)?);
    // Only the low half holds the descriptor.
    let folder = match folder as i32 {
        libc::AT_FDCWD => fs::read_link(format!("/proc/{thread}/cwd")).ok()?,
        fd => opened(thread, u64::try_from(fd).ok()?)?,
    };
    Some(folder.join(path))
}

fn may_create(thread: Pid, regs: &user_regs_struct) -> Option<bool> {
    let flags = match c_long::try_from(regs.orig_rax).ok()? {
        libc::SYS_open => regs.rsi,
        libc::SYS_openat => regs.rdx,
        // The first member of `struct open_how`.
        _ => u64::from_ne_bytes(memory::<8>(thread, regs.rdx)?),
    };
    Some(flags & (libc::O_CREAT | libc::O_TRUNC) as u64 != 0)
}

fn memory<const LENGTH: usize>(thread: Pid, at: u64) -> Option<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    File::open(format!("/proc/{thread}/mem")).ok()?.read_exact_at(&mut bytes, at).ok()?;
    Some(bytes)
}

/// Reads a string that ends with a zero byte.
fn text(thread: Pid, at: u64) -> Option<String> {
    let memory = File::open(format!("/proc/{thread}/mem")).ok()?;
    let mut bytes = [0; libc::PATH_MAX as usize];
    // Stops short where the memory ends.
    let read = memory.read_at(&mut bytes, at).ok()?;
    let text = bytes.get(..read)?.split(|byte| *byte == 0).next()?;
    Some(String::from_utf8_lossy(text).into_owned())
}
