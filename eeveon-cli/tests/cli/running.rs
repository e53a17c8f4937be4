//! A daemon that runs, for the tests that need one.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::sandbox::Sandbox;

/// A daemon, ended with the test.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) address: String,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    pub(crate) fn start(sandbox: &Sandbox) -> Self {
        let mut command = sandbox.command(&["serve", "--listen", "127.0.0.1:0", "--grace", "5"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    break;
                }
            }
        });
        let mut daemon = Self { child, address: String::new(), lines };
        let hooks = daemon.hears("http://");
        daemon.address = hooks.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
        daemon.hears("watching");
        daemon
    }

    /// Waits for a line that says `words`.
    pub(crate) fn hears(&self, words: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("never said `{words}`: {heard:#?}"),
            }
        }
    }

    pub(crate) fn request(&self, head: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        let length = body.len();
        write!(
            stream,
            "{head}\r\nHost: {host}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Delivers, as GitLab does, that the newest commit was pushed.
    pub(crate) fn pushes(&self, project: &str, token: &str, id: &str, sandbox: &Sandbox) -> String {
        let before = sandbox.git(&["rev-parse", "HEAD~1"]);
        self.tells(project, token, id, ("Push Hook", "push", "refs/heads/main", &before), sandbox)
    }

    /// As [`Self::pushes`], of a new tag on the newest commit.
    pub(crate) fn pushes_tag(
        &self,
        project: &str,
        token: &str,
        id: &str,
        tag: &str,
        sandbox: &Sandbox,
    ) -> String {
        let name = format!("refs/tags/{tag}");
        self.tells(project, token, id, ("Tag Push Hook", "tag_push", &name, &"0".repeat(40)), sandbox)
    }

    fn tells(
        &self,
        project: &str,
        token: &str,
        id: &str,
        (event, kind, name, before): (&str, &str, &str, &str),
        sandbox: &Sandbox,
    ) -> String {
        let after = sandbox.git(&["rev-parse", "HEAD"]);
        let body = format!(
            "{{\"object_kind\":\"{kind}\",\"ref\":\"{name}\",\"before\":\"{before}\",\"after\":\"{after}\",\
             \"total_commits_count\":1,\"user_username\":\"bob\",\"commits\":[],\
             \"project\":{{\"path_with_namespace\":\"acme/app\",\"git_http_url\":\"https://gitlab.example/acme/app.git\",\
             \"git_ssh_url\":\"git@gitlab.example:acme/app.git\",\"web_url\":\"https://gitlab.example/acme/app\"}}}}"
        );
        let head = format!(
            "POST /hooks/{project}/gitlab HTTP/1.1\r\nX-Gitlab-Event: {event}\r\nX-Gitlab-Token: {token}\r\n\
             Idempotency-Key: {id}\r\nContent-Type: application/json"
        );
        self.request(&head, &body)
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Waits until `is` holds.
pub(crate) fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::yield_now();
    }
}
