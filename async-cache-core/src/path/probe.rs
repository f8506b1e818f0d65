//! L1: the freshness verdict on what it holds.

use crate::backend::Entry;
use crate::coherence::{Admitted, Stamp, Ticket};
use crate::key::Key;
use crate::shared::Shared;

/// What L1 has for a key.
#[derive(Debug)]
pub(crate) enum Probe<V> {
    /// An entry that answers.
    Hit(Entry<V>),
    /// An entry within its life, but something may have changed since: L2 must confirm it.
    Unverified(Entry<V>),
    /// Nothing.
    Miss,
}

impl<V: 'static> Shared<V> {
    /// Looks into L1. This is the whole cost of a hit, apart from encoding the key.
    ///
    /// The order matters. Each step would be wrong after the next:
    ///
    /// 1. the clock is read and the serving lease checked;
    /// 2. the generation and what has been applied are read;
    /// 3. the entry is read.
    ///
    /// With 3 before 1: the entry is read; the process is stopped; elsewhere the key is
    /// invalidated; the process goes on, hears of it and renews its lease; the lease is checked,
    /// live, and the old entry answers. With 2 before 1 the same happens by way of a flush.
    #[inline]
    pub(crate) fn probe(&self, key: &[u8], need: Option<&Stamp>) -> Probe<V> {
        let Some(l1) = self.l1() else { return Probe::Miss };
        let (index, partition) = self.node.partition_of(key);
        let now = self.node.clock.now();
        let serving = partition.serving_at(now);
        let generation = partition.generation();
        let applied = need.map(|stamp| (stamp.seq(index), partition.applied()));

        match l1.get(key) {
            Some(entry) if entry.expires <= now => Probe::Miss,
            Some(entry) => {
                let late_enough = applied.is_none_or(|(need, applied)| applied >= need || entry.seq >= need);
                if serving && entry.generation == generation && late_enough {
                    Probe::Hit(entry)
                } else {
                    Probe::Unverified(entry)
                }
            }
            None => Probe::Miss,
        }
    }

    /// What L1 holds within its life, verified or not.
    pub(crate) fn held(&self, key: &[u8]) -> Option<Entry<V>> {
        match self.probe(key, None) {
            Probe::Hit(entry) | Probe::Unverified(entry) => Some(entry),
            Probe::Miss => None,
        }
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let (_, partition) = self.node.partition_of(key.as_bytes());
        self.fence.ticket(key.as_bytes(), partition)
    }

    /// Offers to L1 what was read or written outside a flight.
    pub(crate) fn admit(&self, key: &Key, ticket: Ticket, entry: Entry<V>) {
        let Some(l1) = self.l1() else { return };
        let (_, partition) = self.node.partition_of(key.as_bytes());
        if self.fence.admit(l1, key, partition, ticket, entry) == Admitted::Rejected {
            self.counters.fills_rejected.add(1);
        }
    }
}
