//! Each limit, from both sides.

use std::time::Duration;

use eeveon_core::Diagnose;
use eeveon_server::{Limits, ListenAddress, ListenConfig, Listener};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::interval,
};

use crate::support::{post, rest, start, status};

const MIB: usize = 1024 * 1024;

#[tokio::test]
async fn a_body_may_have_one_mebibyte() {
    let server = start(Limits::default()).await;
    let answer = server.deliver("/hooks/shop/accept", &"a".repeat(MIB)).await;
    assert_eq!(status(&answer), "HTTP/1.1 202 Accepted");
    let answer = server.deliver("/hooks/shop/accept", &"a".repeat(MIB + 1)).await;
    assert_eq!(status(&answer), "HTTP/1.1 413 Payload Too Large");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(server.hooks.accepted.lock().unwrap().len(), 1);
    assert_eq!(server.load.body_bytes(), 0);
}

#[tokio::test]
async fn who_announces_too_much_need_not_send_it() {
    let server = start(Limits::default()).await;
    for length in ["1048577", "99999999999999", "9223372036854775807"] {
        let head = format!(
            "POST /hooks/shop/accept HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        );
        let answer = server.send(head).await;
        assert_eq!(status(&answer), "HTTP/1.1 413 Payload Too Large", "{length}");
    }
}

#[tokio::test]
async fn chunks_cannot_smuggle_more_than_a_body_may_have() {
    let server = start(Limits { body_bytes: 4096, ..Limits::default() }).await;
    let head = "POST /hooks/shop/accept HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    let fits = format!("{head}1000\r\n{}\r\n0\r\n\r\n", "a".repeat(4096));
    assert_eq!(status(&server.send(fits).await), "HTTP/1.1 202 Accepted");
    let one_more = format!("{head}1000\r\n{}\r\n1\r\na\r\n0\r\n\r\n", "a".repeat(4096));
    assert_eq!(status(&server.send(one_more).await), "HTTP/1.1 413 Payload Too Large");
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1024));
    let endless = format!("{head}{}", chunk.repeat(1000));
    assert_eq!(status(&server.send(endless).await), "HTTP/1.1 413 Payload Too Large");
    let overflow = format!("{head}ffffffffffffffffff\r\n");
    assert_eq!(status(&server.send(overflow).await), "HTTP/1.1 400 Bad Request");
    assert_eq!(server.hooks.accepted.lock().unwrap().len(), 1);
    assert_eq!(server.load.body_bytes(), 0);
}

#[tokio::test]
async fn headers_are_bounded_in_bytes_and_in_number() {
    let server = start(Limits::default()).await;
    let with = |headers: String| format!("GET /healthz HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    let ok = "HTTP/1.1 200 OK";
    let too_large = "HTTP/1.1 431 Request Header Fields Too Large";
    let many = |count: usize| with((0..count).map(|n| format!("x-{n}: a\r\n")).collect());
    assert_eq!(status(&server.send(many(63)).await), ok);
    assert_eq!(status(&server.send(many(64)).await), too_large);
    assert_eq!(status(&server.send(with(format!("x: {}\r\n", "a".repeat(16_000)))).await), ok);
    assert_eq!(status(&server.send(with(format!("x: {}\r\n", "a".repeat(16_400)))).await), too_large);
    let long_path = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    assert_eq!(status(&server.send(long_path).await), too_large);
    // Without an end, too.
    assert_eq!(status(&server.send("x".repeat(100_000)).await), too_large);
}

#[tokio::test]
async fn slow_headers_end_the_connection_over_a_real_socket() {
    let server = start(Limits { header_time: Duration::from_millis(100), ..Limits::default() }).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let mut pace = interval(Duration::from_millis(5));
        for byte in b"POST /hooks/shop/accept HTTP/1.1\r\nx: ".iter().chain([b'a'; 100_000].iter()) {
            pace.tick().await;
            if writer.write_all(&[*byte]).await.is_err() {
                return true;
            }
        }
        false
    });
    let mut answer = Vec::new();
    let _end = reader.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
    assert!(drip.await.unwrap());
}

#[tokio::test]
async fn a_slow_body_is_given_up_over_a_real_socket() {
    let limits = Limits { body_grace: Duration::from_millis(100), ..Limits::default() };
    let server = start(limits).await;
    let mut stream = server.connect().await;
    stream.write_all(b"POST /hooks/shop/accept HTTP/1.1\r\ncontent-length: 9\r\n\r\nabc").await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(status(&answer), "HTTP/1.1 408 Request Timeout");
    assert_eq!(server.load.body_bytes(), 0);
}

