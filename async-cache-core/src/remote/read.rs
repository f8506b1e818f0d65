//! L2: read, check, decode.

use std::time::Duration;

use crate::backend::{Accept, Entry, Life, Phase, Read, ReadMany, RunId, Tick};
use crate::error::{Error, ErrorKind, Result};
use crate::faults::mutant::Mutant;
use crate::format::frame;
use crate::format::frame::{Header, Unreadable, token_of};
use crate::format::key::Key;
use crate::inner::{L2, Shared};
use crate::liveness::clock::ServerTime;
use crate::liveness::partition::{News, Partition, Server};
use crate::liveness::stamp::Stamp;
use crate::local::stripes::Ticket;
use crate::observe::{Event, KeyHash, SuspendCause, UnreadableCause};
use crate::options::Options;

/// What L2 had.
#[derive(Debug)]
pub(crate) enum Fetched<V> {
    /// A valid value, and the ticket under which L1 may have it.
    Found(Entry<V>, Ticket),
    /// One that has expired, and is a fallback.
    Stale(Entry<V>, Ticket),
    /// None; and what is acceptable when the lease is asked for.
    Absent(Accept),
    /// It could not be asked, or must not be.
    Unreachable(Error),
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Reads a key from L2, unless it holds what was invalidated here and could not yet be removed there.
    pub(crate) async fn fetch_unless_pending(
        &self,
        key: &Key,
        need: Option<&Stamp>,
        ticket: Ticket,
        options: &Options,
    ) -> Fetched<V> {
        let Some(l2) = &self.l2 else { return Fetched::Absent(Accept::Any) };
        if let Some(error) = self.refuse_pending(key) {
            return Fetched::Unreachable(error);
        }
        match self.read(l2, key, need).await {
            Ok(read) => self.stored(l2, key, read.value.as_deref(), (ticket, options)),
            Err(error) => Fetched::Unreachable(error),
        }
    }

    /// A ticket to read a key outside a flight, where it decides about L1 alone.
    pub(crate) fn ticket_to_read(&self, key: &Key) -> Ticket {
        if self.l1.is_some() { self.ticket(key) } else { Ticket::NONE }
    }

    /// What is stored under a key, or that nothing is.
    pub(crate) fn stored(
        &self,
        l2: &L2<V>,
        key: &Key,
        stored: Option<&[u8]>,
        (ticket, options): (Ticket, &Options),
    ) -> Fetched<V> {
        stored.map_or(Fetched::Absent(Accept::Any), |stored| self.verdict(l2, key, stored, ticket, options))
    }

    /// Whether L2 may hold what was invalidated here, so that it must not be asked for a key.
    pub(crate) fn is_pending(&self, key: &Key) -> bool {
        self.pending.covers(key.as_bytes()) && !self.switch.is(Mutant::ReadPastPending)
    }

    /// The same as an error.
    pub(crate) fn refuse_pending(&self, key: &Key) -> Option<Error> {
        self.is_pending(key).then(|| {
            self.error(
                ErrorKind::Backend,
                "an invalidation of this key has not reached L2 yet, so L2 cannot answer for it",
            )
        })
    }

    /// Reads the stored bytes.
    ///
    /// While the node serves, it knows floor and tags as of `max_staleness` ago: a plain read is
    /// enough, and the node's [verdict](Self::verdict) decides. Otherwise the backend judges first.
    async fn read(&self, l2: &L2<V>, key: &Key, need: Option<&Stamp>) -> Result<Read> {
        if !self.may_judge() {
            self.learn_before_reading(l2).await?;
        }
        let (index, partition) = self.node.partition_of(key.as_bytes());
        if self.knows(index, partition, need) {
            let read = self.counted(l2.region.get(key)).await?;
            if self.is_about(partition, read.run) {
                if read.value.is_some() && self.l1.is_some() {
                    self.fence.read_plainly(key.as_bytes(), self.node.next_beat());
                }
                return Ok(read);
            }
        }
        self.counted(l2.region.get_valid(key)).await
    }

    /// The same for many keys.
    pub(crate) async fn read_many(&self, l2: &L2<V>, keys: &[Key], need: Option<&Stamp>) -> Result<ReadMany> {
        if !self.may_judge() {
            self.learn_before_reading(l2).await?;
        }
        let partitions = self.node.partitions_of(keys);
        if partitions.iter().all(|(index, partition)| self.knows(*index, partition, need)) {
            let read = self.counted(l2.region.get_many(keys)).await?;
            if partitions.iter().all(|(_, partition)| self.is_about(partition, read.run)) {
                if self.l1.is_some() {
                    let beat = self.node.next_beat();
                    for (key, _) in keys.iter().zip(&read.values).filter(|(_, value)| value.is_some()) {
                        self.fence.read_plainly(key.as_bytes(), beat);
                    }
                }
                return Ok(read);
            }
        }
        self.counted(l2.region.get_many_valid(keys)).await
    }

    /// A stored value ends by the server's clock, so that one cannot be judged before some answer has told the
    /// time: a node's first reads come before its first baseline.
    #[cold]
    async fn learn_before_reading(&self, l2: &L2<V>) -> Result<()> {
        self.learn_server_time(&*l2.region).await
    }

    /// Whether enough is known of the server's time to judge what is read.
    #[inline]
    fn may_judge(&self) -> bool {
        self.node.server_clock.known().is_some() || self.switch.is(Mutant::TrustUnknownServerTime)
    }

