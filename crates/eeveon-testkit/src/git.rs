//! Git repositories made for a test: by the real `git`, in a temporary folder, with nothing of the
//! machine's configuration and with fixed dates, so that every id is the same on every run.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test whose repository cannot be made has nothing to go on with"
)]

use std::{
    ffi::OsStr,
    fs,
    io::Write,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicI64, Ordering},
};

use tempfile::TempDir;

/// When the first commit of every repository is made, in seconds since 1970: 2024-01-01.
pub const FIRST: i64 = 1_704_067_200;

/// A repository with a worktree, on branch `main`, that is gone when this is dropped.
#[derive(Debug)]
pub struct Repo {
    folder: TempDir,
    path: PathBuf,
    clock: AtomicI64,
}

impl Default for Repo {
    fn default() -> Self {
        Self::new()
    }
}

impl Repo {
    /// Makes an empty repository.
    ///
    /// # Panics
    ///
    /// When git is not there or fails, as every method here.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repo");
        fs::create_dir(&path).unwrap();
        let repo = Self { folder, path, clock: AtomicI64::new(FIRST) };
        repo.git(["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    /// Makes a repository with one commit per step, each of a few files: `(path, content)`.
    pub fn with(steps: &[&[(&str, &str)]]) -> Self {
        let repo = Self::new();
        for (index, files) in steps.iter().enumerate() {
            for (path, content) in *files {
                repo.write(path, content);
            }
            repo.commit(&format!("step {}", index + 1));
        }
        repo
    }

    /// Returns the top folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the top folder as text, as a repository's address.
    pub fn url(&self) -> String {
        self.path.to_str().unwrap().to_owned()
    }

    /// Returns a folder beside the repository, for anything else a test needs.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs git in the repository and returns what it prints, less the final line break.
    pub fn git<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> String {
        self.git_with(arguments, b"")
    }

    /// Runs git with `input`.
    pub fn git_with<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>, input: &[u8]) -> String {
        let mut command = command();
        let now = format!("{} +0000", self.clock.load(Ordering::Relaxed));
        command.current_dir(&self.path).args(arguments);
        command.env("GIT_AUTHOR_DATE", &now).env("GIT_COMMITTER_DATE", &now);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("git is installed");
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().ok();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
    }

    /// Writes a file in the worktree.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Writes an executable file in the worktree.
    pub fn write_executable(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        self.write(&path, content);
        fs::set_permissions(self.path.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Makes a symbolic link in the worktree.
    pub fn link(&self, path: impl AsRef<Path>, target: impl AsRef<Path>) {
        let path = self.path.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(target, path).unwrap();
    }

    /// Commits everything in the worktree, a minute after the commit before. Returns its id.
    pub fn commit(&self, message: &str) -> String {
        self.git(["add", "--all", "--force", "."]);
        self.pass(60);
        self.git(["commit", "--quiet", "--allow-empty", "--message", message]);
        self.head()
    }

    /// Replaces the newest commit, as before a forced push, a minute later. Returns its id.
    pub fn amend(&self, message: &str) -> String {
        self.git(["add", "--all", "--force", "."]);
        self.pass(60);
        self.git(["commit", "--quiet", "--allow-empty", "--amend", "--message", message]);
        self.head()
    }

    /// Lets time pass, or go back, before the next commit; in seconds.
    pub fn pass(&self, seconds: i64) {
        self.clock.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Returns the id of the newest commit.
    pub fn head(&self) -> String {
        self.git(["rev-parse", "HEAD"])
    }

    /// Adds `count` commits with one changing file, quickly. Returns their ids, oldest first.
    pub fn grow(&self, count: usize) -> Vec<String> {
        let before = self.git(["rev-list", "--count", "--all"]).parse::<usize>().unwrap_or(0);
        let mut stream = String::new();
        for index in 0..count {
            self.pass(60);
            let now = self.clock.load(Ordering::Relaxed);
            let number = before + index + 1;
            let text = format!("{number}\n").repeat(50);
            stream.push_str(&format!("commit refs/heads/main\ncommitter A <a@example.org> {now} +0000\n"));
            stream.push_str(&format!("data <<END\nnumber {number}\nEND\n"));
            if index == 0 && before > 0 {
                stream.push_str("from refs/heads/main^0\n");
            }
            stream.push_str(&format!("M 644 inline counter\ndata {}\n{text}\n", text.len()));
        }
        self.git_with(["fast-import", "--quiet", "--force"], stream.as_bytes());
        self.git(["reset", "--quiet", "--hard"]);
        let ids = self.git(["rev-list", "--reverse", "--max-count", &count.to_string(), "main"]);
        ids.lines().map(str::to_owned).collect()
    }

    /// Stores content as a blob and returns its id.
    pub fn blob(&self, content: impl AsRef<[u8]>) -> String {
        self.git_with(["hash-object", "-w", "--stdin"], content.as_ref())
    }

    /// Stores a tree of exactly these entries, however hostile: `(mode, name, id)`. Nothing is
    /// checked or sorted. Returns its id.
    pub fn tree(&self, entries: &[(&str, &[u8], &str)]) -> String {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            for pair in id.as_bytes().chunks(2) {
                raw.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
            }
        }
        self.git_with(["hash-object", "-w", "--literally", "-t", "tree", "--stdin"], &raw)
    }

    /// Commits a tree onto branch `main`, replacing what was there. Returns the commit's id.
    pub fn commit_tree(&self, tree: &str) -> String {
        self.pass(60);
        let id = self.git(["commit-tree", tree, "-m", "a tree"]);
        self.git(["update-ref", "refs/heads/main", &id]);
        id
    }

    /// Lists everything git has not been told to ignore, by `.gitignore` files and `excludes`, as
    /// `git ls-files --others` does.
    pub fn not_ignored(&self, excludes: &[String]) -> Vec<Vec<u8>> {
        let mut command = command();
        command.current_dir(&self.path).args([
            "ls-files",
            "--others",
            "-z",
            "--exclude-per-directory=.gitignore",
        ]);
        for exclude in excludes {
            command.args(["-x", exclude]);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
    }

    /// Tells whether git ignores `path`, whether or not it exists.
    pub fn ignores(&self, path: &[u8]) -> bool {
        let mut command = command();
        command.current_dir(&self.path).args(["check-ignore", "--quiet", "--no-index", "--"]);
        command.arg(OsStr::from_bytes(path));
        match command.output().unwrap().status.code() {
            Some(0) => true,
            Some(1) => false,
            other => panic!("git check-ignore ended with {other:?}"),
        }
    }
}

/// Returns git with an environment of its own.
fn command() -> Command {
    let mut command = Command::new("git");
    for name in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"]
    {
        command.env_remove(name);
    }
    command.envs([
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_AUTHOR_NAME", "A"),
        ("GIT_AUTHOR_EMAIL", "a@example.org"),
        ("GIT_COMMITTER_NAME", "A"),
        ("GIT_COMMITTER_EMAIL", "a@example.org"),
        ("LC_ALL", "C"),
    ]);
    command.args(["-c", "protocol.file.allow=always", "-c", "commit.gpgSign=false", "-c", "gc.auto=0"]);
    command.args(["-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"]);
    command
}
