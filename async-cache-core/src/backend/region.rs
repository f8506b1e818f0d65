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

/// The minimum time between a broken lease and the next grant for its key.
pub const GRANT_PACE: Duration = Duration::from_millis(10);

/// The maximum size of a stored value that is sent with a wake-up, in bytes.
pub const WAKE_INLINE: usize = 4096;

/// The maximum number of tags in the tag table of a partition. If there are more, the oldest are dropped, and the tag
/// floor rises to their highest number.
pub const TAG_TABLE: usize = 32_768;

/// The arguments with which a node opens a namespace.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RegionSpec {
    /// The namespace: 1 to 128 bytes, no control characters, no braces.
    pub namespace: String,
    /// The node.
    pub node: NodeId,
    /// The text that must be equal on all nodes of a namespace: the format version, the codec and the name of the type.
    /// The backend keeps it beside the sequence, and refuses a node with another record with
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config).
    pub record: String,
    /// The highest sequence number of each partition that the node knows.
    pub known: Known,
}

impl RegionSpec {
    /// Makes a spec of these parts.
    pub fn new(namespace: impl Into<String>, node: NodeId, record: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), node, record: record.into(), known: Known::default() }
    }
}

/// The identity of the server process that sent an answer. It differs after a restart, a promotion, or if another
/// server answers. The memory of one process may still be replaced by an older one: see [`Known`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RunId(pub u64);

/// What a change does to older values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// They are void, and must not answer any more.
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

/// The answer to [`Region::baseline`]: the state and the tag table at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baseline {
    /// The state.
    pub state: State,
    /// Tagged values granted below this sequence number are void, whatever their tags.
    pub tag_floor: u64,
    /// Tags, and the sequence number of the last invalidation of each. At most [`TAG_TABLE`]. A tag may be missing that
    /// was never invalidated, or whose last invalidation is below `tag_floor`.
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

/// Whether [`Region::read`] may return void values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The stored bytes as they are, without a check of floor and tags. It is the cheapest operation. The caller checks
    /// them.
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

/// The answer to a read of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The server process that answered.
    pub run: RunId,
    /// Seal and frame as stored.
    pub value: Option<Bytes>,
}

/// The facts about a backend that need no question to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The number of partitions, at least 1. It never changes. A key belongs to [`Key::partition`]`(partitions)`.
    pub partitions: u16,
    /// How long a change may take before it fails. Reads may have another deadline. The caller of `put` computes
    /// `not_after_ms` from it, so that a `put` that takes longer is never executed.
    pub deadline: Duration,
    /// False while the backend is known to be unreachable. Then a caller need not ask it.
    pub available: bool,
}

