//! What each event says.

use eeveon_core::{Kind, ProjectName, ReleaseNumber, Trigger};
use eeveon_notify::{Event, EventKind, NotStarted, Serving, Wording};
use eeveon_testkit::notify::{event, hostile, hostile_texts};

use crate::rig::units;

#[test]
fn every_kind_has_a_title() {
    let titles: Vec<String> =
        EventKind::ALL.into_iter().map(|kind| Wording::of(&event(kind)).title).collect();
    assert_eq!(
        titles,
        [
            "shop: deploying release 12",
            "shop: release 12 is live",
            "shop: no deployment could begin, release 11 still serves",
            "shop: release 12 failed, release 11 still serves",
            "shop: release 12 failed after the switch and was rolled back, release 11 serves",
            "shop: release 12 was refused, release 11 still serves",
            "shop: release 12 was stopped, release 11 still serves",
            "shop: release 12 waits for approval",
            "shop: release 12 waits for a person",
            "shop: commit fedcba98 is quarantined",
            "shop: a check of release 12 did not pass at once",
            "shop: a test message, nothing happened",
        ]
    );
}

#[test]
fn a_first_release_and_a_rollback_are_told_as_such() {
    let mut first = event(EventKind::Failed);
    first.serving = Serving::Nothing;
    assert_eq!(Wording::of(&first).title, "shop: release 12 failed, nothing serves");
    first.kind = EventKind::RolledBack;
    assert_eq!(
        Wording::of(&first).title,
        "shop: release 12 failed after the switch and was taken back, nothing serves"
    );
    let mut back = event(EventKind::Succeeded);
    back.operation = Kind::Rollback;
    assert_eq!(Wording::of(&back).title, "shop: back to release 12, which is live again");
}

#[test]
fn the_facts_are_all_there_in_their_order() {
    let wording = Wording::of(&event(EventKind::Failed));
    assert_eq!(
        wording.plain(),
        "Project: shop\nRelease: 12\nCommit: 01234567 Fix the checkout of empty carts\nAuthor: Ada Lovelace\n\
         Branch: main\nBy: user:ada (manual)\nDuration: 1 min 23 s\nReason: customers wait for it\n\
         Failed: check [health/unhealthy]\nWhy: the release did not answer in time\nconnection refused\n\
         port 3000 is closed\nNow: release 11 serves, commit fedcba98\nNext: look at the log of the service\n\
         ee-deploy why 42\nMore: and 3 more like it"
    );
    let mut parked = event(EventKind::Parked);
    parked.more = 0;
    parked.serving = Serving::Either { new: ReleaseNumber(12), old: Some(ReleaseNumber(11)) };
    let plain = Wording::of(&parked).plain();
    assert!(plain.contains("Now: release 12 or release 11 serves: the switch may or may not have happened"));
    assert!(
        plain.ends_with(
            "ee-deploy why 42\nee-deploy resume 42 (tries again)\n\
             ee-deploy resume 42 --skip (goes on without this step)\n\
             ee-deploy cancel 42 (goes back, where there is a way back)"
        ),
        "{plain}"
    );
    assert!(plain.contains("Step: health/post"), "{plain}");
}

#[test]
fn what_could_not_begin_names_no_release_and_no_commit_nobody_knows() {
    let failure = event(EventKind::Failed).failure.unwrap();
    let not_started = |commit| {
        Event::not_started(NotStarted {
            project: ProjectName::new("shop").unwrap(),
            actor: "engine".into(),
            trigger: Trigger::Poll,
            commit,
            failure: failure.clone(),
            serving: Serving::Release { release: ReleaseNumber(11), revision: None },
            at: "2026-03-04T05:06:07Z".parse().unwrap(),
        })
        .unwrap()
    };
    let unknown = not_started(None);
    assert!(!unknown.has_deployment() && !unknown.has_commit());
    let wording = Wording::of(&unknown);
    assert_eq!(wording.title, "shop: no deployment could begin, release 11 still serves");
    assert_eq!(
        wording.plain(),
        "Project: shop\nBy: engine (poll)\nFailed: check [health/unhealthy]\n\
         Why: the release did not answer in time\nconnection refused\nport 3000 is closed\n\
         Now: release 11 serves\n\
         Next: look at the log of the service\nee-deploy check shop\nee-deploy why shop"
    );
    let commit = event(EventKind::Failed).revision.commit;
    let known = Wording::of(&not_started(Some(commit))).plain();
    assert!(known.contains("\nCommit: 01234567\n") && !known.contains("Release: "), "{known}");
}

#[test]
fn nothing_from_outside_is_long_or_has_controls() {
    for text in hostile_texts() {
        for event in hostile(&text) {
            let wording = Wording::of(&event);
            assert!(units(&wording.title) <= 250);
            for fact in &wording.facts {
                assert!(units(&fact.value) <= 1500 && !fact.value.trim().is_empty(), "{fact:?}");
                assert!(fact.wide || !fact.value.contains('\n'), "{fact:?}");
                assert!(!fact.value.chars().any(|c| c != '\n' && c.is_control()), "{fact:?}");
            }
        }
    }
}

#[test]
fn shortening_keeps_to_a_limit_and_starts_with_the_longest() {
    let mut event = event(EventKind::Failed);
    event.revision.subject = "x".repeat(300).into();
    let size = |wording: &Wording| units(&wording.plain());
    let short = Wording::of(&event).within(500, size);
    assert!(size(&short) <= 500);
    assert!(short.facts[2].value.ends_with('…'));
    assert_eq!(short.facts[3].value, "Ada Lovelace");
    assert_eq!(Wording::of(&event).within(5, size).facts, []);
}
