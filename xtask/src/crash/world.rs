//! A small world to break: a repository with a few commits, a home and a place to deploy to, all in
//! one folder, which can be put back to a state it was in before.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    neighbour::{Neighbour, UNWELL},
    oracle::{Commit, Found, Row, Said, Status},
    tree::{Node, Tree, names},
};

/// The project's name.
pub(crate) const PROJECT: &str = "app";

/// Longer than any command takes that is not stuck, also when it has to wait until a lease has ended.
const LIMIT: Duration = Duration::from_secs(120);

/// How many commits the repository has. The last one is for after the blow.
pub(crate) const COMMITS: usize = 5;

/// The one that is not well.
pub(crate) const BAD: usize = 4;

/// The variable that tells a program with seeds which of them to let grow.
pub(crate) const SEED: &str = "EEVEON_SEED";

/// The world.
#[derive(Debug)]
pub(crate) struct World {
    /// The program under test.
    pub(crate) program: PathBuf,
    /// The folder of everything.
    folder: PathBuf,
    /// The commits, oldest first.
    commits: Vec<Commit>,
    /// Who is asked whether all is well, and is told.
    pub(crate) neighbour: Neighbour,
    /// How the program is broken on purpose, if it was built so that it can be.
    pub(crate) seed: Option<&'static str>,
}

