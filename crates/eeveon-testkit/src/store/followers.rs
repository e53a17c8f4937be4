//! The contract about following the journals: order, positions, cursors.

use std::collections::{BTreeMap, BTreeSet};

use eeveon_core::{Diagnose, Durability, Record, Seq};
use eeveon_store::{NewLetter, Position};

use super::{FOLLOWER, Subject, words::*};

/// Entries of all deployments come in the order they were recorded, by ever higher positions.
pub async fn entries_are_followed_in_the_order_they_were_recorded(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    assert_eq!(store.newest_position().await.unwrap(), Position(0));
    assert_eq!(followed(&*store, Position(0), 9).await.unwrap(), []);

    let started = |attempt| Record::Started { step: ship(), attempt };
    let ids = [store.reserve_deployment().await.unwrap(), store.reserve_deployment().await.unwrap()];
    let [one, two] = ids;
    // Neither the order of deployments nor of times.
    let expected = [
        entry(two, 0, opened(request(&shop, 2))),
        entry(one, 0, opened(request(&shop, 1))),
        entry(one, 1, started(1)),
        entry(two, 1, started(1)),
        entry(one, 2, succeeded()),
        entry(two, 2, succeeded()),
    ];
    for (n, entry) in expected.iter().enumerate() {
        let durability = if n % 2 == 0 { Durability::Power } else { Durability::Process };
        store.append(entry, durability, None).await.unwrap();
        // What is refused takes no position.
        store.append(entry, durability, None).await.unwrap_err();
        let (newest, last) = followed(&*store, Position(0), 99).await.unwrap().pop().unwrap();
        assert_eq!((newest, &last), (store.newest_position().await.unwrap(), entry));
    }
    let all = followed(&*store, Position(0), 99).await.unwrap();
    assert_eq!(all.iter().map(|(_, entry)| entry.clone()).collect::<Vec<_>>(), expected);
    assert!(all.is_sorted_by(|(one, _), (other, _)| one < other), "{all:?}");
    assert!(all.first().unwrap().0 > Position(0));

    // From any position on, and in portions of any size.
    for limit in 1..8_u32 {
        let (mut after, mut portions) = (Position(0), Vec::new());
        loop {
            let portion = followed(&*store, after, limit).await.unwrap();
            let Some((last, _)) = portion.last() else { break };
            assert!(portion.len() <= usize::try_from(limit).unwrap());
            after = *last;
            portions.extend(portion);
        }
        assert_eq!(portions, all, "{limit} at a time");
    }
    assert_eq!(followed(&*store, Position(0), 0).await.unwrap(), []);
    assert_eq!(followed(&*store, Position(u64::MAX), 9).await.unwrap(), []);
    store.vacuum().await.unwrap();
    assert_eq!(followed(&*store, Position(0), 99).await.unwrap(), all);
}

/// Whoever follows while many append sees every entry once, and never one before an earlier one.
pub async fn of_many_who_append_every_entry_is_followed_once(it: &dyn Subject) {
    let handles = handles(it).await;
    let seen = at_once(&handles, 9, |store, n| async move {
        let (mut seen, mut after) = (Vec::new(), Position(0));
        if n > 0 {
            let started = (1..6).map(|attempt| Record::Started { step: ship(), attempt });
            journal(&*store, request(&project("shop"), u64::from(n)), started).await;
            return seen;
        }
        while seen.len() < 8 * 6 {
            for (position, entry) in followed(&*store, after, 5).await.unwrap() {
                assert!(position > after);
                after = position;
                seen.push((entry.deployment, entry.seq));
            }
            tokio::task::yield_now().await;
        }
        seen
    });
    let seen: Vec<_> = seen.await.concat();
    let mut next = BTreeMap::new();
    for (deployment, seq) in &seen {
        let next = next.entry(deployment).or_insert(Seq(0));
        assert_eq!(seq, next, "of {deployment}");
        *next = next.next();
    }
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 8 * 6);
    assert_eq!(followed(&*it.store(), Position(0), u32::MAX).await.unwrap().len(), seen.len());
}

/// An entry of a later version is an error in its place; those before and behind are not affected.
pub async fn a_follower_goes_on_behind_what_it_cannot_read(it: &dyn Subject) {
    let store = it.store();
    let started = Record::Started { step: ship(), attempt: 1 };
    let id = journal(&*store, request(&project("shop"), 1), [started, succeeded()]).await;
    if !it.write_future_entry(id, Seq(1)).await {
        return;
    }
    let items = store.follow(Position(0), 9).await.unwrap();
    let read: Vec<_> = items.iter().map(|(_, entry)| entry.as_ref().map(|entry| entry.seq)).collect();
    assert!(matches!(read[..], [Ok(Seq(0)), Err(_), Ok(Seq(2))]), "{read:?}");
    let error = items.get(1).unwrap().1.as_ref().unwrap_err();
    assert_eq!(error.code(), "store/unreadable");
    assert!(items.is_sorted_by_key(|(position, _)| *position));
    let behind = store.follow(items.get(1).unwrap().0, 9).await.unwrap();
    assert!(matches!(&behind[..], [(_, Ok(entry))] if entry.seq == Seq(2)), "{behind:?}");
}

