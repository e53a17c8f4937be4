//! Makes repositories that nobody makes by accident: objects as given, references written by hand.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

/// The branch that is deployed.
pub(crate) const BRANCH: &str = "main";

/// When and by whom things are committed that do not say.
const ADA: &str = "Ada <ada@example.org> 1700000000 +0000";

/// One entry of a tree: mode, name, object.
pub(crate) type Entry<'a> = (&'a str, &'a [u8], &'a str);

/// A bare repository.
#[derive(Debug)]
pub(crate) struct Repo {
    /// Where it lies.
    pub(crate) path: PathBuf,
}

impl Repo {
    /// Makes an empty one.
    ///
    /// # Errors
    ///
    /// git is not there or fails, as for everything here.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
        let repo = Self { path: path.to_owned() };
        repo.git(&["init", "--quiet", "--bare", &format!("--initial-branch={BRANCH}"), "."], b"")?;
        Ok(repo)
    }

    /// Runs git in it, by nobody's configuration, and returns what it prints without the last line
    /// break.
    pub(crate) fn git(&self, words: &[&str], input: &[u8]) -> Result<String> {
        let bytes = self.bytes(words, input)?;
        let text = String::from_utf8(bytes).context("git printed no text")?;
        Ok(text.trim_end_matches('\n').to_owned())
    }

    /// The same for what is no text.
    pub(crate) fn bytes(&self, words: &[&str], input: &[u8]) -> Result<Vec<u8>> {
        let mut command = Command::new("git");
        command.args(["-c", "core.protectNTFS=false", "-c", "core.protectHFS=false"]).args(words);
        command.current_dir(&self.path).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1"), ("LC_ALL", "C")]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start git")?;
        let mut stdin = child.stdin.take().context("git has no input")?;
        let input = input.to_vec();
        // What git does not read is no fault of ours.
        let writer = thread::spawn(move || stdin.write_all(&input).is_ok());
        let output = child.wait_with_output()?;
        let _all_read = writer.join();
        match output.status.success() {
            true => Ok(output.stdout),
            false => bail!("git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()),
        }
    }

    /// Stores an object of any kind, unchecked, and returns its id.
    fn store(&self, kind: &str, content: &[u8]) -> Result<String> {
        self.git(&["hash-object", "-w", "--literally", "-t", kind, "--stdin"], content)
    }

    /// Stores a file's content.
    pub(crate) fn blob(&self, content: impl AsRef<[u8]>) -> Result<String> {
        self.store("blob", content.as_ref())
    }

    /// Stores a tree of exactly these entries: neither checked nor sorted.
    pub(crate) fn tree(&self, entries: &[Entry<'_>]) -> Result<String> {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            for digits in id.as_bytes().chunks(2) {
                raw.push(u8::from_str_radix(std::str::from_utf8(digits)?, 16)?);
            }
        }
        self.store("tree", &raw)
    }

    /// Stores a tree with one file for each of these names; all have the content `x`.
    pub(crate) fn tree_of(&self, names: &[&[u8]]) -> Result<String> {
        let blob = self.blob("x\n")?;
        let entries: Vec<Entry<'_>> = names.iter().map(|name| ("100644", *name, blob.as_str())).collect();
        self.tree(&entries)
    }

    /// Makes `content` the newest commit of a branch, as it stands. Returns its id.
    pub(crate) fn commit_raw(&self, branch: &str, content: &[u8]) -> Result<String> {
        let id = self.store("commit", content)?;
        self.point(&format!("refs/heads/{branch}"), &id)?;
        Ok(id)
    }

    /// Makes an ordinary commit of `tree` the newest one of [`BRANCH`].
    pub(crate) fn commit(&self, tree: &str) -> Result<String> {
        self.commit_raw(BRANCH, &ordinary(tree, "something"))
    }

    /// Commits ordinary files, which may lie in folders: path and content.
    pub(crate) fn files(&self, files: &[(&str, &[u8])]) -> Result<String> {
        self.modes(&files.iter().map(|(path, content)| ("100644", *path, *content)).collect::<Vec<_>>())
    }

    /// Commits files, links and programs: mode, path, and content or where it points.
    pub(crate) fn modes(&self, files: &[(&str, &str, &[u8])]) -> Result<String> {
        let mut stream =
            format!("commit refs/heads/{BRANCH}\ncommitter {ADA}\ndata 9\nsomething\n").into_bytes();
        if self.git(&["rev-parse", "--quiet", "--verify", BRANCH], b"").is_ok() {
            stream.extend_from_slice(format!("from refs/heads/{BRANCH}^0\ndeleteall\n").as_bytes());
        }
        for (mode, path, content) in files {
            let length = content.len();
            stream.extend_from_slice(format!("M {mode} inline {}\ndata {length}\n", quoted(path)).as_bytes());
            stream.extend_from_slice(content);
            stream.push(b'\n');
        }
        self.git(&["fast-import", "--quiet", "--force"], &stream)?;
        self.git(&["rev-parse", BRANCH], b"")
    }

    /// Lets a reference point at anything, whatever it is called.
    pub(crate) fn point(&self, reference: &str, id: &str) -> Result<()> {
        self.write(reference, format!("{id}\n"))
    }

    /// Writes a file of the repository itself.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let file = self.path.join(name);
        let folder = file.parent().context("no folder")?;
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(&file, content))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Returns where a loose object lies.
    pub(crate) fn loose(&self, id: &str) -> PathBuf {
        let (folder, file) = id.split_at_checked(2).unwrap_or((id, ""));
        self.path.join("objects").join(folder).join(file)
    }
}

/// Writes out a commit of nothing special.
pub(crate) fn ordinary(tree: &str, message: &str) -> Vec<u8> {
    format!("tree {tree}\nauthor {ADA}\ncommitter {ADA}\n\n{message}\n").into_bytes()
}

/// Quotes a path for `git fast-import`.
fn quoted(path: &str) -> String {
    format!("\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
