//! Against a real mail server: what lies in the mailbox afterwards.

use std::collections::BTreeSet;

use eeveon_core::Diagnose;
use eeveon_notify::{
    Credential, Email, EmailConfig, EventKind, MailLogin, Markup, Message, Notifier, Tls, Wording,
};
use eeveon_testkit::{
    notify::hostile_texts,
    servers::{Postfix, Validity},
    skip_unless,
};
use mail_parser::{HeaderValue, MessageParser};

use crate::sending::{Known, event, setup, written_by_others};

fn config(server: &Postfix, to: &[&str]) -> EmailConfig {
    let to = to.iter().map(|it| it.parse().unwrap()).collect();
    let from = "EEveon, Läden <deploy@example.org>".parse().unwrap();
    let mut config = EmailConfig::new("localhost", from, to, "here.example");
    config.port = Some(server.port());
    config.tls = Some(Tls::Starttls);
    config.ca_file = Some(server.ca_file());
    config.login = Some(MailLogin::Password {
        user: server.user(),
        password: Credential::parse("env:PASSWORD").unwrap(),
    });
    config
}

fn channel(config: EmailConfig, password: &str) -> Email {
    Email::new(setup("mail", Known::of(&[("PASSWORD", password)])), config).unwrap()
}

#[tokio::test]
async fn two_messages_of_one_deployment_are_one_thread() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    let mut config = config(&server, &["Ops <ops@example.org>"]);
    config.origin = "0a1b2c3d".into();
    let channel = channel(config, server.password());
    for (kind, seq) in [(EventKind::Started, 0), (EventKind::Failed, 9)] {
        channel.notify(&Message::of(event(kind, seq))).await.unwrap();
    }
    let letters = server.mailbox("ops", 2).unwrap();
    let mut letters: Vec<_> = letters.iter().map(|it| MessageParser::default().parse(it).unwrap()).collect();
    letters.sort_by_key(|letter| letter.message_id().unwrap().contains("failed"));
    let ids: BTreeSet<&str> = letters.iter().map(|letter| letter.message_id().unwrap()).collect();
    assert_eq!(
        ids,
        BTreeSet::from([
            "shop-7-0-started-1772368245500@here.example",
            "shop-7-9-failed-1772368245500@here.example"
        ])
    );
    for letter in &letters {
        let root = HeaderValue::Text("shop-7.0a1b2c3d@here.example".into());
        assert_eq!((letter.in_reply_to(), letter.references()), (&root, &root));
        // Gmail gathers letters only when their subjects are the same as well.
        assert_eq!(letter.subject(), Some("shop: release 12 (deployment 7)"));
        let from = letter.from().and_then(|from| from.first()).unwrap();
        assert_eq!((from.name(), from.address()), (Some("EEveon, Läden"), Some("deploy@example.org")));
        let to = letter.to().and_then(|to| to.first()).unwrap();
        assert_eq!((to.name(), to.address()), (Some("Ops"), Some("ops@example.org")));
        assert_eq!(letter.date().unwrap().to_rfc3339(), "2026-03-01T12:30:45Z");
        assert_eq!(letter.header("Auto-Submitted").unwrap().as_text(), Some("auto-generated"));
    }
    let failed = &letters[1];
    let (text, html) = (failed.body_text(0).unwrap(), failed.body_html(0).unwrap());
    assert!(text.starts_with("shop: release 12 failed, release 11 still serves"), "{text}");
    for told in [
        "0123456",
        "Zoë Ödegård",
        "main",
        "health/unhealthy",
        "the release does not answer",
        "look at its log",
    ] {
        assert!(text.contains(told), "{told}: {text}");
        assert!(html.contains(told), "{told}: {html}");
    }
    assert!(text.contains("Sell <umbrellas> & \"boots\""), "{text}");
    assert!(html.contains("Sell &lt;umbrellas&gt; &amp; &quot;boots&quot;"), "{html}");
}

#[tokio::test]
async fn implicit_tls_reaches_everybody() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    let mut config = config(&server, &["ops@example.org", "dev@example.org"]);
    config.host = "127.0.0.1".into();
    config.port = Some(server.implicit_port());
    config.tls = Some(Tls::Implicit);
    let channel = channel(config, server.password());
    assert_eq!(channel.check().await.unwrap(), "the mail server answers and accepts the login");
    channel.notify(&Message::of(event(EventKind::Succeeded, 9))).await.unwrap();
    let (ops, dev) = (server.mailbox("ops", 1).unwrap(), server.mailbox("dev", 1).unwrap());
    for letter in [&ops[0], &dev[0]] {
        let letter = MessageParser::default().parse(letter).unwrap();
        assert!(letter.body_text(0).unwrap().starts_with("shop: release 12 is live"));
        assert_eq!(letter.to().unwrap().iter().count(), 2);
    }
}

