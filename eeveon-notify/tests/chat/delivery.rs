//! When messages are tried again, and which are told once instead of many times.

use std::time::Duration;

use eeveon_core::{CommitId, DeploymentId, ProjectName, SecretError, Seq, Untrusted};
use eeveon_notify::{
    Event, EventKind, Next, NotifyError, Patience, after_failure, coalesce, held_until, rest_after,
};
use eeveon_testkit::notify::event;
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

fn start() -> Timestamp {
    "2026-03-04T00:00:00Z".parse().unwrap()
}

fn later(seconds: u64) -> Timestamp {
    start().checked_add(Duration::from_secs(seconds)).unwrap()
}

fn down() -> NotifyError {
    NotifyError::Unreachable { channel: "x".to_owned(), why: "gone".to_owned() }
}

fn wait(attempts: u32, error: &NotifyError, seed: u64) -> u64 {
    match after_failure(attempts, start(), start(), error, &Patience::default(), seed) {
        Next::Again { at } => at.duration_since(start()).as_secs().try_into().unwrap(),
        Next::Elsewhere | Next::Dead => panic!("not tried again here"),
    }
}

#[test]
fn waits_double_up_to_an_hour_and_are_spread() {
    for seed in 0..200 {
        for (attempts, base) in [(1, 10), (2, 20), (3, 40), (8, 1280), (9, 2560)] {
            let wait = wait(attempts, &down(), seed);
            assert!((base * 3 / 4..=base * 5 / 4).contains(&wait), "{attempts}: {wait}");
        }
        assert!((2700..=3600).contains(&wait(40, &down(), seed)));
        assert!((2700..=3600).contains(&wait(u32::MAX, &down(), seed)));
    }
    let waits: std::collections::BTreeSet<u64> = (0..200).map(|seed| wait(8, &down(), seed)).collect();
    assert!(waits.len() > 100, "{waits:?}");
    assert_eq!(wait(8, &down(), 5), wait(8, &down(), 5));
}

#[test]
fn a_wish_to_wait_is_heard_up_to_an_hour() {
    let throttled = |seconds| NotifyError::Throttled {
        channel: "x".to_owned(),
        after: Some(Duration::from_secs(seconds)),
        answer: Untrusted::from("slow down"),
    };
    assert_eq!(wait(1, &throttled(600), 0), 600);
    assert!(wait(1, &throttled(1), 0) >= 7);
    assert_eq!(wait(1, &throttled(1_000_000), 0), 3600);
}

#[test]
fn a_day_later_and_what_cannot_help_is_given_up() {
    let day = 24 * 3600;
    let after = |seconds, error: &NotifyError| {
        after_failure(20, start(), later(seconds), error, &Patience::default(), 1)
    };
    assert_eq!(after(day - 1, &down()), Next::Again { at: later(day) });
    assert_eq!(after(day, &down()), Next::Dead);
    let login = NotifyError::Login { channel: "x".to_owned(), answer: Untrusted::from("no") };
    assert_eq!(after(0, &login), Next::Dead);
    let source = SecretError::Missing { at: "env:X".to_owned(), why: "is not set".to_owned() };
    let lacking = NotifyError::Secret { channel: "x".to_owned(), source };
    assert_eq!(after(day - 1, &lacking), Next::Elsewhere);
    assert_eq!(after(day, &lacking), Next::Dead);
    for next in [Next::Elsewhere, Next::Dead] {
        assert_eq!(rest_after(next, start(), &lacking, &Patience::default()), None, "{next:?}");
    }
}

#[test]
fn a_channel_is_left_alone_as_long_as_it_asked_also_when_the_message_is_given_up() {
    let patience = Patience::default();
    let throttled = |seconds| NotifyError::Throttled {
        channel: "x".to_owned(),
        after: Some(Duration::from_secs(seconds)),
        answer: Untrusted::from("slow down"),
    };
    let again = Next::Again { at: later(20) };
    for (next, error, rest) in [
        (again, down(), Some(20)),
        (again, throttled(7), Some(20)),
        (again, throttled(60), Some(60)),
        (Next::Dead, throttled(60), Some(60)),
        (Next::Dead, throttled(9_999), Some(3600)),
        (Next::Dead, down(), None),
    ] {
        assert_eq!(rest_after(next, start(), &error, &patience), rest.map(later), "{next:?} {error:?}");
    }
}

