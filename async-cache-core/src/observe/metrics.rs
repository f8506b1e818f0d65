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

use crate::observe::stats::{Stats, with_figures};

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

macro_rules! published {
    ($($count:ident)*; $($gauge:ident)*) => {
        fn counts(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + use<> {
            [$((concat!("async_cache_", stringify!($count), "_total"), stats.$count)),*].into_iter()
        }

        fn gauges(stats: &Stats) -> impl Iterator<Item = (&'static str, u64)> + use<> {
            [$((concat!("async_cache_", stringify!($gauge)), u64::from(stats.$gauge))),*].into_iter()
        }
    };
}
with_figures!(published);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_gauges_have_their_names() {
        let stats = Stats { loads: 3, l1_suspended: true, ..Stats::default() };
        assert!(counts(&stats).any(|figure| figure == ("async_cache_loads_total", 3)));
        assert!(gauges(&stats).any(|figure| figure == ("async_cache_l1_suspended", 1)));
    }
}
