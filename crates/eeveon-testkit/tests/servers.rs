//! The servers for tests do serve: git itself clones from each.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use eeveon_testkit::{
    git::Repo,
    servers::{Access, GitDaemon, GitHttps, GitSsh, Postfix, Validity},
    skip_unless,
};
use tempfile::TempDir;

/// Makes a repository with one file; beside it is a bare one, `site.git`, in the folder returned.
fn repository() -> (Repo, PathBuf) {
    let repo = Repo::with(&[&[("index.html", "hello\n")]]);
    let root = repo.beside("");
    repo.git(["clone", "--quiet", "--bare", ".", "../site.git"]);
    (repo, root)
}

/// Begins a git command that knows nothing of this machine's configuration and asks nobody.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env_remove("GIT_DIR").env_remove("GIT_WORK_TREE");
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0");
    command
}

/// Clones into `place/copy` and looks whether the file came.
fn clones(place: &Path, prepare: impl FnOnce(&mut Command), url: &str) -> Result<(), String> {
    let mut command = git(place);
    prepare(&mut command);
    let done = command.args(["clone", "--quiet", url, "copy"]).output().unwrap();
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    assert_eq!(std::fs::read_to_string(place.join("copy/index.html")).unwrap(), "hello\n");
    Ok(())
}

#[test]
fn git_daemon_serves() {
    skip_unless!(GitDaemon::available());
    let ((_repo, root), place) = (repository(), TempDir::new().unwrap());
    let server = GitDaemon::start(&root).unwrap();
    clones(place.path(), |_| (), &server.url("site.git")).unwrap();
    assert!(clones(place.path(), |_| (), &server.url("gone.git")).is_err());
}

#[test]
fn https_serves_those_with_the_password() {
    skip_unless!(GitHttps::available());
    let ((_repo, root), place) = (repository(), TempDir::new().unwrap());
    let server = GitHttps::start(&root, Access::Password).unwrap();
    let url = server.url("site.git");
    let trust = |command: &mut Command| {
        command.env("GIT_SSL_CAINFO", server.ca_file());
    };
    let with_password = url.replace("https://", &format!("https://{}:{}@", server.user(), server.password()));
    clones(place.path(), trust, &with_password).unwrap();

    let elsewhere = TempDir::new().unwrap();
    assert!(clones(elsewhere.path(), trust, &url).unwrap_err().contains("could not read Username"));
    let wrong = url.replace("https://", &format!("https://{}:wrong@", server.user()));
    assert!(clones(elsewhere.path(), trust, &wrong).unwrap_err().contains("Authentication failed"));
    assert!(clones(elsewhere.path(), |_| (), &with_password).unwrap_err().contains("certificate"));
}

#[test]
fn https_serves_anyone_if_asked_to() {
    skip_unless!(GitHttps::available());
    let ((_repo, root), place) = (repository(), TempDir::new().unwrap());
    let server = GitHttps::start(&root, Access::Anonymous).unwrap();
    let trust = |command: &mut Command| {
        command.env("GIT_SSL_CAINFO", server.ca_file());
    };
    clones(place.path(), trust, &server.url("site.git")).unwrap();
}

#[test]
fn ssh_serves_those_with_the_key_and_can_change_its_own() {
    skip_unless!(GitSsh::available());
    let ((_repo, root), place) = (repository(), TempDir::new().unwrap());
    let mut server = GitSsh::start(&root).unwrap();
    let url = server.url("site.git");
    let ssh = |server: &GitSsh, key: &Path| {
        format!(
            "ssh -F /dev/null -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes \
             -o UserKnownHostsFile={} -i {}",
            server.known_hosts().display(),
            key.display()
        )
    };
    let line = ssh(&server, &server.key_file());
    let by_key = |command: &mut Command| {
        command.env("GIT_SSH_COMMAND", &line);
    };
    clones(place.path(), by_key, &url).unwrap();

    let elsewhere = TempDir::new().unwrap();
    let line_without = ssh(&server, &elsewhere.path().join("no-key"));
    let without_key = |command: &mut Command| {
        command.env("GIT_SSH_COMMAND", &line_without).env_remove("SSH_AUTH_SOCK");
    };
    assert!(clones(elsewhere.path(), without_key, &url).unwrap_err().contains("Permission denied"));

    server.change_host_key().unwrap();
    assert_eq!(server.url("site.git"), url);
    assert!(clones(elsewhere.path(), by_key, &url).unwrap_err().contains("Host key verification failed"));
}

#[test]
fn a_dropped_server_is_gone() {
    skip_unless!(GitDaemon::available());
    let ((_repo, root), place) = (repository(), TempDir::new().unwrap());
    let server = GitDaemon::start(&root).unwrap();
    let url = server.url("site.git");
    drop(server);
    assert!(clones(place.path(), |_| (), &url).is_err());
}

/// Asks the server on `port` for its greeting, and says good-bye.
fn greeting(port: u16) -> String {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
    stream.write_all(b"QUIT\r\n").unwrap();
    line
}

#[test]
fn postfix_greets_and_its_mailboxes_are_empty() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    assert!(greeting(server.port()).starts_with("220 mail.example.org "));
    assert!(server.mailbox("ops", 0).unwrap().is_empty());
    assert!(server.ca_file().is_file());
    let port = server.port();
    drop(server);
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}
