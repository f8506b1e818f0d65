//! Values that must not be stored, over a slow network.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_cache::{Loaded, MemoryBackend, OutagePolicy, TieredCache};
use integration_tests::simulation::{Network, Weather, Wire};

/// A loader says that its value must not be stored. When the call returns, the previous value is removed, and
/// the next lookup finds no value, without an error.
#[tokio::test(start_paused = true)]
async fn what_is_not_stored_has_replaced_the_old_value_when_its_load_returns() {
    let ms = Duration::from_millis;
    let weather = Weather {
        usual: ms(20),
        worst: ms(20),
        slow: 0.0,
        lost_commands: 0.0,
        lost_messages: 0.0,
        per_key: Duration::ZERO,
        command_timeout: ms(500),
    };
    let network = Network::new(MemoryBackend::new(100), weather, false);
    let cache: TieredCache<u64, u64> = TieredCache::builder()
        .namespace("rows")
        .l1(MemoryBackend::new(100))
        .l2(Wire(Arc::clone(&network.link(0, 1))))
        .ttl(ms(1_000))
        .stale_for(ms(60_000))
        .outage(OutagePolicy::Fail)
        .build()
        .expect("a valid cache");
    cache.ready().await.expect("a node that serves");
    for turn in 0..20 {
        cache.insert(&1, turn).await.expect("stored");
        let uncached = || async { Ok::<_, Infallible>(Loaded::new(100).uncached()) };
        if turn % 2 == 0 {
            cache.refresh(&1, uncached).await.expect("loaded");
        } else {
            tokio::time::sleep(ms(1_500)).await;
            let many = |_: Vec<u64>| async { Ok::<_, Infallible>([(1, Loaded::new(100).uncached())].into()) };
            cache.get_many_or_load(&[1], many).await.expect("loaded");
        }
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert_eq!(cache.get(&1).await.expect("an answer"), None);
    }
}
