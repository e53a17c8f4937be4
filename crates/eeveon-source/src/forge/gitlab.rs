//! GitLab.
//!
//! Source: <https://docs.gitlab.com/user/project/integrations/webhook_events/>.

use serde::Deserialize;

use super::{
    Delivery, Event, ReleaseAction,
    parse::{
        Commits, Moved, changed, clipped, commit, delivery_id, json, malformed, named, names, other, tag,
    },
};
use crate::SourceError;

/// The most commits GitLab lists; it says how many there are.
const MOST_COMMITS: usize = 20;

/// What it is about. The body says, and the body is what is signed.
#[derive(Deserialize)]
struct Kind {
    object_kind: Option<String>,
    /// What hooks of the whole system have where others have a kind.
    event_name: Option<String>,
}

#[derive(Deserialize)]
struct Push {
    r#ref: String,
    before: String,
    after: String,
    user_username: Option<String>,
    commits: Option<Commits>,
    total_commits_count: Option<u64>,
    project: Project,
}

#[derive(Deserialize)]
struct Release {
    tag: String,
    action: String,
    project: Project,
}

#[derive(Deserialize)]
struct Project {
    path_with_namespace: String,
    git_http_url: Option<String>,
    git_ssh_url: Option<String>,
}

pub(super) fn delivery(body: &[u8], id: Option<&str>) -> Result<Delivery, SourceError> {
    let Kind { object_kind, event_name } = json(body)?;
    let (event, project, sender) = match object_kind.as_deref() {
        Some("push" | "tag_push") => {
            let push: Push = json(body)?;
            let (before, after) = (commit(&push.before)?, commit(&push.after)?);
            let paths = before
                .is_some()
                .then(|| changed(push.commits, &after, push.total_commits_count, MOST_COMMITS))
                .flatten();
            let moved = Moved { reference: &push.r#ref, before, after: after.into(), forced: false, paths };
            (moved.event()?, push.project, push.user_username)
        }
        Some("release") => {
            let release: Release = json(body)?;
            let action = match release.action.as_str() {
                "create" => ReleaseAction::Published,
                "delete" => ReleaseAction::Deleted,
                _ => ReleaseAction::Changed,
            };
            let tag = tag(&release.tag)?;
            (Event::Release { tag, action, draft: false, prerelease: false }, release.project, None)
        }
        kind => {
            let name = kind.or(event_name.as_deref());
            return other(id, named(name.ok_or_else(|| malformed("`object_kind` is missing"))?));
        }
    };
    let Project { path_with_namespace, git_http_url, git_ssh_url } = project;
    Ok(Delivery {
        id: delivery_id(id)?,
        events: vec![event],
        repository: Some(names(path_with_namespace, [git_http_url, git_ssh_url])),
        sender: sender.map(clipped),
    })
}
