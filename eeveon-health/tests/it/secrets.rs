//! Secrets in headers: sent, never shown.

use std::collections::BTreeMap;

use eeveon_health::{HeaderValue, HttpSpec, ProbeError, Reach, Reading, What};
use eeveon_testkit::health::subject;

use crate::common::*;

const TOKEN: &str = "hunter2-hunter2";

fn known() -> Known {
    Known(BTreeMap::from([
        ("env:TOKEN".to_owned(), format!("Bearer {TOKEN}")),
        ("env:BROKEN".to_owned(), "two\nlines".to_owned()),
    ]))
}

fn asking(url: String, reference: &str) -> eeveon_health::CheckSpec {
    let mut http = HttpSpec::new(url);
    let value = HeaderValue::try_from(reference.to_owned()).unwrap();
    http.headers.insert("Authorization".to_owned(), value);
    spec(What::Http(Box::new(http)))
}

async fn look(url: String, reference: &str) -> (String, Result<Reading, ProbeError>) {
    let spec = asking(url, reference);
    let check = checks(Script::codes([0]), known()).make(&spec, Reach::Operator, &origin()).await.unwrap();
    (format!("{check:?} {}", serde_json::to_string(&spec).unwrap()), check.probe(&subject()).await)
}

#[tokio::test]
async fn a_secret_is_sent_and_shown_nowhere() {
    let server = Server::answering(|head| {
        let echo = head.lines().find(|line| line.to_lowercase().starts_with("authorization")).unwrap();
        answer("500 Oh", "", format!("you said {echo}, so the token is {TOKEN}"))
    })
    .await;
    let (shown, seen) = look(server.url(), "env:TOKEN").await;
    assert!(server.heads().concat().contains(TOKEN));
    assert!(!shown.contains(TOKEN), "{shown}");
    let reason = reason(seen);
    assert!(!reason.contains("hunter2"), "{reason}");
    assert!(reason.ends_with("(secret), so the token is (secret)"), "{reason}");
}

#[tokio::test]
async fn a_secret_does_not_follow_a_redirect_to_another_server() {
    let elsewhere = Server::saying(answer("200 OK", "", "")).await;
    let to = elsewhere.url();
    let server = Server::answering(move |_| answer("302 Found", &format!("Location: {to}\r\n"), "")).await;
    let mut spec = asking(server.url(), "env:TOKEN");
    if let What::Http(http) = &mut spec.what {
        http.follow = true;
    }
    let check = checks(Script::codes([0]), known()).make(&spec, Reach::Operator, &origin()).await.unwrap();
    assert!(reason(check.probe(&subject()).await).starts_with("status 302"));
    assert!(elsewhere.heads().is_empty());
}

#[tokio::test]
async fn a_missing_secret_is_no_reading() {
    let server = Server::saying(answer("200 OK", "", "")).await;
    for reference in ["env:ABSENT", "file:/nowhere", "env:BROKEN"] {
        let (_, seen) = look(server.url(), reference).await;
        let Err(ProbeError::Secret(error)) = seen else { panic!("{reference}: {seen:?}") };
        assert!(error.to_string().contains(reference), "{error}");
        assert!(!error.to_string().contains("lines"), "{error}");
    }
    assert!(server.heads().is_empty());
}
