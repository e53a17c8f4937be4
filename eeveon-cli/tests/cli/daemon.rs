//! The daemon: it notices, deploys, listens to forges, and can be killed at any moment.

use crate::{
    running::{Daemon, eventually},
    sandbox::Sandbox,
};

fn project(interval: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[("a", "1")]);
    sandbox.init(&["--interval", interval]).expect_code(0);
    sandbox
}

#[test]
fn a_new_commit_is_noticed_and_deployed_until_automatic_deploys_are_stopped() {
    let sandbox = project("100ms");
    let mut daemon = Daemon::start(&sandbox);
    daemon.hears("deployment 1 of release 1 succeeded");
    sandbox.commit("second", &[("a", "2")]);
    daemon.hears("deployment 2 of release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    let history = sandbox.run(&["history", "app", "--json"]).json();
    assert_eq!(
        (history[0]["trigger"].as_str(), history[0]["actor"].as_str()),
        (Some("poll"), Some("engine"))
    );
    // Another daemon would be one too many.
    let second = sandbox.run(&["serve", "--listen", "127.0.0.1:0"]).expect_code(13);
    assert!(second.stderr.contains("cli/daemon-runs"), "{second}");
    // A command deploys beside it, and both leave the same history.
    sandbox.run(&["stop", "app", "--reason", "sale"]).expect_code(0);
    assert_eq!(sandbox.run(&["deploy", "app", "--again", "--json"]).expect_code(0).code, 0);
    daemon.signal("-TERM");
    assert!(daemon.child.wait().unwrap().success(), "it ends in order");
}

#[test]
fn a_signed_delivery_deploys_once_and_an_unsigned_one_never() {
    let sandbox = project("1h");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let secret = shown["secret"].as_str().unwrap();
    assert!(
        sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json()["secret"].is_null()
    );
    sandbox.commit("second", &[("a", "2")]);
    for wrong in ["", "hunter2"] {
        let answer = daemon.pushes("app", wrong, "1", &sandbox);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let unknown = daemon.pushes("none", secret, "1", &sandbox);
    assert!(unknown.starts_with("HTTP/1.1 401"), "{unknown}");
    let answer = daemon.pushes("app", secret, "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    let again = daemon.pushes("app", secret, "1", &sandbox);
    assert!(again.contains("came before") || again.contains("ignored"), "{again}");
    let list = sandbox.run(&["webhook", "deliveries", "app", "--json"]).json();
    assert_eq!(list[0]["accepted"], true, "{list}");
    assert_eq!(list[0]["came_to"]["deployment"], 2, "{list}");
    assert_eq!(list[0]["came_to"]["state"], "succeeded", "{list}");
    assert_eq!(list[0]["ask"]["project"], "app", "{list}");
    let list = sandbox.run(&["webhook", "deliveries", "app"]).expect_code(0);
    assert!(list.stdout.contains("deployment 2: succeeded"), "{list}");
    let history = sandbox.run(&["history", "app", "--json"]).json();
    assert_eq!(history[0]["trigger"], "webhook");
    assert!(daemon.request("GET /readyz HTTP/1.1", "").starts_with("HTTP/1.1 200"));
    assert!(daemon.request("GET /hooks/app/gitlab HTTP/1.1", "").starts_with("HTTP/1.1 405"));
}

#[test]
fn killed_in_the_middle_it_takes_back_and_goes_on() {
    let sandbox = project("100ms");
    sandbox.configure("build.commands = [\"test -e ../../go || sleep 1000\"]");
    let daemon = Daemon::start(&sandbox);
    let status = || sandbox.run(&["status", "app", "--json"]).json();
    // The build is under way: only a kill ends it now.
    eventually("a build", || status()["running"]["step"].as_str().is_some_and(|it| it.starts_with("build/")));
    daemon.signal("-KILL");
    drop(daemon);
    // Whoever asks learns that it is not over, and what goes on with it.
    let told = sandbox.run(&["status"]).expect_code(0);
    assert!(told.stderr.contains("deployment 1 of app was interrupted; it was taken back"), "{told}");
    assert!(told.stdout.contains("request 1 is unfinished, as its daemon died"), "{told}");
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    let daemon = Daemon::start(&sandbox);
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    let history = sandbox.run(&["history", "app", "--json"]).json();
    let open = history.as_array().unwrap().iter().filter(|it| it["outcome"].is_null()).count();
    assert_eq!(open, 0, "{history}");
}

#[test]
fn a_commit_that_the_repository_does_not_show_yet_is_waited_for() {
    let sandbox = project("1h");
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let first = sandbox.git(&["rev-parse", "HEAD"]);
    let mut daemon = Daemon::start(&sandbox);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let second = sandbox.commit("second", &[("a", "2")]);
    // The forge tells before the repository shows it.
    sandbox.git(&["checkout", "-q", "--detach"]);
    sandbox.git(&["update-ref", "refs/heads/main", &first]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("cli/not-shown");
    let came_to = || sandbox.run(&["webhook", "deliveries", "app", "--json"]).json()[0]["came_to"].clone();
    assert_eq!(came_to()["state"], "waiting");
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("shut  retry") && why.stdout.contains("does not show commit"), "{why}");
    // The forge tells again; then it is there.
    sandbox.git(&["update-ref", "refs/heads/main", &second]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "2", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    assert_eq!(came_to()["state"], "succeeded");
    // What is known is nothing new, and waited for by nobody.
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "3", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("nothing changed");
    // What is not remembered any more is told as such.
    daemon.signal("-TERM");
    assert!(daemon.child.wait().unwrap().success());
    sandbox.run(&["freeze", "--reason", "sale"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    sandbox.git(&["commit", "-q", "--allow-empty", "-m", "third"]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "4", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    drop(daemon);
    sandbox.run(&["queue", "clear", "--yes"]).expect_code(0);
    assert_eq!(came_to()["state"], "unknown");
    let told = sandbox.run(&["webhook", "deliveries", "app"]).expect_code(0);
    assert!(told.stdout.contains("not remembered any more"), "{told}");
}

#[test]
fn a_repository_that_is_two_commits_behind_the_forge_is_asked_again() {
    let sandbox = project("1h");
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let second = sandbox.commit("second", &[("a", "2")]);
    let third = sandbox.commit("third", &[("a", "3")]);
    sandbox.git(&["checkout", "-q", "--detach"]);
    sandbox.git(&["update-ref", "refs/heads/main", &second]);
    // The forge tells of the third.
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("release 2 succeeded");
    daemon.hears("cli/not-shown");
    // It is tried again by itself; nobody looks, and nobody tells again.
    sandbox.git(&["update-ref", "refs/heads/main", &third]);
    daemon.hears("release 3 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("3"));
}

#[test]
fn a_tag_that_the_repository_does_not_show_yet_is_waited_for() {
    let sandbox = project("1h");
    sandbox.configure("source.poll = false");
    sandbox.run(&["config", "app", "webhook.tags", "v*"]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let secret = shown["secret"].as_str().unwrap();
    sandbox.git(&["checkout", "-q", "--detach"]);
    sandbox.commit("second", &[("a", "2")]);
    // The forge tells before the repository shows it; nobody looks for tags.
    let answer = daemon.pushes_tag("app", secret, "1", "v9", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("cli/not-shown");
    let why = sandbox.run(&["why", "app"]).expect_code(0);
    assert!(why.stdout.contains("shut  retry") && why.stdout.contains("does not show `v9` yet"), "{why}");
    sandbox.git(&["tag", "v9"]);
    let answer = daemon.pushes_tag("app", secret, "2", "v9", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
}

#[test]
fn a_daemon_whose_socket_cannot_be_is_refused_at_the_start() {
    let sandbox = project("1h");
    std::fs::create_dir(sandbox.home().join("daemon.sock")).unwrap();
    let ran = sandbox.run(&["serve", "--listen", "127.0.0.1:0"]).expect_code(20);
    assert!(ran.stderr.contains("daemon/socket") && ran.stderr.contains("something else"), "{ran}");
    assert!(!ran.stderr.contains("hooks"), "nothing was begun: {ran}");
}

#[test]
fn a_unit_for_systemd_is_printed() {
    let sandbox = project("1h");
    let unit = sandbox.run(&["serve", "--print-unit"]).expect_code(0).stdout;
    for line in ["Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict", "WantedBy=multi-user.target"] {
        assert!(unit.lines().any(|it| it == line), "{line}: {unit}");
    }
}

#[test]
fn a_unit_names_paths_as_they_are() {
    let sandbox = project("1h");
    let file = sandbox.home().join("projects/app.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let (path, odd) = (sandbox.site().display().to_string(), sandbox.path().join("50% off"));
    std::fs::write(&file, text.replace(&path, odd.to_str().unwrap())).unwrap();
    let unit = sandbox.run(&["serve", "--print-unit"]).expect_code(0).stdout;
    let path = sandbox.path().join("50%% off");
    let line = format!("ReadWritePaths=-\"{}\"", path.display());
    assert!(unit.lines().any(|it| it == line), "{line}: {unit}");
}

#[test]
fn a_second_daemon_takes_no_address_and_is_refused() {
    let sandbox = project("1h");
    let daemon = Daemon::start(&sandbox);
    let ran = sandbox.run(&["serve", "--listen", "127.0.0.1:0"]).expect_code(13);
    assert!(ran.stderr.contains("cli/daemon-runs") && !ran.stderr.contains("hooks"), "{ran}");
    drop(daemon);
}

#[test]
fn what_waits_for_a_file_that_cannot_be_read_waits_and_what_waits_for_a_project_that_is_removed_goes() {
    let sandbox = project("100ms");
    sandbox.run(&["freeze", "app", "--reason", "sale"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    let requests = || sandbox.run(&["queue", "--json"]).json().as_array().unwrap().len();
    eventually("a request in line", || requests() == 1);
    let file = sandbox.home().join("projects/app.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, "[source\n").unwrap();
    daemon.hears("it cannot be used, and everything of it waits");
    // Nothing else holds it now.
    sandbox.run(&["freeze", "app", "--lift"]);
    assert_eq!(requests(), 1);
    std::fs::write(&file, text).unwrap();
    daemon.hears("it can be used again");
    daemon.hears("deployment 1 of release 1 succeeded");

    sandbox.run(&["freeze", "app", "--reason", "sale"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    eventually("a request in line", || requests() == 1);
    sandbox.run(&["remove", "app", "--yes"]).expect_code(0);
    assert_eq!(requests(), 0);
    let frozen = sandbox.run(&["freeze", "--json"]).json();
    assert_eq!(frozen.as_array().unwrap().len(), 0, "{frozen}");
    drop(daemon);
}

#[test]
fn what_was_interrupted_is_not_said_to_run() {
    let sandbox = project("100ms");
    sandbox.configure("build.commands = [\"sleep 1000\"]");
    let daemon = Daemon::start(&sandbox);
    let state = || sandbox.run(&["queue", "--json"]).json()[0]["state"].clone();
    eventually("a deployment", || state() == "running");
    daemon.signal("-KILL");
    drop(daemon);
    assert_eq!(state(), "interrupted");
}

#[test]
fn what_waited_for_another_branch_deploys_the_one_that_is_set_now() {
    let sandbox = project("1h");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.git(&["branch", "stable"]);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    sandbox.run(&["freeze", "app", "--reason", "sale"]).expect_code(0);
    let daemon = Daemon::start(&sandbox);
    sandbox.commit("broken", &[("a", "broken")]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    sandbox.run(&["config", "app", "source.branch", "stable"]).expect_code(0);
    sandbox.run(&["freeze", "app", "--lift"]).expect_code(0);
    daemon.hears("nothing changed: release 1 is live");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn a_delivery_does_not_let_a_project_go_ahead_of_the_one_it_follows() {
    let sandbox = project("1h");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let file = sandbox.home().join("projects/app.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text + "\n[[after]]\nproject = \"api\"\non = \"same-commit\"\n").unwrap();
    let daemon = Daemon::start(&sandbox);
    sandbox.commit("second", &[("a", "2")]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.contains("it is deployed after api"), "{answer}");
    assert_eq!(sandbox.run(&["queue", "--json"]).json().as_array().unwrap().len(), 0);
    let status = sandbox.run(&["status", "app"]).expect_code(0);
    assert!(status.stdout.contains("idle"), "{status}");
    drop(daemon);
}
