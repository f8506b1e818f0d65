//! One namespace on a shared backend.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use smallvec::SmallVec;

use crate::backend::known::Known;
use crate::backend::lease::{Acquire, Acquired, Fill, Filled, Lease, Renewed};
use crate::error::{Error, ErrorKind, Result};
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::format::token::NodeId;

/// Least time between a broken lease and the next grant for the same key.
pub const GRANT_PACE: Duration = Duration::from_millis(10);

/// Largest stored value sent along with a wake-up, in bytes.
pub const WAKE_INLINE: usize = 4096;

/// Most tags whose last invalidation a partition keeps by name; the oldest make room, and the tag
/// floor is raised over them.
pub const TAG_TABLE: usize = 32_768;

/// What a node says of itself when it opens a namespace.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegionSpec {
    /// The namespace: 1 to 128 bytes, no control characters, no braces.
    pub namespace: String,
    /// The node.
    pub node: NodeId,
    /// What must be equal on all nodes of a namespace: format version and codec. Kept by the
    /// backend beside the sequence; a node that brings another is refused with
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config).
    pub record: String,
    /// What the node knows of the sequence of each partition.
    pub known: Known,
}

impl RegionSpec {
    /// A spec with the given parts.
    pub fn new(namespace: impl Into<String>, node: NodeId, record: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), node, record: record.into(), known: Known::default() }
    }
}

/// Identity of the server process behind an answer. Two answers with the same run come from the
/// same memory; a restart, a promotion or a swapped server changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

/// What a change does to older values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// They are void: they must not answer any more.
    Void,
    /// They have expired: they are not fresh any more, and remain fallbacks until their end.
    Expire,
}

/// The coherence state of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// The server process that answered.
    pub run: RunId,
    /// Sequence number of the last change.
    pub seq: u64,
    /// Values granted below this sequence number are void.
    pub floor: u64,
    /// The server's clock, in milliseconds of its own epoch: the same clock that expires values.
    pub time_ms: u64,
}

/// Answer to [`Region::baseline`]: the state, and what voids tagged values, as of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The state.
    pub state: State,
    /// Tagged values granted below this sequence number are void, whatever their tags.
    pub tag_floor: u64,
    /// Tags, and the sequence number of the last invalidation of each. At most [`TAG_TABLE`].
    pub tags: Vec<(Bytes, u64)>,
    /// Tags, and the sequence number of the last expiry of each. At most [`TAG_TABLE`].
    pub expired_tags: Vec<(Bytes, u64)>,
}

/// Answer to [`Region::heartbeat`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pulse {
    /// The server process that answered.
    pub run: RunId,
    /// The server's clock, as in [`State::time_ms`].
    pub time_ms: u64,
}

/// Whether [`Region::read`] returns void values, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The stored bytes as they are, without regard to floor, tags or leases: the cheapest operation. The
    /// caller checks them.
    Plain,
    /// Only values that are not void.
    Valid,
}

/// Answer to [`Region::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMany {
    /// The server process that answered.
    pub run: RunId,
    /// Seal and frame as stored: one for each key, in the order of the keys. One value needs no allocation.
    pub values: SmallVec<[Option<Bytes>; 1]>,
}

impl ReadMany {
    /// The value of each key, in the order of the keys, for the field `values`.
    pub fn values_of(
        keys: &[Key],
        mut value: impl FnMut(&Key) -> Option<Bytes>,
    ) -> SmallVec<[Option<Bytes>; 1]> {
        match keys {
            [key] => SmallVec::from_buf([value(key)]),
            keys => keys.iter().map(value).collect(),
        }
    }
}

/// Answer to a read of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The server process that answered.
    pub run: RunId,
    /// Seal and frame as stored.
    pub value: Option<Bytes>,
}

/// What a backend says of itself without asking its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Number of partitions: a constant of the backend, at least 1. A key belongs to
    /// [`Key::partition`]`(partitions)`.
    pub partitions: u16,
    /// How long an operation may take before it fails. Where reads have a shorter deadline of their own, this
    /// is the deadline of changes. A `put` that takes longer is never executed, if its caller sets
    /// `not_after_ms` by this.
    pub deadline: Duration,
    /// False while the backend is known to be unreachable. Then a caller can do without it instead of asking.
    pub available: bool,
}

