//! Short names for what tests write often.

use eeveon_core::{Actor, CommitId, ProjectName, Trigger, Untrusted};
use eeveon_daemon::{Ask, Cancel, RequestId, Seen, Want};
use jiff::Timestamp;

/// Reads a time such as `2026-03-29T02:30:00+01:00`.
pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The time `seconds` after tests begin.
pub(crate) fn second(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn project(name: &str) -> ProjectName {
    ProjectName::new(name).unwrap()
}

/// The commit whose id is this number.
pub(crate) fn commit(number: u64) -> CommitId {
    CommitId::new(format!("{number:040x}")).unwrap()
}

/// A webhook's request for a commit of `main`, seen at that moment.
pub(crate) fn push(name: &str, number: u64, seen: u64) -> Ask {
    let want = Want::Newest { branch: "main".to_owned(), commit: Some(commit(number)), seen: Seen(seen) };
    Ask { trigger: Trigger::Webhook, actor: Actor::Webhook(Untrusted::from("forge")), ..ask(name, want) }
}

/// A person's request.
pub(crate) fn ask(name: &str, want: Want) -> Ask {
    Ask {
        project: project(name),
        want,
        actor: Actor::User(Untrusted::from("ada")),
        trigger: Trigger::Manual,
        reason: None,
        outside_window: false,
        shared: false,
    }
}

/// Somebody does not want a request any more, whoever else does.
pub(crate) fn cancel(request: u64) -> Cancel {
    let by = Actor::User(Untrusted::from("ada"));
    Cancel { request: RequestId(request), by, why: None, unless_shared: false }
}

/// A person's request to go back.
pub(crate) fn rollback(name: &str) -> Ask {
    ask(name, Want::Rollback { to: None })
}
