//! Counters and gauges.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::observe::seat;

/// The counts since the cache was built, and gauges with present values. They concern this cache on this node.
///
/// Each lookup is counted once, when it ends, in one of `l1_hits`, `l2_hits`, `coalesced_waits`, `stale_served`
/// and `misses`. A lookup of many keys counts once for each key. [`get_many_or_load`] and a [`DataLoader`]
/// count once for each distinct key of the call or batch. A refresh in the background is not a lookup.
///
/// [`get_many_or_load`]: crate::api::cache::TieredCache::get_many_or_load
/// [`DataLoader`]: crate::api::data_loader::loader::DataLoader
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Lookups that L1 answered at once.
    pub l1_hits: u64,
    /// Lookups that L2 answered: the value was read from L2, or L2 confirmed the entry of L1 by its token.
    pub l2_hits: u64,
    /// Lookups without a cached answer: they led a load of their own, found nothing, or failed. They include
    /// lookups that waited for a load which failed.
    pub misses: u64,
    /// Loader runs that began on this node. A batch is one run.
    pub loads: u64,
    /// Loader runs that returned an error, panicked or timed out, and keys of a batch with their own error.
    pub load_failures: u64,
    /// Lookups that another task's load or read of the same cache answered.
    pub coalesced_waits: u64,
    /// Waits of a load for another node's load of the same key.
    pub lease_waits: u64,
    /// Lookups that were answered with an expired value, or with one that was not verified because L2 could not
    /// be reached. [`StaleCause`](crate::observe::event::StaleCause) has the reasons.
    pub stale_served: u64,
    /// Keys and tags that this node invalidated, expired or overwrote, and clears of this node.
    pub invalidations_sent: u64,
    /// Invalidations, expiries, overwrites and clears that this node received on the bus, including its own.
    pub invalidations_received: u64,
    /// Loaded or read values that were not stored: an invalidation came in the meantime, their lease was lost,
    /// other nodes held it for too long, or L2 could not be asked or had no room.
    pub fills_rejected: u64,
    /// Values that L1 did not store, because they are heavier than its whole capacity or could not be weighed.
    pub l1_refused: u64,
    /// Values that could not be stored in L2: their codec could not write them or read them back, or they are
    /// too large. Their callers got them.
    pub codec_failures: u64,
    /// Values whose loader chose an invalid option. Each was returned to its callers;
    /// [`Amended`](crate::observe::event::Amended) says whether it is cached.
    pub amended_choices: u64,
    /// Stored values that were damaged, foreign, of another codec or schema version, or that the codec could not
    /// read, as after a deploy that adds a field: each is a miss, and is overwritten. Also messages on the bus that
    /// this crate did not write: each is dropped.
    pub unreadable: u64,
    /// Keys that batch loaders returned without a request. They are ignored.
    pub unasked_keys: u64,
    /// Operations on L2 that failed or timed out.
    pub l2_errors: u64,
    /// The number of times that this node may have missed messages on the bus. Each time all entries of L1 are
    /// verified again.
    pub flushes: u64,
    /// Hits in L1 that the [verifier](crate::api::builder::TieredCacheBuilder::verify) has checked.
    pub verified_hits: u64,
    /// Sampled hits that the verifier did not check: there were too many, or L2 or the loader failed.
    pub verify_skipped: u64,
    /// Hits that were proved to be older than `max_staleness` allows.
    pub stale_hits: u64,
    /// Hits that may have been older than `max_staleness` allows:
    /// [`Evidence`](crate::observe::event::Evidence) says why.
    pub suspected_hits: u64,
    /// Gauge: whether L1 does not answer, because this node may have missed messages on the bus.
    pub l1_suspended: bool,
    /// Gauge: whether L2 refuses an operation that this node needs, in order to serve or to send its pending
    /// invalidations. See [`Refused`](crate::observe::event::Refused).
    pub l2_refused: bool,
    /// Gauge: whether L2 is known to be unreachable, so that operations on it fail at once. With Redis it is
    /// true after three commands in a row that got no answer in time, and while no connection can be made.
    pub l2_breaker_open: bool,
    /// Gauge: the approximate number of entries in L1.
    pub entries: u64,
    /// Gauge: the number of loads and reads under way.
    pub in_flight: u64,
    /// Gauge: the number of invalidations of unknown outcome that are being retried. One of a tag, or of everything,
    /// counts once for each partition that it has not reached.
    pub pending_invalidations: u64,
}

