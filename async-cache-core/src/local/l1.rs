//! [`L1`]: the tier in this process, the rules for the freshness of its entries, and the probe: whether its entry for a
//! key may answer.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Effect, Entry, Expiry, HitCheck, LocalBackend, Phase, Tick};
use crate::error::{ErrorKind, Result};
use crate::faults::mutant::{Mutant, Switch};
#[cfg(all(test, shuttle))]
use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::liveness::node::Node;
use crate::liveness::partition::Partition;
use crate::liveness::stamp::Stamp;
use crate::liveness::state::Liveness;
use crate::local::flight::Ticket;
use crate::local::request::{Answer, FirstTier};
use crate::local::sample::Sampler;
use crate::local::stripe::Admitted;
use crate::local::stripes::Stripes;
use crate::observe::{Observer, StripedCounter};
use crate::options::{Options, OutagePolicy, StoreOptions, Term, Verify};

thread_local! {
    /// Whether the lookup that this thread is beginning was chosen.
    static CHOSEN: Cell<bool> = const { Cell::new(false) };
}

/// L1 of one node: an engine, if there is one, and the stripes that decide what it may store.
pub(crate) struct L1<V> {
    /// [`NoEngine`] if there is no L1, so that a hit need not ask.
    engine: Box<dyn LocalBackend<V>>,
    exists: bool,
    pub(crate) stripes: Stripes<V>,
    /// Whether L1 may answer. The field is not behind a pointer, because every hit reads it.
    pub(crate) liveness: Liveness,
    /// The number of hits. The field is not behind a pointer, because every hit raises it.
    pub(crate) hits: StripedCounter,
    pub(crate) observer: Arc<Observer>,
    pub(crate) faults: Switch,
    pub(crate) outage: OutagePolicy,
    /// Chooses hits for the verifier, if there is one.
    pub(crate) sampler: Option<Sampler<V>>,
    /// Whether there is an L2 that can confirm an entry past its cap.
    pub(crate) has_l2: bool,
}

impl<V: 'static> L1<V> {
    pub(crate) fn new(
        engine: Option<Box<dyn LocalBackend<V>>>,
        liveness: Liveness,
        outage: OutagePolicy,
        verify: Option<Verify<V>>,
        has_l2: bool,
    ) -> Arc<Self> {
        let faults = liveness.node.faults;
        Arc::new(Self {
            exists: engine.is_some(),
            engine: engine.unwrap_or_else(|| Box::new(NoEngine)),
            stripes: Stripes::new(faults),
            hits: StripedCounter::default(),
            observer: Arc::clone(&liveness.observer),
            liveness,
            faults,
            outage,
            sampler: verify.map(Sampler::new),
            has_l2,
        })
    }

    /// The time of the node's clock.
    #[inline]
    pub(crate) fn now(&self) -> Tick {
        self.liveness.node.clock.now()
    }

    /// The time, or a time shortly before it.
    #[inline]
    pub(crate) fn coarse_now(&self) -> Tick {
        self.liveness.node.clock.coarse_now()
    }

    /// The partition of a key, and its index.
    #[inline]
    pub(crate) fn partition_of(&self, key: &[u8]) -> (u16, &Partition) {
        self.liveness.node.partition_of(key)
    }

    #[inline]
    pub(crate) fn engine(&self) -> Option<&dyn LocalBackend<V>> {
        self.exists.then_some(&*self.engine)
    }

    /// The value under a key, if the entry of L1 may answer. Without an L1 there is none.
    #[inline(always)]
    pub(crate) fn answer(&self, check: &HitCheck<'_>) -> Option<Answer<V>> {
        self.engine.answer(check)
    }

    /// Refuses options that contradict one another, or that need an L1 if there is none.
    pub(crate) fn check_options(&self, options: &Options) -> Result<()> {
        let checked = options.validate().and_then(|()| options.store.check_tiers(self.exists()));
        checked.map_err(|error| error.in_namespace(&self.observer.namespace))
    }

    /// Refuses options of an insert that contradict one another, or that need an L1 if there is none.
    pub(crate) fn check_store_options(&self, options: &StoreOptions) -> Result<()> {
        let checked = options.validate().and_then(|()| options.check_tiers(self.exists()));
        checked.map_err(|error| error.in_namespace(&self.observer.namespace))
    }

    /// Refuses a lookup past L1 if there is no other tier.
    pub(crate) fn check_first_tier(&self, first_tier: FirstTier) -> Result<()> {
        if first_tier == FirstTier::L2 && !self.has_l2 {
            let message = "`skip_l1` has no tier to ask without an L2: call `l2` on the builder, use `refresh` to load \
                           the key although it is cached, or leave `skip_l1` out";
            return Err(self.observer.error(ErrorKind::Config, message));
        }
        Ok(())
    }

    /// Whether there is an L1.
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// A ticket for a read outside a flight. It only decides whether L1 may store the value.
    pub(crate) fn ticket_to_read(&self, key: &Key) -> Ticket {
        if self.exists() { self.ticket(key) } else { Ticket::NONE }
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let (_, partition) = self.liveness.node.partition_of(key.as_bytes());
        self.stripes.ticket(key.as_bytes(), partition)
    }

    /// The entry as L1 may keep it. After `l1_ttl` L2 must confirm it. Without an L2 it is gone after
    /// `l1_ttl`.
    pub(crate) fn capped(&self, entry: Entry<V>, l1_ttl: Option<Duration>) -> Entry<V> {
        let cap = l1_ttl.map_or(Tick::MAX, |cap| self.liveness.node.clock.now().after(cap));
        let life = match !self.has_l2 || self.faults.is(Mutant::CapMeansStale) {
            true => entry.life.cut_at(cap),
            false => entry.life.asking_from(cap),
        };
        Entry { life, ..entry }
    }

    /// Offers a value to L1 that was read or written outside a flight.
    pub(crate) fn admit(&self, key: &Key, ticket: Ticket, entry: Entry<V>, l1_ttl: Option<Duration>) {
        let Some(l1) = self.engine() else { return };
        let entry = self.capped(entry, l1_ttl);
        let (_, partition) = self.liveness.node.partition_of(key.as_bytes());
        if self.stripes.admit(l1, key, partition, ticket, entry) == Admitted::Rejected {
            self.observer.fill_rejected(key.as_bytes());
        }
    }
}

