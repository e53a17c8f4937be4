//! The place where a case happens: a fence, in it a user with secrets, and the little that a deploy
//! may change.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::repo::Repo;

/// What nobody may ever see again.
pub(crate) const SECRET: &str = "K7vQ2x9-hunter2_Zp4Lw8Tb~Rn5";

/// A place of its own for one case.
#[derive(Debug)]
pub(crate) struct Place {
    fence: PathBuf,
}

/// One thing inside the fence: what it is, who may, when it was written, what is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Item {
    mode: u32,
    links: u64,
    modified: (i64, i64),
    content: Vec<u8>,
}

/// Everything inside the fence but what a deploy may change, by path.
#[derive(Debug)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Item>);

impl Place {
    /// Makes it anew in `folder`.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let place = Self { fence: folder.join("fence") };
        if place.fence.exists() {
            fs::remove_dir_all(&place.fence)
                .with_context(|| format!("cannot empty {}", place.fence.display()))?;
        }
        for made in
            [place.user().join(".ssh"), place.temporary(), place.outside(), place.site(), place.repos()]
        {
            fs::create_dir_all(&made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        fs::remove_dir(place.site())?;
        for (name, content) in [
            (".ssh/id_ed25519", format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n")),
            (".netrc", format!("machine example.org login ada password {SECRET}\n")),
            (".npmrc", format!("//registry.npmjs.org/:_authToken={SECRET}\n")),
            (".env", format!("TOKEN={SECRET}\n")),
            (".git-credentials", format!("https://ada:{SECRET}@example.org\n")),
            ("hook", format!("http://127.0.0.1:9/{SECRET}\n")),
        ] {
            let file = place.user().join(name);
            fs::write(&file, content).with_context(|| format!("cannot write {}", file.display()))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        fs::write(place.victim(), "as it was\n")?;
        Ok(place)
    }

    /// Returns the home of the user who deploys.
    pub(crate) fn user(&self) -> PathBuf {
        self.fence.join("user")
    }

    /// Returns the folder for temporary files.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.fence.join("tmp")
    }

    /// Returns a folder nobody has any business in.
    pub(crate) fn outside(&self) -> PathBuf {
        self.fence.join("outside")
    }

    /// Returns a file in it.
    pub(crate) fn victim(&self) -> PathBuf {
        self.outside().join("victim")
    }

    /// Returns a file that only a program nobody asked for would make.
    pub(crate) fn pwned(&self) -> String {
        self.outside().join("pwned").to_string_lossy().into_owned()
    }

    /// Returns where the repositories lie.
    pub(crate) fn repos(&self) -> PathBuf {
        self.fence.join("repos")
    }

    /// Makes the repository that is deployed.
    pub(crate) fn repo(&self) -> Result<Repo> {
        Repo::make(&self.repos().join("hostile.git"))
    }

    /// Returns EEveon's home, which it may change.
    pub(crate) fn home(&self) -> PathBuf {
        self.fence.join("eeveon")
    }

    /// Returns the path that is deployed to, which it may change. Deep enough inside the fence that
    /// many `../` do not leave it.
    pub(crate) fn site(&self) -> PathBuf {
        self.fence.join("a/b/c/d/e/f/g/h/site")
    }

    /// Looks at everything that must stay as it is.
    ///
    /// # Errors
    ///
    /// Something cannot be read.
    pub(crate) fn snapshot(&self) -> Result<Snapshot> {
        let mut items = BTreeMap::new();
        gather(&self.fence, &[self.home(), self.site()], &mut items)
            .with_context(|| format!("cannot read {}", self.fence.display()))?;
        Ok(Snapshot(items))
    }
}

fn gather(folder: &Path, without: &[PathBuf], items: &mut BTreeMap<PathBuf, Item>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if without.contains(&path) {
            continue;
        }
        let meta = path.symlink_metadata()?;
        let content = match (meta.is_file(), meta.is_symlink()) {
            (true, _) => fs::read(&path)?,
            (_, true) => fs::read_link(&path)?.as_os_str().as_bytes().to_vec(),
            _ => Vec::new(),
        };
        // What is made in a folder changes its time and count; the two that may come and go are left out.
        let is_parent = without.iter().any(|it| it.parent() == Some(&path));
        let (links, modified) = match is_parent {
            true => (0, (0, 0)),
            false => (meta.nlink(), (meta.mtime(), meta.mtime_nsec())),
        };
        items.insert(path.clone(), Item { mode: meta.mode(), links, modified, content });
        if meta.is_dir() {
            gather(&path, without, items)?;
        }
    }
    Ok(())
}

impl Snapshot {
    /// Tells what is not as it was.
    pub(crate) fn changes(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for path in before.0.keys().chain(self.0.keys().filter(|path| !before.0.contains_key(*path))) {
            let word = match (before.0.get(path), self.0.get(path)) {
                (Some(old), Some(new)) if old == new => continue,
                (None, _) => "appeared",
                (_, None) => "vanished",
                _ => "changed",
            };
            changes.push(format!("{} {word}", path.display()));
        }
        changes
    }
}
