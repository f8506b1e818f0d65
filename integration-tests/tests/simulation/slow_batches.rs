//! Batches whose leases take longer to grant or to renew than their duration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_cache::{MemoryBackend, TieredCache};
use integration_tests::simulation::{Network, Weather, Wire};

/// A cache on a tier that answers each command after this time on average.
fn cache(usual: Duration) -> TieredCache<u64, u64> {
    let weather = Weather {
        usual,
        worst: usual,
        slow: 0.0,
        lost_commands: 0.0,
        lost_messages: 0.0,
        per_key: Duration::ZERO,
        command_timeout: Duration::from_secs(60),
    };
    let network = Network::new(MemoryBackend::new(100_000), weather, false);
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100_000));
    let builder = builder.l2(Wire(Arc::clone(&network.link(0, 1)))).lease_ttl(Duration::from_secs(1));
    builder.max_staleness(Duration::from_secs(60)).ttl(Duration::from_secs(3600)).build().unwrap()
}

/// The number of values of a batch that were not stored.
async fn refused_of(keys: u64, usual: Duration, load: Duration) -> u64 {
    let cache = cache(usual);
    let keys: Vec<u64> = (0..keys).collect();
    let loaded = cache.get_many_or_load(&keys, move |keys: Vec<u64>| async move {
        tokio::time::sleep(load).await;
        Ok::<_, std::io::Error>(keys.into_iter().map(|key| (key, key)).collect::<HashMap<_, _>>())
    });
    let loaded = loaded.load_timeout(Duration::from_secs(600)).await.unwrap();
    assert!(loaded.iter().all(Option::is_some));
    assert_eq!(cache.stats().loads, 1);
    cache.stats().fills_rejected
}

/// Granting all leases takes twice their duration, and renewing them takes as long again.
#[tokio::test(start_paused = true)]
async fn a_large_batch_on_a_slow_tier_stores_what_it_loads() {
    for usual in [100, 500, 1000] {
        for load in [0, 5_000, 40_000] {
            let refused = refused_of(12_288, Duration::from_millis(usual), Duration::from_millis(load)).await;
            assert_eq!(refused, 0, "{usual} ms, a load of {load} ms");
        }
    }
}

/// A batch of one part. Its leases are renewed by the time that is left when the load begins.
#[tokio::test(start_paused = true)]
async fn a_small_batch_on_a_slow_tier_stores_what_it_loads() {
    for load in [0, 500, 1_000, 10_000] {
        let refused = refused_of(100, Duration::from_millis(150), Duration::from_millis(load)).await;
        assert_eq!(refused, 0, "a load of {load} ms");
    }
}
