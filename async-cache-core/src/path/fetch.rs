//! L2: read, check, decode.

use bytes::Bytes;

use crate::backend::{Entry, RunId};
use crate::coherence::{Mutant, News, Partition, Stamp, Ticket};
use crate::error::{Error, ErrorKind, Result};
use crate::frame::{self, Unreadable};
use crate::key::Key;
use crate::shared::{L2, Shared};

/// What L2 had.
#[derive(Debug)]
pub(crate) enum Fetched<V> {
    /// A valid value, and the ticket under which L1 may have it.
    Found(Entry<V>, Ticket),
    /// None.
    Absent(Trust),
    /// It could not be asked, or must not be.
    Unreachable(Error),
}

/// Whether a stored value may answer when the lease is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// A valid stored value is welcome.
    Stored,
    /// What is stored is unreadable or unwanted: overwrite it.
    Nothing,
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Reads a key from L2, unless it holds what was invalidated here and could not yet be removed there.
    pub(super) async fn fetch_unless_pending(
        &self,
        key: &Key,
        need: Option<&Stamp>,
        ticket: Ticket,
    ) -> Fetched<V> {
        let Some(l2) = &self.l2 else { return Fetched::Absent(Trust::Stored) };
        if self.pending.covers(key.as_bytes()) && !self.switch.is(Mutant::ReadPastPending) {
            return Fetched::Unreachable(self.error(
                ErrorKind::Backend,
                "an invalidation of this key has not reached L2 yet, so L2 cannot answer for it",
            ));
        }
        match self.read(l2, key, need).await {
            Ok((Some(stored), floor)) => self.verdict(l2, key, &stored, floor, ticket),
            Ok((None, _)) => Fetched::Absent(Trust::Stored),
            Err(error) => Fetched::Unreachable(error),
        }
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
    pub(super) async fn read_many(
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
    pub(super) fn verdict(
        &self,
        l2: &L2<V>,
        key: &Key,
        stored: &[u8],
        floor: u64,
        ticket: Ticket,
    ) -> Fetched<V> {
        let now = self.node.clock.now();
        let (seq, header, payload) = match frame::read(l2.format, stored) {
            Ok(parts) => parts,
            Err(Unreadable::Corrupt | Unreadable::OtherFormat) => return self.unreadable(),
        };
        if seq < floor {
            return Fetched::Absent(Trust::Stored);
        }
        let Some(left) = self.node.server_clock.left_until(header.expires_ms, now) else {
            return Fetched::Absent(Trust::Nothing);
        };
        let held = self.l1().and_then(|l1| l1.get(key.as_bytes())).filter(|held| held.token == header.token);
        let value = match held {
            _ if header.absent => None,
            // The same value as before: keep the copy that others may hold.
            Some(held) => held.value,
            None => match l2.codec.decode(payload) {
                Ok(value) => Some(value.into()),
                Err(_) => return self.unreadable(),
            },
        };
        let entry = Entry { value, expires: now.after(left), generation: 0, seq, token: header.token };
        Fetched::Found(entry, ticket)
    }

    fn unreadable(&self) -> Fetched<V> {
        self.counters.unreadable.add(1);
        Fetched::Absent(Trust::Nothing)
    }
}

/// How often a read is repeated because the server was replaced between its two halves.
const RUN_RETRIES: usize = 3;
