//! The daemon: it notices, deploys, listens to forges, and can be killed at any moment.

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
struct Daemon {
    child: Child,
    address: String,
    lines: mpsc::Receiver<String>,
}

impl Daemon {
    fn start(sandbox: &Sandbox) -> Self {
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
    fn hears(&self, words: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) if line.contains(words) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("never said `{words}`: {heard:#?}"),
            }
        }
    }

    fn request(&self, head: &str, body: &str) -> String {
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

    fn signal(&self, name: &str) {
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
fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < Duration::from_secs(60), "never: {what}");
        thread::yield_now();
    }
}

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
    let second = sandbox.run(&["serve", "--listen", "127.0.0.1:0"]).expect_code(2);
    assert!(second.stderr.contains("another daemon"), "{second}");
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
    let after = sandbox.commit("second", &[("a", "2")]);
    let before = sandbox.git(&["rev-parse", "HEAD~1"]);
    let body = format!(
        "{{\"object_kind\":\"push\",\"ref\":\"refs/heads/main\",\"before\":\"{before}\",\"after\":\"{after}\",\
         \"total_commits_count\":1,\"user_username\":\"bob\",\"commits\":[],\
         \"project\":{{\"path_with_namespace\":\"acme/app\",\"git_http_url\":\"https://gitlab.example/acme/app.git\",\
         \"git_ssh_url\":\"git@gitlab.example:acme/app.git\",\"web_url\":\"https://gitlab.example/acme/app\"}}}}"
    );
    let head = |token: &str, id: &str| {
        format!(
            "POST /hooks/app/gitlab HTTP/1.1\r\nX-Gitlab-Event: Push Hook\r\nX-Gitlab-Token: {token}\r\n\
             Idempotency-Key: {id}\r\nContent-Type: application/json"
        )
    };
    for wrong in ["", "hunter2"] {
        let answer = daemon.request(&head(wrong, "1"), &body);
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    }
    let unknown = daemon.request("POST /hooks/none/gitlab HTTP/1.1", &body);
    assert!(unknown.starts_with("HTTP/1.1 401"), "{unknown}");
    let answer = daemon.request(&head(secret, "1"), &body);
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    daemon.hears("release 2 succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("2"));
    let again = daemon.request(&head(secret, "1"), &body);
    assert!(again.contains("came before") || again.contains("ignored"), "{again}");
    let list = sandbox.run(&["webhook", "deliveries", "app", "--json"]).json();
    assert_eq!(list[0]["accepted"], true, "{list}");
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
    std::fs::write(sandbox.site().join("go"), "").unwrap();
    let daemon = Daemon::start(&sandbox);
    daemon.hears("succeeded");
    assert_eq!(sandbox.live("a").as_deref(), Some("1"));
    let history = sandbox.run(&["history", "app", "--json"]).json();
    let open = history.as_array().unwrap().iter().filter(|it| it["outcome"].is_null()).count();
    assert_eq!(open, 0, "{history}");
}

#[test]
fn a_unit_for_systemd_is_printed() {
    let sandbox = project("1h");
    let unit = sandbox.run(&["serve", "--print-unit"]).expect_code(0).stdout;
    for line in ["Type=notify", "NoNewPrivileges=yes", "ProtectSystem=strict", "WantedBy=multi-user.target"] {
        assert!(unit.lines().any(|it| it == line), "{line}: {unit}");
    }
}
