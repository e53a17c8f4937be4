//! Requests whose process died twice: they run alone, and going back does not wait for that.

use eeveon_daemon::{Ask, Decision, Event, Fate, Held, Limits, Queue, RequestId};

use crate::common::{project, push, rollback};

fn started(decisions: &[Decision]) -> Vec<u64> {
    let start = |it: &_| if let Decision::Start(start) = it { Some(start.request.0) } else { None };
    decisions.iter().filter_map(start).collect()
}

fn asked(queue: &mut Queue, ask: Ask) -> Vec<u64> {
    started(&queue.handle(Event::Asked(ask)))
}

fn ended(queue: &mut Queue, request: u64) -> Vec<u64> {
    started(&queue.handle(Event::Ended(RequestId(request))))
}

/// Shuts a project's windows, or opens them.
fn hold(name: &str, shut: bool) -> Event {
    Event::Hold { project: project(name), held: Held { shut, ..Held::default() } }
}

/// Two projects that ran when their daemon was killed, twice; and what begins then.
fn two_suspects(running: usize) -> (Queue, Vec<u64>) {
    let limits = Limits { running, ..Limits::default() };
    let mut queue = Queue::new(limits);
    for name in ["first", "second"] {
        queue.handle(Event::Asked(push(name, 1, 0)));
    }
    let mut begun = Vec::new();
    for _ in 0..2 {
        queue = Queue::load(&queue.save().unwrap(), limits).unwrap();
        begun = started(&queue.handle(Event::Restarted));
    }
    (queue, begun)
}

#[test]
fn what_died_twice_runs_alone_so_that_nobody_else_dies_of_it() {
    let (mut queue, begun) = two_suspects(3);
    assert_eq!(begun, [1], "one after the other");
    // Nobody else begins meanwhile, except who goes back.
    assert_eq!(asked(&mut queue, push("other", 1, 0)), [0; 0]);
    assert_eq!(asked(&mut queue, rollback("back")), [4]);
    assert_eq!(queue.alone(), Some((&project("first"), RequestId(1))), "it runs");
    assert_eq!(ended(&mut queue, 1), [0; 0], "it waits until it is alone");
    assert_eq!(queue.alone(), Some((&project("second"), RequestId(2))), "it waits");
    assert_eq!(ended(&mut queue, 4), [2]);
    assert_eq!(queue.alone(), Some((&project("second"), RequestId(2))), "it runs");
    // It dies once more, and the others go on.
    queue = Queue::load(&queue.save().unwrap(), Limits { running: 3, ..Limits::default() }).unwrap();
    let decisions = queue.handle(Event::Restarted);
    let aside = Decision::Told { request: RequestId(2), fate: Fate::SetAside { deaths: 3 } };
    assert!(decisions.contains(&aside), "{decisions:?}");
    assert_eq!(started(&decisions), [3]);
    assert_eq!(queue.alone(), None);
}

#[test]
fn going_back_never_waits_for_what_runs_alone() {
    let (mut queue, begun) = two_suspects(20);
    assert_eq!(begun, [1]);
    for number in 3..10 {
        assert_eq!(asked(&mut queue, rollback(&format!("back-{number}"))), [number]);
    }
}

#[test]
fn going_back_waits_for_what_is_to_run_alone_only_when_it_would_wait_without_end() {
    let (mut queue, _) = two_suspects(20);
    queue.handle(hold("second", true));
    ended(&mut queue, 1);
    assert_eq!(asked(&mut queue, push("long", 1, 0)), [3]);
    assert_eq!(started(&queue.handle(hold("second", false))), [0; 0], "it waits for the long run");
    let mut goes_back = |number| asked(&mut queue, rollback(&format!("back-{number}")));
    (4..10).for_each(|number| assert_eq!(goes_back(number), [number]));
    ended(&mut queue, 3);
    // Now nothing but rollbacks keeps it waiting.
    let mut goes_back = |number| asked(&mut queue, rollback(&format!("back-{number}")));
    (10..13).for_each(|number| assert_eq!(goes_back(number), [number]));
    (13..15).for_each(|number| assert_eq!(goes_back(number), [0; 0]));
    (4..12).for_each(|number| assert_eq!(ended(&mut queue, number), [0; 0]));
    assert_eq!(ended(&mut queue, 12), [2, 13, 14]);
}
