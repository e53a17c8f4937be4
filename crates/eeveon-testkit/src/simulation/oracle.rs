//! What was promised, and whether it came true.

use std::collections::{BTreeMap, BTreeSet};

use eeveon_daemon::{Answer, Fate, RequestId};
use jiff::Timestamp;

/// Remembers what was promised to whom.
#[derive(Default)]
pub(super) struct Oracle {
    /// The first promise that was not kept.
    pub(super) broken: Option<String>,
    answers: BTreeMap<RequestId, Answer>,
    fates: BTreeMap<RequestId, Fate>,
    /// The commit each request was carried out with, as far as it came.
    carried: BTreeMap<RequestId, u64>,
    pivots: BTreeSet<RequestId>,
    /// Requests that are not to wait for windows.
    urgent: BTreeSet<RequestId>,
    /// Webhooks that were accepted: project, commit and the request they became.
    accepted: Vec<(usize, u64, Option<RequestId>)>,
    /// The last time each project's schedule ran for.
    planned: BTreeMap<usize, Timestamp>,
    /// How many successes there had been when a project last had its turn after another.
    turns: BTreeMap<usize, usize>,
}

impl Oracle {
    pub(super) fn broke(&mut self, what: impl FnOnce() -> String) {
        self.broken.get_or_insert_with(what);
    }

    pub(super) fn answered(&mut self, request: RequestId, answer: Answer) {
        if let Answer::Coalesced { into, .. } = &answer
            && self.urgent.contains(&request)
        {
            self.urgent.insert(*into);
        }
        if self.answers.insert(request, answer).is_some() {
            self.broke(|| format!("the number {request} was given out twice"));
        }
    }

    pub(super) fn told(&mut self, request: RequestId, fate: Fate) {
        self.fates.insert(request, fate);
        if self.urgent.remove(&request)
            && let Fate::Replaced { by } = fate
        {
            self.urgent.insert(by);
        }
    }

    pub(super) fn asked_urgently(&mut self, request: RequestId) {
        self.urgent.insert(request);
    }

    pub(super) fn is_anything_urgent(&self) -> bool {
        !self.urgent.is_empty()
    }

    /// Says whether windows do not count for a request, or for one it does, too.
    pub(super) fn is_urgent(&self, request: RequestId) -> bool {
        self.urgent.contains(&request)
    }

    pub(super) fn carried_out(&mut self, request: RequestId, commit: u64) {
        self.carried.insert(request, commit);
    }

    pub(super) fn pivoted(&mut self, request: RequestId) {
        if !self.pivots.insert(request) {
            self.broke(|| format!("request {request} was deployed twice"));
        }
    }

    pub(super) fn accepted(&mut self, project: usize, commit: u64, request: Option<RequestId>) {
        self.accepted.push((project, commit, request));
    }

    pub(super) fn scheduled(&mut self, project: usize, planned: Timestamp) {
        if self.planned.insert(project, planned).is_some_and(|before| before >= planned) {
            self.broke(|| format!("the schedule of project {project} ran twice for {planned}"));
        }
    }

    pub(super) fn turn(&mut self, project: usize, successes: usize) {
        if self.turns.insert(project, successes).is_some_and(|before| before >= successes) {
            self.broke(|| format!("project {project} had two turns after one success"));
        }
    }

    /// Compares in the end.
    pub(super) fn close(&mut self) {
        let requests: Vec<_> = self.answers.keys().copied().collect();
        for request in requests {
            self.end_of(request);
        }
        for (project, commit, request) in std::mem::take(&mut self.accepted) {
            let Some(request) = request else {
                self.broke(|| format!("a webhook of project {project} was accepted and dropped"));
                continue;
            };
            let Some((last, Fate::Ended)) = self.end_of(request) else { continue };
            match self.carried.get(&last).copied() {
                Some(carried) if carried >= commit => {}
                carried => self.broke(|| {
                    format!("commit {commit} of project {project} was promised by request {request}, but {last} deployed {carried:?}")
                }),
            }
        }
    }

    /// Follows a request to the one that did it in the end. None: it was refused.
    fn end_of(&mut self, request: RequestId) -> Option<(RequestId, Fate)> {
        let mut at = request;
        for _ in 0..=self.answers.len() {
            at = match (self.answers.get(&at), self.fates.get(&at)) {
                (_, Some(Fate::Replaced { by })) => *by,
                (_, Some(fate)) => return Some((at, *fate)),
                (Some(Answer::Refused(_)), None) => return None,
                (Some(Answer::Coalesced { into, .. }), None) => *into,
                _ => {
                    self.broke(|| format!("request {request} was lost: nobody knows what became of {at}"));
                    return None;
                }
            };
        }
        self.broke(|| format!("request {request} goes in circles"));
        None
    }
}
