//! What a server's answers mean.

use std::time::Duration;

use eeveon_core::{Diagnose, Retry};
use eeveon_notify::{
    Credential, Email, EmailConfig, EventKind, MailLogin, Message, Notifier, NotifyError, Tls,
};

use tokio::time::Instant;

use crate::{
    scripted::Scripted,
    sending::{Known, event, setup},
};

/// A change of a configuration, and what the refusal of it names.
type Case<'a> = (&'a dyn Fn(&mut EmailConfig), &'a str);

pub(crate) const PASSWORD: &str = "pa55word-of-deployer";

pub(crate) fn config(server: &Scripted, to: &[&str]) -> EmailConfig {
    let to = to.iter().map(|it| it.parse().unwrap()).collect();
    let mut config = EmailConfig::new("127.0.0.1", "deploy@example.org".parse().unwrap(), to, "here.example");
    config.port = Some(server.port);
    config
}

pub(crate) fn password() -> Option<MailLogin> {
    Some(MailLogin::Password {
        user: "deployer".into(),
        password: Credential::parse("env:PASSWORD").unwrap(),
    })
}

pub(crate) fn channel(config: EmailConfig) -> Email {
    Email::new(setup("mail", Known::of(&[("PASSWORD", PASSWORD)])), config).unwrap()
}

async fn send(config: EmailConfig) -> Result<(), NotifyError> {
    channel(config).notify(&Message::of(event(EventKind::Failed, 4))).await
}

#[tokio::test]
async fn every_refusal_has_its_meaning() {
    let cases = [
        (("greeting", "554 5.7.1 go away"), "notify/refused"),
        (("greeting", "421 4.3.2 not now"), "notify/unreachable"),
        (("EHLO", "502 what"), "notify/refused"),
        (("AUTH", "535 5.7.8 no"), "notify/login"),
        (("AUTH", "534 5.7.9 weak"), "notify/login"),
        (("AUTH", "500 5.5.2 what"), "notify/login"),
        (("AUTH", "454 4.7.0 later"), "notify/unreachable"),
        (("MAIL", "530 5.7.0 log in"), "notify/login"),
        (("MAIL", "550 5.7.1 not from you"), "notify/refused"),
        (("MAIL", "451 4.3.0 broken"), "notify/unreachable"),
        (("MAIL", "450 4.7.1 slow down"), "notify/throttled"),
        (("RCPT", "550 5.1.1 unknown"), "notify/recipient"),
        (("RCPT", "450 4.2.0 greylisted"), "notify/unreachable"),
        (("RCPT", "421 4.7.0 too many"), "notify/throttled"),
        (("DATA", "554 5.6.0 no"), "notify/refused"),
        ((".", "554 5.7.1 spam"), "notify/refused"),
        ((".", "451 4.7.1 later"), "notify/throttled"),
        ((".", "452 4.3.1 full"), "notify/unreachable"),
        (("EHLO", "gibberish"), "notify/unreachable"),
    ];
    for (rule, code) in cases {
        let server = Scripted::with(&[rule]);
        let mut config = config(&server, &["ops@example.org"]);
        config.login = password();
        let error = send(config).await.unwrap_err();
        assert_eq!(error.code(), code, "{rule:?}: {error}");
        let words = rule.1.rsplit_once(|c: char| c.is_ascii_digit()).map(|(_, words)| words.trim());
        assert!(words.is_none_or(|words| error.to_string().contains(words)), "{rule:?}: {error}");
        let later = matches!(code, "notify/unreachable" | "notify/throttled");
        assert_eq!(error.retry() == Retry::Later, later, "{rule:?}");
    }
}

#[tokio::test]
async fn the_answer_is_told_but_no_secret_in_it() {
    // Base64 of `\0deployer\0pa55word-of-deployer`, as it is said, and of the password.
    let said = "535 5.7.8 no: pa55word-of-deployer AGRlcGxveWVyAHBhNTV3b3JkLW9mLWRlcGxveWVy \
                cGE1NXdvcmQtb2YtZGVwbG95ZXI= \u{1b}[31m";
    let server = Scripted::with(&[("AUTH", said)]);
    let mut config = config(&server, &["ops@example.org"]);
    config.login = password();
    let channel = channel(config.clone());
    let error = channel.check().await.unwrap_err();
    assert_eq!(error.code(), "notify/login");
    assert!(server.heard().contains(&"AUTH PLAIN AGRlcGxveWVyAHBhNTV3b3JkLW9mLWRlcGxveWVy".to_owned()));
    let told = format!("{error} {error:?} {channel:?} {config:?}");
    assert!(told.contains("535 5.7.8 no"), "{told}");
    for hidden in ["pa55word", "AGRlcGxv", "cGE1NXdv", "\u{1b}"] {
        assert!(!told.contains(hidden), "{hidden}: {told}");
    }
}

