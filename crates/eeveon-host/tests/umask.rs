//! What the umask is does not matter. A test binary of its own, because the umask is the process's.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, sync::Arc};

use eeveon_core::{Deployer, FileKind, ProjectName, Target, TargetName};
use eeveon_host::{Host, HostOptions};
use eeveon_testkit::deployer::{FakeContents, permit};
use rustix::{fs::Mode, process::umask};

#[tokio::test]
async fn permissions_do_not_depend_on_the_umask() {
    let folder = tempfile::TempDir::new().unwrap();
    let before = umask(Mode::empty());
    for mask in [0o000, 0o022, 0o077, 0o777] {
        let path = folder.path().join(format!("{mask:o}"));
        let contents = Arc::new(FakeContents::default());
        let options = HostOptions {
            path: path.clone(),
            project: ProjectName::new("shop").unwrap(),
            home_id: "home-1".into(),
            shared_dirs: Vec::new(),
            shared_files: Vec::new(),
            commands_run: false,
            reserve_bytes: 0,
        };
        // The path itself is the operator's business; with this umask nobody could enter it.
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let host = Host::new(options, contents.clone()).unwrap();
        let name = TargetName::new("local").unwrap();
        let target = Target { name, deployer: "host".into(), traffic: "symlink".into() };
        let release = contents.release(
            1,
            &[
                (b"a/b/file", FileKind::Regular, b"x"),
                (b"a/run", FileKind::Executable, b"x"),
                (b"empty", FileKind::Folder, b""),
            ],
        );
        umask(Mode::from_raw_mode(mask));
        let shipped = host.ship(&permit(1), &target, &release).await;
        umask(Mode::empty());
        shipped.unwrap();
        let mode = |name: &str| {
            let meta = fs::metadata(path.join("releases/1").join(name)).unwrap();
            meta.permissions().mode() & 0o7777
        };
        let folders: BTreeSet<_> = ["", "a", "a/b", "empty"].map(mode).into();
        assert_eq!(folders, BTreeSet::from([0o755]), "umask {mask:o}");
        assert_eq!(
            (mode("a/b/file"), mode("a/run"), mode("REVISION")),
            (0o644, 0o755, 0o644),
            "umask {mask:o}"
        );
    }
    umask(before);
}
