//! Bad input gets a clear error, and nothing is lost.

use std::{fs, os::unix::fs::PermissionsExt as _};

use crate::sandbox::{Ran, Sandbox, assert_story};

fn code_of(ran: &Ran) -> String {
    ran.error()["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_wrong_with_a_repository_is_told_apart() {
    let sandbox = Sandbox::new(&[("a", "a")]);
    let empty = sandbox.path().join("empty");
    let plain = sandbox.path().join("plain");
    sandbox.git(&["init", "-q", empty.to_str().unwrap()]);
    fs::create_dir(&plain).unwrap();
    let init = |repo: &str, more: &[&str], code: i32| {
        let mut args = vec!["init", "--json", "--name", "x", "--repo", repo];
        args.extend(more);
        let ran = sandbox.run(&args).expect_code(code);
        assert!(!sandbox.home().join("projects/x.toml").exists(), "nothing was added");
        code_of(&ran)
    };
    let repo = sandbox.repo();
    let repo = repo.to_str().unwrap();
    assert_eq!(init(repo, &["--branch", "none"], 10), "source/branch-missing");
    assert_eq!(init(repo, &["--branch=-x"], 20), "config/invalid");
    assert_eq!(init(repo, &["--path", "relative"], 20), "config/invalid");
    assert_eq!(init("https://user:secret@example.org/x.git", &[], 20), "config/invalid");
    assert_eq!(init("ext::sh -c true", &[], 20), "config/invalid");
    let codes = [
        init(empty.to_str().unwrap(), &[], 10),
        init(plain.to_str().unwrap(), &[], 30),
        init("/nowhere/at/all", &[], 30),
    ];
    assert_eq!(codes, ["source/empty", "source/not-a-repository", "source/repository-missing"]);
}

#[test]
fn a_path_that_is_not_ours_is_left_alone() {
    let sandbox = Sandbox::new(&[("a", "a")]);
    fs::create_dir_all(sandbox.site().join("current")).unwrap();
    fs::write(sandbox.site().join("current/precious"), "p").unwrap();
    sandbox.init(&[]).expect_code(0);
    let refused = sandbox.run(&["deploy", "app", "--json"]);
    assert_ne!(refused.code, 0);
    assert!(code_of(&refused).starts_with("host/"), "{refused}");
    assert_eq!(fs::read_to_string(sandbox.site().join("current/precious")).unwrap(), "p");
}

#[test]
fn two_homes_do_not_share_a_path() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let other = sandbox.path().join("other");
    let other = other.to_str().unwrap();
    let (repo, site) = (sandbox.repo(), sandbox.site());
    let add = [
        "--home",
        other,
        "init",
        "--repo",
        repo.to_str().unwrap(),
        "--name",
        "app",
        "--path",
        site.to_str().unwrap(),
    ];
    sandbox.run(&add).expect_code(0);
    let refused = sandbox.run(&["--home", other, "deploy", "app", "--json"]);
    assert_eq!(code_of(&refused), "host/other-home");
    assert_ne!(refused.code, 0);
    assert_eq!(sandbox.live("a").as_deref(), Some("a"));
}

#[test]
fn a_store_that_is_newer_or_corrupt_is_refused_and_left_alone() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    let store = sandbox.home().join("eeveon.db");
    let good = fs::read(&store).unwrap();
    let corrupt = vec![b'x'; good.len().max(4096)];
    fs::write(&store, &corrupt).unwrap();
    assert_eq!(code_of(&sandbox.run(&["list", "--json"]).expect_code(1)), "store/corrupt");
    assert_eq!(fs::read(&store).unwrap(), corrupt);
}

#[test]
fn a_live_link_that_is_not_ours_is_told() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let current = sandbox.site().join("current");
    fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("/etc", &current).unwrap();
    let refused = sandbox.run(&["deploy", "app", "--json"]);
    assert_eq!(code_of(&refused), "host/current-not-ours");
    assert_eq!(fs::read_link(&current).unwrap().to_str(), Some("/etc"));
}

#[test]
fn a_home_open_to_others_is_found_by_check() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    fs::set_permissions(sandbox.home(), fs::Permissions::from_mode(0o755)).unwrap();
    let check = sandbox.run(&["check", "--json"]).expect_code(20);
    assert!(check.stdout.contains("chmod 700"), "{check}");
}

#[test]
fn nothing_from_outside_acts_on_the_terminal() {
    let sandbox = Sandbox::new(&[("a\u{1b}[2J.txt", "a")]);
    sandbox.commit("red \u{1b}[31mand \u{9b}2J \u{202e}backwards", &[("b", "b")]);
    sandbox.init(&[]).expect_code(0);
    for args in [
        vec!["plan", "app"],
        vec!["deploy", "app"],
        vec!["history", "app"],
        vec!["releases", "app"],
        vec!["status"],
        vec!["plan", "app", "--json"],
        vec!["history", "app", "--json"],
    ] {
        let ran = sandbox.run(&args).expect_code(0);
        for text in [&ran.stdout, &ran.stderr] {
            let hazard = text.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(hazard, None, "{args:?}: {text:?}");
        }
    }
}

#[test]
fn every_failure_says_four_things() {
    let sandbox = Sandbox::with_project(&[("a", "a")]);
    sandbox.configure("build.commands = [\"echo building; exit 3\"]");
    let failed = sandbox.run(&["deploy", "app"]).expect_code(10);
    assert_story("four-things", &failed.to_string());
    assert_story("four-things-why", &sandbox.run(&["why", "1"]).expect_code(0).to_string());
}