    /// What is known of the server's time, which must have been asked for if nothing was.
    pub(crate) fn server_time(&self) -> Result<ServerTime> {
        let known = self.node.server_clock.known();
        if self.switch.is(Mutant::TrustUnknownServerTime) {
            return Ok(known.unwrap_or_else(|| ServerTime::zero_at(self.node.clock.now())));
        }
        known.ok_or_else(|| {
            self.error(
                ErrorKind::Backend,
                "the server's time is not known yet, so nothing can be said of when a stored value ends",
            )
        })
    }

    /// Whether what this node knows of the partition is recent enough to judge a plain read by. At a
    /// glance, as a hit sees it: the lease is shorter for that.
    fn knows(&self, index: u16, partition: &Partition, need: Option<&Stamp>) -> bool {
        partition.serving_at(self.node.clock.glance())
            && need.is_none_or(|stamp| self.may_read_plainly(stamp, index, partition))
    }

    /// A plain read shows no sequence: whether memory has been replaced since the last heartbeat only the
    /// backend can say, and a stamp insists on more than recent knowledge.
    fn may_read_plainly(&self, stamp: &Stamp, index: u16, partition: &Partition) -> bool {
        let need = stamp.seq(index);
        need == 0 || partition.applied() >= need && self.switch.is(Mutant::ForgetNumbers)
    }

    /// Whether an answer came from the server this node's knowledge is about; if not, the
    /// knowledge is void.
    fn is_about(&self, partition: &Partition, run: RunId) -> bool {
        match partition.answered_by(run) {
            Server::Known => return true,
            Server::Other(News::Expected) => {}
            Server::Other(News::Gap) => {
                self.suspended(SuspendCause::ServerChanged);
                self.node.resync.notify_one();
            }
        }
        self.switch.is(Mutant::TrustAnyRun)
    }

    async fn counted<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        operation.await.map_err(|error| self.l2_failed(error))
    }

    /// Checks stored bytes, judges them by what this node knows, and decodes them.
    pub(crate) fn verdict(
        &self,
        l2: &L2<V>,
        key: &Key,
        stored: &[u8],
        ticket: Ticket,
        options: &Options,
    ) -> Fetched<V> {
        let now = self.node.clock.glance();
        let (seq, header, payload) = match frame::read(l2.format, stored) {
            Ok(parts) => parts,
            Err(Unreadable::Corrupt) => return self.unreadable(key, UnreadableCause::Corrupt, stored),
            Err(Unreadable::OtherFormat) => {
                return self.unreadable(key, UnreadableCause::OtherFormat, stored);
            }
        };
        if self.pending.holds_tag_of(&header.tags) {
            // Invalidated here, and L2 does not know it yet.
            return useless(stored);
        }
        // Whoever judged it, this node may know more by now. Asked after what is pending:
        //
        // 1. an invalidation of a tag fails here, and is to be retried; 2. a get asks L2, which finds a
        //    value of that tag valid; 3. the retry lands: nothing is pending; 4. the get has its answer.
        let (_, partition) = self.node.partition_of(key.as_bytes());
        if seq < partition.floor() || partition.voids_by_tag(&header.tags, seq) {
            return useless(stored);
        }
        let time = match self.server_time() {
            Ok(time) => time,
            Err(error) => return Fetched::Unreachable(error),
        };
        let life = life_of(&header, (time, now), options);
        let phase = life.phase(now);
        if phase == Phase::Over {
            return useless(stored);
        }
        let held = self.l1().and_then(|l1| l1.get(key.as_bytes())).filter(|held| held.token == header.token);
        // Refreshes of it that have failed here stay counted.
        let failures = held.as_ref().map(|held| held.life);
        let value = match held {
            _ if header.absent => None,
            // The same value as before: keep the copy that others may hold.
            Some(held) => held.value,
            None => match l2.decode(payload) {
                Ok(value) => Some(value.into()),
                Err(_) => {
                    self.counters.codec_failures.add(1);
                    return self.unreadable(key, UnreadableCause::Codec, stored);
                }
            },
        };
        let life = match (failures, phase) {
            (None, Phase::Ripe | Phase::Stale) => self.fence.with_postponed(key.as_bytes(), life),
            _ => life.with_failures(failures),
        };
        let Header { token, tags, .. } = header;
        let entry = Entry { value, life, generation: 0, seq, token, tags };
        match phase {
            Phase::Fresh | Phase::Ripe => Fetched::Found(entry, ticket),
            Phase::Stale | Phase::Over => Fetched::Stale(entry, ticket),
        }
    }

    #[cold]
    fn unreadable(&self, key: &Key, cause: UnreadableCause, stored: &[u8]) -> Fetched<V> {
        self.counters.unreadable.add(1);
        self.events.tell(|| Event::Unreadable { key: KeyHash::of(key.as_bytes()), cause });
        useless(stored)
    }
}

/// What is stored does not answer; another value may, which takes its place before the lease is asked for, or
/// while somebody else holds it:
///
/// 1. a value has ended, and is still stored; 2. two nodes read it; 3. one is granted the lease, loads and
///    fills; 4. the other asks. If no value would do for it, it would load again.
///
/// So what was read is refused by its token, which it has whatever else in it is unreadable.
fn useless<V>(stored: &[u8]) -> Fetched<V> {
    Fetched::Absent(token_of(stored).map_or(Accept::Nothing, Accept::Other))
}

/// The life of a stored value, in our time. Its ends are those drawn when it was loaded.
fn life_of(header: &Header, (time, now): (ServerTime, Tick), options: &Options) -> Life {
    let tick = |ms| time.tick_at(ms, now);
    let span = Duration::from_millis(header.expires_ms.saturating_sub(header.loaded_ms));
    let cost = Duration::from_micros(u64::from(header.cost_us));
    Life::new(tick(header.expires_ms), tick(header.ends_ms), span, options.load.ahead(cost))
}