/// One namespace of a backend, as one node sees it.
///
/// # The contract
///
/// * Each partition has a *sequence*, raised by one by every change (`put`, `invalidate`, `expire`,
///   `invalidate_tags`, `expire_tags`, `clear`), a *floor*, and a *tag table*: for each tag the sequence number of
///   its last invalidation, and a *tag floor*. Each operation is atomic, and a change is published to every
///   subscribed node in the order of its sequence number, never before it can be read.
/// * A stored value is [`seal(seq)`](crate::format::frame::seal) followed by the frame it was given, where `seq` is the
///   lease's sequence number (`fill`) or the change's own (`put`). A value whose seal is below the floor is void, and
///   so is one whose frame has [`Tags`] and whose seal is below the tag floor or below the table's number for one of
///   them. Of the rest of a frame the backend reads only the token and the ends: see [`frame`](crate::format::frame).
///   `acquire`, and `read` with [`Check::Valid`], never return a void value.
/// * `expire` and `expire_tags` work like `invalidate` and `invalidate_tags`, except for older values that can be
///   fallbacks (by the header they end after they expire). Such a value stays stored until its end, and is returned
///   with the [seal of an expired value](crate::format::frame::expired_seal). It is returned whole, even if the caller
///   has its token ([`Accept::Known`](super::Accept::Known)). A plain read may return a value whose tag has expired
///   with its old seal. The tag table keeps the number of the last expiry of a tag beside that of its last
///   invalidation.
/// * The tag table holds at most [`TAG_TABLE`] tags. To drop tags, the backend raises the tag floor to the highest
///   number dropped. That voids only tagged values that are older than this number. If the table is lost (eviction,
///   foreign bytes), the tag floor rises to the last tag change. A clear may empty the table.
/// * If the backend's memory may have been replaced (restart, promotion, flush), the first operation raises sequence
///   and floor beyond any number seen before: everything stored earlier is void and every outstanding lease is broken.
///   This also holds if the sequence is below the number that the caller [knows](RegionSpec::known), unless no server
///   can have reached that number yet. Reads with [`Check::Plain`] are exempt.
/// * Breaking a held lease (`put`, `invalidate`, `expire`) leaves its key *cooling* for [`GRANT_PACE`]:
///   until then `acquire` answers `Busy` with the time left, so that a key invalidated faster
///   than it loads is not loaded by everyone at once. Breaking it again does not extend that.
///   A lease granted below the floor does not count as held.
/// * If `acquire` comes again with the token that holds the lease, it returns the lease again. So a command that is
///   sent twice grants once.
/// * Waking sends each waiting node a [`Woken`](super::BusEvent::Woken), with the stored value if
///   one was filled or put; a [`Stored`](super::BusEvent::Stored) in its place if the stored value
///   has more than [`WAKE_INLINE`] bytes.
/// * Every operation ends within the backend's command deadline, and at once while the backend is known to be
///   unreachable, with [`ErrorKind::Backend`](crate::error::ErrorKind::Backend). The outcome of a change that failed so
///   is unknown: the backend may have executed it, or may still execute it.
/// * A wrong type or foreign bytes under a key count as an absent value, and are overwritten.
///
/// Closing the region, or dropping it, ends its subscription.
#[async_trait]
pub trait Region: Debug + Send + Sync + 'static {
    /// Partitions, deadline and availability. It is called often, so it must be cheap.
    fn info(&self) -> Info;

    /// While [`available`](Info::available) is false: the error that an operation would return, for the log. It names
    /// the server and the cause. A backend may leave it out.
    fn outage(&self) -> Option<Error> {
        None
    }

    /// Ends the subscription, and frees the name. When it has returned, the namespace can be opened again, even if this
    /// region still exists. The region's operations still work, so that those under way can end.
    fn close(&self) {}

    /// Reads stored values, with as few commands as possible.
    async fn read(&self, keys: &[Key], check: Check) -> Result<ReadMany>;

    /// Reads stored values as [`read`](Self::read) does, with an outcome for each key, in their order. A backend whose
    /// partitions are on several servers implements it. Then each answer names its own server, and the keys of one
    /// server may fail alone.
    async fn read_each(&self, keys: &[Key], check: Check) -> Vec<Result<Read>> {
        match self.read(keys, check).await {
            Ok(ReadMany { run, values }) => values.into_iter().map(|value| Ok(Read { run, value })).collect(),
            Err(error) => vec![Err(error); keys.len()],
        }
    }

    /// Reads the state of a partition and its tag table, in one step. It creates the partition if it does not exist,
    /// and raises its floor if the memory may have been replaced. It checks the namespace record. With `tags` the
    /// answer has these tags alone, and costs no more for a long table.
    async fn baseline(&self, partition: u16, tags: Option<&Tags>) -> Result<Baseline>;

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

    /// Notes these tags in the partition's table under a new sequence number, which is returned and published: every
    /// older value that has one of them, stored or being loaded, is void. The time does not depend on the number of
    /// values.
    async fn invalidate_tags(&self, partition: u16, tags: &Tags) -> Result<u64>;

    /// Expires values, each as a change: breaks the key's lease, wakes its waiters, publishes an
    /// [`Expired`](super::BusEvent::Expired). Returns the sequence number of each.
    async fn expire(&self, keys: &[Key]) -> Result<Vec<u64>>;

    /// Notes the expiry of these tags in the partition's table under a new sequence number, which is returned and
    /// published: every older value that has one of them has expired, and a load under way whose value has one is not
    /// stored. The time does not depend on the number of values.
    async fn expire_tags(&self, partition: u16, tags: &Tags) -> Result<u64>;

    /// Raises the partition's floor to a new sequence number, which is returned: every value and lease of the partition
    /// is void. The time does not depend on the number of values.
    async fn clear(&self, partition: u16) -> Result<u64>;

    /// Sends an [`Echo`](super::BusEvent::Echo) with this number to this node, over the bus.
    async fn heartbeat(&self, partition: u16, beat: u64) -> Result<Pulse>;

    /// Sends [`Asked`](super::BusEvent::Asked) to every node of the namespace, and to the tools that have it open.
    /// Returns how many listen, this one included. Each sends an [`Answered`](super::BusEvent::Answered), or nothing,
    /// so the caller sets a deadline.
    ///
    /// | question | answer |
    /// |---|---|
    /// | `stats` | lines `name=value`: the node's process, and all its [`Stats`](crate::Stats) |
    /// | `entry:<key>` | lines `name=value`: what the node's L1 has for the key |
    ///
    /// Nodes do not answer other questions. No promise of the cache depends on questions or answers, so a backend need
    /// not implement the two operations.
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

/// The operations on slices, for one key.
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
        Ok(self.baseline(partition, Some(&Tags::default())).await?.state)
    }
}

fn only<T>(mut outcomes: Vec<Result<T>>) -> Result<T> {
    let answer = outcomes.pop();
    answer.unwrap_or_else(|| Err(Error::new(ErrorKind::Backend, "the backend gave no outcome for a key")))
}
