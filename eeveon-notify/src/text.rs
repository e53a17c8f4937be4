//! Text from outside on its way into a message: made one line, made short, and escaped for the
//! markup it lands in. Shortening comes first, so that no escape is ever cut.

use eeveon_core::untrusted::printable;
use reqwest::Url;

/// What a service makes of text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Markup {
    /// Nothing: text is shown as it is.
    Plain,
    /// Slack's mrkdwn, <https://docs.slack.dev/messaging/formatting-message-text>. It knows no
    /// escape for `*`, `_` and the like; they can change how a text looks and no more.
    SlackMrkdwn,
    /// Discord's Markdown.
    DiscordMarkdown,
    /// The HTML Telegram reads, <https://core.telegram.org/bots/api#html-style>.
    TelegramHtml,
    /// HTML as browsers and mail programs read it.
    Html,
}

impl Markup {
    /// Returns `text` so that it is shown as it is, wherever it stands.
    pub fn escape(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len().saturating_add(16));
        for (at, c) in text.char_indices() {
            match self {
                Self::Plain => out.push(c),
                Self::SlackMrkdwn => match c {
                    '&' | '<' | '>' => out.push_str(entity(c)),
                    c => out.push(c),
                },
                Self::TelegramHtml | Self::Html => match c {
                    '&' | '<' | '>' | '"' | '\'' => out.push_str(entity(c)),
                    c => out.push(c),
                },
                Self::DiscordMarkdown => {
                    let always = matches!(
                        c,
                        '\\' | '*' | '_' | '~' | '`' | '|' | '<' | '>' | '[' | ']' | '(' | ')' | '@' | ':'
                    );
                    // These mean something at the beginning of a line only.
                    let begins = text.get(..at).is_some_and(|before| before.trim_end_matches(' ').is_empty())
                        || text.get(..at).is_some_and(|before| before.ends_with('\n'));
                    if always || (begins && matches!(c, '#' | '-' | '+')) {
                        out.push('\\');
                    }
                    out.push(c);
                }
            }
        }
        out
    }

    /// Returns how long a whole message of a template may be, as [`units`] counts. The channels
    /// say where their number comes from.
    pub(crate) fn limit(self) -> usize {
        match self {
            Self::Plain => 4000,
            Self::SlackMrkdwn => crate::slack::TEXT_UNITS,
            Self::DiscordMarkdown => crate::discord::DESCRIPTION_UNITS,
            Self::TelegramHtml => crate::telegram::TEXT_UNITS,
            Self::Html => 64 * 1024,
        }
    }
}

fn entity(c: char) -> &'static str {
    match c {
        '&' => "&amp;",
        '<' => "&lt;",
        '>' => "&gt;",
        '"' => "&quot;",
        _ => "&#39;",
    }
}

/// Counts as the strictest service does: UTF-16 code units are never fewer than characters.
pub(crate) fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Makes text from outside one line of at most `max` [`units`], with everything written out that
/// hides or reorders what stands beside it.
pub(crate) fn line(raw: &str, max: usize) -> String {
    // What is not going to be shown need not be looked at; hidden characters only get longer.
    let head: String = raw.chars().take(max.saturating_add(1)).collect();
    let words: Vec<&str> = head.split(['\n', '\r', '\t', '\u{b}', '\u{c}', '\u{85}']).collect();
    let cut = raw.len() > head.len();
    let text = words.iter().map(|it| it.trim()).filter(|it| !it.is_empty()).collect::<Vec<_>>().join(" ");
    let mut text = printable(&text);
    if cut {
        text.push('…');
    }
    shorten(&text, max)
}

/// Makes text from outside lines of at most `max` [`units`] in all. Line breaks stay.
pub(crate) fn lines(raw: &str, max: usize) -> String {
    let head: String = raw.chars().take(max.saturating_add(1)).collect();
    let cut = raw.len() > head.len();
    let kept: Vec<String> =
        head.lines().map(|it| printable(it.trim_end())).filter(|it| !it.is_empty()).collect();
    let mut text = kept.join("\n");
    if cut {
        text.push('…');
    }
    shorten(&text, max)
}

