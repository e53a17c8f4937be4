//! File systems in a file: made, mounted on a loop device, and taken away again.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Kinds of file systems, as they are mounted here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// ext4 that does not make up for programs that forget to flush, and waits long by itself
    Ext4Lazy,
    /// ext4 as it comes
    Ext4,
    /// XFS as it comes
    Xfs,
    /// Btrfs as it comes
    Btrfs,
}

impl Kind {
    /// Returns how it is called in options and in the ledger.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4Lazy => "ext4-lazy",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Returns the least size `mkfs` accepts and the work fits into, in MiB.
    fn mebibytes(self) -> u64 {
        match self {
            Self::Ext4Lazy | Self::Ext4 => 64,
            Self::Xfs => 320,
            Self::Btrfs => 128,
        }
    }

    /// Returns the words that make one, and the type and options to mount it.
    fn words(self) -> (&'static [&'static str], &'static str, &'static str) {
        const EXT4: &[&str] = &["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        match self {
            Self::Ext4Lazy => (EXT4, "ext4", "noauto_da_alloc,commit=300"),
            Self::Ext4 => (EXT4, "ext4", "defaults"),
            Self::Xfs => (&["mkfs.xfs", "-q", "-f"], "xfs", "nouuid"),
            Self::Btrfs => (&["mkfs.btrfs", "-q", "-f"], "btrfs", "defaults"),
        }
    }

    /// Tells whether two copies of one can be mounted at a time.
    pub(crate) fn may_be_twice(self) -> bool {
        self != Self::Btrfs
    }

    /// Makes an empty one in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be made, or the tool is not there or fails.
    pub(crate) fn make(self, image: &Path) -> Result<()> {
        let file = File::create(image).with_context(|| format!("cannot make {}", image.display()))?;
        file.set_len(self.mebibytes() << 20)?;
        let (words, ..) = self.words();
        tool(words, &[image])
    }

    /// Makes one that holds what is in `folder`, which is mounted at `root` for that and replaces what is
    /// there.
    ///
    /// # Errors
    ///
    /// As [`Kind::make`] and [`Kind::mount`], or it is too small.
    pub(crate) fn furnish(self, image: &Path, folder: &Path, root: &Path) -> Result<()> {
        self.make(image)?;
        if root.exists() {
            fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
        }
        fs::create_dir(root).with_context(|| format!("cannot make {}", root.display()))?;
        let mounted = self.mount(image, root)?;
        tool(&["cp", "-a", "--"], &[&folder.join("."), root])?;
        mounted.unmount()
    }

    /// Mounts one.
    ///
    /// # Errors
    ///
    /// It is not one, or nothing can be mounted here.
    pub(crate) fn mount(self, image: &Path, at: &Path) -> Result<Mounted> {
        let device = attached(image)?;
        let (_, kind, options) = self.words();
        let mounted = tool(&["mount", "-t", kind, "-o", options], &[Path::new(&device), at]);
        // It goes by itself when the last one that uses it is gone.
        tool(&["losetup", "--detach", &device], &[])?;
        mounted?;
        Ok(Mounted { at: at.to_owned() })
    }
}

/// How long somebody may still use a file system that is to be unmounted.
const PATIENCE: Duration = Duration::from_secs(10);

/// A mounted file system; unmounted when it is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    at: PathBuf,
}

impl Mounted {
    /// Unmounts it, and with that writes all that was not written yet.
    ///
    /// # Errors
    ///
    /// Somebody still uses it.
    pub(crate) fn unmount(self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match tool(&["umount"], &[&self.at]) {
                // What a command started may live a moment longer than itself.
                Err(_) if Instant::now() < until => thread::sleep(Duration::from_millis(20)),
                done => {
                    std::mem::forget(self);
                    return done;
                }
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // On the way out of something that went wrong already.
        let _ = tool(&["umount", "--lazy"], &[&self.at]);
    }
}

/// The machine has been started anew, as far as anybody asks it; until this is dropped.
#[derive(Debug)]
pub(crate) struct Reboot {
    _shown: Mounted,
}

impl Reboot {
    /// Where the system names the time since it was started; see random(4).
    const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

    /// Begins it. `beside` is a file to make.
    ///
    /// # Errors
    ///
    /// Nothing can be mounted.
    pub(crate) fn begin(beside: &Path) -> Result<Self> {
        fs::write(beside, "11111111-2222-4333-8444-555555555555\n")
            .with_context(|| format!("cannot write {}", beside.display()))?;
        tool(&["mount", "--bind"], &[beside, Path::new(Self::BOOT_ID)])?;
        Ok(Self { _shown: Mounted { at: PathBuf::from(Self::BOOT_ID) } })
    }
}

/// Puts a loop device on a file, past all caches, so that writes arrive in the order they are made in.
fn attached(image: &Path) -> Result<String> {
    let mut command = Command::new("losetup");
    command.args(["--find", "--show", "--direct-io=on"]).arg(image).stdin(Stdio::null());
    let output = command.output().context("cannot start losetup")?;
    if !output.status.success() {
        bail!("losetup: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs one of the system's tools, which must succeed.
pub(crate) fn tool(words: &[&str], paths: &[&Path]) -> Result<()> {
    let (name, words) = words.split_first().context("no tool")?;
    let mut command = Command::new(name);
    command.args(words).args(paths).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot start {name}"))?;
    if !output.status.success() {
        bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Makes what this process mounts from now on be seen by itself and its children only, and go with
/// them. To be called while it has one thread.
///
/// # Errors
///
/// Only root may.
pub(crate) fn keep_mounts_private() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("mounts need root")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount::<str, str, str, str>(None, "/", None, flags, None).context("cannot keep mounts private")
}

/// Copies a file, leaving out what is not there.
///
/// # Errors
///
/// It cannot be read or written.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    tool(&["cp", "--sparse=always", "--"], &[from, to])
}

/// Returns a folder in memory, where there is one: images are written and thrown away by the thousand.
pub(crate) fn fast_folder(otherwise: &Path) -> Result<PathBuf> {
    let memory = Path::new("/dev/shm");
    let folder = match memory.is_dir() {
        true => memory.join(format!("eeveon-powercut-{}", std::process::id())),
        false => otherwise.join("images"),
    };
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}
