//! What a delivery says, in words that are the same for every forge.

use std::fmt;

use eeveon_core::{CommitId, Untrusted};
use serde::{Deserialize, Serialize};

use crate::{RepoUrl, url::Place};

/// What one delivery says. Names of branches and tags in it are such as git allows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delivery {
    /// What tells it from others, if the forge says. A delivery that is sent again keeps its id.
    pub id: Option<DeliveryId>,
    /// What happened: several things where forges report a push of several branches and tags at once.
    pub events: Vec<Event>,
    /// Where; absent for what never deploys.
    pub repository: Option<RepoNames>,
    /// Who did it, as the forge knows its users; never what a commit says about its author.
    pub sender: Option<Untrusted>,
}

/// One thing that happened in a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A branch has new commits, or is new.
    Push {
        /// The branch, without `refs/heads/`.
        branch: String,
        /// What it pointed to; absent when it was created, or not told.
        before: Option<CommitId>,
        /// What it points to; absent only when not told.
        after: Option<CommitId>,
        /// Whether commits were taken away, where the forge says so (GitHub, Bitbucket Cloud).
        forced: bool,
        /// The files that changed; absent unless the delivery lists all of them. GitLab, Gitea and
        /// Forgejo do not tell of a forced push, and so list only what came with the new commits.
        paths: Option<Vec<Untrusted>>,
    },
    /// A branch was removed.
    BranchDeleted {
        /// The branch.
        branch: String,
    },
    /// A tag was made or moved.
    Tag {
        /// The tag, without `refs/tags/`.
        tag: String,
        /// What it points to: a commit, or the tag's own object; absent when not told.
        object: Option<CommitId>,
    },
    /// A tag was removed.
    TagDeleted {
        /// The tag.
        tag: String,
    },
    /// Something happened to a release.
    Release {
        /// The tag it is made of.
        tag: String,
        /// What happened.
        action: ReleaseAction,
        /// Whether it is not public yet.
        draft: bool,
        /// Whether it is marked as not ready for production.
        prerelease: bool,
    },
    /// The forge tries out the hook.
    Ping,
    /// Something that never deploys.
    Other {
        /// What the forge calls it.
        name: Untrusted,
    },
}

/// What happened to a release.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReleaseAction {
    /// It became public, or stopped being a pre-release.
    Published,
    /// It was changed, or saved as a draft.
    Changed,
    /// It was removed or taken back.
    Deleted,
}

/// What tells a delivery from others: 1 to 200 visible ASCII characters.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(String);

impl DeliveryId {
    /// Checks and wraps the text.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let fine = (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        fine.then_some(Self(text))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        Self::new(text).ok_or("a delivery id has 1 to 200 visible ASCII characters")
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.0
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How a forge calls a repository.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RepoNames {
    /// Owner and name, such as `acme/shop`.
    pub full_name: Untrusted,
    /// Where it can be cloned from.
    pub urls: Vec<Untrusted>,
}

impl RepoNames {
    /// Whether `url` may be this repository: by the path, in any case, as forges answer to several host
    /// names. Meant for hooks of a whole organisation, which tell of all its repositories. It is no
    /// check of who sends: that is [`Hook::verify`](super::Hook::verify).
    pub fn may_be(&self, url: &RepoUrl) -> bool {
        let Some(path) = path(url) else { return false };
        let name = plain(self.full_name.as_raw());
        let ends =
            path.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'));
        let same = |text: &Untrusted| match RepoUrl::parse_allowing_insecure(&secured(text.as_raw())) {
            Ok(theirs) => self::path(&theirs).is_some_and(|theirs| theirs == path),
            Err(_) => false,
        };
        (ends && !name.is_empty()) || self.urls.iter().any(same)
    }
}

/// Reads an address of http as one of https: only its path is looked at, and forges behind a proxy
/// often name themselves so.
fn secured(url: &str) -> String {
    match url.strip_prefix("http://") {
        Some(rest) => format!("https://{rest}"),
        None => url.to_owned(),
    }
}

fn path(url: &RepoUrl) -> Option<String> {
    match &url.0 {
        Place::Http { path, .. } | Place::Ssh { path, .. } | Place::Daemon { path, .. } => Some(plain(path)),
        Place::Local { .. } => None,
    }
}

fn plain(path: &str) -> String {
    let path = path.trim_matches('/').to_lowercase();
    path.strip_suffix(".git").map(str::to_owned).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_short_and_visible() {
        for good in ["72d3162e-cc78-11e3-81ab-4c9367dc0958", "{a}", "msg_1.2", &"x".repeat(200)] {
            assert!(DeliveryId::new(good).is_some(), "{good}");
        }
        for bad in ["", " ", "a b", "a\n", "ä", &"x".repeat(201)] {
            assert!(DeliveryId::new(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_repository_is_known_by_its_path() {
        let names = RepoNames {
            full_name: "Acme/shop".into(),
            urls: vec!["http://git.internal/scm/acme/shop.git".into(), "not an address".into()],
        };
        let may_be = |url: &str| names.may_be(&RepoUrl::parse(url).unwrap());
        for same in [
            "https://github.com/acme/shop",
            "https://github.com/Acme/Shop.git",
            "git@github.com:acme/shop.git",
            "ssh://git@git.example.com:7999/scm/acme/shop.git",
        ] {
            assert!(may_be(same), "{same}");
        }
        for other in [
            "https://github.com/acme/shop2",
            "https://github.com/bigacme/shop",
            "https://github.com/acme/shop/wiki",
            "/srv/git/acme/shop.git",
        ] {
            assert!(!may_be(other), "{other}");
        }
        let nameless = RepoNames { full_name: "".into(), urls: Vec::new() };
        assert!(!nameless.may_be(&RepoUrl::parse("https://github.com/acme/shop").unwrap()));
    }
}
