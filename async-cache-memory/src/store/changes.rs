//! The changes: each is numbered, and announced before any node is woken.

use std::collections::BTreeSet;
use std::time::Duration;

use async_cache_core::Tags;
use async_cache_core::backend::{BusEvent, Effect, NodeId, TAG_TABLE};
use async_cache_core::key::Key;
use bytes::Bytes;

use super::deliver::To;
use super::state::State;
use crate::faults::fault;

/// Stores a value as a change.
pub(crate) fn put(state: &mut State, key: &Key, frame: &[u8], life: Duration) -> u64 {
    let (seq, waiting) = begin_change(state, key);
    let stored = state.store(key, seq, frame, life);
    state.publish_invalidated(seq, key);
    state.wake(key, waiting, Some(stored));
    seq
}

/// Removes a value as a change.
pub(crate) fn invalidate(state: &mut State, key: &Key) -> u64 {
    let (seq, waiting) = begin_change(state, key);
    state.values.invalidate(key.as_bytes());
    state.publish_invalidated(seq, key);
    state.wake(key, waiting, None);
    seq
}

/// Expires a value as a change.
pub(crate) fn expire(state: &mut State, key: &Key) -> u64 {
    let (seq, waiting) = begin_change(state, key);
    state.expire_stored(key);
    let (partition, name) = (state.index(key), Bytes::copy_from_slice(key.as_bytes()));
    state.outbox.push(To::Everyone, &BusEvent::Expired { partition, seq, key: name });
    state.wake(key, waiting, None);
    seq
}

/// Numbers a change of one key, and breaks its lease. Returns the nodes that waited.
fn begin_change(state: &mut State, key: &Key) -> (u64, BTreeSet<NodeId>) {
    let keeps_lease = fault!(state.faults, InvalidationKeepsLease);
    let partition = state.partition(key);
    let seq = partition.next_seq();
    let waiting = if keeps_lease { BTreeSet::new() } else { partition.break_lock(key) };
    (seq, waiting)
}

/// Clears a partition that exists.
pub(crate) fn clear(state: &mut State, partition: u16) -> u64 {
    let found = &mut state.partitions[usize::from(partition)];
    let seq = found.next_seq();
    found.floor = seq;
    found.tags.clear();
    found.expired_tags.clear();
    state.outbox.push(To::Everyone, &BusEvent::Cleared { partition, seq });
    seq
}

/// Invalidates or expires tags in a partition that exists.
pub(crate) fn change_tags(state: &mut State, partition: u16, tags: &Tags, effect: Effect) -> u64 {
    let found = &mut state.partitions[usize::from(partition)];
    let seq = found.next_seq();
    let most = fault!(state.faults, tag_table or TAG_TABLE);
    let floor_before = found.tag_floor;
    found.note(tags, seq, effect, most);
    if fault!(state.faults, TagsForgotten) {
        found.tag_floor = floor_before;
    }
    let tags = tags.clone();
    let event = match effect {
        Effect::Void => BusEvent::TagsInvalidated { partition, seq, tags },
        Effect::Expire => BusEvent::TagsExpired { partition, seq, tags },
    };
    state.outbox.push(To::Everyone, &event);
    seq
}

/// Sends the sequence of a partition to one node, behind every change before.
pub(crate) fn echo(state: &mut State, node: NodeId, partition: u16, beat: u64) {
    let (seq, _) = state.seq_and_floor(partition);
    state.outbox.push(To::Node(node), &BusEvent::Echo { partition, seq, beat });
}
