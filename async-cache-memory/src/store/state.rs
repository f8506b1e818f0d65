//! The memory of one namespace.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_cache_core::Tags;
use async_cache_core::backend::{BusEvent, Known, NodeId, RunId, WAKE_INLINE};
use async_cache_core::frame::{expired, seal};
use async_cache_core::key::Key;
use bytes::Bytes;
use tokio::time::Instant;

use super::Stores;
use super::deliver::{Outbox, To};
use super::partition::Partition;
#[cfg(feature = "testing")]
use crate::faults::Faults;
use crate::faults::fault;
use crate::hasher::Hasher;

/// The minimum leap of the sequence when an epoch begins. It is small, as in `epoch.lua`, because a sequence ahead of
/// the clock could go back.
const LEAP: u64 = 1 << 17;

/// How far ahead of the clock, in µs, a sequence may be: as in `epoch.lua`.
const AHEAD: u64 = 365 * 24 * 3600 * 1_000_000;

pub(crate) struct State {
    /// The server process that wrote this memory.
    pub(crate) run: RunId,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) values: moka::sync::Cache<Key, Stored, Hasher>,
    pub(crate) outbox: Outbox,
    #[cfg(feature = "testing")]
    pub(super) faults: Faults,
}

#[derive(Clone)]
pub(crate) struct Stored {
    bytes: Bytes,
    expires: Instant,
}

/// The caller of an operation.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// The server process that it is connected to.
    pub(crate) run: RunId,
    /// The highest numbers that it knows. `None` for a plain read, which is not checked against them.
    pub(crate) known: Option<&'a Known>,
}

impl State {
    pub(super) fn new(run: RunId, stores: &Stores) -> Self {
        let values =
            moka::sync::Cache::builder().max_capacity(stores.capacity).build_with_hasher(Hasher::default());
        let partitions = (0..stores.partitions).map(|_| Partition::new()).collect();
        Self {
            run,
            partitions,
            values,
            outbox: Outbox::default(),
            #[cfg(feature = "testing")]
            faults: stores.faults,
        }
    }

    /// Begins every operation. Memory that another server process wrote may be older than answers given since. Memory
    /// whose sequence is below the number that the caller knows is older. In both cases everything in it is void, and a
    /// new epoch begins.
    #[inline]
    pub(super) fn check_epoch(&mut self, caller: Caller<'_>, time_us: impl FnOnce() -> u64) {
        let older = |known: &Known| (0..).zip(&self.partitions).any(|(at, part)| part.seq < known.seq(at));
        if self.run != caller.run || caller.known.is_some_and(older) {
            self.begin_epoch(caller, time_us());
        }
    }

    #[cold]
    fn begin_epoch(&mut self, caller: Caller<'_>, time_us: u64) {
        let other = self.run != caller.run;
        self.run = caller.run;
        if fault!(self.faults, FailoverWithoutEpoch) {
            return;
        }
        for (index, partition) in (0..).zip(&mut self.partitions) {
            let known = caller.known.map_or(0, |known| known.seq(index));
            let known = if known <= time_us + AHEAD { known } else { 0 };
            if other || partition.seq < known {
                partition.seq = (partition.seq.max(known) + LEAP).max(time_us);
                partition.floor = partition.seq;
                if !other {
                    let seq = partition.seq;
                    self.outbox.push(To::Everyone, &BusEvent::Cleared { partition: index, seq });
                }
            }
        }
    }

    /// The partition of a key.
    pub(crate) fn partition(&mut self, key: &Key) -> &mut Partition {
        let index = self.index(key);
        &mut self.partitions[usize::from(index)]
    }

    pub(super) fn index(&self, key: &Key) -> u16 {
        key.partition(self.partitions.len() as u16)
    }

    /// Sequence and floor of a partition that exists.
    pub(crate) fn seq_and_floor(&self, partition: u16) -> (u64, u64) {
        let found = &self.partitions[usize::from(partition)];
        (found.seq, found.floor)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        let stored = self.values.get(key.as_bytes())?;
        (stored.expires > Instant::now()).then_some(stored.bytes)
    }

    /// The stored value, unless a clear or the invalidation of a tag has made it void.
    pub(crate) fn get_valid(&self, key: &Key) -> Option<Bytes> {
        let partition = &self.partitions[usize::from(self.index(key))];
        self.get(key).filter(|bytes| partition.admits(bytes)).and_then(|bytes| partition.shown(bytes))
    }

    /// Tag floor and tags of a partition that exists: the invalidated and the expired ones, in order, so that a
    /// simulation can be repeated.
    pub(crate) fn tags(&self, partition: u16, asked: Option<&Tags>) -> (u64, [Vec<(Bytes, u64)>; 2]) {
        let found = &self.partitions[usize::from(partition)];
        let in_order = |table: &HashMap<Bytes, u64>| {
            let mut tags: Vec<_> = match asked {
                None => table.iter().map(|(tag, seq)| (tag.clone(), *seq)).collect(),
                Some(asked) => {
                    let found = asked.iter().filter_map(|tag| table.get_key_value(tag));
                    found.map(|(tag, seq)| (tag.clone(), *seq)).collect()
                }
            };
            tags.sort_unstable();
            tags
        };
        (found.tag_floor, [in_order(&found.tags), in_order(&found.expired_tags)])
    }

    pub(crate) fn leave(&mut self, node: NodeId) {
        self.outbox.leave(node);
    }

    pub(super) fn store(&mut self, key: &Key, seq: u64, frame: &[u8], life: Duration) -> Bytes {
        let bytes = Bytes::from([&seal(seq)[..], frame].concat());
        self.values.insert(key.clone(), Stored { bytes: bytes.clone(), expires: Instant::now() + life });
        bytes
    }

    /// Expires a stored value. Its life in the tier does not change.
    pub(super) fn expire_stored(&mut self, key: &Key) {
        let held = self.values.get(key.as_bytes());
        match held.and_then(|stored| Some((expired(&self.get_valid(key)?)?, stored.expires))) {
            Some((bytes, expires)) => self.values.insert(key.clone(), Stored { bytes, expires }),
            None => self.values.invalidate(key.as_bytes()),
        }
    }

    pub(crate) fn publish_invalidated(&mut self, seq: u64, key: &Key) {
        let (partition, key) = (self.index(key), Bytes::copy_from_slice(key.as_bytes()));
        self.outbox.push(To::Everyone, &BusEvent::Invalidated { partition, seq, key });
    }

    pub(crate) fn wake(&mut self, key: &Key, waiting: BTreeSet<NodeId>, stored: Option<Bytes>) {
        if waiting.is_empty() {
            return;
        }
        let key = Bytes::copy_from_slice(key.as_bytes());
        let event = match stored {
            Some(bytes) if bytes.len() > WAKE_INLINE => BusEvent::Stored { key },
            value => BusEvent::Woken { key, value },
        };
        for node in waiting {
            self.outbox.push(To::Node(node), &event);
        }
    }

    #[cfg(test)]
    pub(crate) fn locks(&self) -> usize {
        self.partitions.iter().map(|partition| partition.locks.len()).sum()
    }
}
