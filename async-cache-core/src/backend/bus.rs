//! The events that a backend sends to a node.

use std::sync::Arc;

use bytes::Bytes;

use crate::format::tags::Tags;
use crate::format::token::NodeId;

/// Receives the events of one region, in the order in which the backend executed them.
///
/// The task that reads the subscriber's socket calls it, so an implementation must not block.
pub trait Listener: Send + Sync + 'static {
    /// Takes one event.
    fn notify(&self, event: BusEvent);
}

/// One event on the invalidation bus.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusEvent {
    /// The subscription to every channel of the region has been acknowledged: each change executed from now
    /// on will be delivered, or [`BusEvent::Lost`] will be sent.
    Subscribed,
    /// The subscription is gone. Changes may be missed until the next [`BusEvent::Subscribed`].
    Lost,
    /// As [`BusEvent::Subscribed`], for one partition. A backend whose partitions are on several servers
    /// sends it. It may send both kinds.
    PartitionSubscribed {
        /// The partition.
        partition: u16,
    },
    /// As [`BusEvent::Lost`], for one partition: its server is away, or it has moved to another one.
    PartitionLost {
        /// The partition.
        partition: u16,
    },
    /// The backend does not let this node subscribe, until its settings or the user's rights are changed. The
    /// node tries again, less and less often.
    Refused {
        /// What is not permitted, and the remedy.
        why: Arc<str>,
    },
    /// A key was invalidated or overwritten.
    Invalidated {
        /// Partition of the key.
        partition: u16,
        /// The partition's sequence number after the change.
        seq: u64,
        /// The encoded key.
        key: Bytes,
    },
    /// A key was expired.
    Expired {
        /// Partition of the key.
        partition: u16,
        /// The partition's sequence number after the change.
        seq: u64,
        /// The encoded key.
        key: Bytes,
    },
    /// A whole partition was cleared.
    Cleared {
        /// The partition.
        partition: u16,
        /// The partition's sequence number after the change, and its new floor.
        seq: u64,
    },
    /// Tags were invalidated.
    TagsInvalidated {
        /// The partition.
        partition: u16,
        /// The partition's sequence number after the change.
        seq: u64,
        /// The tags.
        tags: Tags,
    },
    /// Tags were expired.
    TagsExpired {
        /// The partition.
        partition: u16,
        /// The partition's sequence number after the change.
        seq: u64,
        /// The tags.
        tags: Tags,
    },
    /// Answer to this node's [`Region::heartbeat`](super::Region::heartbeat), delivered behind
    /// every change executed before it.
    Echo {
        /// The partition.
        partition: u16,
        /// The partition's sequence number when the heartbeat was executed.
        seq: u64,
        /// The number given to the heartbeat.
        beat: u64,
    },
    /// A load that this node waits for has ended.
    Woken {
        /// The encoded key.
        key: Bytes,
        /// The stored value (seal and frame); `None` if nothing was stored.
        value: Option<Bytes>,
    },
    /// A tool has asked every node of the namespace. A node answers by
    /// [`Region::answer`](super::Region::answer).
    Asked {
        /// The tool, as a node.
        asker: NodeId,
        /// The tool's number for the question.
        id: u64,
        /// The question. See [`Region::ask`](super::Region::ask).
        question: Bytes,
    },
    /// A node has answered a question of this tool.
    Answered {
        /// The node that answers.
        node: NodeId,
        /// The number of the question.
        id: u64,
        /// The answer. See [`Region::ask`](super::Region::ask).
        answer: Bytes,
    },
    /// A message that this backend did not write. It is dropped.
    Foreign,
    /// A load that this node waits for has ended, and its value is stored. The value is too large for this
    /// event.
    Stored {
        /// The encoded key.
        key: Bytes,
    },
}
