//! What holds for the queue whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use eeveon_core::{CommitId, ProjectName};
use eeveon_daemon::{
    Answer, Ask, Decision, Event, Fate, Held, Limits, Queue, RequestId, Want, deaths::MOST_DEATHS,
};
use proptest::prelude::*;

use crate::common::{ask, commit, project, push, rollback};

/// What happens, with running deployments named by their place.
#[derive(Clone, Debug)]
enum Move {
    Push { project: u8, commit: u8, seen: u8, urgent: bool },
    Exact { project: u8, commit: u8, urgent: bool },
    Rollback { project: u8 },
    End(u8),
    Die(u8),
    Cancel(u8),
    Restart,
    DrainAndRestart,
    Lift { project: u8 },
    Defer(u8),
    Hold { project: u8, shut: bool, stopped: bool },
    Gone { project: u8 },
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        6 => (0_u8..5, 0_u8..8, 0_u8..40, prop::bool::weighted(0.2))
            .prop_map(|(project, commit, seen, urgent)| Move::Push { project, commit, seen, urgent }),
        2 => (0_u8..5, 0_u8..4, prop::bool::weighted(0.2))
            .prop_map(|(project, commit, urgent)| Move::Exact { project, commit, urgent }),
        1 => (0_u8..5).prop_map(|project| Move::Rollback { project }),
        6 => any::<u8>().prop_map(Move::End),
        2 => any::<u8>().prop_map(Move::Die),
        1 => any::<u8>().prop_map(Move::Cancel),
        1 => Just(Move::Restart),
        1 => Just(Move::DrainAndRestart),
        1 => (0_u8..5).prop_map(|project| Move::Lift { project }),
        1 => any::<u8>().prop_map(Move::Defer),
        4 => (0_u8..5, any::<bool>(), prop::bool::weighted(0.3))
            .prop_map(|(project, shut, stopped)| Move::Hold { project, shut, stopped }),
        1 => (0_u8..5).prop_map(|project| Move::Gone { project }),
    ];
    prop::collection::vec(one, 1..120)
}

fn name(number: u8) -> String {
    format!("p{number}")
}

/// What is known about the world outside the queue.
#[derive(Default)]
struct Model {
    asks: BTreeMap<RequestId, Ask>,
    /// What became of each request; a request may hang on another.
    open: BTreeSet<RequestId>,
    hangs_on: BTreeMap<RequestId, RequestId>,
    running: BTreeMap<ProjectName, RequestId>,
    /// Starts since a project has been waiting, to see that it has its turn.
    waited: BTreeMap<ProjectName, usize>,
    starts: BTreeMap<RequestId, u8>,
    deaths: BTreeMap<RequestId, u8>,
    held: BTreeMap<ProjectName, Held>,
    /// Requests that do not wait for windows, and those that do what such a one wanted.
    urgent: BTreeSet<RequestId>,
    /// Requests of people, and those that do what such a one wanted.
    manual: BTreeSet<RequestId>,
}