/// One namespace on a shared backend, as seen by one node.
///
/// # The contract
///
/// * Each partition has a *sequence*, raised by one by every change (`put`, `invalidate`, `expire`,
///   `invalidate_tags`, `expire_tags`, `clear`), a *floor*, and a *tag table*: for each tag the sequence number of
///   its last invalidation, and a *tag floor*. Each operation is atomic, and a change is published to every
///   subscribed node in the order of its sequence number, never before it can be read.
/// * A stored value is [`seal(seq)`](crate::format::frame::seal) followed by the frame it was given,
///   where `seq` is the lease's sequence number (`fill`) or the change's own (`put`). A value
///   whose seal is below the floor is void, and so is one whose frame has [`Tags`] and whose seal is
///   below the tag floor or below the table's number for one of them. Nothing else in a frame concerns
///   the backend: see [`frame`](crate::format::frame). `acquire`, and `read` with [`Check::Valid`], never
///   return a void value.
/// * `expire` and `expire_tags` are as `invalidate` and `invalidate_tags`, but for the older values: such a value stays
///   stored until its end, if its header has a time as a fallback, and is answered with the
///   [seal of an expired value](crate::format::frame::expired_seal). [`Accept::Known`](super::Accept::Known) does not
///   confirm it: it is sent whole. A plain read need not tell of an expired tag. The tag table keeps the number of the
///   last expiry of a tag beside that of its last invalidation.
/// * The tag table holds at most [`TAG_TABLE`] tags. To make room the tag floor is raised to the
///   highest number dropped: sound for every value, and felt only by values that were granted
///   before it and are still alive. Losing the table (eviction, foreign bytes) raises the tag
///   floor to the last tag change. A clear may empty it.
/// * If the backend's memory may have been replaced (restart, promotion, flush), the first
///   operation raises sequence and floor beyond any number seen before: everything stored
///   earlier is void and every outstanding lease is broken. A sequence below the number that the
///   caller [knows](RegionSpec::known) is such memory, and raised over it; unless that number is one
///   that no server can have reached yet. Reads with [`Check::Plain`] are exempt.
/// * Breaking a held lease (`put`, `invalidate`, `expire`) leaves its key *cooling* for [`GRANT_PACE`]:
///   until then `acquire` answers `Busy` with the time left, so that a key invalidated faster
///   than it loads is not loaded by everyone at once. Breaking it again does not extend that.
///   A lease granted below the floor does not count as held.
/// * Asking for a lease again with the token that holds it answers with the same lease: a command sent
///   twice grants once.
/// * Waking sends each waiting node a [`Woken`](super::BusEvent::Woken), with the stored value if
///   one was filled or put; a [`Stored`](super::BusEvent::Stored) in its place if the stored value
///   has more than [`WAKE_INLINE`] bytes.
/// * Every operation ends within the backend's command deadline, and at once while the backend
///   is known to be unreachable, with [`ErrorKind::Backend`](crate::error::ErrorKind::Backend). The
///   outcome of a change that failed so is unknown: it may have happened, or yet happen.
/// * A wrong type or foreign bytes under a key are an absent value, and are overwritten.
///
/// Closing the region, or dropping it, ends its subscription.
#[async_trait]
pub trait Region: Debug + Send + Sync + 'static {
    /// Partitions, deadline and availability. Called often, so it must be cheap.
    fn info(&self) -> Info;

    /// Ends the subscription, and frees the name: the namespace can be opened anew from when this returns,
    /// although the region lives on. Its operations still work: what is under way is brought to its end.
    fn close(&self) {}

    /// Reads stored values, with as few commands as possible.
    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany>;

    /// Reads stored values as [`read`](Self::read) does, with an outcome for each key, in their order. A backend
    /// whose partitions are on several servers implements it: each answer names its own server, and the keys of
    /// one server may fail alone.
    async fn read_each(&self, keys: &[Key], check: Check) -> Vec<Result<Read>> {
        match self.read(keys, check).await {
            Ok(ReadMany { run, values }) => values.into_iter().map(|value| Ok(Read { run, value })).collect(),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    /// Reads the state of a partition and its tag table, in one step. Creates the partition, or raises its
    /// floor, if need be. Checks the namespace record.
    async fn baseline(&self, partition: u16) -> Result<Baseline>;

    /// For each key: returns the valid value, or grants the lease, or says how long another node holds it. One
    /// outcome for each, in the order of the keys: one may fail alone.
    async fn acquire(&self, asks: &[(Key, Acquire)]) -> Vec<Result<Acquired>>;

    /// Stores loaded values. A value is stored if its lease still holds, is not below the floor, and no tag of
    /// the frame has been invalidated since the lease was granted. (Only the frame knows the tags, because the
    /// loader may have chosen them.) In any case `fill` ends the lease, if it is still this one, and wakes the
    /// waiters. With [`Announce::Yes`](super::Announce::Yes), storing is a change: it raises the sequence,
    /// seals the value with the new number, and is published. One outcome for each, in their order: one may
    /// fail alone.
    async fn fill(&self, fills: &[Fill]) -> Vec<Result<Filled>>;

    /// Extends each lease to `ttl` from now, if it still holds. One outcome for each, in their order.
    async fn renew(&self, leases: &[(Key, Lease)], ttl: Duration) -> Result<Vec<Renewed>>;

    /// Ends each lease, if it still holds, and wakes the waiters so that one of them loads. Tries all of them,
    /// and returns the first error.
    async fn release(&self, leases: &[(Key, Lease)]) -> Result<()>;

    /// Stores values for `life`, each as a change: breaks the key's lease, wakes its waiters,
    /// publishes. Not executed at all later than `not_after_ms` on the server's clock: a write that its caller
    /// has given up must not overwrite a later one. Returns the sequence number of each.
    async fn put(&self, entries: &[(Key, Bytes)], life: Duration, not_after_ms: u64) -> Result<Vec<u64>>;

    /// Removes values, each as a change: breaks the key's lease, wakes its waiters, publishes.
    /// Returns the sequence number of each.
    async fn invalidate(&self, keys: &[Key]) -> Result<Vec<u64>>;

    /// Notes these tags in the partition's table under a new sequence number, which is returned and
    /// published: every value that has one of them, stored or being loaded, is void. Takes the same
    /// time whatever the partition holds.
    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64>;

    /// Expires values, each as a change: breaks the key's lease, wakes its waiters, publishes an
    /// [`Expired`](super::BusEvent::Expired). Returns the sequence number of each.
    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>>;

    /// Notes the expiry of these tags in the partition's table under a new sequence number, which is returned and
    /// published: every value that has one of them has expired, and no load under way is stored that has one. Takes the
    /// same time whatever the partition holds.
    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64>;

    /// Raises the partition's floor to a new sequence number, which is returned: every value and
    /// lease of the partition is void. Takes the same time whatever the partition holds.
    async fn clear(&self, partition: u16) -> Result<u64>;

    /// Sends an [`Echo`](super::BusEvent::Echo) with this number to this node, over the bus.
    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse>;

    /// Sends [`Asked`](super::BusEvent::Asked) to every node of the namespace, and to the tools that have it open.
    /// Returns how many listen, this one included. Each answers by an [`Answered`](super::BusEvent::Answered), or not
    /// at all: the caller sets a deadline.
    ///
    /// | question | answer |
    /// |---|---|
    /// | `stats` | lines `name=value`: the node's process, and all its [`Stats`](crate::Stats) |
    /// | `entry:<key>` | lines `name=value`: what the node's L1 has for the key |
    ///
    /// Nodes do not answer other questions. Nothing in the cache depends on a question or an answer, and a backend may
    /// leave both operations out.
    async fn ask(&self, id: u64, question: &[u8]) -> Result<u64> {
        let _ = (id, question);
        Err(Error::new(ErrorKind::Unsupported, "asking the nodes of the namespace: this backend cannot"))
    }

    /// Sends an [`Answered`](super::BusEvent::Answered) to the tool that has asked.
    async fn answer(&self, asker: NodeId, id: u64, answer: &[u8]) -> Result<()> {
        let _ = (asker, id, answer);
        Ok(())
    }
}

/// One key: the operations on slices, with one element.
impl dyn Region + '_ {
    /// Reads one stored value.
    ///
    /// # Errors
    ///
    /// Those of [`Region::read`].
    pub async fn read_one(&self, key: &Key, check: Check) -> Result<Read> {
        let ReadMany { run, mut values } = self.read(std::slice::from_ref(key), check).await?;
        Ok(Read { run, value: values.pop().flatten() })
    }

    /// Asks for one value or its lease.
    ///
    /// # Errors
    ///
    /// Those of [`Region::acquire`].
    pub async fn acquire_one(&self, key: &Key, ask: Acquire) -> Result<Acquired> {
        only(self.acquire(&[(key.clone(), ask)]).await)
    }

    /// Stores one loaded value.
    ///
    /// # Errors
    ///
    /// Those of [`Region::fill`].
    pub async fn fill_one(&self, fill: Fill) -> Result<Filled> {
        only(self.fill(&[fill]).await)
    }

    /// Extends one lease.
    ///
    /// # Errors
    ///
    /// Those of [`Region::renew`].
    pub async fn renew_one(&self, key: &Key, lease: Lease, ttl: Duration) -> Result<Renewed> {
        let renewed = self.renew(&[(key.clone(), lease)], ttl).await?;
        only(renewed.into_iter().map(Ok).collect())
    }

    /// Ends one lease.
    ///
    /// # Errors
    ///
    /// Those of [`Region::release`].
    pub async fn release_one(&self, key: &Key, lease: Lease) -> Result<()> {
        self.release(&[(key.clone(), lease)]).await
    }

    /// Reads the state of a partition.
    ///
    /// # Errors
    ///
    /// Those of [`Region::baseline`].
    pub async fn state(&self, partition: u16) -> Result<State> {
        Ok(self.baseline(partition).await?.state)
    }
}

fn only<T>(mut outcomes: Vec<Result<T>>) -> Result<T> {
    let answer = outcomes.pop();
    answer.unwrap_or_else(|| Err(Error::new(ErrorKind::Backend, "the backend gave no outcome for a key")))
}
