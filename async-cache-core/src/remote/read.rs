//! L2: read, check, decode.

use std::future::{Ready, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{Either, join};

use crate::backend::{Accept, Check, Entry, Expiry, Phase, Read, RunId, Tick};
use crate::error::{BoxError, Error, Result};
use crate::faults::mutant::Mutant;
use crate::format::frame::{self, Header, Unreadable, token_of};
use crate::format::key::Key;
use crate::format::token::Token;
use crate::liveness::clock::ServerTime;
use crate::liveness::news::{News, Server};
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::flight::Ticket;
use crate::observe::{Stage, SuspendCause, UnreadableCause};
use crate::options::Options;
use crate::remote::l2::L2;

/// The outcome of a read of L2.
#[derive(Debug)]
pub(crate) enum Fetched<V> {
    /// A valid value, and the ticket under which L1 may have it.
    Found(Entry<V>, Ticket),
    /// An expired value, which is a fallback.
    Stale(Entry<V>, Ticket),
    /// No value that answers; and the values that may answer in place of the lease.
    Absent(Accept),
    /// L2 could not be asked, or must not be asked.
    Unreachable(Error),
}

impl<V: Send + Sync + 'static> L2<V> {
    /// Reads a key from L2. It does not read if an invalidation of the key is pending.
    pub(crate) async fn fetch(
        &self,
        key: &Key,
        min_stamp: Option<&Stamp>,
        ticket: Ticket,
        options: &Options,
    ) -> Fetched<V> {
        if let Some(error) = self.local.liveness.refuse_unsent(key.as_bytes()) {
            return Fetched::Unreachable(error);
        }
        match self.read(key, min_stamp).await {
            Ok(read) => self.stored(key, read.value.as_deref(), ticket, options),
            Err(error) => Fetched::Unreachable(error),
        }
    }

    /// The outcome for the bytes stored under a key, or for their absence.
    pub(crate) fn stored(
        &self,
        key: &Key,
        stored: Option<&[u8]>,
        ticket: Ticket,
        options: &Options,
    ) -> Fetched<V> {
        stored.map_or(Fetched::Absent(Accept::Any), |stored| self.verdict(key, stored, ticket, options))
    }

    /// Reads the stored bytes.
    ///
    /// While the node serves, its floor and its mirror are at most `max_staleness` old. Then a plain read is
    /// enough, and the node's [verdict](Self::verdict) decides. Otherwise the backend judges first.
    async fn read(&self, key: &Key, min_stamp: Option<&Stamp>) -> Result<Read> {
        let (index, partition) = self.local.partition_of(key.as_bytes());
        if !self.local.liveness.knows_server_time(partition) {
            self.learn_before_reading(std::slice::from_ref(key)).await?;
        }
        if self.knows(index, partition, min_stamp) {
            let read = self.counted(self.staged(self.region.read_one(key, Check::Plain)).await)?;
            if self.is_about(partition, read.run) {
                if read.value.is_some() && self.local.exists() {
                    self.local.stripes.read_plainly(key.as_bytes(), self.local.liveness.node.next_beat());
                }
                return Ok(read);
            }
        }
        self.counted(self.staged(self.region.read_one(key, Check::Valid)).await)
    }

    /// Reads the stored bytes of many keys, as [`read`](Self::read) does for one. Returns one outcome for each, in
    /// their order.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        min_stamp: Option<&Stamp>,
    ) -> Vec<Result<Option<Bytes>>> {
        let partitions = self.local.liveness.node.partitions_of(keys);
        if !partitions.iter().all(|(_, partition)| self.local.liveness.knows_server_time(partition))
            && let Err(error) = self.learn_before_reading(keys).await
        {
            return vec![Err(error); keys.len()];
        }
        // The keys whose partition this node knows well enough, and those that the backend must judge first.
        let known: Vec<u16> = partitions
            .iter()
            .filter(|(index, partition)| self.knows(*index, partition, min_stamp))
            .map(|(index, _)| *index)
            .collect();
        if known.is_empty() {
            return self.read_valid(keys).await;
        }
        if known.len() == partitions.len() {
            return self.read_plainly(keys).await;
        }
        let count = self.local.liveness.node.partition_count();
        let is_known = |key: &Key| known.binary_search(&key.partition(count)).is_ok();
        let (plain, valid): (Vec<Key>, Vec<Key>) = keys.iter().cloned().partition(is_known);
        let (plain, valid) = join(self.read_plainly(&plain), self.read_valid(&valid)).await;
        let (mut plain, mut valid) = (plain.into_iter(), valid.into_iter());
        keys.iter().filter_map(|key| if is_known(key) { plain.next() } else { valid.next() }).collect()
    }

    /// Reads stored bytes that this node can judge. Those that come from a server which it does not know are read
    /// again.
    async fn read_plainly(&self, keys: &[Key]) -> Vec<Result<Option<Bytes>>> {
        let reads = self.counted_each(self.region.read_each(keys, Check::Plain)).await;
        // The number is taken after the answer, because a heartbeat that was sent before the read proves nothing about
        // the memory that was read.
        let beat = self.local.exists().then(|| self.local.liveness.node.next_beat());
        let mut values = Vec::with_capacity(keys.len());
        let (mut doubtful, mut places) = (Vec::new(), Vec::new());
        for (key, read) in keys.iter().zip(reads) {
            let (_, partition) = self.local.partition_of(key.as_bytes());
            values.push(match read {
                Ok(read) if !self.is_about(partition, read.run) => {
                    places.push(values.len());
                    doubtful.push(key.clone());
                    Ok(None)
                }
                Ok(read) => {
                    if let (Some(_), Some(beat)) = (&read.value, beat) {
                        self.local.stripes.read_plainly(key.as_bytes(), beat);
                    }
                    Ok(read.value)
                }
                Err(error) => Err(error),
            });
        }
        if !doubtful.is_empty() {
            for (place, value) in places.into_iter().zip(self.read_valid(&doubtful).await) {
                values[place] = value;
            }
        }
        values
    }

    /// Reads stored bytes that the backend has judged.
    async fn read_valid(&self, keys: &[Key]) -> Vec<Result<Option<Bytes>>> {
        let read = self.counted_each(self.region.read_each(keys, Check::Valid)).await;
        read.into_iter().map(|read| Ok(read?.value)).collect()
    }

    /// Asks for the server's time. A stored value ends by the server's clock, so it cannot be judged before
    /// an answer has told the time. The first reads of a node come before its first baseline.
    #[cold]
    async fn learn_before_reading(&self, keys: &[Key]) -> Result<()> {
        self.local.liveness.learn_server_time(&*self.region, keys).await
    }

    /// Whether the node's knowledge of the partition is recent enough to judge a plain read. The time may lag
    /// a little, as for a hit; the serving lease is shorter to allow for that.
    fn knows(&self, index: u16, partition: &Partition, min_stamp: Option<&Stamp>) -> bool {
        partition.serving_at(self.local.coarse_now())
            && min_stamp.is_none_or(|stamp| self.may_read_plainly(stamp, index, partition))
    }

    /// Whether a get with this stamp may use a plain read. A plain read shows no sequence. Only the backend
    /// knows whether the server's memory has been replaced since the last heartbeat, and a stamp requires
    /// more than recent knowledge.
    fn may_read_plainly(&self, stamp: &Stamp, index: u16, partition: &Partition) -> bool {
        let min_stamp = stamp.seq(index);
        min_stamp == 0 || partition.applied() >= min_stamp && self.local.faults.is(Mutant::ForgetNumbers)
    }

    /// Whether an answer came from the server that this node's knowledge is about. If not, the knowledge is
    /// void.
    fn is_about(&self, partition: &Partition, run: RunId) -> bool {
        match partition.answered_by(run) {
            Server::Known => return true,
            Server::Other(News::Expected) => {}
            Server::Other(News::Gap) => {
                self.local.liveness.suspended(SuspendCause::ServerChanged);
                self.local.liveness.node.resync.notify_one();
            }
        }
        self.local.faults.is(Mutant::TrustAnyRun)
    }

    fn staged<T>(&self, read: impl Future<Output = T>) -> impl Future<Output = T> {
        self.local.observer.stage(Stage::Read, read)
    }

    /// Counts a failed read.
    fn counted<T>(&self, outcome: Result<T>) -> Result<T> {
        outcome.map_err(|error| self.local.liveness.l2_failed(error))
    }

    /// Counts a failure once, however many keys it concerns.
    async fn counted_each<T>(&self, operation: impl Future<Output = Vec<Result<T>>>) -> Vec<Result<T>> {
        let outcomes = self.staged(operation).await;
        if let Some(error) = outcomes.iter().find_map(|outcome| outcome.as_ref().err()) {
            drop(self.local.liveness.l2_failed(error.clone()));
        }
        let namespace = &self.local.observer.namespace;
        outcomes.into_iter().map(|outcome| outcome.map_err(|error| error.in_namespace(namespace))).collect()
    }

    /// Checks stored bytes, judges them by what this node knows, and decodes them.
    pub(crate) fn verdict(&self, key: &Key, stored: &[u8], ticket: Ticket, options: &Options) -> Fetched<V> {
        let now = self.local.coarse_now();
        let (seq, header, payload) = match frame::read(self.format, stored) {
            Ok(parts) => parts,
            Err(Unreadable::Corrupt) => return self.unreadable(key, stored, UnreadableCause::Corrupt, None),
            Err(Unreadable::OtherFormat) => {
                return self.unreadable(key, stored, UnreadableCause::OtherFormat, None);
            }
        };
        let (index, partition) = self.local.partition_of(key.as_bytes());
        if self.local.liveness.unsent.of(index).voids_read(&header.tags) {
            // A tag of the value was invalidated on this node, and L2 does not know it yet.
            return useless(stored);
        }
        // The backend may have judged the value, but this node may know more by now. The mirror is read after
        // the pending invalidations:
        //
        // 1. an invalidation of a tag fails on this node, and becomes pending; 2. a get asks L2, which finds
        //    a value with the tag valid; 3. the retry succeeds: nothing is pending; 4. the answer arrives.
        if seq < partition.floor() || partition.voids_by_tag(&header.tags, seq) {
            return useless(stored);
        }
        let time = match self.local.liveness.server_time(key.as_bytes()) {
            Ok(time) => time,
            Err(error) => return Fetched::Unreachable(error),
        };
        let mut life = life_of(&header, time, now, options);
        if frame::is_expired(stored) || partition.outdates_by_tag(&header.tags, seq) {
            life = life.expired(now);
        }
        let phase = life.phase(now);
        if phase == Phase::Expired {
            return useless(stored);
        }
        let held = self.held(key, header.token);
        // The failed refreshes that this node has counted for the value stay counted.
        let failures = held.as_ref().map(|held| held.life);
        let value = match held {
            _ if header.absent => None,
            // The value is the one that L1 holds. Its copy is kept, because callers may share it.
            Some(held) => held.value,
            None => match self.decode(payload) {
                Ok(value) => Some(value.into()),
                Err(error) => return self.unreadable(key, stored, UnreadableCause::Codec, Some(&error)),
            },
        };
        let life = match (failures, phase) {
            (None, Phase::Ripe | Phase::Stale) => self.local.stripes.with_postponed(key.as_bytes(), life),
            _ => life.with_failures(failures),
        };
        let Header { token, tags, .. } = header;
        let entry = Entry { value, life, generation: 0, seq, token, tags };
        match phase {
            Phase::Fresh | Phase::Ripe => Fetched::Found(entry, ticket),
            Phase::Stale | Phase::Expired => Fetched::Stale(entry, ticket),
        }
    }

    /// The entry of L1, if it has the value with this token.
    fn held(&self, key: &Key, token: Token) -> Option<Entry<V>> {
        self.local.engine()?.get(key.as_bytes()).filter(|held| held.token == token)
    }

    fn unreadable(
        &self,
        key: &Key,
        stored: &[u8],
        cause: UnreadableCause,
        error: Option<&BoxError>,
    ) -> Fetched<V> {
        self.local.observer.unreadable(key.as_bytes(), cause, error);
        useless(stored)
    }
}