impl Model {
    fn check(&mut self, ask: Option<Ask>, decisions: &[Decision], queue: &Queue, limits: Limits) {
        for decision in decisions {
            match decision {
                Decision::Answer { request, answer } => {
                    let ask = ask.clone().expect("an answer without a question");
                    if ask.is_exempt() {
                        self.urgent.insert(*request);
                    }
                    if !ask.is_automatic() {
                        self.manual.insert(*request);
                    }
                    assert!(self.asks.insert(*request, ask).is_none(), "a number was used twice");
                    match answer {
                        Answer::Queued { position } => {
                            assert!(*position >= 1);
                            self.open.insert(*request);
                        }
                        Answer::Replaced { earlier, .. } => {
                            assert!(self.open.contains(earlier), "replaced {earlier}, which was over");
                            self.open.insert(*request);
                        }
                        Answer::Coalesced { into, commit } => {
                            assert!(self.open.contains(into), "hangs on {into}, which was over");
                            self.covers(*into, *request, commit.as_ref());
                            self.hang(*request, *into);
                        }
                        Answer::Refused(_) => {}
                    }
                }
                Decision::Start(start) => {
                    assert!(self.open.contains(&start.request), "{} was over", start.request);
                    assert!(self.may_start(start.request, &start.ask.project), "{} is held", start.request);
                    let before = self.running.insert(start.ask.project.clone(), start.request);
                    assert_eq!(before, None, "two at once in {}", start.ask.project);
                    assert_eq!(self.asks[&start.request].want.commit(), start.ask.want.commit());
                    assert_eq!(start.deaths, self.deaths.get(&start.request).copied().unwrap_or(0));
                    *self.starts.entry(start.request).or_default() += 1;
                    self.turns(&start.ask.project);
                }
                Decision::Told { request, fate } => {
                    assert!(self.open.remove(request), "{request} was over already");
                    self.running.retain(|_, running| running != request);
                    if let Fate::Replaced { by } = fate {
                        self.hang(*request, *by);
                    }
                    if let Fate::SetAside { deaths } = fate {
                        assert_eq!(*deaths, MOST_DEATHS);
                    }
                }
                Decision::Stop(request) => assert!(self.running.values().any(|running| running == request)),
                Decision::Unknown(_) | Decision::Drained => {}
            }
        }
        let running: BTreeMap<_, _> =
            queue.running().map(|run| (run.ask.project.clone(), run.request)).collect();
        assert_eq!(running, self.running);
        let known: BTreeSet<_> =
            queue.waiting().map(|waiting| waiting.request).chain(running.into_values()).collect();
        assert_eq!(known, self.open, "a request was lost or came from nowhere");
        assert!(self.running.len() <= limits.running);
        // What died waits again, also where there is no room for anything new.
        assert!(queue.waiting().count() + self.running.len() <= limits.waiting + limits.running);
        if !queue.is_draining() {
            let idle = queue.waiting().any(|waiting| {
                let project = &waiting.ask.project;
                self.may_start(waiting.request, project) && !self.running.contains_key(project)
            });
            // What died twice runs alone, and nobody begins before it.
            let waits_alone = queue.waiting().any(|it| it.deaths + 1 >= MOST_DEATHS);
            let runs_alone = queue.running().any(|it| it.deaths + 1 >= MOST_DEATHS);
            let is_full = self.running.len() == limits.running;
            assert!(!idle || is_full || waits_alone || runs_alone, "a place is free and somebody waits");
            // Going back waits for nobody but others that go back.
            let goes_back = queue.waiting().any(|waiting| {
                let project = &waiting.ask.project;
                waiting.ask.want.is_rollback()
                    && self.may_start(waiting.request, project)
                    && !self.running.contains_key(project)
            });
            let others_run = queue.running().any(|it| !it.ask.want.is_rollback());
            assert!(!goes_back || is_full || !others_run, "a place is free and going back waits");
        }
        let held = &self.held;
        self.waited.retain(|project, _| {
            !held.contains_key(project) && queue.waiting().any(|waiting| waiting.ask.project == *project)
        });
        let may_start = |project| !self.running.contains_key(project) && !self.held.contains_key(project);
        for waiting in queue.waiting().filter(|waiting| may_start(&waiting.ask.project)) {
            self.waited.entry(waiting.ask.project.clone()).or_default();
        }
    }

    fn may_start(&self, request: RequestId, project: &ProjectName) -> bool {
        let held = self.held.get(project).copied().unwrap_or_default();
        let passes = |is_held: bool, rights: &BTreeSet<RequestId>| !is_held || rights.contains(&request);
        passes(held.shut, &self.urgent) && passes(held.stopped, &self.manual)
    }

    /// One request is done by another from now on.
    fn hang(&mut self, request: RequestId, on: RequestId) {
        self.hangs_on.insert(request, on);
        if self.manual.contains(&request) {
            self.manual.insert(on);
        }
        if self.urgent.contains(&request) {
            self.urgent.insert(on);
        }
    }

    /// A deployment of this branch that names a commit must not be older than what it is said to cover.
    fn covers(&self, into: RequestId, request: RequestId, commit: Option<&CommitId>) {
        let (covering, covered) = (&self.asks[&into].want, &self.asks[&request].want);
        assert_eq!(covering.commit(), commit);
        match (covering, covered) {
            (
                Want::Newest { branch, commit: Some(commit), seen },
                Want::Newest { branch: new_branch, commit: new, seen: new_seen },
            ) => {
                // Seen again, the time of the first request does not count; then it is the same commit.
                let same = Some(commit) == new.as_ref();
                let again = self.hangs_on.iter().any(|(other, on)| {
                    *on == into
                        && matches!(&self.asks[other].want, Want::Newest { commit: same, seen, .. }
                        if same.as_ref() == Some(commit) && seen > new_seen)
                });
                assert!(
                    branch == new_branch && (same || seen > new_seen || again),
                    "{covering:?} {covered:?}"
                );
            }
            _ => assert_eq!(covering, covered),
        }
    }

    fn turns(&mut self, project: &ProjectName) {
        self.waited.remove(project);
        for (waiting, starts) in &mut self.waited {
            *starts += 1;
            // Five projects, each of which may be passed by three rollbacks, and come back after deaths.
            assert!(*starts <= 5 * 4 + 3 * 5, "{waiting} has waited for {starts} starts");
        }
    }
}

fn pick(model: &Model, place: u8) -> Option<RequestId> {
    let running: Vec<_> = model.running.values().copied().collect();
    running.get(usize::from(place) % running.len().max(1)).copied()
}

