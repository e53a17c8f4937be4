//! Where a request ends: everything on which two readers could disagree.

use eeveon_server::Limits;
use tokio::io::AsyncWriteExt;

use crate::support::{rest, start, status};

const POST: &str = "POST /hooks/shop/accept HTTP/1.1\r\nhost: a\r\n";
const INNER: &str =
    "POST /hooks/shop/accept HTTP/1.1\r\ncontent-length: 8\r\nconnection: close\r\n\r\nsmuggled";

#[tokio::test]
async fn what_has_two_readings_is_refused() {
    let server = start(Limits::default()).await;
    for headers in [
        "content-length: 3\r\ncontent-length: 4\r\n",
        "content-length: 3, 4\r\n",
        "content-length: +3\r\n",
        "content-length: -3\r\n",
        "content-length: 0x3\r\n",
        "content-length: 3 3\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: \r\n",
        "content-length : 3\r\n",
        " content-length: 3\r\n",
        "x: a\r\n content-length: 3\r\n",
        "x: a\0b\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: identity\r\n",
        "x\r\n",
        "x:a\rcontent-length: 3\r\n",
    ] {
        let answer = server.send(format!("{POST}{headers}\r\nabc{INNER}")).await;
        assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request", "{headers:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{headers:?}: {answer}");
    }
    let old =
        format!("POST /hooks/shop/accept HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{INNER}");
    assert_eq!(status(&server.send(old).await), "HTTP/1.1 400 Bad Request");
    assert_eq!(server.hooks.begun.available_permits(), 0);
}

#[tokio::test]
async fn nothing_after_a_chunked_body_is_a_request() {
    let server = start(Limits::default()).await;
    for headers in [
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        "content-length: 3\r\ntransfer-encoding: chunked\r\n",
        "content-length: 300\r\ntransfer-encoding: chunked\r\nconnection: keep-alive\r\n",
    ] {
        let answer = server.send(format!("{POST}{headers}\r\n5\r\nhello\r\n0\r\n\r\n{INNER}")).await;
        assert_eq!(status(&answer), "HTTP/1.1 202 Accepted", "{headers:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{headers:?}: {answer}");
        assert!(answer.contains("connection: close\r\n"), "{headers:?}: {answer}");
    }
    assert_eq!(*server.hooks.accepted.lock().unwrap(), [b"hello".to_vec()].into());
}

#[tokio::test]
async fn chunks_are_read_strictly() {
    let server = start(Limits::default()).await;
    for chunks in [
        "5 5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "g\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "\r\n",
    ] {
        let answer = server.send(format!("{POST}transfer-encoding: chunked\r\n\r\n{chunks}")).await;
        assert_eq!(status(&answer), "HTTP/1.1 400 Bad Request", "{chunks:?}");
    }
    assert_eq!(server.hooks.begun.available_permits(), 0);
}

#[tokio::test]
async fn a_body_that_ends_early_is_no_delivery() {
    let server = start(Limits::default()).await;
    for request in [
        format!("{POST}content-length: 10\r\n\r\nhello"),
        format!("{POST}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"),
        format!("{POST}transfer-encoding: chunked\r\n\r\n5\r\nhel"),
    ] {
        let mut stream = server.connect().await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    assert_eq!(server.hooks.begun.available_permits(), 0);
}

#[tokio::test]
async fn bytes_beyond_the_announced_length_are_not_the_body() {
    let server = start(Limits::default()).await;
    let answer = server.send(format!("{POST}content-length: 5\r\n\r\nhelloworld\r\n\r\n")).await;
    assert_eq!(status(&answer), "HTTP/1.1 202 Accepted");
    assert!(answer.contains("HTTP/1.1 400 Bad Request"), "the rest is no request: {answer}");
    assert_eq!(*server.hooks.accepted.lock().unwrap(), [b"hello".to_vec()].into());
}

#[tokio::test]
async fn requests_in_a_row_are_answered_in_order() {
    let server = start(Limits::default()).await;
    let mut requests = String::new();
    for n in 0..100 {
        requests += &format!("{POST}content-length: 3\r\n\r\n{n:03}");
    }
    requests += "GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = server.send(requests).await;
    assert_eq!(answer.matches("HTTP/1.1 202 Accepted").count(), 100);
    assert!(answer.ends_with(r#"{"decision":"alive","why":"the process runs"}"#), "{answer}");
    assert_eq!(server.hooks.accepted.lock().unwrap().len(), 100);
}

#[tokio::test]
async fn old_http_is_understood_and_new_http_is_not_spoken() {
    let server = start(Limits::default()).await;
    let old = "POST /hooks/shop/accept HTTP/1.0\r\ncontent-length: 5\r\n\r\nhello";
    assert!(server.send(old).await.contains(" 202 Accepted"));
    assert!(server.send("GET /healthz HTTP/1.0\r\n\r\n").await.contains(" 200 OK"));
    for other in [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /healthz\r\n\r\n",
        "GET /healthz HTTP/1.2\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        let answer = server.send(format!("{other}{}", "\0".repeat(64))).await;
        assert!(
            answer.is_empty() || status(&answer).contains(" 400 ") || status(&answer).contains(" 505 "),
            "{other:?}: {answer}"
        );
    }
    let upgrade = format!("{POST}connection: upgrade, close\r\nupgrade: h2c\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(status(&server.send(upgrade).await), "HTTP/1.1 202 Accepted");
    let connect = "CONNECT 127.0.0.1:1 HTTP/1.1\r\nconnection: close\r\n\r\n";
    assert!(!server.send(connect).await.contains(" 200 "));
}
