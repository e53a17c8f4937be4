//! The queue, one event after the other.

use eeveon_core::{Diagnose, ReleaseNumber, Untrusted};
use eeveon_daemon::{
    Answer, Ask, Decision, Event, Fate, Held, Limits, Queue, Refusal, RequestId, Seen, Want, queue::FORMAT,
};

use crate::common::{ask, commit, project, push, rollback};

fn queue(running: usize) -> Queue {
    Queue::new(Limits { running, ..Limits::default() })
}

/// Asks, and returns the answer and what was started.
fn request(queue: &mut Queue, ask: Ask) -> (Answer, Vec<u64>) {
    let decisions = queue.handle(Event::Asked(ask));
    let Some(Decision::Answer { answer, .. }) = decisions.first() else { panic!("{decisions:?}") };
    (answer.clone(), started(&decisions))
}

fn started(decisions: &[Decision]) -> Vec<u64> {
    let starts = decisions.iter().filter_map(|decision| match decision {
        Decision::Start(start) => Some(start.request.0),
        _ => None,
    });
    starts.collect()
}

fn told(decisions: &[Decision]) -> Vec<(u64, Fate)> {
    let told = decisions.iter().filter_map(|decision| match decision {
        Decision::Told { request, fate } => Some((request.0, *fate)),
        _ => None,
    });
    told.collect()
}

fn ended(queue: &mut Queue, request: u64) -> Vec<u64> {
    let decisions = queue.handle(Event::Ended(RequestId(request)));
    assert_eq!(told(&decisions), [(request, Fate::Ended)]);
    started(&decisions)
}

fn restarted(queue: &Queue) -> (Queue, Vec<Decision>) {
    let mut again = Queue::load(&queue.save().unwrap(), Limits { running: 1, ..Limits::default() }).unwrap();
    let decisions = again.handle(Event::Restarted);
    (again, decisions)
}

fn queued(position: usize) -> Answer {
    Answer::Queued { position }
}

/// Shuts a project's windows.
fn hold(name: &str) -> Event {
    Event::Hold { project: project(name), held: Held { shut: true, ..Held::default() } }
}

/// Lets everything of a project start.
fn release(name: &str) -> Event {
    Event::Hold { project: project(name), held: Held::default() }
}

#[test]
fn one_per_project_and_several_projects_at_once() {
    let mut queue = queue(2);
    assert_eq!(request(&mut queue, push("a", 1, 1)), (queued(1), vec![1]));
    assert_eq!(request(&mut queue, push("a", 2, 2)), (queued(1), vec![]));
    assert_eq!(request(&mut queue, push("b", 1, 3)), (queued(2), vec![3]));
    assert_eq!(request(&mut queue, push("c", 1, 4)), (queued(2), vec![]));
    assert_eq!(ended(&mut queue, 3), [4]);
    assert_eq!(ended(&mut queue, 1), [2]);
}

#[test]
fn a_newer_commit_takes_the_place_of_one_that_waits() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("a", 2, 2));
    request(&mut queue, push("b", 1, 3));
    let decisions = queue.handle(Event::Asked(push("a", 3, 4)));
    assert_eq!(
        decisions,
        [
            Decision::Answer {
                request: RequestId(4),
                answer: Answer::Replaced { earlier: RequestId(2), position: 1 }
            },
            Decision::Told { request: RequestId(2), fate: Fate::Replaced { by: RequestId(4) } },
        ]
    );
    assert_eq!(ended(&mut queue, 1), [4]);
}

#[test]
fn an_older_or_equal_commit_is_covered() {
    let mut queue = queue(1);
    request(&mut queue, push("b", 1, 1));
    request(&mut queue, push("a", 5, 5));
    let covered = Answer::Coalesced { into: RequestId(2), commit: Some(commit(5)) };
    assert_eq!(request(&mut queue, push("a", 4, 4)).0, covered);
    assert_eq!(request(&mut queue, push("a", 5, 9)).0, covered);
    // Seen again later, it is newer than what was seen in between.
    assert_eq!(request(&mut queue, push("a", 7, 8)).0, covered);
}

