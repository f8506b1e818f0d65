//! The partitions of one namespace, each at the server that has its slot.

use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener, RegionSpec};
use parking_lot::RwLock;

use super::map::Map;
use crate::commands::region::RedisRegion;
#[cfg(feature = "testing")]
use crate::faults::Mutant;
use crate::inner::Inner;
use crate::keys::PartitionKeys;
use crate::pubsub::member::Member;

/// The seats of the partitions of one namespace.
pub(super) struct Seats {
    pub(super) spec: RegionSpec,
    names: Arc<[PartitionKeys]>,
    listener: Weak<dyn Listener>,
    state: RwLock<State>,
}

struct State {
    /// One for each partition; `None` while no server is known to have its slot.
    seats: Box<[Option<Seat>]>,
    closed: bool,
}

/// A partition's place at a server.
struct Seat {
    region: Arc<RedisRegion>,
    /// `None` until the old seat has been left, and after the namespace has been closed.
    subscription: Option<Subscription>,
}

struct Subscription {
    member: Arc<Member>,
    /// The member holds it weakly.
    _listener: Arc<PartitionListener>,
}

impl Seats {
    pub(super) fn new(spec: RegionSpec, names: Arc<[PartitionKeys]>, listener: Weak<dyn Listener>) -> Self {
        let seats = names.iter().map(|_| None).collect();
        Self { spec, names, listener, state: RwLock::new(State { seats, closed: false }) }
    }

    pub(super) fn partition_count(&self) -> u16 {
        // At most 1024, see the builder.
        self.names.len() as u16
    }

    /// The operations at the server of a partition.
    pub(super) fn region_of(&self, partition: u16) -> Option<Arc<RedisRegion>> {
        let state = self.state.read();
        let seat = state.seats.get(usize::from(partition))?.as_ref()?;
        Some(Arc::clone(&seat.region))
    }

    /// Whether every change of a partition is being delivered.
    pub(super) fn hears(&self, partition: u16) -> bool {
        let state = self.state.read();
        let seat = state.seats.get(usize::from(partition)).and_then(Option::as_ref);
        seat.and_then(|seat| seat.subscription.as_ref())
            .is_some_and(|subscription| subscription.member.live())
    }

    /// Whether a map has no server for one of the partitions.
    pub(super) fn is_missed_by(&self, map: &Map) -> bool {
        self.names.iter().any(|names| map.server_of(names.slot).is_none())
    }

    /// Moves each partition to the server that has its slot by this map. The caller calls it for one map at a time.
    ///
    /// Operations find the new server from now on. The subscription at the old server ends, and the listener is told, before
    /// the one at the new server begins. The lock is not held while the listener is told, because the listener may close the
    /// namespace.
    pub(super) fn follow(&self, map: &Map) {
        let left = self.change_seats(map);
        left.into_iter().for_each(Seat::leave);
        let mut state = self.state.write();
        if state.closed {
            return;
        }
        for (partition, seat) in (0..).zip(&mut state.seats) {
            if let Some(seat) = seat.as_mut().filter(|seat| seat.subscription.is_none()) {
                seat.subscription = Some(self.subscribe(partition, &seat.region.inner));
            }
        }
    }

    /// Gives each partition a seat at the server that has its slot by this map, without a subscription. Returns the seats
    /// that it had.
    fn change_seats(&self, map: &Map) -> Vec<Seat> {
        let mut left = Vec::new();
        let mut state = self.state.write();
        for (at, names) in self.names.iter().enumerate() {
            let Some(owner) = map.server_of(names.slot) else { continue };
            let is_there = |seat: &Seat| Arc::ptr_eq(&seat.region.inner, owner);
            #[cfg(feature = "testing")]
            let is_there = |seat: &Seat| is_there(seat) || Mutant::MapNotFollowed.is_planted();
            if state.seats[at].as_ref().is_some_and(is_there) {
                continue;
            }
            let mut known = state.seats.iter().flatten().map(|seat| &seat.region);
            let region = known.find(|region| Arc::ptr_eq(&region.inner, owner)).cloned();
            let region = region.unwrap_or_else(|| {
                let (spec, names) = (self.spec.clone(), Arc::clone(&self.names));
                Arc::new(RedisRegion::new(Arc::clone(owner), spec, names, None))
            });
            left.extend(state.seats[at].replace(Seat { region, subscription: None }));
        }
        left
    }

    fn subscribe(&self, partition: u16, server: &Arc<Inner>) -> Subscription {
        let listener = Arc::new(PartitionListener { partition, listener: self.listener.clone() });
        let channels = self.names[usize::from(partition)].channels(self.spec.node);
        let weak: Weak<PartitionListener> = Arc::downgrade(&listener);
        let member = server.bus.join(partition, vec![channels], weak);
        server.subscribe();
        Subscription { member, _listener: listener }
    }

    /// Ends all subscriptions. False if that was done before.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.write();
        let seats = state.seats.iter_mut().flatten();
        for seat in seats {
            seat.unsubscribe();
        }
        !std::mem::replace(&mut state.closed, true)
    }
}

impl Seat {
    fn unsubscribe(&mut self) -> Option<Subscription> {
        let subscription = self.subscription.take()?;
        self.region.inner.bus.leave(&subscription.member);
        Some(subscription)
    }

    /// Ends its subscription, and tells the listener.
    fn leave(mut self) {
        if let Some(subscription) = self.unsubscribe() {
            subscription.member.lost();
        }
    }
}

/// Tells the node's listener of one partition.
struct PartitionListener {
    partition: u16,
    listener: Weak<dyn Listener>,
}

impl Listener for PartitionListener {
    fn notify(&self, event: BusEvent) {
        let Some(listener) = self.listener.upgrade() else { return };
        let partition = self.partition;
        listener.notify(match event {
            #[cfg(feature = "testing")]
            BusEvent::Lost if Mutant::OneLossLosesAll.is_planted() => BusEvent::Lost,
            BusEvent::Subscribed => BusEvent::PartitionSubscribed { partition },
            BusEvent::Lost => BusEvent::PartitionLost { partition },
            other => other,
        });
    }
}
