//! Answers of servers that mean no good, or know no better: each look ends, small and soon.

use eeveon_core::untrusted::is_hazard;
use eeveon_health::{MAX_REASON_BYTES, ProbeError, Reading};
use serde_json::json;

use crate::common::*;

/// Looks with a limit that runs out when nothing more comes.
async fn hurried(
    server: &Server,
    change: impl FnOnce(&mut eeveon_health::HttpSpec),
) -> Result<Reading, ProbeError> {
    let mut spec = request(server.url(), change);
    spec.pace = short();
    probe(&spec).await
}

#[tokio::test]
async fn an_endless_body_is_read_to_a_limit() {
    let head = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    let server = Server::new(Manner::Endless(head, vec![b'x'; 1024])).await;
    assert_eq!(get(server.url(), |_| ()).await, Ok(Reading::Healthy));
    assert_eq!(get(server.url(), |it| it.contains = Some("xxx".to_owned())).await, Ok(Reading::Healthy));
    let seen = get(server.url(), |it| it.contains = Some("y".to_owned())).await;
    assert!(reason(seen).starts_with("the first 64 KiB of the body has no \"y\": xxx"));
    let seen = get(server.url(), |it| drop(it.json.insert("/a".to_owned(), json!(1)))).await;
    assert!(reason(seen).starts_with("the first 64 KiB of the body is no JSON: xxx"));
}

#[tokio::test]
async fn an_endless_error_page_is_an_error_page() {
    let head = b"HTTP/1.1 500 Oh\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let server = Server::new(Manner::Endless(head, b"5\r\nsorry\r\n".to_vec())).await;
    let reason = reason(get(server.url(), |_| ()).await);
    assert!(reason.starts_with("status 500 instead of 2xx: sorrysorry"), "{reason}");
    assert!(reason.len() <= MAX_REASON_BYTES);
}

#[tokio::test]
async fn the_limit_covers_the_whole_look() {
    let body = || Some("never".to_owned());
    for said in
        ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nX-A: b", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun"]
    {
        let server = Server::new(Manner::Hangs(said.into())).await;
        let seen = hurried(&server, |it| it.contains = body()).await;
        assert_eq!(seen, Err(ProbeError::TimedOut { after_ms: 150 }), "{said:?}");
    }
    // The verdict on this one is clear before the body is.
    let server =
        Server::new(Manner::Hangs(b"HTTP/1.1 503 Later\r\nContent-Length: 99\r\n\r\nbegun".to_vec())).await;
    assert_eq!(reason(hurried(&server, |_| ()).await), "status 503 instead of 2xx: begun");
}

#[tokio::test]
async fn announcements_without_end_are_no_answer() {
    let again = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".to_vec();
    let server = Server::new(Manner::Endless(Vec::new(), again)).await;
    let seen = hurried(&server, |_| ()).await;
    assert!(matches!(seen, Err(ProbeError::TimedOut { .. } | ProbeError::Protocol(_))), "{seen:?}");
}

#[tokio::test]
async fn a_redirect_in_a_circle_ends() {
    let server = Server::saying(answer("301 Moved", "Location: /healthz\r\n", "")).await;
    let reason = reason(get(server.url(), |it| it.follow = true).await);
    assert_eq!(reason, "status 301 instead of 2xx, which leads to /healthz");
    assert_eq!(server.heads().len(), 6);
}

#[tokio::test]
async fn nothing_is_decompressed() {
    // What would become of it does not matter: it is searched as it came.
    let packed = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3][..], &[0; 4096]].concat();
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let headers = format!("Content-Encoding: {coding}\r\n");
        let server = Server::saying(answer("200 OK", &headers, &packed)).await;
        let seen = get(server.url(), |it| it.contains = Some("\0\0\0".to_owned())).await;
        assert_eq!(seen, Ok(Reading::Healthy), "{coding}");
    }
}

#[tokio::test]
async fn huge_heads_are_no_answer() {
    let head = b"HTTP/1.1 200 OK\r\n".to_vec();
    let line = format!("X-A: {}\r\n", "x".repeat(1000)).into_bytes();
    let server = Server::new(Manner::Endless(head.clone(), line)).await;
    let seen = get(server.url(), |_| ()).await;
    assert!(matches!(seen, Err(ProbeError::Protocol(_))), "{seen:?}");
    let one = Server::new(Manner::Endless([head, b"X-A: ".to_vec()].concat(), vec![b'x'; 1000])).await;
    let seen = get(one.url(), |_| ()).await;
    assert!(matches!(seen, Err(ProbeError::Protocol(_))), "{seen:?}");
}

#[tokio::test]
async fn what_is_not_http_is_no_answer() {
    for said in [
        &b""[..],
        b"\0\0\0\0",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 99999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-A: \x1b[2J\0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    ] {
        let server = Server::saying(said.to_vec()).await;
        let seen = get(server.url(), |_| ()).await;
        assert!(matches!(seen, Err(ProbeError::Protocol(_))), "{}: {seen:?}", said.escape_ascii());
        assert!(!seen.unwrap_err().to_string().chars().any(is_hazard));
    }
    for said in [
        &b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort",
    ] {
        let server = Server::saying(said.to_vec()).await;
        let seen = get(server.url(), |it| it.contains = Some("never".to_owned())).await;
        assert!(matches!(seen, Err(ProbeError::Protocol(_))), "{}: {seen:?}", said.escape_ascii());
    }
}

#[tokio::test]
async fn what_is_quoted_cannot_disturb_a_terminal() {
    let body = "\u{1b}]52;c;aGk=\u{7}\u{1b}[2J\u{202e}\u{9b}31m\r\nHTTP/1.1 200 OK";
    let server = Server::saying(answer("500 Oh", "", body)).await;
    let Ok(Reading::Unhealthy { reason }) = get(server.url(), |_| ()).await else { panic!() };
    assert!(reason.as_raw().contains('\u{1b}'), "the text itself is kept");
    assert!(!reason.for_terminal().chars().any(is_hazard), "{}", reason.for_terminal());
    assert!(!format!("{reason:?}").chars().any(is_hazard));
    let server = Server::saying(answer("302 Found", "Location: /\u{80}\u{ff}\r\n", "")).await;
    let Ok(Reading::Unhealthy { reason }) = get(server.url(), |_| ()).await else { panic!() };
    assert!(!reason.for_terminal().chars().any(is_hazard), "{}", reason.for_terminal());
}

#[tokio::test]
async fn json_as_deep_as_it_gets_is_no_json() {
    let deep = ["[".repeat(30_000), "]".repeat(30_000)].concat();
    let server = Server::saying(answer("200 OK", "", deep)).await;
    let seen = get(server.url(), |it| drop(it.json.insert("/0".to_owned(), json!(1)))).await;
    assert!(reason(seen).starts_with("the body is no JSON: [[["));
}
