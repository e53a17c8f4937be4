//! The JSON that a webhook carries. Programs rely on it: a field is added, never renamed or taken
//! away, unless [`FORMAT`] changes.
//!
//! | field | what |
//! |---|---|
//! | `format` | the version of this form |
//! | `id` | the same whenever this message is sent, also as header `webhook-id` |
//! | `type` | `deployment.` and the event: `started`, `succeeded`, `failed`, `rolled_back`, `refused`, `cancelled`, `waiting_for_approval`, `parked`, `quarantined`, `check_flapping`, `test` |
//! | `level` | `success`, `failure`, `warning` or `info` |
//! | `timestamp` | when it happened |
//! | `project`, `deployment`, `seq` | where: the deployment's id, and the position in its journal |
//! | `operation` | `deploy`, or `rollback` to an older release |
//! | `release` | the number of the release it was about |
//! | `revision` | what that was made from: `commit`, `subject`, `author`, `committed_at` |
//! | `branch`, `actor`, `trigger`, `reason` | of what, by whom, set off by what, and why |
//! | `duration_ms` | how long the deployment has taken so far |
//! | `failure` | `stage`, `code`, `class`, `message`, `causes`, `hint`, `details` |
//! | `step` | the step that waits for a person, or whose check flaps |
//! | `serving` | what serves now: `state` `release` with `release` and `revision`, `nothing`, or `either` with `new` and `old` |
//! | `quarantined` | commits put aside by this |
//! | `links` | `details`: where to read more |
//! | `more` | how many further events like it are left out |
//! | `text` | the template's words |
//!
//! What is absent is `null`. Times are RFC 3339 in UTC. `subject`, `author`, `branch`, `actor`,
//! `reason` and what `failure` says were written by others: they are as they came, but for their
//! length.

use eeveon_core::{
    Class, CommitId, DeploymentId, Failure, Kind, ProjectName, ReleaseNumber, Seq, Stage, StepKey, Trigger,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{Level, Message, Serving, text::shorten};

/// The version of a webhook's body.
pub const FORMAT: u32 = 1;

/// How long a name or a subject may be, in UTF-16 code units.
const SHORT: usize = 500;

/// How long an explanation may be.
const LONG: usize = 4000;

/// How long `details` may be, in bytes; longer ones are left out.
const DETAILS_BYTES: usize = 8 * 1024;

/// How many causes and commits are listed.
const LISTED: usize = 32;

#[derive(Serialize)]
struct Body<'a> {
    format: u32,
    id: String,
    #[serde(rename = "type")]
    kind: String,
    level: Level,
    timestamp: Timestamp,
    project: &'a ProjectName,
    deployment: DeploymentId,
    seq: Seq,
    operation: Kind,
    release: ReleaseNumber,
    revision: RevisionBody<'a>,
    branch: String,
    actor: String,
    trigger: Trigger,
    reason: Option<String>,
    duration_ms: u64,
    failure: Option<FailureBody<'a>>,
    step: Option<&'a StepKey>,
    serving: &'a Serving,
    quarantined: Vec<&'a CommitId>,
    links: Links<'a>,
    more: u32,
    text: Option<String>,
}

#[derive(Serialize)]
struct RevisionBody<'a> {
    commit: &'a CommitId,
    subject: String,
    author: String,
    committed_at: Timestamp,
}

#[derive(Serialize)]
struct FailureBody<'a> {
    stage: Stage,
    code: &'a str,
    class: Class,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    details: Option<&'a Value>,
}

#[derive(Serialize)]
struct Links<'a> {
    details: Option<&'a str>,
}

/// Returns the body of `message`, with `text` from a template.
pub(super) fn of(message: &Message, text: Option<String>) -> serde_json::Result<Vec<u8>> {
    let event = &message.event;
    serde_json::to_vec(&Body {
        format: FORMAT,
        id: message.id(),
        kind: format!("deployment.{}", event.kind),
        level: event.level(),
        timestamp: event.at,
        project: &event.project,
        deployment: event.deployment,
        seq: event.seq,
        operation: event.operation,
        release: event.release,
        revision: RevisionBody {
            commit: &event.revision.commit,
            subject: shorten(event.revision.subject.as_raw(), SHORT),
            author: shorten(event.revision.author.as_raw(), SHORT),
            committed_at: event.revision.committed_at,
        },
        branch: shorten(event.branch.as_raw(), SHORT),
        actor: shorten(event.actor.as_raw(), SHORT),
        trigger: event.trigger,
        reason: event.reason.as_ref().map(|reason| shorten(reason.as_raw(), LONG)),
        duration_ms: event.duration_ms,
        failure: event.failure.as_ref().map(failure),
        step: event.step.as_ref(),
        serving: &event.serving,
        quarantined: event.quarantined.iter().take(LISTED).collect(),
        links: Links { details: event.link.as_deref() },
        more: event.more,
        text,
    })
}

fn failure(failure: &Failure) -> FailureBody<'_> {
    let short_enough = |details: &&Value| details.to_string().len() <= DETAILS_BYTES;
    FailureBody {
        stage: failure.stage,
        code: &failure.code,
        class: failure.class,
        message: shorten(&failure.message, LONG),
        causes: failure.causes.iter().take(LISTED).map(|cause| shorten(cause, SHORT)).collect(),
        hint: failure.hint.as_deref().map(|hint| shorten(hint, LONG)),
        details: failure.details.as_ref().filter(short_enough),
    }
}
