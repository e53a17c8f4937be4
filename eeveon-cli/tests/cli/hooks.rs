//! Build commands and hooks: where they run, what they see, what their failure does.

use std::fs;

use crate::sandbox::Sandbox;

#[test]
fn commands_see_what_is_documented_and_no_more() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure(
        "build.commands = [\"env | sort > env.txt; pwd > pwd.txt\"]\nbuild.env = { MODE = \"production\" }",
    );
    let mut command = sandbox.command(&["deploy", "app"]);
    assert!(command.env("SECRET_OF_ANOTHER_TOOL", "x").output().unwrap().status.success());
    let env = sandbox.live("env.txt").unwrap();
    for expected in ["EEVEON_PROJECT=app", "EEVEON_RELEASE=1", "EEVEON_BRANCH=main", "MODE=production"] {
        assert!(env.lines().any(|line| line == expected), "{expected} in {env}");
    }
    assert!(env.contains("EEVEON_REVISION=") && env.contains("EEVEON_PREVIOUS_REVISION="), "{env}");
    assert!(!env.contains("SECRET_OF_ANOTHER_TOOL"), "{env}");
    assert!(sandbox.live("pwd.txt").unwrap().contains("/releases/"));
}

#[test]
fn a_failing_build_leaves_what_is_live_and_is_kept_for_inspection() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    sandbox.configure("build.commands = [\"echo broken; false\"]");
    let failed = sandbox.run(&["deploy", "app", "--json"]).expect_code(10);
    assert_eq!(failed.error()["error"]["code"], "build/failed");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(sandbox.site().join("releases/failed-2/a")).unwrap(), "2");
    let logs = sandbox.run(&["logs", "2"]).expect_code(0);
    assert!(logs.stdout.contains("broken"), "{logs}");
    let releases = sandbox.run(&["releases", "app", "--json"]).json();
    assert_eq!(releases[0]["usable"], false);
    sandbox.run(&["rollback", "app", "2", "--yes", "--reason", "x"]).expect_code(13);
}

#[test]
fn a_failing_post_switch_hook_takes_the_switch_back_and_tells_the_service() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let told = sandbox.path().join("told");
    // The hook notes which release it finds live, and dislikes the second.
    let hook = format!("cat a >> {0}; echo >> {0}; test \\\"$(cat a)\\\" != 2", told.display());
    sandbox.configure(&format!("hooks.post_switch = [\"{hook}\"]"));
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    let failed = sandbox.run(&["deploy", "app"]).expect_code(11);
    assert!(failed.stderr.contains("release 1"), "{failed}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    assert_eq!(fs::read_to_string(&told).unwrap(), "1\n2\n1\n", "the service was told to go back too");
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json()[0]["outcome"], "rolled_back");
    sandbox.run(&["deploy", "app"]).expect_code(13);
}

#[test]
fn a_rollback_runs_the_hooks_that_tell_the_service() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let told = sandbox.path().join("told");
    sandbox.configure(&format!("hooks.post_switch = [\"cat a >> {}\"]", told.display()));
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["rollback", "app", "--yes", "--reason", "x"]).expect_code(0);
    assert_eq!(fs::read_to_string(&told).unwrap(), "121");
}
