//! Plays a case: adds the project, deploys it, asks every command about it, and judges all of it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{
    oracle::{self, Forms, Violation, violation},
    place::{Place, SECRET},
    watch::{Watched, watch},
};

/// The project's name.
const PROJECT: &str = "app";

/// What should come of a deploy.
#[derive(Clone, Debug)]
pub(crate) enum Expect {
    /// The release serves, and these files have this content; for a link, where it points.
    Live(Vec<(&'static str, Vec<u8>)>),
    /// It is refused with one of these codes.
    Refused(&'static [&'static str]),
    /// It serves, or is refused with one of these codes.
    Either(&'static [&'static str]),
}

/// What a case has made.
pub(crate) struct Scene {
    /// Where the repository is, as a user gives it.
    pub(crate) source: String,
    /// Its branch.
    pub(crate) branch: String,
    /// Other repositories that may be read for it.
    pub(crate) also: Vec<String>,
    /// What is put into the project's file: section, then lines.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// Lines for the configured commands of a build: nothing but what these start may run.
    pub(crate) build: Vec<&'static str>,
    /// The most memory a process may take, in bytes.
    pub(crate) memory: u64,
    /// What should come of it.
    pub(crate) expect: Expect,
    /// What else is deployed after that: a change to the repository, and what should come of it.
    pub(crate) then: Vec<Next>,
}

/// A change, and what should come of it.
pub(crate) struct Next {
    pub(crate) change: Box<dyn FnOnce() -> Result<()> + Send>,
    pub(crate) expect: Expect,
}

/// More than any ordinary deploy takes, in a debug build.
pub(crate) const MEMORY: u64 = 192 << 20;

impl Scene {
    /// Begins one that deploys branch `main` of a repository.
    pub(crate) fn of(source: impl AsRef<Path>, expect: Expect) -> Self {
        Self {
            source: source.as_ref().to_string_lossy().into_owned(),
            branch: super::repo::BRANCH.to_owned(),
            also: Vec::new(),
            settings: Vec::new(),
            build: Vec::new(),
            memory: MEMORY,
            expect,
            then: Vec::new(),
        }
    }
}

/// What the shell that starts every command does first: it is told which run this is.
const WAITS: &str = "IFS= read -r EEVEON_RUN || exit 125\nexport EEVEON_RUN\nexec \"$@\" </dev/null";

/// Where cases are played, and by which program.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// The program under test.
    pub(crate) program: &'a Path,
    /// The folder everything happens in.
    pub(crate) folder: PathBuf,
    /// Where the pages of codes are.
    pub(crate) pages: PathBuf,
    /// How long a command may take.
    pub(crate) limit: Duration,
    /// Other programs that may run, by name.
    pub(crate) also: &'a [&'a str],
}

/// What came of a case.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// `live`, or the code it was refused with.
    pub(crate) end: String,
    /// The most memory one process had, in bytes.
    pub(crate) memory: u64,
    /// How many programs were started.
    pub(crate) programs: usize,
    pub(crate) broken: Vec<Violation>,
}

/// A case under way.
struct Play<'a> {
    stage: &'a Stage<'a>,
    place: &'a Place,
    forms: Forms,
    /// What the scene says about programs and memory.
    sources: Vec<String>,
    build: Vec<&'static str>,
    memory: u64,
    verdict: Verdict,
}

impl Stage<'_> {
    /// Plays what `make` makes.
    ///
    /// # Errors
    ///
    /// It cannot be made or watched.
    pub(crate) fn play(&self, make: impl FnOnce(&Place) -> Result<Scene>) -> Result<Verdict> {
        let place = Place::make(&self.folder)?;
        let scene = make(&place)?;
        let mut play = Play {
            stage: self,
            place: &place,
            forms: Forms::of(SECRET),
            sources: scene.also.iter().chain([&scene.source]).cloned().collect(),
            build: scene.build.clone(),
            memory: scene.memory,
            verdict: Verdict::default(),
        };
        let mut before = place.snapshot()?;
        if play.add(&scene)? {
            play.deploy(&scene.expect)?;
            for Next { change, expect } in scene.then {
                play.look_around(&before)?;
                change()?;
                before = place.snapshot()?;
                play.deploy(&expect)?;
            }
            play.ask_everything()?;
        }
        play.look_around(&before)?;
        Ok(play.verdict)
    }
}