#[test]
fn what_runs_covers_its_own_commit_and_no_other() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 5, 5));
    let covered = Answer::Coalesced { into: RequestId(1), commit: Some(commit(5)) };
    assert_eq!(request(&mut queue, push("a", 5, 6)).0, covered);
    // Told of late it may be the newest all the same; whoever starts looks once more.
    assert_eq!(request(&mut queue, push("a", 4, 4)).0, queued(1));
    let newer = Answer::Replaced { earlier: RequestId(3), position: 1 };
    assert_eq!(request(&mut queue, push("a", 6, 6)).0, newer);
    // The branch was set back to what runs: what waits is out of date.
    let back = Answer::Replaced { earlier: RequestId(4), position: 1 };
    assert_eq!(request(&mut queue, push("a", 5, 7)).0, back);
}

#[test]
fn who_did_not_look_gets_the_newest_at_the_start() {
    let newest = |seen| ask("a", Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(seen) });
    let mut queue = queue(1);
    request(&mut queue, newest(1));
    // What runs may have looked before this.
    assert_eq!(request(&mut queue, newest(2)).0, queued(1));
    assert_eq!(
        request(&mut queue, push("a", 9, 9)).0,
        Answer::Coalesced { into: RequestId(2), commit: None }
    );
    ended(&mut queue, 1);
    request(&mut queue, push("a", 3, 3));
    let replaced = Answer::Replaced { earlier: RequestId(4), position: 1 };
    assert_eq!(request(&mut queue, newest(4)).0, replaced);
}

#[test]
fn branches_and_exact_commits_stand_beside_each_other() {
    let exact = |number| ask("a", Want::commit_itself(commit(number)));
    let other = |seen| {
        ask("a", Want::Newest { branch: "next".to_owned(), commit: Some(commit(1)), seen: Seen(seen) })
    };
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    assert_eq!(request(&mut queue, other(2)).0, queued(1));
    assert_eq!(request(&mut queue, exact(1)).0, queued(2));
    assert_eq!(request(&mut queue, exact(2)).0, queued(3));
    assert_eq!(
        request(&mut queue, exact(1)).0,
        Answer::Coalesced { into: RequestId(3), commit: Some(commit(1)) }
    );
    for request in [1, 2, 3] {
        assert_eq!(ended(&mut queue, request), [request + 1]);
    }
}

#[test]
fn a_rollback_goes_first_and_the_last_one_counts() {
    let to = |number| ask("a", Want::Rollback { to: Some(ReleaseNumber(number)) });
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("b", 1, 2));
    request(&mut queue, push("a", 2, 3));
    assert_eq!(request(&mut queue, rollback("a")).0, queued(2));
    assert_eq!(request(&mut queue, rollback("a")).0, Answer::Coalesced { into: RequestId(4), commit: None });
    assert_eq!(request(&mut queue, to(3)).0, Answer::Replaced { earlier: RequestId(4), position: 2 });
    assert_eq!(ended(&mut queue, 1), [6]);
    assert_eq!(ended(&mut queue, 6), [2]);
    assert_eq!(ended(&mut queue, 2), [3]);
}

#[test]
fn rollbacks_without_end_starve_nobody() {
    let mut queue = queue(1);
    request(&mut queue, rollback("a"));
    request(&mut queue, push("b", 1, 1));
    let mut running = 1;
    let mut rollbacks = 0;
    while running != 2 {
        request(&mut queue, rollback(if rollbacks % 2 == 0 { "c" } else { "a" }));
        running = ended(&mut queue, running)[0];
        rollbacks += 1;
        assert!(rollbacks < 6);
    }
}

#[test]
fn projects_take_turns() {
    let exact = |name, number| ask(name, Want::commit_itself(commit(number)));
    let mut queue = queue(1);
    (1..=4).for_each(|number| drop(request(&mut queue, exact("a", number))));
    assert_eq!(request(&mut queue, push("b", 1, 1)).0, queued(2));
    assert_eq!(request(&mut queue, push("c", 1, 1)).0, queued(3));
    let order = std::iter::successors(Some(1), |running| ended(&mut queue, *running).first().copied());
    assert_eq!(order.collect::<Vec<_>>(), [1, 2, 5, 6, 3, 4]);
}

