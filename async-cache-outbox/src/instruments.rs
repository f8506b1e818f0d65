//! Copies figures to the [`metrics`] facade (feature `metrics`).
//!
//! Every metric is described with its unit when a relay or a log reader starts, and again once a minute, because the
//! recorder may be installed later.

use std::time::Duration;

use metrics::{Key, Label, Level, Metadata, Unit, with_recorder};
use parking_lot::Mutex;
use tokio::time::Instant;

/// How often the metrics are described.
const DESCRIBE_EVERY: Duration = Duration::from_secs(60);

static METADATA: Metadata<'static> = Metadata::new("async_cache_outbox", Level::INFO, Some(module_path!()));

/// A metric: its description, and its value in the figures `S`.
#[derive(Debug)]
pub(crate) struct Metric<S> {
    name: &'static str,
    unit: Unit,
    text: &'static str,
    value: Value<S>,
}

#[derive(Debug)]
enum Value<S> {
    Count(fn(&S) -> u64),
    Gauge(fn(&S) -> f64),
}

impl<S> Metric<S> {
    pub(crate) const fn count(name: &'static str, text: &'static str, value: fn(&S) -> u64) -> Self {
        Self { name, unit: Unit::Count, text, value: Value::Count(value) }
    }

    pub(crate) const fn gauge(
        name: &'static str,
        unit: Unit,
        text: &'static str,
        value: fn(&S) -> f64,
    ) -> Self {
        Self { name, unit, text, value: Value::Gauge(value) }
    }
}

/// The metrics of a relay or a log reader, with its label.
#[derive(Debug)]
pub(crate) struct Instruments<S: 'static> {
    metrics: &'static [Metric<S>],
    keys: Vec<Key>,
    described: Mutex<Option<Instant>>,
}

impl<S> Instruments<S> {
    pub(crate) fn new(metrics: &'static [Metric<S>], label: &'static str, value: &str) -> Self {
        let label = Label::new(label, value.to_owned());
        let keys = metrics.iter().map(|metric| Key::from_parts(metric.name, vec![label.clone()])).collect();
        Self { metrics, keys, described: Mutex::default() }
    }

    /// Copies the figures to the recorder that is installed now.
    pub(crate) fn publish(&self, figures: &S) {
        self.describe();
        with_recorder(|recorder| {
            for (metric, key) in self.metrics.iter().zip(&self.keys) {
                match metric.value {
                    Value::Count(value) => recorder.register_counter(key, &METADATA).absolute(value(figures)),
                    Value::Gauge(value) => recorder.register_gauge(key, &METADATA).set(value(figures)),
                }
            }
        });
    }

    fn describe(&self) {
        let mut described = self.described.lock();
        if described.is_some_and(|described| described.elapsed() < DESCRIBE_EVERY) {
            return;
        }
        *described = Some(Instant::now());
        drop(described);
        with_recorder(|recorder| {
            for metric in self.metrics {
                let (name, unit, text) = (metric.name.into(), Some(metric.unit), metric.text.into());
                match metric.value {
                    Value::Count(_) => recorder.describe_counter(name, unit, text),
                    Value::Gauge(_) => recorder.describe_gauge(name, unit, text),
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use metrics::{Counter, Gauge, Histogram, KeyName, Recorder, SharedString};

    use super::*;

    /// Collects the names that are described.
    #[derive(Default)]
    struct Described(Mutex<Vec<String>>);

    impl Recorder for Described {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.0.lock().push(name.as_str().to_owned());
        }

        fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
            self.describe_counter(name, unit, text);
        }

        fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    const METRICS: [Metric<u64>; 2] = [
        Metric::count("things_total", "Things.", |things| *things),
        Metric::gauge("things", Unit::Count, "Things.", |things| *things as f64),
    ];

    /// A service may install its recorder after it has started its relay.
    #[tokio::test(start_paused = true)]
    async fn a_recorder_that_comes_later_gets_the_descriptions_too() {
        let instruments = Instruments::new(&METRICS, "table", "t");
        instruments.publish(&1);
        let late = Described::default();
        let published = || metrics::with_local_recorder(&late, || instruments.publish(&1));
        published();
        assert!(late.0.lock().is_empty(), "once a minute is enough");
        tokio::time::advance(DESCRIBE_EVERY).await;
        published();
        published();
        assert_eq!(*late.0.lock(), ["things_total", "things"]);
    }

    #[cfg(feature = "sqlite")]
    #[tokio::test]
    async fn the_metrics_of_a_relay_exist_before_it_has_reached_its_database() {
        use async_cache::{MemoryBackend, TieredCache};
        use sqlx::{Sqlite, SqlitePool};

        let pool = SqlitePool::connect_lazy("sqlite::memory:").unwrap();
        let rows = TieredCache::<u64, u64>::builder().namespace("rows").l2(MemoryBackend::new(10));
        let rows = rows.build().unwrap();
        let described = Described::default();
        let start = || crate::Outbox::<Sqlite>::new().relay(&pool).cache(&rows).start();
        let _relay = metrics::with_local_recorder(&described, start).unwrap();
        assert!(described.0.lock().iter().any(|name| name.contains("outbox")), "{:?}", described.0.lock());
    }
}
