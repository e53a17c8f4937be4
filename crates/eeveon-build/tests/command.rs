//! The action passes the suite, and its parameters keep their form.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    future::{Future, poll_fn},
    path::PathBuf,
    pin::pin,
    task::Poll,
};

use eeveon_build::{Command, CommandLine, CommandParams, Environment, Limits, Place, Ran, Runner, log::tail};
use eeveon_core::{
    Action, DeploymentId, Endpoint, Fence, Permit, Placed, Stage, StepContext, StepError, StepKey, StepSpec,
};
use eeveon_testkit::action::{Scene, check_action};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// A folder that a command works in.
struct Workshop<const TAKES_BACK: bool> {
    folder: tempfile::TempDir,
    run: Option<&'static str>,
    undo: Option<&'static str>,
}

impl<const TAKES_BACK: bool> Workshop<TAKES_BACK> {
    fn new(run: Option<&'static str>, undo: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("release")).unwrap();
        fs::write(folder.path().join("release/app"), "app").unwrap();
        Self { folder, run, undo }
    }

    fn release(&self) -> PathBuf {
        self.folder.path().join("release")
    }

    /// Runs or takes back, once.
    fn once(&self, undo: bool) -> Result<Option<Ran>, StepError> {
        self.within(async |action, cx, params| match undo {
            false => action.run(cx, params).await,
            true => action.undo(cx, params, None).await.map(|()| None),
        })
    }

    /// Does something with the action, in a process of its own so to speak.
    fn within<T>(&self, deed: impl AsyncFnOnce(&Command, &StepContext<'_>, &CommandParams) -> T) -> T {
        let (action, params, outputs) = (self.action(), self.params(), self.outputs());
        let step = StepSpec {
            key: StepKey::new("build/local/1"),
            stage: Stage::Build,
            action: Command::NAME.to_owned(),
            params: Value::Null,
        };
        let permit = Permit::new(Fence(1), CancellationToken::new());
        let cx =
            StepContext { deployment: DeploymentId(7), step: &step, attempt: 1, permit, outputs: &outputs };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(deed(&action, &cx, &params))
    }

    fn log(&self, name: &str) -> Vec<String> {
        let lines = tail(&self.folder.path().join("logs/7").join(name), 20).unwrap();
        lines.iter().map(|line| line.as_raw().to_owned()).collect()
    }
}

impl<const TAKES_BACK: bool> Scene for Workshop<TAKES_BACK> {
    type Action = Command;
    const TAKES_BACK: bool = TAKES_BACK;