/// Hands the names of all counts, then those of all gauges, to a macro. Each has its description for a recorder.
macro_rules! with_figures {
    ($macro:ident) => {
        $macro! {
            l1_hits "Lookups that L1 answered at once."
            l2_hits "Lookups that L2 answered."
            misses "Lookups without a cached answer: they loaded, found nothing, or failed."
            loads "Loader runs that began on this node. A batch is one run."
            load_failures "Loader runs that failed, and keys of a batch with their own error."
            coalesced_waits "Lookups that another task's load or read of the same cache answered."
            lease_waits "Waits of a load for another node's load of the same key."
            stale_served "Lookups that were answered with an expired or unverified value."
            invalidations_sent "Keys and tags that this node invalidated, expired or overwrote, and clears."
            invalidations_received "Invalidations, expiries, overwrites and clears that this node received, its own included."
            fills_rejected "Loaded or read values that were not stored."
            l1_refused "Values that are heavier than all of L1, or could not be weighed."
            codec_failures "Values that could not be stored in L2."
            amended_choices "Values whose loader chose an invalid option."
            unreadable "Stored values and messages that cannot be read."
            unasked_keys "Keys that batch loaders returned without a request."
            l2_errors "Operations on L2 that failed or timed out."
            flushes "Times that this node may have missed messages, so that all of L1 was verified again."
            verified_hits "Hits in L1 that the verifier has checked."
            verify_skipped "Sampled hits that the verifier did not check."
            stale_hits "Hits that were proved to be older than max_staleness allows."
            suspected_hits "Hits that may have been older than max_staleness allows.";
            l1_suspended "Whether L1 does not answer, because this node may have missed messages."
            l2_refused "Whether L2 refuses an operation that this node needs."
            l2_breaker_open "Whether L2 is known to be unreachable, so that operations fail at once."
            entries "Approximate number of entries in L1."
            in_flight "Loads and reads under way."
            pending_invalidations "Invalidations of unknown outcome that are being retried."
        }
    };
}
#[cfg(feature = "metrics")]
pub(crate) use with_figures;

macro_rules! listed {
    ($($count:ident $count_text:literal)*; $($gauge:ident $gauge_text:literal)*) => {
        impl Stats {
            /// The name and the number of every field. A `bool` is 0 or 1.
            pub(crate) fn figures(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                let counts = [$((stringify!($count), self.$count)),*];
                counts.into_iter().chain([$((stringify!($gauge), u64::from(self.$gauge))),*])
            }
        }
    };
}
with_figures!(listed);

impl Stats {
    /// The fraction of lookups that needed no load, from 0 to 1. It is 0 before the first lookup.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        let hits = self.l1_hits + self.l2_hits + self.coalesced_waits + self.stale_served;
        match hits + self.misses {
            0 => 0.0,
            all => hits as f64 / all as f64,
        }
    }
}

/// A counter.
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

/// A counter that many threads raise at once. Each of the first [`OWNED`] threads has its own cell and needs no
/// atomic addition. All other threads share one cell.
#[derive(Debug, Default)]
pub(crate) struct StripedCounter {
    owned: [Padded; OWNED],
    shared: Padded,
}

const OWNED: usize = 32;

/// Two cache lines, because processors fetch lines in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded(AtomicU64);

impl Padded {
    /// Only the thread that owns the cell calls this.
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

macro_rules! counters {
    ($($count:ident)*) => {
        /// The counters of [`Stats`], except those of L1. L1 counts them itself.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $count: Counter,)*
        }

        impl Counters {
            /// Reads the counters. The gauges keep their default values.
            pub(crate) fn snapshot(&self) -> Stats {
                Stats { $($count: self.$count.get(),)* ..Stats::default() }
            }
        }
    };
}
counters! {
    l2_hits misses loads load_failures coalesced_waits lease_waits stale_served invalidations_sent
    invalidations_received fills_rejected codec_failures amended_choices unreadable unasked_keys l2_errors flushes
    verified_hits verify_skipped stale_hits suspected_hits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_figure_is_left_out() {
        let stats = Stats::default();
        let there = format!("{stats:?}").matches(": ").count();
        assert_eq!(stats.figures().count(), there, "{stats:?}");
    }

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
                    // No thread may return its seat before all threads have one.
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
