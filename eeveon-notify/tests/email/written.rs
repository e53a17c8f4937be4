//! What a letter looks like on the wire.

use eeveon_notify::{Email, EventKind, Markup, Message, Notifier, Template};
use mail_parser::MessageParser;

use crate::{
    answers::config,
    scripted::Scripted,
    sending::{Known, event, setup},
};

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