impl Play<'_> {
    /// Adds the project. Returns whether that was possible.
    fn add(&mut self, scene: &Scene) -> Result<bool> {
        let site = self.place.site().to_string_lossy().into_owned();
        // One word each, so that what begins with a dash is a value and no option of ours.
        let (repo, branch) = (format!("--repo={}", scene.source), format!("--branch={}", scene.branch));
        let added = self.run(&["init", &repo, &branch, "--name", PROJECT, "--path", &site, "--json"])?;
        if added.code != Some(0) {
            self.expect(&scene.expect, &added)?;
            return Ok(false);
        }
        let file = self.place.home().join(format!("projects/{PROJECT}.toml"));
        // A program on trial has no files.
        let Ok(mut text) = fs::read_to_string(&file) else { return Ok(true) };
        let build = scene.build.iter().map(|line| format!("{line:?}")).collect::<Vec<_>>().join(", ");
        let build = ("build", format!("commands = [{build}]"));
        for (section, lines) in scene.settings.iter().chain([&build]) {
            let heading = format!("[{section}]\n");
            text = text.replacen(&heading, &format!("{heading}{lines}\n"), 1);
        }
        let hook = self.place.user().join("hook");
        text.push_str(&format!("\n[[notify]]\nchannel = \"webhook\"\nurl = \"file:{}\"\n", hook.display()));
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(true)
    }

    fn deploy(&mut self, expect: &Expect) -> Result<()> {
        let deployed = self.run(&["deploy", PROJECT, "--json"])?;
        self.expect(expect, &deployed)
    }

    /// Compares the end of a command with what should have come of it.
    fn expect(&mut self, expect: &Expect, ran: &Watched) -> Result<()> {
        let code = oracle::code(ran);
        let end = match (ran.code, &code) {
            (Some(0), _) => "live".to_owned(),
            (_, Some(code)) => code.clone(),
            (number, None) => format!("exit {number:?} without a code"),
        };
        match (&code, ran.code) {
            (_, Some(0)) => {}
            (Some(code), Some(_))
                if self.stage.pages.join(format!("{}.md", code.replace('/', "-"))).is_file() => {}
            _ if ran.late => {}
            _ => self.complain(
                "code",
                format!("it ended with {:?} and the code {code:?}, which has no page", ran.code),
            ),
        }
        match expect {
            Expect::Refused(codes) if !codes.contains(&end.as_str()) => {
                self.complain("expected", format!("{end}, instead of {}", codes.join(" or ")));
            }
            Expect::Either(codes) if ran.code != Some(0) && !codes.contains(&end.as_str()) => {
                self.complain("expected", format!("{end}, instead of live or {}", codes.join(" or ")));
            }
            Expect::Live(_) if ran.code != Some(0) => {
                let said = String::from_utf8_lossy(&ran.stderr).chars().take(400).collect::<String>();
                self.complain("expected", format!("{end}, instead of live: {}", said.escape_debug()));
            }
            Expect::Live(files) => {
                for (path, content) in files {
                    let file = self.place.site().join("current").join(path);
                    let found = match fs::read_link(&file) {
                        Ok(target) => target.to_string_lossy().into_owned().into_bytes(),
                        Err(_) => fs::read(&file).unwrap_or_default(),
                    };
                    if found != *content {
                        let shown = |bytes: &[u8]| {
                            bytes.iter().take(60).copied().collect::<Vec<_>>().escape_ascii().to_string()
                        };
                        self.complain(
                            "expected",
                            format!("{path} holds {}, not {}", shown(&found), shown(content)),
                        );
                    }
                }
            }
            Expect::Refused(_) | Expect::Either(_) => {}
        }
        self.verdict.end = end;
        Ok(())
    }

    /// Lets every command that shows something show it; of what was refused there is less to show.
    fn ask_everything(&mut self) -> Result<()> {
        let always = [&["why", PROJECT][..], &["why", "1"], &["history", PROJECT], &["status"]];
        let live = [
            &["plan", PROJECT][..],
            &["history", PROJECT, "--json"],
            &["releases", PROJECT],
            &["logs", PROJECT],
            &["notify", "list", PROJECT],
            &["check", PROJECT],
        ];
        let live = live.into_iter().filter(|_| self.verdict.end == "live");
        for words in always.into_iter().chain(live).collect::<Vec<_>>() {
            self.run(words)?;
        }
        Ok(())
    }

    /// Runs a command, and judges how it went about it.
    fn run(&mut self, words: &[&str]) -> Result<Watched> {
        let mut command = Command::new(self.stage.program);
        command.args(words).current_dir(self.place.user()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.place.user()).env("TMPDIR", self.place.temporary()).env("USER", "ada");
        command.env("EEVEON_HOME", self.place.home()).env("SITE", self.place.site());
        command.envs([("AWS_SECRET_ACCESS_KEY", SECRET), ("EEVEON_TOKEN", SECRET), ("GIT_TOKEN", SECRET)]);
        // What a user has set for git by environment is for that user's git.
        command.env("GIT_SSH_COMMAND", format!("touch {}", self.place.pwned()));
        let watched = watch(&command, &self.stage.folder.join("said"), self.stage.limit)
            .with_context(|| format!("cannot watch `{}`", words.join(" ")))?;
        self.verdict.memory = self.verdict.memory.max(watched.memory);
        self.verdict.programs += watched.programs.len();
        if watched.late {
            self.complain(
                "time",
                format!("`{}` or what it started took longer than {:?}", words.join(" "), self.stage.limit),
            );
        }
        if watched.memory > self.memory {
            self.complain("memory", format!("`{}` took {} MiB", words.join(" "), watched.memory >> 20));
        }
        for program in watched.programs.iter().skip(1) {
            if !self.may_start(program) {
                self.complain("process", format!("`{}` started {program:?}", words.join(" ")));
            }
        }
        for Violation { rule, how } in oracle::said(&watched, &self.forms) {
            self.complain(rule, format!("`{}`: {how}", words.join(" ")));
        }
        Ok(watched)
    }

    /// Whether configuration, or reading a repository on this machine, asks for this program.
    fn may_start(&self, program: &[String]) -> bool {
        let words: Vec<&str> = program.iter().map(String::as_str).collect();
        let name = words.first().and_then(|word| word.rsplit('/').next()).unwrap_or_default();
        match words.as_slice() {
            // Ours, word by word.
            [_, "upload-pack", "--", path] => {
                name == "git" && self.sources.iter().any(|source| source == path)
            }
            ["/bin/sh", "-c", WAITS, "sh", rest @ ..] => self.is_build(rest),
            words if self.is_build(words) => true,
            // What git and the shell make of that.
            [_, "pack-objects", options @ ..] | [_, "--shallow-file", "", "pack-objects", options @ ..] => {
                name == "git" && options.iter().all(|it| it.starts_with('-'))
            }
            _ => {
                self.stage.also.contains(&name)
                    || self.build.iter().any(|line| line.split(' ').any(|it| it == name))
            }
        }
    }

    /// Whether these words are the shell that runs a configured command.
    fn is_build(&self, words: &[&str]) -> bool {
        matches!(words, ["/bin/sh", "-eu", "-c", "--", line] if self.build.contains(line))
    }

    /// Judges what lies where: outside, and in the releases.
    fn look_around(&mut self, before: &super::place::Snapshot) -> Result<()> {
        let mut broken: Vec<Violation> = Vec::new();
        broken
            .extend(self.place.snapshot()?.changes(before).into_iter().map(|how| violation("outside", how)));
        broken.extend(oracle::releases(&self.place.site())?);
        for folder in [self.place.site(), self.place.home()] {
            broken.extend(self.forms.below(&folder)?);
        }
        self.verdict.broken.extend(broken);
        Ok(())
    }

    fn complain(&mut self, rule: &'static str, how: String) {
        self.verdict.broken.push(violation(rule, how));
    }
}

impl Verdict {
    /// Returns the rules that are broken.
    pub(crate) fn rules(&self) -> BTreeSet<&'static str> {
        self.broken.iter().map(|it| it.rule).collect()
    }
}
