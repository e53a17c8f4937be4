//! A home with projects, where they come from and where they go, and a daemon in it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::hook;

/// How long anything may take before it counts as stuck.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// How often a wait looks.
pub(crate) const LOOK: Duration = Duration::from_millis(5);

/// The place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    folder: PathBuf,
    program: PathBuf,
}

impl Place {
    /// Makes an empty one in `folder`, in place of whatever is there.
    ///
    /// # Errors
    ///
    /// It cannot be made.
    pub(crate) fn make(folder: &Path, program: &Path) -> Result<Self> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let place = Self { folder: folder.to_owned(), program: program.to_owned() };
        fs::create_dir_all(place.home().join("projects"))?;
        fs::set_permissions(place.home(), fs::Permissions::from_mode(0o700))?;
        Ok(place)
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.join("home")
    }

    pub(crate) fn site(&self, project: &str) -> PathBuf {
        self.folder.join("sites").join(project)
    }

    pub(crate) fn repo(&self, name: &str) -> PathBuf {
        self.folder.join("repos").join(format!("{name}.git"))
    }

    /// Adds a project. `more` goes into the section `[source]`, `sections` after it.
    ///
    /// # Errors
    ///
    /// Its file cannot be written.
    pub(crate) fn add(&self, project: &str, repo: &str, more: &str, sections: &str) -> Result<()> {
        let site = self.site(project);
        let text = format!(
            "[source]\nrepo = \"{repo}\"\nbranch = \"main\"\n{more}\n[deploy]\npath = \"{}\"\n\n{sections}",
            site.display()
        );
        let file = self.home().join("projects").join(format!("{project}.toml"));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Returns the program with the home and nothing of this machine's surroundings.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).env_clear().env("EEVEON_HOME", self.home()).env("HOME", &self.folder);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    /// Runs a command, which must succeed, and returns what it printed.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.command(words).output().context("cannot start the program")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{}` ended with {}: {said}", words.join(" "), output.status);
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Returns what daemons have said so far.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("log"))?)
    }

    /// The same for what prints JSON.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub(crate) fn json(&self, words: &[&str]) -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&self.run(&[words, &["--json"]].concat())?)?)
    }

    /// Makes a project's hook.
    ///
    /// # Errors
    ///
    /// As [`Self::run`].
    pub(crate) fn hook(&self, project: &str) -> Result<hook::Hook> {
        let shown = self.json(&["webhook", "show", project, "--provider", "generic"])?;
        let secret = shown.get("secret").and_then(|it| it.as_str()).context("no secret is shown")?;
        Ok(hook::Hook::new(project, secret))
    }
}

/// A daemon that runs. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// When it was started.
    pub(crate) began: Instant,
}

impl Daemon {
    /// Starts it and returns as soon as it listens. What it says is put at the end of the file `log`.
    ///
    /// # Errors
    ///
    /// It does not.
    pub(crate) fn start(place: &Place) -> Result<Self> {
        Self::start_with(place, &[])
    }

    /// The same with more options.
    ///
    /// # Errors
    ///
    /// It does not start.
    pub(crate) fn start_with(place: &Place, options: &[&str]) -> Result<Self> {
        let began = Instant::now();
        let mut command = place.command(&[&["serve", "--listen", "127.0.0.1:0"], options].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let said = BufReader::new(child.stderr.take().context("it says nothing")?);
        let (send, heard) = mpsc::channel();
        let log = fs::OpenOptions::new().append(true).create(true).open(place.folder.join("log"))?;
        thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                // Whoever started it may have heard enough.
                let _ = send.send(line.clone());
                let _ = std::io::Write::write_all(&mut &log, format!("{line}\n").as_bytes());
            }
        });
        let address = loop {
            let line = heard.recv_timeout(PATIENCE).context("the daemon does not start; see `log`")?;
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split('/').next().unwrap_or_default().parse()?;
            }
        };
        Ok(Self { child, address, began })
    }

    /// Waits until it takes deliveries; returns how long that took from its start on.
    ///
    /// # Errors
    ///
    /// It never does.
    pub(crate) fn ready(&self) -> Result<Duration> {
        wait("the daemon is ready", || {
            Ok(hook::get(self.address, "/readyz").is_ok_and(|answer| answer.status == 200))
        })?;
        Ok(self.began.elapsed())
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    ///
    /// It does not end in order.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = self.child.id().to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status()?.success(), "no signal can be sent");
        let mut status = None;
        wait("the daemon ends", || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })?;
        match status {
            Some(status) if status.success() => Ok(()),
            status => bail!("the daemon ended with {status:?}"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `is` holds.
///
/// # Errors
///
/// It never does.
pub(crate) fn wait(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !is()? {
        ensure!(Instant::now() < end, "never: {what}");
        thread::sleep(LOOK);
    }
    Ok(())
}
