//! What the runner does with commands of every temper, tried on real ones.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{collections::BTreeMap, fs, path::Path, thread};

use eeveon_build::{
    BuildError, CommandLine, Environment, Job, Limits, Ran, Runner, StepLog,
    log::{self, tail},
};
use eeveon_core::{DeploymentId, Diagnose, StepKey};
use tokio_util::sync::CancellationToken;

const LONG: u64 = 120_000;

/// A folder to run in, its logs, and how to run.
struct Bench {
    folder: tempfile::TempDir,
    runner: Runner,
    cancel: CancellationToken,
}

fn variables<const N: usize>(variables: [(&str, &str); N]) -> Environment {
    Environment::new(variables.map(|(name, value)| (name.to_owned(), value.to_owned()))).unwrap()
}

fn base() -> Environment {
    variables([("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C")])
}

impl Bench {
    fn new() -> Self {
        Self::limited(Limits::default())
    }

    fn limited(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("work")).unwrap();
        Self { folder, runner: Runner::new(base(), limits), cancel: CancellationToken::new() }
    }

    fn run(&self, line: &str) -> Result<Ran, BuildError> {
        self.run_for(line, LONG, LONG)
    }

    fn run_for(&self, line: &str, timeout_ms: u64, idle_ms: u64) -> Result<Ran, BuildError> {
        let command = CommandLine { line: line.to_owned(), args: Vec::new(), timeout_ms, idle_ms };
        let (folder, env, log) = (self.work(), Environment::default(), self.log());
        self.runner.run(&Job { name: line, command: &command, folder: &folder, env, log: &log }, &self.cancel)
    }

    fn run_vector(&self, args: Vec<String>) -> Result<Ran, BuildError> {
        let command = CommandLine { line: String::new(), args, timeout_ms: LONG, idle_ms: LONG };
        let (folder, env, log) = (self.work(), Environment::default(), self.log());
        let job = Job { name: "vector", command: &command, folder: &folder, env, log: &log };
        self.runner.run(&job, &self.cancel)
    }

    fn work(&self) -> std::path::PathBuf {
        self.folder.path().join("work")
    }

    fn log(&self) -> StepLog {
        StepLog::new(&self.folder.path().join("logs"), DeploymentId(1), &StepKey::new("build/1"))
    }

    fn logged(&self) -> String {
        fs::read_to_string(self.log().path()).unwrap()
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.work().join(file)).unwrap()
    }

    /// Tells whether the process whose number is in `file` still runs.
    fn runs(&self, file: &str) -> bool {
        runs(self.read(file).trim())
    }

    /// Tells whether there is still a record of a running command.
    fn on_record(&self) -> bool {
        self.log().path().with_extension("pid").exists()
    }
}

fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

#[test]
fn a_command_runs_as_it_stands() {
    let bench = Bench::new();
    let ran = bench.run("printf '%s\\n' \"a  b\" '$HOME' \\\\ `echo c` >out\npwd >>out").unwrap();
    let work = bench.work().canonicalize().unwrap();
    assert_eq!(bench.read("out"), format!("a  b\n$HOME\n\\\nc\n{}\n", work.display()));
    assert_eq!((ran.output_bytes, ran.log.as_str()), (0, "build-1.log"));
    assert!(!bench.on_record());
}

#[test]
fn a_command_that_looks_like_an_option_is_a_command() {
    let error = Bench::new().run("-x").unwrap_err();
    assert!(matches!(error, BuildError::Failed { status: 127, .. }), "{error:?}");
}

#[test]
fn the_first_failure_and_the_first_unset_variable_end_it() {
    for (line, expected) in
        [("false; touch out", 1), ("exit 42; touch out", 42), ("echo $NOPE; touch out", 2)]
    {
        let bench = Bench::new();
        match bench.run(line).unwrap_err() {
            BuildError::Failed { status, .. } => assert_eq!(status, expected, "{line}"),
            other => unreachable!("{other:?}"),
        }
        assert!(!bench.work().join("out").exists());
        assert!(!bench.on_record());
    }
}

