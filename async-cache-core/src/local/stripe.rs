//! What one stripe knows: the loads under way in it, and the changes seen.

use std::collections::HashMap;
use std::sync::Arc;

use crate::backend::{Entry, LocalBackend};
use crate::faults::mutant::{Mutant, Switch};
use crate::format::key::Key;
use crate::liveness::partition::Partition;
use crate::local::flight::Flight;
use crate::local::postponed::Postponed;
use crate::local::ticket::Ticket;
use crate::local::waiters::WakeSlot;

/// Hashed as L1 hashes keys: seeded, and at a fraction of the price of the standard hasher.
pub(crate) type ByKey<T> = HashMap<Key, T, foldhash::quality::RandomState>;

#[derive(Debug)]
pub(crate) struct Stripe<V> {
    /// Changes begun here, whose sequence number is not known yet.
    pub(crate) local: u64,
    /// Changes known by their number: heard on the bus, or replied to a command of ours.
    pub(crate) remote: u64,
    /// The highest of those numbers.
    pub(crate) last_seq: u64,
    /// The heartbeat that follows the last plain read that found something: see [`Stripes::vouches`](crate::local::stripes::Stripes::vouches).
    pub(crate) plain: u64,
    pub(crate) flights: ByKey<Arc<Flight<V>>>,
    pub(crate) waiting: ByKey<Vec<Arc<WakeSlot>>>,
    pub(crate) postponed: Postponed,
    pub(crate) faults: Switch,
    /// What [`Mutant::CheckThenInsert`] has checked and not inserted.
    #[cfg(feature = "testing")]
    pub(crate) checked: Option<(Key, Entry<V>)>,
}

/// What became of a value offered to L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Stored.
    Stored,
    /// A change came between, or may have: not stored.
    Rejected,
}

impl<V: 'static> Stripe<V> {
    pub(crate) fn ticket(&self, partition: &Partition) -> Ticket {
        Ticket {
            local: self.local,
            remote: self.remote,
            generation: partition.generation(),
            seq: partition.applied(),
            reached: partition.reached(),
            last_seq: self.last_seq,
        }
    }

    pub(crate) fn unmoved(&self, ticket: Ticket, seq: u64) -> bool {
        ticket.local == self.local && (ticket.remote == self.remote || self.last_seq <= seq)
    }

    pub(crate) fn admit(
        &mut self,
        l1: &dyn LocalBackend<V>,
        key: &Key,
        partition: &Partition,
        ticket: Ticket,
        mut entry: Entry<V>,
    ) -> Admitted {
        let ticket = if self.faults.is(Mutant::StampAfterReply) { self.ticket(partition) } else { ticket };
        if !self.unmoved(ticket, entry.seq) || ticket.generation != partition.generation() {
            return Admitted::Rejected;
        }
        entry.generation = ticket.generation;
        #[cfg(feature = "testing")]
        if self.faults.is(Mutant::CheckThenInsert) {
            self.checked = Some((key.clone(), entry));
            return Admitted::Stored;
        }
        l1.insert(key, entry);
        Admitted::Stored
    }

    /// The second half of [`Mutant::CheckThenInsert`].
    #[inline(always)]
    pub(crate) fn insert_checked(&mut self, _l1: &dyn LocalBackend<V>) {
        #[cfg(feature = "testing")]
        if let Some((key, entry)) = self.checked.take() {
            _l1.insert(&key, entry);
        }
    }
}
