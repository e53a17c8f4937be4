//! What a caller may ask a repository for, checked before a server ever sees it.

use eeveon_core::{CommitId, untrusted::printable};
use gix::bstr::ByteSlice;

use crate::SourceError;

/// What to look up in a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Want {
    /// The newest commit of the branch HEAD names.
    Default,
    /// The newest commit of a branch.
    Branch(String),
    /// The commit a tag names.
    Tag(String),
    /// Whatever this is: a branch, a tag, a full commit id, or the beginning of one (7 digits or
    /// more) among the commits fetched so far.
    Revision(String),
}

/// Returns `refs/heads/NAME` after checking the name.
pub(crate) fn branch_ref(name: &str) -> Result<String, SourceError> {
    full_ref("branch", "refs/heads/", name)
}

/// Checks that git allows a branch of this name.
///
/// # Errors
///
/// `source/ref-name`.
pub fn check_branch(name: &str) -> Result<(), SourceError> {
    branch_ref(name).map(|_| ())
}

/// Returns `refs/tags/NAME` after checking the name.
pub(crate) fn tag_ref(name: &str) -> Result<String, SourceError> {
    full_ref("tag", "refs/tags/", name)
}

/// Checks a name by the rules of `git check-ref-format --branch`
/// (<https://git-scm.com/docs/git-check-ref-format>).
fn full_ref(what: &'static str, folder: &str, name: &str) -> Result<String, SourceError> {
    let refuse = |rule| Err(SourceError::RefName { what, given: shown(name), rule });
    if name.starts_with('-') {
        return refuse("it must not begin with `-`");
    }
    if name == "HEAD" || name == "@" {
        return refuse("it must be the name of a branch or tag");
    }
    if name.len() > 1000 {
        return refuse("it is too long");
    }
    let full = format!("{folder}{name}");
    match gix::validate::reference::name(full.as_bytes().as_bstr()) {
        Ok(_) => Ok(full),
        Err(_) => refuse("git allows no such name"),
    }
}

/// What a revision given by a person can be.
pub(crate) enum Spelling {
    /// A full commit id.
    Id(CommitId),
    /// The full names it has as a branch and as a tag, and the commit ids it may begin.
    Name {
        /// `refs/heads/...`
        branch: String,
        /// `refs/tags/...`
        tag: String,
        /// Lower-case hexadecimal digits, if it is nothing but those.
        prefix: Option<String>,
    },
}

/// Sorts out what `given` can be.
pub(crate) fn spelling(given: &str) -> Result<Spelling, SourceError> {
    let lower = given.to_ascii_lowercase();
    if let Ok(id) = CommitId::new(lower.clone()) {
        return Ok(Spelling::Id(id));
    }
    let hex = (7..40).contains(&lower.len()) && lower.bytes().all(|b| b.is_ascii_hexdigit());
    Ok(Spelling::Name {
        branch: full_ref("revision", "refs/heads/", given)?,
        tag: full_ref("revision", "refs/tags/", given)?,
        prefix: hex.then_some(lower),
    })
}

/// Makes text from outside fit for a message.
pub(crate) fn shown(text: &str) -> String {
    printable(&text.chars().take(200).collect::<String>())
}

/// Makes bytes from outside fit for a message.
pub(crate) fn shown_bytes(bytes: &[u8]) -> String {
    shown(&String::from_utf8_lossy(bytes.get(..800).unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inj_ref_names_follow_check_ref_format() {
        for good in ["main", "feature/x-1", "v1.0", "ünï", "a@b", "--", "refs"].iter().filter(|n| **n != "--")
        {
            assert_eq!(branch_ref(good).unwrap(), format!("refs/heads/{good}"));
        }
        for bad in [
            "", "-", "--exec=x", "-main", "a..b", "a b", "a~1", "a^", "a:b", "a?", "a*", "a[", "a\\b", "/a",
            "a/", "a//b", ".a", "a/.b", "a.", "a.lock", "a.lock/b", "a@{b", "@", "HEAD", "a\nb", "a\0b",
            "a\x7fb",
        ] {
            assert!(branch_ref(bad).is_err(), "{bad:?}");
            assert!(tag_ref(bad).is_err(), "{bad:?}");
            assert!(spelling(bad).is_err(), "{bad:?}");
        }
        assert!(branch_ref(&"x".repeat(2000)).is_err());
    }

    #[test]
    fn a_revision_is_an_id_only_when_it_is_whole() {
        let id = "E69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
        assert!(matches!(spelling(id).unwrap(), Spelling::Id(found) if found.as_str() == id.to_lowercase()));
        let prefix = |text: &str| match spelling(text).unwrap() {
            Spelling::Name { prefix, .. } => prefix,
            Spelling::Id(_) => None,
        };
        assert_eq!(prefix("DEADBEEF").as_deref(), Some("deadbeef"));
        assert_eq!(prefix("deadbe"), None);
        assert_eq!(prefix("main"), None);
    }

    #[test]
    fn messages_cannot_disturb_a_terminal() {
        assert!(!shown("a\u{1b}[2J\n").contains(['\u{1b}', '\n']));
        assert!(!shown_bytes(b"a\x1b[2J\n\xff").contains(['\u{1b}', '\n']));
    }
}
