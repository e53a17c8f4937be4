//! What strangers write, through every command, as text and as JSON: subjects, authors, a branch, names
//! of files, what builds print, what servers answer. Nothing of it may act on a terminal, and JSON
//! brings it unchanged.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Stdio,
    thread,
};

use eeveon_testkit::notify::naughty_texts;
use serde_json::Value;

use crate::sandbox::{Ran, Sandbox};

/// Everything a terminal acts on that fits into one line of a commit.
const SEQUENCES: &str = "\u{1}\u{2}\u{3}\u{4}\u{5}\u{6}\u{7}\u{8}\t\u{b}\u{c}\u{e}\u{f}\u{10}\u{11}\u{12}\u{13}\u{14}\u{15}\
    \u{16}\u{17}\u{18}\u{19}\u{1a}\u{1c}\u{1d}\u{1e}\u{1f}\u{7f}\u{80}\u{84}\u{85}\u{88}\u{8d}\u{8e}\u{90}\u{98}\u{9f}\
    \u{1b}[2J\u{1b}[31m\u{1b}[6n\u{1b}]0;title\u{7}\u{1b}]8;;http://evil.example\u{1b}\\link\u{1b}]8;;\u{1b}\\\
    \u{1b}]52;c;cm0gLXJmIH4=\u{7}\u{1b}P+q544e\u{1b}\\\u{1b}c\u{1b}(0\u{9b}2J\u{9d}0;x\u{9c}\
    \u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}\u{200e}\u{200f}\u{61c}\
    \u{200b}\u{200c}\u{200d}\u{2060}\u{feff}\u{ad}\u{180e}\u{2028}\u{2029}\u{fff9}\u{e0001}\u{e0041}\u{e007f}";

/// A branch git allows.
const BRANCH: &str = "ma\u{9b}2Jin\u{202e}\u{200b};$(touch${IFS}x)";

/// Whether a terminal acts on `c`, or it hides or turns around what is beside it (ECMA-48; Unicode
/// Standard Annex #9; the invisible ones of the general category Cf).
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Fails unless what a command said is harmless, and JSON if that was asked for.
fn harmless(args: &[&str], ran: &Ran) {
    for text in [&ran.stdout, &ran.stderr] {
        for line in text.split('\n') {
            let hazard = line.chars().find(|c| acts(*c));
            assert_eq!(hazard, None, "{args:?}: {line:?}");
        }
    }
    if args.contains(&"--json") {
        for line in ran.stdout.lines() {
            serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{args:?}: {error}: {line}"));
        }
    }
}

/// Runs a command both ways, and returns the JSON.
fn both(sandbox: &Sandbox, args: &[&str]) -> Ran {
    harmless(args, &sandbox.run(args));
    let args = [args, &["--json"]].concat();
    let ran = sandbox.run(&args);
    harmless(&args, &ran);
    ran
}

/// Makes commits of many words in one go: for each text one by that author, with that subject, of a
/// file with that name.
fn commit_all(sandbox: &Sandbox, texts: &[String]) {
    let mut stream = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        let who: String = text.chars().filter(|c| !matches!(c, '<' | '>' | '\n' | '\0')).collect();
        let name: String = text.chars().filter(|c| !matches!(c, '/' | '\0')).take(60).collect();
        let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let subject = text.replace('\0', "");
        let length = subject.len();
        let head = format!(
            "commit refs/heads/{BRANCH}\nauthor {who} <a@x> {0} +0000\ncommitter {who} <a@x> {0} +0000\n\
             data {length}\n{subject}\nM 644 inline \"{n}-{name}\"\ndata 2\nx\n\n",
            1_700_000_000 + n
        );
        stream.extend_from_slice(head.as_bytes());
    }
    // And one that is no text at all.
    let bytes: Vec<u8> = (1..=255).filter(|byte| *byte != b'\n').collect();
    let head =
        format!("commit refs/heads/{BRANCH}\ncommitter x <x> 1800000000 +0000\ndata {}\n", bytes.len());
    stream.extend_from_slice(head.as_bytes());
    stream.extend_from_slice(&bytes);
    stream.extend_from_slice(b"\nM 644 inline \"bytes \\377\\376\\233\"\ndata 2\nx\n\n");
    let mut command = std::process::Command::new("git");
    command.args(["fast-import", "--quiet", "--force"]).current_dir(sandbox.repo()).stdin(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&stream).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A server that refuses whatever it is sent, in words that act on a terminal.
