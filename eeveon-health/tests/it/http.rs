//! What a request says, and which answers are healthy.

use eeveon_health::{ProbeError, Reading};
use serde_json::json;

use crate::common::*;

#[tokio::test]
async fn a_success_is_healthy_and_anything_else_is_not() {
    for (status, healthy) in [
        ("200 OK", true),
        ("204 No Content", true),
        ("299 Fine", true),
        ("302 Found", false),
        ("404 Not Found", false),
        ("500 Oh", false),
        ("503 Later", false),
    ] {
        let server = Server::saying(answer(status, "", "")).await;
        let seen = get(server.url(), |_| ()).await;
        assert_eq!(seen == Ok(Reading::Healthy), healthy, "{status}: {seen:?}");
    }
}

#[tokio::test]
async fn an_unhealthy_answer_is_told_with_what_it_says() {
    let server = Server::saying(answer("503 Later", "", "{\"db\":\"down\"}\n")).await;
    let seen =
        get(server.url(), |it| it.expect = [200, 204].map(|it| it.to_string().parse().unwrap()).into()).await;
    assert_eq!(reason(seen), "status 503 instead of 200 or 204: {\"db\":\"down\"}");
}

#[tokio::test]
async fn expected_statuses_may_be_errors() {
    let server = Server::saying(answer("401 Who", "", "")).await;
    let seen = get(server.url(), |it| it.expect = ["4xx".parse().unwrap()].into()).await;
    assert_eq!(seen, Ok(Reading::Healthy));
}

#[tokio::test]
async fn the_request_is_what_was_asked_for() {
    let server = Server::saying(answer("200 OK", "", "")).await;
    let seen = get(server.url(), |it| {
        it.method = "POST".to_owned();
        it.body = Some("{\"deep\":true}".to_owned());
        it.host = Some("shop.example:8443".to_owned());
        it.headers.insert("Content-Type".to_owned(), "application/json".to_owned().try_into().unwrap());
    });
    assert_eq!(seen.await, Ok(Reading::Healthy));
    let head = server.heads().concat().to_lowercase();
    assert!(head.starts_with("post /healthz http/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: shop.example:8443\r\n"), "{head}");
    assert_eq!(head.matches("host:").count(), 1, "{head}");
    assert!(head.contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-length: 13\r\n"), "{head}");
    assert!(head.contains("\r\nuser-agent: eeveon/"), "{head}");
    for absent in ["cookie", "referer", "accept-encoding", "authorization"] {
        assert!(!head.contains(absent), "{head}");
    }
}

#[tokio::test]
async fn every_look_is_one_request_on_a_connection_of_its_own() {
    let server = Server::saying(answer("200 OK", "Connection: keep-alive\r\n", "ok")).await;
    let check = made(&request(server.url(), |it| it.contains = Some("ok".to_owned()))).await.unwrap();
    for _ in 0..3 {
        assert_eq!(check.probe(&eeveon_testkit::health::subject()).await, Ok(Reading::Healthy));
    }
    assert_eq!(server.heads().len(), 3);
}

#[tokio::test]
async fn no_cookie_comes_back() {
    let server = Server::saying(answer("200 OK", "Set-Cookie: a=b\r\n", "")).await;
    let check = made(&request(server.url(), |_| ())).await.unwrap();
    for _ in 0..2 {
        check.probe(&eeveon_testkit::health::subject()).await.unwrap();
    }
    assert!(!server.heads().concat().to_lowercase().contains("cookie"));
}

#[tokio::test]
async fn bodies_are_searched() {
    let server = Server::saying(answer("200 OK", "", "all systems go")).await;
    let seen = |text: &'static str| get(server.url(), move |it| it.contains = Some(text.to_owned()));
    assert_eq!(seen("systems").await, Ok(Reading::Healthy));
    assert_eq!(seen("all systems go").await, Ok(Reading::Healthy));
    assert_eq!(reason(seen("stop").await), "the body has no \"stop\": all systems go");
    assert_eq!(reason(seen("all systems go!").await), "the body has no \"all systems go!\": all systems go");
}

#[tokio::test]
async fn json_is_looked_into() {
    let body = r#"{"status":"ok","db":{"lag":0,"a/b":[true]}}"#;
    let server = Server::saying(answer("200 OK", "", body)).await;
    let seen = |pointer: &'static str, value: serde_json::Value| {
        get(server.url(), move |it| drop(it.json.insert(pointer.to_owned(), value)))
    };
    assert_eq!(seen("/status", json!("ok")).await, Ok(Reading::Healthy));
    assert_eq!(seen("/db/lag", json!(0)).await, Ok(Reading::Healthy));
    assert_eq!(seen("/db/a~1b/0", json!(true)).await, Ok(Reading::Healthy));
    assert_eq!(reason(seen("/db/lag", json!("0")).await), "the body has 0 at \"/db/lag\", not \"0\"");
    assert!(reason(seen("/db/none", json!(1)).await).starts_with("the body has nothing at \"/db/none\": {"));
    let server = Server::saying(answer("200 OK", "", "<html>")).await;
    let seen = get(server.url(), |it| drop(it.json.insert("/status".to_owned(), json!("ok"))));
    assert_eq!(reason(seen.await), "the body is no JSON: <html>");
}

