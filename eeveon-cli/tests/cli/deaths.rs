//! Any death: the next command of any kind finishes or takes back what was left.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

/// A project whose build waits for the test, in the middle of a deployment of the second commit.
fn in_mid_build() -> (Sandbox, std::process::Child, fs::File) {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let fifo = sandbox.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    sandbox.configure(&format!("build.commands = [\"cat {}\"]", fifo.display()));
    sandbox.commit("second", &[("a", "2")]);
    let child = sandbox.start(&["deploy", "app"]);
    let gate = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    (sandbox, child, gate)
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), signal).unwrap();
}

#[test]
fn the_next_command_takes_back_what_a_killed_one_left() {
    let (sandbox, child, _gate) = in_mid_build();
    signal(&child, Signal::KILL);
    sandbox.finish(&["deploy", "app"], child).expect_code(-1);
    let status = sandbox.run(&["status"]).expect_code(0);
    assert!(status.stderr.contains("deployment 2 of app was interrupted; it was taken back"), "{status}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    let left: Vec<String> = fs::read_dir(sandbox.site().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    // And once only.
    assert_eq!(sandbox.run(&["status"]).expect_code(0).stderr, "");
    sandbox.configure("deploy.keep = 3");
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text: String =
        text.lines().filter(|line| !line.starts_with("commands = ")).map(|l| l.to_owned() + "\n").collect();
    fs::write(file, text).unwrap();
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
}

#[test]
fn ctrl_c_and_sigterm_take_back_and_say_so() {
    for sig in [Signal::INT, Signal::TERM] {
        let (sandbox, child, _gate) = in_mid_build();
        signal(&child, sig);
        let ended = sandbox.finish(&["deploy", "app"], child).expect_code(10);
        assert!(ended.stderr.contains("was cancelled and taken back"), "{ended}");
        assert!(ended.stderr.contains("release 1"), "{ended}");
        assert_eq!(sandbox.live("a").as_deref(), Some("1"));
        assert_eq!(sandbox.run(&["status"]).expect_code(0).stderr, "", "nothing is left to settle");
    }
}

#[test]
fn a_commit_that_kills_its_daemon_three_times_is_put_aside_whoever_asks_for_it() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.configure("build.commands = [\"test ! -e poison || kill -9 $PPID\"]");
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let secret = shown["secret"].as_str().unwrap();
    let bad = sandbox.commit("poison", &[("a", "2"), ("poison", "")]);
    let push = |id: &str| {
        let mut daemon = Daemon::start(&sandbox);
        assert!(daemon.pushes("app", secret, id, &sandbox).starts_with("HTTP/1.1 202"));
        daemon.child.wait().unwrap();
    };
    // Each death is one of another request, as the one before is dropped.
    for id in ["1", "2"] {
        push(id);
        sandbox.run(&["queue", "clear", "--yes"]).expect_code(0);
        assert_eq!(sandbox.run(&["quarantine", "app", "--json"]).json(), serde_json::json!([]), "{id}");
    }
    push("3");
    let mut daemon = Daemon::start(&sandbox);
    daemon.hears("rollback/quarantined");
    let answer = daemon.pushes("app", secret, "4", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("rollback/quarantined");
    let aside = sandbox.run(&["quarantine", "app", "--json"]).json();
    assert_eq!((aside[0]["revision"].as_str(), aside[0]["deployment"].as_u64()), (Some(&*bad), Some(4)));
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("shut  quarantine") && why.stdout.contains("died 3 times"), "{why}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));

    // A person may let it be tried again, and then it has three more deaths.
    sandbox.run(&["quarantine", "app", &bad, "--lift"]).expect_code(0);
    let asked = sandbox.run(&["deploy", "app"]).expect_code(30);
    assert!(asked.stderr.contains("daemon/ended"), "{asked}");
    daemon.child.wait().unwrap();
    sandbox.run(&["queue", "clear", "--yes"]).expect_code(0);
    assert_eq!(sandbox.run(&["quarantine", "app", "--json"]).json(), serde_json::json!([]));

    // A newer commit is deployed as usual.
    sandbox.git(&["rm", "-q", "poison"]);
    sandbox.commit("mended", &[("a", "3")]);
    let daemon = Daemon::start(&sandbox);
    let answer = daemon.pushes("app", secret, "5", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("3"));
}

#[test]
fn who_waits_for_what_runs_alone_is_told_so() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let (repo, path) = (sandbox.repo(), sandbox.path().join("later"));
    let (repo, path) = (repo.to_str().unwrap(), path.to_str().unwrap());
    sandbox.run(&["init", "--repo", repo, "--name", "later", "--path", path]).expect_code(0);
    let fifo = sandbox.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    // Builds last until the test lets go of it.
    let _gate = fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    for name in ["app", "later"] {
        let file = sandbox.home().join(format!("projects/{name}.toml"));
        let build = format!("[build]\ncommands = [\"cat {}\"]\n", fifo.display());
        let text = fs::read_to_string(&file).unwrap().replacen("[build]\n", &build, 1);
        fs::write(&file, text).unwrap();
    }
    let row = |name: &str| {
        let rows = sandbox.run(&["queue", "--json"]).json();
        rows.as_array().unwrap().iter().find(|it| it["project"] == name).cloned().unwrap_or_default()
    };
    let runs = |deaths| {
        eventually("app runs", || {
            let app = row("app");
            app["state"] == "running" && app["deaths"] == deaths
        })
    };
    for deaths in 0..2 {
        let _killed = Daemon::start(&sandbox);
        runs(deaths);
    }
    let _daemon = Daemon::start(&sandbox);
    runs(2);
    eventually("later waits", || row("later")["state"] == "waiting");
    let request = row("app")["request"].to_string();
    let alone = format!("request {request} of app runs alone, as its process died twice");
    for (name, gate) in [("later", "shut  alone"), ("app", "open  alone")] {
        let why = sandbox.run(&["why", name]).expect_code(0);
        assert!(why.stdout.lines().any(|it| it.contains(gate) && it.contains(&alone)), "{why}");
        let status = sandbox.run(&["status", name]).expect_code(0);
        assert!(status.stdout.contains(&alone), "{status}");
    }
    let queue = sandbox.run(&["queue"]).expect_code(0);
    assert!(queue.stdout.contains("runs alone, as its process died twice"), "{queue}");
    assert!(queue.stdout.contains(&format!("waits for request {request}, which runs alone")), "{queue}");
}
