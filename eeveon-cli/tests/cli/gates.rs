//! Order, quarantine, and one at a time.

use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn an_older_commit_is_refused_unless_allowed() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    let first = sandbox.git(&["rev-parse", "HEAD"]);
    for n in 2..=12 {
        sandbox.commit(&n.to_string(), &[("a", &n.to_string())]);
    }
    sandbox.init(&[]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    // History is shallow, so that this question needs more of it.
    let refused = sandbox.run(&["deploy", "app", "--rev", &first, "--json"]).expect_code(13);
    assert_eq!(refused.error()["error"]["code"], "rollback/older-commit");
    assert_eq!(sandbox.live("a").as_deref(), Some("12"));
    sandbox.run(&["deploy", "app", "--rev", &first, "--allow-older"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn a_rewritten_branch_is_not_an_older_commit() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    for n in 2..=5 {
        sandbox.commit(&n.to_string(), &[("a", &n.to_string())]);
    }
    sandbox.init(&[]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.git(&["reset", "-q", "--hard", "HEAD~2"]);
    sandbox.commit("rewritten", &[("a", "new")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("new"));
}

#[test]
fn a_commit_put_aside_is_refused_until_a_person_lifts_it() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    let second = sandbox.commit("second", &[("a", "2")]);
    sandbox.init(&[]).expect_code(0);
    sandbox.run(&["deploy", "app", "--rev", "HEAD~1"]).expect_code(2);
    sandbox.run(&["quarantine", "app", "nonsense", "--reason", "known bad"]).expect_code(2);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["quarantine", "app", &second, "--reason", "known bad"]).expect_code(0);
    sandbox.configure("deploy.keep = 4\ndeploy.ignore = [\"x\"]");
    let refused = sandbox.run(&["deploy", "app", "--json"]).expect_code(13);
    assert_eq!(refused.error()["error"]["code"], "rollback/quarantined");
    assert!(refused.stderr.contains("known bad"), "{refused}");
    sandbox.run(&["quarantine", "app", second.get(..8).unwrap(), "--lift"]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
}

#[test]
fn one_at_a_time_and_a_refusal_says_who() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let fifo = sandbox.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    // The build waits until the test opens the other end, and says so first.
    sandbox.configure(&format!("build.commands = [\"cat {}\"]", fifo.display()));
    let args = ["deploy", "app"];
    let deploying = sandbox.start(&args);
    let gate = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    let refused = sandbox.run(&["deploy", "app", "--no-wait", "--json"]).expect_code(13);
    let error = &refused.error()["error"];
    assert_eq!(error["code"], "cli/busy");
    assert!(error["message"].as_str().unwrap().contains("ada: ee-deploy deploy"), "{error}");
    let status = sandbox.run(&["status", "app", "--json"]).json();
    assert_eq!(status["running"]["step"], "build/1");
    drop(gate);
    sandbox.finish(&args, deploying).expect_code(0);
}

#[test]
fn a_running_deployment_is_cancelled_from_elsewhere() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let fifo = sandbox.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
        .unwrap();
    sandbox.configure(&format!("build.commands = [\"cat {}\"]", fifo.display()));
    sandbox.commit("second", &[("a", "2")]);
    let args = ["deploy", "app"];
    let deploying = sandbox.start(&args);
    let _gate = fs::OpenOptions::new().write(true).open(&fifo).unwrap();
    sandbox.run(&["cancel", "2", "--reason", "not now"]).expect_code(0);
    let ended = sandbox.finish(&args, deploying).expect_code(10);
    assert!(ended.stderr.contains("cancelled"), "{ended}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json()[0]["outcome"], "cancelled");
}
