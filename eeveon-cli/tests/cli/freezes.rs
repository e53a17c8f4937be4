//! Windows and freezes: what they hold back, what passes them, and how that is told.

use crate::{running::Daemon, sandbox::Sandbox};

#[test]
fn a_freeze_holds_commands_too_and_says_why() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("third", &[("a", "3")]);
    assert!(sandbox.run(&["freeze"]).expect_code(0).stderr.contains("nothing is frozen"));
    sandbox.run(&["freeze", "--reason", "\u{1b}[2Jsale", "--until", "2h"]).expect_code(0);
    let listed = sandbox.run(&["freeze", "--json"]).json();
    assert!(listed[0]["project"].is_null() && listed[0]["until"].is_string(), "{listed}");
    let refused = sandbox.run(&["deploy", "app"]).expect_code(13);
    assert!(refused.stderr.contains("daemon/window-shut") && refused.stderr.contains("sale"), "{refused}");
    assert!(!refused.stderr.contains('\u{1b}'), "{refused}");
    assert!(refused.stderr.contains("release 2"), "it says what serves: {refused}");
    let why = sandbox.run(&["why", "app", "--json"]).json();
    let shut: Vec<&str> = why
        .as_array()
        .unwrap()
        .iter()
        .filter(|gate| gate["open"] == false)
        .map(|gate| gate["name"].as_str().unwrap())
        .collect();
    assert_eq!(shut, ["window"], "{why}");
    // Nothing was opened for it; going back always works, and so does who says so.
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json().as_array().unwrap().len(), 2);
    sandbox.run(&["rollback", "app", "--yes", "--reason", "slow"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    sandbox.run(&["deploy", "app", "--outside-window"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("3"));
    sandbox.run(&["freeze", "app", "--lift"]).expect_code(0);
    assert!(sandbox.run(&["freeze", "--lift"]).expect_code(0).stderr.contains("may be deployed again"));
    assert!(
        sandbox
            .run(&["freeze", "none", "--reason", "x"])
            .expect_code(2)
            .stderr
            .contains("cli/unknown-project")
    );
    assert!(sandbox.run(&["freeze", "--reason", "x", "--until", "1999-01-01T00:00Z"]).code == 2);
}

#[test]
fn a_freeze_that_is_over_holds_nothing_and_is_not_told_as_if_it_did() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["freeze", "--reason", "fire", "--until", "1s"]).expect_code(0);
    sandbox.run(&["freeze", "app", "--reason", "audit"]).expect_code(0);
    crate::running::eventually("the end of the freeze", || sandbox.run(&["freeze"]).stdout.contains("over"));
    let refused = sandbox.run(&["deploy", "app"]).expect_code(13);
    assert!(refused.stderr.contains("audit"), "the other one holds on: {refused}");
    let lifted = sandbox.run(&["freeze", "app", "--lift"]).expect_code(0).stderr;
    assert!(lifted.contains("app may be deployed again") && !lifted.contains("everything"), "{lifted}");
    let lifted = sandbox.run(&["freeze", "--lift"]).expect_code(0).stderr;
    assert!(lifted.contains("everything was not frozen"), "{lifted}");
    sandbox.run(&["deploy", "app"]).expect_code(0);
}

#[test]
fn every_gate_is_listed_with_its_state() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["stop", "app", "--reason", "sale"]).expect_code(0);
    let file = sandbox.home().join("projects/app.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "\n[[after]]\nproject = \"api\"\non = \"same-commit\"\n").unwrap();
    let gates = sandbox.run(&["why", "app", "--json"]).json();
    let names: Vec<&str> =
        gates.as_array().unwrap().iter().map(|gate| gate["name"].as_str().unwrap()).collect();
    let all = [
        "lease",
        "person",
        "automatic",
        "window",
        "retry",
        "alone",
        "queue",
        "dependency",
        "something new",
        "quarantine",
        "order",
        "disk",
        "target",
    ];
    assert_eq!(names, all, "{gates}");
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("app does not deploy by itself"), "{why}");
    assert!(why.stdout.contains("sale") && why.stdout.contains("api has not deployed this commit"), "{why}");
    // Without the repository all that can be told is told.
    let repo = sandbox.path().join("repo");
    std::fs::rename(&repo, sandbox.path().join("away")).unwrap();
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("shut  repository") && why.stdout.contains("open  window"), "{why}");
    assert!(why.stdout.contains("app would not deploy"), "{why}");
    std::fs::rename(sandbox.path().join("away"), &repo).unwrap();
    let check = sandbox.run(&["check", "app"]).expect_code(20);
    assert!(check.stdout.contains("there is no such project"), "{check}");
    let status = sandbox.run(&["status", "app", "--json"]).json();
    assert_eq!(status["automatic"], false, "{status}");
    assert!(status["held"].is_null(), "{status}");
    sandbox.configure("window.deny = [{ reason = \"lunch\" }]");
    let status = sandbox.run(&["status", "app"]).expect_code(0);
    assert!(status.stdout.contains("lunch"), "{status}");
}

#[test]
fn what_waited_for_a_freeze_is_deployed_when_it_is_lifted() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    sandbox.init(&["--interval", "100ms"]).expect_code(0);
    sandbox.run(&["freeze", "app", "--reason", "sale"]).expect_code(0);
    let mut daemon = Daemon::start(&sandbox);
    daemon.signal("-TERM");
    assert!(daemon.child.wait().unwrap().success());
    // An orderly end before, and a window that is shut, are no reason to end at once.
    let daemon = Daemon::start(&sandbox);
    crate::running::eventually("a request in line", || {
        sandbox.run(&["status", "app", "--json"]).json()["requests"][0]["state"] == "waiting"
    });
    assert_eq!(sandbox.live("a"), None);
    sandbox.run(&["freeze", "app", "--lift"]).expect_code(0);
    daemon.hears("deployment 1 of release 1 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn a_look_deploys_only_what_changes_something_of_interest() {
    let sandbox = Sandbox::new(&[("src/a", "1"), ("docs/a", "1")]);
    sandbox.init(&["--interval", "100ms"]).expect_code(0);
    sandbox.run(&["config", "app", "webhook.paths", "[\"src/\"]"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    daemon.hears("release 1 succeeded");
    sandbox.commit("documentation", &[("docs/a", "2")]);
    daemon.hears("nothing changed");
    sandbox.commit("code", &[("src/a", "2")]);
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("src/a").as_deref(), Some("2"));
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json().as_array().unwrap().len(), 2);
}
