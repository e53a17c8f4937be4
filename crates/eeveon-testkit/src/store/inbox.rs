//! The contract about deliveries of webhooks and small states.

use eeveon_core::{Diagnose, Durability};
use eeveon_store::{
    DELIVERIES_KEPT, DELIVERY_BYTES, Delivery, STATE_BYTES, STATE_KEY_BYTES, Store, StoreError,
};

use super::{Subject, words::*};

fn some(key: &str, value: &str) -> (String, Option<String>) {
    (key.to_owned(), Some(value.to_owned()))
}

async fn state(store: &dyn Store, key: &str) -> Option<String> {
    store.state(key).await.unwrap()
}

async fn ids(store: &dyn Store, name: &str, limit: u32) -> Vec<String> {
    let deliveries = store.deliveries(&project(name), limit).await.unwrap();
    deliveries.into_iter().map(|delivery| delivery.id).collect()
}

#[track_caller]
fn assert_too_large<T: std::fmt::Debug>(result: Result<T, StoreError>, what: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.code(), "store/too-large", "{error}");
    assert!(error.to_string().contains(what), "{error}");
}

/// States are saved and removed under their keys, all of one call or none.
pub async fn states_are_saved_together(it: &dyn Subject) {
    let store = it.store();
    assert_eq!(state(&*store, "a").await, None);
    store.save_states(&[], Durability::Process).await.unwrap();
    let odd = "\u{0}\u{1b}[31m \"日本\" \\u0000 {";
    store.save_states(&[some("a", "1"), some("b", odd), some("", "")], Durability::Power).await.unwrap();
    assert_eq!(state(&*store, "a").await.as_deref(), Some("1"));
    assert_eq!(state(&*store, "b").await.as_deref(), Some(odd));
    assert_eq!(state(&*store, "").await.as_deref(), Some(""), "empty is not absent");
    assert_eq!(state(&*store, "A").await, None);

    let gone = |key: &str| (key.to_owned(), None);
    let changes = [gone("b"), some("a", "2"), gone("never"), some("c", "3"), some("c", "4")];
    store.save_states(&changes, Durability::Process).await.unwrap();
    assert_eq!(state(&*store, "a").await.as_deref(), Some("2"));
    assert_eq!(state(&*store, "b").await, None);
    assert_eq!(state(&*store, "c").await.as_deref(), Some("4"), "the last word counts");

    // Exactly as large as may be, and one byte more: then the others of the call are not saved either.
    let (key, value) = ("k".repeat(STATE_KEY_BYTES), "v".repeat(STATE_BYTES));
    store.save_states(&[some(&key, &value)], Durability::Process).await.unwrap();
    assert!(state(&*store, &key).await.is_some_and(|read| read == value));
    for (large, what) in
        [(some(&(key + "k"), ""), "the key of a state"), (some("c", &(value + "v")), "the state `c`")]
    {
        for states in [[some("a", "3"), large.clone()], [large, some("a", "3")]] {
            assert_too_large(store.save_states(&states, Durability::Process).await, what);
            assert_too_large(store.take_delivery(&delivery("shop", "1"), &states).await, what);
        }
    }
    assert_eq!(state(&*store, "a").await.as_deref(), Some("2"));
    assert_eq!(state(&*store, "c").await.as_deref(), Some("4"));
    assert_eq!(ids(&*store, "shop", 9).await, [""; 0]);
}

