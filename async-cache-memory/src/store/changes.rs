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

impl State {
    /// Stores a value as a change.
    pub(crate) fn put(&mut self, key: &Key, frame: &[u8], life: Duration) -> u64 {
        let (seq, waiting) = self.begin_change(key);
        let stored = self.store(key, seq, frame, life);
        self.publish_invalidated(seq, key);
        self.wake(key, waiting, Some(stored));
        seq
    }

    /// Removes a value as a change.
    pub(crate) fn invalidate(&mut self, key: &Key) -> u64 {
        let (seq, waiting) = self.begin_change(key);
        self.values.invalidate(key.as_bytes());
        self.publish_invalidated(seq, key);
        self.wake(key, waiting, None);
        seq
    }

    /// Expires a value as a change.
    pub(crate) fn expire(&mut self, key: &Key) -> u64 {
        let (seq, waiting) = self.begin_change(key);
        self.expire_stored(key);
        let (partition, name) = (self.index(key), Bytes::copy_from_slice(key.as_bytes()));
        self.outbox.push(To::Everyone, &BusEvent::Expired { partition, seq, key: name });
        self.wake(key, waiting, None);
        seq
    }

    /// Numbers a change of one key, and breaks its lease. Returns the nodes that waited.
    fn begin_change(&mut self, key: &Key) -> (u64, BTreeSet<NodeId>) {
        let keeps_lease = fault!(self.faults, InvalidationKeepsLease);
        let partition = self.partition(key);
        let seq = partition.next_seq();
        let waiting = if keeps_lease { BTreeSet::new() } else { partition.break_lock(key) };
        (seq, waiting)
    }

    /// Clears a partition that exists.
    pub(crate) fn clear(&mut self, partition: u16) -> u64 {
        let found = &mut self.partitions[usize::from(partition)];
        let seq = found.next_seq();
        found.floor = seq;
        found.tags.clear();
        found.expired_tags.clear();
        self.outbox.push(To::Everyone, &BusEvent::Cleared { partition, seq });
        seq
    }

    /// Invalidates or expires tags in a partition that exists.
    pub(crate) fn change_tags(&mut self, partition: u16, tags: &Tags, effect: Effect) -> u64 {
        let found = &mut self.partitions[usize::from(partition)];
        let seq = found.next_seq();
        let most = fault!(self.faults, tag_table or TAG_TABLE);
        let floor_before = found.tag_floor;
        found.note(tags, seq, effect, most);
        if fault!(self.faults, TagsForgotten) {
            found.tag_floor = floor_before;
        }
        let tags = tags.clone();
        let event = match effect {
            Effect::Void => BusEvent::TagsInvalidated { partition, seq, tags },
            Effect::Expire => BusEvent::TagsExpired { partition, seq, tags },
        };
        self.outbox.push(To::Everyone, &event);
        seq
    }

    /// Sends the sequence of a partition to one node, behind every change before.
    pub(crate) fn echo(&mut self, node: NodeId, partition: u16, beat: u64) {
        let (seq, _) = self.seq_and_floor(partition);
        self.outbox.push(To::Node(node), &BusEvent::Echo { partition, seq, beat });
    }
}
