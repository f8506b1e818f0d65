//! The operations on the lease of one key.

use std::collections::BTreeSet;
use std::time::Duration;

use async_cache_core::backend::{Accept, Acquire, Acquired, Announce, Fill, Filled, Lease, NodeId, Renewed};
use async_cache_core::frame::{ends_of, frame_tags, is_expired, token_of};
use async_cache_core::key::Key;
use tokio::time::Instant;

use super::partition::{Holder, Lock};
use super::state::State;
use crate::faults::fault;

pub(crate) fn acquire(state: &mut State, node: NodeId, key: &Key, ask: Acquire) -> Acquired {
    let stored = state.get_valid(key);
    let partition = state.partition(key);
    if let Some(bytes) = stored {
        match ask.accept {
            Accept::Known(token) if token_of(&bytes) == Some(token) && !is_expired(&bytes) => {
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
            // The same acquire came twice; it is granted once.
            return Acquired::Granted(lease);
        }
        lock.waiting.insert(node);
        return Acquired::Busy(lock.until - now);
    }
    // The nodes that waited for a lease that has lapsed or is void wait for this one now.
    let mut waiting = partition.locks.remove(key.as_bytes()).map_or_else(BTreeSet::new, |lock| lock.waiting);
    waiting.remove(&node);
    let lease = Lease { token: ask.token, seq: partition.seq };
    let lock = Lock { holder: Holder::Lease(lease), until: now + ask.ttl, waiting };
    partition.lock(key, lock, now);
    Acquired::Granted(lease)
}

pub(crate) fn fill(state: &mut State, fill: &Fill) -> Filled {
    let (key, lease) = (&fill.key, fill.lease);
    let index = usize::from(state.index(key));
    let partition = &mut state.partitions[index];
    let waiting = match partition.take_lock(key, lease) {
        Some(lock) => lock.waiting,
        None if fault!(state.faults, UnconditionalFill) => BTreeSet::new(),
        None => return Filled::Refused,
    };
    // Tags do not break a lease: they are not known before the load has ended.
    let known = match fill.announce {
        Announce::Yes if fault!(state.faults, RefreshComparesOwnNumber) => partition.seq + 1,
        Announce::No | Announce::Yes => lease.seq,
    };
    let tags = frame_tags(&fill.frame);
    let voided = (partition.voids(&tags, known) || partition.expires(&tags, known))
        && !fault!(state.faults, FillIgnoresTags);
    if lease.seq < partition.floor || voided {
        state.wake(key, waiting, None);
        return Filled::Refused;
    }
    let seq = match fill.announce {
        Announce::No => lease.seq,
        Announce::Yes => partition.next_seq(),
    };
    let bytes = state.store(key, seq, &fill.frame, fill.life);
    if fill.announce == Announce::Yes {
        state.publish_invalidated(seq, key);
    }
    state.wake(key, waiting, Some(bytes));
    Filled::Stored { seq }
}

pub(crate) fn renew(state: &mut State, key: &Key, lease: Lease, ttl: Duration) -> Renewed {
    let now = Instant::now();
    let partition = state.partition(key);
    let floor = partition.floor;
    match partition.locks.get_mut(key.as_bytes()) {
        Some(lock) if lock.holder == Holder::Lease(lease) && lock.stands(now, floor) => {
            lock.until = now + ttl;
            Renewed::Held
        }
        _ => Renewed::Lost,
    }
}

pub(crate) fn release(state: &mut State, key: &Key, lease: Lease) {
    let partition = state.partition(key);
    if let Some(lock) = partition.take_lock(key, lease) {
        state.wake(key, lock.waiting, None);
    }
}