#[test]
fn the_queue_is_bounded_and_keeps_room_for_rollbacks() {
    let limits = Limits { running: 1, waiting: 20, waiting_per_project: 5 };
    let exact = |name: &str, number| ask(name, Want::commit_itself(commit(number)));
    let mut queue = Queue::new(limits);
    (0..6).for_each(|number| {
        assert_eq!(request(&mut queue, exact("a", number)).0, queued(number.max(1) as usize))
    });
    let refused = Answer::Refused(Refusal::ProjectFull { waiting: 5 });
    assert_eq!(request(&mut queue, exact("a", 9)).0, refused);
    assert!(matches!(request(&mut queue, rollback("a")).0, Answer::Queued { .. }));
    for number in 0..12 {
        assert!(matches!(request(&mut queue, push(&format!("p{number}"), 1, 1)).0, Answer::Queued { .. }));
    }
    assert_eq!(request(&mut queue, push("late", 1, 1)).0, Answer::Refused(Refusal::Full { waiting: 18 }));
    assert!(matches!(request(&mut queue, rollback("p1")).0, Answer::Queued { .. }));
    assert!(matches!(request(&mut queue, rollback("p2")).0, Answer::Queued { .. }));
    assert_eq!(request(&mut queue, rollback("p3")).0, Answer::Refused(Refusal::Full { waiting: 20 }));
    // What takes no place is always welcome.
    assert!(matches!(request(&mut queue, push("p4", 2, 2)).0, Answer::Replaced { .. }));
    assert!(matches!(request(&mut queue, push("p4", 2, 2)).0, Answer::Coalesced { .. }));
}

#[test]
fn who_is_held_waits_and_the_others_do_not() {
    let mut queue = queue(1);
    queue.handle(hold("a"));
    assert_eq!(request(&mut queue, push("a", 1, 1)), (queued(1), vec![]));
    assert_eq!(request(&mut queue, push("b", 1, 2)), (queued(2), vec![2]));
    assert!(ended(&mut queue, 2).is_empty());
    // Going back is always possible.
    assert_eq!(request(&mut queue, rollback("a")).1, [3]);
    assert!(ended(&mut queue, 3).is_empty());
    assert_eq!(started(&queue.handle(release("a"))), [1]);
}

#[test]
fn who_is_exempt_stays_so_whatever_takes_the_place() {
    let urgent = |ask: Ask| Ask { outside_window: true, ..ask };
    let newest = || ask("a", Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(9) });
    // What waits for a window does nothing for one that does not.
    let mut queue = queue(1);
    queue.handle(hold("a"));
    request(&mut queue, push("a", 1, 1));
    let replaced = Answer::Replaced { earlier: RequestId(1), position: 1 };
    assert_eq!(request(&mut queue, urgent(push("a", 1, 1))), (replaced, vec![2]));
    // It covers the same for whoever can wait, and what it covers is begun again at once if it dies.
    let covered = Answer::Coalesced { into: RequestId(2), commit: Some(commit(1)) };
    assert_eq!(request(&mut queue, push("a", 1, 2)).0, covered);
    assert_eq!(request(&mut queue, push("a", 2, 3)), (queued(1), vec![]));
    let decisions = queue.handle(Event::Died(RequestId(2)));
    assert_eq!(told(&decisions), [(2, Fate::Replaced { by: RequestId(4) })]);
    assert_eq!(started(&decisions), [4], "the newer commit, as soon");
    ended(&mut queue, 4);

    // Who joins what was begun in time keeps it from being held after a death.
    queue.handle(release("a"));
    assert_eq!(request(&mut queue, push("a", 5, 5)).1, [5]);
    queue.handle(hold("a"));
    assert!(matches!(request(&mut queue, urgent(push("a", 5, 6))).0, Answer::Coalesced { .. }));
    assert_eq!(started(&queue.handle(Event::Died(RequestId(5)))), [5]);

    // A newer commit takes the place of an exempt request, and its right.
    assert_eq!(request(&mut queue, urgent(push("a", 6, 7))).0, queued(1));
    let replaced = Answer::Replaced { earlier: RequestId(7), position: 1 };
    assert_eq!(request(&mut queue, push("a", 7, 8)).0, replaced);
    assert_eq!(ended(&mut queue, 5), [8]);

    // Of two that end up together the one that stays has the right of both.
    ended(&mut queue, 8);
    queue.handle(release("a"));
    assert_eq!(request(&mut queue, newest()).1, [9]);
    queue.handle(hold("a"));
    request(&mut queue, urgent(push("a", 8, 10)));
    let decisions = queue.handle(Event::Died(RequestId(9)));
    assert_eq!(told(&decisions), [(10, Fate::Replaced { by: RequestId(9) })]);
    assert_eq!(started(&decisions), [9]);
}

