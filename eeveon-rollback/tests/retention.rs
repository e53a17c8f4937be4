//! What is kept: the promises hold whatever lies on the target and whatever the clock says.
#![cfg(test)]

use std::{collections::BTreeSet, time::Duration};

use eeveon_core::ReleaseNumber;
use eeveon_rollback::{Kept, Policy, Roles, Standing, outworn};
use jiff::Timestamp;
use proptest::prelude::*;

const DAY: i64 = 24 * 3600;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn kept(release: u64, standing: Standing) -> Kept {
    let since = at(i64::try_from(release).unwrap() * DAY);
    Kept { release: ReleaseNumber(release), standing, usable: true, bytes: 10, since, pinned: false }
}

fn good(release: u64) -> Kept {
    kept(release, Standing::Succeeded)
}

fn numbers(releases: &[ReleaseNumber]) -> Vec<u64> {
    releases.iter().map(|it| it.0).collect()
}

fn roles(live: u64, predecessor: u64, next: u64) -> Roles {
    let role = |n: u64| (0 < n).then_some(ReleaseNumber(n));
    Roles { live: role(live), predecessor: role(predecessor), next: role(next) }
}

#[test]
fn five_that_succeeded_stay_counting_the_one_about_to_serve() {
    let lying: Vec<_> = (1..=6).map(good).collect();
    let gone = outworn(&lying, &roles(6, 5, 7), &Policy::default(), at(10 * DAY));
    assert_eq!(numbers(&gone), [1, 2], "3 to 7 are five");
}

#[test]
fn five_failures_do_not_drive_out_the_only_good_one() {
    let mut lying = vec![good(1)];
    lying.extend((2..=7).map(|n| kept(n, Standing::Failed)));
    let policy = Policy { keep: 1, ..Policy::default() };
    assert_eq!(numbers(&outworn(&lying, &Roles::default(), &policy, at(8 * DAY))), Vec::<u64>::new());
}

#[test]
fn live_predecessor_next_and_pinned_outlive_any_count() {
    let mut lying: Vec<_> = (1..=9).map(good).collect();
    lying[3].pinned = true;
    let policy = Policy { keep: 1, ..Policy::default() };
    let gone = outworn(&lying, &roles(2, 1, 3), &policy, at(10 * DAY));
    assert_eq!(numbers(&gone), [5, 6, 7, 8]);
}

#[test]
fn what_failed_goes_after_seven_days() {
    let lying = [kept(1, Standing::Failed), kept(2, Standing::Failed), kept(3, Standing::Unknown)];
    let gone = outworn(&lying, &Roles::default(), &Policy::default(), at(9 * DAY));
    assert_eq!(numbers(&gone), [1], "2 is just seven days old");
}

#[test]
fn what_failed_stays_within_its_bound_and_the_oldest_goes_first() {
    let lying: Vec<_> = (1..=5).map(|n| kept(n, Standing::Failed)).collect();
    let policy = Policy { inspect_bytes: 25, ..Policy::default() };
    assert_eq!(numbers(&outworn(&lying, &Roles::default(), &policy, at(5 * DAY))), [1, 2, 3]);
}

#[test]
fn a_clock_that_was_set_back_removes_nothing() {
    let mut lying: Vec<_> = (1..=3).map(|n| kept(n, Standing::Failed)).collect();
    lying[2].since = at(100 * DAY);
    assert_eq!(
        numbers(&outworn(&lying, &Roles::default(), &Policy::default(), at(50 * DAY))),
        Vec::<u64>::new()
    );
    let gone = outworn(&lying, &Roles::default(), &Policy::default(), at(100 * DAY));
    assert_eq!(numbers(&gone), [1, 2]);
}

#[test]
fn what_cannot_serve_any_more_does_not_count_as_one_that_could() {
    let mut lying: Vec<_> = (1..=3).map(good).collect();
    lying[2].usable = false;
    let policy = Policy { keep: 2, ..Policy::default() };
    assert_eq!(numbers(&outworn(&lying, &Roles::default(), &policy, at(4 * DAY))), Vec::<u64>::new());
}