/// A commit put aside, as far as `quarantine --json` matters here.
#[derive(Deserialize)]
struct PutAside {
    revision: String,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Ran {
    /// Tells how it ended, in one line.
    pub(crate) fn summary(&self) -> String {
        let said = self.stderr.lines().map(str::trim).filter(|line| !line.starts_with("ok "));
        format!("{}: {}", self.status, said.collect::<Vec<_>>().join(" | "))
    }
}

impl World {
    /// Makes a world in `folder`, in place of whatever is there, with nothing but the repository.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make(folder: &Path, program: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let mut world = Self {
            program: program.to_owned(),
            folder: folder.to_owned(),
            commits: Vec::new(),
            neighbour: Neighbour::start(folder.join("world/site/current"))?,
            seed: None,
        };
        let repo = world.repo();
        fs::create_dir_all(&repo).with_context(|| format!("cannot make {}", repo.display()))?;
        world.git(&["init", "--quiet", "--initial-branch=main"])?;
        for number in 1..=COMMITS {
            let files = files(number);
            write(&repo, &files)?;
            world.git(&["add", "--all"])?;
            world.git(&["commit", "--quiet", &format!("--message=number {number}")])?;
            let id = world.git(&["rev-parse", "HEAD"])?.trim().to_owned();
            let mut tree = files;
            tree.0.insert("REVISION".to_owned(), Node::File(0o644, format!("{id}\n").into_bytes()));
            world.commits.push(Commit { id, tree });
        }
        // Nobody works in it: its branch is moved as needed.
        world.git(&["checkout", "--quiet", "--detach"])?;
        world.git(&["symbolic-ref", "HEAD", "refs/heads/main"])?;
        Ok(world)
    }

    /// Returns the folder whose files are watched.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("world")
    }

    /// Returns the folder the project is deployed to.
    pub(crate) fn site(&self) -> PathBuf {
        self.root().join("site")
    }

    /// Returns the store's file.
    pub(crate) fn store(&self) -> PathBuf {
        self.root().join("home/eeveon.db")
    }

    fn repo(&self) -> PathBuf {
        self.folder.join("world/repo")
    }

    /// Returns a file beside the world.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Returns commit `number`, the first being 1.
    pub(crate) fn commit(&self, number: usize) -> Result<&Commit> {
        self.commits.get(number.wrapping_sub(1)).context("there is no such commit")
    }

    /// Makes commit `number` the newest one of the branch.
    pub(crate) fn push(&self, number: usize) -> Result<()> {
        self.git(&["update-ref", "refs/heads/main", &self.commit(number)?.id]).map(drop)
    }

    fn git(&self, words: &[&str]) -> Result<String> {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"];
        let mut command = Command::new("git");
        command.args(identity).args(words).current_dir(self.repo()).stdin(Stdio::null());
        let ran = self.finish(&mut command, "git")?;
        match ran.status.success() {
            true => Ok(ran.stdout),
            false => bail!("`git {}` ended with {}", words.join(" "), ran.summary()),
        }
    }

    /// Returns the environment the program is run in.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let mut environment = vec![
            ("EEVEON_HOME".to_owned(), text(self.root().join("home"))),
            ("HOME".to_owned(), text(self.folder.clone())),
            ("PATH".to_owned(), std::env::var("PATH").unwrap_or_default()),
        ];
        environment.extend(self.seed.map(|seed| (SEED.to_owned(), seed.to_owned())));
        environment
    }

    /// Runs the program to its end.
    ///
    /// # Errors
    ///
    /// It does not run, or does not end.
    pub(crate) fn run(&self, words: &[String]) -> Result<Ran> {
        self.finish(&mut self.command(words), "program")
    }

    /// Runs the program to its end beside others, each of which has a name. `meanwhile` is called
    /// with its process once it runs.
    ///
    /// # Errors
    ///
    /// It does not run, or does not end.
    pub(crate) fn run_beside(
        &self,
        words: &[String],
        name: &str,
        meanwhile: impl FnOnce(u32),
    ) -> Result<Ran> {
        self.finish_with(&mut self.command(words), name, meanwhile)
    }

    fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().envs(self.environment());
        command.current_dir(self.root()).stdin(Stdio::null());
        command
    }

    /// Runs the program, which must succeed.
    pub(crate) fn must(&self, words: &[&str]) -> Result<String> {
        let ran = self.run(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())?;
        match ran.status.success() {
            true => Ok(ran.stdout),
            false => bail!("`{}` ended with {}", words.join(" "), ran.summary()),
        }
    }

    /// Asks the program something, which must answer in JSON.
    pub(crate) fn query<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T> {
        let text = self.must(words)?;
        serde_json::from_str(&text).with_context(|| format!("cannot read what `{}` says", words.join(" ")))
    }

    fn finish(&self, command: &mut Command, name: &str) -> Result<Ran> {
        self.finish_with(command, name, |_| {})
    }

    fn finish_with(&self, command: &mut Command, name: &str, meanwhile: impl FnOnce(u32)) -> Result<Ran> {
        let [stdout, stderr] = ["out", "err"].map(|end| self.beside(&format!("{name}.{end}")));
        command.stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        let began = Instant::now();
        let mut child = command.spawn().context("cannot start a program")?;
        meanwhile(child.id());
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if began.elapsed() > LIMIT {
                child.kill()?;
                break child.wait()?;
            }
            thread::sleep(Duration::from_millis(1));
        };
        let took = began.elapsed();
        Ok(Ran { status, stdout: read(&stdout)?, stderr: read(&stderr)?, took })
    }

    /// Returns the words that add the project.
    pub(crate) fn init(&self) -> Vec<String> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        let (repo, site) = (text(self.repo()), text(self.site()));
        ["init", "--repo", &repo, "--name", PROJECT, "--path", &site].map(str::to_owned).to_vec()
    }

    /// Tells whether the project exists.
    pub(crate) fn has_project(&self) -> bool {
        self.root().join(format!("home/projects/{PROJECT}.toml")).exists()
    }

    /// Returns the history of the project, newest first.
    pub(crate) fn history(&self) -> Result<Vec<Row>> {
        match self.has_project() {
            true => self.query(&["history", PROJECT, "--json", "-n", "100"]),
            false => Ok(Vec::new()),
        }
    }

    /// Appends sections to the project's file.
    pub(crate) fn configure(&self, sections: &str) -> Result<()> {
        let path = self.root().join(format!("home/projects/{PROJECT}.toml"));
        let text = read(&path)?;
        fs::write(&path, format!("{text}\n{sections}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns the commits put aside.
    pub(crate) fn aside(&self) -> Result<Vec<String>> {
        let aside: Vec<PutAside> = self.query(&["quarantine", PROJECT, "--json"])?;
        Ok(aside.into_iter().map(|it| it.revision).collect())
    }

    /// Looks at everything.
    pub(crate) fn look(&self) -> Result<Found> {
        let said = match self.has_project() {
            true => Some(Said {
                status: self.query::<Status>(&["status", PROJECT, "--json"])?,
                history: self.history()?,
                releases: self.query(&["releases", PROJECT, "--json"])?,
                aside: self.aside()?,
            }),
            false => None,
        };
        let mut found = Vec::new();
        for folder in ["home", "site"] {
            let path = self.root().join(folder);
            found.extend(path.exists().then(|| folder.to_owned()));
            found.extend(names(&path)?.into_iter().map(|name| format!("{folder}/{name}")));
        }
        let (current, live) = self.live()?;
        Ok(Found { current, live, said, answer: None, names: found })
    }

    /// Returns what `current` says, if it is there, and what is seen through it.
    pub(crate) fn live(&self) -> Result<(Option<String>, Option<Tree>)> {
        let current = self.site().join("current");
        let link = fs::read_link(&current).ok().map(|link| link.to_string_lossy().into_owned());
        let live = match current.exists() {
            true => Some(Tree::read(&current)?),
            false => None,
        };
        Ok((link, live))
    }

    /// Keeps the world as it is now under a name.
    pub(crate) fn keep(&self, name: &str) -> Result<()> {
        copy(&self.root(), &self.beside(name))
    }

    /// Puts the world back to what was kept.
    pub(crate) fn restore(&self, name: &str) -> Result<()> {
        copy(&self.beside(name), &self.root())
    }
}

/// Copies a folder with everything it has, hard links and times included, over another one.
fn copy(from: &Path, to: &Path) -> Result<()> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot remove {}", to.display()))?;
    }
    let copied =
        Command::new("cp").args(["-a", "--"]).arg(from).arg(to).status().context("cannot start cp")?;
    match copied.success() {
        true => Ok(()),
        false => bail!("cannot copy {} to {}", from.display(), to.display()),
    }
}

