//! Who is told what: by real HTTP servers in the place of the services.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use eeveon_testkit::servers::{Postfix, Validity, leave_out};
use serde_json::{Value, json};

use crate::sandbox::Sandbox;

/// A service that keeps what it is sent and answers as it is told to.
#[derive(Clone)]
pub(crate) struct Service {
    port: u16,
    heard: Arc<Mutex<Vec<Request>>>,
    answer: Arc<Mutex<&'static str>>,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

pub(crate) const OK: &str = "200 OK\r\n";

impl Service {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let service = Self {
            port: listener.local_addr().unwrap().port(),
            heard: Arc::default(),
            answer: Arc::new(Mutex::new(OK)),
        };
        let (heard, answer) = (Arc::clone(&service.heard), Arc::clone(&service.answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let Some(request) = read(&stream) else { continue };
                heard.lock().unwrap().push(request);
                let status = *answer.lock().unwrap();
                if status == "hang" {
                    std::mem::forget(stream);
                    continue;
                }
                let body = "{\"ok\":true}";
                let answer = format!(
                    "HTTP/1.1 {status}Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                let _client_may_be_gone = stream.write_all(answer.as_bytes());
            }
        });
        service
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn answers(&self, status: &'static str) {
        *self.answer.lock().unwrap() = status;
    }

    pub(crate) fn heard(&self) -> Vec<Request> {
        self.heard.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { path, headers, body: serde_json::from_slice(&body).unwrap_or_default() })
}

/// Appends to the project's file.
pub(crate) fn append(sandbox: &Sandbox, toml: &str) {
    let file = sandbox.home().join("projects/app.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n{toml}\n")).unwrap();
}

pub(crate) fn secret(sandbox: &Sandbox, name: &str, value: &str) -> String {
    let file = sandbox.path().join(name);
    fs::write(&file, format!("{value}\n")).unwrap();
    format!("file:{}", file.display())
}

pub(crate) fn events(service: &Service) -> Vec<String> {
    service.heard().iter().map(|it| it.body["type"].as_str().unwrap_or_default().to_owned()).collect()
}

pub(crate) fn webhook(service: &Service) -> String {
    format!("[[notify]]\nchannel = \"webhook\"\nurl = \"{}\"", service.url("hook"))
}

/// A real mail server, if there is one here, and how many letters were read from its mailbox.
struct Mail {
    server: Postfix,
    read: usize,
}

impl Mail {
    fn start(test: &str) -> Option<Self> {
        match Postfix::available() {
            Ok(()) => Some(Self { server: Postfix::start(Validity::Good).unwrap(), read: 0 }),
            Err(reason) => {
                leave_out(test, &format!("without e-mail: {reason}"));
                None
            }
        }
    }

    fn channel(&self, sandbox: &Sandbox) -> String {
        let password = secret(sandbox, "mail", self.server.password());
        format!(
            "[[notify]]\nchannel = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"starttls\"\n\
             user = \"{}\"\npassword = \"{password}\"\nfrom = \"EEveon <deploy@example.org>\"\n\
             to = [\"ops@example.org\"]\nca_file = \"{}\"",
            self.server.port(),
            self.server.user(),
            self.server.ca_file().display()
        )
    }

    /// Returns the headers of the letters that came since the last time: there are to be `count`.
    fn letters(&mut self, count: usize) -> Vec<String> {
        let all = self.server.mailbox("ops", self.read + count).unwrap();
        let headers = all.iter().map(|letter| {
            let letter = String::from_utf8_lossy(letter).replace("\r\n", "\n");
            // Long headers go on in lines that are set in (RFC 5322, 2.2.3).
            letter.split("\n\n").next().unwrap().replace("\n\t", " ").replace("\n ", " ")
        });
        let known = self.read;
        self.read = all.len();
        assert_eq!(self.read, known + count, "every letter once");
        headers.collect()
    }
}

fn header<'a>(letter: &'a str, name: &str) -> &'a str {
    letter
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("{letter}"))
}

