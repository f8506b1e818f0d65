//! The state of one stripe: its flights, and the changes that it has seen.

use std::collections::HashMap;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Entry, LocalBackend};
use crate::faults::mutant::{Mutant, Switch};
use crate::format::key::Key;
use crate::liveness::partition::Partition;
use crate::local::failed::FailedLoads;
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
    /// Which keys the last of those changes concern.
    pub(crate) recent: Recent,
    /// The number of the heartbeat that follows the last plain read that found a value: see
    /// [`Stripes::vouches`](crate::local::stripes::Stripes::vouches).
    pub(crate) plain: u64,
    pub(crate) flights: ByKey<Arc<Flight<V>>>,
    pub(crate) waiting: ByKey<Vec<Arc<WakeSlot>>>,
    pub(crate) postponed: Postponed,
    pub(crate) failed: FailedLoads,
    pub(crate) faults: Switch,
    /// The entry that [`Mutant::CheckThenInsert`] has checked and not inserted yet.
    #[cfg(feature = "testing")]
    pub(crate) checked: Option<(Key, Entry<V>)>,
}

/// The changes whose keys a stripe remembers.
const RECENT: usize = 16;

/// The last changes of a stripe whose numbers are known. They tell whether a value that is older than the last
/// change of the stripe is older than a change of its own key:
///
/// 1. `insert_many` stores a hundred keys in L2; 2. their messages arrive on the bus; 3. the reply arrives, and the
///    values are offered to L1 one by one. Each stripe knows of a change with a higher number, of another key.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// The hash of a key, and the number of its last change.
    changes: Vec<(u32, u64)>,
    /// The highest number of a change that had to make room.
    forgotten: u64,
}

impl Recent {
    pub(crate) fn note(&mut self, key: u32, seq: u64) {
        if let Some((_, last)) = self.changes.iter_mut().find(|(of, _)| *of == key) {
            *last = seq.max(*last);
            return;
        }
        if self.changes.len() >= RECENT
            && let Some(oldest) = (0..self.changes.len()).min_by_key(|at| self.changes[*at].1)
        {
            self.forgotten = self.forgotten.max(self.changes.swap_remove(oldest).1);
        }
        self.changes.push((key, seq));
    }

    /// Whether a change with a number above `seq` may concern this key. Two keys may have one hash.
    fn may_concern(&self, key: u32, seq: u64) -> bool {
        self.forgotten > seq || self.changes.iter().any(|(of, last)| *of == key && *last > seq)
    }
}

/// The hash by which [`Recent`] tells keys apart. The stripe is chosen by its low bits.
pub(crate) fn key_hash(key: &[u8]) -> u32 {
    (xxh3_64(key) >> 32) as u32
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

    /// Whether a value of this key with number `seq` reflects every change of the key that has been noted since
    /// the ticket was taken.
    pub(crate) fn unmoved(&self, key: &[u8], ticket: Ticket, seq: u64) -> bool {
        ticket.local == self.local
            && (ticket.remote == self.remote
                || self.last_seq <= seq
                || !self.recent.may_concern(key_hash(key), seq))
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
        if !self.unmoved(key.as_bytes(), ticket, entry.seq) || ticket.generation != partition.generation() {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_another_key_does_not_concern_a_key_until_it_is_forgotten() {
        let mut recent = Recent::default();
        for (key, seq) in [(1, 5), (2, 9), (1, 7), (1, 6)] {
            recent.note(key, seq);
        }
        assert!(recent.may_concern(1, 6) && !recent.may_concern(1, 7), "the highest of a key counts");
        assert!(!recent.may_concern(3, 0), "it has not changed");
        (0..RECENT as u32 - 1).for_each(|n| recent.note(100 + n, 20 + u64::from(n)));
        assert!(recent.may_concern(3, 6) && !recent.may_concern(3, 7), "7 had to make room");
        assert!(recent.may_concern(2, 8), "9 is still known");
    }
}
