//! Who is told what.

use eeveon_server::{Auth, Limits, ROUTES};

use crate::support::{start, status};

/// Returns the answer without the time it was given.
fn timeless(answer: &str) -> String {
    answer.lines().filter(|line| !line.starts_with("date:")).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn each_reply_has_its_answer() {
    let server = start(Limits::default()).await;
    for (provider, expected, body) in [
        ("accept", "202 Accepted", r#"{"decision":"accepted","why":"deployment 1 of `shop` waits"}"#),
        ("ignore", "200 OK", r#"{"decision":"ignored","why":"another branch\\u{202e}\\u{1b}"}"#),
        ("fail", "500 Internal Server Error", r#"{"decision":"failed","#),
        ("panic", "500 Internal Server Error", r#"{"decision":"failed","#),
        ("refuse", "401 Unauthorized", r#"{"decision":"refused","#),
        ("malformed", "400 Bad Request", r#"{"decision":"malformed","why":"aaa"#),
        ("busy", "503 Service Unavailable", r#"{"decision":"busy","#),
    ] {
        let answer = server.deliver(&format!("/hooks/shop/{provider}"), "hello").await;
        assert_eq!(status(&answer), format!("HTTP/1.1 {expected}"), "{provider}");
        assert!(answer.split_once("\r\n\r\n").unwrap().1.starts_with(body), "{answer}");
        assert!(answer.len() < 1000, "{answer}");
    }
    let answer = server.deliver("/hooks/shop/busy", "").await;
    assert!(answer.contains("retry-after: 7\r\n"), "{answer}");
    assert_eq!(server.hooks.accepted.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_stranger_does_not_learn_which_hooks_exist() {
    let server = start(Limits::default()).await;
    let refused = timeless(&server.deliver("/hooks/shop/refuse", "hello").await);
    assert!(refused.starts_with("HTTP/1.1 401 Unauthorized"), "{refused}");
    for path in [
        "/hooks/shop/github",
        "/hooks/nobody/github",
        "/hooks/-/github",
        "/hooks/SHOP/refuse",
        "/hooks/shop/refuse%2f",
        "/hooks/..%2fshop/refuse",
        "/hooks/%ff/%00",
        "/hooks/shop/refuse?secret=x",
    ] {
        assert_eq!(timeless(&server.deliver(path, "hello").await), refused, "{path}");
    }
}

#[tokio::test]
async fn the_table_has_every_route_and_its_rule() {
    let rows: Vec<_> = ROUTES.iter().map(|route| (route.method, route.path, route.auth)).collect();
    assert_eq!(
        rows,
        [
            ("GET", "/healthz", Auth::Open),
            ("GET", "/readyz", Auth::Open),
            ("POST", "/hooks/{project}/{provider}", Auth::Signature),
        ]
    );
    let server = start(Limits::default()).await;
    for route in ROUTES {
        let path = route.path.replace("{project}", "shop").replace("{provider}", "refuse");
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
            let taken = method == route.method || (route.method == "GET" && method == "HEAD");
            let answer = server
                .send(format!("{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"))
                .await;
            let expected = match (taken, route.auth) {
                (true, Auth::Open) => "HTTP/1.1 200 OK",
                (true, Auth::Signature) => "HTTP/1.1 401 Unauthorized",
                (false, _) => "HTTP/1.1 405 Method Not Allowed",
            };
            assert_eq!(status(&answer), expected, "{method} {path}");
            assert_eq!(answer.contains("\r\nallow: "), !taken, "{answer}");
        }
    }
    assert_eq!(server.hooks.begun.available_permits(), 1, "only a POST is a delivery");
}

#[tokio::test]
async fn everything_else_is_not_there() {
    let server = start(Limits::default()).await;
    for path in [
        "/",
        "/hooks",
        "/hooks/",
        "/hooks/shop",
        "/hooks/shop/",
        "/hooks/shop/github/",
        "/hooks/shop/github/x",
        "//hooks/shop/github",
        "/healthz/",
        "/HEALTHZ",
        "/readyz/..",
        "/metrics",
        "/api",
        "/*",
    ] {
        assert_eq!(status(&server.deliver(path, "x").await), "HTTP/1.1 404 Not Found", "{path}");
    }
    assert_eq!(server.hooks.begun.available_permits(), 0);
}

#[tokio::test]
async fn every_answer_is_plain_and_tells_nothing_of_the_server() {
    let server = start(Limits::default()).await;
    for path in ["/healthz", "/hooks/shop/accept", "/hooks/shop/refuse", "/nowhere"] {
        let answer = server.deliver(path, "x").await;
        for header in
            ["x-content-type-options: nosniff", "cache-control: no-store", "content-type: application/json"]
        {
            assert!(answer.contains(&format!("\r\n{header}\r\n")), "{path}: {answer}");
        }
        let lower = answer.to_lowercase();
        for word in ["server:", "hyper", "axum", "eeveon", "rust"] {
            assert!(!lower.contains(word), "{path}: {answer}");
        }
    }
}

#[tokio::test]
async fn readiness_is_told_and_its_reason_is_not() {
    const ASK: &str = "GET /readyz HTTP/1.0\r\n\r\n";
    let server = start(Limits::default()).await;
    *server.hooks.in_the_way.lock().unwrap() = Some("the store of shop cannot be read".to_owned());
    let answer = server.send(ASK).await;
    assert!(answer.starts_with("HTTP/1.0 503") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(!answer.contains("shop"), "{answer}");
    let other = start(Limits::default()).await;
    assert!(other.send(ASK).await.contains("200 OK"));
}

#[tokio::test]
async fn headers_reach_the_hook_as_they_came() {
    let server = start(Limits::default()).await;
    let request = "POST /hooks/shop/accept HTTP/1.1\r\nX-Sig: 1\r\nx-sig: 2\r\nX-Raw: \u{e4}\r\n\
        Forwarded: for=192.0.2.1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(status(&server.send(request).await), "HTTP/1.1 202 Accepted");
    let headers = server.hooks.headers.lock().unwrap().clone();
    let of = |wanted: &str| -> Vec<Vec<u8>> {
        headers.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.clone()).collect()
    };
    assert_eq!(of("x-sig"), [b"1", b"2"]);
    assert_eq!(of("x-raw"), ["\u{e4}".as_bytes()]);
}
