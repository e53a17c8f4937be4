//! Azure DevOps. It signs nothing: its deliveries are as safe as the connection and the password.
//!
//! Source: <https://learn.microsoft.com/en-us/azure/devops/service-hooks/events#git.push>.

use serde::Deserialize;

use super::{
    Delivery,
    list::List,
    parse::{MOST_CHANGES, Moved, all, clipped, commit, delivery_id, json, malformed, named, names, other},
};
use crate::SourceError;

#[derive(Deserialize)]
struct Kind {
    id: Option<String>,
    #[serde(rename = "eventType")]
    kind: String,
}

#[derive(Deserialize)]
struct Push {
    resource: Resource,
}

#[derive(Deserialize)]
struct Resource {
    /// Left out unless the subscription sends all details.
    #[serde(rename = "refUpdates")]
    updates: Option<List<Update, MOST_CHANGES>>,
    repository: Option<Repository>,
    #[serde(rename = "pushedBy")]
    pusher: Option<Person>,
}

#[derive(Deserialize)]
struct Update {
    name: String,
    #[serde(rename = "oldObjectId")]
    old: String,
    #[serde(rename = "newObjectId")]
    new: String,
}

#[derive(Deserialize)]
struct Repository {
    name: String,
    #[serde(rename = "remoteUrl")]
    remote: Option<String>,
    #[serde(rename = "sshUrl")]
    ssh: Option<String>,
    project: Option<Project>,
}

#[derive(Deserialize)]
struct Project {
    name: Option<String>,
}

#[derive(Deserialize)]
struct Person {
    #[serde(rename = "uniqueName")]
    unique: Option<String>,
    #[serde(rename = "displayName")]
    display: Option<String>,
}

pub(super) fn delivery(body: &[u8]) -> Result<Delivery, SourceError> {
    let Kind { id, kind } = json(body)?;
    if kind != "git.push" {
        return other(id.as_deref(), named(&kind));
    }
    let Push { resource: Resource { updates, repository, pusher } } = json(body)?;
    let updates = updates
        .ok_or_else(|| malformed("it does not say what was pushed: set `Resource details to send` to All"))?;
    Ok(Delivery {
        id: delivery_id(id.as_deref())?,
        events: all(updates, |Update { name, old, new }| {
            let (before, after) = (commit(&old)?, commit(&new)?.into());
            Moved { reference: &name, before, after, forced: false, paths: None }.event()
        })?,
        repository: repository.map(|Repository { name, remote, ssh, project }| {
            let full_name = match project.and_then(|project| project.name) {
                Some(project) => format!("{project}/{name}"),
                None => name,
            };
            names(full_name, [remote, ssh])
        }),
        sender: pusher.and_then(|person| person.unique.or(person.display)).map(clipped),
    })
}