fn read(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Returns what commit `number` holds: something that stays, something that changes, something new.
fn files(number: usize) -> Tree {
    let file = |mode, text: String| Node::File(mode, text.into_bytes());
    let mut tree = Tree(BTreeMap::from([
        ("index.html".to_owned(), file(0o644, format!("<h1>{number}</h1>\n"))),
        ("bin".to_owned(), Node::Folder(0o755)),
        ("bin/run".to_owned(), file(0o755, format!("#!/bin/sh\necho {number}\n"))),
        ("same".to_owned(), Node::Folder(0o755)),
        ("same/empty".to_owned(), file(0o644, String::new())),
        ("same/text".to_owned(), file(0o644, "the same in every commit\n".to_owned())),
        (format!("only-{number}"), Node::Folder(0o755)),
        (format!("only-{number}/text"), file(0o644, format!("only in {number}\n"))),
        ("latest".to_owned(), Node::Link(format!("only-{number}/text"))),
    ]));
    if number == BAD {
        tree.0.insert(UNWELL.to_owned(), file(0o644, String::new()));
    }
    tree
}

/// Makes `repo` hold exactly `tree`, beside git's own.
fn write(repo: &Path, tree: &Tree) -> Result<()> {
    for entry in fs::read_dir(repo)? {
        let path = entry?.path();
        if path.ends_with(".git") {
            continue;
        }
        match path.symlink_metadata()?.is_dir() {
            true => fs::remove_dir_all(path)?,
            false => fs::remove_file(path)?,
        }
    }
    for (name, node) in &tree.0 {
        let path = repo.join(name);
        match node {
            Node::Folder(_) => fs::create_dir(&path)?,
            Node::File(mode, content) => {
                fs::write(&path, content)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode))?;
            }
            Node::Link(to) => symlink(to, &path)?,
            Node::Other => {}
        }
    }
    Ok(())
}
