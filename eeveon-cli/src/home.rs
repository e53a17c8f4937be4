//! The home folder: where EEveon keeps its projects, its store, its mirrors and its logs.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use eeveon_core::{DeploymentId, ProjectName};

use crate::CliError;

/// Paths below one home folder.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes the home, readable by nobody else, where it is not there yet.
    ///
    /// # Errors
    ///
    /// It cannot be made or entered.
    pub fn make(&self) -> Result<(), CliError> {
        for folder in [self.root.clone(), self.projects(), self.sources(), self.logs(), self.keys()] {
            self.make_private(&folder)?;
        }
        Ok(())
    }

    fn make_private(&self, folder: &Path) -> Result<(), CliError> {
        if folder.is_dir() {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(folder).map_err(|source| CliError::io("create", folder, source))
    }

    /// Finds the home: where it was asked to be, or `.eeveon` in the user's own.
    ///
    /// # Errors
    ///
    /// Neither is known.
    pub fn find(asked: Option<PathBuf>, user: Option<&PathBuf>) -> Result<Self, CliError> {
        let asked = asked.filter(|root| !root.as_os_str().is_empty());
        let root = asked.or_else(|| user.map(|user| user.join(".eeveon"))).ok_or(CliError::NoHome)?;
        let root = std::path::absolute(&root).map_err(|source| CliError::io("find", &root, source))?;
        Ok(Self { root })
    }

    /// Returns the folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder of project files.
    pub fn projects(&self) -> PathBuf {
        self.root.join("projects")
    }

    /// Returns the file of one project.
    pub fn project_file(&self, name: &ProjectName) -> PathBuf {
        self.projects().join(format!("{name}.toml"))
    }

    /// Tells whether there is no such project: it has no entry among the project files, and those can be
    /// listed. A link that leads nowhere, or a disk that is not there, says nothing of the kind.
    ///
    /// # Errors
    ///
    /// Nobody can tell.
    pub fn is_gone(&self, name: &ProjectName) -> Result<bool, CliError> {
        let file = self.project_file(name);
        match fs::symlink_metadata(&file) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(!self.project_names()?.contains(name))
            }
            Err(error) => Err(CliError::io("read", &file, error)),
        }
    }

    /// Returns the store's file.
    pub fn store(&self) -> PathBuf {
        self.root.join("eeveon.db")
    }

    /// Returns the folder of mirrors.
    pub fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// Returns the bare mirror of one project.
    pub fn mirror(&self, name: &ProjectName) -> PathBuf {
        self.sources().join(format!("{name}.git"))
    }

    /// Returns where this process may make a mirror for one question only.
    pub fn probe(&self) -> PathBuf {
        self.sources().join(format!(".probe-{}.git", std::process::id()))
    }

    /// Returns where a mirror goes before it is removed.
    pub fn aside(&self, name: &ProjectName) -> PathBuf {
        self.sources().join(format!("{GONE}{name}.git"))
    }

    /// Returns the folder of step output.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Returns the folder of one deployment's step output.
    pub fn log_folder(&self, deployment: DeploymentId) -> PathBuf {
        self.logs().join(deployment.to_string())
    }

    /// Returns the folder of keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// Returns where a project is deployed unless its file says otherwise.
    pub fn default_site(&self, name: &ProjectName) -> PathBuf {
        self.root.join("sites").join(name.as_str())
    }

    /// Returns what tells this home from every other one: 32 hexadecimal digits, made once.
    ///
    /// # Errors
    ///
    /// The file that holds it cannot be read or made.
    pub fn id(&self) -> Result<String, CliError> {
        let path = self.root.join("id");
        match fs::read_to_string(&path) {
            Ok(text) if text.trim_end().len() == 32 => return Ok(text.trim_end().to_owned()),
            Ok(_) => return Err(CliError::HomeDamaged { path }),
            // A home that was used before had one: what it deployed would not know a new one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.store().exists() => {
                return Err(CliError::HomeDamaged { path });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CliError::io("read", &path, error)),
        }
        let random: [u8; 16] = random()?;
        let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Whoever is first wins; the others read what it wrote.
        match write_new(&path, format!("{id}\n").as_bytes(), Replace::Never) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.id(),
            Err(error) => Err(CliError::io("write", &path, error)),
            Ok(()) => Ok(id),
        }
    }

    /// Keeps other processes from changing project files for as long as the result lives.
    ///
    /// # Errors
    ///
    /// The folder cannot be opened, or another process keeps it locked for longer than a change
    /// takes.
    pub async fn lock_projects(&self) -> Result<fs::File, CliError> {
        /// Together some seconds; a change takes milliseconds.
        const TRIES: u32 = 100;
        let folder = self.projects();
        let failed = |source| CliError::io("lock", &folder, source);
        let lock = fs::File::open(&folder).map_err(failed)?;
        for _ in 0..TRIES {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(fs::TryLockError::WouldBlock) => {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Err(failed(io::ErrorKind::TimedOut.into()))
    }

    /// Lists the projects, by name.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn project_names(&self) -> Result<Vec<ProjectName>, CliError> {
        let folder = self.projects();
        let unreadable = |error| CliError::io("read", &folder, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
            names.extend(name.and_then(|name| ProjectName::new(name).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// Removes what a process that died while writing left in the home.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub fn sweep(&self) -> Result<(), CliError> {
        for folder in [self.root.clone(), self.projects()] {
            let unreadable = |error| CliError::io("read", &folder, error);
            for entry in fs::read_dir(&folder).map_err(unreadable)? {
                let entry = entry.map_err(unreadable)?;
                let file = entry.file_name();
                let pid = file
                    .to_str()
                    .and_then(|file| file.strip_prefix(TEMPORARY))
                    .and_then(|rest| rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok()));
                if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                    fs::remove_file(entry.path())
                        .map_err(|error| CliError::io("remove", &entry.path(), error))?;
                }
            }
        }
        let folder = self.sources();
        let unreadable = |error| CliError::io("read", &folder, error);
        for entry in fs::read_dir(&folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let file = entry.file_name();
            let Some(name) = file.to_str().filter(|name| name.starts_with('.')) else { continue };
            // `.probe-PID.git`, and what a mirror is called while it is made: `.NAME.git.new-PID`.
            let pid =
                name.trim_end_matches(".git").rsplit('-').next().and_then(|pid| pid.parse::<u32>().ok());
            let is_dead = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
            if name.starts_with(GONE) || is_dead {
                match fs::remove_dir_all(entry.path()) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(CliError::io("remove", &entry.path(), error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Keeps some space in hand, so that going back works on a full disk. As good as it can: without
    /// it everything works as long as there is space.
    pub fn keep_ballast(&self) {
        /// More than the store writes for a rollback.
        const BALLAST: usize = 2 << 20;
        let path = self.root.join(BALLAST_FILE);
        let space =
            rustix::fs::statvfs(&self.root).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        if !path.exists() && space > 16 * BALLAST as u64 {
            let _as_good_as_it_can = write_new(&path, &vec![0; BALLAST], Replace::Always);
        }
    }

    /// Gives the space in hand away. Returns whether there was any.
    pub fn drop_ballast(&self) -> bool {
        fs::remove_file(self.root.join(BALLAST_FILE)).is_ok()
    }

    /// Refuses to work on projects of a home that belongs to another user, as root could: its owner could
    /// not go on with what is made then.
    ///
    /// # Errors
    ///
    /// `cli/other-user`.
    pub fn check_owner(&self) -> Result<(), CliError> {
        let me = rustix::process::geteuid().as_raw();
        match fs::metadata(self.store()) {
            Ok(found) if found.uid() != me => {
                Err(CliError::OtherUser { home: self.root.clone(), uid: found.uid() })
            }
            _ => Ok(()),
        }
    }

    /// Tells who else may look into the home, as an octal mode; `None` when nobody may.
    pub fn exposed(&self) -> Option<u32> {
        let mode = fs::metadata(&self.root).ok()?.permissions().mode() & 0o777;
        (mode & 0o077 != 0).then_some(mode)
    }
}

/// How mirrors are called that are being removed.
const GONE: &str = ".gone-";

/// The file that only takes up space.
const BALLAST_FILE: &str = "ballast";

/// How names of files begin that are still being written; the writer's process id follows.
const TEMPORARY: &str = ".tmp-";

/// Returns bytes nobody can guess, from the system.
///
/// # Errors
///
/// The system has none.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], CliError> {
    let mut bytes = [0; N];
    let source = Path::new("/dev/urandom");
    let read = fs::File::open(source).and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|error| CliError::io("read", source, error))?;
    Ok(bytes)
}

/// Whether a file may take the place of another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Replace {
    /// It takes the place of what is there.
    Always,
    /// It is an error when something is there.
    Never,
}

/// Writes a file so that after any death, and after a power cut, either the old or the new content
/// is there in full: write beside, fsync, rename, fsync of the folder. Mode 0600.
///
/// # Errors
///
/// Any step failed, or something is there already and may not be replaced.
pub(crate) fn write_new(path: &Path, content: &[u8], replace: Replace) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let file_name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    let beside = folder.join(format!("{TEMPORARY}{}-{file_name}", std::process::id()));
    let written = (|| {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&beside)?;
        keep_owner(&file, path, folder)?;
        file.write_all(content)?;
        file.sync_all()?;
        match replace {
            Replace::Always => fs::rename(&beside, path)?,
            Replace::Never => {
                fs::hard_link(&beside, path)?;
                fs::remove_file(&beside)?;
            }
        }
        fs::File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        // The error that counts is the first one; a leftover is swept by the next command.
        let _best_effort = fs::remove_file(&beside);
    }
    written
}

/// Lets a file that root writes belong to whom the one before belonged, or the folder it lies in: the
/// home's owner has to read it.
fn keep_owner(file: &fs::File, before: &Path, folder: &Path) -> io::Result<()> {
    let owner = fs::symlink_metadata(before).or_else(|_| fs::metadata(folder))?;
    if file.metadata()?.uid() == owner.uid() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::find(Some(folder.path().join("home")), None).unwrap();
        home.make().unwrap();
        (folder, home)
    }

    #[test]
    fn a_home_is_private_and_keeps_its_id() {
        let (_folder, home) = home();
        assert_eq!(home.exposed(), None);
        assert_eq!(home.id().unwrap(), home.id().unwrap());
        fs::write(home.root().join("id"), "short").unwrap();
        assert!(matches!(home.id(), Err(CliError::HomeDamaged { .. })));
    }

    #[test]
    fn what_root_writes_stays_its_owners() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("only root can give files away; skipped");
            return;
        }
        let (_folder, home) = home();
        let path = home.projects().join("a.toml");
        assert!(home.check_owner().is_ok(), "nothing is there");
        fs::write(home.store(), "").unwrap();
        assert!(home.check_owner().is_ok());
        std::os::unix::fs::chown(home.store(), Some(65534), Some(65534)).unwrap();
        for folder in [home.root(), &home.projects()] {
            std::os::unix::fs::chown(folder, Some(65534), Some(65534)).unwrap();
        }
        for content in [b"one", b"two"] {
            write_new(&path, content, Replace::Always).unwrap();
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.uid(), found.gid(), found.permissions().mode() & 0o777), (65534, 65534, 0o600));
        }
        assert!(matches!(home.check_owner(), Err(CliError::OtherUser { uid: 65534, .. })));
    }

    #[test]
    fn what_may_not_be_replaced_is_not() {
        let (_folder, home) = home();
        let path = home.projects().join("a.toml");
        write_new(&path, b"one", Replace::Never).unwrap();
        assert_eq!(
            write_new(&path, b"two", Replace::Never).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_new(&path, b"two", Replace::Always).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(home.projects()).unwrap().count(), 1);
    }

    #[test]
    fn only_files_of_dead_writers_are_swept() {
        let (_folder, home) = home();
        let mine = home.projects().join(format!("{TEMPORARY}{}-a.toml", std::process::id()));
        // Process ids end at 2^22 on Linux.
        let dead = home.projects().join(format!("{TEMPORARY}4194305-a.toml"));
        fs::write(&mine, "").unwrap();
        fs::write(&dead, "").unwrap();
        home.sweep().unwrap();
        assert!(mine.exists() && !dead.exists());
    }
}
