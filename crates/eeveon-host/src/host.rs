//! [`Host`]: what one project needs to know about one path, and the traits it serves.

use std::{
    fmt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicBool},
};

use async_trait::async_trait;
use eeveon_core::{
    CommitId, Contents, Deployer, Endpoint, Fence, Live, Permit, Placed, Present, ProjectName, Release,
    ReleaseNumber, Removal, StepError, Target, Traffic, action::Stopped, offload,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Changes, HostError,
    disk::Folder,
    error::Place,
    layout::{CURRENT, RELEASES, SHARED, link_to},
    ledger,
    manifest::Header,
    place::Source,
    remove::Purged,
    space::Estimate,
    target::{self, Owner, Site},
    verify::Difference,
    wanted::{Shared, Wanted},
};

/// What a [`Host`] must be told.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Where the project is deployed; absolute.
    pub path: PathBuf,
    /// Which project.
    pub project: ProjectName,
    /// Names the home that deploys, so that two homes never deploy to one path.
    pub home_id: String,
    /// Folders that outlive releases, relative to a release. Made when they do not exist. What the
    /// repository has at such a place is left out of releases, and not copied either.
    pub shared_dirs: Vec<String>,
    /// Files that outlive releases, relative to a release. They must exist before the first deploy.
    pub shared_files: Vec<String>,
    /// Whether commands run in a release before it is complete. Then it never has a file in common
    /// with another release, because a command could write to it.
    pub commands_run: bool,
    /// How many bytes must stay free on the disk.
    pub reserve_bytes: u64,
}

/// Releases on this machine: folders below a path, and the link that decides which is live.
///
/// Cheap to clone. What it does keeps no other task waiting ([`offload()`]) and stops soon after its
/// permit is cancelled.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

/// What the blocking side works with.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: HostOptions,
    pub(crate) owner: Owner,
    pub(crate) shared: Shared,
    pub(crate) contents: Arc<dyn Contents>,
    /// Whether the file system clones files; believed until it refuses.
    pub(crate) clones: AtomicBool,
    fine_times: OnceLock<bool>,
    /// The newest list of what a release consists of: planning, getting ready and shipping all ask.
    wanted: Mutex<Option<(CommitId, Arc<Wanted>)>>,
    /// The folder of releases, opened before the release that is being made: syncfs(2) reports every
    /// failed write since then.
    pub(crate) held: Mutex<Option<(ReleaseNumber, Folder)>>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("path", &self.inner.options.path).finish_non_exhaustive()
    }
}