    fn action(&self) -> Command {
        let one = |name: &str, value: &str| Environment::new([(name.to_owned(), value.to_owned())]).unwrap();
        let runner = Runner::new(one("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), Limits::default());
        Command::new(runner, self.folder.path().join("logs"), one("TOKEN", "hunter2"))
    }

    fn params(&self) -> CommandParams {
        let line = |line: &str| CommandLine {
            line: line.to_owned(),
            args: Vec::new(),
            timeout_ms: 60_000,
            idle_ms: 60_000,
        };
        CommandParams {
            name: "make".to_owned(),
            run: self.run.map(line),
            undo: self.undo.map(line),
            place: serde_json::from_value(json!({"release": "ship/local"})).unwrap(),
            env: BTreeMap::from([("EEVEON_PROJECT".to_owned(), "shop".to_owned())]),
            ask: false,
        }
    }

    fn outputs(&self) -> BTreeMap<StepKey, Value> {
        let endpoint = Endpoint(self.release().to_str().unwrap().to_owned());
        let placed = Placed { endpoint, files: 1, bytes: 3, written: 1, extra: 0 };
        BTreeMap::from([(StepKey::new("ship/local"), serde_json::to_value(placed).unwrap())])
    }

    fn snapshot(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.release())
            .unwrap()
            .map(|file| file.unwrap())
            .map(|file| format!("{:?}: {}\n", file.file_name(), fs::read_to_string(file.path()).unwrap()))
            .collect();
        files.sort();
        files.concat()
    }
}

#[test]
fn a_build_passes() {
    let line = "cat app app >out.new; mv out.new out; rm -f half; echo half >half; rm half";
    check_action(|| Workshop::<false>::new(Some(line), None));
}

#[test]
fn a_hook_with_a_way_back_passes() {
    let run = "echo on >flag; (sleep 1000 >/dev/null 2>&1 &)";
    check_action(|| Workshop::<true>::new(Some(run), Some("rm -f flag")));
}

#[test]
fn a_hook_that_only_acts_on_the_way_back_passes() {
    check_action(|| Workshop::<true>::new(None, Some("test -e app")));
}

#[test]
fn it_runs_in_the_release_with_all_its_variables() {
    let shop = Workshop::<false>::new(Some("echo $EEVEON_PROJECT $TOKEN; cat app; echo"), None);
    let ran = shop.once(false).unwrap().unwrap();
    assert_eq!(ran.log, "build-local-1.log");
    assert_eq!(ran.output_bytes, 17);
    assert_eq!(shop.log("build-local-1.log"), ["shop hunter2", "app"]);
    assert!(!serde_json::to_string(&shop.params()).unwrap().contains("hunter2"));
    assert!(!format!("{:?}", shop.action()).contains("hunter2"));
}

#[test]
fn taking_back_leaves_the_output_of_the_failure() {
    let shop = Workshop::<false>::new(Some("echo broken; exit 4"), Some("echo reloaded"));
    let error = shop.once(false).unwrap_err();
    assert_eq!(error.diagnosis().code(), "build/failed");
    assert_eq!(error.to_string(), "command \"make\" exited with status 4");
    shop.once(true).unwrap();
    assert_eq!(shop.log("build-local-1.log"), ["broken"]);
    assert_eq!(shop.log("build-local-1.undo.log"), ["reloaded"]);
}

#[test]
fn a_command_nobody_waits_for_any_more_is_ended() {
    let shop = Workshop::<false>::new(Some("echo x >ready; exec sleep 1000"), None);
    let fifo = shop.release().join("ready");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    shop.within(async |action, cx, params| {
        let mut run = pin!(action.run(cx, params));
        assert!(poll_fn(|cx| Poll::Ready(run.as_mut().poll(cx).is_pending())).await);
        // Reading blocks until the command is under way.
        fs::read(&fifo).unwrap();
    });
    assert_eq!(shop.log("build-local-1.log"), ["eeveon: cancelled; the command is ended"]);
}

#[test]
fn a_way_back_that_fails_is_told() {
    let shop = Workshop::<false>::new(None, Some("exit 5"));
    assert_eq!(shop.once(true).unwrap_err().to_string(), "command \"make\" exited with status 5");
}

#[test]
fn nothing_to_run_is_nothing_done() {
    let shop = Workshop::<false>::new(None, None);
    assert_eq!(shop.once(false).unwrap(), None);
    shop.once(true).unwrap();
    assert!(!shop.folder.path().join("logs").exists());
}

#[test]
fn what_plans_hold_stays_readable() {
    let golden = fs::read_to_string("tests/golden/command-params-1.json").unwrap();
    for line in golden.lines() {
        let params: CommandParams = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_string(&params).unwrap(), line);
    }
    let vector = fs::read_to_string("tests/golden/command-line-args-1.json").unwrap();
    let line: CommandLine = serde_json::from_str(vector.trim_end()).unwrap();
    assert_eq!(line.args, ["./bin/check", "--deep"]);
    assert_eq!(serde_json::to_string(&line).unwrap(), vector.trim_end());
    let folder = serde_json::from_str::<CommandParams>(golden.lines().nth(1).unwrap()).unwrap().place;
    assert!(matches!(folder, Place::Folder(path) if path == *"/srv/shop/current"));
}

#[test]
fn what_journals_hold_stays_readable() {
    let golden = fs::read_to_string("tests/golden/command-output-1.json").unwrap();
    let expected = [Some(Ran { duration_ms: 1234, log: "build-1.log".to_owned(), output_bytes: 17 }), None];
    for (line, expected) in golden.lines().zip(expected) {
        assert_eq!(serde_json::from_str::<Option<Ran>>(line).unwrap(), expected);
        assert_eq!(serde_json::to_string(&expected).unwrap(), line);
    }
}
