//! How leases are granted, prolonged and given back: the same for every store.

use std::time::Duration;

use eeveon_core::Fence;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Acquired, Holder, Lease, Liveness, Owner, Store, StoreError, ticks::Tick};

/// Takes the lease `name` for `lifetime`, as [`Store::acquire`] does, also from a holder whose process
/// `owner`, the calling process, sees to be dead. Returns who holds it when that one may still live.
/// The fence is higher than `above`.
///
/// # Errors
///
/// The store failed.
pub async fn take_over(
    store: &dyn Store,
    name: &str,
    owner: &Owner,
    lifetime: Duration,
    above: Fence,
) -> Result<Acquired, StoreError> {
    let mut dead = None;
    loop {
        match store.acquire(name, owner, lifetime, dead, above).await? {
            // What was seen of one holder says nothing about the next, who may have been faster than us.
            Acquired::Held(holder) if holder.owner.liveness(owner) == Liveness::Dead => {
                dead = Some(holder.fence);
            }
            acquired => return Ok(acquired),
        }
    }
}

/// The newest lease of a name. It is kept when it is given back, because the next one's fence has to
/// be higher.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub(crate) struct Newest {
    pub(crate) fence: Fence,
    owner: Owner,
    since: Timestamp,
    /// The boot of the machine in which it was granted.
    boot: String,
    /// When it was granted or prolonged, in milliseconds since that boot.
    renewed_ms: u64,
    ttl_ms: u64,
    released: bool,
}

/// Decides whether a lease can be granted. Returns the lease to remember if it was.
pub(crate) fn acquire(
    newest: Option<Newest>,
    name: &str,
    owner: &Owner,
    ttl: Duration,
    dead: Option<Fence>,
    above: Fence,
    now: Tick,
) -> (Acquired, Option<Newest>) {
    if let Some(newest) = &newest
        && let Some(holder) = newest.holder(&now)
        && holder.remaining_ms > 0
        && dead != Some(newest.fence)
    {
        return (Acquired::Held(holder), None);
    }
    let fence = Fence(newest.map_or(above, |newest| newest.fence.max(above)).0.saturating_add(1));
    let granted = Newest {
        fence,
        owner: owner.clone(),
        since: Timestamp::now(),
        boot: now.boot,
        renewed_ms: now.ms,
        ttl_ms: milliseconds(ttl),
        released: false,
    };
    (Acquired::Granted(Lease { name: name.to_owned(), fence }), Some(granted))
}

impl Newest {
    /// Tells whether `lease` is this one and was not given back. Its time may have run out: as long
    /// as nobody took it since, nobody is harmed.
    pub(crate) fn is(&self, lease: &Lease) -> bool {
        self.fence == lease.fence && !self.released
    }

    pub(crate) fn renew(&mut self, ttl: Duration, now: Tick) {
        self.boot = now.boot;
        self.renewed_ms = now.ms;
        self.ttl_ms = milliseconds(ttl);
    }

    pub(crate) fn release(&mut self) {
        self.released = true;
    }

    /// Returns who holds it, unless it was given back.
    pub(crate) fn holder(&self, now: &Tick) -> Option<Holder> {
        // Where the system does not name its boots, a clock that reads less than before must have
        // been started anew.
        let restarted = self.boot != now.boot || (now.boot.is_empty() && now.ms < self.renewed_ms);
        let remaining_ms = match restarted {
            true => 0,
            false => self.ttl_ms.saturating_sub(now.ms.saturating_sub(self.renewed_ms)),
        };
        let (owner, fence, since) = (self.owner.clone(), self.fence, self.since);
        (!self.released).then_some(Holder { owner, fence, since, remaining_ms })
    }
}

fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryStore;

    fn at(boot: &str, ms: u64) -> Tick {
        Tick { boot: boot.to_owned(), ms }
    }

    #[test]
    fn where_boots_have_no_name_a_clock_that_reads_less_was_restarted() {
        let owner = Owner::this_process("test");
        let grant = |boot| {
            acquire(None, "a", &owner, Duration::from_secs(1), None, Fence(0), at(boot, 5000)).1.unwrap()
        };
        assert_eq!(grant("").holder(&at("", 4000)).unwrap().remaining_ms, 0);
        assert_eq!(grant("").holder(&at("", 5400)).unwrap().remaining_ms, 600);
        assert_eq!(
            grant("a").holder(&at("a", 4000)).unwrap().remaining_ms,
            1000,
            "never longer than granted"
        );
        assert_eq!(grant("a").holder(&at("b", 5000)).unwrap().remaining_ms, 0);
    }

    /// A process of another start than ours has our id, so it is dead.
    fn dead(label: &str) -> Owner {
        let me = Owner::this_process(label);
        Owner { started: me.started.wrapping_sub(1), ..me }
    }

    const TTL: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn a_dead_holder_is_passed_over_and_no_other() {
        let (store, me) = (MemoryStore::new(), Owner::this_process("me"));
        let granted = |acquired| match acquired {
            Acquired::Granted(lease) => lease,
            Acquired::Held(holder) => unreachable!("held by {holder:?}"),
        };
        let take =
            async |owner: &Owner, above| take_over(&store, "a", owner, TTL, Fence(above)).await.unwrap();
        let first = granted(take(&dead("first"), 7).await);
        assert!(first.fence > Fence(7), "{first:?}");
        let second = granted(take(&me, 40).await);
        assert!(second.fence > Fence(40), "{second:?}");
        let Acquired::Held(holder) = take(&me, 0).await else { unreachable!("it is held") };
        assert_eq!((holder.owner, holder.fence), (me.clone(), second.fence));
        store.release(&second).await.unwrap();
        granted(take(&me, 0).await);
        // Somebody elsewhere cannot be seen.
        let elsewhere = Owner { host: "elsewhere".into(), ..dead("far") };
        granted(take_over(&store, "b", &elsewhere, TTL, Fence(0)).await.unwrap());
        let held = take_over(&store, "b", &me, TTL, Fence(0)).await.unwrap();
        assert!(matches!(held, Acquired::Held(holder) if holder.owner == elsewhere));
    }

    #[tokio::test]
    async fn of_several_dead_holders_each_is_passed_over() {
        let (store, me) = (MemoryStore::new(), Owner::this_process("me"));
        for n in 0..3 {
            let owner = dead(&format!("dead {n}"));
            let taken = take_over(&store, "a", &owner, TTL, Fence(0)).await.unwrap();
            assert!(matches!(taken, Acquired::Granted(_)), "{taken:?}");
        }
        let taken = take_over(&store, "a", &me, TTL, Fence(0)).await.unwrap();
        assert!(matches!(taken, Acquired::Granted(_)), "{taken:?}");
    }
}
