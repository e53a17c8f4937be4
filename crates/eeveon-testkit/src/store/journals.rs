//! The contract about numbers, positions and journals.

use std::collections::BTreeSet;

use eeveon_core::{
    Actor, DeploymentId, Durability, Fence, Outcome, Quarantining, Record, ReleaseNumber, Request, Seq,
    StepKey,
};
use eeveon_store::{DeploymentFilter, Lease, StoreError};

use super::{Subject, contents, words::*};

/// Ids and release numbers only go up, whoever asks, and however many do at once.
pub async fn numbers_are_never_given_twice(it: &dyn Subject) {
    let (shop, blog) = (project("shop"), project("blog"));
    let handles = handles(it).await;
    let of = shop.clone();
    let given = at_once(&handles, 32, move |store, _| {
        let of = of.clone();
        async move {
            let id = store.reserve_deployment().await.unwrap();
            (id, store.reserve_release(&of, ReleaseNumber(0)).await.unwrap())
        }
    });
    let (ids, numbers): (Vec<_>, Vec<_>) = given.await.into_iter().unzip();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 32, "{ids:?}");
    assert_eq!(numbers.into_iter().collect::<BTreeSet<_>>(), (1..=32).map(ReleaseNumber).collect());

    let store = it.store();
    assert!(store.reserve_deployment().await.unwrap() > *ids.iter().max().unwrap());
    let number = async |project, above| store.reserve_release(project, ReleaseNumber(above)).await.unwrap().0;
    assert_eq!(number(&blog, 0).await, 1, "each project counts for itself");
    assert_eq!(number(&blog, 7).await, 8, "greater than asked for");
    assert_eq!(number(&blog, 3).await, 9, "and than all before");
}

/// A taken position is a conflict, and so is one that would leave a gap.
pub async fn entries_go_to_the_next_position_only(it: &dyn Subject) {
    let store = it.store();
    let (one, two) = (DeploymentId(1), DeploymentId(2));
    let try_at = async |id, seq, record| {
        let refused = store.append(&entry(id, seq, record), Durability::Process, None).await;
        assert_conflict(refused, id, seq);
    };
    try_at(one, 1, succeeded()).await;
    append(&*store, one, 0, opened(request(&project("shop"), 1))).await;
    try_at(one, 0, opened(request(&project("shop"), 2))).await;
    append(&*store, one, 1, Record::Started { step: ship(), attempt: 1 }).await;
    try_at(one, 1, succeeded()).await;
    try_at(one, 3, succeeded()).await;
    try_at(two, 2, succeeded()).await;
    append(&*store, two, 0, opened(request(&project("shop"), 2))).await;
    assert_eq!(store.read(one, Seq(0)).await.unwrap().len(), 2);
    assert_eq!(store.deployment(one).await.unwrap().unwrap().release.number, ReleaseNumber(1));
}

/// Of many who append at the same position at once, exactly one succeeds.
pub async fn of_many_who_append_one_wins(it: &dyn Subject) {
    let handles = handles(it).await;
    let id = journal(&*it.store(), request(&project("shop"), 1), []).await;
    for round in 1..8 {
        let tries = at_once(&handles, 8, move |store, attempt| async move {
            let record = Record::Started { step: ship(), attempt };
            store.append(&entry(id, round, record), Durability::Process, None).await.map(|()| attempt)
        });
        let (won, lost): (Vec<_>, Vec<_>) = tries.await.into_iter().partition(Result::is_ok);
        assert_eq!(won.len(), 1, "{won:?} {lost:?}");
        lost.into_iter().for_each(|lost| assert_conflict(lost, id, round));
        let winner = *won.first().unwrap().as_ref().unwrap();
        let read = it.store().read(id, Seq(round)).await.unwrap();
        let expected = [entry(id, round, Record::Started { step: ship(), attempt: winner })];
        assert_eq!(read, expected);
    }
}

/// The first record opens the journal, no other does, and none follows the last.
pub async fn a_journal_opens_once_and_ends_once(it: &dyn Subject) {
    let store = it.store();
    let refused = async |id, seq, record| {
        let result = store.append(&entry(id, seq, record), Durability::Process, None).await;
        assert!(matches!(result, Err(StoreError::Illegal { .. })), "{result:?}");
    };
    refused(DeploymentId(1), 0, succeeded()).await;
    let id = DeploymentId(2);
    append(&*store, id, 0, opened(request(&project("shop"), 1))).await;
    refused(id, 1, opened(request(&project("shop"), 1))).await;
    append(&*store, id, 1, reverted(None, false)).await;
    refused(id, 2, succeeded()).await;
    assert_eq!(store.read(id, Seq(0)).await.unwrap().len(), 2);
    assert!(store.deployment(DeploymentId(1)).await.unwrap().is_none());
}

