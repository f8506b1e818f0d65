//! What nodes share: values, leases, sequences; each operation is one critical section.

pub(crate) mod deliver;
#[cfg(feature = "testing")]
mod image;
mod partition;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_cache_core::Tags;
use async_cache_core::backend::{
    Accept, Acquire, Acquired, Announce, BusEvent, Filled, Known, Lease, NodeId, Renewed, RunId, WAKE_INLINE,
};
use async_cache_core::frame::{ends_of, frame_tags, seal, token_of};
use async_cache_core::key::Key;
use bytes::Bytes;
#[cfg(feature = "testing")]
pub(crate) use image::Image;
use parking_lot::Mutex;
use partition::{Holder, Lock, Partition};
use tokio::time::Instant;

use crate::Hasher;
use crate::store::deliver::{Courier, Outbox, To};
use crate::testing::{Mutant, Switch};

/// The server process this memory begins with.
const FIRST_RUN: RunId = RunId(1);

/// How far the fence jumps at least. Little, as in `epoch.lua`: a sequence ahead of the clock could go back.
const LEAP: u64 = 1 << 17;

/// How far ahead of the clock, in µs, a sequence may be: as in `epoch.lua`.
const AHEAD: u64 = 365 * 24 * 3600 * 1_000_000;

/// The namespaces of one tier.
#[derive(Debug)]
pub(crate) struct Stores {
    pub(crate) capacity: u64,
    pub(crate) partitions: u16,
    /// The server process: [`RunId`].
    pub(crate) run: AtomicU64,
    pub(crate) switch: Switch,
    pub(crate) namespaces: Mutex<HashMap<String, std::sync::Arc<Store>>>,
}

impl Stores {
    pub(crate) fn new(capacity: u64, partitions: u16, switch: Switch) -> Self {
        // But for tests, a process' memory is replaced only with the process.
        Self { capacity, partitions, run: AtomicU64::new(FIRST_RUN.0), switch, namespaces: Mutex::default() }
    }
}

/// One namespace.
pub(crate) struct Store {
    pub(crate) record: String,
    pub(crate) state: Mutex<State>,
    pub(crate) courier: Courier,
    born: Instant,
}

pub(crate) struct State {
    /// The server process that wrote this memory.
    run: RunId,
    switch: Switch,
    partitions: Vec<Partition>,
    values: moka::sync::Cache<Key, Stored, Hasher>,
    pub(crate) outbox: Outbox,
}

#[derive(Clone)]
struct Stored {
    bytes: Bytes,
    expires: Instant,
}

/// A change of one key: stored under its new sequence number, or removed.
pub(crate) enum Change {
    Put(Bytes, Duration),
    Remove,
}

impl Store {
    pub(crate) fn new(record: String, stores: &Stores) -> Self {
        let values =
            moka::sync::Cache::builder().max_capacity(stores.capacity).build_with_hasher(Hasher::default());
        let partitions = (0..stores.partitions).map(|_| Partition::new()).collect();
        let (switch, outbox) = (stores.switch, Outbox::default());
        let state = State { run: FIRST_RUN, switch, partitions, values, outbox };
        Self { record, state: Mutex::new(state), courier: Courier::default(), born: Instant::now() }
    }

    /// Milliseconds since this namespace was opened first, plus one.
    pub(crate) fn time_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// A clock for the fence: far beyond any sequence number that changes alone lead to.
    fn time_us(&self) -> u64 {
        (1 << 50) + u64::try_from(self.born.elapsed().as_micros()).unwrap_or(0)
    }

    /// Runs an operation of `node`, then delivers what it has to tell.
    pub(crate) fn operate<T>(
        &self,
        node: NodeId,
        told: (RunId, Option<&Known>),
        operation: impl FnOnce(&mut State) -> T,
    ) -> T {
        let result = {
            let mut state = self.state.lock();
            state.outbox.subscribe(node);
            state.fence(told, || self.time_us());
            operation(&mut state)
        };
        self.courier.run(&self.state, |state| &mut state.outbox);
        result
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("record", &self.record).finish_non_exhaustive()
    }
}

impl State {
    /// First in every operation: memory that another server process wrote may be older than what
    /// was answered since, and memory that has not come as far as the caller knows is older; so
    /// everything in it is void.
    #[inline]
    fn fence(&mut self, (run, known): (RunId, Option<&Known>), time_us: impl FnOnce() -> u64) {
        let older = |known: &Known| (0..).zip(&self.partitions).any(|(at, part)| part.seq < known.seq(at));
        if self.run != run || known.is_some_and(older) {
            self.void(run, known, time_us());
        }
    }