/// The outcome for a stored value that does not answer. Another value may answer, if it replaces this one
/// before this node asks for the lease, or while another node holds it:
///
/// 1. A value has ended, and is still stored; 2. two nodes read it; 3. one node gets the lease, loads and
///    fills; 4. the other node asks for the lease. If it accepted no value, it would load again.
///
/// So only the value that was read is refused, by its token. The token can be read even if the rest of the
/// frame cannot.
fn useless<V>(stored: &[u8]) -> Fetched<V> {
    Fetched::Absent(token_of(stored).map_or(Accept::Nothing, Accept::Other))
}

/// The life of a stored value, on this node's clock. Its ends were chosen when it was loaded.
fn life_of(header: &Header, time: ServerTime, now: Tick, options: &Options) -> Expiry {
    let tick = |ms| time.tick_at(ms, now);
    let span = Duration::from_millis(header.expires_ms.saturating_sub(header.loaded_ms));
    let ahead = options.load.ahead(|| Duration::from_micros(u64::from(header.cost_us)));
    let expires = tick(header.expires_ms);
    // Most values have one end.
    let ends = if header.ends_ms == header.expires_ms { expires } else { tick(header.ends_ms) };
    Expiry::new(expires, ends, span, ahead)
}

/// Reads a key from L2. It does not read if there is no L2, or if an invalidation of the key is pending.
///
/// This is not an `async fn`. That would be one more future, and its result is large to move.
pub(crate) fn fetch<'a, V: Send + Sync + 'static>(
    l2: Option<&'a L2<V>>,
    key: &'a Key,
    min_stamp: Option<&'a Stamp>,
    ticket: Ticket,
    options: &'a Options,
) -> Either<impl Future<Output = Fetched<V>> + Send + 'a, Ready<Fetched<V>>> {
    match l2 {
        Some(l2) => Either::Left(l2.fetch(key, min_stamp, ticket, options)),
        None => Either::Right(ready(Fetched::Absent(Accept::Any))),
    }
}
