//! A hit as it is shipped: by the clock that caches read without the feature `testing`. In a process of
//! its own, for all caches of one read the same clock.

use std::time::{Duration, Instant};

use async_cache_core::testing::{No, ms, real_time};
use async_cache_core::{Loaded, TieredCache};
use async_cache_memory::MemoryBackend;

/// How far a hit may lag behind the clock.
const LAG: Duration = Duration::from_millis(1);

fn cache() -> TieredCache<String, u64> {
    real_time();
    TieredCache::builder().l1(MemoryBackend::new(1000)).build().unwrap()
}

/// Keys of every length that is compared in a way of its own.
fn keys() -> impl Iterator<Item = String> {
    [1, 2, 3, 4, 7, 8, 16, 17, 100].into_iter().map(|length| "k".repeat(length))
}

#[tokio::test]
async fn what_has_expired_does_not_answer() {
    let cache = cache();
    for (tag, ttl) in [(None, ms(5)), (Some("t"), ms(5))] {
        for key in keys() {
            let loaded = tag.map_or(Loaded::new(1), |tag| Loaded::new(1).tag(tag));
            cache.get_or_load(&key, || async { Ok::<_, No>(loaded) }).ttl(ttl).await.unwrap();
            let stored = Instant::now();
            loop {
                let asked = Instant::now();
                let found = cache.get(&key).await.unwrap();
                let age = asked.duration_since(stored);
                assert!(found.is_none() || age <= ttl + LAG, "{key} answers after {age:?}");
                if found.is_none() {
                    break;
                }
            }
        }
    }
    assert!(cache.stats().l1_hits > 0);
}

#[tokio::test]
async fn what_was_invalidated_does_not_answer() {
    let cache = cache();
    for key in keys() {
        for version in 1..=4 {
            let loaded = Loaded::new(version).tag("t");
            let load = || async { Ok::<_, No>(loaded) };
            assert_eq!(*cache.get_or_load(&key, load).await.unwrap(), version, "{key}");
            assert_eq!(cache.get(&key).await.unwrap().as_deref(), Some(&version), "{key}");
            match version {
                1 => cache.invalidate(&key).await,
                2 => cache.invalidate_tag("t").await,
                3 => cache.invalidate_all().await,
                _ => cache.insert(&key, 5).await,
            }
            .unwrap();
            let left = (version == 4).then_some(5);
            assert_eq!(cache.get(&key).await.unwrap().as_deref().copied(), left, "{key} at {version}");
        }
    }
}
