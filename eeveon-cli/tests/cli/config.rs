//! `config` and `init`: what is refused, and that nothing is lost.

use std::fs;

use crate::sandbox::{Sandbox, assert_story};

#[test]
fn mistakes_are_told_with_their_place_and_change_nothing() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    let file = sandbox.home().join("projects/app.toml");
    let before = fs::read_to_string(&file).unwrap();
    let mut story = String::new();
    for (args, code) in [
        (vec!["config", "app", "deploy.keep", "many"], 20),
        (vec!["config", "app", "deploy.kep", "3"], 2),
        (vec!["config", "app", "deploy.path", "relative"], 20),
        (vec!["config", "app", "deploy.keep"], 0),
        (vec!["config", "ap"], 2),
        (vec!["config", "../app"], 2),
    ] {
        story.push_str(&format!("{}\n", sandbox.run(&args).expect_code(code)));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
    fs::write(&file, before.replace("branch =", "brnch =")).unwrap();
    story.push_str(&format!("{}\n", sandbox.run(&["deploy", "app"]).expect_code(20)));
    story.push_str(&format!("{}\n", sandbox.run(&["list"]).expect_code(0)));
    assert_story("config-mistakes", &story);
}

#[test]
fn a_value_is_set_and_comments_stay() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    let file = sandbox.home().join("projects/app.toml");
    let comments = |text: &str| text.lines().filter(|line| line.starts_with("# ")).count();
    let before = fs::read_to_string(&file).unwrap();
    sandbox.run(&["config", "app", "deploy.keep", "9"]).expect_code(0);
    let after = fs::read_to_string(&file).unwrap();
    assert_eq!(comments(&before), comments(&after));
    assert_eq!(sandbox.run(&["config", "app", "deploy.keep", "--json"]).json(), 9);
    sandbox.run(&["config", "app", "deploy.keep", "--unset"]).expect_code(0);
    assert_eq!(fs::read_to_string(&file).unwrap(), before);
}

#[test]
fn a_name_is_given_once() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    let again = sandbox.init(&["--json"]).expect_code(2);
    assert_eq!(again.error()["error"]["code"], "cli/name-taken");
    for bad in ["", "-x", "A", "a/b", "..", "a b"] {
        let args = ["init", "--repo", "/x", &format!("--name={bad}")];
        sandbox.run(&args).expect_code(2);
    }
}
