//! GitHub, and Gitea and Forgejo, whose deliveries have GitHub's form.
//!
//! Sources: <https://docs.github.com/en/webhooks/webhook-events-and-payloads>,
//! <https://docs.gitea.com/usage/webhooks>, <https://forgejo.org/docs/latest/user/webhooks/>.

use serde::Deserialize;

use super::{
    Delivery, Event, ReleaseAction,
    parse::{
        Commits, Moved, branch, changed, clipped, commit, delivery_id, json, malformed, named, names, other,
        tag,
    },
};
use crate::SourceError;

/// From this many commits on GitHub may have left some out without a word: older ones list 20 at most.
const MOST_COMMITS: usize = 20;
/// The same for Gitea (`FEED_MAX_COMMIT_NUM`), unless it says how many there are.
const MOST_COMMITS_GITEA: usize = 5;

#[derive(Deserialize)]
struct Push {
    r#ref: String,
    before: String,
    after: String,
    #[serde(default)]
    forced: bool,
    commits: Option<Commits>,
    total_commits: Option<u64>,
    /// GitHub sends this and Gitea does not.
    created: Option<bool>,
    repository: Repository,
    sender: Option<User>,
}

/// A branch or tag was made or removed. Pushes say the same; whoever subscribes to both hears it twice.
#[derive(Deserialize)]
struct Reference {
    r#ref: Option<String>,
    ref_type: String,
    repository: Repository,
    sender: Option<User>,
}

#[derive(Deserialize)]
struct Release {
    action: String,
    release: About,
    repository: Repository,
    sender: Option<User>,
}

#[derive(Deserialize)]
struct About {
    tag_name: String,
    #[serde(default)]
    draft: bool,
    #[serde(default)]
    prerelease: bool,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    clone_url: Option<String>,
    ssh_url: Option<String>,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

pub(super) fn delivery(body: &[u8], name: &str, id: Option<&str>) -> Result<Delivery, SourceError> {
    let (event, repository, sender) = match name {
        "push" => {
            let push: Push = json(body)?;
            let (before, after) = (commit(&push.before)?, commit(&push.after)?);
            // Of a new branch the commits since some other one are listed.
            let whole = before.is_some() && !push.forced;
            let most = if push.created.is_some() { MOST_COMMITS } else { MOST_COMMITS_GITEA };
            let paths = whole.then(|| changed(push.commits, &after, push.total_commits, most)).flatten();
            let moved =
                Moved { reference: &push.r#ref, before, after: after.into(), forced: push.forced, paths };
            (moved.event()?, push.repository, push.sender)
        }
        "create" | "delete" => {
            let change: Reference = json(body)?;
            let called = || change.r#ref.as_deref().ok_or_else(|| malformed("`ref` is missing"));
            let event = match (name, change.ref_type.as_str()) {
                ("create", "tag") => Event::Tag { tag: tag(called()?)?, object: None },
                ("delete", "tag") => Event::TagDeleted { tag: tag(called()?)? },
                ("delete", "branch") => Event::BranchDeleted { branch: branch(called()?)? },
                // The push that made the branch says more.
                _ => named(name),
            };
            (event, change.repository, change.sender)
        }
        "release" => {
            let Release { action, release, repository, sender } = json(body)?;
            let action = match action.as_str() {
                "published" | "released" => ReleaseAction::Published,
                "deleted" | "unpublished" => ReleaseAction::Deleted,
                _ => ReleaseAction::Changed,
            };
            let About { tag_name, draft, prerelease } = release;
            // A draft may wait for a tag yet to be thought of, and is of no use until then.
            let event = match (draft, tag(&tag_name)) {
                (_, Ok(tag)) => Event::Release { tag, action, draft, prerelease },
                (true, Err(_)) => named("release"),
                (false, Err(error)) => return Err(error),
            };
            (event, repository, sender)
        }
        "ping" => return other(id, Event::Ping),
        name => return other(id, named(name)),
    };
    let Repository { full_name, clone_url, ssh_url } = repository;
    Ok(Delivery {
        id: delivery_id(id)?,
        events: vec![event],
        repository: Some(names(full_name, [clone_url, ssh_url])),
        sender: sender.map(|user| clipped(user.login)),
    })
}
