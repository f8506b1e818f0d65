//! Warming: bounded, lazy, and undeterred by failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache_core::testing::{No, ms};
use async_cache_core::{ErrorKind, TieredCache};
use async_cache_memory::MemoryBackend;
use tokio::time::Instant;

fn cache() -> TieredCache<u64, u64> {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(200_000)).build().expect("a valid cache")
}

/// How many of something there are now, and were at most.
#[derive(Default)]
struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    fn up(&self) {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
    }

    fn down(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_keys_are_warmed_a_few_at_a_time() {
    let cache = cache();
    let (pulled, running) = (Arc::new(Gauge::default()), Arc::new(Gauge::default()));
    let (open, loads) = (Arc::clone(&pulled), Arc::clone(&running));
    let keys = (0..100_000).inspect(move |_| open.up());
    let load = move |key: u64| {
        let loads = Arc::clone(&loads);
        async move {
            loads.up();
            tokio::time::sleep(ms(1)).await;
            loads.down();
            Ok::<u64, No>(key)
        }
    };
    let mut seen = 0;
    let report = cache
        .warm(keys, load)
        .concurrency(16)
        .on_progress(|progress| {
            pulled.down();
            seen += 1;
            assert_eq!((progress.done, progress.total), (seen, Some(100_000)));
        })
        .await;
    assert_eq!((report.loaded, report.skipped, report.failed.len(), seen), (100_000, 0, 0, 100_000));
    assert_eq!(running.most(), 16);
    assert!(pulled.most() <= 17, "{} keys were pulled ahead", pulled.most());
    assert_eq!(cache.get(&99_999).await.unwrap().as_deref(), Some(&99_999));
}

#[tokio::test(start_paused = true)]
async fn failures_stop_nothing_and_what_is_fresh_is_skipped() {
    let cache = cache();
    cache.insert(&1, 100).await.unwrap();
    cache.insert(&2, 100).ttl(ms(5)).await.unwrap();
    tokio::time::advance(ms(6)).await;
    let load = |key: u64| async move {
        tokio::time::sleep(ms(10)).await;
        match key {
            3 => panic!("out of cheese"),
            4 => Err(No(4)),
            key => Ok(key),
        }
    };
    let begun = Instant::now();
    let report = cache.warm([1, 2, 3, 4, 5], load).concurrency(2).await;
    assert!(begun.elapsed() < ms(30), "two at a time: {:?}", begun.elapsed());
    assert_eq!((report.loaded, report.skipped, report.failed_unlisted), (2, 1, 0));
    let mut failed: Vec<_> = report.failed.iter().map(|(key, error)| (*key, error.kind())).collect();
    failed.sort_unstable_by_key(|(key, _)| *key);
    assert_eq!(failed, [(3, ErrorKind::LoaderPanicked), (4, ErrorKind::Loader)]);
    assert_eq!(cache.get(&1).await.unwrap().as_deref(), Some(&100), "what is fresh stays");
    assert_eq!(cache.get(&2).await.unwrap().as_deref(), Some(&2));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_someone_else_loads_is_waited_for_and_skipped() {
    let cache = cache();
    let other = cache.clone();
    let other = tokio::spawn(async move {
        other
            .get_or_load(&1, || async {
                tokio::time::sleep(ms(50)).await;
                Ok::<u64, No>(7)
            })
            .await
    });
    tokio::time::sleep(ms(1)).await;
    let report = cache.warm([1], |key| async move { Ok::<u64, No>(key) }).ttl(ms(10)).await;
    assert_eq!((report.loaded, report.skipped), (0, 1));
    assert_eq!(*other.await.unwrap().unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn failures_are_listed_up_to_a_limit() {
    let report = cache().warm(0..10_005, |_| async { Err::<u64, No>(No(1)) }).await;
    assert_eq!((report.failed.len(), report.failed_unlisted), (10_000, 5));
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_shut_down_pulls_no_more() {
    let cache = cache();
    let pulled = Arc::new(AtomicUsize::new(0));
    let (count, closing) = (Arc::clone(&pulled), cache.clone());
    let endless = (0u64..).inspect(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let closer = tokio::spawn(async move {
        tokio::time::sleep(ms(25)).await;
        closing.shutdown().await;
    });
    let load = |key| async move {
        tokio::time::sleep(ms(10)).await;
        Ok::<u64, No>(key)
    };
    let report = cache.warm(endless, load).concurrency(2).await;
    closer.await.unwrap();
    assert_eq!(report.loaded, 4);
    assert!(report.failed.iter().all(|(_, error)| error.kind() == ErrorKind::Shutdown));
    assert!(pulled.load(Ordering::SeqCst) <= 8);
}
