//! Messages that have not arrived: how they are told, listed, tried again and dropped.

use std::fs;

use serde_json::json;

use crate::{
    notify::{OK, Service, append, events, secret, webhook},
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

fn project_file(sandbox: &Sandbox) -> std::path::PathBuf {
    sandbox.home().join("projects/app.toml")
}

/// Takes all channels out of the project's file.
fn without_channels(sandbox: &Sandbox) {
    let text = fs::read_to_string(project_file(sandbox)).unwrap();
    let (before, _) = text.split_once("[[notify]]").unwrap();
    fs::write(project_file(sandbox), before).unwrap();
}

#[test]
fn a_message_that_waits_behind_another_is_told_by_the_command_that_deployed() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &format!("{}\nlevels = [\"info\", \"success\"]", webhook(&service)));
    service.answers("503 Down\r\nRetry-After: 3600\r\n");
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(service.heard().len(), 1);
    assert!(ran.stderr.contains("a message to webhook has not arrived"), "{ran}");
    let behind = "1 message to webhook waits behind it; the next command or the daemon sends it";
    assert!(ran.stderr.contains(behind), "{ran}");

    sandbox.commit("second", &[("a", "2")]);
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(service.heard().len(), 1, "it asked for an hour");
    assert!(ran.stderr.contains("4 messages to webhook wait another "), "{ran}");
    assert!(ran.stderr.contains("the next command or the daemon sends them"), "{ran}");
    // Once is enough.
    let ran = sandbox.run(&["status", "app"]).expect_code(0);
    assert!(ran.stdout.contains("4 messages on the way") && ran.stderr.is_empty(), "{ran}");
}

#[test]
fn a_test_says_what_to_do_next() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    let nobody = secret(&sandbox, "nobody", "http://127.0.0.1:1/x");
    append(&sandbox, &webhook(&service));
    append(&sandbox, &format!("[[notify]]\nchannel = \"slack\"\nurl = \"{nobody}\""));
    append(&sandbox, "[[notify]]\nchannel = \"teams\"\nurl = \"env:EEVEON_TEST_NOT_SET\"");
    service.answers("400 Never\r\n");
    let ran = sandbox.run(&["notify", "test", "app"]).expect_code(10);
    assert_eq!(ran.stdout.matches("  next  ").count(), 3, "{ran}");
    assert!(!ran.stdout.contains("`ee-deploy notify test`"), "it was just run: {ran}");
    assert!(ran.stdout.contains("a test is not"), "nobody tries it again: {ran}");
    let answers = sandbox.run(&["notify", "test", "app", "--json"]).expect_code(10).json();
    for answer in answers.as_array().unwrap() {
        assert!(answer["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{answer}");
    }
}

#[test]
fn a_channel_nobody_knows_is_answered_with_those_there_are() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    append(&sandbox, &format!("{}\nname = \"second\"", webhook(&service)));
    for what in ["list", "retry", "drop", "test"] {
        let ran = sandbox.run(&["notify", what, "app", "webhok"]).expect_code(2);
        assert!(ran.stderr.contains("app has no channel `webhok`"), "{ran}");
        assert!(ran.stderr.contains("`webhook`, `second`"), "{ran}");
    }
    let ran = sandbox.run(&["notify", "list", "app", "second"]).expect_code(0);
    assert!(ran.stderr.contains("nothing is on its way"), "{ran}");
}

#[test]
fn what_went_to_a_channel_that_is_gone_can_be_dropped() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    without_channels(&sandbox);
    let check = sandbox.run(&["check", "app"]);
    assert!(check.stdout.contains("no longer configured"), "{check}");
    let list = sandbox.run(&["notify", "list", "app"]).expect_code(0);
    assert!(list.stdout.contains("channel no longer configured"), "{list}");
    let list = sandbox.run(&["notify", "list", "app", "webhook", "--json"]).json();
    assert_eq!((&list[0]["state"], &list[0]["configured"]), (&json!("dead"), &json!(false)), "{list}");
    // Nobody could send it.
    let retry = sandbox.run(&["notify", "retry", "app"]).expect_code(0);
    assert!(retry.stderr.contains("no longer configured"), "{retry}");
    assert_eq!(sandbox.run(&["status", "app", "--json"]).json()["messages"]["dead"], 1);
    let drop = sandbox.run(&["notify", "drop", "app", "webhook"]).expect_code(0);
    assert!(drop.stderr.contains("1 message forgotten"), "{drop}");
    assert_eq!(sandbox.run(&["notify", "list", "app", "--json"]).json(), json!([]));
    sandbox.run(&["check", "app"]).expect_code(0);
}

