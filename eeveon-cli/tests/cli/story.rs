//! The whole story: from nothing to live, on, back, and what is told of it.

use std::fs;

use crate::sandbox::{Sandbox, assert_story};

const FILES: &[(&str, &str)] = &[("index.html", "one\n"), ("css/a.css", "a\n"), ("bin/run", "#!/bin/sh\n")];

#[test]
fn from_nothing_to_live_and_back() {
    let sandbox = Sandbox::new(FILES);
    let repo = sandbox.repo();
    let site = sandbox.site();
    let up = ["up", repo.to_str().unwrap(), "--once", "--name", "app", "--path", site.to_str().unwrap()];
    let mut story = String::new();
    let mut tell = |ran: crate::sandbox::Ran, code: i32| {
        let ran = ran.expect_code(code);
        story.push_str(&format!("{ran}\n"));
    };
    tell(sandbox.run(&up), 0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("one\n"));
    tell(sandbox.run(&up), 0);
    tell(sandbox.run(&["deploy", "app", "--fail-if-unchanged"]), 14);
    sandbox.commit("second", &[("index.html", "two\n"), ("new.txt", "n\n"), ("bin/run", "-")]);
    tell(sandbox.run(&["plan", "app"]), 0);
    tell(sandbox.run(&["why", "app"]), 0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("one\n"), "a plan changes nothing");
    tell(sandbox.run(&["deploy", "app", "--reason", "the second one"]), 0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("two\n"));
    tell(sandbox.run(&["releases", "app"]), 0);
    tell(sandbox.run(&["status"]), 0);
    tell(sandbox.run(&["rollback", "app"]), 2);
    tell(sandbox.run(&["rollback", "app", "--reason", "too new"]), 2);
    tell(sandbox.run(&["rollback", "app", "--reason", "too new", "--yes"]), 0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("one\n"));
    assert_eq!(sandbox.live("bin/run").as_deref(), Some("#!/bin/sh\n"));
    tell(sandbox.run(&["deploy", "app"]), 13);
    tell(sandbox.run(&["quarantine", "app"]), 0);
    sandbox.commit("third", &[("index.html", "three\n")]);
    tell(sandbox.run(&["deploy", "app"]), 0);
    tell(sandbox.run(&["quarantine", "app"]), 0);
    tell(sandbox.run(&["history", "app"]), 0);
    tell(sandbox.run(&["show", "app"]), 0);
    tell(sandbox.run(&["list"]), 0);
    tell(sandbox.run(&["check", "app"]), 0);
    tell(sandbox.run(&["vacuum"]), 0);
    tell(sandbox.run(&["remove", "app", "--yes"]), 0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("three\n"), "what is deployed keeps serving");
    tell(sandbox.run(&["list"]), 0);
    assert_story("story", &story);
}

#[test]
fn scripts_get_json_that_agrees_with_the_exit_code() {
    let sandbox = Sandbox::with_project(FILES);
    let deployed = sandbox.run(&["deploy", "app", "--json"]).expect_code(0);
    let lines: Vec<serde_json::Value> =
        deployed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, entries) = lines.split_last().unwrap();
    assert_eq!(last["outcome"], "succeeded");
    assert_eq!(entries.first().unwrap()["record"]["kind"], "opened");
    assert_eq!(entries.last().unwrap()["record"]["kind"], "closed");
    let seqs: Vec<u64> = entries.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "no entry is missing");

    let history = sandbox.run(&["history", "app", "--json"]).json();
    assert_eq!(history[0], *last);
    for key in [
        "id",
        "project",
        "release",
        "revision",
        "subject",
        "author",
        "actor",
        "trigger",
        "reason",
        "outcome",
        "started_at",
        "finished_at",
        "duration_ms",
        "failure",
    ] {
        assert!(history[0].get(key).is_some(), "{key}");
    }
    let status = sandbox.run(&["status", "app", "--json"]).json();
    assert_eq!(status["live"]["release"], 1);
    assert_eq!(status["live"]["revision"], last["revision"]);
    assert!(status["running"].is_null() && status["waiting"].is_null());
    assert_eq!(sandbox.run(&["deploy", "app", "--json"]).json()["outcome"], "unchanged");
    assert_eq!(sandbox.run(&["plan", "app", "--json"]).json()["unchanged"], true);
    assert_eq!(sandbox.run(&["releases", "app", "--json"]).json()[0]["live"], true);
    assert_eq!(sandbox.run(&["list", "--json"]).json()[0]["project"], "app");
    assert_eq!(sandbox.run(&["why", "app", "--json"]).expect_code(0).json()[0]["name"], "lease");
    assert!(sandbox.run(&["check", "--json"]).expect_code(0).json().as_array().unwrap().len() > 5);
}

