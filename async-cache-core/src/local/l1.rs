//! [`L1`]: the tier in this process, and the rules for the freshness of its entries.

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Entry, Expiry, HitCheck, LocalBackend, Tick};
use crate::error::Result;
use crate::faults::mutant::{Mutant, Switch};
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::liveness::node::Node;
use crate::liveness::state::Liveness;
use crate::local::request::Answer;
use crate::local::sample::Sampler;
use crate::local::stripe::Admitted;
use crate::local::stripes::Stripes;
use crate::local::ticket::Ticket;
use crate::observe::{Observer, StripedCounter};
use crate::options::{Options, OutagePolicy, StoreOptions, Term, Verify};

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
