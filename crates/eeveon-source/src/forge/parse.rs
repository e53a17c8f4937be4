//! From an authentic body to what happened: what all forges have in common.

use eeveon_core::{CommitId, Untrusted};
use serde::Deserialize;

use super::{
    Authentic, Delivery, DeliveryId, Event, Provider, RepoNames, azure, bitbucket, generic, github, gitlab,
    list::List,
};
use crate::{
    SourceError,
    refs::{branch_ref, shown, tag_ref},
};

/// The most branches and tags one delivery may tell of.
pub(super) const MOST_CHANGES: usize = 1000;
/// The most files GitHub lists; nobody is believed to list more.
pub(super) const MOST_PATHS: usize = 3000;
/// The longest path that is looked at, in bytes: as long as any path of a release may be.
const LONGEST_PATH: usize = 4000;

/// Reads a delivery as its forge writes them.
pub(super) fn delivery(authentic: &Authentic<'_>) -> Result<Delivery, SourceError> {
    let Authentic { provider, headers, body } = authentic;
    match provider {
        Provider::GitHub => {
            github::delivery(body, headers.required("x-github-event")?, headers.text("x-github-delivery")?)
        }
        Provider::Gitea => {
            github::delivery(body, headers.required("x-gitea-event")?, headers.text("x-gitea-delivery")?)
        }
        Provider::Forgejo => {
            github::delivery(body, headers.required("x-forgejo-event")?, headers.text("x-forgejo-delivery")?)
        }
        Provider::GitLab => {
            // The same for every attempt to deliver, unlike `X-Gitlab-Webhook-UUID`; under the newer
            // name it is signed.
            let signed = headers.text("webhook-id")?;
            gitlab::delivery(body, signed.or(headers.text("idempotency-key")?))
        }
        Provider::BitbucketCloud => {
            bitbucket::cloud(body, headers.required("x-event-key")?, headers.text("x-request-uuid")?)
        }
        Provider::BitbucketDataCenter => {
            bitbucket::data_center(body, headers.required("x-event-key")?, headers.text("x-request-id")?)
        }
        Provider::AzureDevOps => azure::delivery(body),
        Provider::Generic => generic::delivery(body, headers.text("webhook-id")?),
    }
}

/// Makes the error for what cannot be understood.
pub(super) fn malformed(detail: impl AsRef<str>) -> SourceError {
    SourceError::HookMalformed { detail: shown(detail.as_ref()) }
}

/// Reads JSON. Unknown parts are passed over without recursion, however deep; known ones are shallow.
pub(super) fn json<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, SourceError> {
    serde_json::from_slice(body).map_err(|error| match body.starts_with(b"payload=") {
        true => malformed("it is a form, not JSON: set the hook's content type to application/json"),
        false => malformed(error.to_string()),
    })
}

/// Makes a delivery that tells of one thing that never deploys.
pub(super) fn other(id: Option<&str>, event: Event) -> Result<Delivery, SourceError> {
    Ok(Delivery { id: delivery_id(id)?, events: vec![event], repository: None, sender: None })
}

/// Names something that never deploys.
pub(super) fn named(name: &str) -> Event {
    Event::Other { name: shown(name).into() }
}

/// Keeps of a name or address what is of use.
pub(super) fn clipped(text: String) -> Untrusted {
    text.chars().take(400).collect::<String>().into()
}

/// Makes the names of a repository, of which some may not be told.
pub(super) fn names(full_name: String, urls: impl IntoIterator<Item = Option<String>>) -> RepoNames {
    let urls = urls.into_iter().flatten().map(clipped).collect();
    RepoNames { full_name: clipped(full_name), urls }
}

pub(super) fn delivery_id(text: Option<&str>) -> Result<Option<DeliveryId>, SourceError> {
    text.map(|text| DeliveryId::new(text).ok_or_else(|| malformed("its delivery id is malformed")))
        .transpose()
}

/// Reads a commit id; all zeros mean none.
pub(super) fn commit(text: &str) -> Result<Option<CommitId>, SourceError> {
    let id = CommitId::new(text).map_err(|error| malformed(error.to_string()))?;
    Ok((!id.as_str().bytes().all(|digit| digit == b'0')).then_some(id))
}

