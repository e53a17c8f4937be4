//! The webhook against a receiver: what arrives, that others can verify it, and what is told when
//! it does not arrive.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod contract;
#[path = "../sending/mod.rs"]
mod sending;

use std::{sync::Arc, time::Duration};

use eeveon_core::{Clock, Diagnose, Kind, ReleaseNumber, Retry, StepKey, SystemClock};
use eeveon_notify::{
    Credential, Event, EventKind, Markup, Message, Notifier, NotifyError, Serving, Template, Webhook,
    WebhookConfig, WebhookMethod,
};
use eeveon_testkit::notify::{Received, Reply, Service, hostile_texts};
use jiff::Timestamp;
use sending::{Known, event, setup, written_by_others};

/// A change of a configuration, and what becomes of it.
type Case<'a> = (&'a dyn Fn(&mut WebhookConfig), &'a str);

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLDER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

#[derive(Debug)]
struct At(Timestamp);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0
    }
}

/// The path of the receiver's address, with what opens it.
const PATH: &str = "/hooks/path-tok3n?key=qu3ry-tok3n";

/// A receiver that always gives the same answer.
async fn answering(reply: Reply) -> Service {
    Service::start(move |_| reply.clone()).await
}

fn config(hook: &Service) -> WebhookConfig {
    WebhookConfig::new(Credential::parse(&hook.url(PATH)).unwrap())
}

fn channel(config: WebhookConfig) -> Webhook {
    Webhook::new(setup("hook", Known::of(&[])), config, Arc::new(SystemClock)).unwrap()
}

/// Why a configuration is refused.
fn refusal(change: impl FnOnce(&mut WebhookConfig)) -> String {
    let mut config = WebhookConfig::new(Credential::parse("https://example.org").unwrap());
    change(&mut config);
    let error = Webhook::new(setup("hook", Known::of(&[])), config, Arc::new(SystemClock)).unwrap_err();
    assert_eq!(error.code(), "notify/config");
    error.to_string()
}

/// Returns the newest request.
fn last(hook: &Service) -> Received {
    hook.received().pop().unwrap()
}

async fn deliver(config: WebhookConfig, hook: &Service, event: Event) -> Received {
    channel(config).notify(&Message::of(event)).await.unwrap();
    last(hook)
}