#[tokio::test]
async fn either_way_of_telling_a_password_will_do() {
    skip_unless!(Postfix::available());
    for mechanism in ["PLAIN", "LOGIN"] {
        let server = Postfix::offering(Validity::Good, mechanism).unwrap();
        let right = channel(config(&server, &["ops@example.org"]), server.password());
        right.notify(&Message::of(event(EventKind::Succeeded, 9))).await.unwrap();
        assert_eq!(server.mailbox("ops", 1).unwrap().len(), 1, "{mechanism}");
        let wrong = channel(config(&server, &["ops@example.org"]), "wr0ng-pa55word");
        assert_eq!(wrong.check().await.unwrap_err().code(), "notify/login", "{mechanism}");
        // A token is of no use to it.
        let mut config = config(&server, &["ops@example.org"]);
        let token = Credential::parse("env:PASSWORD").unwrap();
        config.login = Some(MailLogin::XOAuth2 { user: server.user(), token });
        let error = channel(config, "t0ken").check().await.unwrap_err();
        assert_eq!(error.code(), "notify/config", "{mechanism}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_password_is_a_matter_of_login() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    let wrong = channel(config(&server, &["ops@example.org"]), "wr0ng-pa55word");
    for error in [
        wrong.check().await.unwrap_err(),
        wrong.notify(&Message::of(event(EventKind::Failed, 9))).await.unwrap_err(),
    ] {
        assert_eq!(error.code(), "notify/login", "{error}");
        assert!(!format!("{error} {error:?} {wrong:?}").contains("wr0ng"), "{error}");
    }
    let mut without = config(&server, &["ops@example.org"]);
    without.login = None;
    let error = channel(without, "").notify(&Message::of(event(EventKind::Failed, 9))).await.unwrap_err();
    assert!(error.to_string().contains("ops@example.org"), "{error}");
    assert_eq!(error.code(), "notify/recipient");
    assert!(server.mailbox("ops", 0).unwrap().is_empty());
}

#[tokio::test]
async fn a_recipient_that_does_not_exist_is_named_and_the_others_get_it() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    let message = Message::of(event(EventKind::Failed, 9));
    let some = channel(config(&server, &["nobody@example.org", "dev@example.org"]), server.password());
    let error = some.notify(&message).await.unwrap_err();
    assert_eq!(error.code(), "notify/recipient");
    assert!(error.to_string().contains("nobody@example.org: 550 5.1.1"), "{error}");
    assert_eq!(server.mailbox("dev", 1).unwrap().len(), 1);

    let all = channel(config(&server, &["nobody@example.org"]), server.password());
    assert_eq!(all.notify(&message).await.unwrap_err().code(), "notify/recipient");
}

#[tokio::test]
async fn certificates_are_checked() {
    skip_unless!(Postfix::available());
    let message = Message::of(event(EventKind::Failed, 9));
    let expired = Postfix::start(Validity::Expired).unwrap();
    for implicit in [false, true] {
        let mut config = config(&expired, &["ops@example.org"]);
        if implicit {
            config.port = Some(expired.implicit_port());
            config.tls = Some(Tls::Implicit);
        }
        let error = channel(config, expired.password()).notify(&message).await.unwrap_err();
        assert_eq!(error.code(), "notify/certificate", "{error}");
        assert!(error.to_string().contains("expired"), "{error}");
    }
    let server = Postfix::start(Validity::Good).unwrap();
    let mut unknown = config(&server, &["ops@example.org"]);
    unknown.ca_file = None;
    let error = channel(unknown, server.password()).check().await.unwrap_err();
    assert_eq!(error.code(), "notify/certificate", "{error}");
    assert!(server.mailbox("ops", 0).unwrap().is_empty());
}

#[tokio::test]
async fn whatever_others_wrote_arrives_and_parses() {
    skip_unless!(Postfix::available());
    let server = Postfix::start(Validity::Good).unwrap();
    let channel = channel(config(&server, &["ops@example.org"]), server.password());
    let mut strings = hostile_texts();
    // What could end a letter early, or begin another header.
    strings.extend(
        [
            "x\r\nBcc: victim@example.org\r\n\r\nbody",
            "x\r.\r\nMAIL FROM:<a@b>\r\n",
            ".\r\n.\r\nQUIT\r\n",
            "=?utf-8?B?4pyT?= =?utf-8?Q?=0D=0ABcc:x?=",
            "\n--=_boundary--\n",
        ]
        .map(str::to_owned),
    );
    for (seq, text) in strings.iter().enumerate() {
        channel.notify(&Message::of(written_by_others(text, seq as u64))).await.unwrap();
    }
    let mut seen = BTreeSet::new();
    for letter in server.mailbox("ops", strings.len()).unwrap() {
        let parsed = MessageParser::default().parse(&letter).unwrap();
        assert_eq!(parsed.subject(), Some("shop: release 12 (deployment 7)"));
        assert_eq!(parsed.to().unwrap().iter().count(), 1);
        assert!(parsed.bcc().is_none() && parsed.cc().is_none());
        assert_eq!((parsed.text_body_count(), parsed.html_body_count()), (1, 1));
        assert_eq!(parsed.attachment_count(), 0);
        let html = parsed.body_html(0).unwrap();
        assert!(!html.contains("<script") && !html.contains("<img"), "{html}");
        let id = parsed.message_id().unwrap();
        let seq: usize = id.split('-').nth(2).unwrap().parse().unwrap();
        let text = parsed.body_text(0).unwrap().replace("\r\n", "\n");
        for fact in Wording::of(&written_by_others(&strings[seq], seq as u64)).facts {
            let told = format!("{}: {}\n", fact.name, fact.value.replace('\n', "\n    "));
            assert!(text.contains(&told), "{told:?}: {text:?}");
            let told = Markup::Html.escape(&fact.value);
            assert!(html.replace("\r\n", "\n").contains(&told), "{told:?}: {html:?}");
        }
        assert!(text.contains("https://deploy.example.org/shop/7"));
        assert!(letter.len() < 64 * 1024, "{} bytes", letter.len());
        seen.insert(seq);
    }
    assert_eq!(seen.len(), strings.len());
}
