//! A home, a repository and a place to deploy to, made for one test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use tempfile::TempDir;

/// A world of its own.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// What a command did.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    shown: String,
}

impl Sandbox {
    /// Makes a repository with one commit of `files`.
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let sandbox = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(sandbox.repo()).unwrap();
        sandbox.git(&["init", "-q", "-b", "main", "."]);
        sandbox.commit("first", files);
        sandbox
    }

    /// The same, with a project `app` added.
    pub(crate) fn with_project(files: &[(&str, &str)]) -> Self {
        let sandbox = Self::new(files);
        sandbox.init(&[]).expect_code(0);
        sandbox
    }

    /// Adds the project `app`.
    pub(crate) fn init(&self, more: &[&str]) -> Ran {
        let (repo, site) = (self.repo(), self.site());
        let mut args =
            vec!["init", "--repo", repo.to_str().unwrap(), "--name", "app", "--path", site.to_str().unwrap()];
        args.extend(more);
        self.run(&args)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path().join("repo")
    }

    pub(crate) fn site(&self) -> PathBuf {
        self.path().join("site")
    }

    /// Reads a file of what is live.
    pub(crate) fn live(&self, file: &str) -> Option<String> {
        fs::read_to_string(self.site().join("current").join(file)).ok()
    }

    /// Returns which release the link names.
    pub(crate) fn live_release(&self) -> Option<String> {
        let link = fs::read_link(self.site().join("current")).ok()?;
        Some(link.file_name()?.to_str()?.to_owned())
    }

    /// Appends to the project's file.
    pub(crate) fn configure(&self, toml: &str) {
        let file = self.home().join("projects/app.toml");
        let mut text = fs::read_to_string(&file).unwrap();
        for line in toml.lines() {
            let (key, value) = line.split_once(" = ").unwrap();
            let (section, key) = key.split_once('.').unwrap();
            let heading = format!("[{section}]\n");
            text = text.replacen(&heading, &format!("{heading}{key} = {value}\n"), 1);
        }
        fs::write(&file, text).unwrap();
    }

    /// Writes files and commits them; a file with the content `-` is removed.
    pub(crate) fn commit(&self, subject: &str, files: &[(&str, &str)]) -> String {
        for (path, content) in files {
            let path = self.repo().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match *content {
                "-" => fs::remove_file(path).unwrap(),
                content => fs::write(path, content).unwrap(),
            }
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", subject]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git in the repository, by itself and with fixed dates, so that ids never change.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let commits = self.path().join("commits");
        let n = fs::read_to_string(&commits).map_or(0, |text| text.len());
        if args.first() == Some(&"commit") {
            fs::write(&commits, "x".repeat(n + 1)).unwrap();
        }
        let date = format!("{} +0000", 1_700_000_000 + 60 * n);
        let output = Command::new("git")
            .args(args)
            .current_dir(self.repo())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_COMMITTER_NAME", "Ada")])
            .envs([("GIT_AUTHOR_EMAIL", "ada@example.org"), ("GIT_COMMITTER_EMAIL", "ada@example.org")])
            .envs([("GIT_AUTHOR_DATE", &date), ("GIT_COMMITTER_DATE", &date)])
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Returns `ee-deploy` with the sandbox's home and nothing of this machine's surroundings.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ee-deploy"));
        command
            .args(args)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path())
            .env("USER", "ada")
            .env("EEVEON_HOME", self.home())
            .current_dir(self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.ran(args, &self.command(args).output().unwrap())
    }

    /// Starts a command.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        self.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Waits for a started command.
    pub(crate) fn finish(&self, args: &[&str], child: Child) -> Ran {
        self.ran(args, &child.wait_with_output().unwrap())
    }

    fn ran(&self, args: &[&str], output: &Output) -> Ran {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let code = output.status.code().unwrap_or(-1);
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        let mut shown = format!("$ ee-deploy {}\n", args.join(" "));
        for (stream, content) in [("out", &stdout), ("err", &stderr)] {
            for line in content.lines() {
                shown.push_str(&format!("{stream} | {line}\n"));
            }
        }
        shown.push_str(&format!("exit {code}\n"));
        Ran { code, stdout, stderr, shown: shown.replace(self.path().to_str().unwrap(), "[TMP]") }
    }
}

impl Ran {
    /// Fails the test, showing everything, unless the command ended with `code`.
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "\n{}", self.shown);
        self
    }

    /// Returns one document of JSON that was printed.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{}", self.shown))
    }

    /// Returns the failure that was printed as JSON.
    pub(crate) fn error(&self) -> serde_json::Value {
        let line = self
            .stderr
            .lines()
            .rev()
            .find(|line| line.starts_with("{\"error\""))
            .unwrap_or_else(|| panic!("no failure\n{}", self.shown));
        serde_json::from_str(line).unwrap()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Compares with a snapshot, after replacing what differs from run to run by words of its kind.
pub(crate) fn assert_story(name: &str, story: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.add_filter(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[WHEN]");
    settings.add_filter(r" +\d+ d ago", " [AGO]");
    settings.add_filter(r" +\d+ (s|min|h) ago", " [AGO]");
    settings.add_filter(r" +(\(?)\d+(\.\d)? (ms|s)\b", " $1[TIME]");
    settings.add_filter(r" \d+(\.\d)? [KMGT]iB free", " [SPACE] free");
    settings.add_filter(r"gave back .*", "gave back [SPACE]");
    settings.add_filter(r"(git|ssh) +/\S+", "$1 [PROGRAM]");
    // Columns are as wide as their widest cell, and some of those differ.
    settings.add_filter(r" {2,}", "  ");
    settings.bind(|| insta::assert_snapshot!(name, story));
}