#[tokio::test]
async fn the_body_is_the_one_that_is_documented() {
    assert_eq!(eeveon_notify::WEBHOOK_FORMAT, 1, "a new format needs a golden file of its own");
    let hook = answering(Reply::new(200, "")).await;
    let mut came = Vec::new();
    let mut parked = event(EventKind::Parked, 8);
    parked.operation = Kind::Rollback;
    parked.step = Some(StepKey::new("retire/local"));
    parked.reason = Some("the shop is empty".into());
    parked.serving = Serving::Either { new: ReleaseNumber(12), old: None };
    parked.link = None;
    let mut quarantined = event(EventKind::Quarantined, 9);
    quarantined.quarantined = vec![quarantined.revision.commit.clone()];
    quarantined.serving = Serving::Nothing;
    quarantined.more = 3;
    let others = [(EventKind::Started, 0), (EventKind::Succeeded, 9), (EventKind::Failed, 9)];
    let events = others.into_iter().map(|(kind, seq)| event(kind, seq)).chain([parked, quarantined]);
    for event in events {
        let request = deliver(config(&hook), &hook, event).await;
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", PATH));
        assert_eq!(request.header("content-type").unwrap(), "application/json");
        assert!(request.header("user-agent").unwrap().starts_with("eeveon/"));
        came.push(String::from_utf8(request.body).unwrap());
    }
    let golden = include_str!("../golden/webhook-v1.jsonl");
    assert_eq!(came, golden.lines().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_authors_own_library_accepts_the_signature() {
    let hook = answering(Reply::new(204, "")).await;
    let mut config = config(&hook);
    config.secrets = vec![Credential::parse(SECRET).unwrap(), Credential::parse(OLDER).unwrap()];
    let request = deliver(config, &hook, event(EventKind::Succeeded, 9)).await;
    assert_eq!(request.header("webhook-id").unwrap(), "shop-7-9-succeeded-1772368245500");
    assert_eq!(request.header("webhook-signature").unwrap().split(' ').count(), 2);

    let headers = request
        .headers
        .iter()
        .filter(|(name, _)| name.starts_with("webhook-"))
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .collect();
    // During a rotation receivers may know either; the library also looks at the time.
    for secret in [SECRET, OLDER] {
        standardwebhooks::Webhook::new(secret).unwrap().verify(&request.body, &headers).unwrap();
    }
    let mut altered = request.body.clone();
    altered[10] ^= 1;
    assert!(standardwebhooks::Webhook::new(SECRET).unwrap().verify(&altered, &headers).is_err());
    let stranger = OLDER.replace("AAEC", "AAED");
    assert!(standardwebhooks::Webhook::new(&stranger).unwrap().verify(&request.body, &headers).is_err());
}

#[tokio::test]
async fn a_second_attempt_has_the_same_id_and_a_time_of_its_own() {
    let hook = answering(Reply::new(200, "")).await;
    let message = Message::of(event(EventKind::Failed, 3));
    let mut came = Vec::new();
    for second in [1_000, 2_000] {
        let mut config = config(&hook);
        config.secrets = vec![Credential::parse(SECRET).unwrap()];
        let clock = Arc::new(At(Timestamp::from_second(second).unwrap()));
        Webhook::new(setup("hook", Known::of(&[])), config, clock).unwrap().notify(&message).await.unwrap();
        came.push(last(&hook));
    }
    assert_eq!(came[0].body, came[1].body);
    assert_eq!(came[0].header("webhook-id"), came[1].header("webhook-id"));
    assert_eq!([&came[0], &came[1]].map(|it| it.header("webhook-timestamp").unwrap()), ["1000", "2000"]);
    assert_ne!(came[0].header("webhook-signature"), came[1].header("webhook-signature"));
}

#[tokio::test]
async fn method_headers_and_references_are_the_operators() {
    let hook = answering(Reply::new(200, "")).await;
    let secrets = Known::of(&[("URL", &hook.url(PATH)), ("TOKEN", "t0ken-in-a-header\n"), ("KEY", SECRET)]);
    for method in ["PUT", "PATCH", "POST"] {
        let mut config = WebhookConfig::new(Credential::parse("env:URL").unwrap());
        config.method = method.parse().unwrap();
        config.headers = vec![
            ("Authorization".into(), Credential::parse("env:TOKEN").unwrap()),
            ("X-Team".into(), Credential::parse("web").unwrap()),
        ];
        config.secrets = vec![Credential::parse("env:KEY").unwrap()];
        let channel = Webhook::new(setup("hook", secrets.clone()), config, Arc::new(SystemClock)).unwrap();
        channel.notify(&Message::of(event(EventKind::Test, 0))).await.unwrap();
        let request = last(&hook);
        assert_eq!(request.method, method);
        assert_eq!(request.header("authorization").unwrap(), "t0ken-in-a-header");
        assert_eq!(request.header("x-team").unwrap(), "web");
        assert!(request.header("webhook-signature").is_some());
    }
    assert!("GET".parse::<WebhookMethod>().is_err());
}

#[tokio::test]
async fn a_template_speaks_in_a_field_of_its_own() {
    let hook = answering(Reply::new(200, "")).await;
    let mut setup = setup("hook", Known::of(&[]));
    let source = "{{ project }}: {{ subject }}";
    setup.templates.every = Some(Template::parse("hook", Markup::Plain, source).unwrap());
    let channel = Webhook::new(setup, config(&hook), Arc::new(SystemClock)).unwrap();
    channel.notify(&Message::of(event(EventKind::Succeeded, 9))).await.unwrap();
    assert_eq!(last(&hook).json()["text"], "shop: Sell <umbrellas> & \"boots\"");
}

#[test]
fn what_could_not_work_is_refused_when_it_is_read() {
    let given = |text: &str| Credential::parse(text).unwrap();
    let header = |name: &str, value: &str| vec![(name.to_owned(), given(value))];
    for name in ["", "a b", "a:b", "a\r\nb", "ä", "Host", "content-length", "Content-Type", "webhook-id"] {
        let why = refusal(|config| config.headers = header(name, "x"));
        assert!(why.contains("header"), "{name}: {why}");
    }
    let why = refusal(|config| config.headers = header("X-A", "s3cret\r\nX-B: y"));
    assert!(why.contains("x-a") && !why.contains("s3cret"), "{why}");
    let twice = |config: &mut WebhookConfig| {
        config.headers = [header("X-A", "1"), header("x-a", "2")].concat();
    };
    assert!(refusal(twice).contains("twice"));
    let many = (0..33).map(|at| (format!("x-{at}"), given("1"))).collect();
    assert!(refusal(|config| config.headers = many).contains("more than 32"));
    for secret in ["hunter2", "whsec_c2hvcnQ=", "whsec_%%%"] {
        let why = refusal(|config| config.secrets = vec![given(secret)]);
        assert!(why.contains("24 to 64 bytes") && !why.contains(secret), "{why}");
    }
    assert!(refusal(|config| config.secrets = vec![given("whsec_")]).contains("24 to 64 bytes"));
    assert!(refusal(|config| config.secrets = vec![given(SECRET); 3]).contains("at most two"));
}

#[tokio::test]
async fn what_a_reference_leads_to_is_checked_when_it_is_used() {
    let hook = answering(Reply::new(200, "")).await;
    let secrets =
        Known::of(&[("SHORT", "hunter2-hunter2"), ("LINES", "a-s3cret\nb"), ("URL", "ftp://s3cret")]);
    let reference = |name: &str| Credential::parse(name).unwrap();
    let message = Message::of(event(EventKind::Test, 0));
    let cases: [Case<'_>; 4] = [
        (&|config| config.secrets = vec![reference("env:SHORT")], "notify/config"),
        (&|config| config.headers = vec![("x-a".into(), reference("env:LINES"))], "notify/config"),
        (&|config| config.url = reference("env:URL"), "notify/config"),
        (&|config| config.url = reference("env:NOT_SET"), "notify/secret"),
    ];
    for (change, code) in cases {
        let mut config = config(&hook);
        change(&mut config);
        let channel = Webhook::new(setup("hook", secrets.clone()), config, Arc::new(SystemClock)).unwrap();
        for error in [channel.notify(&message).await.unwrap_err(), channel.check().await.unwrap_err()] {
            assert_eq!(error.code(), code, "{error}");
            let said = format!("{error} {error:?} {channel:?}");
            assert!(!said.contains("hunter2") && !said.contains("s3cret"), "{said}");
        }
    }
    assert!(hook.received().is_empty());
}

#[tokio::test]
async fn answers_mean_what_they_say() {
    let body = "no: path-tok3n qu3ry-tok3n t0ken-in-a-header";
    let cases = [
        (400, None, "notify/refused", Retry::Never),
        (401, None, "notify/login", Retry::Never),
        (404, None, "notify/recipient", Retry::Never),
        (410, None, "notify/refused", Retry::Never),
        (302, Some(("location", "http://127.0.0.1:1/other")), "notify/refused", Retry::Never),
        (429, Some(("retry-after", "17")), "notify/throttled", Retry::Later),
        (500, None, "notify/unreachable", Retry::Later),
        (503, Some(("retry-after", "17")), "notify/throttled", Retry::Later),
    ];
    for (status, header, code, retry) in cases {
        let reply = Reply::new(status, body);
        let reply = header.into_iter().fold(reply, |reply, (name, value)| reply.with(name, value));
        let hook = answering(reply).await;
        let (channel, error) = failing(&hook, Duration::from_secs(10)).await;
        assert_eq!((error.code(), error.retry()), (code, retry), "{status}");
        assert_eq!(hook.received().len(), 1, "{status}");
        if status == 410 {
            assert!(error.to_string().contains("remove the channel"), "{error}");
        }
        if code == "notify/throttled" {
            assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
        }
        holds_no_secret(&channel, &error);
    }
}

#[tokio::test]
async fn a_receiver_that_hangs_or_hangs_up_is_unreachable() {
    for reply in [Reply::Hang, Reply::Cut] {
        let hook = answering(reply).await;
        let (channel, error) = failing(&hook, Duration::from_millis(200)).await;
        assert_eq!(error.code(), "notify/unreachable", "{error}");
        holds_no_secret(&channel, &error);
    }
}

/// Calls a webhook whose address and header hold secrets.
async fn failing(hook: &Service, timeout: Duration) -> (Webhook, NotifyError) {
    let mut setup = setup("hook", Known::of(&[("TOKEN", "t0ken-in-a-header")]));
    setup.http.timeout = timeout;
    let mut config = config(hook);
    config.headers = vec![("Authorization".into(), Credential::parse("env:TOKEN").unwrap())];
    config.secrets = vec![Credential::parse(SECRET).unwrap()];
    let channel = Webhook::new(setup, config, Arc::new(SystemClock)).unwrap();
    let error = channel.notify(&Message::of(event(EventKind::Failed, 9))).await.unwrap_err();
    (channel, error)
}

fn holds_no_secret(channel: &Webhook, error: &NotifyError) {
    let said = format!("{error} {error:?} {channel:?}");
    for secret in ["path-tok3n", "qu3ry-tok3n", "t0ken-in-a-header", "MfKQ9r8G", "127.0.0.1"] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn whatever_others_wrote_arrives_and_is_short() {
    let hook = answering(Reply::new(200, "")).await;
    let channel = channel(config(&hook));
    for (seq, text) in hostile_texts().into_iter().enumerate() {
        channel.notify(&Message::of(written_by_others(&text, seq as u64))).await.unwrap();
        let request = last(&hook);
        assert!(request.body.len() < 100 * 1024, "{} bytes of {text}", request.body.len());
        let subject = request.json()["revision"]["subject"].as_str().unwrap().to_owned();
        match text.encode_utf16().count() {
            ..=500 => assert_eq!(subject, text),
            _ => assert!(text.starts_with(subject.trim_end_matches('…')) && subject.ends_with('…')),
        }
    }
}

#[tokio::test]
async fn a_check_looks_without_telling_anything() {
    let hook = answering(Reply::new(405, "")).await;
    let mut with_key = config(&hook);
    with_key.secrets = vec![Credential::parse(SECRET).unwrap()];
    let said = channel(with_key).check().await.unwrap();
    assert!(said.contains("405"), "{said}");
    let request = last(&hook);
    assert_eq!(request.method, "OPTIONS");
    assert!(request.body.is_empty() && request.header("webhook-signature").is_none());

    let broken = answering(Reply::new(502, "")).await;
    assert_eq!(channel(config(&broken)).check().await.unwrap_err().code(), "notify/unreachable");
}

/// Nothing would arrive: redirects are not followed.
#[tokio::test]
async fn a_check_of_what_redirects_says_where_to() {
    let moved =
        answering(Reply::new(308, "").with("Location", "https://new.example.org/v2?key=qu3ry-tok3n")).await;
    let error = channel(config(&moved)).check().await.unwrap_err();
    assert_eq!(error.code(), "notify/refused");
    let said = error.to_string();
    assert!(said.contains("a redirect to https://new.example.org/v2, which is not followed"), "{said}");
    holds_no_secret(&channel(config(&moved)), &error);
    // Who answers to a secret header may repeat it: then only the host is told, and that there is a path.
    let echo =
        answering(Reply::new(308, "").with("Location", "https://new.example.org/t0ken-in-a-header")).await;
    let (channel, error) = failing(&echo, Duration::from_secs(10)).await;
    assert!(error.to_string().contains("a redirect to https://new.example.org/[hidden], which"), "{error}");
    holds_no_secret(&channel, &error);

    let secure = Service::start(|request| {
        let host = request.header("host").unwrap();
        Reply::new(301, "").with("Location", format!("https://{host}{}", request.path))
    })
    .await;
    let said = self::channel(config(&secure)).check().await.unwrap_err().to_string();
    assert!(said.contains("a redirect to the same address with https:, which is not followed"), "{said}");

    // A query may be a secret, so that there is another one is all that is told of it.
    for (scheme, query, with) in [
        ("http", "?v=2&key=qu3ry-tok3n", "another query"),
        ("https", "?v=2", "https: and another query"),
        ("http", "", "another query"),
    ] {
        let other = Service::start(move |request| {
            let (host, path) = (request.header("host").unwrap(), request.path.split('?').next().unwrap());
            Reply::new(302, "").with("Location", format!("{scheme}://{host}{path}{query}"))
        })
        .await;
        let error = self::channel(config(&other)).check().await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(&format!("a redirect to the same address with {with}, which")), "{said}");
        holds_no_secret(&self::channel(config(&other)), &error);
    }
    let itself = Service::start(|request| Reply::new(307, "").with("Location", &request.path)).await;
    let said = self::channel(config(&itself)).check().await.unwrap_err().to_string();
    assert!(said.contains("a redirect to the same address, which is not followed"), "{said}");
}
