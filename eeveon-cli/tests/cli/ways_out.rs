//! Whatever went wrong, there is a way out that needs no knowledge of what is inside.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{running::Daemon, sandbox::Sandbox};

fn without_hooks(sandbox: &Sandbox) {
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap();
    let kept = text.lines().filter(|line| !line.starts_with("post_switch = "));
    fs::write(file, kept.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
}

#[test]
fn a_hook_that_cannot_be_taken_back_is_left_out_by_a_person() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("hooks.post_switch = [\"test ! -e ../../broken\"]");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    // From now on the hook fails, for the new release and for the old one.
    fs::write(sandbox.site().join("broken"), "").unwrap();
    sandbox.commit("second", &[("a", "2")]);
    let parked = sandbox.run(&["deploy", "app"]).expect_code(12);
    assert!(parked.stderr.contains("--skip"), "{parked}");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"), "the old release serves");
    without_hooks(&sandbox);
    // The plan is fixed: what it runs is not what the file says now.
    sandbox.run(&["resume", "2"]).expect_code(12);
    sandbox.run(&["deploy", "app"]).expect_code(12);
    sandbox.run(&["remove", "app", "--yes"]).expect_code(12);
    sandbox.run(&["resume", "2", "--skip", "--reason", "reloaded by hand"]).expect_code(11);
    assert_eq!(sandbox.run(&["history", "app", "--json"]).json()[0]["outcome"], "rolled_back");
    sandbox.run(&["resume", "2", "--skip"]).expect_code(2);
    sandbox.run(&["quarantine", "app", &sandbox.git(&["rev-parse", "HEAD"]), "--lift"]).expect_code(0);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
}

#[test]
fn an_older_store_can_be_put_back() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.run(&["vacuum"]).expect_code(0);
    let backup = fs::read(sandbox.home().join("eeveon.db")).unwrap();
    for n in 2..=4 {
        sandbox.commit(&n.to_string(), &[("a", &n.to_string())]);
        sandbox.run(&["deploy", "app"]).expect_code(0);
    }
    for file in ["eeveon.db-wal", "eeveon.db-shm"] {
        let _absent_is_fine = fs::remove_file(sandbox.home().join(file));
    }
    fs::write(sandbox.home().join("eeveon.db"), backup).unwrap();
    sandbox.commit("5", &[("a", "5")]);
    sandbox.run(&["deploy", "app", "--allow-older"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("5"));
}

#[test]
fn a_first_try_that_fails_is_not_in_the_way_of_the_second() {
    let sandbox = Sandbox::new(&[("site/a", "1")]);
    let repo = sandbox.repo();
    let repo = repo.to_str().unwrap();
    let up = |more: &[&str]| sandbox.run(&[&["up", repo, "--once", "--name", "app"], more].concat());
    up(&["--dir", "nowhere"]).expect_code(10);
    assert!(!sandbox.home().join("projects/app.toml").exists());
    up(&["--dir", "site"]).expect_code(0);
    up(&["--dir", "site/"]).expect_code(0);
    let same = format!("file://{repo}");
    sandbox.run(&["up", &same, "--once", "--name", "app", "--dir", "site"]).expect_code(0);
    up(&["--dir", ""]).expect_code(2);
}

#[test]
fn a_change_by_hand_is_undone_by_deploying_again() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    fs::write(sandbox.site().join("current/a"), "by hand").unwrap();
    sandbox.run(&["check", "app"]).expect_code(10);
    sandbox.run(&["deploy", "app", "--again"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    sandbox.run(&["check", "app"]).expect_code(0);
}

#[test]
fn a_live_release_that_is_gone_is_told_and_comes_back() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    fs::remove_dir_all(sandbox.site().join("releases/1")).unwrap();
    let check = sandbox.run(&["check", "app", "--json"]).expect_code(10);
    assert!(check.stdout.contains("host/release-missing"), "{check}");
    sandbox.run(&["deploy", "app", "--again"]).expect_code(0);
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
}

