//! Publishes the figures of [`Stats`] to the [`metrics`] facade (feature `metrics`), and records durations.
//!
//! The feature adds no cost to a hit. Once a second the counts are copied to the recorder that is installed at
//! that time. Durations are recorded as they end. Every metric is described with its unit when a cache is
//! built, and again once a minute, because the recorder may be installed later.
//!
//! Every metric has the label `namespace`. Some histograms have one more, whose values are those of a small
//! enum. The labels are made once for each cache, so that recording allocates nothing here.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, SharedString, Unit, with_recorder};

use crate::observe::stage::Stage;
use crate::observe::stats::{Stats, with_figures};

/// The description of a metric for a recorder.
struct Described {
    name: &'static str,
    unit: Unit,
    text: &'static str,
}

const fn seconds(name: &'static str, text: &'static str) -> Described {
    Described { name, unit: Unit::Seconds, text }
}

const L2_READ: Described = seconds(
    "async_cache_l2_read_seconds",
    "Duration of each command that reads L2: a plain read, or the question for a lease, which returns a value, too.",
);
const L2_WRITE: Described =
    seconds("async_cache_l2_write_seconds", "Duration of each command that changes L2.");
const LOAD: Described =
    seconds("async_cache_load_seconds", "Duration of each loader run, failed runs included.");
const WAIT: Described = seconds(
    "async_cache_wait_seconds",
    "Duration of each wait for a load that another caller of this node (flight) or another node (lease) leads.",
);
const LAG: Described = seconds(
    "async_cache_invalidation_lag_seconds",
    "How long a message took to this node, from the command that caused it. Heartbeats measure it: their echoes travel behind every change on the same bus.",
);
const LEASE_AGE: Described = seconds(
    "async_cache_serving_lease_age_seconds",
    "Age of the last proof that this node knows every change. L1 answers while it is below max_staleness.",
);

const HISTOGRAMS: [Described; 5] = [L2_READ, L2_WRITE, LOAD, WAIT, LAG];

static METADATA: Metadata<'static> = Metadata::new("async_cache", Level::INFO, Some(module_path!()));

/// The counts and gauges of `Stats`.
macro_rules! published {
    ($($count:ident $count_text:literal)*; $($gauge:ident $gauge_text:literal)*) => {
        const COUNTS: &[Described] = &[$(figure(concat!("async_cache_", stringify!($count), "_total"), $count_text)),*];
        const GAUGES: &[Described] = &[$(figure(concat!("async_cache_", stringify!($gauge)), $gauge_text)),*];

        fn counts(stats: &Stats) -> impl Iterator<Item = u64> + use<> {
            [$(stats.$count),*].into_iter()
        }

        fn gauges(stats: &Stats) -> impl Iterator<Item = u64> + use<> {
            [$(u64::from(stats.$gauge)),*].into_iter()
        }
    };
}
with_figures!(published);

const fn figure(name: &'static str, text: &'static str) -> Described {
    Described { name, unit: Unit::Count, text }
}

/// Describes every metric to the recorder that is installed now.
pub(crate) fn describe() {
    with_recorder(|recorder| {
        let parts = |metric: &Described| (metric.name.into(), Some(metric.unit), metric.text.into());
        for (name, unit, text) in COUNTS.iter().map(parts) {
            recorder.describe_counter(name, unit, text);
        }
        for (name, unit, text) in GAUGES.iter().chain([&LEASE_AGE]).map(parts) {
            recorder.describe_gauge(name, unit, text);
        }
        for (name, unit, text) in HISTOGRAMS.iter().map(parts) {
            recorder.describe_histogram(name, unit, text);
        }
    });
}

/// The names and labels of the metrics of one cache.
#[derive(Debug)]
pub(crate) struct Instruments {
    counts: Vec<Key>,
    gauges: Vec<Key>,
    stages: [Key; Stage::ALL.len()],
    load: Key,
    lag: Key,
    lease_age: Key,
}

impl Instruments {
    pub(crate) fn of(namespace: &Arc<str>) -> Self {
        let label = || Label::new("namespace", SharedString::from(Arc::clone(namespace)));
        let plain = |metric: &Described| Key::from_parts(metric.name, vec![label()]);
        let stages = Stage::ALL.map(|stage| {
            let (metric, what, which) = histogram_of(stage);
            Key::from_parts(metric.name, vec![label(), Label::from_static_parts(what, which)])
        });
        Self {
            counts: COUNTS.iter().map(plain).collect(),
            gauges: GAUGES.iter().map(plain).collect(),
            stages,
            load: plain(&LOAD),
            lag: plain(&LAG),
            lease_age: plain(&LEASE_AGE),
        }
    }

    /// Copies the figures to the recorder.
    pub(crate) fn publish(&self, stats: &Stats, serving_lease_age: Option<Duration>) {
        with_recorder(|recorder| {
            for (key, count) in self.counts.iter().zip(counts(stats)) {
                recorder.register_counter(key, &METADATA).absolute(count);
            }
            for (key, gauge) in self.gauges.iter().zip(gauges(stats)) {
                recorder.register_gauge(key, &METADATA).set(gauge as f64);
            }
            if let Some(age) = serving_lease_age {
                recorder.register_gauge(&self.lease_age, &METADATA).set(age);
            }
        });
    }

    /// Records the duration of a stage.
    pub(crate) fn stage(&self, stage: Stage, took: Duration) {
        record(&self.stages[stage as usize], took);
    }

    /// Records the duration of a loader run.
    pub(crate) fn loaded(&self, took: Duration) {
        record(&self.load, took);
    }

    /// Records how long a message of the bus was under way.
    pub(crate) fn lagged(&self, lag: Duration) {
        record(&self.lag, lag);
    }
}

fn record(key: &Key, took: Duration) {
    with_recorder(|recorder| recorder.register_histogram(key, &METADATA).record(took));
}

/// The histogram of a stage, and its second label.
fn histogram_of(stage: Stage) -> (&'static Described, &'static str, &'static str) {
    match stage {
        Stage::Read => (&L2_READ, "command", "read"),
        Stage::Lease => (&L2_READ, "command", "lease"),
        Stage::Fill => (&L2_WRITE, "command", "fill"),
        Stage::Put => (&L2_WRITE, "command", "put"),
        Stage::Invalidate => (&L2_WRITE, "command", "invalidate"),
        Stage::InvalidateTags => (&L2_WRITE, "command", "invalidate_tags"),
        Stage::Clear => (&L2_WRITE, "command", "clear"),
        Stage::WaitForFlight => (&WAIT, "for", "flight"),
        Stage::WaitForLease => (&WAIT, "for", "lease"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_gauges_have_their_names() {
        let stats = Stats { loads: 3, l1_suspended: true, ..Stats::default() };
        assert!(
            COUNTS
                .iter()
                .zip(counts(&stats))
                .any(|(metric, count)| (metric.name, count) == ("async_cache_loads_total", 3))
        );
        assert!(
            GAUGES
                .iter()
                .zip(gauges(&stats))
                .any(|(metric, gauge)| (metric.name, gauge) == ("async_cache_l1_suspended", 1))
        );
    }

    #[test]
    fn each_stage_has_a_key_of_its_own() {
        let keys = Instruments::of(&"rows".into()).stages;
        for (place, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, place);
            assert_eq!(keys.iter().filter(|key| **key == keys[place]).count(), 1, "{stage:?}");
        }
    }
}
