//! Writes a letter: headers that make one deployment one thread, plain text, and HTML that loads
//! nothing and reads well on light and on dark.
//!
//! Source: RFC 5322, <https://www.rfc-editor.org/rfc/rfc5322>; RFC 3834 for `Auto-Submitted`

use eeveon_core::Kind;
use mail_send::mail_builder::{
    MessageBuilder,
    headers::{address::Address, date::Date, raw::Raw},
};

use super::{Email, Mailbox};
use crate::{
    Event, Level, Markup, Message, NotifyError,
    text::shorten,
    wording::{Fact, Wording},
};

/// How long a subject may be, in UTF-16 code units: encoded it still is far from the 998 bytes a
/// line may have (RFC 5322, 2.1.1), and it is folded besides.
const SUBJECT: usize = 150;

/// Writes the letter that tells of `message`. The same message is the same letter every time, but
/// for the boundary between its parts.
pub(super) fn letter(email: &Email, message: &Message) -> Result<Vec<u8>, NotifyError> {
    let channel = &email.server.channel;
    let words = Wording::of(&message.event);
    let (text, html) = match email.templates.render(channel, &message.event) {
        Some(own) => (own.clone(), page(&words, &preformatted(&own))),
        None => (text(&words), page(&words, &table(&words))),
    };
    let host = &email.server.helo;
    let id = format!("{}@{host}", message.id());
    let mut letter = MessageBuilder::new()
        .from(address(&email.from))
        .to(Address::new_list(email.to.iter().map(address).collect()))
        .subject(shorten(&subject(&message.event, &words), SUBJECT))
        .date(Date::new(message.event.at.as_second()))
        .message_id(id)
        .header("Auto-Submitted", Raw::new("auto-generated"))
        .text_body(text)
        .html_body(html);
    if message.event.has_deployment() {
        // No letter has this id. Mail programs gather those that refer to the same one, wherever a
        // thread begins: a channel need not be told of every event. RFC 5256, 3.
        let origin = if email.origin.is_empty() { String::new() } else { format!(".{}", email.origin) };
        let thread = format!("{}{origin}@{host}", message.thread());
        letter = letter.in_reply_to(thread.clone()).references(thread);
    }
    letter.write_to_vec().map_err(|error| NotifyError::Config {
        channel: channel.clone(),
        why: format!("no letter could be written: {error}"),
    })
}

/// Returns the subject: the same for all letters about one deployment, for some mail programs gather
/// letters only then (<https://support.google.com/mail/answer/5900>). What happened is the first line.
fn subject(event: &Event, words: &Wording) -> String {
    let Event { project, deployment, release, .. } = event;
    match (event.has_deployment(), event.operation) {
        (false, _) => words.title.clone(),
        (true, Kind::Deploy) => format!("{project}: release {release} (deployment {deployment})"),
        (true, Kind::Rollback) => format!("{project}: back to release {release} (deployment {deployment})"),
    }
}

fn address(mailbox: &Mailbox) -> Address<'_> {
    Address::new_address(mailbox.name(), mailbox.address())
}

fn text(words: &Wording) -> String {
    let mut text = format!("{}\n\n", words.title);
    for Fact { name, value, .. } in &words.facts {
        // Further lines are set in, so that none can look like another fact.
        text.push_str(&format!("{name}: {}\n", value.replace('\n', "\n    ")));
    }
    if let Some(link) = &words.link {
        text.push_str(&format!("\n{link}\n"));
    }
    text
}

fn table(words: &Wording) -> String {
    let mut rows = String::new();
    for Fact { name, value, .. } in &words.facts {
        let value = Markup::Html.escape(value);
        rows.push_str(&format!("<tr><th>{name}</th><td>{value}</td></tr>\n"));
    }
    let link = words.link.as_deref().map(|link| {
        let link = Markup::Html.escape(link);
        format!("<p><a href=\"{link}\">{link}</a></p>\n")
    });
    format!("<table>\n{rows}</table>\n{}", link.unwrap_or_default())
}

fn preformatted(text: &str) -> String {
    format!("<div class=\"own\">{}</div>\n", Markup::Html.escape(text))
}

/// Returns a page. Text has the reader's colours; only the bar beside the title has one of its own,
/// which stands out from white and from black.
fn page(words: &Wording, content: &str) -> String {
    let bar = match words.level {
        Level::Success => "#2da44e",
        Level::Failure => "#e5484d",
        Level::Warning => "#d98a00",
        Level::Info => "#4c8dff",
    };
    let title = Markup::Html.escape(&words.title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title>\n\
         <style>:root{{color-scheme:light dark}}body{{font:15px/1.5 sans-serif}}\
         h1{{font-size:18px;padding-left:10px}}th{{text-align:left;vertical-align:top;\
         padding-right:16px;font-weight:600}}td,.own{{white-space:pre-wrap;word-break:break-word}}\
         </style></head><body>\n\
         <h1 style=\"border-left:4px solid {bar}\">{title}</h1>\n{content}</body></html>\n"
    )
}
