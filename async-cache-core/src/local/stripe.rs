//! The state of one stripe: its flights, the changes that it has seen, its waiters, and the loads that have failed.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

use crate::backend::{Entry, LocalBackend, Tick};
use crate::error::Error;
use crate::faults::mutant::{Mutant, Switch};
use crate::faults::planted;
use crate::format::key::Key;
use crate::liveness::partition::Partition;
use crate::local::flight::{Flight, Ticket};
use crate::sync::{Mutex, Notify};

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
    /// The refreshes that have failed, of keys without an entry in L1: of at most 64 keys in a stripe.
    pub(crate) postponed: Remembered<Postponed, 64>,
    /// The last failed load of each key: of at most 16 keys in a stripe.
    pub(crate) failed: Remembered<FailedLoad, 16>,
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

/// The place where one waiter receives its wake-up.
#[derive(Debug)]
pub(crate) struct WakeSlot {
    wake: Mutex<Option<Wake>>,
    notify: Arc<Notify>,
}

/// What a wake-up says about the load of another node.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    /// The value was stored. These are the stored bytes.
    Value(Bytes),
    /// The value was stored, but is too large for the wake-up.
    Stored,
    /// The load has ended, and nothing was stored.
    Ended,
    /// The load may have ended. The bus was lost, and the wake-up may be lost with it.
    Lost,
}

impl WakeSlot {
    /// A new slot. One waiter may have many slots with the same `notify`.
    pub(crate) fn new(notify: &Arc<Notify>) -> Self {
        Self { wake: Mutex::default(), notify: Arc::clone(notify) }
    }

    pub(crate) fn tell(&self, wake: Wake) {
        if planted!(RingBeforeTelling) {
            self.notify.notify_one();
            *self.wake.lock() = Some(wake);
            return;
        }
        *self.wake.lock() = Some(wake);
        self.notify.notify_one();
    }

    /// Tells the waiter of a loss. A wake-up that it has not read yet is kept, because it says more.
    pub(crate) fn tell_of_loss(&self) {
        self.wake.lock().get_or_insert(Wake::Lost);
        self.notify.notify_one();
    }

    /// Drops a wake-up that was not read.
    pub(crate) fn forget(&self) {
        *self.wake.lock() = None;
    }

    /// The next wake-up. Cancel-safe.
    pub(crate) async fn woken(&self) -> Wake {
        loop {
            if let Some(wake) = self.take() {
                return wake;
            }
            self.notify.notified().await;
        }
    }

    /// The wake-up that has arrived, if there is one.
    pub(crate) fn take(&self) -> Option<Wake> {
        self.wake.lock().take()
    }
}

/// What a stripe remembers of some keys for a while. When there are `MOST` of them, those whose time is over are
/// removed. If no time is over, a further key is not remembered.
#[derive(Debug)]
pub(crate) struct Remembered<T, const MOST: usize>(ByKey<T>);

/// A thing that is remembered until some time.
pub(crate) trait Passing {
    fn until(&self) -> Tick;
}

impl<T, const MOST: usize> Default for Remembered<T, MOST> {
    fn default() -> Self {
        Self(ByKey::default())
    }
}

impl<T: Passing, const MOST: usize> Remembered<T, MOST> {
    pub(crate) fn note(&mut self, key: &Key, now: Tick, thing: T) {
        if self.0.len() >= MOST {
            self.0.retain(|_, other| other.until() > now);
        }
        if self.0.len() < MOST || self.0.contains_key(key.as_bytes()) {
            self.0.insert(key.clone(), thing);
        }
    }

    pub(crate) fn of(&self, key: &[u8]) -> Option<&T> {
        self.0.get(key)
    }

    /// The key has changed, or has been loaded.
    pub(crate) fn forget(&mut self, key: &[u8]) {
        // The map is nearly always empty. Then the key need not be hashed.
        if !self.0.is_empty() {
            self.0.remove(key);
        }
    }
}

/// A refresh that has failed, of a key without an entry in L1: there is no L1, or it has dropped the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Postponed {
    /// The time of the next attempt.
    pub(crate) retry: Tick,
    /// The number of failures in a row.
    pub(crate) failures: u32,
}

impl Passing for Postponed {
    fn until(&self) -> Tick {
        self.retry
    }
}

/// A load that has failed on this node a moment ago. Its error answers lookups with `error_ttl`.
#[derive(Debug)]
pub(crate) struct FailedLoad {
    pub(crate) error: Error,
    pub(crate) failed: Tick,
    /// The end of the `error_ttl` of the load's own lookup.
    pub(crate) until: Tick,
    /// The generation in which the load began.
    pub(crate) generation: u64,
    /// The load reflected every change up to this number.
    pub(crate) seq: u64,
}

impl Passing for FailedLoad {
    fn until(&self) -> Tick {
        self.until
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

    fn until(until: u64) -> Postponed {
        Postponed { retry: Tick(until), failures: 1 }
    }

    #[test]
    fn what_is_remembered_is_limited_and_what_has_passed_makes_room() {
        const MOST: usize = 16;
        let mut all = Remembered::<Postponed, MOST>::default();
        let key = |n: usize| Key::encode(&n).unwrap();
        (0..2 * MOST).for_each(|n| all.note(&key(n), Tick(1), until(10)));
        assert_eq!((all.0.len(), all.of(key(2 * MOST).as_bytes())), (MOST, None));
        all.note(&key(0), Tick(5), until(20));
        assert_eq!(all.of(key(0).as_bytes()), Some(&until(20)), "a later one counts");
        all.note(&key(2 * MOST), Tick(10), until(30));
        assert_eq!(all.0.len(), 2);
        all.forget(key(0).as_bytes());
        assert_eq!(all.of(key(0).as_bytes()), None);
    }
}
