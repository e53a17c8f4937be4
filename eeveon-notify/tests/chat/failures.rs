//! Services that hang, break off, redirect and answer too much; addresses that are none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use eeveon_core::{Diagnose as _, Retry, Secret, SecretError, SecretRef, Secrets};
use eeveon_notify::{
    Credential, Discord, DiscordConfig, EventKind, HttpOptions, Message, Notifier, NotifyError, Ntfy,
    NtfyConfig, Setup, Slack, SlackWay, Teams, Telegram, TelegramConfig, Templates,
};
use eeveon_testkit::notify::{Reply, Service, event};

use tokio::time::Instant;

use crate::rig::{credential, setup};

const SECRET: &str = "hush-hush-secret";

/// Returns one notifier of each kind that talks to the service at `base`.
pub(crate) fn all(base: &str) -> Vec<Arc<dyn Notifier>> {
    let hook = format!("{base}/hook/{SECRET}");
    let make = |name: &str| setup(name, &[("HOOK", &hook), ("TOKEN", SECRET)], Templates::default());
    let (hook, token) = (credential("env:HOOK"), credential("env:TOKEN"));
    let url = Some(base.to_owned());
    let bot = SlackWay::Bot { token: token.clone(), channel: "C1".to_owned(), url: url.clone() };
    let telegram =
        TelegramConfig { token: token.clone(), chat: "1".to_owned(), thread: None, url: url.clone() };
    let ntfy = NtfyConfig { topic: token.clone(), token: Some(token), url };
    vec![
        Arc::new(Slack::new(make("slack"), SlackWay::Webhook { url: hook.clone() }).unwrap()),
        Arc::new(Slack::new(make("slack-bot"), bot).unwrap()),
        Arc::new(Discord::new(make("discord"), DiscordConfig { url: hook.clone(), thread: None }).unwrap()),
        Arc::new(Telegram::new(make("telegram"), telegram).unwrap()),
        Arc::new(Teams::new(make("teams"), hook).unwrap()),
        Arc::new(Ntfy::new(make("ntfy"), ntfy).unwrap()),
    ]
}

async fn error(notifier: &Arc<dyn Notifier>) -> NotifyError {
    let error = notifier.notify(&Message::of(event(EventKind::Failed))).await.unwrap_err();
    let shown = format!("{error:?} {error} {:?} {notifier:?}", error.hint());
    assert!(!shown.contains(SECRET), "{shown}");
    error
}