/// A delivery is taken in once, and the states with it; what comes again changes nothing.
pub async fn a_delivery_is_taken_in_once(it: &dyn Subject) {
    let store = it.store();
    let find = async |it: &Delivery| store.delivery(&it.project, &it.provider, &it.id).await.unwrap();
    let first = Delivery { ask: Some(r#"{"branch":"main"}"#.into()), ..delivery("shop", "1") };
    assert_eq!(find(&first).await, None);
    assert!(store.take_delivery(&first, &[some("a", "1"), some("b", "1")]).await.unwrap());
    assert_eq!(find(&first).await.as_ref(), Some(&first));
    assert_eq!(state(&*store, "b").await.as_deref(), Some("1"));

    let again = Delivery { accepted: !first.accepted, why: "otherwise".into(), ..first.clone() };
    for again in [&first, &again] {
        assert!(!store.take_delivery(again, &[some("a", "2"), ("b".into(), None)]).await.unwrap());
    }
    assert_eq!(find(&first).await.as_ref(), Some(&first));
    assert_eq!(state(&*store, "a").await.as_deref(), Some("1"));
    assert_eq!(state(&*store, "b").await.as_deref(), Some("1"));

    // Another project, provider or id makes it another delivery.
    let others = [
        Delivery { project: project("blog"), ..first.clone() },
        Delivery { provider: "gitlab".into(), ..first.clone() },
        Delivery { id: "2".into(), ..first.clone() },
    ];
    for other in &others {
        assert_eq!(find(other).await, None);
        assert!(store.take_delivery(other, &[]).await.unwrap());
        assert!(!store.take_delivery(other, &[]).await.unwrap());
        assert_eq!(find(other).await.as_ref(), Some(other));
    }

    // What nothing came of may be delivered again, until something does.
    let ignored = Delivery { accepted: false, ..delivery("shop", "4") };
    let accepted = Delivery { accepted: true, why: "it is wanted now".to_owned(), ..ignored.clone() };
    assert!(store.take_delivery(&ignored, &[some("a", "4")]).await.unwrap());
    assert!(!store.take_delivery(&ignored, &[some("a", "5")]).await.unwrap());
    assert!(store.take_delivery(&accepted, &[some("a", "1")]).await.unwrap());
    for again in [&ignored, &accepted] {
        assert!(!store.take_delivery(again, &[some("a", "6")]).await.unwrap());
    }
    assert_eq!((find(&accepted).await, state(&*store, "a").await), (Some(accepted), Some("1".to_owned())));

    let texts = first.provider.len() + "3".len() + first.why.len();
    let full = "x".repeat(DELIVERY_BYTES - texts);
    let large = |ask| Delivery { ask: Some(ask), ..delivery("shop", "3") };
    assert_too_large(store.take_delivery(&large(full.clone() + "x"), &[some("a", "3")]).await, "a delivery");
    assert_eq!(state(&*store, "a").await.as_deref(), Some("1"));
    assert!(store.take_delivery(&large(full), &[some("a", "3")]).await.unwrap());
    assert_eq!(state(&*store, "a").await.as_deref(), Some("3"));
}

/// Of many who take in the same delivery one is told so, and what it brought is what is kept.
pub async fn of_many_who_take_a_delivery_one_is_told_so(it: &dyn Subject) {
    let (handles, store) = (handles(it).await, it.store());
    for round in 0..6 {
        let id = round.to_string();
        let taken = at_once(&handles, 8, |store, n| {
            let delivery = Delivery { why: n.to_string(), ..delivery("shop", &id) };
            async move {
                let states = [some("winner", &n.to_string())];
                store.take_delivery(&delivery, &states).await.unwrap().then_some(delivery)
            }
        });
        let taken: Vec<_> = taken.await.into_iter().flatten().collect();
        let [winner] = &taken[..] else { unreachable!("taken by {taken:?}") };
        let kept = store.delivery(&winner.project, &winner.provider, &winner.id).await.unwrap();
        assert_eq!(kept.as_ref(), Some(winner));
        assert_eq!(state(&*store, "winner").await.as_ref(), Some(&winner.why));
    }
    assert_eq!(ids(&*store, "shop", 9).await, ["5", "4", "3", "2", "1", "0"]);
}

/// The last to be taken in comes first, whatever the clock said; the oldest make room for new ones.
pub async fn the_newest_deliveries_are_kept(it: &dyn Subject) {
    let store = it.store();
    assert_eq!(ids(&*store, "shop", 9).await, [""; 0]);
    let blog = delivery("blog", "old");
    assert!(store.take_delivery(&blog, &[]).await.unwrap());
    for (id, at) in [("z", 5), ("a", 9), ("m", 1)] {
        let one = Delivery { received_at: moment(at), ..delivery("shop", id) };
        assert!(store.take_delivery(&one, &[]).await.unwrap());
    }
    assert_eq!(ids(&*store, "shop", u32::MAX).await, ["m", "a", "z"]);
    assert_eq!(ids(&*store, "shop", 2).await, ["m", "a"]);
    assert_eq!(ids(&*store, "shop", 0).await, [""; 0]);
    assert_eq!(ids(&*store, "none", 9).await, [""; 0]);

    let more: Vec<_> = (3..DELIVERIES_KEPT).map(|n| n.to_string()).collect();
    for id in &more {
        assert!(store.take_delivery(&delivery("shop", id), &[]).await.unwrap());
    }
    let z = delivery("shop", "z");
    assert!(!store.take_delivery(&z, &[]).await.unwrap(), "exactly as many as may be");
    assert!(store.take_delivery(&delivery("shop", "last"), &[]).await.unwrap());
    let left = ids(&*store, "shop", u32::MAX).await;
    assert_eq!(left.len(), DELIVERIES_KEPT);
    assert_eq!(left.first().map(String::as_str), Some("last"));
    assert!(left.ends_with(&["m".to_owned(), "a".to_owned()]));
    assert_eq!(store.delivery(&z.project, &z.provider, &z.id).await.unwrap(), None);
    assert_eq!(store.deliveries(&blog.project, 9).await.unwrap(), [blog]);
}
