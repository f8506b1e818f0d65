//! L1: the freshness verdict on what it holds.

use crate::backend::{Entry, HitCheck, LocalBackend, Phase, Tick};
use crate::faults::mutant::Mutant;
#[cfg(all(test, shuttle))]
use crate::faults::planted;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::approach::{Answer, Want};
use crate::local::l1::L1;

/// What L1 has for a key.
#[derive(Debug)]
pub(crate) enum Probe<V> {
    /// An entry that answers.
    Hit(Entry<V>),
    /// An entry that answers, and may be refreshed already.
    Ripe(Entry<V>),
    /// An entry that has expired, and is a fallback.
    Stale(Entry<V>),
    /// An entry that would answer, were it not past its cap in L1: L2 must be asked.
    Capped(Entry<V>),
    /// An entry within its life, but something may have changed since: L2 must confirm it.
    Unverified(Entry<V>),
    /// Nothing.
    Miss,
}

/// Whether the node's serving lease is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    Yes,
    No,
}

impl<V: 'static> L1<V> {
    /// What is read before an entry: whether the node serves, the number an entry must reflect, the rest.
    ///
    /// The order matters. Each step would be wrong after the next:
    ///
    /// 1. the clock has been read; the serving lease is checked;
    /// 2. what has been applied is read, if it matters, and then the generation;
    /// 3. the entry is read;
    /// 4. its tags are looked up, if it has any.
    ///
    /// With 3 before 1: the entry is read; the process is stopped; elsewhere the key is
    /// invalidated; the process goes on, hears of it and renews its lease; the lease is checked,
    /// live, and the old entry answers. With 2 before 1 the same happens by way of a flush;
    /// and with the generation before what has been applied, to a get that insists on a stamp: a new
    /// baseline moves both, in this order. With 4 before 1 it happens by way of a tag; that 4 comes
    /// last only lets it see more.
    #[inline(always)]
    fn check<'a>(
        key: &'a [u8],
        (index, partition): (u16, &'a Partition),
        now: Tick,
        min_stamp: Option<&Stamp>,
    ) -> (Serving, u64, HitCheck<'a>) {
        #[cfg(all(test, shuttle))]
        let early = partition.generation();
        let serving = if partition.serving_at(now) { Serving::Yes } else { Serving::No };
        let min_seq = min_stamp.map_or(0, |stamp| unapplied(stamp, index, partition));
        let generation = partition.generation();
        #[cfg(all(test, shuttle))]
        let generation = if planted!(GenerationFirst) { early } else { generation };
        (serving, min_seq, HitCheck::new(key, now, generation, partition.tags()))
    }

    /// A hit and nothing else, counted. Whatever else there is, a [probe](Self::probe) finds.
    #[inline(always)]
    pub(crate) fn hit_at_once(&self, key: &[u8], min_stamp: Option<&Stamp>, want: Want) -> Option<Answer<V>> {
        if min_stamp.is_some() {
            return None;
        }
        let answer = self.hit(key)?;
        if !want.accepts(&answer) {
            return None;
        }
        self.hits.increment();
        Some(answer)
    }

    /// The answer of L1 to a lookup that asks for nothing special, if it has one. Apart from encoding the
    /// key and counting this is all of a hit; whatever gets none probes again.
    ///
    /// No call that is not inlined comes before the engine, so that no registers are spilled.
    #[inline(never)]
    pub(crate) fn hit(&self, key: &[u8]) -> Option<Answer<V>> {
        let Some(now) = self.liveness.node.clock.cached_now() else { return self.hit_at_length(key) };
        let Some(partition) = self.liveness.node.only_partition() else { return self.hit_at_length(key) };
        Self::answer(self.engine()?, key, (0, partition), now)
    }

    /// The same where the clock has to be asked, or the partition looked for.
    #[inline(never)]
    fn hit_at_length(&self, key: &[u8]) -> Option<Answer<V>> {
        let partition = self.liveness.node.partition_of(key);
        Self::answer(self.engine()?, key, partition, self.liveness.node.clock.coarse_now())
    }

    #[inline(always)]
    fn answer(
        l1: &dyn LocalBackend<V>,
        key: &[u8],
        partition: (u16, &Partition),
        now: Tick,
    ) -> Option<Answer<V>> {
        let (Serving::Yes, _, check) = Self::check(key, partition, now, None) else { return None };
        l1.answer(&check)
    }

    /// What L1 has, whether it may answer or not.
    #[cold]
    pub(crate) fn probe(&self, key: &[u8], min_stamp: Option<&Stamp>) -> Probe<V> {
        let Some(l1) = self.engine() else { return Probe::Miss };
        let (partition, now) = (self.liveness.node.partition_of(key), self.liveness.node.clock.coarse_now());
        let (serving, unapplied, check) = Self::check(key, partition, now, min_stamp);
        let Some(entry) = l1.get(key) else { return Probe::Miss };
        let min_seq = match min_stamp {
            Some(stamp) if !self.vouches(key, partition.1) => stamp.seq(partition.0),
            _ => unapplied,
        };
        let verified = serving == Serving::Yes && entry.seq >= min_seq && check.verifies(&entry);
        let must_ask = entry.life.must_ask(check.now());
        match (entry.life.phase(check.now()), verified) {
            (Phase::Fresh | Phase::Ripe, true) if must_ask => Probe::Capped(entry),
            (Phase::Fresh, true) => Probe::Hit(entry),
            (Phase::Ripe, true) => Probe::Ripe(entry),
            (Phase::Stale, true) => Probe::Stale(entry),
            (Phase::Fresh | Phase::Ripe, false) => Probe::Unverified(entry),
            (Phase::Stale, false) | (Phase::Expired, _) => Probe::Miss,
        }
    }

    /// Whether what has been applied says anything of an entry: asked after it is found.
    fn vouches(&self, key: &[u8], partition: &Partition) -> bool {
        self.stripes.vouches(key, partition.proven()) || self.faults.is(Mutant::ForgetNumbers)
    }

    /// What L1 holds within its life: verified, or else by its own number no older than `need`. That all
    /// changes up to `need` have been applied says nothing of an entry from before a flush.
    pub(crate) fn held(&self, key: &[u8], min_stamp: Option<&Stamp>) -> Option<Entry<V>> {
        let (index, _) = self.liveness.node.partition_of(key);
        match self.probe(key, min_stamp) {
            Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Capped(entry) => Some(entry),
            Probe::Unverified(entry) if min_stamp.is_none_or(|stamp| entry.seq >= stamp.seq(index)) => {
                Some(entry)
            }
            Probe::Unverified(_) | Probe::Stale(_) | Probe::Miss => None,
        }
    }
}

/// What is left of a need, if not everything up to it is known to be reflected in L1.
#[cold]
#[inline(never)]
fn unapplied(stamp: &Stamp, index: u16, partition: &Partition) -> u64 {
    let min_seq = stamp.seq(index);
    if partition.applied() >= min_seq { 0 } else { min_seq }
}
