//! Refresh ahead of expiry.

use async_cache_core::Loaded;
use async_cache_core::testing::No;
use async_cache_core::testing::{Source, ms, until};

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        a_hot_key_never_expires, far_from_expiry_nothing_is_refreshed, a_failed_refresh_spoils_nothing,
        without_the_option_nothing_is_refreshed, the_loader_may_ask_for_it, callers_never_wait,
    }
    both: crate::rig::Tiers::both() => {
        a_hot_key_never_expires, far_from_expiry_nothing_is_refreshed, a_failed_refresh_spoils_nothing,
        without_the_option_nothing_is_refreshed, the_loader_may_ask_for_it, callers_never_wait,
        one_node_refreshes_and_the_others_take_it,
    }
    l2: crate::rig::Tiers::l2() => {
        a_hot_key_of_l2_never_expires, far_from_expiry_nothing_is_refreshed, a_failed_refresh_spoils_nothing,
        without_the_option_nothing_is_refreshed, a_hot_key_of_batches_never_expires,
    }
}

fn minute(builder: Builder) -> Builder {
    builder.ttl(secs(60)).refresh_ahead(1.0)
}

async fn ask(cache: &Cache, source: &Source) -> u64 {
    let load = source.clone();
    *cache.get_or_load("k", move || load.slow(ms(500))).await.unwrap()
}

/// Asked every 10 ms. Refreshing takes 500 ms and begins, on average, 500 ms × ln(50) before expiry.
async fn a_hot_key_never_expires(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    ask(&cache, &source).await;
    for _ in 0..30_000 {
        ask(&cache, &source).await;
        pass(ms(10)).await;
    }
    let stats = cache.stats();
    assert_eq!(stats.l1_hits, 30_000, "nobody has waited");
    // A life then lasts 57.8 s, give or take 0.6: five end within 300 s.
    assert_eq!(source.loads(), 6);
}

/// The same where each lookup asks L2, every 10 ms.
async fn a_hot_key_of_l2_never_expires(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    for _ in 0..30_000 {
        ask(&cache, &source).await;
        pass(ms(10)).await;
    }
    let stats = cache.stats();
    assert_eq!(
        (stats.l2_hits, stats.misses, source.loads()),
        (29_999, 1, 6),
        "nobody but the first has waited"
    );
}

async fn a_hot_key_of_batches_never_expires(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    for _ in 0..30_000 {
        let load = source.clone();
        let batch = move |keys: Vec<String>| async move {
            let version = load.slow(ms(500)).await?;
            Ok::<_, No>(
                keys.into_iter().map(|key| (key, version)).collect::<std::collections::HashMap<_, _>>(),
            )
        };
        assert!(cache.get_many_or_load(["k"], batch).await.unwrap()[0].is_some());
        pass(ms(10)).await;
    }
    assert_eq!((cache.stats().misses, source.loads()), (1, 6), "nobody but the first has waited");
}

async fn far_from_expiry_nothing_is_refreshed(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    ask(&cache, &source).await;
    // The most the draw comes to is 37 × 500 ms.
    for _ in 0..400 {
        ask(&cache, &source).await;
        pass(ms(100)).await;
    }
    assert_eq!(source.loads(), 1);
}

async fn a_failed_refresh_spoils_nothing(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    ask(&cache, &source).await;
    source.write();
    // 1 ms before expiry, with a cost of 500 ms: the draw is as good as certain within some lookups.
    pass(secs(60) - ms(505)).await;
    for _ in 0..500 {
        let load = source.clone();
        assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
        pass(ms(1)).await;
    }
    assert_eq!(source.loads(), 2, "one attempt within the backoff");
    assert!(cache.contains("k").await.unwrap());
}

async fn without_the_option_nothing_is_refreshed(tiers: Tiers) {
    let (cache, source) = (tiers.node(|builder| builder.ttl(secs(60))).await, Source::new());
    ask(&cache, &source).await;
    pass(ms(59_900)).await;
    for _ in 0..90 {
        ask(&cache, &source).await;
        pass(ms(1)).await;
    }
    assert_eq!(source.loads(), 1);
}

async fn the_loader_may_ask_for_it(tiers: Tiers) {
    let (cache, source) = (tiers.node(|builder| builder.ttl(secs(60))).await, Source::new());
    for _ in 0..6000 {
        let load = source.clone();
        let loader = move || async move {
            let version = load.slow(ms(500)).await?;
            Ok::<_, No>(Loaded::new(version).refresh_ahead(1.0))
        };
        cache.get_or_load("k", loader).await.unwrap();
        pass(ms(10)).await;
    }
    assert_eq!((source.loads(), cache.stats().misses), (2, 1), "the second load was behind an answer");
    assert_eq!(cache.stats().l1_hits, 5999);
}

async fn callers_never_wait(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    ask(&cache, &source).await;
    pass(secs(60) - ms(100)).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..100 {
        ask(&cache, &source).await;
    }
    assert!(begun.elapsed() < ms(5), "{:?}", begun.elapsed());
    until("a refresh has begun", || source.loads() == 2).await;
    pass(secs(1)).await;
    assert!(cache.contains("k").await.unwrap());
}

async fn one_node_refreshes_and_the_others_take_it(tiers: Tiers) {
    let source = Source::new();
    let nodes = [tiers.node(minute).await, tiers.node(minute).await, tiers.node(minute).await];
    for node in &nodes {
        ask(node, &source).await;
    }
    source.write();
    for _ in 0..6100 {
        for node in &nodes {
            ask(node, &source).await;
        }
        pass(ms(10)).await;
    }
    assert_eq!(source.loads(), 2, "one refresh in the fleet");
    for node in &nodes {
        assert_eq!(ask(node, &source).await, 2);
        assert_eq!(node.stats().stale_served, 0);
    }
}
