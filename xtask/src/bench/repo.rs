//! The repositories that are deployed: made by rule, so that they are the same everywhere.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};

use super::contest::git;
use crate::{daemon::dice::Dice, run};

/// How large a repository is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Size {
    /// 200 files, 2 MiB.
    S,
    /// 5,000 files, 60 MiB.
    M,
    /// 50,000 files, 400 MiB.
    L,
}

impl Size {
    fn files(self) -> u64 {
        match self {
            Self::S => 200,
            Self::M => 5_000,
            Self::L => 50_000,
        }
    }

    fn bytes(self) -> u64 {
        let mib = match self {
            Self::S => 2,
            Self::M => 60,
            Self::L => 400,
        };
        mib << 20
    }
}

/// A bare repository; its branch `main` names the commit that is to be deployed.
#[derive(Debug)]
pub(crate) struct Repo {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// Its commits, oldest first.
    pub(crate) commits: Vec<String>,
}

/// Commits of a repository; each but the first changes one file in a hundred.
const COMMITS: u64 = 3;

impl Repo {
    /// Makes a repository in `folder`, unless it is there.
    pub(crate) fn make(folder: &Path, size: Size) -> Result<Self> {
        let path = folder.join("origin.git");
        let whole = folder.join("whole");
        if !whole.exists() {
            println!("making a repository in {}", folder.display());
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::create_dir_all(folder)?;
            run::output(git().args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&path))?;
            let mut import = git();
            import.arg("-C").arg(&path).args(["fast-import", "--quiet"]).stdin(Stdio::piped());
            let mut import = import.spawn()?;
            let input = import.stdin.take().context("git reads nothing")?;
            write(std::io::BufWriter::new(input), size)?;
            ensure!(import.wait()?.success(), "git imported nothing");
            run::output(git().arg("-C").arg(&path).args(["repack", "-adq"]))?;
            fs::write(whole, "")?;
        }
        let list =
            run::output(git().arg("-C").arg(&path).args(["rev-list", "--reverse", "refs/hidden/all"]))?;
        Ok(Self { path, commits: list.lines().map(str::to_owned).collect() })
    }

    /// Makes `main` name a commit.
    pub(crate) fn publish(&self, commit: usize) -> Result<()> {
        let id = self.id(commit)?;
        run::output(git().arg("-C").arg(&self.path).args(["update-ref", "refs/heads/main", id])).map(drop)
    }

    pub(crate) fn id(&self, commit: usize) -> Result<&str> {
        self.commits.get(commit).map(String::as_str).context("there are not so many commits")
    }
}

fn write(mut out: impl Write, size: Size) -> Result<()> {
    let files = size.files();
    let mean = size.bytes() / files;
    for commit in 0..COMMITS {
        let time = 1_700_000_000 + commit * 60;
        let message = format!("commit {commit}");
        writeln!(out, "commit refs/hidden/all\ncommitter Bench <bench@example.org> {time} +0000")?;
        writeln!(out, "data {}\n{message}", message.len())?;
        for file in 0..files {
            let is_changed = file % 100 == commit && commit > 0;
            if commit > 0 && !is_changed {
                continue;
            }
            let path = format!("part-{:03}/{:02}/file-{file:05}.txt", file / 1_000, file / 50 % 20);
            let mode = if file % 100 == 7 { "100755" } else { "100644" };
            let content = content(file, commit, mean);
            writeln!(out, "M {mode} inline {path}\ndata {}", content.len())?;
            out.write_all(&content)?;
            writeln!(out)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// Returns lines of words, as compressible as source code is.
fn content(file: u64, version: u64, mean: u64) -> Vec<u8> {
    const WORDS: [&str; 16] = [
        "let", "self", "return", "match", "value", "number", "result", "of", "release", "path", "error",
        "name", "commit", "folder", "if", "while",
    ];
    let mut dice = Dice::new(file * 1_000 + version);
    // From a quarter of the mean to seven quarters of it.
    let length = mean / 4 + dice.roll() % (mean * 3 / 2);
    let mut text = format!("file {file} version {version}\n").into_bytes();
    while (text.len() as u64) < length {
        let roll = dice.roll();
        let word = WORDS.get((roll % 16) as usize).copied().unwrap_or_default();
        let number = (roll >> 8) % 100_000;
        let end = if roll & 0x70 == 0 { "\n" } else { " " };
        text.extend_from_slice(format!("{word}_{number}{end}").as_bytes());
    }
    text
}
