//! JSON that is harmless to print: what a terminal or a reader could be misled by is escaped.

use std::io;

use eeveon_core::untrusted::is_hazard;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

struct Harmless(CompactFormatter);

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, text: &str) -> io::Result<()> {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hazard(*c)) {
            let (before, after) = rest.split_at(at);
            self.0.write_string_fragment(writer, before)?;
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = after.get(c.len_utf8()..).unwrap_or_default();
        }
        self.0.write_string_fragment(writer, rest)
    }
}

/// Returns `document` as JSON on one line. Strings survive a parser unchanged.
pub(super) fn to_line(document: &impl Serialize) -> String {
    let mut line = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut line, Harmless(CompactFormatter));
    match document.serialize(&mut serializer) {
        Ok(()) => String::from_utf8(line).unwrap_or_default(),
        // Only maps with keys that are no strings get here, and there are none in what is shown.
        Err(error) => format!("{{\"error\":\"{error}\"}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_harmless_and_survive() {
        let text = "a\u{1b}[2J\u{9b}\u{202e}ü🙂\u{e0001}\n";
        let line = to_line(&text);
        assert!(!line.chars().any(is_hazard), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
    }
}
