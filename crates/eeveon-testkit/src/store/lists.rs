//! The contract about what is kept beside the journals: lists, releases, quarantine, requests.

use eeveon_core::{
    Actor, DeploymentId, Kind, Outcome, ProjectName, Quarantining, Record, ReleaseNumber, Request, Trigger,
};
use eeveon_store::{CancelRequest, Deployment, DeploymentFilter, KnownRelease, Quarantined, ReleaseStatus};

use super::{Subject, contents, words::*};

/// A deployment's summary says what its journal says, at every point of it.
pub async fn deployments_are_summed_up(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let asked = Request {
        kind: Kind::Rollback,
        actor: Actor::Schedule("nightly".into()),
        trigger: Trigger::Schedule,
        reason: Some("why not".into()),
        ..request(&shop, 2)
    };
    let id = journal(&*store, asked.clone(), []).await;
    let mut expected = Deployment {
        id,
        kind: asked.kind,
        release: asked.release,
        previous: Some(commit(1)),
        actor: asked.actor,
        trigger: asked.trigger,
        reason: asked.reason,
        started_at: entry(id, 0, succeeded()).at,
        finished_at: None,
        outcome: None,
        parked: None,
        checks: Vec::new(),
        undone: Vec::new(),
    };
    let stuck = Some(failure("stuck"));
    let outcome = Outcome::Reverted { failure: stuck.clone(), served: false };
    let (by, step) = (Actor::User("bob".into()), ship());
    let steps = [
        (Record::Started { step: step.clone(), attempt: 1 }, None),
        (Record::Parked { step: step.clone(), failure: stuck.clone() }, Some((step.clone(), stuck.clone()))),
        (Record::Unparked { by: by.clone(), reason: None }, None),
        (Record::Parked { step: step.clone(), failure: None }, Some((step.clone(), None))),
        (Record::Cancelled { by, reason: None }, None),
        (Record::Closed { outcome: outcome.clone() }, None),
    ];
    for (seq, (record, parked)) in (1..).zip(steps) {
        if matches!(record, Record::Closed { .. }) {
            expected.outcome = Some(outcome.clone());
            expected.finished_at = Some(entry(id, seq, succeeded()).at);
        }
        append(&*store, id, seq, record).await;
        expected.parked = parked;
        assert_eq!(store.deployment(id).await.unwrap().as_ref(), Some(&expected), "after {seq}");
    }
    assert_eq!(store.deployments(&DeploymentFilter::default()).await.unwrap(), [expected]);
    assert_eq!(store.deployment(DeploymentId(id.0 + 1)).await.unwrap(), None);
}

/// Lists are by id, newest first, of one project or all, open or all, and as long as asked for.
pub async fn deployments_are_listed_newest_first(it: &dyn Subject) {
    let store = it.store();
    let (shop, blog) = (project("shop"), project("blog"));
    for (n, of) in [(1, &shop), (2, &blog), (3, &shop), (4, &shop)] {
        journal(&*store, request(of, n), (n < 3).then(succeeded)).await;
    }
    let list = async |project: Option<&ProjectName>, open, limit| -> Vec<u64> {
        let filter = DeploymentFilter { project: project.cloned(), open, limit };
        store.deployments(&filter).await.unwrap().iter().map(|it| it.release.number.0).collect()
    };
    assert_eq!(list(None, false, 0).await, [4, 3, 2, 1]);
    assert_eq!(list(None, false, 2).await, [4, 3]);
    assert_eq!(list(None, false, u64::MAX).await, [4, 3, 2, 1]);
    assert_eq!(list(Some(&shop), false, 0).await, [4, 3, 1]);
    assert_eq!(list(Some(&shop), false, 2).await, [4, 3]);
    assert_eq!(list(Some(&shop), true, 0).await, [4, 3]);
    assert_eq!(list(Some(&blog), true, 0).await, [0; 0]);
    assert_eq!(list(None, true, 1).await, [4]);
    assert_eq!(list(Some(&project("none")), false, 0).await, [0; 0]);
    let releases = store.releases(&shop).await.unwrap();
    assert_eq!(releases.iter().map(|it| it.number().0).collect::<Vec<_>>(), [4, 3, 1]);
}

