//! One node of the fleet, and the partitions of its namespace.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Known, NodeId, Tick, Token};
use crate::faults::mutant::{Mutant, Switch};
use crate::format::key::{Key, partition_of};
use crate::liveness::clock::Clock;
use crate::liveness::ledger::Ledger;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::sync::{AtomicU64, Mutex, Notify, Ordering};

/// How far ahead of the server's clock, in µs, a sequence may be: a year, as for L2.
const MAX_AHEAD: u64 = 365 * 24 * 3600 * 1_000_000;

/// One node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) clock: Clock,
    opened: Tick,
    /// What the verifier notes, if there is one.
    pub(crate) ledger: Option<Ledger>,
    pub(crate) max_staleness: Duration,
    /// Wakes the task that reads new baselines.
    pub(crate) resync: Notify,
    partitions: Box<[Partition]>,
    counter: AtomicU64,
    beats: AtomicU64,
    pub(crate) faults: Switch,
}

impl Node {
    pub(crate) fn new(
        id: NodeId,
        partitions: u16,
        known: &Known,
        max_staleness: Duration,
        switch: Switch,
    ) -> Self {
        known.begin(partitions);
        let generations = Arc::<Mutex<u64>>::default();
        let partition =
            |index| Partition::suspended(index, partitions, known.clone(), Arc::clone(&generations), switch);
        let clock = Clock::start();
        Self {
            id,
            opened: clock.now(),
            ledger: None,
            clock,
            max_staleness,
            resync: Notify::new(),
            partitions: (0..partitions.max(1)).map(partition).collect(),
            counter: AtomicU64::new(0),
            beats: AtomicU64::new(0),
            faults: switch,
        }
    }

    /// A node without a fleet. No other node can make changes.
    pub(crate) fn alone(id: NodeId, faults: Switch) -> Self {
        let node = Self::new(id, 1, &Known::default(), Duration::MAX, faults);
        node.partitions[0].serve_for_good();
        node
    }

    /// A node whose hits may be sampled for the verifier.
    pub(crate) fn watched(self) -> Self {
        Self { clock: self.clock.watched(), ledger: Some(Ledger::new()), ..self }
    }

    pub(crate) fn next_token(&self) -> Token {
        let counter = match self.faults.is(Mutant::TokenSharedPerClient) {
            true => 1,
            false => self.counter.fetch_add(1, Ordering::Relaxed) + 1,
        };
        Token { node: self.id, counter }
    }

    #[inline]
    pub(crate) fn partition_count(&self) -> u16 {
        self.partitions.len() as u16
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = (u16, &Partition)> {
        (0..).zip(&self.partitions[..])
    }

    #[inline]
    pub(crate) fn partition_of(&self, key: &[u8]) -> (u16, &Partition) {
        match &*self.partitions {
            [only] => (0, only),
            many => Self::partition_among(many, key),
        }
    }

    /// The partition, if there is only one.
    #[inline]
    pub(crate) fn only_partition(&self) -> Option<&Partition> {
        match &*self.partitions {
            [only] => Some(only),
            _ => None,
        }
    }

    /// The partitions of these keys, without repetition.
    pub(crate) fn partitions_of(&self, keys: &[Key]) -> Vec<(u16, &Partition)> {
        if let [only] = &*self.partitions {
            return vec![(0, only)];
        }
        let mut found: Vec<_> = keys.iter().map(|key| self.partition_of(key.as_bytes())).collect();
        found.sort_unstable_by_key(|(index, _)| *index);
        found.dedup_by_key(|(index, _)| *index);
        found
    }

    #[inline(never)]
    fn partition_among<'a>(many: &'a [Partition], key: &[u8]) -> (u16, &'a Partition) {
        let index = partition_of(key, many.len() as u16);
        (index, &many[usize::from(index)])
    }

    /// Notes that the namespace has reached this stamp: some caller has received it. A number that no server can
    /// have reached yet is not noted. L2 ignores it, and would then ignore the true numbers of this node, too.
    pub(crate) fn knows(&self, stamp: &Stamp) {
        for (index, seq) in stamp.seqs() {
            let Some(partition) = self.partition(index) else { continue };
            let time = partition.server_clock.known().map(|time| time.at(self.clock.now()));
            let limit = time.map_or(u64::MAX, |ms| ms.saturating_mul(1_000).saturating_add(MAX_AHEAD));
            if seq <= limit {
                partition.knows(seq);
            }
        }
    }

    /// The partition with this index. The index comes from the bus, so it may be wrong.
    pub(crate) fn partition(&self, index: u16) -> Option<&Partition> {
        self.partitions.get(usize::from(index))
    }

    /// The age of the oldest proof, among those of the partitions, that this node knows every change. Before
    /// the first proof it is the age of the node.
    pub(crate) fn serving_lease_age(&self) -> Duration {
        let oldest =
            self.partitions.iter().map(|partition| partition.proved_at().unwrap_or(self.opened)).min();
        self.clock.now().since(oldest.unwrap_or(self.opened))
    }

    pub(crate) fn is_serving(&self) -> bool {
        let now = self.clock.now();
        self.partitions.iter().all(|partition| partition.serving_at(now))
    }

    /// For each partition whether L1 may answer for it.
    #[cfg(feature = "testing")]
    pub(crate) fn serving_partitions(&self) -> Vec<bool> {
        let now = self.clock.now();
        self.partitions.iter().map(|partition| partition.serving_at(now)).collect()
    }

    /// Stops L1 permanently.
    pub(crate) fn retire(&self) {
        self.partitions.iter().for_each(Partition::lost);
    }

    /// The number of the next heartbeat.
    pub(crate) fn next_beat(&self) -> u64 {
        self.beats.load(Ordering::Acquire) + 1
    }

    /// Notes the time and returns the number of a heartbeat that is about to be sent.
    pub(crate) fn begin_beat(&self, partition: &Partition) -> u64 {
        let beat = self.beats.fetch_add(1, Ordering::Relaxed) + 1;
        let sent = self.clock.now();
        partition.beat_begun(beat, sent);
        beat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_of_few_partitions() {
        let keys: Vec<Key> = (0..100).map(|i| Key::from_encoded(format!("k{i}").as_bytes())).collect();
        for count in [1, 4] {
            let node =
                Node::new(NodeId(1), count, &Known::default(), Duration::from_secs(1), Switch::default());
            let indexes: Vec<u16> = node.partitions_of(&keys).iter().map(|(index, _)| *index).collect();
            assert_eq!(indexes, (0..count).collect::<Vec<_>>());
        }
    }
}