impl Host {
    /// Makes a host that takes what releases consist of from `contents`. Touches nothing.
    ///
    /// # Errors
    ///
    /// `host/bad-path`, `host/bad-shared`.
    pub fn new(options: HostOptions, contents: Arc<dyn Contents>) -> Result<Self, HostError> {
        let bad = |rule| Err(HostError::BadPath { path: Place::new(&options.path), rule });
        if !options.path.is_absolute() {
            return bad("it is not absolute");
        }
        if options.path.to_str().is_none() {
            return bad("it is not UTF-8");
        }
        if options.path.components().any(|part| part == std::path::Component::ParentDir) {
            return bad("it has a `..`");
        }
        let inner = Inner {
            owner: Owner::new(options.home_id.clone(), options.project.clone()),
            shared: Shared::new(&options.shared_dirs, &options.shared_files)?,
            contents,
            clones: AtomicBool::new(true),
            fine_times: OnceLock::new(),
            wanted: Mutex::default(),
            held: Mutex::default(),
            options,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the folder of a release.
    pub fn release_path(&self, release: ReleaseNumber) -> PathBuf {
        self.inner.release_path(release)
    }

    /// Returns the link that decides which release is live.
    pub fn current_path(&self) -> PathBuf {
        self.inner.options.path.join(name(CURRENT))
    }

    /// Returns the folder of what outlives releases.
    pub fn shared_path(&self) -> PathBuf {
        self.inner.options.path.join(name(SHARED))
    }

    /// Returns the highest fence the target has seen; zero when the path is not ours, be it not yet or
    /// because it is someone else's: getting ready says that better. Blocks for a moment; changes
    /// nothing.
    ///
    /// # Errors
    ///
    /// `host/damaged`, `host/newer-format`, or that it cannot be read.
    pub fn fence(&self) -> Result<Fence, HostError> {
        match target::seen(&self.inner.options.path, &self.inner.owner) {
            Err(HostError::NotOurs { .. } | HostError::OtherHome { .. }) => Ok(Fence(0)),
            seen => Ok(seen?.unwrap_or(Fence(0))),
        }
    }

    /// Lists how a sealed release differs from what it was when it was sealed, sorted by path.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// `host/release-missing`, `host/release-unsealed`, `host/damaged`, or that it cannot be read.
    pub async fn compare(&self, release: ReleaseNumber) -> Result<Vec<Difference>, StepError> {
        self.look(move |inner, permit| inner.compare(permit, release)).await
    }

    /// Tells what deploying `release` would change against what is live, and the room it takes.
    /// Changes nothing.
    ///
    /// # Errors
    ///
    /// The source or the target cannot be read.
    pub async fn estimate(&self, permit: &Permit, release: &Release) -> Result<Estimate, StepError> {
        let release = release.clone();
        self.blocking(permit, move |inner, permit| inner.estimate(permit, &release)).await
    }

    /// Tells in which files `to` differs from `from`, both sealed releases. Changes nothing.
    ///
    /// # Errors
    ///
    /// `host/release-missing`, `host/damaged`, or that it cannot be read.
    pub async fn changes(&self, from: ReleaseNumber, to: ReleaseNumber) -> Result<Changes, StepError> {
        self.look(move |inner, _| inner.changes(from, to)).await
    }

    /// Removes what processes that died left behind. Only for the holder of the project's lease.
    /// Returns how many things were removed.
    ///
    /// # Errors
    ///
    /// `host/fenced`, `host/locked`, or that something cannot be removed.
    pub async fn sweep(&self, permit: &Permit) -> Result<u64, StepError> {
        self.blocking(permit, Inner::sweep).await
    }

    /// Removes everything that is ours: the link, all releases, our own files. What is not ours, and
    /// shared files, stay.
    ///
    /// # Errors
    ///
    /// `host/not-ours`, `host/other-home`, `host/fenced`, or that something cannot be removed.
    pub async fn purge(&self, permit: &Permit) -> Result<Purged, StepError> {
        self.blocking(permit, Inner::purge).await
    }

    /// Runs `work` where it keeps no other task waiting.
    async fn blocking<T: Send + 'static>(
        &self,
        permit: &Permit,
        work: impl FnOnce(&Inner, &Permit) -> Result<T, StepError> + Send + 'static,
    ) -> Result<T, StepError> {
        let (inner, permit) = (Arc::clone(&self.inner), permit.clone());
        match offload(move || work(&inner, &permit)).await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime is shutting down.
                Err(_) => Err(Stopped.into()),
            },
        }
    }

    /// Runs `work`, which changes nothing and needs no permission.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &Permit) -> Result<T, StepError> + Send + 'static,
    ) -> Result<T, StepError> {
        let permit = Permit::new(Fence(0), CancellationToken::new());
        self.blocking(&permit, work).await
    }
}

#[async_trait]
impl Deployer for Host {
    async fn ready(&self, permit: &Permit, _: &Target, release: &Release) -> Result<(), StepError> {
        let release = release.clone();
        self.blocking(permit, move |inner, permit| inner.ready(permit, &release)).await
    }

    async fn ship(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        let release = release.clone();
        self.blocking(permit, move |inner, permit| inner.ship(permit, &release)).await
    }

    async fn seal(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        let release = release.clone();
        self.blocking(permit, move |inner, permit| inner.seal(permit, &release)).await
    }