#[test]
fn what_a_removed_project_left_can_be_dropped() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["remove", "app", "--yes"]).expect_code(0);
    let check = sandbox.run(&["check"]).expect_code(10);
    assert!(
        check.stdout.contains("app messages") && check.stdout.contains("1 message did not arrive"),
        "{check}"
    );
    assert!(check.stdout.contains("`ee-deploy notify drop app`"), "{check}");
    let drop = sandbox.run(&["notify", "drop", "app"]).expect_code(0);
    assert!(drop.stderr.contains("1 message forgotten"), "{drop}");
    sandbox.run(&["notify", "drop", "app"]).expect_code(2);
    assert!(!sandbox.run(&["check"]).stdout.contains("did not arrive"));
}

/// What serves does not depend on whether somebody made a mistake in a file.
#[test]
fn with_a_file_nobody_can_read_status_and_check_say_what_is_known() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let before = sandbox.run(&["status", "app", "--json"]).expect_code(0).json();
    append(&sandbox, "[deploy\n");
    let broken = sandbox.run(&["status", "app", "--json"]).expect_code(20).json();
    for key in ["live", "running", "waiting", "automatic", "requests", "messages"] {
        assert_eq!(broken[key], before[key], "{key}");
    }
    assert_eq!(broken["live"]["release"], 1);
    assert!(broken["error"].as_str().unwrap().contains("app.toml"), "{broken}");
    assert_eq!(sandbox.run(&["status", "--json"]).expect_code(0).json()[0], broken);
    let shown = sandbox.run(&["status"]).expect_code(0);
    assert!(shown.stdout.contains("release 1 ("), "{shown}");
    assert!(shown.stdout.contains("app.toml") && shown.stdout.contains("did not arrive"), "{shown}");
    let check = sandbox.run(&["check", "app"]).expect_code(20);
    assert!(check.stdout.contains("app.toml"), "{check}");
    assert!(check.stdout.contains("1 message did not arrive"), "{check}");
    let list = sandbox.run(&["notify", "list", "app", "--json"]).expect_code(0).json();
    assert_eq!((&list[0]["channel"], &list[0]["configured"]), (&json!("webhook"), &json!(null)), "{list}");
}

/// Not even a person asks a service that wants to be left alone.
#[test]
fn a_retry_by_hand_waits_for_a_channel_that_asked_to_be_left_alone() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    service.answers("429 Slow\r\nRetry-After: 3600\r\n");
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let heard = service.heard().len();
    let ran = sandbox.run(&["notify", "retry", "app"]).expect_code(0);
    assert!(ran.stderr.contains("webhook asked to be left alone for another "), "{ran}");
    assert_eq!(service.heard().len(), heard);
    assert_eq!(sandbox.run(&["status", "app", "--json"]).json()["messages"]["waiting"], 2);
}

/// A person who mended what was down need not wait for its turn.
#[test]
fn a_retry_by_hand_does_not_wait_for_a_channel_that_was_down() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    service.answers("500 Down\r\n");
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    service.answers(OK);
    sandbox.run(&["notify", "retry", "app"]).expect_code(0);
    assert_eq!(events(&service).len(), 4, "{:?}", service.heard());
    assert_eq!(sandbox.run(&["notify", "list", "app", "--json"]).json(), json!([]));
}

/// Quiet is no reason not to learn that people were not told.
#[test]
fn what_is_late_is_told_also_to_who_wants_it_quiet() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &format!("{}\nlevels = [\"info\", \"success\"]", webhook(&service)));
    service.answers("503 Down\r\nRetry-After: 3600\r\n");
    let ran = sandbox.run(&["deploy", "app", "-q"]).expect_code(0);
    assert!(ran.stderr.contains("a message to webhook has not arrived"), "{ran}");
    assert!(ran.stderr.contains("asks to wait 3600 s"), "{ran}");
    assert!(ran.stderr.contains("1 message to webhook waits behind it"), "{ran}");
}