fn lying() -> impl Strategy<Value = Vec<Kept>> {
    let standing = prop_oneof![Just(Standing::Succeeded), Just(Standing::Failed), Just(Standing::Unknown)];
    let one = (standing, any::<bool>(), 0_u64..50, 0_i64..30, prop::bool::weighted(0.1));
    prop::collection::btree_map(1_u64..20, one, 0..15).prop_map(|all| {
        all.into_iter()
            .map(|(release, (standing, usable, bytes, day, pinned))| Kept {
                release: ReleaseNumber(release),
                standing,
                usable,
                bytes,
                since: at(day * DAY),
                pinned,
            })
            .collect()
    })
}

fn any_roles() -> impl Strategy<Value = Roles> {
    let role = || prop::option::of((1_u64..22).prop_map(ReleaseNumber));
    (role(), role(), role()).prop_map(|(live, predecessor, next)| Roles { live, predecessor, next })
}

fn policies() -> impl Strategy<Value = Policy> {
    (0_usize..7, 0_u64..10, 0_u64..200).prop_map(|(keep, days, inspect_bytes)| Policy {
        keep,
        inspect_for: Duration::from_secs(days * 24 * 3600),
        inspect_bytes,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold(
        lying in lying(), roles in any_roles(), policy in policies(), today in 0_i64..40,
    ) {
        let now = at(today * DAY);
        let gone = outworn(&lying, &roles, &policy, now);
        prop_assert!(gone.is_sorted_by(|a, b| a < b), "each once, in order");
        let is_gone = |it: &Kept| gone.contains(&it.release);
        let can_serve = |it: &Kept| it.standing == Standing::Succeeded && it.usable;
        let has_role =
            |release| [roles.live, roles.predecessor, roles.next].contains(&Some(release));
        prop_assert!(gone.iter().all(|release| lying.iter().any(|it| it.release == *release)), "only what is there");
        prop_assert!(!gone.iter().any(|release| has_role(*release)), "no role is removed");
        prop_assert!(!lying.iter().any(|it| it.pinned && is_gone(it)), "nothing pinned is removed");

        // The newest that can serve stay, the one about to serve counted.
        let mut able: BTreeSet<_> = lying.iter().filter(|it| can_serve(it)).map(|it| it.release).collect();
        able.extend(roles.next);
        let newest: Vec<_> = able.iter().rev().take(policy.keep).collect();
        prop_assert!(!newest.iter().any(|release| gone.contains(release)));
        // And no other without a reason.
        for it in lying.iter().filter(|it| can_serve(it) && !is_gone(it)) {
            prop_assert!(newest.contains(&&it.release) || it.pinned || has_role(it.release), "{it:?}");
        }

        // What is kept for inspection only: within its bound, and only age or the bound removes it.
        let inspected: Vec<_> =
            lying.iter().filter(|it| !can_serve(it) && !it.pinned && !has_role(it.release)).collect();
        let left: u64 = inspected.iter().filter(|it| !is_gone(it)).map(|it| it.bytes).sum();
        prop_assert!(left <= policy.inspect_bytes);
        let clock_is_sound = lying.iter().all(|it| it.since <= now);
        for it in inspected.iter().filter(|it| is_gone(it)) {
            let is_old = policy.inspect_for.as_secs() < (now.as_second() - it.since.as_second()).unsigned_abs();
            let newer: u64 = inspected.iter().filter(|other| it.release <= other.release).map(|it| it.bytes).sum();
            prop_assert!(clock_is_sound && is_old || policy.inspect_bytes < newer, "{it:?} went without a reason");
        }

        // Having removed all that, there is nothing left to remove.
        let rest: Vec<_> = lying.iter().filter(|it| !is_gone(it)).cloned().collect();
        if clock_is_sound {
            prop_assert_eq!(outworn(&rest, &roles, &policy, now), Vec::new());
        }
    }
}
