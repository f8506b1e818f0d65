//! L1: the freshness verdict on what it holds.

use std::time::Duration;

use super::{Answer, Want};
use crate::backend::{Entry, Phase, Sight, Tick};
use crate::coherence::{Admitted, Partition, Stamp, Ticket};
use crate::key::Key;
#[cfg(all(test, shuttle))]
use crate::schedules::Fault;
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

/// Whether the node's serving lease is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Serving {
    Yes,
    No,
}

impl<V: 'static> Shared<V> {
    /// What is read before an entry.
    ///
    /// The order matters. Each step would be wrong after the next:
    ///
    /// 1. the clock is read and the serving lease checked;
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
    fn sight(&self, key: &[u8], need: Option<&Stamp>) -> (Serving, Sight<'_>) {
        let (index, partition) = self.node.partition_of(key);
        #[cfg(all(test, shuttle))]
        let early = partition.generation();
        let now = self.node.clock.glance();
        let serving = if partition.serving_at(now) { Serving::Yes } else { Serving::No };
        let need = need.map_or(0, |stamp| unapplied(stamp, index, partition));
        let generation = partition.generation();
        #[cfg(all(test, shuttle))]
        let generation = if Fault::GenerationFirst.is_planted() { early } else { generation };
        (serving, Sight { now, generation, need, tags: partition.tags() })
    }

    /// The answer of L1 to a lookup that asks for nothing special, if it has one, counted. Apart from
    /// encoding the key this is all of a hit; whatever gets none probes again.
    #[inline(never)]
    pub(crate) fn hit(&self, key: &[u8], want: Want) -> Option<Answer<V>> {
        let l1 = self.l1()?;
        let (Serving::Yes, sight) = self.sight(key, None) else { return None };
        let answer = l1.answer(key, &sight)?;
        if !want.accepts(&answer) {
            return None;
        }
        self.counters.l1_hits.increment();
        Some(answer)
    }

    /// What L1 has, whether it may answer or not.
    #[cold]
    pub(crate) fn probe(&self, key: &[u8], need: Option<&Stamp>) -> Probe<V> {
        let Some(l1) = self.l1() else { return Probe::Miss };
        let (serving, sight) = self.sight(key, need);
        let Some(entry) = l1.get(key) else { return Probe::Miss };
        let verified = serving == Serving::Yes && sight.verifies(&entry);
        match (entry.life.phase(sight.now), verified) {
            (Phase::Fresh, true) => Probe::Hit(entry),
            (Phase::Ripe, true) => Probe::Ripe(entry),
            (Phase::Stale, true) => Probe::Stale(entry),
            (Phase::Fresh | Phase::Ripe, false) => Probe::Unverified(entry),
            (Phase::Stale, false) | (Phase::Over, _) => Probe::Miss,
        }
    }

    /// What L1 holds within its life: verified, or else by its own number no older than `need`. That all
    /// changes up to `need` have been applied says nothing of an entry from before a flush.
    pub(crate) fn held(&self, key: &[u8], need: Option<&Stamp>) -> Option<Entry<V>> {
        let (index, _) = self.node.partition_of(key);
        match self.probe(key, need) {
            Probe::Hit(entry) | Probe::Ripe(entry) => Some(entry),
            Probe::Unverified(entry) if need.is_none_or(|stamp| entry.seq >= stamp.seq(index)) => Some(entry),
            Probe::Unverified(_) | Probe::Stale(_) | Probe::Miss => None,
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

/// What is left of a need, if not everything up to it is known to be reflected in L1.
#[cold]
#[inline(never)]
fn unapplied(stamp: &Stamp, index: u16, partition: &Partition) -> u64 {
    let need = stamp.seq(index);
    if partition.applied() >= need { 0 } else { need }
}
