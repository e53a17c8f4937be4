//! The words everything else is written in: plain data, valid by construction.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Untrusted;

/// A name, number or id was not well formed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} `{given}` is not valid: {rule}")]
pub struct InvalidName {
    /// What was to be named, such as "project name".
    pub what: &'static str,
    /// What was given, shortened and with control characters escaped.
    pub given: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl InvalidName {
    fn new(what: &'static str, given: &str, rule: &'static str) -> Self {
        Self { what, given: given.chars().take(80).flat_map(char::escape_default).collect(), rule }
    }
}

/// Declares a checked string type.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks and wraps the text.
            ///
            /// # Errors
            ///
            /// Says which rule the text breaks.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidName> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                match check(&text) {
                    true => Ok(Self(text)),
                    false => Err(InvalidName::new($what, &text, $rule)),
                }
            }

            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// Names what the user deploys. Also a file name and a folder name, hence the narrow rule.
    ProjectName, "project name", "use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit", is_label
}
name! {
    /// Names a place releases run, such as `local` or `web-1`.
    TargetName, "target name", "use 1 to 63 of a-z, 0-9 and -, beginning with a letter or digit", is_label
}
name! {
    /// The full id of a commit: 40 (SHA-1) or 64 (SHA-256) lower-case hexadecimal digits.
    CommitId, "commit id", "a full commit id has 40 or 64 hexadecimal digits", |text| {
        matches!(text.len(), 40 | 64) && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

fn is_label(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && !text.starts_with('-')
        && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

impl CommitId {
    /// Returns the first eight digits, for people.
    pub fn short(&self) -> &str {
        self.0.get(..8).unwrap_or(&self.0)
    }
}

/// Declares a number that cannot be mistaken for another kind of number.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Names one deployment. Unique within a store, never used twice.
    DeploymentId
}
number! {
    /// Names one release of a project. Counts up from 1, never used twice.
    ReleaseNumber
}
number! {
    /// The number of a lease: every later holder has a greater one, so that targets and the store
    /// can tell a stale controller from the present one.
    Fence
}

/// One exact commit.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    /// Which.
    pub commit: CommitId,
    /// The first line of its message, as its author wrote it.
    pub subject: Untrusted,
    /// Its author's name. Anyone can write any name here.
    pub author: Untrusted,
    /// The committer's clock.
    pub committed_at: Timestamp,
}

/// One immutable, numbered build of a revision.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Release {
    /// Whose.
    pub project: ProjectName,
    /// Which.
    pub number: ReleaseNumber,
    /// Of what.
    pub revision: Revision,
}

/// A place releases run.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Unique within the project.
    pub name: TargetName,
    /// Which deployer puts releases there, such as `host`.
    pub deployer: String,
    /// What decides which release serves, such as `symlink`.
    pub traffic: String,
}

/// Where a release can be reached: for a plain server its folder, for others a URL.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Endpoint(pub String);

/// A release that serves, and where it is reached.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Which.
    pub release: ReleaseNumber,
    /// Where.
    pub endpoint: Endpoint,
}

/// Who asked.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", content = "name")]
pub enum Actor {
    /// A person, by the name the machine knows them by.
    User(Untrusted),
    /// An access token.
    Token(Untrusted),
    /// A forge's webhook.
    Webhook(Untrusted),
    /// A schedule.
    Schedule(Untrusted),
    /// EEveon itself, when it finishes or takes back what an earlier process left.
    Engine,
}

impl Actor {
    /// Returns how the actor is called in lists, such as `user:ada`.
    pub fn label(&self) -> Untrusted {
        let (kind, name) = match self {
            Self::User(name) => ("user", name),
            Self::Token(name) => ("token", name),
            Self::Webhook(name) => ("webhook", name),
            Self::Schedule(name) => ("schedule", name),
            Self::Engine => return Untrusted::from("engine"),
        };
        Untrusted::from(format!("{kind}:{}", name.as_raw()))
    }
}

/// What set a deployment off.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Someone ran a command.
    Manual,
    /// A look at the repository found something new.
    Poll,
    /// A forge told us.
    Webhook,
    /// The time came.
    Schedule,
    /// What it waits for was deployed.
    Dependency,
}

impl Trigger {
    /// Returns the word used in lists and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Poll => "poll",
            Self::Webhook => "webhook",
            Self::Schedule => "schedule",
            Self::Dependency => "dependency",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn project_names_are_file_names_everywhere() {
        for good in ["a", "0", "shop", "shop-2", "a-", &"x".repeat(63)] {
            assert!(ProjectName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "A", "a.b", "a/b", "..", "a b", "a\n", "ä", &"x".repeat(64)] {
            assert!(ProjectName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_given_cannot_disturb_a_terminal() {
        let error = ProjectName::new("a\u{1b}[2J").unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }

    #[test]
    fn names_are_checked_when_read_back() {
        assert!(serde_json::from_str::<ProjectName>("\"../x\"").is_err());
        assert!(serde_json::from_str::<CommitId>("\"HEAD\"").is_err());
    }
}
