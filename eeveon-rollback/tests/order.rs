//! The order of commits, compared with brute force on random histories, whole and cut short.
#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet};

use eeveon_core::CommitId;
use eeveon_rollback::{Parents, Verdict, order, quarantine::lifted_by, relate};
use proptest::prelude::*;

fn id(n: usize) -> CommitId {
    // Ids in another order than the commits, as they are in life.
    CommitId::new(format!("{:040x}", (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))).unwrap()
}

/// A history: the parents of each commit, all of them with lower numbers.
type History = BTreeMap<CommitId, Vec<CommitId>>;

fn histories() -> impl Strategy<Value = History> {
    prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 1_usize..6), 0..3), 2..24)
        .prop_map(|commits| {
            let of = |(n, picks): (usize, &Vec<(prop::sample::Index, usize)>)| {
                // Mostly near relatives, so that histories are long rather than bushy.
                let near = |(any, near): &(prop::sample::Index, usize)| match near {
                    5 => any.index(n),
                    near => n.saturating_sub(*near),
                };
                let parents: BTreeSet<usize> =
                    if n == 0 { BTreeSet::new() } else { picks.iter().map(near).collect() };
                (id(n), parents.into_iter().map(id).collect())
            };
            commits.iter().enumerate().map(of).collect()
        })
}

fn ancestors(history: &History, tip: &CommitId) -> BTreeSet<CommitId> {
    let (mut found, mut left) = (BTreeSet::new(), vec![tip.clone()]);
    while let Some(commit) = left.pop() {
        if found.insert(commit.clone()) {
            left.extend(history[&commit].iter().cloned());
        }
    }
    found
}

/// The truth. Counts are those of `git rev-list live..candidate`.
fn brute(history: &History, candidate: &CommitId, live: &CommitId) -> Verdict {
    let (of_candidate, of_live) = (ancestors(history, candidate), ancestors(history, live));
    if candidate == live {
        Verdict::Same
    } else if of_candidate.contains(live) {
        Verdict::Ahead { commits: Some(of_candidate.difference(&of_live).count()) }
    } else if of_live.contains(candidate) {
        Verdict::Behind
    } else {
        Verdict::Diverged
    }
}

/// The answer from what is left of the history when the parents of `cut` are unknown.
fn seen(history: &History, cut: &BTreeSet<CommitId>, candidate: &CommitId, live: &CommitId) -> Verdict {
    relate(candidate, live, &mut |commit| match cut.contains(commit) {
        true => Parents::Boundary,
        false => Parents::Known(history[commit].clone()),
    })
}

/// Equal, except that a count may be unknown.
fn agrees(answer: &Verdict, truth: &Verdict) -> bool {
    match (answer, truth) {
        (Verdict::Ahead { commits: None }, Verdict::Ahead { .. }) => true,
        (answer, truth) => answer == truth,
    }
}

