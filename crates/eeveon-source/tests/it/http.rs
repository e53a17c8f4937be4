//! What is sent to whom over http, from servers that only record it.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use crate::common::*;
use eeveon_core::Secret;
use eeveon_core::{Fence, Permit};
use eeveon_source::{Mirror, RepoUrl, SourceConfig, Want};
use eeveon_testkit::git::Repo;
use tokio_util::sync::CancellationToken;

/// Answers every request on a port of its own with what `answer` makes of its first line. Returns
/// the port, and the head of every request.
fn serve(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut head).unwrap() > 2 {}
            let line = head.lines().next().unwrap_or_default().to_owned();
            if sender.send(head).is_err() {
                return;
            }
            match answer(&line) {
                Some(answer) => stream.write_all(answer.as_bytes()).unwrap(),
                None => silent.push(stream),
            }
        }
    });
    (port, receiver)
}

fn answer(status: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: 0\r\nConnection: close\r\n\r\n")
}

fn open(repo: &Repo, port: u16, change: impl FnOnce(&mut SourceConfig)) -> Mirror {
    let mut config = SourceConfig::new(RepoUrl::parse(&format!("http://127.0.0.1:{port}/shop.git")).unwrap());
    config.credentials.token = Secret::new("hunter2");
    change(&mut config);
    Mirror::open(&mirror_path(repo), config).unwrap()
}

fn authorized(head: &str) -> bool {
    head.to_lowercase().contains("authorization:")
}

#[tokio::test]
async fn cred_host_a_token_never_follows_a_redirect_elsewhere() {
    let repo = Repo::new();
    let (other, theirs) = serve(|_| Some(answer("404 Not Found", "")));
    let (port, ours) = serve(move |line| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        Some(answer("302 Found", &format!("Location: http://127.0.0.1:{other}{path}\r\n")))
    });
    let error = open(&repo, port, |_| {}).resolve(&Want::Default, &permit()).await;
    assert_eq!(code(error), "source/repository-missing");
    let head = ours.recv().unwrap();
    assert!(authorized(&head), "{head}");
    assert!(head.contains("version=2"), "{head}");
    let head = theirs.recv().unwrap();
    assert!(!authorized(&head), "{head}");
    assert!(head.starts_with("GET /shop.git/info/refs?service=git-upload-pack "), "{head}");
}

#[tokio::test]
async fn redirects_to_other_kinds_of_places_are_not_followed() {
    let repo = Repo::new();
    let (other, theirs) = serve(|_| Some(answer("404 Not Found", "")));
    for location in [
        "file:///etc/passwd".to_owned(),
        "http://example.invalid/shop.git/info/refs?service=git-upload-pack".to_owned(),
        "ftp://127.0.0.1/shop.git/info/refs?service=git-upload-pack".to_owned(),
        format!("http://127.0.0.1:{other}/elsewhere"),
        format!("http://me:pw@127.0.0.1:{other}/shop.git/info/refs?service=git-upload-pack"),
        String::new(),
    ] {
        let shown = location.clone();
        let (port, _heads) = serve(move |_| Some(answer("302 Found", &format!("Location: {location}\r\n"))));
        let result = open(&repo, port, |_| {}).resolve(&Want::Default, &permit()).await;
        assert_eq!(code(result), "source/protocol", "{shown}");
    }
    assert!(theirs.try_recv().is_err());
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let repo = Repo::new();
    let (port, heads) = serve(|line| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        Some(answer("301 Moved", &format!("Location: {path}\r\n")))
    });
    let result = open(&repo, port, |_| {}).resolve(&Want::Default, &permit()).await;
    assert_eq!(code(result), "source/protocol");
    assert_eq!(heads.try_iter().count(), 6);
}

#[tokio::test]
async fn statuses_become_errors() {
    let repo = Repo::new();
    for (status, expected) in [
        ("401 Unauthorized", "source/credentials"),
        ("403 Forbidden", "source/credentials"),
        ("404 Not Found", "source/repository-missing"),
        ("429 Too Many Requests", "source/unreachable"),
        ("503 Service Unavailable", "source/unreachable"),
        ("200 OK", "source/protocol"),
    ] {
        let (port, _heads) = serve(move |_| Some(answer(status, "Content-Type: text/html\r\n")));
        let result = open(&repo, port, |_| {}).resolve(&Want::Default, &permit()).await;
        assert_eq!(code(result), expected, "{status}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_a_cancelled_look_ends_at_once() {
    let repo = Repo::new();
    let (port, _heads) = serve(|_| None);
    let short = open(&repo, port, |config| config.limits.idle = Duration::from_millis(200));
    assert_eq!(code(short.resolve(&Want::Default, &permit()).await), "source/timed-out");
    let (port, heads) = serve(|_| None);
    let patient = open(&repo, port, |config| config.limits.idle = Duration::from_secs(3600));
    let token = CancellationToken::new();
    let cancel = token.clone();
    // Cancelled once the request has arrived.
    thread::spawn(move || {
        heads.recv().unwrap();
        cancel.cancel();
        heads
    });
    let result = patient.resolve(&Want::Default, &Permit::new(Fence(1), token)).await;
    assert_eq!(code(result), "engine/cancelled");
}