/// The whole story: good release, bad release, another good one, and back by hand. Whatever each channel
/// was sent agrees with what the command, the history and the disk say.
#[test]
fn what_every_channel_hears_agrees_with_history_and_exit_code() {
    let sandbox = Sandbox::with_project(&[("ok", "")]);
    let service = Service::start();
    let mut mail = Mail::start("notify::what_every_channel_hears_agrees_with_history_and_exit_code");
    let slack = secret(&sandbox, "slack", &service.url("slack"));
    let discord = secret(&sandbox, "discord", &service.url("discord"));
    let teams = secret(&sandbox, "teams", &service.url("teams"));
    let bot = secret(&sandbox, "bot", "123:abc");
    let url = service.url("");
    append(
        &sandbox,
        &format!(
            "[[notify]]\nchannel = \"slack\"\nurl = \"{slack}\"\n\
             [[notify]]\nchannel = \"discord\"\nurl = \"{discord}\"\n\
             [[notify]]\nchannel = \"teams\"\nurl = \"{teams}\"\n\
             [[notify]]\nchannel = \"telegram\"\nurl = \"{url}\"\ntoken = \"{bot}\"\nto = \"-100\"\n\
             [[notify]]\nchannel = \"ntfy\"\nurl = \"{url}\"\nto = \"deploys\"\n{}\n{}",
            webhook(&service),
            mail.as_ref().map(|mail| mail.channel(&sandbox)).unwrap_or_default()
        ),
    );
    sandbox.configure("hooks.post_switch = [\"test -e ok\"]\ndeploy.link = \"https://shop.example.org\"");
    let back = vec!["rollback", "app", "--yes", "--reason", "too loud"];
    let cases = [
        (Some(("a", "1")), 0, vec!["succeeded"], "app: release 1 is live"),
        (
            Some(("ok", "-")),
            11,
            vec!["rolled_back", "quarantined"],
            "app: release 2 failed after the switch and was rolled back, release 1 serves",
        ),
        (Some(("ok", "again")), 0, vec!["succeeded"], "app: release 3 is live"),
        (None, 0, vec!["succeeded", "quarantined"], "app: back to release 1, which is live again"),
    ];
    for (change, code, told, title) in cases {
        let before = service.heard().len();
        match change {
            Some(file) => {
                sandbox.commit("change <b> & @everyone", &[file]);
                sandbox.run(&["deploy", "app"]).expect_code(code);
            }
            None => drop(sandbox.run(&back).expect_code(code)),
        }
        let history = sandbox.run(&["history", "app", "--json"]).json()[0].clone();
        let live: u64 = sandbox.live_release().unwrap().parse().unwrap();
        let heard = service.heard().split_off(before);
        let sent_to = |path: &str| -> Vec<&Request> {
            heard.iter().filter(|it| it.path.split('?').next() == Some(path)).collect()
        };

        let hooks = sent_to("/hook");
        let types: Vec<&str> = hooks.iter().filter_map(|it| it.body["type"].as_str()).collect();
        assert_eq!(
            types,
            told.iter().map(|kind| format!("deployment.{kind}")).collect::<Vec<_>>(),
            "{title}"
        );
        let hook = &hooks[0].body;
        assert_eq!(history["outcome"], told[0], "{title}");
        for (hook_says, history_says) in [
            (&hook["deployment"], &history["id"]),
            (&hook["release"], &history["release"]),
            (&hook["revision"]["commit"], &history["revision"]),
            (&hook["reason"], &history["reason"]),
            (&hook["failure"]["code"], &history["failure"]["code"]),
            (&hook["serving"]["release"], &json!(live)),
        ] {
            assert_eq!(hook_says, history_says, "{title}: {hook}");
        }

        for path in ["/slack", "/discord", "/teams", "/bot123:abc/sendMessage", "/"] {
            let texts: Vec<String> = sent_to(path).iter().map(|it| it.body.to_string()).collect();
            assert_eq!(texts.len(), told.len(), "{path}: every message once: {texts:?}");
            assert!(texts[0].contains(title), "{path}: {title}: {texts:?}");
            assert!(texts.iter().all(|text| text.contains("shop.example.org")), "{path}: {texts:?}");
            // In HTML what somebody wrote is text.
            let is_html = path.starts_with("/bot");
            let harmless = |text: &String| change.is_none() || text.contains("change &lt;b&gt; &amp;");
            assert!(!is_html || texts.iter().all(harmless), "{texts:?}");
        }
        if let Some(mail) = &mut mail {
            let letters = mail.letters(told.len());
            for hook in &hooks {
                let id = format!("<{}@", hook.body["id"].as_str().unwrap());
                let of = letters.iter().filter(|it| header(it, "Message-ID").starts_with(&id));
                let [letter] = &of.collect::<Vec<_>>()[..] else { panic!("{id}: {letters:?}") };
                let home = fs::read_to_string(sandbox.home().join("id")).unwrap();
                let thread = format!("<app-{}.{}@", history["id"], home.trim());
                assert!(header(letter, "In-Reply-To").starts_with(&thread), "{letter}");
                let subject = header(letter, "Subject");
                assert!(subject.ends_with(&format!("(deployment {})", history["id"])), "{letter}");
                assert!(subject.starts_with("app: ") && subject.contains("release"), "{letter}");
            }
        }
    }
    assert_eq!(
        sandbox.run(&["status", "app", "--json"]).json()["messages"],
        json!({"waiting": 0, "dead": 0})
    );
}