pub(super) fn branch(name: &str) -> Result<String, SourceError> {
    branch_ref(name).map(|_| name.to_owned()).map_err(|error| malformed(error.to_string()))
}

pub(super) fn tag(name: &str) -> Result<String, SourceError> {
    tag_ref(name).map(|_| name.to_owned()).map_err(|error| malformed(error.to_string()))
}

/// Reads every change, or says that there are too many.
pub(super) fn all<T>(
    changes: List<T, MOST_CHANGES>,
    read: impl Fn(T) -> Result<Event, SourceError>,
) -> Result<Vec<Event>, SourceError> {
    match changes.cut {
        true => Err(malformed(format!("it tells of more than {MOST_CHANGES} branches and tags"))),
        false => changes.items.into_iter().map(read).collect(),
    }
}

/// A branch or tag that moved.
pub(super) struct Moved<'a> {
    /// Its full name.
    pub(super) reference: &'a str,
    /// From where; absent when it was made, or not told.
    pub(super) before: Option<CommitId>,
    /// To where.
    pub(super) after: After,
    /// Whether commits were taken away.
    pub(super) forced: bool,
    /// What changed, if all of it is listed.
    pub(super) paths: Option<Vec<Untrusted>>,
}

/// Where a branch or tag is after a push.
pub(super) enum After {
    /// Here.
    At(CommitId),
    /// Somewhere.
    Untold,
    /// It is gone.
    Gone,
}

impl From<Option<CommitId>> for After {
    fn from(id: Option<CommitId>) -> Self {
        id.map_or(Self::Gone, Self::At)
    }
}

impl Moved<'_> {
    /// Says what that is: a push, a tag, or the end of one.
    pub(super) fn event(self) -> Result<Event, SourceError> {
        let Self { reference, before, after, forced, paths } = self;
        // A path too long to be deployed counts as one that is not listed.
        let paths = paths.filter(|paths| paths.iter().all(|path| path.as_raw().len() <= LONGEST_PATH));
        let after = match after {
            After::At(id) => Some(Some(id)),
            After::Untold => Some(None),
            After::Gone => None,
        };
        if let Some(name) = reference.strip_prefix("refs/heads/") {
            let branch = branch(name)?;
            return Ok(match after {
                Some(after) => Event::Push { branch, before, after, forced, paths },
                None => Event::BranchDeleted { branch },
            });
        }
        if let Some(name) = reference.strip_prefix("refs/tags/") {
            let tag = tag(name)?;
            return Ok(match after {
                Some(object) => Event::Tag { tag, object },
                None => Event::TagDeleted { tag },
            });
        }
        Ok(named(&format!("push to {reference}")))
    }
}

/// A pushed commit, and the files it changed.
#[derive(Deserialize)]
pub(super) struct Commit {
    id: String,
    added: Option<List<String, MOST_PATHS>>,
    modified: Option<List<String, MOST_PATHS>>,
    removed: Option<List<String, MOST_PATHS>>,
}

/// How many commits are looked at.
pub(super) type Commits = List<Commit, 100>;

/// Returns all files that changed, if that is what the commits list: forges leave commits out of a
/// large push, without saying so (`most` is when they may have), or saying how many there are
/// (`total`), and not all list files.
pub(super) fn changed(
    commits: Option<Commits>,
    after: &Option<CommitId>,
    total: Option<u64>,
    most: usize,
) -> Option<Vec<Untrusted>> {
    let List { items, cut } = commits?;
    let after = after.as_ref()?.as_str();
    let all = match total {
        Some(total) => total == items.len() as u64,
        None => items.len() < most,
    };
    if cut || !all || !items.iter().any(|commit| commit.id == after) {
        return None;
    }
    let mut paths = Vec::new();
    for Commit { added, modified, removed, .. } in items {
        // Go writes an empty list as null, but a commit without any list says nothing.
        if added.is_none() && modified.is_none() && removed.is_none() {
            return None;
        }
        for list in [added, modified, removed].into_iter().flatten() {
            if list.cut || paths.len() + list.items.len() >= MOST_PATHS {
                return None;
            }
            paths.extend(list.items.into_iter().map(Untrusted::from));
        }
    }
    Some(paths)
}
