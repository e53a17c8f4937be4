//! Runs the example against a repository made for it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Output},
};

fn git(folder: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for role in ["AUTHOR", "COMMITTER"] {
        git.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.org");
    }
    let output = git.args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn commit(repo: &Path, content: &str) {
    fs::write(repo.join("index.html"), content).unwrap();
    git(repo, &["add", "--all"]);
    git(repo, &["commit", "--quiet", "--message", content]);
}

fn embed(repo: &Path, folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_embed")).arg(repo).arg(folder).output().unwrap()
}

fn said(output: &Output) -> &str {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn the_example_deploys_what_is_new_and_only_that() {
    let scratch = tempfile::tempdir().unwrap();
    let (repo, folder) = (scratch.path().join("repo"), scratch.path().join("folder"));
    fs::create_dir(&repo).unwrap();
    git(&repo, &["init", "--quiet", "--initial-branch=main"]);
    commit(&repo, "one");
    let page = folder.join("site/current/index.html");

    let first = embed(&repo, &folder);
    let steps = "done: ready/here\ndone: ship/here\ndone: seal/here\ndone: switch/here\n";
    assert!(said(&first).starts_with(steps), "{first:?}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "one");
    assert_eq!(said(&embed(&repo, &folder)), "nothing changed\n");

    commit(&repo, "two");
    assert!(said(&embed(&repo, &folder)).starts_with(steps));
    assert_eq!(fs::read_to_string(&page).unwrap(), "two");
    assert_eq!(fs::read_link(folder.join("site/current")).unwrap(), Path::new("releases/2"));
}

#[test]
fn what_cannot_be_deployed_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let output = embed(&scratch.path().join("nothing"), &scratch.path().join("folder"));
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(!scratch.path().join("folder/site").exists());
}

#[test]
fn the_pages_show_this_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = fs::read_to_string(root.join("examples/embed.rs")).unwrap();
    for page in ["README.md", "docs/guide/embedding.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        let code: Vec<&str> = text
            .split("```")
            .skip(1)
            .step_by(2)
            .filter_map(|block| block.strip_prefix("rust\n"))
            .flat_map(str::lines)
            .filter(|line| !line.trim().is_empty())
            .collect();
        assert!(!code.is_empty(), "{page} shows nothing");
        for line in code {
            assert!(program.contains(line.trim()), "{page} shows what is not in the program: {line}");
        }
    }
}

#[test]
fn the_daemon_deploys_what_is_pushed_until_it_is_stopped() {
    let scratch = tempfile::tempdir().unwrap();
    let (repo, folder) = (scratch.path().join("repo"), scratch.path().join("folder"));
    fs::create_dir(&repo).unwrap();
    git(&repo, &["init", "--quiet", "--initial-branch=main"]);
    commit(&repo, "one");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_daemon"))
        .arg(&repo)
        .arg(&folder)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(daemon.stdout.take().unwrap()).lines();
    let mut succeeds = || said.by_ref().map(Result::unwrap).any(|line| line.contains("succeeded"));
    assert!(succeeds());
    commit(&repo, "two");
    assert!(succeeds());
    assert_eq!(fs::read_to_string(folder.join("site/current/index.html")).unwrap(), "two");
    let stopped = Command::new("kill").arg("-INT").arg(daemon.id().to_string()).status().unwrap();
    assert!(stopped.success() && daemon.wait().unwrap().success());
}
