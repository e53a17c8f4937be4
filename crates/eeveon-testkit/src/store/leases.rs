//! The contract about leases.

use std::time::Duration;

use eeveon_core::Fence;
use eeveon_store::{Acquired, Lease};

use super::{Subject, words::*};

/// Who holds a lease is told to everybody who asks for it, the holder included.
pub async fn a_lease_excludes_everybody_else(it: &dyn Subject) {
    let store = it.store();
    assert_eq!(store.holder("project/shop").await.unwrap(), None);
    let first = granted(store.acquire("project/shop", &owner("first"), TTL, None, Fence(0)).await.unwrap());
    for asker in ["second", "first"] {
        let holder = held(store.acquire("project/shop", &owner(asker), TTL, None, Fence(0)).await.unwrap());
        assert_eq!((holder.owner, holder.fence), (owner("first"), first.fence));
        assert_eq!(holder.remaining_ms, 30_000);
    }
    let holder = store.holder("project/shop").await.unwrap().unwrap();
    assert_eq!((holder.owner, holder.fence), (owner("first"), first.fence));
    assert_ne!(take(&*store, "project/blog").await, first, "another name is another lease");

    store.release(&first).await.unwrap();
    assert_eq!(store.holder("project/shop").await.unwrap(), None);
    let second = take(&*store, "project/shop").await;
    assert!(second.fence > first.fence);
    // Too late to have an effect.
    store.release(&first).await.unwrap();
    assert_eq!(store.holder("project/shop").await.unwrap().unwrap().fence, second.fence);
}

/// A lease is somebody else's for the taking at the moment its time has run out, and not before.
pub async fn a_lease_ends_with_its_time(it: &dyn Subject) {
    let store = it.store();
    let first = granted(store.acquire("project/shop", &owner("first"), TTL, None, Fence(0)).await.unwrap());
    it.ticks().advance(TTL - Duration::from_millis(1));
    assert_eq!(
        held(store.acquire("project/shop", &owner("second"), TTL, None, Fence(0)).await.unwrap())
            .remaining_ms,
        1
    );
    it.ticks().advance(Duration::from_millis(1));
    let holder = store.holder("project/shop").await.unwrap().unwrap();
    assert_eq!((holder.owner, holder.remaining_ms), (owner("first"), 0), "shown until it is taken");
    let second = take(&*store, "project/shop").await;
    assert!(second.fence > first.fence);
    assert!(!store.renew(&first, TTL).await.unwrap());
}

/// Prolonging counts from now on, and works until somebody else took the lease or it was given back.
pub async fn a_lease_can_be_prolonged_until_it_is_taken(it: &dyn Subject) {
    let store = it.store();
    let first = take(&*store, "project/shop").await;
    it.ticks().advance(TTL / 2);
    assert!(store.renew(&first, TTL).await.unwrap());
    it.ticks().advance(TTL * 3 / 4);
    assert_eq!(
        held(store.acquire("project/shop", &owner("second"), TTL, None, Fence(0)).await.unwrap())
            .remaining_ms,
        7_500
    );
    it.ticks().advance(TTL);
    assert!(store.renew(&first, TTL).await.unwrap(), "nobody took it");
    assert_eq!(store.holder("project/shop").await.unwrap().unwrap().remaining_ms, 30_000);

    store.release(&first).await.unwrap();
    assert!(!store.renew(&first, TTL).await.unwrap());
    let second = take(&*store, "project/shop").await;
    assert!(!store.renew(&first, TTL).await.unwrap());
    assert!(store.renew(&second, TTL).await.unwrap());
    let unknown = Lease { name: "project/none".into(), fence: Fence(1) };
    assert!(!store.renew(&unknown, TTL).await.unwrap());
}

/// A lease whose holder was seen dead can be taken; evidence about another holder does not count.
pub async fn a_lease_ends_with_its_holder(it: &dyn Subject) {
    let store = it.store();
    let first = take(&*store, "project/shop").await;
    let next = Some(Fence(first.fence.0 + 1));
    held(store.acquire("project/shop", &owner("second"), TTL, next, Fence(0)).await.unwrap());
    let second = granted(
        store.acquire("project/shop", &owner("second"), TTL, Some(first.fence), Fence(0)).await.unwrap(),
    );
    assert!(second.fence > first.fence);
    // What was seen of the first says nothing about the second.
    let holder =
        held(store.acquire("project/shop", &owner("third"), TTL, Some(first.fence), Fence(0)).await.unwrap());
    assert_eq!(holder.owner, owner("second"));
}

/// A store that knows of fewer leases than a target has seen goes on after the target's; one that
/// knows of more goes on after its own.
pub async fn a_fence_is_higher_than_any_seen(it: &dyn Subject) {
    let store = it.store();
    let mut last = Fence(0);
    for above in [0, 41, 41, 7, 43, 44, 0].map(Fence) {
        let lease = granted(store.acquire("project/shop", &owner("one"), TTL, None, above).await.unwrap());
        assert!(lease.fence > last && lease.fence > above, "{lease:?} after {last:?}, above {above:?}");
        held(store.acquire("project/shop", &owner("two"), TTL, None, Fence(1000)).await.unwrap());
        assert_eq!(store.holder("project/shop").await.unwrap().unwrap().fence, lease.fence);
        last = lease.fence;
        store.release(&lease).await.unwrap();
    }
}

/// No lease outlives a restart of the machine, however long it was to last.
pub async fn a_lease_ends_with_the_machine(it: &dyn Subject) {
    let store = it.store();
    let ages = Duration::from_secs(u64::from(u32::MAX));
    it.ticks().advance(TTL);
    let first = granted(store.acquire("project/shop", &owner("first"), ages, None, Fence(0)).await.unwrap());
    it.ticks().reboot();
    assert_eq!(store.holder("project/shop").await.unwrap().unwrap().remaining_ms, 0);
    let second = take(&*store, "project/shop").await;
    assert!(second.fence > first.fence);
    assert_eq!(store.holder("project/shop").await.unwrap().unwrap().remaining_ms, 30_000);
}

/// Of many who ask at once, exactly one gets the lease, and fences never repeat.
pub async fn of_many_who_ask_for_a_lease_one_gets_it(it: &dyn Subject) {
    let handles = handles(it).await;
    let mut last = Fence(0);
    for _ in 0..8 {
        let asked = at_once(&handles, 8, |store, _| async move {
            store.acquire("project/shop", &owner("one"), TTL, None, Fence(0)).await.unwrap()
        });
        let acquired = asked.await.into_iter().filter(|it| matches!(it, Acquired::Granted(_)));
        let granted: Vec<_> = acquired.map(granted).collect();
        assert_eq!(granted.len(), 1, "{granted:?}");
        let lease = granted.first().unwrap();
        assert!(lease.fence > last, "{lease:?} after {last:?}");
        last = lease.fence;
        it.store().release(lease).await.unwrap();
    }
}