#[test]
fn a_failure_says_which_command_and_how() {
    let error = Bench::new().run("exit 3 # \u{1b}[2J").unwrap_err();
    assert_eq!(error.to_string(), "command \"exit 3 # \\u{1b}[2J\" exited with status 3");
    assert_eq!(error.code(), "build/failed");
    let error = Bench::new().run("kill -9 $$").unwrap_err();
    assert_eq!(error.to_string(), "command \"kill -9 $$\" was killed by signal 9");
    assert_eq!(error.code(), "build/killed");
}

#[test]
fn it_sees_the_environment_it_was_given_and_no_more() {
    let bench = Bench::new();
    let command =
        CommandLine { line: "env >out".to_owned(), args: Vec::new(), timeout_ms: LONG, idle_ms: LONG };
    let env = variables([("LANG", "de"), ("TOKEN", "a b\n'\"$(id)`id`;\u{1b}")]);
    let (folder, log) = (bench.work(), bench.log());
    bench
        .runner
        .run(&Job { name: "env", command: &command, folder: &folder, env, log: &log }, &bench.cancel)
        .unwrap();
    let out = bench.read("out");
    let names: BTreeMap<&str, &str> = out.lines().filter_map(|line| line.split_once('=')).collect();
    // The shell's own, whichever shell it is.
    let own = ["PWD", "OLDPWD", "SHLVL", "_"];
    let given: Vec<&str> = names.keys().copied().filter(|name| !own.contains(name)).collect();
    assert_eq!(given, ["EEVEON_RUN", "LANG", "PATH", "TOKEN"]);
    assert_eq!(names["LANG"], "de");
    assert!(out.contains("TOKEN=a b\n'\"$(id)`id`;\u{1b}\n"));
    let argument_list = bench.run("tr '\\0' ' ' </proc/$$/cmdline >out").map(|_| bench.read("out")).unwrap();
    assert!(!argument_list.contains("EEVEON_RUN"));
}

#[test]
fn nothing_can_be_asked_of_anybody() {
    let bench = Bench::new();
    bench.run("cat; if read -r answer; then exit 1; fi; test ! -t 0").unwrap();
}

#[test]
fn both_outputs_come_in_order() {
    let bench = Bench::new();
    let ran = bench.run("for n in 1 2 3; do echo out $n; echo err $n >&2; done; printf end").unwrap();
    let expected = "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\nend";
    assert_eq!(bench.logged(), expected);
    assert_eq!(ran.output_bytes, expected.len() as u64);
    let last: Vec<_> =
        tail(&bench.log().path(), 2).unwrap().iter().map(|line| line.as_raw().to_owned()).collect();
    assert_eq!(last, ["err 3", "end"]);
}

#[test]
fn a_second_run_adds_to_the_log() {
    let bench = Bench::new();
    bench.run("echo one").unwrap();
    bench.run("echo two").unwrap();
    assert_eq!(bench.logged(), "one\ntwo\n");
}

#[test]
fn what_cannot_start_says_so() {
    let bench = Bench::new();
    fs::remove_dir(bench.work()).unwrap();
    let error = bench.run("true").unwrap_err();
    assert_eq!(error.code(), "build/start");
    assert!(error.to_string().contains(bench.work().to_str().unwrap()), "{error}");
    let error = Bench::new().run("true\0").unwrap_err();
    assert_eq!(error.code(), "build/start");
    let error = Bench::new().run(&"x".repeat(1 << 20)).unwrap_err();
    assert_eq!(error.code(), "build/start");
}

#[test]
fn a_log_that_cannot_be_written_is_told() {
    let bench = Bench::new();
    fs::write(bench.folder.path().join("logs"), "in the way").unwrap();
    assert_eq!(bench.run("touch out").unwrap_err().code(), "build/log");
    assert!(!bench.work().join("out").exists());
}