/// Cuts a text to at most `max` [`units`], the last of them an ellipsis.
pub(crate) fn shorten(text: &str, max: usize) -> String {
    if units(text) <= max {
        return text.to_owned();
    }
    let mut room = max.saturating_sub(1);
    let kept = text.chars().take_while(|c| match room.checked_sub(c.len_utf16()) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    });
    let mut short: String = kept.collect();
    short.truncate(short.trim_end().len());
    if max > 0 {
        short.push('…');
    }
    short
}

/// Returns the longest beginning of `text`, roughly, that `finish` turns into something of at most
/// `max` [`units`]. What is cut is the text, never what `finish` made of it.
pub(crate) fn fitted(text: &str, max: usize, finish: impl Fn(&str) -> String) -> String {
    let mut length = units(text);
    loop {
        let finished = finish(&shorten(text, length));
        if units(&finished) <= max || length == 0 {
            return finished;
        }
        length = length.saturating_mul(7) / 8;
    }
}

/// Returns an address people may follow, in a form no markup can mistake for anything else. `None`
/// if it is not one of the web.
pub(crate) fn link(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"))?;
    let mut out = String::new();
    for c in url.as_str().chars() {
        match c {
            '|' | '(' | ')' | '[' | ']' | '*' | '_' | '~' | '`' | '\'' | '"' | '<' | '>' | '\\' => {
                out.push_str(&format!("%{:02X}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    // The shortest limit on a link is Discord's: 2048.
    (out.len() <= 2000).then_some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markup_loses_its_meaning() {
        assert_eq!(Markup::SlackMrkdwn.escape("<!channel> &amp;"), "&lt;!channel&gt; &amp;amp;");
        assert_eq!(Markup::TelegramHtml.escape("<b>\"'"), "&lt;b&gt;&quot;&#39;");
        assert_eq!(
            Markup::DiscordMarkdown.escape("@everyone [a](https://b) *c*"),
            "\\@everyone \\[a\\]\\(https\\://b\\) \\*c\\*"
        );
        assert_eq!(Markup::DiscordMarkdown.escape("- a-b"), "\\- a-b");
        assert_eq!(Markup::DiscordMarkdown.escape("a\n# b"), "a\n\\# b");
    }

    #[test]
    fn a_line_is_one_line_and_shows_what_hides() {
        assert_eq!(line("fix\r\n\r\nall of it\t!", 99), "fix all of it !");
        assert_eq!(line("a\u{202e}b", 99), "a\\u{202e}b");
        assert_eq!(line(&"x".repeat(20_000), 5), "xxxx…");
        assert_eq!(lines("a\n\nb\u{7}", 99), "a\nb\\u{7}");
    }

    #[test]
    fn links_are_web_addresses_without_markup() {
        assert_eq!(link("https://e.org/a_b?c=(d)|e"), Some("https://e.org/a%5Fb?c=%28d%29%7Ce".into()));
        for bad in [
            "javascript:alert(1)",
            "e.org",
            "",
            "file:///etc/passwd",
            &format!("https://e/{}", "x".repeat(2000)),
        ] {
            assert_eq!(link(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_longer_than_it_may_be(text in any::<String>(), max in 0_usize..50) {
            prop_assert!(units(&line(&text, max)) <= max);
            prop_assert!(units(&lines(&text, max)) <= max);
            prop_assert!(!line(&text, max).contains('\n'));
            prop_assert!(units(&shorten(&text, max)) <= max);
            if units(&text) <= max {
                prop_assert_eq!(shorten(&text, max), text);
            }
        }

        #[test]
        fn html_has_no_markup_left(text in any::<String>()) {
            let escaped = Markup::Html.escape(&text);
            prop_assert!(!escaped.contains(['<', '>', '"', '\'']));
            let back = escaped.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"")
                .replace("&#39;", "'").replace("&amp;", "&");
            prop_assert_eq!(back, text);
        }
    }
}