/// Makes an event of a project, kind and code, so many seconds after the start.
fn happened(number: u64, project: &str, kind: EventKind, code: &str, seconds: u64) -> Event {
    let mut event = event(kind);
    event.project = ProjectName::new(project).unwrap();
    (event.deployment, event.seq, event.more) = (DeploymentId(number), Seq(3), 0);
    event.at = later(seconds);
    if let Some(failure) = &mut event.failure {
        failure.code = code.to_owned();
    }
    event
}

fn told(events: &[Event]) -> Vec<(u64, u32)> {
    coalesce(events).iter().map(|it| (it.event.deployment.0, it.event.more)).collect()
}

#[test]
fn a_burst_is_told_as_the_newest_of_each_kind() {
    use EventKind::{Failed, Parked, Succeeded};
    let kinds = [Failed, Succeeded, Failed, Parked, Succeeded, Parked, Failed];
    let mut events: Vec<Event> = (0..)
        .zip(kinds)
        .map(|(number, kind)| happened(number, "shop", kind, &format!("a/{number}"), number * 3600))
        .collect();
    assert_eq!(told(&events), [(3, 0), (4, 1), (5, 0), (6, 2)]);
    // Five are no burst.
    assert_eq!(told(&events[..5]), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]);
    // Projects do not count together.
    for event in events.iter_mut().take(3) {
        event.project = ProjectName::new("blog").unwrap();
    }
    assert_eq!(told(&events).len(), 7);
}

#[test]
fn the_same_failure_within_ten_minutes_is_told_once() {
    use EventKind::{Failed, Succeeded};
    let one = happened(1, "shop", Failed, "a/b", 0);
    assert_eq!(told(&[one.clone(), happened(2, "shop", Failed, "a/b", 599)]), [(2, 1)]);
    assert_eq!(told(&[one.clone(), happened(2, "shop", Failed, "a/b", 600)]), [(1, 0), (2, 0)]);
    assert_eq!(told(&[one.clone(), happened(2, "shop", Failed, "a/c", 60)]), [(1, 0), (2, 0)]);
    assert_eq!(told(&[one.clone(), happened(2, "blog", Failed, "a/b", 60)]), [(1, 0), (2, 0)]);
    let success = happened(2, "shop", Succeeded, "", 30);
    assert_eq!(
        told(&[one.clone(), success, happened(3, "shop", Failed, "a/b", 60)]),
        [(1, 0), (2, 0), (3, 0)]
    );
    // What was folded before is not lost.
    let folded = Event { more: 4, ..one };
    assert_eq!(told(&[folded, happened(2, "shop", Failed, "a/b", 60)]), [(2, 5)]);
}

#[test]
fn what_was_told_just_now_is_held_back_until_something_else_happens() {
    use EventKind::{Failed, Parked, Succeeded};
    let before = happened(1, "shop", Failed, "a/b", 0);
    let again = happened(2, "shop", Failed, "a/b", 60);
    let told = std::slice::from_ref(&before);
    let until = start().checked_add(SignedDuration::from_mins(10)).unwrap();
    assert_eq!(held_until(&again, told, &[]), Some(until));
    assert_eq!(held_until(&again, &[], &[]), None);
    assert_eq!(held_until(&happened(2, "shop", Failed, "a/c", 60), told, &[]), None);
    assert_eq!(held_until(&happened(2, "shop", Failed, "a/b", 600), told, &[]), None);
    assert_eq!(held_until(&happened(2, "blog", Failed, "a/b", 60), told, &[]), None);
    // A success between, told or waiting, ends it.
    let success = happened(3, "shop", Succeeded, "", 30);
    assert_eq!(held_until(&again, &[before.clone(), success.clone()], &[]), None);
    assert_eq!(held_until(&again, told, std::slice::from_ref(&success)), None);
    assert_eq!(held_until(&again, told, &[happened(3, "shop", Failed, "a/b", 90)]), Some(until));
    // A success and what waits for a person are never held.
    assert_eq!(held_until(&success, told, &[]), None);
    let parked = happened(2, "shop", Parked, "a/b", 60);
    assert_eq!(held_until(&parked, &[happened(1, "shop", Parked, "a/b", 0)], &[]), None);
}

