//! The figures on the `metrics` facade.
#![cfg(feature = "metrics")]

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use async_cache_core::testing::{No, ms};
use async_cache_core::{Error, TieredCache};
use async_cache_memory::MemoryBackend;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

/// Name and labels, with what was recorded last.
fn figures(snapshotter: &Snapshotter) -> HashMap<String, DebugValue> {
    let all = snapshotter.snapshot().into_vec().into_iter();
    all.map(|(key, _, _, value)| {
        let labels: Vec<String> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        (format!("{} {}", key.key().name(), labels.join(",")), value)
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn counts_and_gauges_are_copied_and_loads_timed() -> Result<(), Error> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let cache: TieredCache<u64, u64> =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10)).build()?;
    for _ in 0..3 {
        cache
            .get_or_load(&7, || async {
                tokio::time::sleep(ms(250)).await;
                Ok::<_, No>(7)
            })
            .await?;
    }
    let _ = cache.get_or_load(&8, || async { Err::<u64, _>(No(1)) }).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let seen = figures(&snapshotter);
    assert_eq!(seen["async_cache_l1_hits_total namespace=rows"], DebugValue::Counter(2));
    assert_eq!(seen["async_cache_loads_total namespace=rows"], DebugValue::Counter(2));
    assert_eq!(seen["async_cache_load_failures_total namespace=rows"], DebugValue::Counter(1));
    assert_eq!(seen["async_cache_entries namespace=rows"], DebugValue::Gauge(1.0.into()));
    let DebugValue::Histogram(times) = &seen["async_cache_load_seconds namespace=rows"] else {
        panic!("a histogram")
    };
    assert_eq!(times.iter().map(|time| time.into_inner()).fold(0.0, f64::max), 0.25);
    assert!(seen.keys().all(|name| name.ends_with(" namespace=rows")), "{:?}", seen.keys());

    // What was counted last is not lost.
    cache.get(&7).await?;
    cache.shutdown().await;
    let seen = figures(&snapshotter);
    assert_eq!(seen["async_cache_l1_hits_total namespace=rows"], DebugValue::Counter(3));
    Ok(())
}

/// A recorder keeps the last value of a gauge, so an alert on it would fire until the process ends.
#[tokio::test(start_paused = true)]
async fn a_closed_cache_leaves_no_gauge_of_its_state_behind() -> Result<(), Error> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let tier = MemoryBackend::new(10);
    let builder = TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(tier);
    let cache = builder.build()?;
    cache.get_or_load(&7, || async { Ok::<_, No>(7) }).await?;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(figures(&snapshotter)["async_cache_entries namespace=rows"], DebugValue::Gauge(1.0.into()));
    cache.shutdown().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    for (name, value) in figures(&snapshotter) {
        if let DebugValue::Gauge(value) = value {
            assert_eq!(value.into_inner(), 0.0, "{name}");
        }
    }
    Ok(())
}

/// Collects what is described, and nothing else.
#[derive(Default)]
struct Descriptions(Mutex<HashMap<String, Description>>);

/// The kind, the unit and the text.
type Description = (&'static str, Option<Unit>, String);

impl Descriptions {
    fn note(&self, kind: &'static str, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        self.0.lock().unwrap().insert(name.as_str().to_owned(), (kind, unit, text.to_string()));
    }
}

impl Recorder for Descriptions {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("counter", &name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("gauge", &name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.note("histogram", &name, unit, &text);
    }

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

#[tokio::test(start_paused = true)]
async fn every_metric_is_described_with_its_unit() -> Result<(), Error> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let used = {
        let _guard = metrics::set_default_local_recorder(&recorder);
        let tier = MemoryBackend::new(10);
        let builder =
            TieredCache::<u64, u64>::builder().namespace("rows").l1(MemoryBackend::new(10)).l2(tier);
        let cache = builder.build()?;
        cache.get_or_load(&7, || async { Ok::<_, No>(7) }).await?;
        cache.invalidate(&7).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        snapshotter.snapshot().into_vec()
    };
    let descriptions = Descriptions::default();
    {
        let _guard = metrics::set_default_local_recorder(&descriptions);
        let _cache: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10)).build()?;
    }
    let described = descriptions.0.into_inner().unwrap();
    assert!(used.len() > 25, "{}", used.len());
    for (key, ..) in used {
        assert!(described.contains_key(key.key().name()), "{key:?} is not described");
    }
    for (name, (kind, unit, text)) in described {
        let expected = if name.ends_with("_seconds") { Unit::Seconds } else { Unit::Count };
        assert_eq!(unit, Some(expected), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name}");
        assert!(text.ends_with('.') && text.len() > 20, "{name}: {text}");
    }
    Ok(())
}

/// A service may install its recorder after it has built its caches.
#[tokio::test(start_paused = true)]
async fn a_recorder_that_comes_later_gets_the_descriptions_too() -> Result<(), Error> {
    let _cache: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10)).build()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let late = Descriptions::default();
    let _guard = metrics::set_default_local_recorder(&late);
    tokio::time::sleep(Duration::from_secs(61)).await;
    assert!(late.0.lock().unwrap().contains_key("async_cache_load_seconds"));
    Ok(())
}