fn refuse_everything() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut heard = [0; 4096];
            let _whatever_it_was = stream.read(&mut heard);
            let body = format!("{{\"message\":\"no\",\"error\":{:?}}} {SEQUENCES}", "\u{1b}[2J");
            let answer = format!(
                "HTTP/1.1 400 {}\r\nX-Why: \u{9b}2J\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                "No\u{9b}2J",
                body.len()
            );
            let _client_may_be_gone = stream.write_all(answer.as_bytes());
        }
    });
    port
}

#[test]
fn what_strangers_write_is_harmless_in_every_command() {
    let sandbox = Sandbox::new(&[("first", "1\n")]);
    let first = sandbox.git(&["rev-parse", "HEAD"]);
    sandbox.git(&["update-ref", &format!("refs/heads/{BRANCH}"), &first]);
    let mut texts = naughty_texts();
    texts.push(SEQUENCES.to_owned());
    // The last one but the bytes is the one everything is shown of.
    commit_all(&sandbox, &texts);
    let tip = format!("refs/heads/{BRANCH}");
    let named = sandbox.git(&["rev-parse", &format!("{tip}~1")]);

    let added = sandbox.init(&["--branch", BRANCH]).expect_code(0);
    harmless(&["init"], &added);
    let file = sandbox.home().join("projects/app.toml");
    let port = refuse_everything();
    let noise = sandbox.path().join("noise");
    let mut output = SEQUENCES.as_bytes().to_vec();
    output.extend((0..=255).chain(texts.iter().flat_map(|text| format!("\n{text}").into_bytes())));
    output.extend(b"\nno end of line \x1b[2J\xff");
    fs::write(&noise, output).unwrap();
    sandbox
        .configure(&format!("build.commands = [\"cat {0}; cat {0} >&2; test ! -e stop\"]", noise.display()));
    let text = fs::read_to_string(&file).unwrap();
    let hook = format!("\n[[notify]]\nchannel = \"webhook\"\nurl = \"http://127.0.0.1:{port}/\"\n");
    fs::write(&file, text + &hook).unwrap();

    both(&sandbox, &["deploy", "app", "--rev", &first]);
    let plan = both(&sandbox, &["plan", "app"]).expect_code(0).json().to_string();
    for text in texts.iter().filter(|text| text.len() > 20 && !text.contains(['/', '\n', '\\', '"'])).take(20)
    {
        let shown = serde_json::to_string(text).unwrap();
        assert!(plan.contains(shown.trim_matches('"')), "the plan does not name {text:?}");
    }
    let reason = format!("because {SEQUENCES}");
    let deployed = both(&sandbox, &["deploy", "app", "--rev", &named, "--reason", &reason]);
    deployed.expect_code(0);
    let history = both(&sandbox, &["history", "app"]).json();
    let newest = history.as_array().unwrap().iter().find(|it| it["revision"] == named.as_str()).unwrap();
    assert_eq!(newest["reason"], reason.as_str());
    assert_eq!(newest["subject"].as_str().unwrap().trim(), SEQUENCES.trim());

    // The tip is no text, its build fails, and what it printed is told.
    sandbox.configure("build.env = { STOP = \"1\" }");
    let text = fs::read_to_string(&file).unwrap().replace("test ! -e stop", "exit 3");
    fs::write(&file, text).unwrap();
    both(&sandbox, &["deploy", "app"]);
    let failed = sandbox.run(&["history", "app", "--json"]).json()[0]["id"].to_string();
    for args in [
        &["why", "app"][..],
        &["why", &failed],
        &["logs", "app", "-n", "5000"],
        &["logs", &failed],
        &["status"],
        &["status", "app"],
        &["releases", "app"],
        &["list"],
        &["show", "app"],
        &["config", "app"],
        &["config", "app", "source.branch"],
        &["check"],
        &["check", "app"],
        &["notify", "list", "app"],
        &["notify", "test", "app"],
        &["notify", "retry", "app"],
        &["webhook", "show", "app"],
        &["webhook", "deliveries", "app"],
        &["stop", "app", "--reason", &reason],
        &["status"],
        &["why", "app"],
        &["start", "app"],
        &["rollback", "app", "--yes", "--reason", &reason],
        &["quarantine", "app"],
        &["deploy", "app", "-vv"],
        &["history", "app"],
        &["vacuum"],
        // What the command line itself cannot take.
        &["deploy", "app", "--rev", SEQUENCES],
        &["deploy", SEQUENCES],
        &["why", SEQUENCES],
        &["config", "app", SEQUENCES, SEQUENCES],
        &["config", "app", "source.branch", SEQUENCES],
        &["init", "--name", SEQUENCES, "--repo", SEQUENCES],
        &["up", SEQUENCES, "--once"],
        &["rollback", "app", SEQUENCES, "--yes"],
        &["remove", "app", "--purge", "--yes"],
    ] {
        both(&sandbox, args);
    }
}
