//! What an L1 holds: what fits, for as long as it can answer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_cache::testing::until;
use async_cache::{Engine, MemoryBackend, TieredCache};
use tokio::time::advance;

const ENGINES: [Engine; 2] = [Engine::Quick, Engine::Moka];
const MIB: usize = 1 << 20;

type Blobs = TieredCache<u64, Vec<u8>>;

fn weighed(engine: Engine, capacity: usize) -> MemoryBackend<Vec<u8>> {
    let weigh = |_: &[u8], blob: &Vec<u8>| blob.len() as u32;
    MemoryBackend::builder().engine(engine).max_capacity(capacity as u64).weigher(weigh).build()
}

#[tokio::test]
async fn a_value_is_kept_if_it_fits_the_whole_capacity() {
    for engine in ENGINES {
        for size in [1, 4 * MIB, 8 * MIB, 8 * MIB + 1, 40 * MIB, 64 * MIB] {
            let cache = Blobs::builder().l1(weighed(engine, 64 * MIB)).build().unwrap();
            cache.insert(&1, vec![0; size]).await.unwrap();
            assert!(cache.get(&1).await.unwrap().is_some(), "{engine:?}: {size}");
            let stats = cache.stats();
            assert_eq!((stats.l1_refused, stats.entries, stats.l1_hits), (0, 1, 1), "{engine:?}: {size}");
            // Replaced by one that goes elsewhere, it does not come back.
            cache.insert(&1, vec![1; 10]).await.unwrap();
            assert_eq!(cache.get(&1).await.unwrap().unwrap().len(), 10, "{engine:?}: {size}");
            cache.invalidate(&1).await.unwrap();
            assert!(cache.get(&1).await.unwrap().is_none(), "{engine:?}: {size}");
        }
    }
}

#[tokio::test]
async fn a_value_that_fits_nowhere_is_counted_and_takes_what_it_replaces_along() {
    for engine in ENGINES {
        let cache = Blobs::builder().l1(weighed(engine, 64 * MIB)).build().unwrap();
        cache.insert(&1, vec![0; 10]).await.unwrap();
        cache.insert(&1, vec![0; 64 * MIB + 1]).await.unwrap();
        assert!(cache.get(&1).await.unwrap().is_none(), "{engine:?}");
        assert_eq!((cache.stats().l1_refused, cache.stats().entries), (1, 0), "{engine:?}");
    }
}

/// Whatever the sizes, they weigh no more than the capacity together, and what was stored last is there.
#[tokio::test]
async fn heavy_and_light_values_share_the_capacity() {
    let capacity = 8 * MIB;
    let l1 = weighed(Engine::Quick, capacity);
    let cache = Blobs::builder().l1(l1).build().unwrap();
    let mut random = 7u64;
    for key in 0..600 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let size = 1 + (random >> 33) as usize % [5_000, 100_000, 2 * MIB, capacity][key as usize % 4];
        cache.insert(&key, vec![0; size]).await.unwrap();
        let mut held = 0;
        for key in 0..=key {
            held += cache.get(&key).await.unwrap().map_or(0, |blob| blob.len());
        }
        // Shards round their parts up.
        assert!(held <= capacity + 64, "{held} bytes after {key}");
        assert!(size > capacity / 2 || cache.get(&key).await.unwrap().is_some(), "{key}: {size}");
    }
}