#[tokio::test]
async fn bodies_share_a_bounded_memory() {
    let limits = Limits { body_bytes: 64 * 1024, bodies_bytes: 128 * 1024, ..Limits::default() };
    let server = start(limits).await;
    let body = "a".repeat(64 * 1024);
    let mut first = server.connect().await;
    first.write_all(post("/hooks/shop/wait", &body).as_bytes()).await.unwrap();
    let mut second = server.connect().await;
    second.write_all(post("/hooks/shop/wait", &body).as_bytes()).await.unwrap();
    server.hooks.begun.acquire_many(2).await.unwrap().forget();
    assert_eq!(server.load.body_bytes(), 128 * 1024, "all of it is held by the two");
    let answer = server.deliver("/hooks/shop/accept", "a").await;
    assert_eq!(status(&answer), "HTTP/1.1 503 Service Unavailable");
    assert!(answer.contains("retry-after: "), "{answer}");
    server.hooks.finish.add_permits(2);
    assert_eq!(status(&rest(&mut first).await), "HTTP/1.1 202 Accepted");
    assert_eq!(status(&rest(&mut second).await), "HTTP/1.1 202 Accepted");
    assert_eq!(server.load.body_bytes(), 0);
    assert_eq!(status(&server.deliver("/hooks/shop/accept", "a").await), "HTTP/1.1 202 Accepted");
}

#[tokio::test]
async fn who_comes_when_all_places_are_taken_waits_or_is_turned_away() {
    for (queue_time, expected) in [
        (Duration::ZERO, "HTTP/1.1 503 Service Unavailable"),
        (Duration::from_secs(60), "HTTP/1.1 202 Accepted"),
    ] {
        let server = start(Limits { connections: 2, queue_time, ..Limits::default() }).await;
        assert_eq!(server.load.connections(), 0);
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = server.connect().await;
            stream.write_all(post("/hooks/shop/wait", "a").as_bytes()).await.unwrap();
            held.push(stream);
        }
        server.hooks.begun.acquire_many(2).await.unwrap().forget();
        assert_eq!(server.load.connections(), 2);
        let mut third = server.connect().await;
        third.write_all(post("/hooks/shop/accept", "b").as_bytes()).await.unwrap();
        if queue_time.is_zero() {
            assert_eq!(status(&rest(&mut third).await), expected);
        }
        server.hooks.finish.add_permits(2);
        for mut stream in held {
            assert_eq!(status(&rest(&mut stream).await), "HTTP/1.1 202 Accepted");
        }
        if !queue_time.is_zero() {
            assert_eq!(status(&rest(&mut third).await), expected);
        }
    }
}

#[tokio::test]
async fn one_peer_has_no_more_than_its_share() {
    let server = start(Limits { connections_per_peer: Some(1), ..Limits::default() }).await;
    let mut first = server.connect().await;
    first.write_all(post("/hooks/shop/wait", "a").as_bytes()).await.unwrap();
    server.hooks.begun.acquire().await.unwrap().forget();
    let mut second = server.connect().await;
    assert_eq!(status(&rest(&mut second).await), "HTTP/1.1 503 Service Unavailable");
    server.hooks.finish.add_permits(1);
    assert_eq!(status(&rest(&mut first).await), "HTTP/1.1 202 Accepted");
}

#[tokio::test]
async fn limits_that_limit_nothing_are_refused() {
    let wrong: [fn(&mut Limits); 8] = [
        |limits| limits.connections = 0,
        |limits| limits.header_bytes = 100,
        |limits| limits.body_bytes = 25 * MIB + 1,
        |limits| limits.bodies_bytes = limits.body_bytes - 1,
        |limits| limits.header_time = Duration::ZERO,
        |limits| limits.body_time = Duration::MAX,
        |limits| limits.queue_time = Duration::MAX,
        |limits| limits.connections_per_peer = Some(0),
    ];
    for change in wrong {
        let mut limits = Limits::default();
        change(&mut limits);
        let config = ListenConfig { address: ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), limits };
        assert_eq!(Listener::bind(config).await.unwrap_err().code(), "server/limit");
    }
    let most = Limits { body_bytes: 25 * MIB, ..Limits::default() };
    start(most).await.stop().await;
}
