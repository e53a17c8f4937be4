//! A disk without a byte left: deploying says so, going back works.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use eeveon_core::{Deployer, Endpoint, Fence, FileKind, Live, Permit, ReleaseNumber, Traffic};
use eeveon_testkit::{
    deployer::{FakeContents, permit},
    skip_unless,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::common::{FILE, Paths, code, expected, host_at, target, tree};

/// A small file system of its own; unmounted when dropped.
struct Disk {
    folder: TempDir,
}

impl Disk {
    /// Mounts a file system of 8 MiB, or says that this user may not.
    fn mount(kind: &str) -> Result<Self, String> {
        let folder = TempDir::new().unwrap();
        let at = folder.path().join("mnt");
        fs::create_dir(&at).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            Command::new(program).args(arguments).output().is_ok_and(|done| done.status.success())
        };
        let at = at.to_str().unwrap().to_owned();
        let mounted = match kind {
            "tmpfs" => run("mount", &["-t", "tmpfs", "-o", "size=8m", "tmpfs", &at]),
            _ => {
                let image = folder.path().join("image");
                fs::File::create(&image).unwrap().set_len(8 << 20).unwrap();
                let image = image.to_str().unwrap();
                run("mkfs.ext4", &["-q", "-m", "0", image]) && run("mount", &["-o", "loop", image, &at])
            }
        };
        if mounted { Ok(Self { folder }) } else { Err(format!("this user may not mount a small {kind}")) }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mnt")
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.path().join("filler")).unwrap();
        for size in [64 << 10, 1024, 1] {
            let block = vec![1; size];
            while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

const OLD: Paths<'_> = &[(b"a", FILE, b"old"), (b"same/1", FILE, b"same")];
const NEW: Paths<'_> = &[(b"a", FILE, b"new"), (b"same/1", FILE, b"same")];

async fn go_back_on_a_full(disk: Disk) {
    let contents = Arc::new(FakeContents::default());
    let path = disk.path().join("shop");
    let host = host_at(&path, &contents, |_| ());
    let target = target();
    for (number, paths) in [(1, OLD), (2, NEW)] {
        let release = contents.release(number, paths);
        host.ship(&permit(1), &target, &release).await.unwrap();
        host.seal(&permit(1), &target, &release).await.unwrap();
        host.turn(&permit(1), &target, Some(&live(&path, number))).await.unwrap();
    }
    disk.fill();
    let next = Permit::new(Fence(2), CancellationToken::new());

    let big = vec![3; 1 << 20];
    let paths: &[(&[u8], FileKind, &[u8])] = &[(b"big", FILE, &big)];
    let release = contents.release(3, paths);
    let refused = host.ready(&next, &target, &release).await.unwrap_err();
    assert_eq!(refused.diagnosis().code(), "host/disk-full");
    let failed = host.ship(&next, &target, &release).await.unwrap_err();
    assert_eq!(failed.diagnosis().code(), "host/disk-full");
    assert!(failed.to_string().contains("/shop/"), "the path is named: {failed}");
    assert_eq!(code(host.seal(&next, &target, &release).await), "host/release-missing");
    host.remove(&next, &target, ReleaseNumber(3), eeveon_core::Removal::SetAside).await.unwrap();
    disk.fill();

    // A higher fence, as a later command has.
    let later = Permit::new(Fence(3), CancellationToken::new());
    host.restore(&later, &target, &contents.release(1, OLD)).await.unwrap();
    host.turn(&later, &target, Some(&live(&path, 1))).await.unwrap();
    assert_eq!(host.serving(&target).await.unwrap(), Some(live(&path, 1)));
    assert_eq!(tree(&path.join("current")), expected(&contents, OLD));
    assert_eq!(code(host.turn(&next, &target, None).await), "host/fenced");
}

fn live(path: &Path, number: u64) -> Live {
    let endpoint = path.join(format!("releases/{number}")).to_str().unwrap().to_owned();
    Live { release: ReleaseNumber(number), endpoint: Endpoint(endpoint) }
}

#[tokio::test]
async fn going_back_works_on_a_full_tmpfs() {
    let disk = Disk::mount("tmpfs");
    skip_unless!(disk.as_ref());
    go_back_on_a_full(disk.unwrap()).await;
}

#[tokio::test]
async fn going_back_works_on_a_full_ext4() {
    let disk = Disk::mount("ext4");
    skip_unless!(disk.as_ref());
    go_back_on_a_full(disk.unwrap()).await;
}