/// A value whose death shows.
#[derive(Clone)]
struct Tracked(#[expect(dead_code, reason = "held for its count")] Arc<()>);

fn tracked() -> (Tracked, Weak<()>) {
    let life = Arc::new(());
    let watch = Arc::downgrade(&life);
    (Tracked(life), watch)
}

fn tracking(engine: Engine) -> TieredCache<u64, Tracked> {
    TieredCache::builder().l1(MemoryBackend::builder().engine(engine).build()).build().unwrap()
}

/// Nobody asks for it any more, and its room is not needed.
#[tokio::test(start_paused = true)]
async fn what_has_expired_is_freed() {
    for engine in ENGINES {
        let cache = tracking(engine);
        let mut watches = Vec::new();
        for key in 0..100 {
            let (value, watch) = tracked();
            cache.insert(&key, value).ttl(Duration::from_secs(1)).await.unwrap();
            watches.push(watch);
        }
        let (kept, alive) = tracked();
        cache.insert(&1000, kept).ttl(Duration::from_secs(1000)).await.unwrap();
        let (stale, fallback) = tracked();
        let as_fallback = cache.insert(&1001, stale).ttl(Duration::from_secs(1));
        as_fallback.stale_for(Duration::from_secs(1000)).await.unwrap();
        assert_eq!(cache.stats().entries, 102, "{engine:?}");
        advance(Duration::from_secs(2)).await;
        until("they are gone", || watches.iter().all(|watch| watch.strong_count() == 0)).await;
        until("and not counted", || cache.stats().entries == 2).await;
        assert!(alive.strong_count() == 1 && fallback.strong_count() == 1, "{engine:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_tag_or_a_clear_made_void_is_freed() {
    for engine in ENGINES {
        let cache = tracking(engine);
        let ((red, watch), (blue, other)) = (tracked(), tracked());
        cache.insert(&1, red).tag("red").await.unwrap();
        cache.insert(&2, blue).tag("blue").await.unwrap();
        cache.invalidate_tag("red").await.unwrap();
        until("it is gone", || watch.strong_count() == 0 && cache.stats().entries == 1).await;
        assert_eq!(other.strong_count(), 1, "{engine:?}");
        cache.invalidate_all().await.unwrap();
        until("it is gone", || other.strong_count() == 0 && cache.stats().entries == 0).await;
    }
}

/// Of a node that only hears of it.
#[tokio::test(start_paused = true)]
async fn what_another_node_made_void_is_freed() {
    let l2 = MemoryBackend::new(100);
    let node = || {
        let builder = TieredCache::<u64, u64>::builder().namespace("numbers");
        builder.l1(MemoryBackend::new(100)).l2(l2.clone()).build().unwrap()
    };
    let (a, b) = (node(), node());
    until("both serve", || a.is_serving() && b.is_serving()).await;
    a.insert(&1, 1).tag("red").await.unwrap();
    a.insert(&2, 2).await.unwrap();
    assert!(b.get(&1).await.unwrap().is_some() && b.get(&2).await.unwrap().is_some());
    assert_eq!(b.stats().entries, 2);
    a.invalidate_tag("red").await.unwrap();
    until("it is gone", || b.stats().entries == 1).await;
    a.invalidate_all().await.unwrap();
    until("it is gone", || b.stats().entries == 0).await;
}

/// Moka drops values a little later than it forgets them.
#[tokio::test]
async fn a_cache_that_is_shut_down_frees_what_it_holds() {
    for engine in ENGINES {
        let freed = |watch: &Weak<()>| engine == Engine::Moka || watch.strong_count() == 0;
        let cache = tracking(engine);
        let (value, watch) = tracked();
        cache.insert(&1, value).await.unwrap();
        let handle = cache.clone();
        cache.shutdown().await;
        assert!(freed(&watch) && handle.stats().entries == 0, "{engine:?}");

        let cache = tracking(engine);
        let (value, watch) = tracked();
        cache.insert(&1, value).await.unwrap();
        drop(cache);
        assert!(freed(&watch), "{engine:?}: the last handle is gone");
    }
}

/// A value that its callers hold lives as long as they do.
#[tokio::test]
async fn heavy_values_are_freed_likewise() {
    let cache = Blobs::builder().l1(weighed(Engine::Quick, 8 * MIB)).build().unwrap();
    cache.insert(&1, vec![0; 6 * MIB]).await.unwrap();
    let held = cache.get(&1).await.unwrap().unwrap();
    cache.shutdown().await;
    assert_eq!((Arc::strong_count(&held), cache.stats().entries), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn heavy_values_that_have_expired_are_freed_without_being_asked_for() {
    let cache = Blobs::builder().l1(weighed(Engine::Quick, 8 * MIB)).build().unwrap();
    cache.insert(&1, vec![0; 6 * MIB]).ttl(Duration::from_secs(1)).await.unwrap();
    assert_eq!(cache.stats().entries, 1);
    advance(Duration::from_secs(2)).await;
    until("it is gone", || cache.stats().entries == 0).await;
}
