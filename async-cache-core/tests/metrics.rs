//! The figures on the `metrics` facade.
#![cfg(feature = "metrics")]

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, ms};
use async_cache_core::{Error, TieredCache};
use async_cache_memory::MemoryBackend;
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