#[test]
fn a_command_that_ignores_the_request_to_end_is_killed() {
    let mut bench = Bench::new();
    bench.runner = bench.runner.with_grace(std::time::Duration::from_millis(100));
    let line = "trap '' TERM; echo $$ >pid; sleep 1000 & echo $! >child; while :; do wait; sleep 1000; done";
    let error = bench.run_for(line, 500, LONG).unwrap_err();
    assert!(matches!(error, BuildError::TimedOut { limit_ms: 500, .. }), "{error:?}");
    assert!(!bench.runs("pid") && !bench.runs("child"));
    assert!(bench.logged().contains("eeveon: its time is over"));
    assert!(!bench.on_record());
}

#[test]
fn a_silent_command_is_ended() {
    let bench = Bench::new();
    let error = bench.run_for("echo $$ >pid; echo begun; exec sleep 1000", LONG, 500).unwrap_err();
    assert!(matches!(error, BuildError::Silent { limit_ms: 500, .. }), "{error:?}");
    assert!(!bench.runs("pid"));
    assert!(bench.logged().starts_with("begun\n"));
}

#[test]
fn a_cancelled_command_may_end_in_an_orderly_way() {
    let mut bench = Bench::new();
    bench.runner = bench.runner.with_grace(std::time::Duration::from_secs(60));
    let fifo = bench.work().join("ready");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let line = "trap 'echo orderly; exit 0' TERM
        sleep 1000 & echo $! >child
        echo x >ready
        wait";
    let error = thread::scope(|scope| {
        let run = scope.spawn(|| bench.run(line));
        // Reading blocks until the command is where it should be.
        fs::read(&fifo).unwrap();
        bench.cancel.cancel();
        run.join().unwrap().unwrap_err()
    });
    assert_eq!(error.code(), "engine/cancelled");
    assert!(bench.logged().contains("\norderly\n"), "{}", bench.logged());
    assert!(!bench.runs("child"));
    assert!(!bench.on_record());
}

#[test]
fn a_stopped_command_can_be_ended_too() {
    let mut bench = Bench::new();
    bench.runner = bench.runner.with_grace(std::time::Duration::from_secs(60));
    // The shell stops itself; only if it goes on can it say so.
    let error =
        bench.run_for("trap 'echo orderly; exit 0' TERM; kill -STOP $$; sleep 1000", 500, LONG).unwrap_err();
    assert_eq!(error.code(), "build/timed-out");
    assert!(bench.logged().contains("orderly"), "{}", bench.logged());
}

#[test]
fn nothing_begins_after_cancellation() {
    let bench = Bench::new();
    bench.cancel.cancel();
    assert_eq!(bench.run("touch out").unwrap_err().code(), "engine/cancelled");
    assert!(!bench.work().join("out").exists());
}

#[test]
fn what_stays_in_the_background_is_ended() {
    for keeps_output in ["", ">/dev/null 2>&1"] {
        let bench = Bench::new();
        bench.run(&format!("sleep 1000 {keeps_output} & echo $! >pid; echo done")).unwrap();
        assert!(!bench.runs("pid"));
        let logged = bench.logged();
        assert!(
            logged.starts_with("done\n") && logged.contains("left running in the background"),
            "{logged}"
        );
    }
}

#[test]
fn a_flood_of_output_is_bounded() {
    let mut bench = Bench::new();
    bench.runner = bench.runner.with_log_limit(1 << 20);
    let ran = bench.run("yes | head -c 30000000").unwrap();
    assert_eq!(ran.output_bytes, 30_000_000);
    let files: Vec<u64> = fs::read_dir(bench.log().path().parent().unwrap())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|size| *size <= 1 << 20), "{files:?}");
    let mut reader = log::LogReader::from_start(&bench.log().path());
    assert!(reader.poll().unwrap().len() < 1 << 20);

    let error = bench.run_for("yes", 500, LONG).unwrap_err();
    assert_eq!(error.code(), "build/timed-out");
}