/// Stands for an L1 that is not there: it holds nothing.
struct NoEngine;

impl<V> LocalBackend<V> for NoEngine {
    fn get(&self, _: &[u8]) -> Option<Entry<V>> {
        None
    }

    fn insert(&self, _: &Key, _: Entry<V>) {}

    fn remove(&self, _: &[u8]) {}

    fn clear(&self) {}

    fn len(&self) -> u64 {
        0
    }
}

/// The parts of a new entry.
pub(crate) struct NewEntry<'a, V> {
    pub(crate) value: Answer<V>,
    pub(crate) term: Term,
    /// How long before its expiry the entry may be refreshed.
    pub(crate) ahead: Duration,
    /// The entry reflects every change up to this number.
    pub(crate) seq: u64,
    pub(crate) tags: &'a Tags,
}

/// Makes an entry with its own token. Its life begins now.
pub(crate) fn new_entry<V>(node: &Node, new: NewEntry<'_, V>) -> Entry<V> {
    let NewEntry { value, term, ahead, seq, tags } = new;
    let now = node.clock.now();
    let life = Expiry::new(now.after(term.ttl), now.after(term.kept()), term.ttl, ahead);
    Entry { value, life, generation: 0, seq, token: node.next_token(), tags: tags.clone() }
}

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
        if self.choose() { None } else { self.hit_in_partition(key) }
    }

    fn hit_in_partition(&self, key: &[u8]) -> Option<Answer<V>> {
        let (index, partition) = self.liveness.node.partition_of(key);
        self.judged(key, index, partition, self.liveness.node.clock.coarse_now())
    }

    /// Lets the verifier choose the lookup that is beginning, and returns whether it did. A chosen lookup does not end as a
    /// hit at once. It takes the longer path, which has the whole entry.
    pub(crate) fn choose(&self) -> bool {
        let chosen = self.sampler.as_ref().is_some_and(Sampler::draws);
        if chosen {
            CHOSEN.set(true);
        }
        chosen
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

/// Whether the lookup that this thread is beginning was chosen. It resets the choice for the next lookup.
pub(crate) fn take_choice() -> bool {
    CHOSEN.take()
}