/// A service that asked for an hour is not a reason to keep for an hour what nobody will send.
#[test]
fn what_waits_for_a_channel_that_is_gone_is_dropped_by_the_next_command() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("429 Slow\r\nRetry-After: 3600\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let waiting = || sandbox.run(&["status", "app", "--json"]).json()["messages"]["waiting"].clone();
    assert_eq!((waiting(), waiting()), (json!(1), json!(1)));
    without_channels(&sandbox);
    sandbox.run(&["list"]).expect_code(0);
    assert_eq!(waiting(), 0);
    assert_eq!(service.heard().len(), 1);
}

/// Without a channel's name only what nobody sends any more is dropped; with it everything of that channel.
#[test]
fn what_still_waits_is_dropped_where_its_channel_is_named() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    service.answers("429 Slow\r\nRetry-After: 3600\r\n");
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let state = || sandbox.run(&["status", "app"]).expect_code(0).stdout;
    assert!(state().contains("; 1 message did not arrive; 1 message on the way"), "both count: {}", state());
    let drop = sandbox.run(&["notify", "drop", "app"]).expect_code(0);
    assert!(drop.stderr.contains("1 message forgotten"), "{drop}");
    assert!(drop.stderr.contains("1 message on the way: name a channel"), "{drop}");
    assert!(state().contains("; 1 message on the way") && !state().contains("did not arrive"), "{}", state());
    let drop = sandbox.run(&["notify", "drop", "app", "webhook"]).expect_code(0);
    assert!(drop.stderr.contains("1 message forgotten"), "{drop}");
    assert!(!drop.stderr.contains("on the way"), "{drop}");
    assert_eq!(sandbox.run(&["notify", "list", "app", "--json"]).json(), json!([]));
    assert_eq!(service.heard().len(), 2);
}

/// A disk that is not mounted is no reason to lose what waits, nor to offer to forget it.
#[test]
fn what_waits_outlives_a_project_file_that_cannot_be_reached() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, &webhook(&service));
    service.answers("429 Slow\r\nRetry-After: 3600\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let (file, kept) = (project_file(&sandbox), sandbox.path().join("app.toml"));
    fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink(sandbox.path().join("not-mounted/app.toml"), &file).unwrap();
    sandbox.run(&["list"]);
    let list = sandbox.run(&["notify", "list", "app", "--json"]).expect_code(0).json();
    assert_eq!((&list[0]["state"], &list[0]["configured"]), (&json!("waiting"), &json!(null)), "{list}");
    let drop = sandbox.run(&["notify", "drop", "app"]).expect_code(0);
    assert!(drop.stderr.contains("0 messages forgotten"), "{drop}");
    fs::rename(&kept, &file).unwrap();
    assert_eq!(sandbox.run(&["status", "app", "--json"]).json()["messages"]["waiting"], 1);
}

/// A daemon may have the secrets that a shell has not: with one, only who asks for it sends.
#[test]
fn a_command_leaves_messages_to_a_daemon_unless_it_is_asked_to_send_them() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    sandbox.init(&["--interval", "1h"]).expect_code(0);
    let (service, down) = (Service::start(), Service::start());
    append(&sandbox, "[[notify]]\nchannel = \"webhook\"\nurl = \"env:EEVEON_TEST_HOOK\"");
    append(&sandbox, &format!("{}\nname = \"down\"", webhook(&down)));
    down.answers("500 Down\r\n");
    let with_secret = |args: &[&str]| {
        let output = sandbox.command(args).env("EEVEON_TEST_HOOK", service.url("hook")).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let daemon = Daemon::start(&sandbox);
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(!ran.stderr.contains("late") && !ran.stderr.contains("secret"), "{ran}");
    let is_lacking = || {
        let list = sandbox.run(&["notify", "list", "app", "webhook", "--json"]).json();
        list[0]["error"].as_str().is_some_and(|it| it.contains("notify/secret"))
    };
    eventually("the daemon tries", is_lacking);
    let said = with_secret(&["list"]);
    assert!(events(&service).is_empty() && !said.contains("late"), "{said}");
    eventually("it is sent by who was asked to", || {
        with_secret(&["notify", "retry", "app"]);
        events(&service).len() == 1
    });
    with_secret(&["notify", "test", "app", "webhook"]);
    assert_eq!(events(&service), ["deployment.succeeded", "deployment.test"]);
    drop(daemon);
    // Without one every command sends, whatever another one lacked.
    sandbox.commit("second", &[("a", "2")]);
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stderr.contains("lacks a secret"), "{ran}");
    with_secret(&["list"]);
    assert_eq!(events(&service).len(), 3);
}
