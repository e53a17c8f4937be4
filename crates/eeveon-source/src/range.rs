//! Which commits one has and another has not, whatever their clocks say.

use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::ObjectId;

use crate::history::Seen;

/// Returns the commits `new` has and `old` has not, at most `limit`, and whether these are all.
/// `look` returns `None` for what is not here.
///
/// Clocks only say in which order to walk. A walk by clock may meet a commit long before it meets
/// the way by which `old` has it, so it goes on until that is ruled out.
pub(crate) fn between<E>(
    old: ObjectId,
    new: ObjectId,
    limit: usize,
    mut look: impl FnMut(ObjectId) -> Result<Option<Seen>, E>,
) -> Result<(Vec<ObjectId>, bool), E> {
    let mut walk = Walk { old_has: HashSet::from([old]), ..Walk::default() };
    let mut queued = HashSet::from([old, new]);
    let mut queue = BinaryHeap::new();
    let old_is_here = look(old)?.inspect(|seen| queue.push((seen.time, old))).is_some();
    if new != old {
        queue.extend(look(new)?.map(|seen| (seen.time, new)));
    }
    // The ones met that `old` is not known to have.
    let mut found: Vec<ObjectId> = Vec::new();
    let mut check_at = 0;
    let enough = limit.saturating_add(1);
    loop {
        let open = queue.iter().any(|(_, id)| !walk.old_has.contains(id));
        if (!open || found.len() >= enough) && (queue.is_empty() || walk.seen.len() >= check_at) {
            found.retain(|id| !walk.old_has.contains(id));
            let listed = found.get(..enough).unwrap_or(&found);
            let edge = queue.iter().map(|(_, id)| *id).filter(|id| walk.old_has.contains(id)).collect();
            if (!open || listed.len() == enough) && walk.cannot_reach(edge, listed) {
                break;
            }
            // Not at every step: the check walks as far as the walk has come.
            check_at = walk.seen.len().saturating_mul(2);
        }
        let Some((_, id)) = queue.pop() else { break };
        let Some(seen) = look(id)? else { continue };
        if !walk.old_has.contains(&id) {
            found.push(id);
        }
        for parent in &seen.parents {
            if queued.insert(*parent)
                && let Some(seen) = look(*parent)?
            {
                queue.push((seen.time, *parent));
            }
        }
        walk.enter(id, seen);
    }
    let complete = old_is_here && found.len() <= limit && walk.is_certain(&found);
    found.truncate(limit);
    Ok((found, complete))
}

#[derive(Default)]
struct Walk {
    /// What was walked.
    seen: HashMap<ObjectId, Seen>,
    /// The ones `old` is known to have, walked or not.
    old_has: HashSet<ObjectId>,
}

impl Walk {
    /// Adds a commit. If `old` has it, it has all that is below, also what was walked before.
    fn enter(&mut self, id: ObjectId, seen: Seen) {
        self.seen.insert(id, seen);
        let mut open = if self.old_has.contains(&id) { vec![id] } else { Vec::new() };
        while let Some(id) = open.pop() {
            let parents = self.seen.get(&id).map_or(&[][..], |seen| &seen.parents);
            open.extend(parents.iter().copied().filter(|parent| self.old_has.insert(*parent)));
        }
    }

    /// Whether none of `edge` can have any of `listed`, whatever is below the edge: because each of
    /// `listed` has all of `edge`, and no commit has one that has it.
    fn cannot_reach(&self, edge: Vec<ObjectId>, listed: &[ObjectId]) -> bool {
        if edge.is_empty() {
            return true;
        }
        let all: HashSet<&ObjectId> = listed.iter().collect();
        let parents = |id: &ObjectId| self.seen.get(id).map_or(&[][..], |seen| &seen.parents);
        // Who has one of them has a lowest one.
        let mut lowest = listed.iter().filter(|id| !parents(id).iter().any(|parent| all.contains(parent)));
        lowest.all(|id| {
            let mut open = vec![*id];
            let mut below = HashSet::new();
            while let Some(id) = open.pop() {
                open.extend(parents(&id).iter().filter(|parent| below.insert(**parent)));
            }
            edge.iter().all(|id| below.contains(id))
        })
    }

