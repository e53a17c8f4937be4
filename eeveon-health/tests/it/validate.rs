//! Which checks are refused, and in which words.

use std::collections::BTreeMap;

use eeveon_core::Diagnose as _;
use eeveon_health::{CheckSpec, CommandCheckSpec, CommandSpec, HealthError, HttpSpec, Pace, TcpSpec, What};
use serde_json::json;

use crate::common::spec;

fn http(change: impl FnOnce(&mut HttpSpec)) -> CheckSpec {
    let mut http = HttpSpec::new("https://shop.example/healthz");
    change(&mut http);
    spec(What::Http(Box::new(http)))
}

fn header(name: &str, value: &str) -> CheckSpec {
    http(|it| drop(it.headers.insert(name.to_owned(), value.to_owned().try_into().unwrap())))
}

fn run(run: CommandSpec) -> CheckSpec {
    spec(What::Command(CommandCheckSpec { run }))
}

/// Returns the key a check is refused for.
fn refused(spec: &CheckSpec) -> Option<String> {
    match spec.validate() {
        Ok(()) => None,
        Err(HealthError::Invalid { key, .. }) => Some(key),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn good_checks_are_taken() {
    let args = |args: &[&str]| CommandSpec::Args(args.iter().map(|it| (*it).to_owned()).collect());
    for good in [
        http(|_| ()),
        http(|it| it.url = "http://127.0.0.1:3000".to_owned()),
        http(|it| it.url = "http://[::1]:3000/a?b=c#d".to_owned()),
        http(|it| it.method = "HEAD".to_owned()),
        http(|it| it.host = Some("shop.example:8443".to_owned())),
        http(|it| it.host = Some("[::1]:80".to_owned())),
        http(|it| it.contains = Some("ok".to_owned())),
        http(|it| it.json = BTreeMap::from([(String::new(), json!(1)), ("/a".to_owned(), json!(null))])),
        header("Accept", "application/json"),
        header("Authorization", "env:TOKEN"),
        header("X-Api-Key", "file:/run/secrets/key"),
        spec(What::Tcp(TcpSpec { address: "[::1]:5432".to_owned() })),
        run(CommandSpec::Line("./bin/check --deep | grep -q ok".to_owned())),
        run(args(&["./bin/check", "", "$(id)"])),
    ] {
        assert_eq!(refused(&good), None, "{good:?}");
    }
}

#[test]
fn bad_checks_are_refused_by_key() {
    let url = |url: &str| http(|it| it.url = url.to_owned());
    let text = |text: &str| text.to_owned();
    for (bad, key) in [
        (url(""), "url"),
        (url("shop.example"), "url"),
        (url("/healthz"), "url"),
        (url("ftp://shop.example/"), "url"),
        (url("file:///etc/passwd"), "url"),
        (url("gopher://127.0.0.1:25/_MAIL"), "url"),
        (url("unix:///run/docker.sock"), "url"),
        (url("http://"), "url"),
        (url("http://me@shop.example/"), "url"),
        (url("http://me:pw@shop.example/"), "url"),
        (url("http://:pw@shop.example/"), "url"),
        (url("http://shop.example:0/"), "url"),
        (url("http://shop.example:99999/"), "url"),
        (url(&format!("http://shop.example/{}", "x".repeat(3000))), "url"),
        (http(|it| it.method = text("get")), "method"),
        (http(|it| it.method = text("CONNECT")), "method"),
        (http(|it| it.method = text("GET / HTTP/1.1\r\nX: y\r\n\r\n")), "method"),
        (
            http(|it| {
                it.method = text("HEAD");
                it.contains = Some(text("ok"));
            }),
            "method",
        ),
        (header("Bad Name", "x"), "headers.Bad Name"),
        (header("", "x"), "headers."),
        (header("X-A", "a\r\nX-B: b"), "headers.X-A"),
        (header("X-A", "ä"), "headers.X-A"),
        (header("Host", "x"), "headers.Host"),
        (header("Transfer-Encoding", "chunked"), "headers.Transfer-Encoding"),
        (header("content-length", "0"), "headers.content-length"),
        (header("Authorization", "Bearer x"), "headers.Authorization"),
        (header("proxy-authorization", "x"), "headers.proxy-authorization"),
        (header("Cookie", "x"), "headers.Cookie"),
        (header("X-Api-Key", "x"), "headers.X-Api-Key"),
        (header("PRIVATE-TOKEN", "x"), "headers.PRIVATE-TOKEN"),
        (header("X-My-Secret", "x"), "headers.X-My-Secret"),
        (
            http(|it| {
                it.headers = (0..51).map(|n| (format!("X-{n}"), text("a").try_into().unwrap())).collect();
            }),
            "headers",
        ),
        (http(|it| it.host = Some(text("a b"))), "host"),
        (http(|it| it.host = Some(text("a/b"))), "host"),
        (http(|it| it.host = Some(text("a\r\nX: y"))), "host"),
        (http(|it| it.host = Some(String::new())), "host"),
        (http(|it| it.body = Some("x".repeat(70_000))), "body"),
        (http(|it| it.expect.clear()), "expect"),
        (http(|it| it.contains = Some(String::new())), "contains"),
        (http(|it| drop(it.json.insert(text("status"), json!(1)))), "json.status"),
        (http(|it| it.ca_file = Some("ca.pem".into())), "ca_file"),
        (
            http(|it| {
                it.ca_file = Some("/ca.pem".into());
                it.verify = false;
            }),
            "ca_file",
        ),
        (http(|it| it.socket = Some("/run/app.sock".into())), "socket"),
        (
            http(|it| {
                it.url = text("http://app/");
                it.socket = Some("app.sock".into());
            }),
            "socket",
        ),
        (spec(What::Tcp(TcpSpec { address: text("localhost") })), "address"),
        (run(CommandSpec::Line(text(" \n"))), "run"),
        (run(CommandSpec::Line(text("a\0b"))), "run"),
        (run(CommandSpec::Args(vec![])), "run"),
        (run(CommandSpec::Args(vec![text("-a"), text("true")])), "run"),
        (run(CommandSpec::Args(vec![String::new(), text("a")])), "run"),
        (run(CommandSpec::Args(vec![text("a"), text("b\0")])), "run"),
        (CheckSpec { name: text(" "), ..http(|_| ()) }, "name"),
        (CheckSpec { name: text("a\u{1b}[2J"), ..http(|_| ()) }, "name"),
        (CheckSpec { name: "x".repeat(101), ..http(|_| ()) }, "name"),
        (CheckSpec { pace: Pace { attempts: 0, ..Pace::default() }, ..http(|_| ()) }, "attempts"),
        (CheckSpec { pace: Pace { deadline_ms: Some(1), ..Pace::default() }, ..http(|_| ()) }, "deadline"),
    ] {
        assert_eq!(refused(&bad).as_deref(), Some(key), "{bad:?}");
    }
}

#[test]
fn a_refusal_says_what_to_write_instead() {
    let error = header("Authorization", "Bearer x").validate().unwrap_err();
    assert_eq!(error.code(), "health/invalid");
    assert_eq!(
        error.to_string(),
        "check \"web\": `headers.Authorization`: this would put a secret into the plan, which is stored and \
         shown; write env:NAME or file:/PATH"
    );
    let error = http(|it| it.url = "http://me:hunter2@shop.example/".to_owned()).validate().unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}

#[test]
fn what_is_not_known_is_refused() {
    let good = json!({"name": "web", "what": {"kind": "http", "url": "http://a/"}});
    let read = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value = good.clone();
        change(&mut value);
        serde_json::from_value::<CheckSpec>(value)
    };
    let spec = read(&|_| ()).unwrap();
    assert_eq!(
        spec,
        CheckSpec {
            pace: Pace::default(),
            name: "web".to_owned(),
            what: What::Http(Box::new(HttpSpec::new("http://a/")))
        }
    );
    for (place, what) in [("/what", "urls"), ("", "nam"), ("/what", "headerz")] {
        let wrong = read(&|value| value.pointer_mut(place).unwrap()[what] = json!(1)).unwrap_err();
        assert!(wrong.to_string().contains("unknown field"), "{wrong}");
    }
    assert!(read(&|value| value["pace"] = json!({"tries": 3})).is_err());
    assert!(read(&|value| value["what"]["kind"] = json!("icmp")).is_err());
    assert!(read(&|value| value["what"]["expect"] = json!(["6xx"])).is_err());
    assert!(read(&|value| value["what"]["headers"] = json!({"A": "env:"})).is_err());
}