#[test]
fn what_is_live_changed_by_hand_is_noticed_and_put_right_on_the_way_back() {
    let sandbox = Sandbox::with_project(FILES);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("new.txt", "n\n")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    // In place, through a file both releases may share.
    fs::write(sandbox.site().join("current/index.html"), "changed by hand\n").unwrap();
    let check = sandbox.run(&["check", "app", "--json"]).expect_code(10);
    let live = check.json().as_array().unwrap().iter().find(|it| it["what"] == "live").unwrap().clone();
    assert_eq!(live["ok"], false);
    assert!(live["message"].as_str().unwrap().contains("index.html"), "{live}");
    sandbox.run(&["rollback", "app", "--yes", "--reason", "x"]).expect_code(0);
    assert_eq!(sandbox.live_release().as_deref(), Some("1"));
    assert_eq!(sandbox.live("index.html").as_deref(), Some("one\n"));
    sandbox.run(&["check", "app"]).expect_code(0);
}

#[test]
fn a_changed_configuration_is_something_new() {
    let sandbox = Sandbox::with_project(FILES);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["config", "app", "deploy.ignore", "*.css"]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("css/a.css"), None);
    assert_eq!(sandbox.live_release().as_deref(), Some("2"));
}

#[test]
fn old_releases_go_and_pinned_ones_stay() {
    let sandbox = Sandbox::with_project(FILES);
    sandbox.configure("deploy.keep = 2");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["releases", "app", "--pin", "1"]).expect_code(0);
    for n in 2..=5 {
        sandbox.commit(&format!("{n}"), &[("index.html", &format!("{n}\n"))]);
        sandbox.run(&["deploy", "app"]).expect_code(0);
    }
    let releases = sandbox.run(&["releases", "app", "--json"]).json();
    let numbers: Vec<u64> =
        releases.as_array().unwrap().iter().map(|it| it["release"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 4, 1]);
    sandbox.run(&["rollback", "app", "1", "--yes", "--reason", "x"]).expect_code(0);
    assert_eq!(sandbox.live("index.html").as_deref(), Some("one\n"));
    sandbox.run(&["rollback", "app", "2", "--yes", "--reason", "x"]).expect_code(13);
}

#[test]
fn shared_folders_and_files_outlive_releases() {
    let sandbox = Sandbox::with_project(FILES);
    sandbox.configure("deploy.shared_dirs = [\"storage/up\"]\ndeploy.shared_files = [\".env\"]");
    let refused = sandbox.run(&["deploy", "app", "--json"]).expect_code(10);
    assert_eq!(refused.error()["error"]["code"], "host/shared-file-missing");
    assert!(!sandbox.site().join("current").exists());
    fs::create_dir_all(sandbox.site().join("shared")).unwrap();
    fs::write(sandbox.site().join("shared/.env"), "A=1\n").unwrap();
    sandbox.run(&["deploy", "app"]).expect_code(0);
    fs::write(sandbox.site().join("current/storage/up/photo"), "p").unwrap();
    sandbox.commit("second", &[("index.html", "two\n")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("storage/up/photo").as_deref(), Some("p"));
    assert_eq!(sandbox.live(".env").as_deref(), Some("A=1\n"));
    sandbox.run(&["remove", "app", "--purge", "--yes"]).expect_code(0);
    assert!(!sandbox.site().join("releases").exists() && !sandbox.site().join(".eeveon").exists());
    assert_eq!(fs::read_to_string(sandbox.site().join("shared/.env")).unwrap(), "A=1\n");
}

#[test]
fn up_stands_in_a_repository_and_says_what_it_leaves_out() {
    let sandbox = Sandbox::new(&[("site/index.html", "one\n"), ("other", "x\n")]);
    fs::write(sandbox.repo().join("other"), "uncommitted\n").unwrap();
    let args = ["up", "--dir", "site", "--once"];
    let ran = sandbox.command(&args).current_dir(sandbox.repo()).output().unwrap();
    let stderr = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{stderr}");
    assert!(stderr.contains("uncommitted changes"), "{stderr}");
    let current = sandbox.home().join("sites/repo-site/current");
    assert_eq!(fs::read_to_string(current.join("index.html")).unwrap(), "one\n");
    assert!(!current.join("other").exists());
}
