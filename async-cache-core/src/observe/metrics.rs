//! Publishes the figures of [`Stats`] to the [`metrics`] facade (feature `metrics`).
//!
//! The feature adds no cost to a hit. Once a second the counts are copied to the recorder that is installed at
//! that time. Every metric has one label, `namespace`.
//!
//! | name | kind |
//! |---|---|
//! | `async_cache_<count>_total`, for every count of [`Stats`] | counter |
//! | `async_cache_<gauge>`, for every gauge of [`Stats`] | gauge |
//! | `async_cache_load_seconds` | histogram: the duration of each loader run in seconds, including failed runs |

use std::time::Duration;

use crate::observe::stats::Stats;

/// Copies the figures to the recorder.
pub(crate) fn publish(namespace: &str, stats: &Stats) {
    for (name, count) in counts(stats) {
        metrics::counter!(name, "namespace" => namespace.to_owned()).absolute(count);
    }
    for (name, gauge) in gauges(stats) {
        metrics::gauge!(name, "namespace" => namespace.to_owned()).set(gauge as f64);
    }
}

/// Records the duration of a loader run.
pub(crate) fn loaded(namespace: &str, took: Duration) {
    metrics::histogram!("async_cache_load_seconds", "namespace" => namespace.to_owned()).record(took);
}

macro_rules! figures {
    ($function:ident, $suffix:literal, $($field:ident)*) => {
        fn $function(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + use<> {
            [$((concat!("async_cache_", stringify!($field), $suffix), u64::from(stats.$field))),*].into_iter()
        }
    };
}

figures! { counts, "_total",
    l1_hits l2_hits misses loads load_failures coalesced_waits lease_waits stale_served
    invalidations_sent invalidations_received fills_rejected l1_refused codec_failures amended_choices unreadable unasked_keys l2_errors flushes
}
figures! { gauges, "", l1_suspended l2_refused entries in_flight pending_invalidations }

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field of `Stats` must have a metric here.
    #[test]
    fn no_figure_is_left_out() {
        let stats = Stats::default();
        let published = counts(&stats).chain(gauges(&stats)).count();
        let there = format!("{stats:?}").matches(": ").count();
        assert_eq!(published, there, "{stats:?}");
    }
}
