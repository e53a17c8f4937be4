//! Health checks and what follows from them, with a real HTTP server as the app: it serves what is
//! live, as a web server in front of the site would.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use eeveon_testkit::servers::{Access, GitHttps};

use crate::sandbox::Sandbox;

/// Answers every request with the status in the file `status` of what is live; several words are
/// the answers of one look after the other, the last one for ever. `hang` never answers.
struct App {
    port: u16,
    looks: Arc<AtomicU64>,
}

impl App {
    fn start(site: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let looks = Arc::new(AtomicU64::new(0));
        let (current, counted) = (site.join("current"), Arc::clone(&looks));
        thread::spawn(move || {
            // Looks at each release, counted by themselves.
            let mut seen: (PathBuf, usize) = (PathBuf::new(), 0);
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                read_head(&stream);
                counted.fetch_add(1, Ordering::SeqCst);
                let release = fs::canonicalize(&current).unwrap_or_default();
                seen = if seen.0 == release { (release, seen.1 + 1) } else { (release, 0) };
                let text = fs::read_to_string(seen.0.join("status")).unwrap_or_default();
                let words: Vec<&str> = text.split_whitespace().collect();
                let word = words.get(seen.1).or(words.last()).copied().unwrap_or("404");
                if word == "hang" {
                    // Kept open by somebody who never writes.
                    std::mem::forget(stream);
                    continue;
                }
                let body = format!("{{\"release\":\"{}\"}}", seen.0.display());
                let answer = format!(
                    "HTTP/1.1 {word} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _client_may_be_gone = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, looks }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/healthz", self.port)
    }

    fn looks(&self) -> u64 {
        self.looks.load(Ordering::SeqCst)
    }
}

fn read_head(stream: &TcpStream) {
    let mut lines = BufReader::new(stream).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
}

const QUICK: &str = "backoff = { first = \"1ms\", max = \"2ms\" }\ntimeout = \"2s\"\n";

/// A project whose app is checked, with `status` as its first commit; not deployed yet.
fn project(status: &str, check: &str) -> (Sandbox, App) {
    let sandbox = Sandbox::with_project(&[("status", status), ("n", "1")]);
    let app = App::start(&sandbox.site());
    append(&sandbox, &format!("[[health]]\nurl = \"{}\"\n{QUICK}{check}", app.url()));
    (sandbox, app)
}

fn append(sandbox: &Sandbox, toml: &str) {
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n{toml}")).unwrap();
}

/// What everybody is told must be the same: exit code, history, disk, and what serves.
fn agree(sandbox: &Sandbox, outcome: Option<&str>, live: Option<&str>) -> serde_json::Value {
    let newest = sandbox.run(&["history", "app", "--json"]).json()[0].clone();
    assert_eq!(newest["outcome"].as_str(), outcome, "{newest}");
    assert_eq!(sandbox.live_release().as_deref(), live);
    let status = sandbox.run(&["status", "app", "--json"]).json();
    let serves = status["live"]["release"].as_u64().map(|it| it.to_string());
    assert_eq!(serves.as_deref(), live, "{status}");
    assert_eq!(status["waiting"].is_null(), outcome.is_some(), "{status}");
    newest
}

#[test]
fn the_whole_story_of_a_good_and_a_bad_release() {
    let (sandbox, app) = project("200", "");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let good = agree(&sandbox, Some("succeeded"), Some("1"));
    assert_eq!(good["checks"], serde_json::json!([{"step": "post/http-1", "passed": true, "looks": 1}]));

    sandbox.commit("bad", &[("status", "500")]);
    let before = app.looks();
    let ran = sandbox.run(&["deploy", "app"]).expect_code(11);
    assert!(ran.stderr.contains("health/unhealthy") && ran.stderr.contains("500"), "{ran}");
    assert!(ran.stderr.contains("what serves again has passed its checks"), "{ran}");
    let bad = agree(&sandbox, Some("rolled_back"), Some("1"));
    assert_eq!(bad["checks"][0], serde_json::json!({"step": "post/http-1", "passed": false, "looks": 3}));
    assert_eq!(bad["failure"]["code"], "health/unhealthy");
    let undone = bad["undone"].to_string();
    assert!(undone.contains("switch/local") && undone.contains("verify/local"), "{undone}");
    assert_eq!(app.looks() - before, 4, "three at the bad release, one at the good one");
    // The commit is put aside, and only a later one goes live.
    sandbox.run(&["deploy", "app"]).expect_code(13);
    let why = sandbox.run(&["why", bad["id"].to_string().as_str()]).expect_code(0);
    assert!(why.stdout.contains("post/http-1 failed after 3 looks"), "{why}");
    sandbox.commit("mended", &[("status", "204")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    agree(&sandbox, Some("succeeded"), Some("4"));
}

#[test]
fn bad_from_the_start_leaves_nothing_live() {
    let (sandbox, _app) = project("500", "");
    sandbox.run(&["deploy", "app"]).expect_code(11);
    agree(&sandbox, Some("rolled_back"), None);
}

#[test]
fn slow_to_boot_and_flapping_pass_when_they_may() {
    let (sandbox, app) = project("503 503 200", "");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(app.looks(), 3);
    let row = agree(&sandbox, Some("succeeded"), Some("1"));
    assert_eq!(row["checks"][0]["looks"], 3);
    // Healthy every other time is not healthy twice in a row.
    let (sandbox, _app) = project("200 500 200 500 200 500", "successes = 2\n");
    sandbox.run(&["deploy", "app"]).expect_code(11);
}

#[test]
fn good_at_first_and_bad_while_it_is_watched() {
    let (sandbox, _app) = project("200", "");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.configure("rollback.watch = \"300ms\"\nrollback.watch_interval = \"100ms\"");
    sandbox.commit("bad later", &[("status", "200 500")]);
    let ran = sandbox.run(&["deploy", "app", "--json"]).expect_code(11);
    assert!(ran.stdout.contains("health/went-bad"), "{ran}");
    agree(&sandbox, Some("rolled_back"), Some("1"));
    sandbox.commit("good", &[("status", "200")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    agree(&sandbox, Some("succeeded"), Some("3"));
}

#[test]
fn a_hanging_connection_is_no_answer() {
    let (sandbox, _app) = project("200", "attempts = 1\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap().replace("timeout = \"2s\"", "timeout = \"50ms\"");
    fs::write(&file, text).unwrap();
    sandbox.commit("hangs", &[("status", "hang")]);
    // The release before was deployed with more patience, and proves itself with that.
    let ran = sandbox.run(&["deploy", "app"]).expect_code(11);
    assert!(ran.stderr.contains("health/no-answer"), "{ran}");
}

#[test]
fn both_bad_waits_for_a_person_and_says_what_serves() {
    let (sandbox, _app) = project("200 500", "");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    // From its second look on, the first release is bad too.
    sandbox.commit("bad", &[("status", "500")]);
    fs::write(sandbox.site().join("current/status"), "500").unwrap();
    let ran = sandbox.run(&["deploy", "app"]).expect_code(12);
    assert!(ran.stderr.contains("health/both-bad") && ran.stderr.contains("release 1"), "{ran}");
    let row = agree(&sandbox, None, Some("1"));
    let id = row["id"].to_string();
    // What both need is mended by hand; the deployment then goes back all the way.
    fs::write(sandbox.site().join("current/status"), "200").unwrap();
    sandbox.run(&["resume", &id]).expect_code(11);
    agree(&sandbox, Some("rolled_back"), Some("1"));
}

#[test]
fn a_person_who_is_asked_can_look_again_keep_or_go_back() {
    for answer in ["mend", "skip", "cancel", "rollback"] {
        let (sandbox, _app) = project("200", "");
        sandbox.configure("rollback.on_failure = \"ask\"");
        sandbox.run(&["deploy", "app"]).expect_code(0);
        sandbox.commit("bad", &[("status", "500")]);
        let ran = sandbox.run(&["deploy", "app"]).expect_code(12);
        assert!(ran.stderr.contains("--skip` keeps the release"), "{ran}");
        let id = agree(&sandbox, None, Some("2"))["id"].to_string();
        sandbox.run(&["deploy", "app"]).expect_code(12);
        match answer {
            "mend" => {
                fs::write(sandbox.site().join("current/status"), "200").unwrap();
                sandbox.run(&["resume", &id]).expect_code(0);
                agree(&sandbox, Some("succeeded"), Some("2"));
            }
            "skip" => {
                sandbox.run(&["resume", &id, "--skip", "--reason", "known"]).expect_code(0);
                agree(&sandbox, Some("succeeded"), Some("2"));
            }
            "cancel" => {
                sandbox.run(&["cancel", &id]).expect_code(11);
                agree(&sandbox, Some("rolled_back"), Some("1"));
            }
            _ => {
                sandbox.run(&["rollback", "app", "--yes", "--reason", "no"]).expect_code(0);
                agree(&sandbox, Some("rolled_back"), Some("1"));
            }
        }
    }
}

#[test]
fn never_keeps_the_release_until_a_person_says_it_is_in_order() {
    let (sandbox, _app) = project("200", "");
    sandbox.configure("rollback.on_failure = \"never\"");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("bad", &[("status", "500")]);
    sandbox.run(&["deploy", "app"]).expect_code(12);
    let id = agree(&sandbox, None, Some("2"))["id"].to_string();
    sandbox.run(&["cancel", &id]).expect_code(13);
    sandbox.run(&["resume", &id, "--skip"]).expect_code(0);
    agree(&sandbox, Some("succeeded"), Some("2"));
}

#[test]
fn pre_and_candidate_checks_keep_the_old_release() {
    let (sandbox, app) = project("200", "when = \"both\"\n");
    // Nothing serves yet: there is nothing to look at before.
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(app.looks(), 1);
    append(
        &sandbox,
        "[[health]]\nkind = \"command\"\nwhen = \"candidate\"\nattempts = 1\ncommand = [\"sh\", \"-c\", \
         \"grep -q fit fitness || { echo not fit; exit 3; }\"]\n",
    );
    sandbox.commit("unfit", &[("fitness", "un")]);
    let ran = sandbox.run(&["deploy", "app"]).expect_code(10);
    assert!(ran.stderr.contains("exit code 3: not fit"), "{ran}");
    agree(&sandbox, Some("failed"), Some("1"));
    sandbox.commit("fit", &[("fitness", "fit")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    agree(&sandbox, Some("succeeded"), Some("3"));
    // What serves is bad before anything changes.
    fs::write(sandbox.site().join("current/status"), "500").unwrap();
    sandbox.commit("next", &[("n", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(10);
    let row = agree(&sandbox, Some("failed"), Some("3"));
    assert!(!row["undone"].to_string().contains("ship"), "nothing was changed: {row}");
}

#[test]
fn configuration_travels_with_the_release() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.configure("hooks.post_switch = [\"echo old >> ../../hooked\"]\ndeploy.shared_dirs = [\"up\"]");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("echo old", "echo new").replace("shared_dirs = [\"up\"]", "shared_dirs = []");
    fs::write(&file, text).unwrap();
    let plan = sandbox.run(&["plan", "app", "--json"]).expect_code(0).json();
    let keys: Vec<&str> =
        plan["configuration"].as_array().unwrap().iter().map(|it| it["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["post_switch", "shared_dirs"]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(sandbox.live("up").is_none() && !sandbox.site().join("current/up").exists());
    sandbox.run(&["rollback", "app", "--yes", "--reason", "x"]).expect_code(0);
    let hooked = fs::read_to_string(sandbox.site().join("hooked")).unwrap();
    assert_eq!(hooked, "old\nnew\nold\n");
    assert!(sandbox.site().join("current/up").is_dir());
}

#[test]
fn an_irreversible_release_is_not_left_without_a_word() {
    let (sandbox, _app) = project("200", "");
    sandbox.configure("rollback.irreversible = [\"db/migrate\"]");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    sandbox.commit("migrates", &[("db/migrate/1.sql", "alter")]);
    assert_eq!(sandbox.run(&["plan", "app", "--json"]).json()["irreversible"], true);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let refused = sandbox.run(&["rollback", "app", "--yes", "--reason", "x", "--json"]).expect_code(13);
    assert_eq!(refused.error()["error"]["code"], "rollback/irreversible");
    assert_eq!(sandbox.live_release().as_deref(), Some("2"));
    // Whatever the policy says, a failing one is not gone back from by itself.
    sandbox.commit("migrates and is bad", &[("db/migrate/2.sql", "alter"), ("status", "500")]);
    sandbox.run(&["deploy", "app"]).expect_code(12);
    sandbox.run(&["rollback", "app", "--yes", "--reason", "x"]).expect_code(13);
    let args = ["rollback", "app", "--yes", "--reason", "x", "--across-irreversible"];
    sandbox.run(&args).expect_code(0);
    agree(&sandbox, Some("rolled_back"), Some("2"));
    sandbox.run(&args).expect_code(0);
    agree(&sandbox, Some("succeeded"), Some("1"));
}

#[test]
fn a_wrong_certificate_is_no_answer_and_the_old_release_comes_back() {
    if let Err(missing) = GitHttps::available() {
        eprintln!("skipped: {missing}");
        return;
    }
    let sandbox = Sandbox::with_project(&[("n", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let root = sandbox.path().join("served");
    fs::create_dir(&root).unwrap();
    let server = GitHttps::start(&root, Access::Anonymous).unwrap();
    let check = |more: &str| {
        let url = server.url("nothing");
        format!("[[health]]\nurl = \"{url}\"\nexpect = [200, 404, 403]\nattempts = 1\n{QUICK}{more}")
    };
    append(&sandbox, &check(""));
    sandbox.commit("second", &[("n", "2")]);
    let ran = sandbox.run(&["deploy", "app"]).expect_code(11);
    assert!(ran.stderr.contains("health/no-answer") && ran.stderr.contains("no secure connection"), "{ran}");
    agree(&sandbox, Some("rolled_back"), Some("1"));
    // Whoever names the authority, or does without, is answered.
    for more in [format!("ca_file = \"{}\"\n", server.ca_file().display()), "verify = false\n".to_owned()] {
        let file = sandbox.home().join("projects/app.toml");
        let text = fs::read_to_string(&file).unwrap();
        let begin = text.rfind("\n[[health]]").unwrap();
        fs::write(&file, format!("{}\n{}", &text[..begin], check(&more))).unwrap();
        sandbox.commit("another", &[("n", &more)]);
        sandbox.run(&["deploy", "app"]).expect_code(0);
    }
}