fn without_count(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Ahead { .. } => Verdict::Ahead { commits: None },
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn with_all_history_the_answer_is_the_truth(
        history in histories(), a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(),
    ) {
        let (a, b) = (id(a.index(history.len())), id(b.index(history.len())));
        let answer = seen(&history, &BTreeSet::new(), &a, &b);
        prop_assert!(agrees(&answer, &brute(&history, &a, &b)), "{answer:?}");
    }

    #[test]
    fn with_less_history_the_answer_is_the_truth_or_a_question(
        history in histories(),
        a in any::<prop::sample::Index>(),
        b in any::<prop::sample::Index>(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let (a, b) = (id(a.index(history.len())), id(b.index(history.len())));
        let truth = brute(&history, &a, &b);
        let mut cut: BTreeSet<_> = cuts.iter().map(|cut| id(cut.index(history.len()))).collect();
        let mut rounds = 0;
        loop {
            let answer = seen(&history, &cut, &a, &b);
            let Verdict::NeedsMore(boundary) = &answer else {
                prop_assert!(agrees(&answer, &truth), "{answer:?}, not {truth:?}");
                break;
            };
            prop_assert!(!boundary.is_empty() && boundary.iter().all(|it| cut.contains(it)));
            prop_assert!(is_undecided(&history, &cut, boundary, &a, &b), "{boundary:?}");
            for revealed in boundary {
                cut.remove(revealed);
            }
            rounds += 1;
            prop_assert!(rounds <= 8, "each round must reveal something");
        }
    }
}

/// Whether histories that look the same so far have different answers.
fn is_undecided(
    history: &History,
    cut: &BTreeSet<CommitId>,
    boundary: &[CommitId],
    candidate: &CommitId,
    live: &CommitId,
) -> bool {
    let mut bare = history.clone();
    for (_, parents) in bare.iter_mut().filter(|(commit, _)| cut.contains(commit)) {
        parents.clear();
    }
    let mut answers = vec![without_count(brute(&bare, candidate, live))];
    for commit in boundary {
        for tip in [candidate, live] {
            if !ancestors(&bare, tip).contains(commit) {
                let mut other = bare.clone();
                other.insert(commit.clone(), vec![tip.clone()]);
                answers.push(without_count(brute(&other, candidate, live)));
            }
        }
    }
    answers.iter().any(|answer| *answer != answers[0])
}

/// A line of history, 0 the oldest.
fn line(len: usize) -> History {
    (0..len).map(|n| (id(n), if n == 0 { Vec::new() } else { vec![id(n - 1)] })).collect()
}

#[test]
fn a_line_is_counted() {
    let history = line(50);
    let whole = BTreeSet::new();
    assert_eq!(seen(&history, &whole, &id(40), &id(37)), Verdict::Ahead { commits: Some(3) });
    assert_eq!(seen(&history, &whole, &id(37), &id(40)), Verdict::Behind);
    assert_eq!(seen(&history, &whole, &id(37), &id(37)), Verdict::Same);
    // Where the history ends does not matter once the answer is there.
    assert_eq!(
        seen(&history, &BTreeSet::from([id(37)]), &id(40), &id(37)),
        Verdict::Ahead { commits: Some(3) }
    );
}

#[test]
fn a_merge_is_counted_with_all_it_brings() {
    // 10 is live; 11 and 12 left the line at 7 and come back with the merge 13.
    let mut history = line(11);
    history.insert(id(11), vec![id(7)]);
    history.insert(id(12), vec![id(11)]);
    history.insert(id(13), vec![id(10), id(12)]);
    let verdict = seen(&history, &BTreeSet::new(), &id(13), &id(10));
    assert_eq!(verdict, Verdict::Ahead { commits: Some(3) });
}

#[test]
fn an_amended_commit_needs_one_look_back_not_all_history() {
    let mut history = line(100_000);
    let (was, is) = (id(99_999), id(100_000));
    history.insert(is.clone(), vec![id(99_998)]);
    let cut = BTreeSet::from([was.clone(), is.clone()]);
    let Verdict::NeedsMore(boundary) = seen(&history, &cut, &is, &was) else {
        panic!("nothing is known yet")
    };
    assert_eq!(BTreeSet::from_iter(boundary), cut);
    let cut = BTreeSet::from([id(99_998)]);
    assert_eq!(seen(&history, &cut, &is, &was), Verdict::Diverged);
    let mut looks = 0;
    relate(&is, &was, &mut |commit| {
        looks += 1;
        Parents::Known(history[commit].clone())
    });
    assert_eq!(looks, 2);
}

#[test]
fn histories_without_a_common_root_have_diverged() {
    let history = History::from([(id(0), vec![]), (id(1), vec![id(0)]), (id(2), vec![])]);
    assert_eq!(seen(&history, &BTreeSet::new(), &id(1), &id(2)), Verdict::Diverged);
}

#[test]
fn only_an_older_or_uncertain_commit_is_refused_and_only_unless_allowed() {
    let (candidate, live) = (id(1), id(2));
    let code = |verdict: &Verdict, allow_older| {
        use eeveon_core::Diagnose;
        order::admit(&candidate, &live, verdict, allow_older).err().map(|error| error.code())
    };
    for verdict in [Verdict::Same, Verdict::Ahead { commits: None }, Verdict::Diverged] {
        assert_eq!(code(&verdict, false), None);
    }
    assert_eq!(code(&Verdict::Behind, false), Some("rollback/older-commit"));
    assert_eq!(code(&Verdict::NeedsMore(vec![id(3)]), false), Some("rollback/order-unknown"));
    for verdict in [Verdict::Behind, Verdict::NeedsMore(vec![id(3)])] {
        assert_eq!(code(&verdict, true), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// A success lifts exactly the commits it descends from, and itself; in doubt, nothing.
    #[test]
    fn a_success_lifts_what_it_descends_from(
        history in histories(),
        tip in any::<prop::sample::Index>(),
        aside in prop::collection::btree_set(0_usize..24, 0..5),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let tip = id(tip.index(history.len()));
        let aside: Vec<_> = aside.into_iter().filter(|n| *n < history.len()).map(id).collect();
        let cut: BTreeSet<_> = cuts.iter().map(|cut| id(cut.index(history.len()))).collect();
        let lifted = lifted_by(&tip, &aside, &mut |commit| match cut.contains(commit) {
            true => Parents::Boundary,
            false => Parents::Known(history[commit].clone()),
        });
        let truth = ancestors(&history, &tip);
        prop_assert!(lifted.commits.iter().all(|it| truth.contains(it)), "{lifted:?}");
        if lifted.needs_more.is_empty() {
            let expected: BTreeSet<_> = aside.into_iter().filter(|it| truth.contains(it)).collect();
            prop_assert_eq!(BTreeSet::from_iter(lifted.commits), expected);
        } else {
            prop_assert!(lifted.needs_more.iter().all(|it| cut.contains(it)));
        }
    }
}
