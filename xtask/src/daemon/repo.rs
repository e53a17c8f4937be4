//! Repositories with a history made in advance: to push is to move the branch, which costs next to
//! nothing, and what every commit looks like is known without asking git.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use super::dice::Dice;

/// What a repository looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Files in each commit, beside the one that holds the commit's number.
    pub(crate) files: usize,
    /// Bytes of each.
    pub(crate) bytes: usize,
    /// Commits.
    pub(crate) commits: usize,
}

/// The name of the file that holds the number of its commit.
pub(crate) const NUMBER: &str = "number";

/// A bare repository whose branch `main` does not name all of its commits yet.
#[derive(Debug)]
pub(crate) struct Repo {
    folder: PathBuf,
    shape: Shape,
    ids: Vec<String>,
}

/// Files with their modes and contents, by path.
pub(crate) type Files = BTreeMap<String, (u32, Vec<u8>)>;

impl Repo {
    /// Makes it in `folder`, with nothing pushed.
    ///
    /// # Errors
    ///
    /// git fails.
    pub(crate) fn make(folder: &Path, shape: Shape) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command.arg("-C").arg(folder).args(words).env("GIT_CONFIG_GLOBAL", "/dev/null");
            command.stdout(Stdio::null());
            command
        };
        let made = git(&["init", "--quiet", "--bare", "--initial-branch=main"]).status()?;
        ensure!(made.success(), "git made no repository in {}", folder.display());
        let marks = folder.join("marks");
        let mut import = git(&["fast-import", "--quiet", "--export-marks=marks"]);
        let mut import = import.current_dir(folder).stdin(Stdio::piped()).spawn()?;
        let mut input = import.stdin.take().context("git reads nothing")?;
        for commit in 1..=shape.commits {
            let mut head = format!(
                "commit refs/heads/all\nmark :{commit}\ncommitter Ada <ada@example.org> {} +0000\n",
                1_700_000_000 + commit
            );
            let subject = format!("number {commit}");
            write!(head, "data {}\n{subject}\n", subject.len())?;
            input.write_all(head.as_bytes())?;
            let changed = if commit == 1 { shape.all() } else { shape.changed(commit) };
            for (path, (mode, content)) in changed {
                writeln!(input, "M {mode:o} inline {path}\ndata {}", content.len() + 1)?;
                input.write_all(&content)?;
                input.write_all(b"\n\n")?;
            }
        }
        drop(input);
        ensure!(import.wait()?.success(), "git imported nothing into {}", folder.display());
        let marks = fs::read_to_string(&marks).context("git left no marks")?;
        let mut ids = vec![String::new(); shape.commits];
        for line in marks.lines() {
            let (mark, id) = line.split_once(' ').context("a mark without a commit")?;
            let number: usize = mark.trim_start_matches(':').parse()?;
            *ids.get_mut(number.wrapping_sub(1)).context("a mark of no commit")? = id.to_owned();
        }
        // Objects stay; what is not pushed yet, nobody finds.
        ensure!(git(&["update-ref", "-d", "refs/heads/all"]).status()?.success(), "git removed no branch");
        Ok(Self { folder: folder.to_owned(), shape, ids })
    }

    /// Returns where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns how many commits there are.
    pub(crate) fn commits(&self) -> usize {
        self.ids.len()
    }

    /// Returns the id of a commit, the first being 1.
    pub(crate) fn id(&self, commit: usize) -> Result<&str> {
        self.ids.get(commit.wrapping_sub(1)).map(String::as_str).context("there is no such commit")
    }

    /// Makes `commit` the newest of the branch, as git does it: beside, and then by a rename.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub(crate) fn push(&self, commit: usize) -> Result<()> {
        let branch = self.folder.join("refs/heads/main");
        let beside = branch.with_extension("lock");
        fs::write(&beside, format!("{}\n", self.id(commit)?))?;
        fs::rename(&beside, &branch).with_context(|| format!("cannot push to {}", branch.display()))
    }

    /// Returns everything in `commit`, as it is deployed.
    pub(crate) fn files(&self, commit: usize) -> Result<Files> {
        let mut files = self.shape.all();
        for earlier in 2..=commit {
            files.extend(self.shape.changed(earlier));
        }
        for (_, content) in files.values_mut() {
            content.push(b'\n');
        }
        files.insert("REVISION".to_owned(), (0o644, format!("{}\n", self.id(commit)?).into_bytes()));
        Ok(files.into_iter().map(|(path, (mode, content))| (path, (mode & 0o777, content))).collect())
    }
}

impl Shape {
    /// Everything in the first commit.
    fn all(&self) -> Files {
        let mut files: Files = (0..self.files).map(|file| self.file(file, 1)).collect();
        files.insert(NUMBER.to_owned(), (0o100_644, b"1".to_vec()));
        files
    }

    /// What a later one changes: its number, and one file in a hundred.
    fn changed(&self, commit: usize) -> Files {
        let count = self.files.div_ceil(100);
        let file = |nth| (commit * count + nth) % self.files.max(1);
        let mut files: Files = (0..count).map(|nth| self.file(file(nth), commit)).collect();
        files.insert(NUMBER.to_owned(), (0o100_644, commit.to_string().into_bytes()));
        files
    }

    fn file(&self, file: usize, commit: usize) -> (String, (u32, Vec<u8>)) {
        let mut dice = Dice::new(((file as u64 + 1) << 32) | commit as u64);
        let mut text = String::with_capacity(self.bytes + 32);
        while text.len() < self.bytes {
            // Writing to a string never fails.
            let _ = writeln!(text, "let line = {:x};", dice.roll());
        }
        text.truncate(self.bytes);
        let mode = if file % 10 == 7 { 0o100_755 } else { 0o100_644 };
        (format!("src/part{:02}/file{file:04}.txt", file / 50), (mode, text.into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_git_checks_out_is_what_is_foretold() {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repo::make(folder.path(), Shape { files: 12, bytes: 100, commits: 4 }).unwrap();
        repo.push(4).unwrap();
        let show = |path: &str| {
            let path = format!("main:{path}");
            let shown = Command::new("git").arg("-C").arg(folder.path()).args(["show", &path]).output();
            shown.unwrap().stdout
        };
        let files = repo.files(4).unwrap();
        assert_eq!(files.len(), 14);
        for (path, (_, content)) in files.iter().filter(|(path, _)| *path != "REVISION") {
            assert_eq!(show(path), *content, "{path}");
        }
        assert_eq!(show(NUMBER), b"4\n");
        assert_ne!(repo.files(3).unwrap(), files);
    }
}