#[test]
fn a_dead_channel_delays_nobody_and_what_is_left_is_delivered_later() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let (good, bad) = (Service::start(), Service::start());
    append(&sandbox, &webhook(&good));
    append(&sandbox, &format!("{}\nname = \"bad\"", webhook(&bad)));
    // For longer than this test takes: no command tries again meanwhile.
    bad.answers("503 Down\r\nRetry-After: 3600\r\n");
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(events(&good), ["deployment.succeeded"]);
    assert_eq!(events(&bad), ["deployment.succeeded"], "tried once");
    let status = sandbox.run(&["status", "app", "--json"]).json();
    assert_eq!(status["messages"], json!({"waiting": 1, "dead": 0}));
    let list = sandbox.run(&["notify", "list", "app", "--json"]).json();
    assert_eq!((list[0]["channel"].as_str(), list[0]["attempts"].as_u64()), (Some("bad"), Some(1)), "{list}");

    // Refused for good, it is given up, shown, and tried again when a person says so.
    bad.answers("400 Never\r\n");
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let list = sandbox.run(&["notify", "list", "app", "bad", "--json"]).json();
    assert_eq!(list.as_array().unwrap().len(), 2, "order is kept: the second waits behind the first: {list}");
    bad.answers("410 Gone\r\n");
    sandbox.run(&["notify", "test", "app", "bad"]).expect_code(10);
    bad.answers(OK);
    let test = sandbox.run(&["notify", "test", "app", "--json"]).expect_code(0).json();
    assert!(test.as_array().unwrap().iter().all(|it| it["ok"] == true), "{test}");
    assert_eq!(events(&good).last().map(String::as_str), Some("deployment.test"));
}

#[test]
fn a_refused_message_is_shown_until_a_person_sees_to_it() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let service = Service::start();
    append(&sandbox, &webhook(&service));
    service.answers("400 Never\r\n");
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stderr.contains("was given up") && ran.stderr.contains("notify/refused"), "{ran}");
    assert_eq!(sandbox.run(&["status", "app", "--json"]).json()["messages"]["dead"], 1);
    let check = sandbox.run(&["check", "app"]);
    assert!(check.stdout.contains("1 message did not arrive"), "{check}");
    service.answers(OK);
    sandbox.run(&["notify", "retry", "app"]).expect_code(0);
    assert_eq!(events(&service), ["deployment.succeeded", "deployment.succeeded"]);
    assert_eq!(sandbox.run(&["notify", "list", "app", "--json"]).json(), json!([]));
}

#[test]
fn a_channel_that_hangs_costs_a_command_one_attempt_and_no_exit_code() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let service = Service::start();
    append(&sandbox, &format!("{}\ntimeout = \"50ms\"", webhook(&service)));
    service.answers("hang");
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stderr.contains("no answer within 50 ms"), "{ran}");
    assert_eq!(sandbox.run(&["status", "app", "--json"]).json()["messages"]["waiting"], 1);
}

#[test]
fn what_was_before_the_first_channel_is_nobodys_news_and_a_signature_fits() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    let service = Service::start();
    let key = secret(&sandbox, "key", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
    append(&sandbox, &format!("{}\nsecret = \"{key}\"\nlevels = [\"info\", \"success\"]", webhook(&service)));
    sandbox.commit("second", &[("a", "2")]);
    sandbox.run(&["deploy", "app"]).expect_code(0);
    assert_eq!(events(&service), ["deployment.started", "deployment.succeeded"]);
    for request in service.heard() {
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            assert!(names.contains(&name), "{names:?}");
        }
    }
}