#[tokio::test]
async fn redirects_are_followed_only_when_asked_and_on_the_same_host() {
    let elsewhere = Server::saying(answer("200 OK", "", "")).await;
    let away = format!("http://localhost:{}/", elsewhere.port);
    let other_port = format!("http://127.0.0.1:{}/", elsewhere.port);
    let server = Server::answering(move |head| {
        let to = match head.split(' ').nth(1).unwrap() {
            "/here" => "/there",
            "/away" => away.as_str(),
            "/port" => other_port.as_str(),
            "/file" => "file:///etc/passwd",
            "/me" => "http://me:pw@127.0.0.1/",
            _ => return answer("200 OK", "", ""),
        };
        answer("302 Found", &format!("Location: {to}\r\n"), "")
    })
    .await;
    let seen = |path: &str, follow| {
        get(format!("http://127.0.0.1:{}{path}", server.port), move |it| it.follow = follow)
    };
    assert_eq!(reason(seen("/here", false).await), "status 302 instead of 2xx, which leads to /there");
    assert_eq!(seen("/here", true).await, Ok(Reading::Healthy));
    for path in ["/away", "/port", "/file", "/me"] {
        let reason = reason(seen(path, true).await);
        assert!(reason.starts_with("status 302 instead of 2xx, which leads to "), "{path}: {reason}");
    }
    assert!(elsewhere.heads().is_empty());
}

#[tokio::test]
async fn a_socket_of_this_machine_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let socket = on_socket(&folder, answer("200 OK", "", ""));
    let seen = get("http://app.internal/".to_owned(), |it| it.socket = Some(socket)).await;
    assert_eq!(seen, Ok(Reading::Healthy));
    let seen =
        get("http://app.internal/".to_owned(), |it| it.socket = Some(folder.path().join("none"))).await;
    assert!(matches!(seen, Err(ProbeError::Refused(_))), "{seen:?}");
}

#[tokio::test]
async fn no_answer_is_no_reading() {
    let (_socket, port) = nobody();
    let seen = get(format!("http://127.0.0.1:{port}/"), |_| ()).await;
    assert!(matches!(&seen, Err(ProbeError::Refused(why)) if why.contains("refused")), "{seen:?}");
    // A label of more than 63 bytes has no address anywhere, so nobody needs to be asked.
    let seen = get(format!("http://{}.invalid/", "x".repeat(64)), |_| ()).await;
    assert!(matches!(seen, Err(ProbeError::Dns { .. })), "{seen:?}");
}