    async fn restore(&self, permit: &Permit, _: &Target, release: &Release) -> Result<Placed, StepError> {
        let release = release.clone();
        self.blocking(permit, move |inner, permit| inner.restore(permit, &release)).await
    }

    // A folder of files is there, or it is not.
    async fn boot(&self, _: &Permit, _: &Target, release: &Release) -> Result<Endpoint, StepError> {
        Ok(self.inner.endpoint(release.number))
    }

    async fn remove(
        &self,
        permit: &Permit,
        _: &Target,
        release: ReleaseNumber,
        how: Removal,
    ) -> Result<(), StepError> {
        self.blocking(permit, move |inner, permit| inner.remove(permit, release, how)).await
    }

    async fn present(&self, _: &Target) -> Result<Vec<Present>, StepError> {
        self.look(|inner, _| inner.present()).await
    }
}

#[async_trait]
impl Traffic for Host {
    async fn serving(&self, _: &Target) -> Result<Option<Live>, StepError> {
        self.look(|inner, _| inner.serving()).await
    }

    async fn turn(&self, permit: &Permit, _: &Target, live: Option<&Live>) -> Result<(), StepError> {
        let release = live.map(|live| live.release);
        self.blocking(permit, move |inner, permit| inner.turn(permit, release)).await
    }
}

impl Inner {
    pub(crate) fn release_path(&self, release: ReleaseNumber) -> PathBuf {
        self.options.path.join(name(&link_to(release)))
    }

    pub(crate) fn releases_path(&self) -> PathBuf {
        self.options.path.join(name(RELEASES))
    }

    pub(crate) fn endpoint(&self, release: ReleaseNumber) -> Endpoint {
        // `Host::new` saw that the path is UTF-8.
        Endpoint(self.release_path(release).to_string_lossy().into_owned())
    }

    pub(crate) fn placed(&self, header: &Header) -> Placed {
        let Header { release, files, bytes, written, .. } = *header;
        Placed { endpoint: self.endpoint(release), files, bytes, written, extra: 0 }
    }

    pub(crate) fn site(&self) -> Result<Option<Site>, HostError> {
        Site::find(&self.options.path, &self.owner)
    }

    pub(crate) fn adopt(&self, permit: &Permit) -> Result<Site, StepError> {
        Site::adopt(&self.options.path, &self.owner, permit)
    }

    /// Opens the site, which must exist for anything to be there.
    pub(crate) fn site_of(&self, release: ReleaseNumber) -> Result<Site, HostError> {
        self.site()?.ok_or_else(|| self.missing(release))
    }

    pub(crate) fn missing(&self, release: ReleaseNumber) -> HostError {
        HostError::ReleaseMissing { release, path: Place::new(&self.release_path(release)) }
    }

    /// Tells whether change times on the target tell any two changes apart.
    pub(crate) fn fine_times(&self, own: &Folder) -> bool {
        *self.fine_times.get_or_init(|| ledger::has_fine_times(own).unwrap_or(false))
    }

    /// Returns what `release` should consist of.
    pub(crate) fn wanted(
        &self,
        release: &Release,
        cancel: &CancellationToken,
    ) -> Result<Arc<Wanted>, StepError> {
        let commit = &release.revision.commit;
        if let Some((of, wanted)) = &*lock(&self.wanted)
            && of == commit
        {
            return Ok(Arc::clone(wanted));
        }
        let listed = self.contents.list(release, cancel)?;
        let mut source = Source::new(&*self.contents, release);
        let wanted = Wanted::new(listed, &self.shared, commit, |id, out| {
            if cancel.is_cancelled() {
                return Err(Stopped.into());
            }
            source.reader()?.read(id, out)
        })?;
        let wanted = Arc::new(wanted);
        *lock(&self.wanted) = Some((commit.clone(), Arc::clone(&wanted)));
        Ok(wanted)
    }

    /// Lets go of what is only needed until a release is shipped.
    pub(crate) fn forget_wanted(&self) {
        *lock(&self.wanted) = None;
    }
}

/// A guard of plain data is as good after a panic as before.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