/// Letters are there when the cursor has moved, and only then; each follower has its own.
pub async fn letters_and_cursor_move_together(it: &dyn Subject) {
    let (store, shop) = (it.store(), project("shop"));
    let post =
        async |upto, letters: &[NewLetter]| store.post(FOLLOWER, Position(upto), letters).await.unwrap();
    let keys = async || -> Vec<String> {
        letters(&*store, &all_letters()).await.into_iter().map(|letter| letter.key).collect()
    };
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), None);
    // Where a follower begins that is not to tell of what was before.
    assert!(post(0, &[]).await);
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), Some(Position(0)));

    assert!(post(3, &[new_letter(&shop, 1, 5), new_letter(&shop, 3, 6), new_letter(&shop, 3, 7)]).await);
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), Some(Position(3)));
    assert_eq!(keys().await, ["1", "3"], "an equal letter is ignored");
    assert_eq!(letters(&*store, &all_letters()).await.get(1).unwrap().due_at, moment(6));

    // Neither back nor on the spot.
    for upto in [0, 2, 3] {
        assert!(!post(upto, &[new_letter(&shop, 9, 5)]).await, "{upto}");
    }
    assert_eq!(store.cursor(FOLLOWER).await.unwrap(), Some(Position(3)));
    assert_eq!(keys().await, ["1", "3"]);

    // What the cursor has passed was posted before, also when it is not there any more.
    let first = letters(&*store, &all_letters()).await.first().unwrap().id;
    assert!(store.forget(first).await.unwrap());
    assert!(post(5, &[new_letter(&shop, 1, 5), new_letter(&shop, 5, 5)]).await);
    assert_eq!(keys().await, ["3", "5"]);

    // Another project, channel or follower makes it another letter.
    let other = |key: &NewLetter| NewLetter { position: Position(6), ..key.clone() };
    let three = other(&new_letter(&shop, 3, 5));
    let elsewhere = NewLetter { channel: "mail".into(), ..three.clone() };
    let of_blog = NewLetter { project: project("blog"), ..three.clone() };
    assert!(post(6, &[three.clone(), elsewhere, of_blog]).await);
    assert_eq!(keys().await, ["3", "5", "3", "3"]);
    assert_eq!(store.cursor("audit").await.unwrap(), None);
    assert!(store.post("audit", Position(6), &[three]).await.unwrap());
    assert_eq!(keys().await.len(), 4);
    let audit = eeveon_store::LetterFilter { follower: "audit".into(), ..all_letters() };
    assert_eq!(letters(&*store, &audit).await.len(), 1);
}

/// Several processes under one name tell of every entry once, even when letters are delivered and
/// forgotten at once.
pub async fn several_followers_of_one_name_post_each_entry_once(it: &dyn Subject) {
    const ENTRIES: u64 = 60;
    let (handles, shop) = (handles(it).await, project("shop"));
    let started = (1..60).map(|attempt| Record::Started { step: ship(), attempt });
    journal(&*it.store(), request(&shop, 1), started).await;
    let delivered = at_once(&handles, 4, |store, n| {
        let shop = shop.clone();
        async move {
            let mut delivered = Vec::new();
            loop {
                let cursor = store.cursor(FOLLOWER).await.unwrap().unwrap_or_default();
                let entries = followed(&*store, cursor, 3 + n).await.unwrap();
                let Some((last, _)) = entries.last() else { break delivered };
                let new: Vec<_> = entries.iter().map(|(at, _)| new_letter(&shop, at.0, 1)).collect();
                store.post(FOLLOWER, *last, &new).await.unwrap();
                for letter in letters(&*store, &all_letters()).await {
                    if store.begin_sending(letter.id).await.unwrap().is_some() {
                        delivered.push(letter.key);
                        assert!(store.settle(letter.id, eeveon_store::LetterEnd::Delivered).await.unwrap());
                    }
                }
            }
        }
    });
    let delivered = delivered.await.concat();
    let left = letters(&*it.store(), &all_letters()).await;
    assert_eq!(left, [], "every one was sent by whoever posted it, or by another");
    assert_eq!(delivered.len(), usize::try_from(ENTRIES).unwrap(), "{delivered:?}");
    let expected: BTreeSet<_> = (1..=ENTRIES).map(|n| n.to_string()).collect();
    assert_eq!(delivered.into_iter().collect::<BTreeSet<_>>(), expected);
}
