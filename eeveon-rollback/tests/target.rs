//! What a rollback goes back to.
#![cfg(test)]

use eeveon_core::{CommitId, DeploymentId, Diagnose, Present, ReleaseNumber};
use eeveon_rollback::{Candidates, KnownRelease, RollbackError, Unfit, choose, crossed, predecessor};
use jiff::Timestamp;
use proptest::prelude::*;

/// A project's past, to be bent by each test.
struct Past {
    known: Vec<KnownRelease>,
    present: Vec<Present>,
    served: Vec<(DeploymentId, ReleaseNumber)>,
    live: Option<ReleaseNumber>,
}

fn commit(start: &str) -> CommitId {
    CommitId::new(format!("{start:0<40}")).unwrap()
}

fn served(releases: &[u64]) -> Vec<(DeploymentId, ReleaseNumber)> {
    releases
        .iter()
        .enumerate()
        .map(|(n, release)| (DeploymentId(n as u64), ReleaseNumber(*release)))
        .collect()
}

/// Releases 1 to 4 of four commits, each deployed once; 4 serves.
fn past() -> Past {
    let commits = ["aaaa1", "aaaa2", "1234b", "cccc4"].map(commit);
    let known = (1..).zip(&commits).map(|(n, commit)| KnownRelease {
        release: ReleaseNumber(n),
        commit: commit.clone(),
        succeeded: true,
        irreversible: false,
    });
    let present = (1..=4).map(|n| Present {
        release: ReleaseNumber(n),
        usable: true,
        bytes: 1,
        since: Timestamp::UNIX_EPOCH,
    });
    Past {
        known: known.collect(),
        present: present.collect(),
        served: served(&[1, 2, 3, 4]),
        live: Some(ReleaseNumber(4)),
    }
}

impl Past {
    fn choose(&self, asked: Option<&str>) -> Result<u64, RollbackError> {
        let Self { known, present, served, live } = self;
        choose(asked, &Candidates { known, present, served, live: *live }).map(|release| release.0)
    }

    fn code(&self, asked: Option<&str>) -> &'static str {
        self.choose(asked).unwrap_err().code()
    }

    fn release(&mut self, n: u64) -> &mut KnownRelease {
        self.known.iter_mut().find(|it| it.release.0 == n).unwrap()
    }
}

#[test]
fn without_a_version_it_is_what_served_before() {
    assert_eq!(past().choose(None), Ok(3));
}

#[test]
fn neither_number_nor_order_on_disk_tells_what_served_before() {
    let mut past = past();
    past.served = served(&[2, 1, 4]);
    past.present.reverse();
    assert_eq!(past.choose(None), Ok(1));
}

#[test]
fn going_back_again_goes_further_back() {
    let mut past = past();
    past.served = served(&[1, 2, 3, 4, 3]);
    past.live = Some(ReleaseNumber(3));
    assert_eq!(past.choose(None), Ok(2), "4 is what was just left");
    past.served = served(&[1, 2, 3, 4, 3, 2]);
    past.live = Some(ReleaseNumber(2));
    assert_eq!(past.choose(None), Ok(1));
    past.served.extend(served(&[4]));
    past.live = Some(ReleaseNumber(4));
    assert_eq!(past.choose(None), Ok(2), "forward again: 2 served before 4");
}

#[test]
fn the_first_release_has_nothing_before_it() {
    let mut past = past();
    past.served = served(&[4]);
    assert_eq!(past.code(None), "rollback/nothing-before");
    past.served = served(&[1, 2]);
    assert_eq!(past.code(None), "rollback/nothing-before", "how the live one came to serve is not known");
    past.live = None;
    let error = past.choose(None).unwrap_err();
    assert!(error.to_string().contains("there is 4 (cccc4000), 3 (1234b000)"), "{error}");
}

