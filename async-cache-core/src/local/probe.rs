//! The probe of L1: whether its entry for a key may answer.

use crate::backend::{Effect, Entry, HitCheck, Phase, Tick};
use crate::faults::mutant::Mutant;
#[cfg(all(test, shuttle))]
use crate::faults::planted;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::local::l1::L1;
use crate::local::request::Answer;
use crate::local::sample::Sampler;

/// What L1 has for a key.
#[derive(Debug)]
pub(crate) enum Probe<V> {
    /// An entry that answers.
    Hit(Entry<V>),
    /// An entry that answers, and that may be refreshed already.
    Ripe(Entry<V>),
    /// An expired entry, which is a fallback.
    Stale(Entry<V>),
    /// An entry that would answer, but is past its cap in L1. L2 must be asked.
    Capped(Entry<V>),
    /// An entry that has not expired. A change may have been missed since, so L2 must confirm it.
    Unverified(Entry<V>),
    /// Nothing.
    Miss,
}

/// What must be known before the entry is read.
struct Checked<'a> {
    /// Whether the node's serving lease lasts.
    serving: bool,
    /// The sequence number that the entry must reflect.
    min_seq: u64,
    entry: HitCheck<'a>,
}

impl<V: 'static> L1<V> {
    /// Reads what must be read before the entry.
    ///
    /// The order of the steps matters. Each of them would be wrong if it came later:
    ///
    /// 1. the clock has been read; the serving lease is checked;
    /// 2. `applied` is read, if the get carries a stamp, and then the generation;
    /// 3. the entry is read;
    /// 4. the entry's tags are looked up, if it has any.
    ///
    /// With 3 before 1: the entry is read; the process stalls; another node invalidates the key; the process
    /// continues, receives the invalidation and extends its serving lease; the check of the lease succeeds,
    /// and the old entry answers. With 2 before 1 the same error is possible if the generation rises in
    /// between. With the generation before `applied`, a get with a stamp can get an old entry: a new baseline
    /// raises both, the generation first. With 4 before 1 the same error is possible with an invalidation of
    /// a tag. Step 4 comes last, so that it sees more changes.
    #[inline(always)]
    fn check<'a>(
        key: &'a [u8],
        index: u16,
        partition: &'a Partition,
        now: Tick,
        min_stamp: Option<&Stamp>,
    ) -> Checked<'a> {
        #[cfg(all(test, shuttle))]
        let early = partition.generation();
        let serving = partition.serving_at(now);
        let min_seq = min_stamp.map_or(0, |stamp| unapplied(stamp, index, partition));
        let generation = partition.generation();
        #[cfg(all(test, shuttle))]
        let generation = if planted!(GenerationFirst) { early } else { generation };
        Checked { serving, min_seq, entry: HitCheck::new(key, now, generation, partition.tags()) }
    }

    /// A counted hit, or nothing. A [probe](Self::probe) finds everything else.
    #[inline(always)]
    pub(crate) fn hit_at_once(&self, key: &[u8], absent_ok: bool) -> Option<Answer<V>> {
        let answer = self.hit(key)?;
        if answer.is_none() && !absent_ok {
            return None;
        }
        self.hits.increment();
        Some(answer)
    }

    /// A counted hit of a lookup of many keys or of a data loader, or nothing. The verifier chooses none of these.
    #[inline(always)]
    pub(crate) fn hit_of_many(&self, key: &[u8], min_stamp: Option<&Stamp>) -> Option<Answer<V>> {
        if min_stamp.is_some() {
            return None;
        }
        let answer = match &self.sampler {
            None => self.hit(key),
            Some(_) => self.hit_in_partition(key),
        };
        answer.inspect(|_| self.hits.increment())
    }

    /// The answer of L1 to a lookup without a stamp, if L1 has one. Apart from encoding the key and counting,
    /// this function is the whole of a hit. A lookup without an answer probes again.
    ///
    /// No call that is not inlined comes before the engine's, so that no registers are spilled.
    #[inline(never)]
    pub(crate) fn hit(&self, key: &[u8]) -> Option<Answer<V>> {
        let Some(now) = self.liveness.node.clock.cached_now() else { return self.hit_at_length(key) };
        let Some(partition) = self.liveness.node.only_partition() else { return self.hit_at_length(key) };
        self.judged(key, 0, partition, now)
    }

    /// A hit when the system's clock must be read, when there are several partitions, or when there is a
    /// verifier. If the verifier chooses the lookup, nothing answers here.
    #[inline(never)]
    fn hit_at_length(&self, key: &[u8]) -> Option<Answer<V>> {
        if self.sampler.as_ref().is_some_and(Sampler::chooses) {
            return None;
        }
        self.hit_in_partition(key)
    }

    fn hit_in_partition(&self, key: &[u8]) -> Option<Answer<V>> {
        let (index, partition) = self.liveness.node.partition_of(key);
        self.judged(key, index, partition, self.liveness.node.clock.coarse_now())
    }

    /// Lets the verifier choose a lookup that does not try to end as a hit at once: one that is traced or has a stamp.
    pub(crate) fn choose(&self) {
        if let Some(sampler) = &self.sampler {
            sampler.chooses();
        }
    }

    #[inline(always)]
    fn judged(&self, key: &[u8], index: u16, partition: &Partition, now: Tick) -> Option<Answer<V>> {
        let Checked { serving, entry, .. } = Self::check(key, index, partition, now, None);
        if serving { self.answer(&entry) } else { None }
    }

    /// The entry of L1, whether it may answer or not.
    #[cold]
    pub(crate) fn probe(&self, key: &[u8], min_stamp: Option<&Stamp>) -> Probe<V> {
        let Some(l1) = self.engine() else { return Probe::Miss };
        let (index, partition) = self.liveness.node.partition_of(key);
        let now = self.liveness.node.clock.coarse_now();
        let checked = Self::check(key, index, partition, now, min_stamp);
        let Some(mut entry) = l1.get(key) else { return Probe::Miss };
        let done = checked.entry.done_to(&entry);
        if done == Some(Effect::Expire) {
            entry.life = entry.life.expired(now);
        }
        let min_seq = match min_stamp {
            // An entry that a change has expired does not reflect every change that the node has applied. Without an L2
            // changes have no numbers to compare.
            Some(_) if entry.life.by_change && !self.has_l2 => u64::MAX,
            Some(stamp) if entry.life.by_change || !self.vouches(key, partition) => stamp.seq(index),
            _ => checked.min_seq,
        };
        let verified = checked.serving
            && entry.seq >= min_seq
            && checked.entry.is_current(&entry)
            && done != Some(Effect::Void);
        let must_ask = entry.life.must_ask(now);
        match (entry.life.phase(now), verified) {
            (Phase::Fresh | Phase::Ripe, true) if must_ask => Probe::Capped(entry),
            (Phase::Fresh, true) => Probe::Hit(entry),
            (Phase::Ripe, true) => Probe::Ripe(entry),
            (Phase::Stale, true) => Probe::Stale(entry),
            (Phase::Fresh | Phase::Ripe, false) => Probe::Unverified(entry),
            (Phase::Stale, false) | (Phase::Expired, _) => Probe::Miss,
        }
    }

    /// Whether `applied` says anything about an entry. It must be asked after the entry is read.
    fn vouches(&self, key: &[u8], partition: &Partition) -> bool {
        self.stripes.vouches(key, partition.proven()) || self.faults.is(Mutant::ForgetNumbers)
    }

    /// The entry of L1 that has not expired. It is verified, or its own number is at least the number that
    /// the stamp requires. `applied` does not help here: it says nothing about an entry of an older
    /// generation.
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

/// The number that an entry must reflect. It is 0 if this node has applied every change that the stamp
/// requires.
#[cold]
#[inline(never)]
fn unapplied(stamp: &Stamp, index: u16, partition: &Partition) -> u64 {
    let min_seq = stamp.seq(index);
    if partition.applied() >= min_seq { 0 } else { min_seq }
}