    #[cold]
    fn void(&mut self, run: RunId, known: Option<&Known>, time_us: u64) {
        let other = self.run != run;
        self.run = run;
        if self.switch.is(Mutant::FailoverWithoutFence) {
            return;
        }
        for (index, partition) in (0..).zip(&mut self.partitions) {
            let known = known.map_or(0, |known| known.seq(index));
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

    fn partition(&mut self, key: &Key) -> (u16, &mut Partition) {
        let index = key.partition(self.partitions.len() as u16);
        (index, &mut self.partitions[usize::from(index)])
    }

    /// Of a partition that exists.
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
        let partition = &self.partitions[usize::from(key.partition(self.partitions.len() as u16))];
        self.get(key).filter(|bytes| partition.admits(bytes))
    }

    /// Of a partition that exists: its tag floor and its tags, in order, so that a simulation can be repeated.
    pub(crate) fn tags(&self, partition: u16) -> (u64, Vec<(Bytes, u64)>) {
        let found = &self.partitions[usize::from(partition)];
        let mut tags: Vec<_> = found.tags.iter().map(|(tag, seq)| (tag.clone(), *seq)).collect();
        tags.sort_unstable();
        (found.tag_floor, tags)
    }

    pub(crate) fn acquire(&mut self, node: NodeId, key: &Key, ask: Acquire) -> Acquired {
        let stored = self.get_valid(key);
        let (_, partition) = self.partition(key);
        if let Some(bytes) = stored {
            match ask.accept {
                Accept::Known(token) if token_of(&bytes) == Some(token) => {
                    return Acquired::Unchanged { seq: partition.seq, ends: ends_of(&bytes) };
                }
                Accept::Other(token) if token_of(&bytes) == Some(token) => {}
                Accept::Any | Accept::Known(_) | Accept::Other(_) => return Acquired::Value(bytes),
                Accept::Nothing => {}
            }
        }
        let (now, floor) = (Instant::now(), partition.floor);
        if let Some(lock) = partition.locks.get_mut(key.as_bytes())
            && lock.stands(now, floor)
        {
            if let Holder::Lease(lease) = lock.holder
                && lease.token == ask.token
            {
                // Asked twice, and granted once.
                return Acquired::Granted(lease);
            }
            lock.waiting.insert(node);
            return Acquired::Busy(lock.until - now);
        }
        // Whoever waits behind a lease that has lapsed or is void waits for this one now.
        let mut waiting =
            partition.locks.remove(key.as_bytes()).map_or_else(BTreeSet::new, |lock| lock.waiting);
        waiting.remove(&node);
        let lease = Lease { token: ask.token, seq: partition.seq };
        let lock = Lock { holder: Holder::Lease(lease), until: now + ask.ttl, waiting };
        partition.lock(key, lock, now);
        Acquired::Granted(lease)
    }

    pub(crate) fn fill(
        &mut self,
        key: &Key,
        lease: Lease,
        frame: &[u8],
        life: Duration,
        announce: Announce,
    ) -> Filled {
        let switch = self.switch;
        let (index, partition) = self.partition(key);
        let waiting = match partition.take_lock(key, lease) {
            Some(lock) => lock.waiting,
            None if switch.is(Mutant::UnconditionalFill) => BTreeSet::new(),
            None => return Filled::Refused,
        };
        // Tags do not break a lease: nobody knows them before the load has ended.
        let known = match announce {
            Announce::Yes if switch.is(Mutant::RefreshComparesOwnNumber) => partition.seq + 1,
            Announce::No | Announce::Yes => lease.seq,
        };
        let voided = partition.voids(&frame_tags(frame), known) && !switch.is(Mutant::FillIgnoresTags);
        if lease.seq < partition.floor || voided {
            self.wake(key, waiting, None);
            return Filled::Refused;
        }
        let seq = match announce {
            Announce::No => lease.seq,
            Announce::Yes => partition.next_seq(),
        };
        let bytes = self.store(key, seq, frame, life);
        if announce == Announce::Yes {
            self.publish_invalidated(index, seq, key);
        }
        self.wake(key, waiting, Some(bytes));
        Filled::Stored { seq }
    }

    pub(crate) fn renew(&mut self, key: &Key, lease: Lease, ttl: Duration) -> Renewed {
        let now = Instant::now();
        let (_, partition) = self.partition(key);
        let floor = partition.floor;
        match partition.locks.get_mut(key.as_bytes()) {
            Some(lock) if lock.holder == Holder::Lease(lease) && lock.stands(now, floor) => {
                lock.until = now + ttl;
                Renewed::Held
            }
            _ => Renewed::Lost,
        }
    }

    pub(crate) fn release(&mut self, key: &Key, lease: Lease) {
        let (_, partition) = self.partition(key);
        if let Some(lock) = partition.take_lock(key, lease) {
            self.wake(key, lock.waiting, None);
        }
    }

    pub(crate) fn change(&mut self, key: &Key, change: Change) -> u64 {
        let switch = self.switch;
        let (index, partition) = self.partition(key);
        let seq = partition.next_seq();
        let waiting = if switch.is(Mutant::InvalidationKeepsLease) {
            BTreeSet::new()
        } else {
            partition.break_lock(key)
        };
        let stored = match change {
            Change::Put(frame, life) => Some(self.store(key, seq, &frame, life)),
            Change::Remove => {
                self.values.invalidate(key.as_bytes());
                None
            }
        };
        // As in the scripts: announced before anybody is woken.
        self.publish_invalidated(index, seq, key);
        self.wake(key, waiting, stored);
        seq
    }

    /// The first half of [`Mutant::PublishBeforeDelete`].
    pub(crate) fn announce(&mut self, key: &Key) -> u64 {
        let (index, partition) = self.partition(key);
        let seq = partition.next_seq();
        self.publish_invalidated(index, seq, key);
        seq
    }

    /// The second half.
    pub(crate) fn remove(&mut self, key: &Key) {
        let waiting = self.partition(key).1.break_lock(key);
        self.values.invalidate(key.as_bytes());
        self.wake(key, waiting, None);
    }

    /// Of a partition that exists.
    pub(crate) fn clear(&mut self, partition: u16) -> u64 {
        let found = &mut self.partitions[usize::from(partition)];
        let seq = found.next_seq();
        found.floor = seq;
        found.tags.clear();
        self.outbox.push(To::Everyone, &BusEvent::Cleared { partition, seq });
        seq
    }

    /// Of a partition that exists.
    pub(crate) fn invalidate_tags(&mut self, partition: u16, tags: &Tags) -> u64 {
        let switch = self.switch;
        let found = &mut self.partitions[usize::from(partition)];
        let seq = found.next_seq();
        found.note(tags, seq, switch);
        self.outbox.push(To::Everyone, &BusEvent::TagsInvalidated { partition, seq, tags: tags.clone() });
        seq
    }

    pub(crate) fn echo(&mut self, node: NodeId, partition: u16, beat: u64) {
        let (seq, _) = self.seq_and_floor(partition);
        self.outbox.push(To::Node(node), &BusEvent::Echo { partition, seq, beat });
    }

    pub(crate) fn leave(&mut self, node: NodeId) {
        self.outbox.leave(node);
    }

    fn store(&mut self, key: &Key, seq: u64, frame: &[u8], life: Duration) -> Bytes {
        let bytes = Bytes::from([&seal(seq)[..], frame].concat());
        self.values.insert(key.clone(), Stored { bytes: bytes.clone(), expires: Instant::now() + life });
        bytes
    }

    fn publish_invalidated(&mut self, partition: u16, seq: u64, key: &Key) {
        let key = Bytes::copy_from_slice(key.as_bytes());
        self.outbox.push(To::Everyone, &BusEvent::Invalidated { partition, seq, key });
    }

    fn wake(&mut self, key: &Key, waiting: BTreeSet<NodeId>, stored: Option<Bytes>) {
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

#[cfg(test)]
mod tests {
    use async_cache_core::backend::Token;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_of_nodes_that_died_are_thrown_out() {
        let store = Store::new(String::new(), &Stores::new(10, 1, Switch::default()));
        let node = NodeId(1);
        for n in 0..10_000u64 {
            let ask = Acquire {
                token: Token { node, counter: n },
                ttl: Duration::from_millis(100),
                accept: Accept::Any,
            };
            let acquired = store.operate(node, (FIRST_RUN, None), |state| {
                state.acquire(node, &Key::encode(&n).unwrap(), ask)
            });
            assert!(matches!(acquired, Acquired::Granted(_)));
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let locks = store.state.lock().locks();
        assert!(locks <= 300, "{locks} locks are held, at most 100 of which stand");
    }
}