#[test]
fn what_serves_is_never_put_aside_for_a_failure_of_its_configuration() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    // Dislikes the release that is not 1, whatever its commit.
    sandbox.configure("hooks.post_switch = [\"test $EEVEON_RELEASE = 1\"]");
    sandbox.run(&["deploy", "app"]).expect_code(11);
    assert_eq!(sandbox.run(&["quarantine", "app", "--json"]).json(), serde_json::json!([]));
    without_hooks(&sandbox);
    sandbox.run(&["deploy", "app", "--again"]).expect_code(0);
}

#[test]
fn colours_are_no_reason_to_fail() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let status = sandbox.run(&["--color", "always", "-vv", "status"]).expect_code(0);
    assert!(status.stdout.contains("\u{1b}["), "{status}");
}

/// A file system of its own, as long as it lives.
struct Mounted<'a>(&'a Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

/// Mounts a file system of its own at a new folder, where this user may.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn mount(disk: &Path) -> Option<Mounted<'_>> {
    fs::create_dir(disk).unwrap();
    let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(disk).output();
    if !mount.is_ok_and(|mount| mount.status.success()) {
        eprintln!("skipped: a file system cannot be mounted here");
        return None;
    }
    Some(Mounted(disk))
}

/// Fills a disk as full as can be, large pieces first, then small ones. Returns what takes up the space.
fn fill(disk: &Path) -> Vec<PathBuf> {
    let mut pieces = Vec::new();
    for size in [1 << 20, 4096, 1] {
        for n in 0.. {
            let piece = disk.join(format!("filler-{size}-{n}"));
            if fs::write(&piece, vec![0; size]).is_err() {
                let _nothing_was_written = fs::remove_file(piece);
                break;
            }
            pieces.push(piece);
            assert!(n < 100_000);
        }
    }
    pieces
}

#[test]
fn a_daemon_on_a_full_disk_takes_deliveries_and_deploys_once_there_is_room() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    let home = sandbox.home();
    let Some(_mounted) = mount(&home) else { return };
    sandbox.init(&[]).expect_code(0);
    sandbox.configure("source.poll = false");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let shown = sandbox.run(&["webhook", "show", "app", "--provider", "gitlab", "--json"]).json();
    let daemon = Daemon::start(&sandbox);
    let pieces = fill(&home);
    sandbox.commit("second", &[("a", "2")]);
    let answer = daemon.pushes("app", shown["secret"].as_str().unwrap(), "1", &sandbox);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("No space left on device");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    for piece in pieces {
        fs::remove_file(piece).unwrap();
    }
    daemon.hears("release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
}

#[test]
fn going_back_works_on_a_full_disk() {
    let sandbox = Sandbox::new(&[("a", "1")]);
    let disk = sandbox.path().join("disk");
    let Some(_mounted) = mount(&disk) else { return };
    let (home, site) = (disk.join("home"), disk.join("site"));
    let run = |args: &[&str]| sandbox.run(&[&["--home", home.to_str().unwrap()], args].concat());
    let (repo, site) = (sandbox.repo(), site.to_str().unwrap());
    run(&["up", repo.to_str().unwrap(), "--once", "--name", "app", "--path", site]).expect_code(0);
    sandbox.commit("second", &[("a", "2")]);
    run(&["deploy", "app"]).expect_code(0);
    fill(&disk);
    sandbox.commit("third", &[("a", "3")]);
    let refused = run(&["deploy", "app"]);
    assert_ne!(refused.code, 0, "{refused}");
    run(&["rollback", "app", "--yes", "--reason", "full"]).expect_code(0);
    assert_eq!(fs::read_to_string(Path::new(site).join("current/a")).unwrap(), "1");
    assert_eq!(run(&["history", "app", "--json"]).json()[0]["outcome"], "succeeded");
}
