//! Where the repository lies, which files it has, and what cargo knows about it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::{run, rust_file::RustFile};

/// The repository.
#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// What `cargo metadata` says, as far as the chores need it.
///
/// Source: <https://doc.rust-lang.org/cargo/commands/cargo-metadata.html>
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    /// The packages of this workspace.
    pub(crate) packages: Vec<Package>,
    /// Where cargo puts what it builds.
    pub(crate) target_directory: PathBuf,
}

/// One package of the workspace.
#[derive(Debug, Deserialize)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// The oldest Rust it builds with.
    pub(crate) rust_version: Option<String>,
    /// Where its `Cargo.toml` lies.
    pub(crate) manifest_path: PathBuf,
    /// What it depends on directly.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One direct dependency.
#[derive(Debug, Deserialize)]
pub(crate) struct Dependency {
    /// The package depended on.
    pub(crate) name: String,
    /// `dev`, `build`, or nothing for a normal one.
    pub(crate) kind: Option<String>,
}

impl Workspace {
    /// Finds the repository this tool was built from.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in no folder")?;
        Ok(Self { root: root.to_owned() })
    }

    /// Returns the root folder.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Begins a command line of `program`, started in the root folder, without standard input.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(std::process::Stdio::null());
        command
    }

    /// Begins a command line of cargo.
    pub(crate) fn cargo(&self) -> Command {
        self.command("cargo")
    }

    /// Asks cargo about the packages.
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        let mut command = self.cargo();
        command.args(["metadata", "--no-deps", "--format-version=1", "--locked"]);
        serde_json::from_str(&run::output(&mut command)?).context("cannot read what cargo metadata says")
    }

    /// Makes a folder for what a chore writes, among what cargo builds. Every checkout has its own,
    /// and always the same one.
    pub(crate) fn scratch(&self) -> Result<PathBuf> {
        let name = self.root.to_string_lossy().replace('/', "-");
        let folder = self.metadata()?.target_directory.join("xtask").join(name.trim_start_matches('-'));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }

    /// Lists every file that is or would be in the repository, relative to the root, sorted.
    pub(crate) fn files(&self) -> Result<Vec<String>> {
        let mut command = self.command("git");
        command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let listing = run::output(&mut command)?;
        let mut files: Vec<String> = listing
            .split_terminator('\0')
            // The index also lists what was just deleted.
            .filter(|file| self.root.join(file).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// Reads one file.
    pub(crate) fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(self.root.join(file)).with_context(|| format!("cannot read {file}"))
    }

    /// Reads every Rust source.
    pub(crate) fn rust_files(&self) -> Result<Vec<RustFile>> {
        let sources = self.files()?.into_iter().filter(|file| file.ends_with(".rs"));
        sources.map(|file| Ok(RustFile::parse(&file, &self.read(&file)?))).collect()
    }

    /// Returns `path` relative to the root.
    pub(crate) fn relative(&self, path: &Path) -> Result<String> {
        let inside =
            path.strip_prefix(&self.root).map_err(|_| anyhow!("{} lies elsewhere", path.display()))?;
        Ok(inside.to_string_lossy().into_owned())
    }
}