#[tokio::test(start_paused = true)]
async fn a_service_that_hangs_is_given_up_after_ten_seconds() {
    let service = Service::start(|_| Reply::Hang).await;
    for notifier in all(&service.url("")) {
        let error = error(&notifier).await;
        assert!(error.to_string().ends_with("no answer within 10000 ms"), "{error}");
        assert_eq!(error.retry(), Retry::Later);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_it_is_not_told_again_because_it_goes_on_talking() {
    let service = Service::start(|_| Reply::Stall(200)).await;
    for notifier in all(&service.url("")) {
        let began = Instant::now();
        let told = notifier.notify(&Message::of(event(EventKind::Failed))).await;
        // The APIs of Slack and Telegram alone say yes or no in the body.
        let by_status = !["slack-bot", "telegram"].contains(&notifier.name());
        assert_eq!(told.is_ok(), by_status, "{}: {told:?}", notifier.name());
        assert_eq!(began.elapsed().as_secs(), 2, "{}", notifier.name());
    }
    let service = Service::start(|_| Reply::Stall(500)).await;
    for notifier in all(&service.url("")) {
        assert_eq!(error(&notifier).await.retry(), Retry::Later);
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_later() {
    let service = Service::start(|_| Reply::Cut).await;
    for notifier in all(&service.url("")) {
        let error = error(&notifier).await;
        assert!(matches!(error, NotifyError::Unreachable { .. }), "{error:?}");
    }
    assert_eq!(service.received().len(), 6, "each was sent once");
}

#[tokio::test]
async fn nobody_there_is_tried_again_later() {
    let gone = Service::start(|_| Reply::Cut).await.url("");
    for notifier in all(&gone) {
        let error = error(&notifier).await;
        assert!(matches!(error, NotifyError::Unreachable { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed_and_it_is_said_where_they_lead() {
    let service = Service::start(|_| Reply::new(307, SECRET).with("Location", "/elsewhere?a=b")).await;
    for notifier in all(&service.url("")) {
        let error = error(&notifier).await;
        assert!(matches!(error, NotifyError::Refused { .. }), "{error:?}");
        let said = error.to_string();
        // Of an address that is all hidden only what is new is left.
        assert!(said.contains("status 307: a redirect to "), "{said}");
        assert!(said.contains("elsewhere, which is not followed"), "{said}");
        // A workflow of Teams is not asked: it would start.
        let checked = notifier.check().await;
        match notifier.name() {
            "teams" => drop(checked.unwrap()),
            name => assert!(checked.unwrap_err().to_string().contains("elsewhere, which"), "{name}"),
        }
    }
    assert!(service.received().iter().all(|request| !request.path.starts_with("/elsewhere")));
}

#[tokio::test]
async fn where_a_redirect_leads_to_tells_no_secret() {
    for (to, said) in [
        // What is the same as before is hidden, and user, password and query are not told at all.
        (
            format!("https://u:{SECRET}@www.example.org/to/{SECRET}?k={SECRET}#x"),
            "to https://www.example.org/to/[hidden],",
        ),
        ("mailto:a@b.c".to_owned(), "status 301: a redirect, which is not followed"),
        ("http://".to_owned(), "status 301: a redirect, which is not followed"),
        (format!("/{}", "x".repeat(9_000)), "xxx, which is not followed"),
    ] {
        let location = to.clone();
        let service = Service::start(move |_| Reply::new(301, "").with("Location", &location)).await;
        for notifier in all(&service.url("")) {
            let error = error(&notifier).await.to_string();
            assert!(error.contains(said) && error.len() < 500, "{to}: {error}");
        }
    }
    let service = Service::start(|_| Reply::new(304, SECRET)).await;
    let error = error(&all(&service.url(""))[0]).await.to_string();
    assert!(error.contains("status 304: a redirect, which is not followed"), "{error}");
}

/// A disk that hangs must keep nobody: neither who sends, nor a process that ends.
#[test]
fn a_file_that_cannot_be_read_in_time_keeps_nobody() {
    let (never, hangs) = std::sync::mpsc::channel();
    let secrets = Arc::new(Hanging(std::sync::Mutex::new(hangs)));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let setup = Setup { secrets, ..setup("teams", &[], Templates::default()) };
        let notifier: Arc<dyn Notifier> = Arc::new(Teams::new(setup, credential("file:/slow")).unwrap());
        let began = Instant::now();
        let error = error(&notifier).await;
        assert_eq!(began.elapsed(), Duration::from_secs(10));
        assert_eq!((error.code(), error.retry()), ("notify/secret", Retry::Later));
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert_eq!(cause, "`file:/slow` was not read within 10 s");
    });
    // This waits for what the runtime itself was given to do.
    drop(runtime);
    drop(never);
}

/// What hangs takes no more than its own: others are read, however often it is asked for.
#[tokio::test(start_paused = true)]
async fn a_file_that_hangs_has_one_reader_however_often_it_is_asked_for() {
    let (never, hangs) = std::sync::mpsc::channel();
    let secrets = Arc::new(OneHangs { hangs: std::sync::Mutex::new(hangs), readers: AtomicU32::new(0) });
    let shared: Arc<dyn Secrets> = secrets.clone();
    let hanging = Credential::parse("file:/hangs-with-others").unwrap();
    // More than may read at once, some of them together.
    for _ in 0..40 {
        let (one, other) = tokio::join!(hanging.reveal("ops", &shared), hanging.reveal("ops", &shared));
        for result in [one, other] {
            let error = result.unwrap_err();
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert_eq!(cause, "`file:/hangs-with-others` was not read within 10 s");
        }
    }
    tokio::time::resume();
    let good = Credential::parse("file:/is-good").unwrap();
    assert_eq!(good.reveal("ops", &shared).await.unwrap().expose(), "s3cret");
    // Once it answers, it can be read again: by the second of all readers.
    drop(never);
    let mended = hanging.reveal("ops", &shared).await.unwrap_err();
    assert!(std::error::Error::source(&mended).unwrap().to_string().contains("is gone"), "{mended:?}");
    assert_eq!(secrets.readers.load(Ordering::SeqCst), 2);
}

/// Reads every file but one, which never answers as long as the other end is there.
#[derive(Debug)]
struct OneHangs {
    hangs: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    /// How often that one was begun to be read.
    readers: AtomicU32,
}

impl Secrets for OneHangs {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        if !at.to_string().contains("hangs") {
            return Ok(Secret::new("s3cret").unwrap());
        }
        self.readers.fetch_add(1, Ordering::SeqCst);
        let _hangs_up = self.hangs.lock().unwrap().recv();
        Err(SecretError::Missing { at: at.to_string(), why: "is gone".to_owned() })
    }
}

/// Never answers, as long as the other end is there.
#[derive(Debug)]
struct Hanging(std::sync::Mutex<std::sync::mpsc::Receiver<()>>);

impl Secrets for Hanging {
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError> {
        let _hangs_up = self.0.lock().unwrap().recv();
        Err(SecretError::Missing { at: at.to_string(), why: "is gone".to_owned() })
    }
}

#[tokio::test]
async fn an_endless_answer_is_read_in_part_and_shown_in_less() {
    let service = Service::start(|_| Reply::new(400, "no ".repeat(1_000_000))).await;
    for notifier in all(&service.url("")) {
        let error = error(&notifier).await;
        assert!(matches!(error, NotifyError::Refused { .. }), "{:.200}", format!("{error:?}"));
        assert!(error.to_string().len() < 400);
    }
}

#[tokio::test]
async fn a_wish_to_wait_may_be_a_date() {
    for (after, date, expected) in [
        ("120", None, Some(120)),
        ("Wed, 04 Mar 2026 05:07:00 GMT", Some("Wed, 04 Mar 2026 05:06:00 GMT"), Some(60)),
        ("Wed, 04 Mar 2026 05:05:00 GMT", Some("Wed, 04 Mar 2026 05:06:00 GMT"), None),
        ("Wed, 04 Mar 2026 05:07:00 GMT", None, None),
        ("soon", None, None),
        ("-1", None, None),
        ("99999999999999999999", None, None),
    ] {
        let service = Service::start(move |_| {
            let reply = Reply::new(429, "").with("Retry-After", after);
            date.map_or(reply.clone(), |date| reply.with("Date", date))
        })
        .await;
        for notifier in all(&service.url("")) {
            let error = error(&notifier).await;
            assert!(matches!(error, NotifyError::Throttled { .. }), "{error:?}");
            assert_eq!(error.retry_after(), expected.map(Duration::from_secs), "{after} {date:?}");
        }
    }
}

#[tokio::test]
async fn an_address_that_is_none_is_not_shown() {
    for address in
        ["hush-hush-secret", "ftp://e.org/hush-hush-secret", "http://", "file:///etc/hush-hush-secret"]
    {
        let teams =
            Teams::new(setup("teams", &[("HOOK", address)], Templates::default()), credential("env:HOOK"));
        let notifier: Arc<dyn Notifier> = Arc::new(teams.unwrap());
        assert!(matches!(error(&notifier).await, NotifyError::Config { .. }), "{address}");
    }
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_named() {
    let teams = Teams::new(setup("teams", &[], Templates::default()), credential("env:HOOK")).unwrap();
    let error = teams.check().await.unwrap_err();
    assert!(matches!(error, NotifyError::Secret { .. }), "{error:?}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "`env:HOOK` is not set");
}

#[test]
fn a_vault_is_refused_with_the_reason() {
    let error = Credential::parse("secret:slack_url").unwrap_err();
    assert!(error.to_string().contains("vault"), "{error}");
    assert!(Credential::parse("  ").is_err());
    assert!(!format!("{:?}", Credential::parse("https://e.org/hush-hush").unwrap()).contains("hush-hush"));
}

#[test]
fn a_file_of_authorities_must_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    let with = |path: std::path::PathBuf| {
        let http = HttpOptions { ca_file: Some(path), ..HttpOptions::default() };
        let setup = Setup { http, ..setup("teams", &[], Templates::default()) };
        Teams::new(setup, credential("https://e.org"))
    };
    assert!(matches!(with(path.clone()), Err(NotifyError::Config { .. })));
    let endless = with("/dev/null".into()).unwrap_err().to_string();
    assert!(endless.contains("it is no file"), "{endless}");
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    assert!(matches!(with(path), Err(NotifyError::Config { .. })));
}