/// Another commit that fails the same way is news: somebody tried to mend it.
#[test]
fn the_same_failure_of_another_commit_is_something_else() {
    for kind in [EventKind::Failed, EventKind::CheckFlapping] {
        let one = happened(1, "shop", kind, "a/b", 0);
        let mut other = happened(2, "shop", kind, "a/b", 60);
        assert_eq!(told(&[one.clone(), other.clone()]), [(2, 1)]);
        other.revision.commit = CommitId::new("fedcba9876543210fedcba9876543210fedcba98").unwrap();
        assert_eq!(told(&[one.clone(), other.clone()]), [(1, 0), (2, 0)]);
        assert_eq!(held_until(&other, std::slice::from_ref(&one), &[]), None);
    }
}

fn some_events() -> impl Strategy<Value = Vec<Event>> {
    let one = (0..EventKind::ALL.len(), 0..3_u64, 0..2_u8, 0..900_u64, 0..3_u32);
    proptest::collection::vec(one, 0..20).prop_map(|rows| {
        let mut seconds = 0;
        let events = (0..).zip(rows).map(|(number, (kind, code, project, step, more))| {
            seconds += step;
            let project = if project == 0 { "shop" } else { "blog" };
            let event = happened(number, project, EventKind::ALL[kind], &format!("a/{code}"), seconds);
            Event { more, ..event }
        });
        events.collect()
    })
}

proptest! {
    #[test]
    fn nothing_is_lost_and_the_order_stays(events in some_events()) {
        // Every event is told or folded into one that is, once.
        let mut places: Vec<usize> =
            coalesce(&events).iter().flat_map(|it| it.folded.iter().copied().chain([it.at])).collect();
        places.sort_unstable();
        prop_assert_eq!(places, (0..events.len()).collect::<Vec<_>>());
        let told: Vec<Event> = coalesce(&events).into_iter().map(|it| it.event).collect();
        let count = |events: &[Event], project: &str, kind: EventKind| -> u64 {
            let of = events.iter().filter(|it| it.project.as_str() == project && it.kind == kind);
            of.map(|it| 1 + u64::from(it.more)).sum()
        };
        for kind in EventKind::ALL {
            for project in ["shop", "blog"] {
                prop_assert_eq!(count(&told, project, kind), count(&events, project, kind));
                // The newest of each kind is told.
                let newest = |events: &[Event]| {
                    let mut of = events.iter().rev();
                    of.find(|it| it.project.as_str() == project && it.kind == kind).map(|it| it.deployment)
                };
                prop_assert_eq!(newest(&told), newest(&events));
            }
        }
        let numbers: Vec<u64> = told.iter().map(|event| event.deployment.0).collect();
        prop_assert!(numbers.is_sorted());
        let kept = |kind| matches!(kind, EventKind::Parked | EventKind::WaitingForApproval | EventKind::Test);
        let all = |events: &[Event]| events.iter().filter(|it| kept(it.kind)).cloned().collect::<Vec<_>>();
        prop_assert_eq!(all(&told), all(&events));
        let again: Vec<Event> = coalesce(&told).into_iter().map(|it| it.event).collect();
        prop_assert_eq!(again, told);
    }

    #[test]
    fn the_next_attempt_is_later_and_in_time(
        attempts in 1..100_u32, at in 0..200_000_u64, seed in any::<u64>(), after in proptest::option::of(0..100_000_u64),
    ) {
        let after = after.map(Duration::from_secs);
        let error = NotifyError::Throttled { channel: "x".to_owned(), after, answer: Untrusted::default() };
        match after_failure(attempts, start(), later(at), &error, &Patience::default(), seed) {
            Next::Again { at: next } => {
                prop_assert!(next > later(at) && next <= later(24 * 3600));
                prop_assert!(next.duration_since(later(at)) <= SignedDuration::from_hours(1));
            }
            Next::Dead => prop_assert!(at >= 24 * 3600),
            Next::Elsewhere => prop_assert!(false, "nothing is lacking here"),
        }
    }
}
