//! EEveon's own form, for whatever is no forge: the envelope of Standard Webhooks, and in it the few
//! words the page of this module shows.

use serde::Deserialize;

use super::{
    Delivery, Event, ReleaseAction,
    list::List,
    parse::{After, MOST_PATHS, Moved, clipped, commit, delivery_id, json, named, names, other, tag},
};
use crate::SourceError;

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

#[derive(Deserialize)]
struct Push {
    r#ref: String,
    before: Option<String>,
    after: Option<String>,
    #[serde(default)]
    forced: bool,
    paths: Option<List<String, MOST_PATHS>>,
    repository: Option<String>,
    sender: Option<String>,
}

#[derive(Deserialize)]
struct Release {
    tag: String,
    #[serde(default)]
    prerelease: bool,
    repository: Option<String>,
    sender: Option<String>,
}

pub(super) fn delivery(body: &[u8], id: Option<&str>) -> Result<Delivery, SourceError> {
    let Kind { r#type: kind } = json(body)?;
    let (event, repository, sender) = match kind.as_str() {
        "push" => {
            let Envelope { data: push } = json::<Envelope<Push>>(body)?;
            let before = push.before.as_deref().map(commit).transpose()?.flatten();
            let after = match push.after.as_deref() {
                Some(after) => commit(after)?.into(),
                None => After::Untold,
            };
            let paths = push
                .paths
                .filter(|list| !list.cut)
                .map(|list| list.items.into_iter().map(Into::into).collect());
            let moved = Moved { reference: &push.r#ref, before, after, forced: push.forced, paths };
            (moved.event()?, push.repository, push.sender)
        }
        "release" => {
            let Envelope { data } = json::<Envelope<Release>>(body)?;
            let Release { tag: name, prerelease, repository, sender } = data;
            let action = ReleaseAction::Published;
            (Event::Release { tag: tag(&name)?, action, draft: false, prerelease }, repository, sender)
        }
        "ping" => return other(id, Event::Ping),
        kind => return other(id, named(kind)),
    };
    Ok(Delivery {
        id: delivery_id(id)?,
        events: vec![event],
        repository: repository.map(|name| names(name, [])),
        sender: sender.map(clipped),
    })
}