#[test]
fn it_steps_back_behind_others() {
    let own = std::process::Command::new("nice").output().unwrap().stdout;
    let own: i32 = String::from_utf8(own).unwrap().trim().parse().unwrap();
    let bench = Bench::limited(Limits { nice: 7, ..Limits::default() });
    bench.run("nice >out").unwrap();
    assert_eq!(bench.read("out").trim(), own.max(7).to_string());
}

#[test]
fn memory_is_limited() {
    let bench = Bench::limited(Limits { memory_bytes: Some(64 << 20), ..Limits::default() });
    if !bench.runner.enforced().memory {
        eprintln!("skipped: no cgroup here can limit memory");
        return;
    }
    bench.run("head -c 1000000 /dev/zero | tail >/dev/null").unwrap();
    // One line of zeros without end, which `tail` must keep.
    let error = bench.run("head -c 400000000 /dev/zero | tail >/dev/null").unwrap_err();
    assert!(matches!(error, BuildError::OutOfMemory { .. }), "{error:?}");
    assert_eq!(bench.run("exit 9").unwrap_err().code(), "build/failed", "the next one begins anew");
}

#[test]
fn a_fork_bomb_is_contained() {
    let bench = Bench::limited(Limits { processes: Some(40), ..Limits::default() });
    if !bench.runner.enforced().processes {
        eprintln!("skipped: no cgroup here can limit processes");
        return;
    }
    let error =
        bench.run_for("echo $EEVEON_RUN >mark; bomb() { bomb & bomb; }; bomb", 2000, LONG).unwrap_err();
    assert!(matches!(error.code(), "build/failed" | "build/timed-out" | "build/killed"), "{error:?}");
    let variable = format!("EEVEON_RUN={}", bench.read("mark").trim());
    let survivors = fs::read_dir("/proc").unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        let environ = fs::read(path.join("environ")).unwrap_or_default();
        let pid = path.file_name().and_then(|name| name.to_str().map(str::to_owned)).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|it| it == variable.as_bytes()) && runs(&pid)
    });
    assert_eq!(survivors.count(), 0);
}

#[test]
fn limits_that_were_not_asked_for_are_not_claimed() {
    let enforced = Bench::limited(Limits { nice: 0, memory_bytes: None, processes: None }).runner.enforced();
    assert!(!enforced.memory && !enforced.processes);
}

#[test]
fn inj_a_vector_reaches_its_program_as_it_is() {
    let bench = Bench::new();
    let odd = ["", "a b", "$(touch x)", "`touch x`", "'\"\\", "; touch x", "-n", "--", "*", "\n", "ä\u{1b}"];
    let args = ["printf", "%s\\0"].iter().chain(&odd).map(|it| (*it).to_owned()).collect();
    bench.run_vector(args).unwrap();
    let said = fs::read(bench.log().path()).unwrap();
    let said: Vec<_> = said.strip_suffix(b"\0").unwrap().split(|byte| *byte == 0).collect();
    assert_eq!(said, odd.map(str::as_bytes));
    assert!(!bench.work().join("x").exists());
}

#[test]
fn a_vector_is_watched_like_a_line() {
    let vector = |args: &[&str]| {
        let bench = Bench::new();
        let ended = bench.run_vector(args.iter().map(|it| (*it).to_owned()).collect());
        assert!(!bench.on_record());
        (ended.map_err(|error| error.code()), bench)
    };
    assert_eq!(vector(&["false"]).0.unwrap_err(), "build/failed");
    // No shell of its own: what is built into shells only is no program.
    assert_eq!(vector(&["exit", "0"]).0.unwrap_err(), "build/failed");
    let (ended, bench) = vector(&["no-such-program"]);
    assert_eq!(ended.unwrap_err(), "build/failed");
    assert!(bench.logged().contains("not found"), "{}", bench.logged());
    let (ended, bench) = vector(&["env"]);
    ended.unwrap();
    assert!(bench.logged().contains("EEVEON_RUN="), "{}", bench.logged());
}
