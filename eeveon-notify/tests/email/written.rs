//! What a letter looks like on the wire.

use eeveon_notify::{Email, EventKind, Markup, Message, Notifier, Template};
use mail_parser::MessageParser;

use crate::{
    answers::config,
    scripted::Scripted,
    sending::{Known, event, setup},
};

/// Sends a letter by a channel of `origin`, and returns its headers.
async fn headers(origin: &str, event: eeveon_notify::Event) -> Vec<(String, String)> {
    let server = Scripted::with(&[]);
    let mut config = config(&server, &["ops@example.org"]);
    config.origin = origin.to_owned();
    let channel = Email::new(setup("mail", Known::of(&[])), config).unwrap();
    channel.notify(&Message::of(event)).await.unwrap();
    let heard = server.heard();
    let letter = heard.iter().skip_while(|line| *line != "DATA").skip(1).take_while(|line| !line.is_empty());
    let headers = letter.filter_map(|line| line.split_once(": "));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_str())
}

#[tokio::test]
async fn threads_of_two_installations_do_not_mix_and_a_test_begins_none() {
    let mut roots = Vec::new();
    for origin in ["0a1b", "ffff"] {
        let mut subjects = std::collections::BTreeSet::new();
        for kind in EventKind::ALL.into_iter().filter(|kind| *kind != EventKind::Test) {
            let headers = headers(origin, event(kind, 4)).await;
            subjects.insert(header(&headers, "Subject").unwrap().to_owned());
            let root = header(&headers, "References").unwrap().to_owned();
            assert_eq!(header(&headers, "In-Reply-To"), Some(root.as_str()));
            assert_ne!(header(&headers, "Message-ID"), Some(root.as_str()));
            roots.push(root);
        }
        assert_eq!(subjects.len(), 1, "{subjects:?}");
    }
    roots.dedup();
    assert_eq!(roots, ["<shop-7.0a1b@here.example>", "<shop-7.ffff@here.example>"]);
    let mut test = event(EventKind::Test, 4);
    test.deployment = eeveon_core::DeploymentId::default();
    let headers = headers("0a1b", test).await;
    assert_eq!(header(&headers, "References"), None, "{headers:?}");
    assert_eq!(header(&headers, "Subject"), Some("shop: a test message, nothing happened"));
}

/// Sends, and returns the lines of the letter as they were said.
async fn lines(server: &Scripted, template: Option<&str>) -> Vec<String> {
    let mut setup = setup("mail", Known::of(&[]));
    setup.templates.every = template.map(|source| Template::parse("mail", Markup::Plain, source).unwrap());
    let channel = Email::new(setup, config(server, &["Läden <ops@example.org>", "dev@example.org"])).unwrap();
    channel.notify(&Message::of(event(EventKind::Failed, 4))).await.unwrap();
    let heard = server.heard();
    let begin = heard.iter().position(|line| line == "DATA").unwrap() + 1;
    let end = heard.iter().position(|line| line == ".").unwrap();
    heard[begin..end].to_vec()
}

#[tokio::test]
async fn the_envelope_is_plain() {
    let server = Scripted::with(&[]);
    let letter = lines(&server, None).await;
    let heard = server.heard();
    assert_eq!(heard[0], "EHLO here.example");
    assert_eq!(
        heard[1..4],
        ["MAIL FROM:<deploy@example.org>", "RCPT TO:<ops@example.org>", "RCPT TO:<dev@example.org>"]
    );
    assert_eq!(heard.last().unwrap(), "QUIT");
    // RFC 5322, 2.1.1; and the body has to pass where only seven bits do.
    assert!(letter.iter().all(|line| line.len() <= 998 && line.is_ascii()), "{letter:?}");
}

#[tokio::test]
async fn html_loads_nothing_and_is_escaped() {
    let server = Scripted::with(&[]);
    let letter = lines(&server, None).await.join("\r\n");
    let parsed = MessageParser::default().parse(letter.as_bytes()).unwrap();
    let html = parsed.body_html(0).unwrap();
    assert!(html.contains("Sell &lt;umbrellas&gt; &amp; &quot;boots&quot;"), "{html}");
    assert!(html.contains("<a href=\"https://deploy.example.org/shop/7\">"), "{html}");
    for remote in ["<script", "<img", "<link", "<iframe", "src=", "url(", "@import"] {
        assert!(!html.contains(remote), "{remote}: {html}");
    }
    assert!(html.contains("color-scheme"));
}

#[tokio::test]
async fn a_template_is_both_parts() {
    let server = Scripted::with(&[]);
    let letter = lines(&server, Some("{{ project }} <b>: {{ subject }}")).await.join("\r\n");
    let parsed = MessageParser::default().parse(letter.as_bytes()).unwrap();
    let text = parsed.body_text(0).unwrap();
    assert_eq!(text.trim_end(), "shop <b>: Sell <umbrellas> & \"boots\"");
    let html = parsed.body_html(0).unwrap();
    assert!(html.contains("shop &lt;b&gt;: Sell &lt;umbrellas&gt;"), "{html}");
}