    /// Whether nothing that is cut off could change what is `listed`.
    fn is_certain(&self, listed: &[ObjectId]) -> bool {
        let is_cut = |id: &&ObjectId| self.seen.get(*id).is_some_and(|seen| seen.cut);
        let edge = self.old_has.iter().filter(is_cut).copied().collect();
        !listed.iter().any(|id| is_cut(&id)) && self.cannot_reach(edge, listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec, prelude::*};

    /// The commits by number: clock, parents (all of smaller numbers), and whether history is cut
    /// off there.
    type Commits = Vec<(i64, Vec<usize>, bool)>;

    fn id(number: usize) -> ObjectId {
        // So that the order of ids has nothing to do with the order of commits.
        let mut bytes = [(number as u8).wrapping_mul(97); 20];
        bytes[1] = number as u8;
        ObjectId::from_bytes_or_panic(&bytes)
    }

    fn run(commits: &Commits, old: usize, new: usize, limit: usize) -> (Vec<usize>, bool, usize) {
        let ids: HashMap<_, _> = (0..commits.len()).map(|number| (id(number), number)).collect();
        let mut looked = HashSet::new();
        let found = between(old_id(commits, old), id(new), limit, |id| {
            looked.insert(id);
            Ok::<_, ()>(ids.get(&id).map(|number| {
                let (time, parents, cut) = &commits[*number];
                let parents = parents.iter().map(|parent| self::id(*parent)).filter(|_| !cut).collect();
                Seen { time: *time, parents, cut: *cut }
            }))
        });
        let (found, complete) = found.unwrap();
        (found.iter().map(|id| ids[id]).collect(), complete, looked.len())
    }

    /// One past the end is a commit that is not here.
    fn old_id(commits: &Commits, old: usize) -> ObjectId {
        id(old.min(commits.len()))
    }

    /// All that `tip` has, itself included; with or without looking behind where history is cut off.
    fn has(commits: &Commits, tip: usize, through_cuts: bool) -> HashSet<usize> {
        let mut open = vec![tip];
        let mut all = HashSet::new();
        while let Some(number) = open.pop() {
            if let Some((_, parents, cut)) = commits.get(number)
                && all.insert(number)
                && (through_cuts || !cut)
            {
                open.extend(parents);
            }
        }
        all
    }

    /// Clocks: right, all the same, or any. Up to two parents, mostly near.
    fn history() -> impl Strategy<Value = Commits> {
        let commit = (0..6i64, vec((any::<bool>(), 0..64usize), 0..3), 0..12);
        (0..3usize, any::<bool>(), vec(commit, 1..24)).prop_map(|(clock, cuts, raw)| {
            let commits = raw.into_iter().enumerate().map(|(number, (time, parents, cut))| {
                let time = [number as i64, 7, time][clock];
                let parent = |(near, which): (bool, usize)| match near {
                    true => number - 1 - which % number.min(3),
                    false => which % number,
                };
                let parents: Vec<_> =
                    if number == 0 { Vec::new() } else { parents.into_iter().map(parent).collect() };
                let cut = cuts && cut == 0 && !parents.is_empty();
                (time, parents, cut)
            });
            commits.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_walking_everything(commits in history(), old in 0..25usize, new in 0..24usize, limit in 0..30usize) {
            let new = new % commits.len();
            let old = old % (commits.len() + 1);
            let (found, complete, _) = run(&commits, old, new, limit);
            let mine = has(&commits, old, false);
            let expected: HashSet<usize> = has(&commits, new, false).difference(&mine).copied().collect();
            let listed: HashSet<usize> = found.iter().copied().collect();
            prop_assert_eq!(listed.len(), found.len());
            prop_assert!(listed.is_subset(&expected), "{:?} of {:?}", &found, &expected);
            prop_assert_eq!(found.len(), expected.len().min(limit));
            if complete {
                let really: HashSet<usize> =
                    has(&commits, new, true).difference(&has(&commits, old, true)).copied().collect();
                prop_assert_eq!(&listed, &really);
            }
            if !commits.iter().any(|(_, _, cut)| *cut) {
                prop_assert_eq!(complete, old < commits.len() && expected.len() <= limit);
            }
        }
    }

    #[test]
    fn clocks_that_agree_make_no_difference() {
        let line: Commits =
            (0..8).map(|n: usize| (0, n.checked_sub(1).into_iter().collect(), false)).collect();
        assert_eq!(run(&line, 7, 2, 100), (vec![], true, 8));
        assert_eq!(run(&line, 2, 7, 100).0, [7, 6, 5, 4, 3]);
    }

    #[test]
    fn a_few_new_commits_on_a_long_history_are_found_without_walking_it() {
        let mut commits: Commits =
            (0..200).map(|n: usize| (n as i64, n.checked_sub(1).into_iter().collect(), false)).collect();
        // Two branches, one begun below `old`, merged one after the other.
        commits.extend([(200, vec![199], false), (201, vec![190], false)]);
        commits.extend([(202, vec![199, 200], false), (203, vec![202, 201], false)]);
        let (found, complete, looked) = run(&commits, 199, 203, 100);
        assert_eq!((found, complete), (vec![203, 202, 201, 200], true));
        assert!(looked < 40, "{looked}");
    }
}