#[test]
fn who_is_stopped_does_only_what_people_ask_for() {
    let mut queue = queue(1);
    let stop = || Event::Hold { project: project("a"), held: Held { stopped: true, ..Held::default() } };
    queue.handle(stop());
    assert_eq!(request(&mut queue, push("a", 1, 1)), (queued(1), vec![]));
    assert_eq!(request(&mut queue, rollback("a")), (queued(1), vec![2]));
    assert!(ended(&mut queue, 2).is_empty());
    // Whoever wants the same in person does not wait, and neither does what takes that one's place.
    let person = |number, seen| Ask { want: push("a", number, seen).want, ..rollback("a") };
    let (answer, starts) = request(&mut queue, person(1, 2));
    assert_eq!(
        (answer, starts),
        (Answer::Coalesced { into: RequestId(1), commit: Some(commit(1)) }, vec![1])
    );
    assert_eq!(request(&mut queue, person(2, 3)), (queued(1), vec![]));
    assert!(matches!(request(&mut queue, push("a", 3, 4)).0, Answer::Replaced { .. }));
    assert_eq!(ended(&mut queue, 1), [5]);
    assert_eq!(queue.running().next().map(|it| it.ask.is_automatic()), Some(false));
    ended(&mut queue, 5);
    request(&mut queue, push("a", 4, 5));
    assert_eq!(started(&queue.handle(release("a"))), [6]);
}

#[test]
fn who_could_not_begin_is_next_again_and_has_not_died() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, ask("a", Want::commit_itself(commit(9))));
    queue.handle(hold("a"));
    assert_eq!(queue.handle(Event::Deferred(RequestId(1))), []);
    let decisions = queue.handle(release("a"));
    assert!(
        matches!(&decisions[..], [Decision::Start(it)] if (it.request.0, it.deaths) == (1, 0)),
        "{decisions:?}"
    );
    // Somebody does not want it any more.
    queue.handle(Event::Cancel(RequestId(1)));
    let decisions = queue.handle(Event::Deferred(RequestId(1)));
    assert_eq!((told(&decisions), started(&decisions)), (vec![(1, Fate::Cancelled)], vec![2]));
}

#[test]
fn nothing_waits_for_a_project_that_is_gone() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("a", 2, 2));
    request(&mut queue, push("b", 1, 3));
    let decisions = queue.handle(Event::Gone(project("a")));
    assert_eq!(told(&decisions), [(2, Fate::Cancelled)]);
    assert_eq!(ended(&mut queue, 1), [3]);
    assert_eq!(queue.waiting().count(), 0);
}

#[test]
fn a_death_while_draining_does_not_count() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    queue.handle(Event::Drain);
    assert_eq!(queue.handle(Event::Died(RequestId(1))), [Decision::Drained]);
    let (_, decisions) = restarted(&queue);
    assert!(matches!(&decisions[..], [Decision::Start(start)] if start.deaths == 0), "{decisions:?}");
}

#[test]
fn a_queue_that_was_drained_is_not_drained_again_before_it_is_restarted() {
    let mut queue = queue(1);
    queue.handle(Event::Drain);
    let mut again = Queue::load(&queue.save().unwrap(), Limits::default()).unwrap();
    assert_eq!(again.handle(hold("a")), []);
    assert_eq!(request(&mut again, push("b", 1, 1)), (queued(1), vec![]));
    assert_eq!(started(&again.handle(Event::Restarted)), [1]);
}

#[test]
fn nothing_starts_before_what_ran_is_dealt_with() {
    let mut queue = queue(2);
    request(&mut queue, push("a", 1, 1));
    queue.handle(hold("b"));
    request(&mut queue, push("b", 1, 1));
    let mut again = Queue::load(&queue.save().unwrap(), Limits::default()).unwrap();
    assert_eq!(again.handle(release("b")), []);
    assert_eq!(request(&mut again, push("c", 1, 1)), (queued(2), vec![]));
    assert_eq!(started(&again.handle(Event::Restarted)), [1, 2, 3]);
}

