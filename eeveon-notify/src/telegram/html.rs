//! The HTML Telegram reads: for anything else it refuses the whole message, so that is found before.

/// The tags Telegram reads, <https://core.telegram.org/bots/api#html-style>.
const TAGS: [&str; 16] = [
    "b",
    "strong",
    "i",
    "em",
    "u",
    "ins",
    "s",
    "strike",
    "del",
    "span",
    "tg-spoiler",
    "a",
    "tg-emoji",
    "code",
    "pre",
    "blockquote",
];

/// What is said of other tags.
const UNKNOWN: &str = "is no tag Telegram knows";

/// Returns the tag, attribute or entity in `html` for which Telegram would refuse the whole message, and why.
pub(crate) fn flaw(html: &str) -> Option<(&str, String)> {
    let mut open = Vec::new();
    let mut rest = html;
    while let Some((at, mark)) = rest.match_indices(['<', '&']).next() {
        let end = if mark == "<" { '>' } else { ';' };
        let found = rest.get(at.saturating_add(1)..).and_then(|found| found.split_once(end));
        let Some((inside, after)) = found else {
            return Some((mark, "begins no tag and no entity".to_owned()));
        };
        if mark == "&" {
            let number = inside
                .strip_prefix('#')
                .is_some_and(|it| it.bytes().all(|b| b.is_ascii_hexdigit() || b == b'x'));
            if !number && !matches!(inside, "lt" | "gt" | "amp" | "quot") {
                return Some((mark, "begins no entity Telegram knows".to_owned()));
            }
        } else if let Some(name) = inside.strip_prefix('/').map(str::trim_end) {
            if !TAGS.contains(&name) {
                return Some((name, UNKNOWN.to_owned()));
            }
            if open.pop() != Some(name) {
                return Some((name, "is closed where it is not the last one open".to_owned()));
            }
        } else {
            let (name, attributes) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
            if !TAGS.contains(&name) {
                return Some((name, UNKNOWN.to_owned()));
            }
            if let Some(flaw) = flaw_of_attributes(name, attributes) {
                return Some(flaw);
            }
            open.push(name);
        }
        rest = after;
    }
    open.pop().map(|name| (name, "is not closed".to_owned()))
}

/// Returns what is wrong with what stands in a tag behind its name.
fn flaw_of_attributes<'a>(tag: &'a str, attributes: &'a str) -> Option<(&'a str, String)> {
    let mut names = Vec::new();
    let mut rest = attributes.trim_start();
    while let Some(word) = rest.split_whitespace().next() {
        rest = match attribute(rest) {
            Some((name, value, after)) => {
                let why = match (tag, name) {
                    ("a", "href") | ("code", "class") => None,
                    ("span", "class") => (value != "tg-spoiler").then_some("can only be \"tg-spoiler\""),
                    ("tg-emoji", "emoji-id") => value.parse::<u64>().is_err().then_some("is a number"),
                    _ => return Some((name, format!("is no attribute of `{tag}` that Telegram knows"))),
                };
                if let Some(why) = why {
                    return Some((name, format!("of `{tag}` {why}")));
                }
                names.push(name);
                after
            }
            // The only one without a value.
            None if (tag, word) == ("blockquote", "expandable") => rest.strip_prefix(word)?,
            None => return Some((word, "is no name=\"value\"".to_owned())),
        }
        .trim_start();
    }
    match tag {
        "span" if names.is_empty() => Some((tag, "lacks class=\"tg-spoiler\"".to_owned())),
        "tg-emoji" if names.is_empty() => Some((tag, "lacks emoji-id=\"...\"".to_owned())),
        _ => None,
    }
}

/// Reads the name and value of an attribute at the beginning of `text`, and what is behind it.
fn attribute(text: &str) -> Option<(&str, &str, &str)> {
    let (name, behind) = text.split_once('=')?;
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let quote = behind.chars().next().filter(|it| matches!(it, '"' | '\''))?;
    let (value, after) = behind.strip_prefix(quote)?.split_once(quote)?;
    is_name.then_some((name, value, after))
}

/// Tells whether nothing is left of `html`, which has no [`flaw`], once its tags were read: Telegram
/// refuses that as empty.
pub(crate) fn is_empty(html: &str) -> bool {
    let mut parts = html.split('<');
    let before = parts.next().unwrap_or_default();
    let behind = parts.filter_map(|part| part.split_once('>')).map(|(_, text)| text);
    std::iter::once(before).chain(behind).all(|text| text.trim().is_empty())
}
