//! The state of one stripe: its flights, and the changes that it has seen.

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

/// A map with the hash of L1: seeded, and much cheaper than the standard hasher.
pub(crate) type ByKey<T> = HashMap<Key, T, foldhash::quality::RandomState>;

#[derive(Debug)]
pub(crate) struct Stripe<V> {
    /// The number of changes that have begun on this node. Their sequence numbers are not known yet.
    pub(crate) local: u64,
    /// The number of changes whose sequence numbers are known, from the bus or from a reply to a command of
    /// this node.
    pub(crate) remote: u64,
    /// The highest of those numbers.
    pub(crate) last_seq: u64,
    /// The number of the heartbeat that follows the last plain read that found a value: see
    /// [`Stripes::vouches`](crate::local::stripes::Stripes::vouches).
    pub(crate) plain: u64,
    pub(crate) flights: ByKey<Arc<Flight<V>>>,
    pub(crate) waiting: ByKey<Vec<Arc<WakeSlot>>>,
    pub(crate) postponed: Postponed,
    pub(crate) faults: Switch,
    /// The entry that [`Mutant::CheckThenInsert`] has checked and not inserted yet.
    #[cfg(feature = "testing")]
    pub(crate) checked: Option<(Key, Entry<V>)>,
}

/// The outcome of offering a value to L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admitted {
    /// Stored.
    Stored,
    /// Not stored: a change came after the ticket was taken, or may have come.
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
