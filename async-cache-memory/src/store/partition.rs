//! One partition: its numbers, tags and locks.

use std::collections::{BTreeSet, HashMap};

use async_cache_core::Tags;
use async_cache_core::backend::{Effect, GRANT_PACE, Lease, NodeId};
use async_cache_core::frame::{expired, tags_of, unseal};
use async_cache_core::key::Key;
use bytes::Bytes;
use tokio::time::Instant;

/// The state of one partition, without its values.
#[derive(Clone, Default)]
pub(crate) struct Partition {
    pub(super) seq: u64,
    pub(super) floor: u64,
    /// Tags, and the number of the last invalidation of each.
    pub(super) tags: HashMap<Bytes, u64>,
    /// Tags, and the number of the last expiry of each.
    pub(super) expired_tags: HashMap<Bytes, u64>,
    pub(super) tag_floor: u64,
    pub(super) locks: HashMap<Key, Lock>,
    /// The number of locks at which expired ones are removed.
    sweep_at: usize,
}

/// The lock of a key, and the nodes that wait for it.
#[derive(Clone)]
pub(super) struct Lock {
    pub(super) holder: Holder,
    pub(super) until: Instant,
    pub(super) waiting: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Lease(Lease),
    /// Broken a moment ago. No lease is granted before this lock expires.
    Cooling,
}

impl Partition {
    pub(super) fn new() -> Self {
        Self { seq: 1, ..Self::default() }
    }

    pub(crate) fn next_seq(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// Whether a stored value is intact, and not void.
    pub(super) fn admits(&self, bytes: &[u8]) -> bool {
        unseal(bytes).is_some_and(|seq| seq >= self.floor && !self.voids(&tags_of(bytes), seq))
    }

    /// Whether the invalidation of a tag has made a value of number `seq` void.
    pub(super) fn voids(&self, tags: &Tags, seq: u64) -> bool {
        let newer = |tag| self.tags.get(tag).is_some_and(|last| *last > seq);
        !tags.is_empty() && (seq < self.tag_floor || tags.iter().any(newer))
    }

    /// Whether the expiry of a tag has expired a value of number `seq`.
    pub(super) fn expires(&self, tags: &Tags, seq: u64) -> bool {
        tags.iter().any(|tag| self.expired_tags.get(tag).is_some_and(|last| *last > seq))
    }

    /// A valid stored value in the form in which it is returned. If a tag has expired it, its seal says so. If it then
    /// cannot be a fallback, it is absent.
    pub(super) fn shown(&self, bytes: Bytes) -> Option<Bytes> {
        let seq = unseal(&bytes)?;
        if self.expires(&tags_of(&bytes), seq) { expired(&bytes) } else { Some(bytes) }
    }

    /// Notes a change of tags. If the table has more than `most` tags, it starts empty, with its floor above all of its
    /// numbers.
    pub(super) fn note(&mut self, tags: &Tags, seq: u64, effect: Effect, most: usize) {
        if self.tags.len().max(self.expired_tags.len()) + tags.iter().count() > most {
            self.tag_floor = seq;
            self.tags.clear();
            self.expired_tags.clear();
        }
        let table = match effect {
            Effect::Void => &mut self.tags,
            Effect::Expire => &mut self.expired_tags,
        };
        table.extend(tags.iter().map(|tag| (Bytes::copy_from_slice(tag), seq)));
    }

    /// Locks a key. From time to time it removes expired locks, because the lock of a dead holder would stay otherwise.
    pub(super) fn lock(&mut self, key: &Key, lock: Lock, now: Instant) {
        if self.locks.len() >= self.sweep_at {
            self.locks.retain(|_, lock| lock.until > now);
            self.sweep_at = (2 * self.locks.len()).max(64);
        }
        self.locks.insert(key.clone(), lock);
    }

    /// Removes a lock, if it is this lease and has not expired.
    pub(super) fn take_lock(&mut self, key: &Key, lease: Lease) -> Option<Lock> {
        let held = self.locks.get(key.as_bytes())?;
        if held.holder != Holder::Lease(lease) || held.until <= Instant::now() {
            return None;
        }
        self.locks.remove(key.as_bytes())
    }

    /// Breaks a lock, and returns the nodes that waited. After a valid lease the key cools for a while. If it cools
    /// already, that is not prolonged. Otherwise a key that changes all the time would never be loaded.
    pub(crate) fn break_lock(&mut self, key: &Key) -> BTreeSet<NodeId> {
        let (now, floor) = (Instant::now(), self.floor);
        let Some(lock) = self.locks.get_mut(key.as_bytes()) else { return BTreeSet::new() };
        let waiting = std::mem::take(&mut lock.waiting);
        match lock.holder {
            Holder::Lease(_) if lock.stands(now, floor) => {
                lock.holder = Holder::Cooling;
                lock.until = now + GRANT_PACE;
            }
            Holder::Cooling if lock.until > now => {}
            Holder::Lease(_) | Holder::Cooling => {
                self.locks.remove(key.as_bytes());
            }
        }
        waiting
    }
}

impl Lock {
    pub(super) fn stands(&self, now: Instant, floor: u64) -> bool {
        let void = matches!(self.holder, Holder::Lease(lease) if lease.seq < floor);
        self.until > now && !void
    }
}
