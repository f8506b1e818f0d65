//! L1: the freshness verdict on what it holds.

use std::time::Duration;

use crate::backend::{Entry, Phase, Tick};
use crate::coherence::{Admitted, Stamp, Ticket};
use crate::key::Key;
use crate::shared::Shared;

/// What L1 has for a key.
#[derive(Debug)]
pub(crate) enum Probe<V> {
    /// An entry that answers.
    Hit(Entry<V>),
    /// An entry that answers, and may be refreshed already.
    Ripe(Entry<V>),
    /// An entry that has expired, and is a fallback.
    Stale(Entry<V>),
    /// An entry within its life, but something may have changed since: L2 must confirm it.
    Unverified(Entry<V>),
    /// Nothing.
    Miss,
}

impl<V: 'static> Shared<V> {
    /// Looks into L1. This is the whole cost of a hit, apart from encoding the key.
    ///
    /// The order matters. Each step would be wrong after the next:
    ///
    /// 1. the clock is read and the serving lease checked;
    /// 2. the generation and what has been applied are read;
    /// 3. the entry is read.
    ///
    /// With 3 before 1: the entry is read; the process is stopped; elsewhere the key is
    /// invalidated; the process goes on, hears of it and renews its lease; the lease is checked,
    /// live, and the old entry answers. With 2 before 1 the same happens by way of a flush.
    #[inline]
    pub(crate) fn probe(&self, key: &[u8], need: Option<&Stamp>) -> Probe<V> {
        let Some(l1) = self.l1() else { return Probe::Miss };
        let (index, partition) = self.node.partition_of(key);
        let now = self.node.clock.now();
        let serving = partition.serving_at(now);
        let generation = partition.generation();
        let applied = need.map(|stamp| (stamp.seq(index), partition.applied()));

        let Some(entry) = l1.get(key) else { return Probe::Miss };
        let late_enough = applied.is_none_or(|(need, applied)| applied >= need || entry.seq >= need);
        let verified = serving && entry.generation == generation && late_enough;
        if verified && now < entry.life.due {
            return Probe::Hit(entry);
        }
        Self::aged(entry, now, verified)
    }

    #[cold]
    fn aged(entry: Entry<V>, now: Tick, verified: bool) -> Probe<V> {
        match (entry.life.phase(now), verified) {
            (Phase::Fresh, true) => Probe::Hit(entry),
            (Phase::Ripe, true) => Probe::Ripe(entry),
            (Phase::Stale, true) => Probe::Stale(entry),
            (Phase::Fresh | Phase::Ripe, false) => Probe::Unverified(entry),
            (Phase::Stale, false) | (Phase::Over, _) => Probe::Miss,
        }
    }

    /// What L1 holds within its life, verified or not.
    pub(crate) fn held(&self, key: &[u8]) -> Option<Entry<V>> {
        match self.probe(key, None) {
            Probe::Hit(entry) | Probe::Ripe(entry) | Probe::Unverified(entry) => Some(entry),
            Probe::Stale(_) | Probe::Miss => None,
        }
    }

    pub(crate) fn ticket(&self, key: &Key) -> Ticket {
        let (_, partition) = self.node.partition_of(key.as_bytes());
        self.fence.ticket(key.as_bytes(), partition)
    }

    /// An entry as L1 may keep it: no longer than `l1_ttl`.
    pub(crate) fn capped(&self, entry: Entry<V>, l1_ttl: Option<Duration>) -> Entry<V> {
        let cap = l1_ttl.map_or(Tick::MAX, |cap| self.node.clock.now().after(cap));
        Entry { life: entry.life.capped(cap), ..entry }
    }

    /// Offers to L1 what was read or written outside a flight.
    pub(crate) fn admit(&self, key: &Key, ticket: Ticket, entry: Entry<V>, l1_ttl: Option<Duration>) {
        let Some(l1) = self.l1() else { return };
        let entry = self.capped(entry, l1_ttl);
        let (_, partition) = self.node.partition_of(key.as_bytes());
        if self.fence.admit(l1, key, partition, ticket, entry) == Admitted::Rejected {
            self.rejected(key);
        }
    }
}