#[test]
fn moments_are_told_apart_over_restarts() {
    let mut queue = queue(1);
    let before = queue.seen_now();
    let mut again = Queue::load(&queue.save().unwrap(), Limits::default()).unwrap();
    assert!(again.seen_now() > before);
}

#[test]
fn words_have_a_limit() {
    let mut long = push("a", 1, 1);
    long.reason = Some(Untrusted::from("x".repeat(1001)));
    assert_eq!(request(&mut queue(1), long).0, Answer::Refused(Refusal::TooLong { limit: 1000 }));
}

#[test]
fn what_waits_is_cancelled_at_once_and_what_runs_is_asked_to_stop() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("b", 1, 2));
    assert_eq!(
        queue.handle(Event::Cancel(RequestId(2))),
        [Decision::Told { request: RequestId(2), fate: Fate::Cancelled }]
    );
    assert_eq!(queue.handle(Event::Cancel(RequestId(2))), [Decision::Unknown(RequestId(2))]);
    assert_eq!(queue.handle(Event::Cancel(RequestId(1))), [Decision::Stop(RequestId(1))]);
    assert_eq!(queue.handle(Event::Cancel(RequestId(1))), []);
    // What is being stopped covers nothing any more.
    assert_eq!(request(&mut queue, push("a", 1, 3)), (queued(1), vec![]));
    assert_eq!(ended(&mut queue, 1), [3]);
}

#[test]
fn a_death_is_followed_by_another_attempt_and_the_third_is_the_last() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("b", 1, 2));
    for deaths in 1..=2 {
        let decisions = queue.handle(Event::Died(RequestId(1)));
        assert!(
            matches!(&decisions[..], [Decision::Start(start)] if start.deaths == deaths),
            "{decisions:?}"
        );
    }
    let decisions = queue.handle(Event::Died(RequestId(1)));
    assert_eq!(told(&decisions), [(1, Fate::SetAside { deaths: 3 })]);
    assert_eq!(started(&decisions), [2]);
    let refused = Answer::Refused(Refusal::SetAside { request: RequestId(1) });
    assert_eq!(request(&mut queue, push("a", 1, 9)).0, refused);
    assert_eq!(request(&mut queue, push("a", 2, 9)).0, queued(1));
    assert_eq!(queue.aside().count(), 1);
    queue.handle(Event::Lift(project("a")));
    assert!(matches!(request(&mut queue, push("a", 1, 10)).0, Answer::Replaced { .. }));
}

#[test]
fn what_names_no_commit_may_be_newer_than_what_was_set_aside() {
    let mut queue = queue(1);
    let newest = |seen| Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(seen) };
    request(&mut queue, ask("a", newest(1)));
    for _ in 0..3 {
        queue.handle(Event::Died(RequestId(1)));
    }
    assert_eq!(queue.aside().count(), 1);
    assert_eq!(request(&mut queue, ask("a", newest(2))).0, queued(1));
}

#[test]
fn what_came_meanwhile_replaces_what_died() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("a", 2, 2));
    let decisions = queue.handle(Event::Died(RequestId(1)));
    assert_eq!(told(&decisions), [(1, Fate::Replaced { by: RequestId(2) })]);
    assert_eq!(started(&decisions), [2]);
    // One that takes the newest whatever it is knows more than one that waits for a commit.
    ended(&mut queue, 2);
    request(&mut queue, ask("a", Want::Newest { branch: "main".to_owned(), commit: None, seen: Seen(5) }));
    request(&mut queue, push("a", 4, 4));
    let decisions = queue.handle(Event::Died(RequestId(3)));
    assert_eq!(
        (told(&decisions), started(&decisions)),
        (vec![(4, Fate::Replaced { by: RequestId(3) })], vec![3])
    );
}

#[test]
fn what_was_being_cancelled_is_not_tried_again() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    queue.handle(Event::Cancel(RequestId(1)));
    let decisions = queue.handle(Event::Died(RequestId(1)));
    assert_eq!(decisions, [Decision::Told { request: RequestId(1), fate: Fate::Cancelled }]);
}

