//! L2: read, check, decode.

use std::time::Duration;

use bytes::Bytes;

use crate::backend::{Accept, Entry, Life, Phase, RunId, Tick};
use crate::coherence::{Mutant, News, Partition, Stamp, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{self, Header, Unreadable};
use crate::key::Key;
use crate::observe::SuspendCause;
use crate::options::EntryOptions;
use crate::shared::{L2, Shared};

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
        options: &EntryOptions,
    ) -> Fetched<V> {
        let Some(l2) = &self.l2 else { return Fetched::Absent(Accept::Any) };
        if let Some(error) = self.refuse_pending(key) {
            return Fetched::Unreachable(error);
        }
        match self.read(l2, key, need).await {
            Ok((Some(stored), floor)) => self.verdict(l2, key, &stored, floor, ticket, options),
            Ok((None, _)) => Fetched::Absent(Accept::Any),
            Err(error) => Fetched::Unreachable(error),
        }
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

    /// Reads the stored bytes, and the floor below which they are void.
    ///
    /// While the node serves, it knows the floor as of `max_staleness` ago, and a plain read is
    /// enough. Otherwise the state is read along; in whichever order the two are executed, a
    /// clear that was complete before this call is in the floor, and the runs are compared.
    async fn read(&self, l2: &L2<V>, key: &Key, need: Option<&Stamp>) -> Result<(Option<Bytes>, u64)> {
        let (index, partition) = self.node.partition_of(key.as_bytes());
        if self.knows(index, partition, need) {
            let read = self.counted(l2.region.get(key)).await?;
            if self.is_about(partition, read.run) {
                return Ok((read.value, partition.floor()));
            }
        }
        for _ in 0..RUN_RETRIES {
            let state = self.read_state(&*l2.region, index);
            let (state, read) = tokio::join!(state, self.counted(l2.region.get(key)));
            let (state, read) = (state?, read?);
            if state.run == read.run {
                return Ok((read.value, state.floor));
            }
        }
        Err(self.server_changed())
    }

    /// The same for many keys: their stored bytes, and for each the floor.
    pub(crate) async fn read_many(
        &self,
        l2: &L2<V>,
        keys: &[Key],
        need: Option<&Stamp>,
    ) -> Result<(Vec<Option<Bytes>>, Vec<u64>)> {
        let of = |key: &Key| self.node.partition_of(key.as_bytes());
        if keys.iter().all(|key| self.knows(of(key).0, of(key).1, need)) {
            let read = self.counted(l2.region.get_many(keys)).await?;
            if keys.iter().all(|key| self.is_about(of(key).1, read.run)) {
                return Ok((read.values, keys.iter().map(|key| of(key).1.floor()).collect()));
            }
        }
        let mut concerned: Vec<u16> = keys.iter().map(|key| of(key).0).collect();
        concerned.sort_unstable();
        concerned.dedup();
        for _ in 0..RUN_RETRIES {
            let states = concerned.iter().map(|index| self.read_state(&*l2.region, *index));
            let states = futures_util::future::try_join_all(states);
            let (states, read) = tokio::join!(states, self.counted(l2.region.get_many(keys)));
            let (states, read) = (states?, read?);
            if states.iter().all(|state| state.run == read.run) {
                let floor = |key| concerned.binary_search(&of(key).0).map_or(u64::MAX, |at| states[at].floor);
                return Ok((read.values, keys.iter().map(floor).collect()));
            }
        }
        Err(self.server_changed())
    }

    /// Whether what this node knows of the partition is recent enough to judge a plain read by.
    fn knows(&self, index: u16, partition: &Partition, need: Option<&Stamp>) -> bool {
        partition.serving_at(self.node.clock.now())
            && need.is_none_or(|stamp| partition.applied() >= stamp.seq(index))
    }

    /// Whether an answer came from the server this node's knowledge is about; if not, the
    /// knowledge is void.
    fn is_about(&self, partition: &Partition, run: RunId) -> bool {
        if partition.doubt(run) == News::Gap {
            self.suspended(SuspendCause::ServerChanged);
            self.node.resync.notify_one();
        }
        partition.run() == Some(run) || self.switch.is(Mutant::TrustAnyRun)
    }

    async fn counted<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        operation.await.map_err(|error| self.l2_failed(error))
    }

    fn server_changed(&self) -> Error {
        self.error(ErrorKind::Backend, "reading from L2 failed: the server changed during every attempt")
    }

    /// Checks and decodes stored bytes.
    pub(crate) fn verdict(
        &self,
        l2: &L2<V>,
        key: &Key,
        stored: &[u8],
        floor: u64,
        ticket: Ticket,
        options: &EntryOptions,
    ) -> Fetched<V> {
        let now = self.node.clock.now();
        let (seq, header, payload) = match frame::read(l2.format, stored) {
            Ok(parts) => parts,
            Err(Unreadable::Corrupt | Unreadable::OtherFormat) => return self.unreadable(),
        };
        if seq < floor {
            return Fetched::Absent(Accept::Any);
        }
        let life = self.life_of(&header, now, options);
        let phase = life.phase(now);
        if phase == Phase::Over {
            return Fetched::Absent(Accept::Nothing);
        }
        let held = self.l1().and_then(|l1| l1.get(key.as_bytes())).filter(|held| held.token == header.token);
        // Refreshes of it that have failed here stay counted.
        let failures = held.as_ref().map(|held| held.life);
        let value = match held {
            _ if header.absent => None,
            // The same value as before: keep the copy that others may hold.
            Some(held) => held.value,
            None => match l2.codec.decode(payload) {
                Ok(value) => Some(value.into()),
                Err(_) => return self.unreadable(),
            },
        };
        let life = life.with_failures(failures);
        let entry = Entry { value, life, generation: 0, seq, token: header.token };
        match phase {
            Phase::Fresh | Phase::Ripe => Fetched::Found(entry, ticket),
            Phase::Stale | Phase::Over => Fetched::Stale(entry, ticket),
        }
    }

    /// The life of a stored value, in our time. Its ends are those drawn when it was loaded.
    fn life_of(&self, header: &Header, now: Tick, options: &EntryOptions) -> Life {
        let tick = |ms| self.node.server_clock.tick_at(ms, now);
        let span = Duration::from_millis(header.expires_ms.saturating_sub(header.loaded_ms));
        let cost = Duration::from_micros(u64::from(header.cost_us));
        Life::new(tick(header.expires_ms), tick(header.ends_ms), span, options.ahead(cost))
    }

    fn unreadable(&self) -> Fetched<V> {
        self.counters.unreadable.add(1);
        Fetched::Absent(Accept::Nothing)
    }
}

/// How often a read is repeated because the server was replaced between its two halves.
const RUN_RETRIES: usize = 3;