#[test]
fn a_version_is_a_number_or_the_beginning_of_a_commit() {
    let past = past();
    assert_eq!(past.choose(Some("2")), Ok(2));
    assert_eq!(past.choose(Some(" 2 ")), Ok(2));
    assert_eq!(past.choose(Some("aaaa2")), Ok(2));
    assert_eq!(past.choose(Some("AAAA2")), Ok(2));
    assert_eq!(past.choose(Some(commit("aaaa1").as_str())), Ok(1));
    assert_eq!(past.choose(Some("1234")), Ok(3), "there is no release 1234, but such a commit");
    for neither in ["", "aaa", "v2", "main", "-2", "+2", "02", "--help", "aaaa\u{1b}[2J", &"a".repeat(65)] {
        assert_eq!(past.code(Some(neither)), "rollback/not-a-version", "{neither}");
    }
    for unknown in ["9", "0", "ffff", "12345"] {
        assert_eq!(past.code(Some(unknown)), "rollback/no-such-release", "{unknown}");
    }
}

#[test]
fn a_number_that_exists_is_a_number_even_if_a_commit_begins_so() {
    let mut past = past();
    past.release(2).release = ReleaseNumber(1234);
    past.present[1].release = ReleaseNumber(1234);
    assert_eq!(past.choose(Some("1234")), Ok(1234));
    assert_eq!(past.choose(Some("1234b")), Ok(3));
}

#[test]
fn several_commits_are_listed_not_guessed_among() {
    let error = past().choose(Some("aaaa")).unwrap_err();
    assert_eq!(error.to_string(), "`aaaa` may mean several commits: 1 (aaaa1000), 2 (aaaa2000)");
}

#[test]
fn of_several_releases_of_one_commit_the_newest_that_can_serve_is_meant() {
    let mut past = past();
    for n in [1, 2, 3] {
        past.release(n).commit = commit("aaaa");
    }
    assert_eq!(past.choose(Some("aaaa")), Ok(3));
    past.present[2].usable = false;
    assert_eq!(past.choose(Some("aaaa")), Ok(2));
    past.release(2).succeeded = false;
    assert_eq!(past.choose(Some("aaaa")), Ok(1));
    past.present.remove(0);
    let error = past.choose(Some("aaaa")).unwrap_err();
    assert!(matches!(error, RollbackError::NotUsable { release: ReleaseNumber(3), .. }), "{error}");
}

#[test]
fn what_cannot_serve_is_refused_and_says_why() {
    let mut past = past();
    past.release(1).succeeded = false;
    past.present[1].usable = false;
    past.present.remove(2);
    let why = |asked| match past.choose(asked) {
        Err(RollbackError::NotUsable { why, there, .. }) => {
            assert_eq!(there, [], "nothing else is left");
            why
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(why(Some("1")), Unfit::NeverSucceeded);
    assert_eq!(why(Some("2")), Unfit::Incomplete);
    assert_eq!(why(Some("3")), Unfit::Removed);
    assert_eq!(why(None), Unfit::Removed, "it does not silently go further back");
}

#[test]
fn what_serves_already_is_refused() {
    assert_eq!(past().code(Some("4")), "rollback/already-live");
    assert_eq!(past().code(Some("cccc")), "rollback/already-live");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Going back step by step passes each release at most once, and ends.
    #[test]
    fn going_back_always_ends(releases in prop::collection::vec(1_u64..6, 0..20)) {
        let mut history = served(&releases);
        let mut live = history.last().map(|(_, release)| *release);
        let mut passed = Vec::new();
        while let Some(before) = predecessor(&history, live) {
            prop_assert!(Some(before) != live && !passed.contains(&before), "{before} again");
            passed.push(before);
            history.push((DeploymentId(99), before));
            live = Some(before);
        }
        prop_assert!(passed.len() < 6);
    }
}

#[test]
fn what_lies_between_is_crossed() {
    let mut scene = past();
    for n in [2, 3] {
        scene.release(n).irreversible = true;
    }
    let crossed = |live: u64, to: u64| {
        let numbers = crossed(&scene.known, Some(ReleaseNumber(live)), ReleaseNumber(to));
        numbers.into_iter().map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!(crossed(4, 1), [3, 2]);
    assert_eq!(crossed(4, 2), [3], "what release 2 changed is what it works with");
    assert_eq!(crossed(4, 3), [0; 0]);
    assert_eq!(crossed(1, 4), [0; 0], "forward nothing is crossed");
}
