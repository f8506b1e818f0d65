//! Values of any size. A value that is too large for a wake-up is still stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_cache::testing::{ms, until};
use async_cache::{MemoryBackend, TieredCache};
use futures_util::future::{BoxFuture, FutureExt, join_all};
use integration_tests::fleet::Fleet;
use integration_tests::on_both_tiers;

type Cache = TieredCache<String, String>;

/// Sizes below and above the limit of a wake-up. A frame adds about fifty bytes.
const SIZES: [usize; 6] = [100, 4000, 4090, 4096, 10_000, 300_000];

/// So long that a refused caller cannot end just by waiting.
const PATIENCE: Duration = Duration::from_secs(60);

async fn node(fleet: &Fleet) -> Cache {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(1000));
    let builder = builder.l2(fleet.backend().await).wait_timeout(PATIENCE).lease_ttl(PATIENCE);
    let cache = builder.build().expect("a valid cache");
    until("the node serves", || cache.is_serving()).await;
    cache
}

/// Loads a row of this size, with a new value each time. It takes a moment, so that other callers wait.
async fn row(loads: &AtomicUsize, size: usize) -> String {
    tokio::time::sleep(ms(2)).await;
    let version = loads.fetch_add(1, Ordering::SeqCst) + 1;
    format!("{version:08}{}", "x".repeat(size - 8))
}

/// A call that refreshes the row.
type Verb = fn(&Cache, Arc<AtomicUsize>, usize) -> BoxFuture<'_, ()>;

fn refresh(cache: &Cache, loads: Arc<AtomicUsize>, size: usize) -> BoxFuture<'_, ()> {
    let load = move || async move { Ok::<_, async_cache::Error>(row(&loads, size).await) };
    cache.refresh("k", load).map(|answer| drop(answer.unwrap())).boxed()
}

fn refresh_with(cache: &Cache, loads: Arc<AtomicUsize>, size: usize) -> BoxFuture<'_, ()> {
    let load = move |_| async move { Ok::<_, async_cache::Error>(row(&loads, size).await) };
    cache.refresh_with("k", load).map(|answer| drop(answer.unwrap())).boxed()
}

fn refresh_optional(cache: &Cache, loads: Arc<AtomicUsize>, size: usize) -> BoxFuture<'_, ()> {
    let load = move || async move { Ok::<_, async_cache::Error>(Some(row(&loads, size).await)) };
    cache.refresh_optional("k", load).map(|answer| drop(answer.unwrap())).boxed()
}

async fn refreshes_at_once_leave_a_value(fleet: Fleet) {
    let nodes = [node(&fleet).await, node(&fleet).await];
    for (name, verb) in
        [("refresh", refresh as Verb), ("refresh_with", refresh_with), ("refresh_optional", refresh_optional)]
    {
        for size in SIZES {
            let loads = Arc::new(AtomicUsize::new(0));
            let calls = (0..20).map(|n| verb(&nodes[n % 2], Arc::clone(&loads), size));
            join_all(calls).await;
            for node in &nodes {
                let kept = node.get("k").await.unwrap();
                assert!(kept.is_some(), "{name}: nothing is left of 20 values of {size} bytes");
            }
        }
    }
}

async fn a_large_value_is_loaded_once(fleet: Fleet) {
    let nodes = [node(&fleet).await, node(&fleet).await, node(&fleet).await];
    for size in SIZES {
        let loads = Arc::new(AtomicUsize::new(0));
        let key = format!("once {size}");
        let calls = (0..30).map(|n| {
            let loads = Arc::clone(&loads);
            nodes[n % 3].get_or_load(&key, move || async move {
                Ok::<_, async_cache::Error>(row(&loads, size).await)
            })
        });
        for answer in join_all(calls.map(IntoFuture::into_future)).await {
            assert_eq!(answer.unwrap().len(), size);
        }
        assert_eq!(loads.load(Ordering::SeqCst), 1, "of {size} bytes");
    }
}

on_both_tiers!(refreshes_at_once_leave_a_value, a_large_value_is_loaded_once);
