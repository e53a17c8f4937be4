//! Text from outside: commit messages, author and branch names, file names, build output.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Text someone else wrote. It has no `Display`: each sink (terminal, JSON, page) asks for the form
/// that is harmless there.
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Untrusted(String);

impl Untrusted {
    /// Wraps bytes; what is not UTF-8 becomes U+FFFD.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Returns the text as it came. Never hand this to a person's screen.
    pub fn as_raw(&self) -> &str {
        &self.0
    }

    /// Returns the text on one line, with everything a terminal could act on written out.
    pub fn for_terminal(&self) -> String {
        printable(&self.0)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Untrusted({:?})", printable(&self.0))
    }
}

/// Writes out every character of `text` that a terminal acts on or that hides or reorders others:
/// C0 and C1 controls (so CSI and OSC sequences lose their introducer), bidirectional controls,
/// zero-width and other invisible characters. The result has no line break; a tab becomes a space.
///
/// The classes are those of Unicode 16, general categories Cc and Cf, the line and paragraph
/// separators, and the tag block.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            c if is_hazard(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// Tells whether a terminal or a reader could be misled by `c`.
pub fn is_hazard(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}'
        | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escape_sequences_lose_their_teeth() {
        assert_eq!(printable("a\u{1b}]8;;http://x\u{7}b"), "a\\u{1b}]8;;http://x\\u{7}b");
        assert_eq!(printable("\u{9b}2J \u{202e}cba"), "\\u{9b}2J \\u{202e}cba");
        assert_eq!(printable("naïve 日本語 🙂"), "naïve 日本語 🙂");
    }

    proptest! {
        #[test]
        fn nothing_hazardous_remains(text in "\\PC*|.*") {
            prop_assert!(!printable(&text).chars().any(is_hazard));
        }
    }
}