#[test]
fn no_secret_is_told_by_any_command() {
    let sandbox = Sandbox::with_project(&[("a", "1")]);
    let hidden = secret(&sandbox, "slack", "http://127.0.0.1:1/T00/B00/hunter2");
    append(&sandbox, &format!("[[notify]]\nchannel = \"slack\"\nurl = \"{hidden}\""));
    for args in [
        vec!["deploy", "app"],
        vec!["notify", "test", "app"],
        vec!["notify", "list", "app"],
        vec!["check", "app"],
        vec!["config", "app"],
        vec!["status"],
        vec!["why", "1"],
    ] {
        let ran = sandbox.run(&args);
        assert!(!format!("{ran}").contains("hunter2"), "{ran}");
    }
    let stored = fs::read(sandbox.home().join("eeveon.db")).unwrap();
    assert!(!stored.windows(7).any(|it| it == b"hunter2"));
}

/// Whoever wrote it learns of it without asking for more to be logged.
#[test]
fn a_template_that_makes_nothing_of_a_real_event_is_told_and_the_usual_words_are_sent() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    let own = "template = \"{% if author != 'Ada' %}{{ title }}{% endif %}\"";
    append(
        &sandbox,
        &format!(
            "[[notify]]\nchannel = \"telegram\"\nurl = \"{}\"\nto = \"-100\"\n\
         token = \"{}\"\n{own}",
            service.url(""),
            secret(&sandbox, "bot", "123:abc")
        ),
    );
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stderr.contains("the template failed") && ran.stderr.contains("says nothing"), "{ran}");
    let text = service.heard().remove(0).body["text"].clone();
    assert!(text.as_str().unwrap().contains("release 1 is live"), "{text}");
}

/// Read by the command alone, and honoured by every channel that speaks HTTP.
#[test]
fn a_proxy_of_the_environment_stands_between() {
    let (sandbox, proxy) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    append(&sandbox, "[[notify]]\nchannel = \"webhook\"\nurl = \"http://hook.invalid/deploys\"");
    let test = |variables: &[(&str, &str)]| {
        let mut command = sandbox.command(&["notify", "test", "app"]);
        command.envs(variables.iter().copied()).output().unwrap().status.code()
    };
    for name in ["http_proxy", "HTTP_PROXY"] {
        let before = proxy.heard().len();
        assert_eq!(test(&[(name, &proxy.url(""))]), Some(0), "{name}");
        assert_eq!(proxy.heard()[before].path, "http://hook.invalid/deploys");
        let heard = proxy.heard().len();
        for except in ["no_proxy", "NO_PROXY"] {
            assert_eq!(test(&[(name, &proxy.url("")), (except, ".invalid")]), Some(10), "nobody is there");
        }
        assert_eq!(proxy.heard().len(), heard);
    }
}

/// Neither a file of authorities nor a variable of somebody else's shell is a reason to deploy nothing,
/// to tell the others nothing, or to give a message up.
#[test]
fn a_channel_that_lacks_something_holds_nothing_else_up() {
    let (sandbox, service) = (Sandbox::with_project(&[("a", "1")]), Service::start());
    let gone = sandbox.path().join("gone.pem");
    append(
        &sandbox,
        &format!(
            "[[notify]]\nchannel = \"webhook\"\nname = \"safe\"\nurl = \"https://127.0.0.1:1\"\nca_file = \"{}\"\n\
             [[notify]]\nchannel = \"webhook\"\nname = \"elsewhere\"\nurl = \"env:EEVEON_TEST_NOT_SET\"\n{}",
            gone.display(),
            webhook(&service)
        ),
    );
    let ran = sandbox.run(&["deploy", "app"]).expect_code(0);
    assert!(ran.stderr.contains("gone.pem"), "{ran}");
    assert_eq!(events(&service), ["deployment.succeeded"]);
    let letters = sandbox.run(&["notify", "list", "app", "--json"]).json();
    let states: Vec<(&str, &str)> = letters
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["channel"].as_str().unwrap(), it["state"].as_str().unwrap()))
        .collect();
    assert_eq!(states, [("safe", "waiting"), ("elsewhere", "waiting")], "{letters}");
}
