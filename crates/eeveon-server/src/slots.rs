//! How many connections there are, and from whom.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::Limits;

/// One place for each connection that may be.
#[derive(Debug)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    total: usize,
    per_peer: Option<usize>,
    peers: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place. It is given back when neither the connection nor its delivery goes on.
#[derive(Debug)]
pub(crate) struct Slot {
    slots: Arc<Slots>,
    peer: Option<IpAddr>,
    _permit: OwnedSemaphorePermit,
}

impl Slots {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            free: Arc::new(Semaphore::new(limits.connections)),
            total: limits.connections,
            per_peer: limits.connections_per_peer,
            peers: Mutex::default(),
        }
    }

    /// Returns how many places are taken.
    pub(crate) fn taken(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }

    /// Tells whether fewer than a quarter are free.
    pub(crate) fn are_scarce(&self) -> bool {
        self.free.available_permits() < self.total.div_ceil(4)
    }

    /// Waits until a place is free; tells whether one was before `until`.
    pub(crate) async fn room(&self, until: Instant) -> bool {
        timeout_at(until, self.free.acquire()).await.is_ok()
    }

    /// Takes a place, if one is free and `peer` has fewer than it may.
    pub(crate) fn take(self: &Arc<Self>, peer: Option<IpAddr>) -> Option<Slot> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        let peer = peer.filter(|_| self.per_peer.is_some()).map(network);
        if let (Some(peer), Some(most)) = (peer, self.per_peer) {
            let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
            let count = peers.entry(peer).or_default();
            if *count >= most {
                return None;
            }
            *count += 1;
        }
        Some(Slot { slots: Arc::clone(self), peer, _permit: permit })
    }

    /// Waits until all places are free.
    pub(crate) async fn all_free(&self) {
        // Fails only when the semaphore is closed, which nobody does.
        let _all = self.free.acquire_many(u32::try_from(self.total).unwrap_or(u32::MAX)).await;
    }
}

impl Slot {
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(peer) = self.peer else { return };
        let mut peers = self.slots.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = peers.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                peers.remove(&peer);
            }
        }
    }
}

/// Returns whom to count as one: who has one IPv6 address usually has the 2^64 beside it.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(connections: usize, per_peer: usize) -> Arc<Slots> {
        Arc::new(Slots::new(&Limits {
            connections,
            connections_per_peer: Some(per_peer),
            ..Limits::default()
        }))
    }

    #[test]
    fn one_peer_cannot_take_all() {
        let slots = slots(8, 2);
        let take = |peer: &str| slots.take(Some(peer.parse().unwrap()));
        let first = take("192.0.2.1");
        let second = take("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        let _other = take("192.0.2.2").unwrap();
        assert_eq!(slots.taken(), 3);
        drop(first);
        assert!(take("192.0.2.1").is_some());
        drop(second);
        assert_eq!(slots.peers.lock().unwrap().len(), 1, "who has gone is forgotten");
    }

    #[test]
    fn neighbours_in_one_network_count_as_one() {
        let slots = slots(8, 1);
        let take = |peer: &str| slots.take(Some(peer.parse().unwrap()));
        let _held = take("2001:db8:1:2::1").unwrap();
        assert!(take("2001:db8:1:2:ffff::9").is_none());
        assert!(take("2001:db8:1:3::1").is_some());
    }
}