#[tokio::test]
async fn what_a_server_says_when_it_wants_fewer_letters_is_told_in_short_and_without_controls() {
    let said = format!("451 4.7.1 greylisted \u{1b}[31m {}", "x".repeat(400));
    let server = Scripted::with(&[(".", &said)]);
    let error = send(config(&server, &["ops@example.org"])).await.unwrap_err();
    let told = error.to_string();
    assert!(told.starts_with("channel `mail` asks to wait: 451 4.7.1 greylisted"), "{told}");
    assert!(!told.contains('\u{1b}') && told.len() < 400, "{told}");
}

#[tokio::test]
async fn only_ways_of_logging_in_that_can_be_finished_are_begun() {
    let offers = "250-mail.example.org\r\n250 AUTH DIGEST-MD5 CRAM-MD5 SCRAM-SHA-256 LOGIN";
    // LOGIN asks for both, in base64.
    let server = Scripted::with(&[
        ("EHLO", offers),
        ("AUTH LOGIN", "334 VXNlcm5hbWU6"),
        ("ZGVwbG95ZXI=", "334 UGFzc3dvcmQ6"),
        ("cGE1NXdvcmQtb2YtZGVwbG95ZXI=", "235 2.7.0 ok"),
    ]);
    let mut config = config(&server, &["ops@example.org"]);
    config.login = password();
    send(config).await.unwrap();
    let heard = server.heard();
    assert_eq!(heard.iter().filter(|line| line.starts_with("AUTH")).count(), 1, "{heard:?}");

    let server = Scripted::with(&[("EHLO", "250-mail.example.org\r\n250 AUTH CRAM-MD5")]);
    let mut config = self::config(&server, &["ops@example.org"]);
    config.login = password();
    assert_eq!(send(config).await.unwrap_err().code(), "notify/config");
    assert!(!server.heard().iter().any(|line| line.starts_with("AUTH") || line.starts_with("MAIL")));
}

#[tokio::test]
async fn a_token_logs_in_by_xoauth2() {
    let server = Scripted::with(&[]);
    let mut config = config(&server, &["ops@example.org"]);
    let token = Credential::parse("env:TOKEN").unwrap();
    config.login = Some(MailLogin::XOAuth2 { user: "u@example.org".into(), token });
    let channel = Email::new(setup("mail", Known::of(&[("TOKEN", "ya29.t0ken\n")])), config).unwrap();
    channel.notify(&Message::of(event(EventKind::Test, 0))).await.unwrap();
    // `user=u@example.org^Aauth=Bearer ya29.t0ken^A^A`, with ^A for 1.
    let expected = "AUTH XOAUTH2 dXNlcj11QGV4YW1wbGUub3JnAWF1dGg9QmVhcmVyIHlhMjkudDBrZW4BAQ==";
    assert!(server.heard().contains(&expected.to_owned()), "{:?}", server.heard());
}

/// Gmail says in a challenge what is wrong with a token, and refuses whatever answers it.
#[tokio::test]
async fn a_token_that_ran_out_is_a_matter_of_login() {
    // `{"status":"401"}`
    let challenge = ("AUTH XOAUTH2", "334 eyJzdGF0dXMiOiI0MDEifQ==");
    let refused = ("dXNlcj", "535 5.7.8 Username and Password not accepted: ya29.t0ken");
    for rules in [vec![challenge, refused], vec![challenge, ("dXNlcj", challenge.1)]] {
        let server = Scripted::with(&rules);
        let mut config = config(&server, &["ops@example.org"]);
        let token = Credential::parse("env:TOKEN").unwrap();
        config.login = Some(MailLogin::XOAuth2 { user: "u@example.org".into(), token });
        let channel = Email::new(setup("mail", Known::of(&[("TOKEN", "ya29.t0ken")])), config).unwrap();
        let error = channel.check().await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("notify/login", Retry::Never), "{error}");
        assert!(!format!("{error} {error:?}").contains("ya29"), "{error:?}");
    }
}

#[tokio::test]
async fn without_the_protection_that_is_asked_for_nothing_is_said() {
    let server = Scripted::with(&[]);
    let mut config = config(&server, &["ops@example.org"]);
    config.tls = Some("starttls".parse().unwrap());
    config.login = password();
    let error = send(config).await.unwrap_err();
    assert_eq!(error.code(), "notify/config");
    assert!(error.to_string().contains("STARTTLS"), "{error}");
    assert_eq!(server.heard(), ["EHLO here.example"]);
}

#[tokio::test]
async fn recipients_that_are_refused_are_named_and_the_others_get_it() {
    let refusing = [("RCPT TO:<gone@", "550 5.1.1 no such user"), ("RCPT TO:<full@", "452 4.2.2 full")];
    let server = Scripted::with(&refusing);
    let error = send(config(&server, &["ops@example.org", "gone@example.org"])).await.unwrap_err();
    assert_eq!(error.code(), "notify/recipient");
    assert!(error.to_string().contains("gone@example.org: 550 5.1.1 no such user"), "{error}");
    assert!(!error.to_string().contains("ops@"), "{error}");
    assert!(server.heard().contains(&".".to_owned()), "the others got it");

    // Nobody got it: then it can be tried again.
    let server = Scripted::with(&refusing);
    let error = send(config(&server, &["gone@example.org", "full@example.org"])).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("notify/unreachable", Retry::Later));
    assert!(!server.heard().contains(&"DATA".to_owned()));
}

