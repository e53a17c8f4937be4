//! Commands beside a daemon: they hand it their request and follow it, and leave the same history as
//! commands that do the work themselves.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
};

use serde_json::Value;

use crate::{
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

/// What of a deployment's row does not depend on when it was made.
fn told(row: &Value) -> Value {
    let mut row = row.clone();
    for key in ["started_at", "finished_at", "duration_ms"] {
        row.as_object_mut().unwrap().remove(key);
    }
    row
}

/// Deploys, fails, goes back; returns what the commands said and the history.
fn life(sandbox: &Sandbox) -> (Vec<(i32, String)>, Vec<Value>) {
    let first = sandbox.git(&["rev-parse", "HEAD"]);
    let mut said = Vec::new();
    let mut run = |args: &[&str]| {
        let ran = sandbox.run(args);
        // Times differ.
        let text = ran.stdout.split("  (").next().unwrap_or_default().trim().to_owned();
        said.push((ran.code, text));
    };
    run(&["deploy", "app", "--reason", "first"]);
    run(&["deploy", "app"]);
    run(&["deploy", "app", "--again"]);
    sandbox.commit("second", &[("a", "2")]);
    sandbox.configure("build.commands = [\"! grep -q bad a\"]");
    run(&["deploy", "app", "--rev", "main"]);
    sandbox.commit("bad", &[("a", "bad")]);
    run(&["deploy", "app"]);
    run(&["deploy", "app", "--rev", &first]);
    run(&["rollback", "app", "--yes", "--reason", "no good"]);
    let history = sandbox.run(&["history", "app", "--json"]).json();
    (said, history.as_array().unwrap().iter().map(told).collect())
}

#[test]
fn with_a_daemon_and_without_commands_say_and_leave_the_same() {
    let without = Sandbox::with_project(&[("a", "1")]);
    let with = Sandbox::with_project(&[("a", "1")]);
    with.configure("source.poll = false");
    let daemon = Daemon::start(&with);
    let (said_alone, history_alone) = life(&without);
    let (said_beside, history_beside) = life(&with);
    drop(daemon);
    assert_eq!(said_alone.iter().map(|it| it.0).collect::<Vec<_>>(), [0, 0, 0, 0, 10, 13, 0]);
    let folder = |sandbox: &Sandbox, said: Vec<(i32, String)>| -> Vec<(i32, String)> {
        let path = sandbox.path().display().to_string();
        said.into_iter().map(|(code, text)| (code, text.replace(&path, "SANDBOX"))).collect()
    };
    assert_eq!(folder(&without, said_alone), folder(&with, said_beside));
    assert_eq!(history_alone.len(), 6, "{history_alone:#?}");
    let strip = |rows: Vec<Value>| -> Vec<Value> {
        rows.into_iter()
            .map(|mut row| {
                // The log's place differs with the home.
                row.as_object_mut().unwrap().remove("failure");
                row
            })
            .collect()
    };
    assert_eq!(strip(history_alone), strip(history_beside));
}

#[test]
fn a_command_follows_the_daemon_and_its_interruption_takes_the_deployment_back() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("build.commands = [\"test -e ../../go || sleep 1000\"]");
    sandbox.configure("source.poll = false");
    let daemon = Daemon::start(&sandbox);
    let socket = std::fs::metadata(sandbox.home().join("daemon.sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    let args = ["deploy", "app"];
    let command = sandbox.start(&args);
    let status = || sandbox.run(&["status", "app", "--json"]).json();
    eventually("a build", || status()["running"]["step"].as_str().is_some_and(|it| it.starts_with("build/")));
    // The daemon has it, and says so.
    assert_eq!(status()["requests"][0]["state"], "running", "{}", status());
    let pid = command.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = sandbox.finish(&args, command).expect_code(10);
    assert!(ran.stderr.contains("cancelled and taken back"), "{ran}");
    assert!(ran.stderr.contains("the daemon does it"), "{ran}");
    // Its steps are shown as they happen, by the command.
    assert!(ran.stderr.contains("back"), "{ran}");
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stdout.contains("release 2 is live") || ran.stdout.contains("release 1 is live"), "{ran}");
    drop(daemon);
}

#[test]
fn the_daemon_waits_in_line_for_a_project_that_a_command_works_on() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("build.commands = [\"test -e ../../go || sleep 1000\"]");
    sandbox.configure("source.poll = false");
    let args = ["deploy", "app", "--no-wait"];
    let command = sandbox.start(&args);
    let status = || sandbox.run(&["status", "app", "--json"]).json();
    eventually("a build", || status()["running"]["step"].as_str().is_some_and(|it| it.starts_with("build/")));
    let daemon = Daemon::start(&sandbox);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    sandbox.commit("second", &[("a", "2")]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("cli/busy");
    eventually("it waits", || status()["requests"][0]["state"] == "waiting");
    let pid = command.id().to_string();
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    sandbox.finish(&args, command).expect_code(10);
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
}

#[test]
fn a_command_that_leaves_takes_nothing_from_others() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("build.commands = [\"test -e ../../go || sleep 1000\"]");
    sandbox.configure("source.poll = false");
    let daemon = Daemon::start(&sandbox);
    let args = ["deploy", "app"];
    let first = sandbox.start(&args);
    let status = || sandbox.run(&["status", "app", "--json"]).json();
    eventually("a build", || status()["running"]["step"].as_str().is_some_and(|it| it.starts_with("build/")));
    // While it is worked on, why it does not deploy is told all the same.
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("shut  lease") && why.stdout.contains("open  something new"), "{why}");
    let mut second = sandbox.start(&args);
    let interrupt = |pid: u32| {
        assert!(
            std::process::Command::new("kill").args(["-INT", &pid.to_string()]).status().unwrap().success()
        );
    };
    let mut said = BufReader::new(second.stderr.take().unwrap());
    let mut text = String::new();
    while !text.contains("does the same") {
        assert_ne!(said.read_line(&mut text).unwrap(), 0, "{text}");
    }
    interrupt(second.id());
    said.read_to_string(&mut text).unwrap();
    assert!(text.contains("cli/goes-on"), "{text}");
    assert_eq!(second.wait().unwrap().code(), Some(10));
    interrupt(first.id());
    let ran = sandbox.finish(&args, first).expect_code(10);
    assert!(ran.stderr.contains("cli/goes-on"), "{ran}");
    assert!(status()["running"]["step"].is_string());
    // For all, and on record.
    sandbox.run(&["queue", "cancel", "1"]).expect_code(0);
    daemon.hears("cancelled");
    let why = sandbox.run(&["why", "1"]).expect_code(0);
    assert!(why.stdout.contains("cancelled   by "), "{why}");
    drop(daemon);
}

