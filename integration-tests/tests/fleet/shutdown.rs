//! A node that shuts down: it sends its pending changes, and frees its namespace.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_cache::backend::Backend;
use async_cache::testing::{Source, ms, until};
use async_cache::{MemoryBackend, TieredCache};
use integration_tests::fleet::{Cache, Fleet};
use integration_tests::{Conditions, Flow, Proxy, Route, on_both_tiers};

/// Longer than a shutdown takes on a busy machine.
const AT_LAST: Duration = Duration::from_secs(30);

fn open(backend: &Arc<dyn Backend>) -> async_cache::Result<Cache> {
    let builder = TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100));
    builder.l2(Arc::clone(backend)).build()
}

/// Fifty times in a row, with a clone that stays alive.
async fn a_namespace_is_free_when_shutdown_has_returned(fleet: Fleet) {
    let backend = fleet.backend().await;
    let mut clones = Vec::new();
    for turn in 0..50 {
        let cache = open(&backend).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
        cache.insert("k", turn).await.unwrap();
        clones.push(cache.clone());
        cache.shutdown().await;
    }
    let last = open(&backend).unwrap();
    assert_eq!(last.get("k").await.unwrap().as_deref(), Some(&49));
    until("the last serves", || last.is_serving()).await;
    // The end of the old handles does not affect the new one.
    drop(clones);
    let in_one_process = matches!(fleet, Fleet::Memory(_));
    assert!(in_one_process || open(&backend).is_err(), "a handle on Redis is one node");
    last.insert("k", 50).await.unwrap();
    assert_eq!(last.get("k").await.unwrap().as_deref(), Some(&50));
}

/// Fifty times in a row, with a load under way that holds the inner state of the cache.
async fn a_namespace_is_free_when_the_last_handle_has_dropped(fleet: Fleet) {
    let backend = fleet.backend().await;
    for turn in 0..50 {
        let cache = open(&backend).unwrap_or_else(|error| panic!("turn {turn}: {error}"));
        let source = Source::new();
        cache.insert("held", turn).await.unwrap();
        if turn % 2 == 0 {
            let (load, key) = (source.clone(), format!("k{turn}"));
            let call = cache.get_or_load(&key, move || load.held());
            // The caller is cancelled, and the load goes on.
            tokio::select! {
                answer = call => panic!("{answer:?}"),
                () = source.begun(1) => {}
            }
        }
        drop(cache);
    }
}

on_both_tiers! {
    a_namespace_is_free_when_shutdown_has_returned,
    a_namespace_is_free_when_the_last_handle_has_dropped,
}

fn cut(proxy: &Proxy) {
    for route in Route::ALL {
        proxy.set(route, Conditions { flow: Flow::Refused, ..Conditions::default() });
        proxy.cut(route);
    }
}

/// An invalidation fails in an outage. When Redis is back, the node is shut down before any retry.
#[tokio::test]
async fn what_an_outage_has_kept_back_is_sent_by_a_shutdown() {
    for tagged in [false, true] {
        let fleet = Fleet::redis();
        let proxy = Proxy::start(fleet.server().port()).await;
        let node = fleet.node_through(&proxy, |builder| builder).await;
        let other = fleet.node().await;
        other.insert("k", 1).tag("t").await.unwrap();
        cut(&proxy);
        let failed = if tagged { node.invalidate_tag("t").await } else { node.invalidate("k").await };
        failed.unwrap_err();
        assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1));
        proxy.clear();
        let left = tokio::time::timeout(AT_LAST, node.shutdown()).await.expect("it ends");
        assert_eq!(left.pending_invalidations, 0, "tagged: {tagged}");
        tokio::time::timeout(AT_LAST, async {
            while other.get("k").await.unwrap().is_some() {
                tokio::time::sleep(ms(5)).await;
            }
        })
        .await
        .expect("the other node serves what was invalidated");
    }
}

/// In a lasting outage the shutdown still ends, and returns the number of pending changes.
#[tokio::test]
async fn a_shutdown_in_an_outage_ends_and_tells_what_is_left() {
    let fleet = Fleet::redis();
    let proxy = Proxy::start(fleet.server().port()).await;
    let node = fleet.node_through(&proxy, |builder| builder).await;
    cut(&proxy);
    node.invalidate("a").await.unwrap_err();
    node.invalidate("b").await.unwrap_err();
    node.invalidate_tag("t").await.unwrap_err();
    let begun = Instant::now();
    let left = tokio::time::timeout(AT_LAST, node.shutdown()).await.expect("it ends");
    assert_eq!(left.pending_invalidations, 3);
    // The documented limit is three seconds. The rest is for a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(10), "it took {:?}", begun.elapsed());
}
