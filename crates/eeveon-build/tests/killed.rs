//! What a killed EEveon leaves running is found and ended by the next one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{self, Stdio},
};

use eeveon_build::{
    Command, CommandLine, CommandParams, Environment, Job, Limits, Place, Runner, StepLog, reap,
};
use eeveon_core::{Action, DeploymentId, Fence, Permit, Stage, StepContext, StepKey, StepSpec};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "EEVEON_TEST_FOLDER";

/// Plays the EEveon that is killed: runs a command that does not end.
fn play_victim(folder: &Path) {
    let path = ("PATH".to_owned(), "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    let runner = Runner::new(Environment::new([path]).unwrap(), Limits::default());
    // The stubborn one would end in an orderly way, but only after longer than anybody waits for that.
    let line = "if test -e stubborn; then trap 'sleep 4; echo x >late' TERM; fi
        echo $$ >leader
        (if test -e stubborn; then trap '' TERM; fi
            sleep 1000 & echo $! >child; echo x >ready; wait) &
        wait";
    let command =
        CommandLine { line: line.to_owned(), args: Vec::new(), timeout_ms: 600_000, idle_ms: 600_000 };
    let log = StepLog::new(folder, DeploymentId(3), &StepKey::new("build/1"));
    let env = Environment::default();
    let job = Job { name: "endless", command: &command, folder, env, log: &log };
    runner.run(&job, &CancellationToken::new()).unwrap();
}

fn runs(folder: &Path, file: &str) -> bool {
    let pid = fs::read_to_string(folder.join(file)).unwrap();
    let stat = fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

fn kill(folder: &Path, file: &str) {
    let pid = fs::read_to_string(folder.join(file)).unwrap();
    assert!(process::Command::new("kill").args(["-KILL", pid.trim()]).status().unwrap().success());
}

/// Takes the step back, which has nothing else to do.
fn take_back(folder: &Path, deployment: DeploymentId, key: StepKey) {
    let runner = Runner::new(Environment::default(), Limits::default());
    let action = Command::new(runner, folder.to_owned(), Environment::default());
    let place = Place::Folder(folder.to_owned());
    let params =
        CommandParams { name: String::new(), run: None, undo: None, place, env: BTreeMap::new(), ask: false };
    let step = StepSpec { key, stage: Stage::Build, action: Command::NAME.to_owned(), params: Value::Null };
    let permit = Permit::new(Fence(1), CancellationToken::new());
    let cx = StepContext { deployment, step: &step, attempt: 1, permit, outputs: &BTreeMap::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(action.undo(&cx, &params, None)).unwrap();
}

#[test]
fn leftovers_of_a_killed_process_are_ended() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return play_victim(&PathBuf::from(folder));
    }
    for leader_is_gone in [false, true] {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        if !leader_is_gone {
            fs::write(folder.join("stubborn"), "").unwrap();
        }
        assert!(process::Command::new("mkfifo").arg(folder.join("ready")).status().unwrap().success());
        let mut victim = process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "leftovers_of_a_killed_process_are_ended"])
            .env(FOLDER, folder)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Reading blocks until the command is under way.
        fs::read(folder.join("ready")).unwrap();
        victim.kill().unwrap();
        victim.wait().unwrap();
        assert!(runs(folder, "leader") && runs(folder, "child"), "killing one must not reach the others");
        if leader_is_gone {
            // Then the group must be recognised by another of its members.
            kill(folder, "leader");
        }

        let (deployment, step) = (DeploymentId(3), StepKey::new("build/1"));
        assert!(
            !reap(folder, deployment, &StepKey::new("build/2")).unwrap(),
            "another step's are left alone"
        );
        assert!(runs(folder, "child"));
        match leader_is_gone {
            true => assert!(reap(folder, deployment, &step).unwrap()),
            false => take_back(folder, deployment, step.clone()),
        }
        assert!(!runs(folder, "leader") && !runs(folder, "child"));
        assert!(!folder.join("late").exists(), "the next command was kept waiting");
        assert!(!reap(folder, deployment, &step).unwrap(), "there is nothing left to do");
    }
}