#[test]
fn a_daemon_that_is_killed_while_a_command_follows_finishes_later() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("build.commands = [\"test -e ../../go || sleep 1000\"]");
    sandbox.configure("source.poll = false");
    let daemon = Daemon::start(&sandbox);
    let args = ["deploy", "app"];
    let command = sandbox.start(&args);
    let status = || sandbox.run(&["status", "app", "--json"]).json();
    eventually("a build", || status()["running"]["step"].as_str().is_some_and(|it| it.starts_with("build/")));
    daemon.signal("-KILL");
    drop(daemon);
    let ran = sandbox.finish(&args, command).expect_code(30);
    assert!(ran.stderr.contains("daemon/ended"), "{ran}");
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    let daemon = Daemon::start(&sandbox);
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn a_stopped_daemon_keeps_no_command_from_its_work() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("source.poll = false");
    let mut daemon = Daemon::start(&sandbox);
    // What a daemon left that died is no daemon.
    daemon.signal("-KILL");
    daemon.child.wait().unwrap();
    assert!(sandbox.home().join("daemon.sock").exists());
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn what_waits_is_listed_cancelled_and_lifted() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let ran = sandbox.run(&["queue"]).expect_code(0);
    assert!(ran.stderr.contains("nothing waits"), "{ran}");
    assert!(sandbox.run(&["queue", "cancel", "7"]).expect_code(2).stderr.contains("no request 7"));
    assert!(sandbox.run(&["queue", "lift", "app"]).expect_code(0).stderr.contains("no request"));
    // A newest commit that waits for its window.
    sandbox.commit("second", &[("a", "2")]);
    let mut daemon = Daemon::start(&sandbox);
    sandbox.run(&["freeze", "app", "--reason", "sale"]).expect_code(0);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    let rows = sandbox.run(&["queue", "--json"]).json();
    assert_eq!(
        (rows[0]["state"].as_str(), rows[0]["project"].as_str()),
        (Some("waiting"), Some("app")),
        "{rows}"
    );
    let status = sandbox.run(&["status"]).expect_code(0);
    assert!(
        status.stdout.contains("1 request in line") && status.stdout.contains("frozen: sale"),
        "{status}"
    );
    daemon.signal("-TERM");
    assert!(daemon.child.wait().unwrap().success());
    // Without a daemon it still waits, and can be cancelled.
    let request = rows[0]["request"].to_string();
    sandbox.run(&["queue", "cancel", &request]).expect_code(0);
    assert_eq!(sandbox.run(&["queue", "--json"]).json(), serde_json::json!([]));
    assert!(sandbox.run(&["queue", "clear"]).expect_code(2).stderr.contains("cli/no-terminal"));
    sandbox.run(&["queue", "clear", "--yes"]).expect_code(0);
    // A delivery can be asked for again, and asks for what it did.
    let refused = sandbox.run(&["webhook", "replay", "app", "1"]).expect_code(13);
    assert!(refused.stderr.contains("daemon/window-shut"), "{refused}");
    sandbox.run(&["freeze", "app", "--lift"]).expect_code(0);
    sandbox.run(&["webhook", "replay", "app", "1"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    assert!(sandbox.run(&["webhook", "replay", "app", "none"]).expect_code(2).stderr.contains("no delivery"));
}
