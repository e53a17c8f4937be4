//! An e-mail address with the name of whose it is.

use std::{fmt, str::FromStr};

/// How long a display name may be, in characters.
const NAME_CHARS: usize = 100;

/// Somebody's address, such as `EEveon <deploy@example.org>`. Can stand in a header and after
/// `RCPT TO` as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mailbox {
    name: Option<String>,
    address: String,
}

impl Mailbox {
    /// Returns the display name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the address.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl FromStr for Mailbox {
    type Err = String;

    /// Reads `NAME <ADDRESS>` or `ADDRESS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (name, address) = match text.strip_suffix('>').and_then(|it| it.rsplit_once('<')) {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", text),
        };
        if name.chars().any(char::is_control) || name.chars().count() > NAME_CHARS {
            return Err(format!("a name has at most {NAME_CHARS} characters, and no control characters"));
        }
        match is_address(address) {
            true => {
                Ok(Self { name: (!name.is_empty()).then(|| name.to_owned()), address: address.to_owned() })
            }
            false => Err(format!(
                "`{}` is no e-mail address: write name@example.org, or Name <name@example.org>",
                address.chars().take(80).flat_map(char::escape_default).collect::<String>()
            )),
        }
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Tells whether `text` is an address in the plain form every server takes: a dot-atom of ASCII on
/// either side of the `@`, in the lengths of RFC 5321, 4.5.3.1.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let atoms = |text: &str, allowed: fn(u8) -> bool| {
        text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(allowed))
    };
    text.len() <= 254
        && local.len() <= 64
        && atoms(local, |b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        && atoms(domain, |b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let plain: Mailbox = "ops@example.org".parse().unwrap();
        assert_eq!((plain.name(), plain.address()), (None, "ops@example.org"));
        let named: Mailbox = " \"Läden, Nord\" <ops+x@a.example.org> ".parse().unwrap();
        assert_eq!((named.name(), named.address()), (Some("Läden, Nord"), "ops+x@a.example.org"));
    }

    #[test]
    fn what_could_break_a_header_or_a_command_is_no_address() {
        for bad in [
            "",
            "ops",
            "@",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b c",
            "a@b\r\nBcc: c@d",
            "a@b>\r\nDATA",
            "A\r\nBcc: x@y <a@b>",
            "a..b@c",
            "a@b..c",
            "<a@b",
            "ä@b",
            "a@ä",
            &format!("{}@b", "x".repeat(65)),
            &format!("a@{}", "x".repeat(260)),
            &format!("{} <a@b>", "x".repeat(101)),
        ] {
            assert!(bad.parse::<Mailbox>().is_err(), "{bad}");
        }
    }
}
