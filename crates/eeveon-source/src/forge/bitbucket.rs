//! Bitbucket Cloud and Bitbucket Data Center, which have little but the name in common.
//!
//! Sources: <https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/>,
//! <https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html>.

use serde::Deserialize;

use super::{
    Delivery, Event,
    list::List,
    parse::{MOST_CHANGES, Moved, all, clipped, commit, delivery_id, json, malformed, named, names, other},
};
use crate::SourceError;

#[derive(Deserialize)]
struct Cloud {
    push: Pushed,
    repository: CloudRepository,
    actor: Option<CloudActor>,
}

#[derive(Deserialize)]
struct Pushed {
    changes: List<CloudChange, MOST_CHANGES>,
}

#[derive(Deserialize)]
struct CloudChange {
    old: Option<State>,
    new: Option<State>,
    #[serde(default)]
    forced: bool,
}

#[derive(Deserialize)]
struct State {
    r#type: String,
    name: String,
    target: Target,
}

#[derive(Deserialize)]
struct Target {
    hash: String,
}

#[derive(Deserialize)]
struct CloudRepository {
    full_name: String,
    links: Option<CloudLinks>,
}

#[derive(Deserialize)]
struct CloudLinks {
    html: Option<Link>,
}

#[derive(Deserialize)]
struct CloudActor {
    nickname: Option<String>,
    display_name: Option<String>,
}

#[derive(Deserialize)]
struct DataCenter {
    changes: List<Change, MOST_CHANGES>,
    repository: Repository,
    actor: Option<Actor>,
}

#[derive(Deserialize)]
struct Change {
    r#ref: Ref,
    #[serde(rename = "fromHash")]
    from: String,
    #[serde(rename = "toHash")]
    to: String,
}

#[derive(Deserialize)]
struct Ref {
    id: String,
}

#[derive(Deserialize)]
struct Repository {
    slug: String,
    project: Project,
    links: Option<Links>,
}

#[derive(Deserialize)]
struct Project {
    key: String,
}

#[derive(Deserialize)]
struct Links {
    clone: Option<List<Link, 10>>,
}

#[derive(Deserialize)]
struct Link {
    href: String,
}

#[derive(Deserialize)]
struct Actor {
    name: String,
}

pub(super) fn cloud(body: &[u8], key: &str, id: Option<&str>) -> Result<Delivery, SourceError> {
    if key != "repo:push" {
        return other(id, named(key));
    }
    let Cloud { push, repository, actor } = json(body)?;
    Ok(Delivery {
        id: delivery_id(id)?,
        events: all(push.changes, |change| {
            let Some(state) = change.new.as_ref().or(change.old.as_ref()) else {
                return Err(malformed("a change has neither old nor new"));
            };
            let reference = match state.r#type.as_str() {
                "branch" => format!("refs/heads/{}", state.name),
                "tag" => format!("refs/tags/{}", state.name),
                kind => return Ok(named(&format!("push to {kind} {}", state.name))),
            };
            let id = |state: &Option<State>| match state {
                Some(state) => commit(&state.target.hash),
                None => Ok(None),
            };
            let (before, after) = (id(&change.old)?, id(&change.new)?.into());
            Moved { reference: &reference, before, after, forced: change.forced, paths: None }.event()
        })?,
        repository: Some(names(
            repository.full_name,
            [repository.links.and_then(|links| links.html).map(|link| link.href)],
        )),
        sender: actor.and_then(|actor| actor.nickname.or(actor.display_name)).map(clipped),
    })
}

pub(super) fn data_center(body: &[u8], key: &str, id: Option<&str>) -> Result<Delivery, SourceError> {
    match key {
        "repo:refs_changed" => {}
        "diagnostics:ping" => return other(id, Event::Ping),
        key => return other(id, named(key)),
    }
    let DataCenter { changes, repository, actor } = json(body)?;
    let clone = repository.links.and_then(|links| links.clone).map(|list| list.items).unwrap_or_default();
    Ok(Delivery {
        id: delivery_id(id)?,
        events: all(changes, |change| {
            let (before, after) = (commit(&change.from)?, commit(&change.to)?.into());
            Moved { reference: &change.r#ref.id, before, after, forced: false, paths: None }.event()
        })?,
        repository: Some(names(
            format!("{}/{}", repository.project.key, repository.slug),
            clone.into_iter().map(|link| Some(link.href)),
        )),
        sender: actor.map(|actor| clipped(actor.name)),
    })
}
