//! A host in a folder of its own, and what tests ask of it.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use eeveon_core::{
    Deployer, FileKind, Live, Placed, ProjectName, ReleaseNumber, Removal, StepError, Target, TargetName,
    Traffic,
};
use eeveon_host::{Host, HostOptions};
use eeveon_testkit::deployer::{FakeContents, Subject, permit};
use tempfile::TempDir;

/// Paths of a release, as [`FakeContents::release`] takes them.
pub(crate) type Paths<'a> = &'a [(&'a [u8], FileKind, &'a [u8])];

pub(crate) const FILE: FileKind = FileKind::Regular;
pub(crate) const EXECUTABLE: FileKind = FileKind::Executable;
pub(crate) const LINK: FileKind = FileKind::Symlink;
pub(crate) const FOLDER: FileKind = FileKind::Folder;

pub(crate) struct Scene {
    pub(crate) folder: TempDir,
    pub(crate) contents: Arc<FakeContents>,
    pub(crate) host: Host,
    pub(crate) target: Target,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut HostOptions)) -> Self {
        let folder = TempDir::new().unwrap();
        let contents = Arc::new(FakeContents::default());
        let host = host_at(&folder.path().join("shop"), &contents, change);
        Self { folder, contents, host, target: target() }
    }

    /// The same target, as another process would open it.
    pub(crate) fn again(&self, change: impl FnOnce(&mut HostOptions)) -> Host {
        host_at(&self.path(), &self.contents, change)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("shop")
    }

    pub(crate) fn release(&self, number: u64) -> PathBuf {
        self.host.release_path(ReleaseNumber(number))
    }

    pub(crate) async fn ship(&self, number: u64, paths: Paths<'_>) -> Result<Placed, StepError> {
        let release = self.contents.release(number, paths);
        self.host.ready(&permit(1), &self.target, &release).await?;
        self.host.ship(&permit(1), &self.target, &release).await
    }

    pub(crate) async fn place(&self, number: u64, paths: Paths<'_>) -> Result<Placed, StepError> {
        let shipped = self.ship(number, paths).await?;
        self.host.seal(&permit(1), &self.target, &self.contents.release(number, paths)).await?;
        Ok(shipped)
    }

    pub(crate) async fn turn(&self, number: u64) -> Result<(), StepError> {
        let path = self.release(number).to_str().unwrap().to_owned();
        let live = Live { release: ReleaseNumber(number), endpoint: eeveon_core::Endpoint(path) };
        self.host.turn(&permit(1), &self.target, Some(&live)).await
    }

    pub(crate) async fn deploy(&self, number: u64, paths: Paths<'_>) -> Placed {
        let placed = self.place(number, paths).await.unwrap();
        self.turn(number).await.unwrap();
        placed
    }

    pub(crate) async fn restore(&self, number: u64, paths: Paths<'_>) -> Result<Placed, StepError> {
        self.host.restore(&permit(1), &self.target, &self.contents.release(number, paths)).await
    }

    pub(crate) async fn remove(&self, number: u64, how: Removal) -> Result<(), StepError> {
        self.host.remove(&permit(1), &self.target, ReleaseNumber(number), how).await
    }

    pub(crate) async fn serving(&self) -> Option<u64> {
        self.host.serving(&self.target).await.unwrap().map(|live| live.release.0)
    }

    /// Everything below the target but our own folder, without following links.
    pub(crate) fn everything(&self) -> BTreeMap<Vec<u8>, Seen> {
        let mut all = tree(&self.path());
        all.retain(|path, _| !path.starts_with(b".eeveon"));
        all
    }
}

impl Subject for Scene {
    fn deployer(&self) -> &dyn Deployer {
        &self.host
    }

    fn traffic(&self) -> &dyn Traffic {
        &self.host
    }

    fn target(&self) -> &Target {
        &self.target
    }

    fn contents(&self) -> &FakeContents {
        &self.contents
    }
}

pub(crate) fn host_at(
    path: &Path,
    contents: &Arc<FakeContents>,
    change: impl FnOnce(&mut HostOptions),
) -> Host {
    let mut options = HostOptions {
        path: path.to_owned(),
        project: ProjectName::new("shop").unwrap(),
        home_id: "home-1".into(),
        shared_dirs: Vec::new(),
        shared_files: Vec::new(),
        commands_run: false,
        reserve_bytes: 0,
    };
    change(&mut options);
    Host::new(options, contents.clone()).unwrap()
}

pub(crate) fn target() -> Target {
    let name = TargetName::new("local").unwrap();
    Target { name, deployer: "host".into(), traffic: "symlink".into() }
}

pub(crate) fn code(result: Result<impl std::fmt::Debug, StepError>) -> &'static str {
    result.unwrap_err().diagnosis().code()
}

/// What stands at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Seen {
    File { mode: u32, content: Vec<u8> },
    Link(Vec<u8>),
    Folder { mode: u32 },
}

/// Reads a whole tree, without following links.
pub(crate) fn tree(root: &Path) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    let mut todo = vec![root.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let mode = meta.permissions().mode() & 0o7777;
            let seen = if meta.is_dir() {
                todo.push(path.clone());
                Seen::Folder { mode }
            } else if meta.is_symlink() {
                Seen::Link(path.read_link().unwrap().as_os_str().as_bytes().to_vec())
            } else {
                Seen::File { mode, content: fs::read(&path).unwrap() }
            };
            all.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), seen);
        }
    }
    all
}

/// What a release of these paths must look like.
pub(crate) fn expected(contents: &FakeContents, paths: Paths<'_>) -> BTreeMap<Vec<u8>, Seen> {
    let mut all = BTreeMap::new();
    for (path, kind, content) in paths {
        let mut at = *path;
        while let Some(end) = at.iter().rposition(|byte| *byte == b'/') {
            at = &at[..end];
            all.insert(at.to_vec(), Seen::Folder { mode: 0o755 });
        }
        let seen = match kind {
            FileKind::Regular => Seen::File { mode: 0o644, content: content.to_vec() },
            FileKind::Executable => Seen::File { mode: 0o755, content: content.to_vec() },
            FileKind::Symlink => Seen::Link(content.to_vec()),
            FileKind::Folder => Seen::Folder { mode: 0o755 },
        };
        all.insert(path.to_vec(), seen);
    }
    let commit = contents.release(0, paths).revision.commit;
    all.insert(b"REVISION".to_vec(), Seen::File { mode: 0o644, content: format!("{commit}\n").into_bytes() });
    all
}