/// How far a release came follows from the deployment that made it, and from any that succeeded.
pub async fn a_release_that_succeeded_stays_so(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let status = async |number: u64| {
        let releases = store.releases(&shop).await.unwrap();
        releases.iter().find(|it| it.number().0 == number).map(|it| it.status)
    };
    let back = |number| Request { kind: Kind::Rollback, config: "other".into(), ..request(&shop, number) };
    let first = journal(&*store, request(&shop, 1), []).await;
    let known = store.releases(&shop).await.unwrap();
    let expected = KnownRelease {
        release: request(&shop, 1).release,
        status: ReleaseStatus::Pending,
        deployment: first,
        config: "digest-1".into(),
        created_at: entry(first, 0, succeeded()).at,
        pinned: false,
        irreversible: false,
    };
    assert_eq!(known, std::slice::from_ref(&expected));
    append(&*store, first, 1, succeeded()).await;
    let expected = KnownRelease { status: ReleaseStatus::Succeeded, ..expected };
    // Neither an open, nor a failed, nor another successful deployment of it changes anything.
    let again = journal(&*store, back(1), []).await;
    assert_eq!(store.releases(&shop).await.unwrap(), std::slice::from_ref(&expected));
    append(&*store, again, 1, reverted(Some(failure("bad")), true)).await;
    journal(&*store, back(1), [succeeded()]).await;
    assert_eq!(store.releases(&shop).await.unwrap(), [expected]);

    journal(&*store, request(&shop, 2), [reverted(None, false)]).await;
    assert_eq!(status(2).await, Some(ReleaseStatus::Failed));
    journal(
        &*store,
        request(&shop, 3),
        [Record::Closed { outcome: Outcome::Refused { failure: failure("no") } }],
    )
    .await;
    assert_eq!(status(3).await, Some(ReleaseStatus::Failed));
    // What failed once can succeed later.
    journal(&*store, back(3), [succeeded()]).await;
    assert_eq!(status(3).await, Some(ReleaseStatus::Succeeded));

    // Only its own deployment can make a release fail.
    let own = journal(&*store, request(&shop, 4), []).await;
    journal(&*store, back(4), [reverted(None, false)]).await;
    assert_eq!(status(4).await, Some(ReleaseStatus::Pending));
    append(&*store, own, 1, reverted(None, false)).await;
    assert_eq!(status(4).await, Some(ReleaseStatus::Failed));
    // Not even its own, once another has succeeded with it.
    let own = journal(&*store, request(&shop, 6), []).await;
    journal(&*store, back(6), [succeeded()]).await;
    append(&*store, own, 1, reverted(None, false)).await;
    assert_eq!(status(6).await, Some(ReleaseStatus::Succeeded));
    // What its own request said of it stands.
    journal(&*store, Request { irreversible: true, ..request(&shop, 7) }, [succeeded()]).await;
    journal(&*store, back(7), [succeeded()]).await;
    let irreversible = |release: &KnownRelease| release.irreversible.then_some(release.number().0);
    let known = store.releases(&shop).await.unwrap();
    assert_eq!(known.iter().filter_map(irreversible).collect::<Vec<_>>(), [7]);
    // A release that came here otherwise is remembered from the first deployment on.
    journal(&*store, back(5), [succeeded()]).await;
    assert_eq!(status(5).await, Some(ReleaseStatus::Succeeded));
    assert_eq!(store.releases(&project("blog")).await.unwrap(), []);
}

/// A pin stays until it is taken off.
pub async fn pins_outlive_deployments(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let id = journal(&*store, request(&shop, 1), []).await;
    let pinned = async || store.releases(&shop).await.unwrap().first().unwrap().pinned;
    assert!(!store.pin(&shop, ReleaseNumber(2), true).await.unwrap());
    assert!(!store.pin(&project("blog"), ReleaseNumber(1), true).await.unwrap());
    assert!(!pinned().await);
    assert!(store.pin(&shop, ReleaseNumber(1), true).await.unwrap());
    append(&*store, id, 1, succeeded()).await;
    assert!(pinned().await);
    assert_eq!(store.releases(&shop).await.unwrap().first().unwrap().status, ReleaseStatus::Succeeded);
    assert!(store.pin(&shop, ReleaseNumber(1), false).await.unwrap());
    assert!(!pinned().await);
}

/// The end of a deployment changes the quarantine as its request says, and nothing else does.
pub async fn outcomes_fill_and_empty_the_quarantine(it: &dyn Subject) {
    let store = it.store();
    let all = Quarantining {
        on_success: vec![commit(91), commit(92)],
        own_when_reverted: true,
        lift_on_success: vec![commit(93)],
    };
    let refused = Record::Closed { outcome: Outcome::Refused { failure: failure("no") } };
    // Which commits are put aside in the end, each time beginning with 93.
    let cases: [(&str, bool, Record, &[u64]); 7] = [
        ("succeeded", true, succeeded(), &[91, 92]),
        ("served-and-failed", true, reverted(Some(failure("bad")), true), &[7, 93]),
        ("served-and-failed-but-free", false, reverted(Some(failure("bad")), true), &[93]),
        ("failed-before-it-served", true, reverted(Some(failure("bad")), false), &[93]),
        ("cancelled-after-it-served", true, reverted(None, true), &[93]),
        ("cancelled", true, reverted(None, false), &[93]),
        ("refused", true, refused, &[93]),
    ];
    for (name, own_when_reverted, end, expected) in cases {
        let of = project(name);
        let aside = quarantined(93, 1, None);
        store.quarantine(&of, &aside).await.unwrap();
        let quarantine = Quarantining { own_when_reverted, ..all.clone() };
        let id = journal(&*store, Request { quarantine, ..request(&of, 7) }, []).await;
        assert_eq!(store.quarantined(&of).await.unwrap(), [aside], "{name}: not before the end");
        append(&*store, id, 1, end).await;
        let mut found = store.quarantined(&of).await.unwrap();
        found.sort_by(|a, b| a.commit.cmp(&b.commit));
        let commits: Vec<_> = found.iter().map(|it| it.commit.clone()).collect();
        assert_eq!(commits, expected.iter().copied().map(commit).collect::<Vec<_>>(), "{name}");
        let at = entry(id, 1, succeeded()).at;
        for it in found.iter().filter(|it| it.commit != commit(93)) {
            assert_eq!((it.deployment, it.at), (Some(id), at), "{name}");
        }
        match name {
            "succeeded" => assert!(found.iter().all(|it| {
                it.by == Actor::User("ada".into()) && it.reason == "rolled back to release 7".into()
            })),
            "served-and-failed" => {
                let own = found.first().unwrap();
                assert_eq!((&own.by, &own.reason), (&Actor::Engine, &"bad".into()));
            }
            _ => {}
        }
    }
    let of = project("reasoned");
    let quarantine = Quarantining { on_success: vec![commit(91)], ..Quarantining::default() };
    let reason = Some("slow".to_owned());
    journal(&*store, Request { quarantine, reason, ..request(&of, 7) }, [succeeded()]).await;
    assert_eq!(store.quarantined(&of).await.unwrap().first().unwrap().reason, "slow".into());
}

