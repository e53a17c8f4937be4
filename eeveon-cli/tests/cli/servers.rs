//! The same commands over https, ssh and git://, from real servers: any repository works the same.

use std::fs;

use eeveon_testkit::{
    servers::{Access, GitDaemon, GitHttps, GitSsh},
    skip_unless,
};

use crate::sandbox::{Ran, Sandbox};

/// A repository with one commit, and a bare clone of it in the folder that is served.
fn served() -> (Sandbox, std::path::PathBuf) {
    let sandbox = Sandbox::new(&[("a", "1")]);
    let root = sandbox.path().join("served");
    fs::create_dir(&root).unwrap();
    sandbox.git(&["clone", "-q", "--bare", ".", root.join("shop.git").to_str().unwrap()]);
    (sandbox, root)
}

/// From nothing to live, on to a second commit, and back.
fn story(sandbox: &Sandbox, url: &str, access: &[&str]) {
    let site = sandbox.site();
    let mut up = vec!["up", url, "--once", "--name", "app", "--path", site.to_str().unwrap()];
    up.extend(access);
    sandbox.run(&up).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    sandbox.commit("second", &[("a", "2")]);
    sandbox.git(&["push", "-q", sandbox.path().join("served/shop.git").to_str().unwrap(), "main"]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    sandbox.run(&["rollback", "app", "--yes", "--reason", "x"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

fn code_of(ran: &Ran) -> String {
    ran.error()["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn over_https_with_a_token_that_nobody_gets_to_see() {
    skip_unless!(GitHttps::available());
    let (sandbox, root) = served();
    let server = GitHttps::start(&root, Access::Password).unwrap();
    let (url, ca) = (server.url("shop.git"), server.ca_file());
    let token = sandbox.path().join("token");
    let reference = format!("file:{}", token.display());
    let ca = ca.to_str().unwrap();

    let init = ["init", "--json", "--name", "x", "--repo", &url, "--ca-file", ca];
    assert_eq!(code_of(&sandbox.run(&init).expect_code(30)), "source/credentials");
    fs::write(&token, "wrong\n").unwrap();
    let access = ["--ca-file", ca, "--user", server.user(), "--token", &reference];
    let refused = sandbox.run(&[&init[..], &["--user", server.user(), "--token", &reference]].concat());
    assert_eq!(code_of(&refused.expect_code(30)), "source/credentials");
    let untrusted = ["init", "--json", "--name", "x", "--repo", &url];
    assert_eq!(code_of(&sandbox.run(&untrusted).expect_code(30)), "source/certificate");

    fs::write(&token, format!("{}\n", server.password())).unwrap();
    story(&sandbox, &url, &access);
    for args in
        [vec!["history", "app", "--json"], vec!["config", "app"], vec!["deploy", "app", "-vv"], vec!["check"]]
    {
        let ran = sandbox.run(&args);
        assert!(!format!("{}{}", ran.stdout, ran.stderr).contains(server.password()), "{args:?}");
    }
    // Without its token the source cannot be asked; what needs no source still works.
    fs::remove_file(&token).unwrap();
    assert_eq!(code_of(&sandbox.run(&["deploy", "app", "--json"]).expect_code(20)), "config/secret");
    sandbox.run(&["rollback", "app", "2", "--yes", "--reason", "x"]).expect_code(13);
    sandbox.run(&["status"]).expect_code(0);
    sandbox.run(&["remove", "app", "--purge", "--yes"]).expect_code(0);
}

#[test]
fn over_ssh_to_a_host_that_is_known() {
    skip_unless!(GitSsh::available());
    let (sandbox, root) = served();
    let mut server = GitSsh::start(&root).unwrap();
    let (key, known) = (server.key_file(), server.known_hosts());
    let access = ["--ssh-key", key.to_str().unwrap(), "--known-hosts", known.to_str().unwrap()];
    let url = server.url("shop.git");
    story(&sandbox, &url, &access);
    server.change_host_key().unwrap();
    let refused = sandbox.run(&["deploy", "app", "--json"]);
    assert_eq!(code_of(&refused), "source/host-key-changed");
    assert_ne!(refused.code, 0);
    assert_eq!(refused.error()["serving"]["release"], 1);
}

#[test]
fn over_the_git_protocol_on_this_machine() {
    skip_unless!(GitDaemon::available());
    let (sandbox, root) = served();
    let server = GitDaemon::start(&root).unwrap();
    story(&sandbox, &server.url("shop.git"), &[]);
}
