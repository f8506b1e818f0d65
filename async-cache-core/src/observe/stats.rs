//! Counters and gauges.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::seat;

/// Counts since the cache was built, and gauges of now.
///
/// Each lookup is counted once, when it ends, by what became of it: in `l1_hits`, `l2_hits`, `coalesced_waits`,
/// `stale_served` or `misses`. Those of many keys count per key, and of [`get_many_or_load`] and a [`DataLoader`] per
/// distinct key of the call or batch. A refresh behind an answer is no lookup.
///
/// [`get_many_or_load`]: crate::api::cache::TieredCache::get_many_or_load
/// [`DataLoader`]: crate::api::data_loader::loader::DataLoader
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups answered by L1 at once.
    pub l1_hits: u64,
    /// Lookups answered by L2: read from it, or found valid there by their token.
    pub l2_hits: u64,
    /// Lookups that nothing cached could answer: they led a load of their own, found nothing, or failed. Those that
    /// waited for a load which failed are among them.
    pub misses: u64,
    /// Loader runs begun here; a batch is one.
    pub loads: u64,
    /// Loader runs that gave an error, panicked or timed out; and keys of a batch with an error of their own.
    pub load_failures: u64,
    /// Lookups answered by a load or read that another task of this cache had under way, and that succeeded.
    pub coalesced_waits: u64,
    /// Times a load waited for another node's load of the same key.
    pub lease_waits: u64,
    /// Lookups answered with a value that had expired, or that nothing verified because L2 could not be
    /// reached: [`StaleCause`](crate::observe::event::StaleCause) says which.
    pub stale_served: u64,
    /// Keys invalidated or overwritten from here, and clears.
    pub invalidations_sent: u64,
    /// Invalidations, overwrites and clears heard on the bus, this node's own included.
    pub invalidations_received: u64,
    /// Loaded or read values that were not stored: an invalidation had met them, their lease was lost, others held
    /// it for too long, or L2 could not be asked or had no room.
    pub fills_rejected: u64,
    /// Values that L1 did not keep because they weigh more than all of it, or could not be weighed.
    pub l1_refused: u64,
    /// Values that could not be written to L2, or not read back: by their codec, or because they are too large. They
    /// were answered, and are not shared.
    pub codec_failures: u64,
    /// Lifetimes and tags chosen by loaders that cannot be: the value was answered, and cached otherwise or not.
    pub amended_choices: u64,
    /// Stored values that were corrupt, foreign, or of another codec or schema version: each a
    /// miss, and overwritten. And messages on the bus that are none of ours: each dropped.
    pub unreadable: u64,
    /// Keys that batch loaders gave without having been asked for them: ignored.
    pub unasked_keys: u64,
    /// Operations on L2 that failed or timed out.
    pub l2_errors: u64,
    /// Times a node's view of the bus was found incomplete, and its L1 verified afresh.
    pub flushes: u64,
    /// Gauge: whether L1 is not answering because the bus is not known to be complete.
    pub l1_suspended: bool,
    /// Gauge: whether L2 does not permit this node something that it needs:
    /// [`ready`](crate::api::cache::TieredCache::ready) says what.
    pub l2_refused: bool,
    /// Gauge: entries in L1, near enough.
    pub entries: u64,
    /// Gauge: loads and reads under way.
    pub in_flight: u64,
    /// Gauge: invalidations whose outcome is unknown and which are being retried.
    pub pending_invalidations: u64,
}

impl Stats {
    /// Share of lookups that needed no load, from 0 to 1; 0 before the first lookup.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let hits = self.l1_hits + self.l2_hits + self.coalesced_waits + self.stale_served;
        match hits + self.misses {
            0 => 0.0,
            all => hits as f64 / all as f64,
        }
    }
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: usize) {
        self.0.fetch_add(n as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A count that many threads raise at once: each of the first [`OWNED`] threads has a cell of its
/// own and needs no atomic addition, the others share one.
#[derive(Debug, Default)]
pub(crate) struct StripedCounter {
    owned: [Padded; OWNED],
    shared: Padded,
}

const OWNED: usize = 32;

/// Two lines, for processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Padded {
    /// Of the thread that owns it: nobody else writes it.
    #[inline]
    fn increment(&self) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

impl StripedCounter {
    #[inline]
    pub(crate) fn increment(&self) {
        match self.owned.get(seat::mine()) {
            Some(own) => own.increment(),
            None => self.increment_seatless(),
        }
    }

    #[cold]
    fn increment_seatless(&self) {
        match self.owned.get(seat::take()) {
            Some(own) => own.increment(),
            None => _ = self.shared.0.fetch_add(1, Ordering::Relaxed),
        }
    }

    pub(crate) fn get(&self) -> u64 {
        let cells = self.owned.iter().chain([&self.shared]);
        cells.map(|cell| cell.0.load(Ordering::Relaxed)).sum()
    }
}

/// The counts behind [`Stats`], but for the hits in L1, which L1 counts itself.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) l2_hits: Counter,
    pub(crate) misses: Counter,
    pub(crate) loads: Counter,
    pub(crate) load_failures: Counter,
    pub(crate) coalesced_waits: Counter,
    pub(crate) lease_waits: Counter,
    pub(crate) stale_served: Counter,
    pub(crate) invalidations_sent: Counter,
    pub(crate) invalidations_received: Counter,
    pub(crate) fills_rejected: Counter,
    pub(crate) codec_failures: Counter,
    pub(crate) amended_choices: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) unasked_keys: Counter,
    pub(crate) l2_errors: Counter,
    pub(crate) flushes: Counter,
}

impl Counters {
    /// The counts; gauges are left at rest.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            l2_hits: self.l2_hits.get(),
            misses: self.misses.get(),
            loads: self.loads.get(),
            load_failures: self.load_failures.get(),
            coalesced_waits: self.coalesced_waits.get(),
            lease_waits: self.lease_waits.get(),
            stale_served: self.stale_served.get(),
            invalidations_sent: self.invalidations_sent.get(),
            invalidations_received: self.invalidations_received.get(),
            fills_rejected: self.fills_rejected.get(),
            codec_failures: self.codec_failures.get(),
            amended_choices: self.amended_choices.get(),
            unreadable: self.unreadable.get(),
            unasked_keys: self.unasked_keys.get(),
            l2_errors: self.l2_errors.get(),
            flushes: self.flushes.get(),
            ..Stats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_increment_is_lost_across_threads() {
        let counter = StripedCounter::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..10_000).for_each(|_| counter.increment()));
            }
        });
        assert_eq!(counter.get(), 80_000);
    }

    #[test]
    fn nor_with_more_threads_than_cells() {
        let counter = StripedCounter::default();
        let together = std::sync::Barrier::new(3 * OWNED);
        std::thread::scope(|scope| {
            for _ in 0..3 * OWNED {
                scope.spawn(|| {
                    together.wait();
                    (0..2_000).for_each(|_| counter.increment());
                    // Nobody's seat is free before everyone has had one.
                    together.wait();
                });
            }
        });
        assert_eq!(counter.get(), 2_000 * 3 * OWNED as u64);
        assert!(counter.shared.0.load(Ordering::Relaxed) > 0);
    }

    #[test]
    fn hit_rate_counts_every_answer_without_a_load() {
        assert!((Stats::default().hit_rate() - 0.0).abs() < f64::EPSILON);
        let stats = Stats { l1_hits: 6, l2_hits: 2, coalesced_waits: 1, misses: 1, ..Stats::default() };
        assert!((stats.hit_rate() - 0.9).abs() < 1e-9);
    }
}