#[tokio::test]
async fn another_attempt_is_only_for_those_that_did_not_get_it() {
    let server = Scripted::with(&[("RCPT TO:<full@", "452 4.2.2 full")]);
    let channel = channel(config(&server, &["ops@example.org", "full@example.org"]));
    let message = Message::of(event(EventKind::Failed, 4));
    for attempt in 0..3 {
        let before = server.heard().len();
        let error = channel.notify(&message).await.unwrap_err();
        assert_eq!((error.code(), error.retry()), ("notify/unreachable", Retry::Later));
        assert!(error.to_string().contains("full@example.org: 452 4.2.2 full"), "{error}");
        let told_ops = server.heard()[before..].contains(&"RCPT TO:<ops@example.org>".to_owned());
        assert_eq!(told_ops, attempt == 0);
    }
    // Of another message nobody has got anything.
    channel.notify(&Message::of(event(EventKind::Failed, 5))).await.unwrap_err();
    assert_eq!(server.heard().iter().filter(|line| *line == "RCPT TO:<ops@example.org>").count(), 2);
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    for silent in ["greeting", "EHLO", "AUTH", "MAIL", "RCPT", "DATA", "."] {
        let server = Scripted::with(&[(silent, "")]);
        let mut config = config(&server, &["ops@example.org"]);
        config.login = password();
        config.timeout = Duration::from_millis(100);
        let error = send(config).await.unwrap_err();
        assert_eq!(error.code(), "notify/unreachable", "{silent}: {error}");
    }
}

#[tokio::test]
async fn a_letter_is_delivered_even_if_the_good_bye_fails() {
    let server = Scripted::with(&[("QUIT", "500 what")]);
    send(config(&server, &["ops@example.org"])).await.unwrap();
    assert!(server.heard().contains(&".".to_owned()));
}

/// Who waited for the good-bye could take the letter for lost, and send it again.
#[tokio::test]
async fn a_good_bye_that_does_not_come_is_not_waited_for() {
    let server = Scripted::with(&[("QUIT", "")]);
    let mut config = config(&server, &["ops@example.org"]);
    config.timeout = Duration::from_secs(3600);
    let sending = tokio::spawn(send(config));
    // On a busy machine it may be over before it is looked at.
    while server.heard().last().is_none_or(|line| line != "QUIT") && !sending.is_finished() {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    let began = Instant::now();
    sending.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_is_not_there_is_unreachable() {
    let server = Scripted::with(&[]);
    let mut config = config(&server, &["ops@example.org"]);
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    config.port = Some(free);
    let error = channel(config).check().await.unwrap_err();
    assert_eq!(error.code(), "notify/unreachable");
    assert!(!error.to_string().contains("127.0.0.1"), "{error}");
}

#[test]
fn what_could_not_work_is_refused_when_it_is_read() {
    let server_config = || {
        let to = vec!["ops@example.org".parse().unwrap()];
        EmailConfig::new("mail.example.org", "deploy@example.org".parse().unwrap(), to, "here.example")
    };
    let login = || Some(MailLogin::XOAuth2 { user: "u".into(), token: Credential::parse("env:T").unwrap() });
    let cases: [Case<'_>; 9] = [
        (
            &|config| {
                config.tls = Some(Tls::None);
                config.login = password();
            },
            "`tls`",
        ),
        (&|config| config.origin = "a.b".into(), "`origin`"),
        (&|config| config.to = Vec::new(), "recipients"),
        (&|config| config.to = vec!["a@b".parse().unwrap(); 51], "recipients"),
        (&|config| config.host = "mail example".into(), "`host`"),
        (&|config| config.helo = "a\r\nMAIL FROM:<x@y>".into(), "`helo`"),
        (&|config| config.helo = String::new(), "`helo`"),
        (&|config| config.ca_file = Some("/no/such/file".into()), "/no/such/file"),
        (
            &|config| {
                let password = Credential::parse("env:P").unwrap();
                config.login = Some(MailLogin::Password { user: "a\nb".into(), password });
            },
            "`user`",
        ),
    ];
    for (change, named) in cases {
        let mut config = server_config();
        change(&mut config);
        let error = Email::new(setup("mail", Known::of(&[])), config).unwrap_err();
        assert_eq!(error.code(), "notify/config");
        assert!(error.to_string().contains(named), "{error}");
    }
    assert!(Email::new(setup("mail", Known::of(&[])), server_config()).is_ok());
    // Nobody listens on this very machine.
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        let config =
            EmailConfig { host: host.into(), login: login(), tls: Some(Tls::None), ..server_config() };
        assert!(Email::new(setup("mail", Known::of(&[])), config).is_ok(), "{host}");
    }
    assert_eq!(["implicit", "none"].map(str::parse), [Ok(Tls::Implicit), Ok(Tls::None)]);
    assert!("STARTTLS, perhaps".parse::<Tls>().is_err());
}