/// Every kind of record comes back as it was, whatever text is in it.
pub async fn what_was_appended_is_read_back(it: &dyn Subject) {
    let store = it.store();
    let (step, id) = (ship(), store.reserve_deployment().await.unwrap());
    let hostile = "'); DROP TABLE entries;-- \u{0} \u{1b}]0;x\u{7} \u{feff}\u{10ffff} \\ \" é";
    let records = [
        opened(Request { reason: Some(hostile.into()), ..request(&project("shop"), 3) }),
        Record::Started { step: step.clone(), attempt: u32::MAX },
        Record::Finished {
            step: step.clone(),
            output: serde_json::json!({ hostile: [u64::MAX, i64::MIN, null] }),
        },
        Record::Started { step: StepKey::new(hostile), attempt: 1 },
        Record::Failed { step: StepKey::new(hostile), failure: failure(hostile) },
        Record::Cancelled { by: Actor::Token(hostile.into()), reason: None },
        Record::UndoStarted { step: step.clone(), attempt: 2 },
        Record::Parked { step: step.clone(), failure: Some(failure("stuck")) },
        Record::Unparked { by: Actor::Webhook("forge".into()), reason: Some(hostile.into()) },
        Record::UndoFinished { step: step.clone() },
        Record::Closed { outcome: Outcome::Refused { failure: failure(hostile) } },
    ];
    let entries: Vec<_> = (0..).zip(records).map(|(seq, record)| entry(id, seq, record)).collect();
    for (n, entry) in entries.iter().enumerate() {
        let durability = if n % 2 == 0 { Durability::Power } else { Durability::Process };
        store.append(entry, durability, None).await.unwrap();
    }
    for from in 0..=entries.len() + 1 {
        let seq = Seq(u64::try_from(from).unwrap());
        let expected = entries.get(from..).unwrap_or_default();
        assert_eq!(store.read(id, seq).await.unwrap(), expected, "from {from}");
    }
    assert_eq!(store.read(DeploymentId(id.0 + 1), Seq(0)).await.unwrap(), []);
}

/// A lease allows appending until somebody else has it or it was given back, and not a moment less.
pub async fn only_the_newest_lease_may_append(it: &dyn Subject) {
    let store = it.store();
    let id = DeploymentId(1);
    let under = async |lease: &Lease, seq, record| {
        store.append(&entry(id, seq, record), Durability::Power, Some(lease)).await
    };
    let started = |attempt| Record::Started { step: ship(), attempt };

    let never = Lease { name: "project/shop".into(), fence: Fence(1) };
    assert_conflict(under(&never, 0, opened(request(&project("shop"), 1))).await, id, 0);

    let first = take(&*store, "project/shop").await;
    under(&first, 0, opened(request(&project("shop"), 1))).await.unwrap();
    let elsewhere = take(&*store, "project/blog").await;
    it.ticks().advance(TTL * 2);
    under(&first, 1, started(1)).await.unwrap();

    let second = take(&*store, "project/shop").await;
    assert_conflict(under(&first, 2, started(2)).await, id, 2);
    let guessed = Lease { fence: Fence(second.fence.0 + 1), ..second.clone() };
    assert_conflict(under(&guessed, 2, started(2)).await, id, 2);
    under(&second, 2, started(2)).await.unwrap();

    store.release(&second).await.unwrap();
    assert_conflict(under(&second, 3, started(3)).await, id, 3);
    assert_conflict(under(&first, 3, started(3)).await, id, 3);
    // Leases of other names have nothing to do with it.
    under(&elsewhere, 3, started(3)).await.unwrap();
}

/// Neither the journal nor any list shows a trace of an append that was refused.
pub async fn a_refused_append_changes_nothing(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let stale = take(&*store, "project/shop").await;
    it.ticks().advance(TTL);
    let lease = take(&*store, "project/shop").await;
    let put_aside = Quarantining {
        on_success: vec![commit(8)],
        own_when_reverted: true,
        lift_on_success: vec![commit(9)],
    };
    let aside = quarantined(9, 1, None);
    store.quarantine(&shop, &aside).await.unwrap();
    let id = journal(&*store, Request { quarantine: put_aside, ..request(&shop, 1) }, []).await;

    let projects = [shop.clone()];
    let before = contents(&*store, &projects).await.unwrap();
    let other = store.reserve_deployment().await.unwrap();
    for (id, seq, record) in [
        (id, 1, succeeded()),
        (id, 1, reverted(Some(failure("bad")), true)),
        (id, 1, Record::Parked { step: ship(), failure: None }),
        (other, 0, opened(request(&shop, 2))),
    ] {
        let refused = store.append(&entry(id, seq, record.clone()), Durability::Power, Some(&stale)).await;
        assert_conflict(refused, id, seq);
        let misplaced = store.append(&entry(id, seq + 1, record), Durability::Power, Some(&lease)).await;
        assert_conflict(misplaced, id, seq + 1);
        assert_eq!(contents(&*store, &projects).await.unwrap(), before);
    }
    // And the same append is fine under the right lease.
    store.append(&entry(id, 1, succeeded()), Durability::Power, Some(&lease)).await.unwrap();
    assert_ne!(contents(&*store, &projects).await.unwrap(), before);
}

/// Reading stops at what is not understood; lists and other deployments are not affected.
pub async fn an_entry_of_a_later_version_is_not_skipped(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let steps = [Record::Started { step: ship(), attempt: 1 }, Record::UndoFinished { step: ship() }];
    let id = journal(&*store, request(&shop, 1), steps).await;
    let other = journal(&*store, request(&shop, 2), [succeeded()]).await;
    if !it.write_future_entry(id, Seq(1)).await {
        return;
    }
    let unread = store.read(id, Seq(0)).await;
    let fits =
        matches!(unread, Err(StoreError::Unreadable { deployment, at: Seq(1), .. }) if deployment == id);
    assert!(fits, "{unread:?}");
    assert_eq!(store.read(id, Seq(2)).await.unwrap().len(), 1);
    assert_eq!(store.read(other, Seq(0)).await.unwrap().len(), 2);
    let listed = store.deployments(&DeploymentFilter::default()).await.unwrap();
    assert_eq!(listed.iter().map(|it| it.id).collect::<Vec<_>>(), [other, id]);
    assert!(store.deployment(id).await.unwrap().unwrap().outcome.is_none());
}