fn first_running(queue: &Queue) -> Option<RequestId> {
    queue.running().next().map(|running| running.request)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(moves in moves(), running in 1_usize..4, waiting in 3_usize..30) {
        let limits = Limits { running, waiting, waiting_per_project: 6 };
        let mut queue = Queue::new(limits);
        let mut model = Model::default();
        let step = |queue: &mut Queue, model: &mut Model, event: Event| {
            let asked = if let Event::Asked(ask) = &event { Some(ask.clone()) } else { None };
            let decisions = queue.handle(event);
            model.check(asked, &decisions, queue, limits);
        };
        for next in moves {
            match next {
                Move::Push { project, commit, seen, urgent } => {
                    let mut ask = push(&name(project), commit.into(), seen.into());
                    ask.outside_window = urgent;
                    step(&mut queue, &mut model, Event::Asked(ask));
                }
                Move::Exact { project, commit: number, urgent } => {
                    let want = Want::commit_itself(commit(number.into()));
                    let ask = Ask { outside_window: urgent, ..ask(&name(project), want) };
                    step(&mut queue, &mut model, Event::Asked(ask));
                }
                Move::Rollback { project } => {
                    step(&mut queue, &mut model, Event::Asked(rollback(&name(project))));
                }
                Move::End(place) => if let Some(request) = pick(&model, place) {
                    step(&mut queue, &mut model, Event::Ended(request));
                },
                Move::Die(place) => if let Some(request) = pick(&model, place) {
                    model.running.retain(|_, running| *running != request);
                    *model.deaths.entry(request).or_default() += 1;
                    step(&mut queue, &mut model, Event::Died(request));
                },
                Move::Cancel(number) => step(&mut queue, &mut model, Event::Cancel(RequestId(number.into()))),
                Move::Lift { project: number } => {
                    step(&mut queue, &mut model, Event::Lift(project(&name(number))));
                }
                Move::Defer(place) => if let Some(request) = pick(&model, place) {
                    model.running.retain(|_, running| *running != request);
                    step(&mut queue, &mut model, Event::Deferred(request));
                },
                Move::Hold { project: number, shut, stopped } => {
                    let (project, held) = (project(&name(number)), Held { shut, stopped, ..Held::default() });
                    match shut || stopped {
                        true => model.held.insert(project.clone(), held),
                        false => model.held.remove(&project),
                    };
                    step(&mut queue, &mut model, Event::Hold { project, held });
                }
                Move::Gone { project: number } => {
                    let gone = project(&name(number));
                    model.held.remove(&gone);
                    step(&mut queue, &mut model, Event::Gone(gone.clone()));
                    prop_assert!(queue.waiting().chain(queue.aside()).all(|it| it.ask.project != gone));
                }
                Move::Restart | Move::DrainAndRestart => {
                    if matches!(next, Move::DrainAndRestart) {
                        step(&mut queue, &mut model, Event::Drain);
                    }
                    for request in std::mem::take(&mut model.running).into_values() {
                        if !queue.is_draining() {
                            *model.deaths.entry(request).or_default() += 1;
                        }
                    }
                    queue = Queue::load(&queue.save().unwrap(), limits).unwrap();
                    for (project, held) in &model.held {
                        let hold = Event::Hold { project: project.clone(), held: *held };
                        assert_eq!(queue.handle(hold), []);
                    }
                    step(&mut queue, &mut model, Event::Restarted);
                }
            }
        }
        // Left alone, everything comes to an end.
        while let Some((project, _)) = model.held.pop_first() {
            step(&mut queue, &mut model, Event::Hold { project, held: Held::default() });
        }
        for _ in 0..200 {
            let Some(request) = pick(&model, 0) else { break };
            step(&mut queue, &mut model, Event::Ended(request));
        }
        prop_assert!(model.open.is_empty(), "never ended: {:?}", model.open);
        for (request, on) in &model.hangs_on {
            let ends = std::iter::successors(Some(*on), |on| model.hangs_on.get(on).copied()).take(500).last();
            prop_assert!(ends.is_some_and(|last| !model.hangs_on.contains_key(&last)), "{} goes in circles", request);
        }
        prop_assert!(model.starts.values().all(|starts| *starts <= 40));
    }

    #[test]
    fn of_one_branch_the_newest_is_deployed_last(seen in Just((1_u8..12).collect::<Vec<_>>()).prop_shuffle(), ends in prop::collection::vec(any::<bool>(), 12)) {
        let mut queue = Queue::new(Limits::default());
        let mut deployed = Vec::new();
        let note = |decisions: Vec<Decision>, deployed: &mut Vec<_>| {
            deployed.extend(decisions.into_iter().filter_map(|decision| match decision {
                Decision::Start(start) => Some((start.request, start.ask.want.commit().cloned())),
                _ => None,
            }));
        };
        for (number, end) in seen.iter().zip(ends) {
            note(queue.handle(Event::Asked(push("a", u64::from(*number), u64::from(*number)))), &mut deployed);
            if end && let Some(running) = first_running(&queue) {
                note(queue.handle(Event::Ended(running)), &mut deployed);
            }
        }
        while let Some(running) = first_running(&queue) {
            note(queue.handle(Event::Ended(running)), &mut deployed);
        }
        // While something runs or waits, nothing older is started after it; after an end the queue cannot know.
        let newest = deployed.iter().any(|(_, deployed)| *deployed == Some(commit(11)));
        prop_assert!(newest, "{:?}", deployed);
    }
}