#[test]
fn an_end_that_is_told_twice_frees_no_place_twice() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("b", 1, 2));
    request(&mut queue, push("c", 1, 3));
    assert_eq!(ended(&mut queue, 1), [2]);
    assert_eq!(queue.handle(Event::Ended(RequestId(1))), []);
    assert_eq!(queue.handle(Event::Died(RequestId(1))), []);
}

#[test]
fn a_drain_starts_nothing_but_takes_requests() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    assert_eq!(queue.handle(Event::Drain), []);
    assert_eq!(request(&mut queue, push("b", 1, 2)), (queued(1), vec![]));
    let decisions = queue.handle(Event::Ended(RequestId(1)));
    assert_eq!((started(&decisions), decisions.last()), (vec![], Some(&Decision::Drained)));
    let (again, decisions) = restarted(&queue);
    assert_eq!(started(&decisions), [2]);
    assert!(!again.is_draining());
}

#[test]
fn after_a_drain_an_interruption_is_no_death() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    let (mut queue, decisions) = restarted(&queue);
    assert!(matches!(&decisions[..], [Decision::Start(start)] if start.deaths == 1), "{decisions:?}");
    for _ in 0..5 {
        queue.handle(Event::Drain);
        let (again, decisions) = restarted(&queue);
        assert!(matches!(&decisions[..], [Decision::Start(start)] if start.deaths == 1), "{decisions:?}");
        queue = again;
    }
}

#[test]
fn nothing_is_lost_over_a_restart() {
    let mut queue = queue(1);
    request(&mut queue, push("a", 1, 1));
    request(&mut queue, push("b", 1, 2));
    request(&mut queue, push("a", 2, 3));
    request(&mut queue, rollback("c"));
    let (mut again, decisions) = restarted(&queue);
    // What was begun is replaced by the newer commit that waits; the rollback goes first.
    assert_eq!(told(&decisions), [(1, Fate::Replaced { by: RequestId(3) })]);
    assert_eq!(started(&decisions), [4]);
    assert_eq!(ended(&mut again, 4), [2]);
    assert_eq!(ended(&mut again, 2), [3]);
}

#[test]
fn what_was_written_before_is_read() {
    let golden = include_str!("../golden/queue-3.json").trim_end();
    let mut queue = Queue::new(Limits { running: 2, ..Limits::default() });
    request(&mut queue, push("a", 1, 1));
    for _ in 0..3 {
        queue.handle(Event::Died(RequestId(1)));
    }
    request(&mut queue, push("a", 2, 2));
    request(&mut queue, push("a", 3, 3));
    let older = Want::Commit { commit: commit(4), allow_older: true, again: false, irreversible: false };
    request(&mut queue, ask("a", older));
    let mut reasoned = rollback("b");
    reasoned.reason = Some(Untrusted::from("too slow"));
    request(&mut queue, reasoned);
    queue.handle(Event::Cancel(RequestId(2)));
    queue.handle(Event::Drain);
    assert_eq!(FORMAT, 3);
    assert_eq!(queue.save().unwrap(), golden);
    let before = [include_str!("../golden/queue-1.json"), include_str!("../golden/queue-2.json")];
    for text in before.map(str::trim_end).into_iter().chain([golden]) {
        assert_eq!(Queue::load(text, Limits::default()).unwrap().save().unwrap(), golden);
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let golden = include_str!("../golden/queue-3.json");
    let load = |text: &str| Queue::load(text, Limits::default()).unwrap_err().code();
    assert_eq!(load(&golden.replace("\"format\":3", "\"format\":4,\"more\":0")), "daemon/newer-format");
    for text in ["", "{}", "[]", "{\"format\":1}", &golden[..golden.len() / 2]] {
        assert_eq!(load(text), "daemon/damaged-state", "{text}");
    }
    for (from, to) in [
        ("\"next\":6", "\"next\":4"),
        ("\"request\":3", "\"request\":4"),
        ("\"lanes\":[{\"project\":\"a\"", "\"lanes\":[{\"project\":\"z\""),
        ("\"running\":{\"a\"", "\"running\":{\"z\""),
        ("\"overtakes\"", "\"takeovers\""),
    ] {
        let changed = golden.replace(from, to);
        assert_ne!(changed, golden, "{from}");
        assert_eq!(load(&changed), "daemon/damaged-state", "{from}");
    }
}