/// By hand: the first word about a commit stands until it is lifted; each project has its own.
pub async fn a_commit_is_put_aside_once(it: &dyn Subject) {
    let store = it.store();
    let (shop, blog) = (project("shop"), project("blog"));
    let (old, new) = (quarantined(1, 1, Some(DeploymentId(5))), quarantined(2, 2, None));
    store.quarantine(&shop, &old).await.unwrap();
    store.quarantine(&shop, &new).await.unwrap();
    store
        .quarantine(&shop, &Quarantined { reason: "other".into(), ..quarantined(1, 9, None) })
        .await
        .unwrap();
    assert_eq!(store.quarantined(&shop).await.unwrap(), [new.clone(), old.clone()]);
    assert_eq!(store.quarantined(&blog).await.unwrap(), []);
    assert!(!store.lift(&blog, &commit(1)).await.unwrap());
    assert!(store.lift(&shop, &commit(1)).await.unwrap());
    assert!(!store.lift(&shop, &commit(1)).await.unwrap());
    assert_eq!(store.quarantined(&shop).await.unwrap(), [new]);
    let again = quarantined(1, 3, None);
    store.quarantine(&shop, &again).await.unwrap();
    assert_eq!(store.quarantined(&shop).await.unwrap().first(), Some(&again));
}

/// Whoever asks first to stop a deployment is who stopped it.
pub async fn the_first_request_to_stop_counts(it: &dyn Subject) {
    let store = it.store();
    let (ada, bob) = (Actor::User("ada".into()), Actor::User("bob".into()));
    let id = DeploymentId(4);
    assert_eq!(store.cancel_requested(id).await.unwrap(), None);
    store.request_cancel(id, &ada, Some("wrong one"), moment(5)).await.unwrap();
    store.request_cancel(id, &bob, None, moment(6)).await.unwrap();
    let expected = CancelRequest { by: ada, reason: Some("wrong one".into()), at: moment(5) };
    assert_eq!(store.cancel_requested(id).await.unwrap(), Some(expected));
    assert_eq!(store.cancel_requested(DeploymentId(5)).await.unwrap(), None);
}

/// Another handle on the same data sees everything, and goes on counting where the first stopped.
pub async fn everything_is_there_after_reopening(it: &dyn Subject) {
    let store = it.store();
    let projects = [project("shop"), project("blog")];
    fill(&*store).await;
    let lease = take(&*store, "project/shop").await;
    let last = store.reserve_release(&project("shop"), ReleaseNumber(0)).await.unwrap();
    let before = contents(&*store, &projects).await.unwrap();
    let holder = store.holder("project/shop").await.unwrap();
    let Some(again) = it.reopen().await else { return };
    drop(store);
    assert_eq!(contents(&*again, &projects).await.unwrap(), before);
    assert_eq!(again.holder("project/shop").await.unwrap(), holder);
    assert!(again.renew(&lease, TTL).await.unwrap());
    assert!(again.reserve_release(&project("shop"), ReleaseNumber(0)).await.unwrap() > last);
    let newest = before.deployments.first().unwrap().0.id;
    assert!(again.reserve_deployment().await.unwrap() > newest);
}

/// A sound store has no defects, and giving back space loses nothing.
pub async fn care_changes_nothing(it: &dyn Subject) {
    let store = it.store();
    let projects = [project("shop"), project("blog")];
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    fill(&*store).await;
    let before = contents(&*store, &projects).await.unwrap();
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    store.vacuum().await.unwrap();
    assert_eq!(store.verify().await.unwrap(), [""; 0]);
    assert_eq!(contents(&*store, &projects).await.unwrap(), before);
}
