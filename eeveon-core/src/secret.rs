//! Secrets: text that cannot show itself, and the references by which configuration points to it.

use std::{borrow::Cow, fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{Class, Diagnose};

/// Text that is never shown: it has no `Display`, and its `Debug` says nothing.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text. `None` when it is empty or blank: an absent secret is not an empty one.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.trim().is_empty()).then_some(Self(text))
    }

    /// Returns the text, for handing it to whom it is meant for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a secret is to be found: `env:NAME` or `file:PATH`. Harmless to store and to show.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// In this variable of EEveon's environment.
    Env(String),
    /// In this file, an absolute path; blanks and line breaks at its end do not count.
    File(PathBuf),
}

/// A reference to a secret, or a secret, was not usable. Never holds the secret itself.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SecretError {
    /// The reference is not one.
    #[error("{0}")]
    Reference(&'static str),
    /// There is nothing where it points, or it cannot be used.
    #[error("`{at}` {why}")]
    Missing {
        /// The reference.
        at: String,
        /// What is wrong there.
        why: String,
    },
}

impl Diagnose for SecretError {
    fn code(&self) -> &'static str {
        "config/secret"
    }
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("set it, or point to another place with env:NAME or file:/PATH".into())
    }
    fn class(&self) -> Class {
        Class::Config
    }
}

impl SecretRef {
    /// Reads a reference. `None` when the text is none, but a plain value.
    ///
    /// # Errors
    ///
    /// It begins like one, but is not well formed or not supported.
    pub fn parse(text: &str) -> Result<Option<Self>, SecretError> {
        let refuse = |why| Err(SecretError::Reference(why));
        if let Some(name) = text.strip_prefix("env:") {
            return match is_variable(name) {
                true => Ok(Some(Self::Env(name.to_owned()))),
                false => refuse("after `env:` comes the name of a variable: letters, digits and _"),
            };
        }
        if let Some(path) = text.strip_prefix("file:") {
            return match path.starts_with('/') && !path.contains('\0') {
                true => Ok(Some(Self::File(PathBuf::from(path)))),
                false => refuse("after `file:` comes an absolute path"),
            };
        }
        match text.starts_with("secret:") {
            true => refuse("`secret:` needs a vault, which this version does not have; use env: or file:"),
            false => Ok(None),
        }
    }
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

impl TryFrom<String> for SecretRef {
    type Error = SecretError;
    fn try_from(text: String) -> Result<Self, SecretError> {
        Self::parse(&text)?.ok_or(SecretError::Reference("a secret is given as env:NAME or file:/PATH"))
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

/// Finds secrets. The process that composes everything knows its environment; libraries do not.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// Returns what `at` points to, as it is now.
    ///
    /// # Errors
    ///
    /// There is nothing, or it cannot be used.
    fn reveal(&self, at: &SecretRef) -> Result<Secret, SecretError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_nothing_and_is_never_empty() {
        let secret = Secret::new("hunter2").unwrap();
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(Secret::new("").is_none());
        assert!(Secret::new(" \n").is_none());
    }

    #[test]
    fn references_are_told_from_values() {
        assert_eq!(SecretRef::parse("env:A_1"), Ok(Some(SecretRef::Env("A_1".into()))));
        assert_eq!(SecretRef::parse("file:/a b"), Ok(Some(SecretRef::File("/a b".into()))));
        assert_eq!(SecretRef::parse("https://example.org"), Ok(None));
        for bad in ["env:", "env:1A", "env:A-B", "file:", "file:a", "secret:x"] {
            assert!(SecretRef::parse(bad).is_err(), "{bad}");
        }
    }
}
