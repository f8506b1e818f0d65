//! A stale value is one that expired. What was invalidated or cleared never comes back.

use async_cache_core::testing::{Source, until};
use async_cache_core::{ErrorKind, Stamp};

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        an_invalidated_value_is_no_fallback, a_cleared_value_is_no_fallback,
        invalidated_while_the_load_runs, cleared_while_the_load_runs, replaced_while_the_load_runs,
        invalidated_before_the_soft_timeout, invalidated_while_it_is_refreshed_behind,
    }
    both: crate::rig::Tiers::both() => {
        an_invalidated_value_is_no_fallback, a_cleared_value_is_no_fallback,
        invalidated_while_the_load_runs, cleared_while_the_load_runs, replaced_while_the_load_runs,
        invalidated_before_the_soft_timeout, invalidated_while_it_is_refreshed_behind,
        invalidated_elsewhere_while_the_load_runs, cleared_elsewhere_while_the_load_runs,
        a_stamp_rules_a_fallback_out, who_waits_for_a_load_that_a_change_meets_loads,
    }
    l2: crate::rig::Tiers::l2() => {
        an_invalidated_value_is_no_fallback, a_cleared_value_is_no_fallback,
        invalidated_while_the_load_runs, cleared_while_the_load_runs, replaced_while_the_load_runs,
        invalidated_before_the_soft_timeout, invalidated_while_it_is_refreshed_behind,
        invalidated_elsewhere_while_the_load_runs, cleared_elsewhere_while_the_load_runs,
        a_stamp_rules_a_fallback_out, who_waits_for_a_load_that_a_change_meets_loads,
    }
}

fn minute(builder: Builder) -> Builder {
    builder.ttl(secs(60)).stale_for(secs(600))
}

/// A cache whose one row has been loaded, and has expired.
async fn expired(tiers: &Tiers, source: &Source) -> Cache {
    let cache = tiers.node(minute).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
    pass(secs(61)).await;
    cache
}

/// Gets the row by a load that has begun, and fails once it is let go.
async fn failing(cache: &Cache, source: &Source) -> tokio::task::JoinHandle<async_cache_core::Result<u64>> {
    let loads = source.loads();
    let task = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move {
            let load = move || async move {
                source.held().await.and(Err::<u64, _>(async_cache_core::testing::No(0)))
            };
            cache.get_or_load("k", load).await.map(|value| *value)
        }
    });
    source.begun(loads + 1).await;
    task
}

async fn an_invalidated_value_is_no_fallback(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    cache.invalidate("k").await.unwrap();
    let error = cache.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn a_cleared_value_is_no_fallback(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    cache.invalidate_all().await.unwrap();
    let error = cache.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn changed_while_the_load_runs(tiers: Tiers, change: impl AsyncFnOnce(&Cache)) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let call = failing(&cache, &source).await;
    change(&cache).await;
    source.let_go(1);
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Loader);
    until("nothing is left behind", || cache.is_idle()).await;
}

async fn invalidated_while_the_load_runs(tiers: Tiers) {
    changed_while_the_load_runs(tiers, async |cache| drop(cache.invalidate("k").await.unwrap())).await;
}

async fn cleared_while_the_load_runs(tiers: Tiers) {
    changed_while_the_load_runs(tiers, async |cache| drop(cache.invalidate_all().await.unwrap())).await;
}

/// The new value stands in, not the one that was at hand when the load began.
async fn replaced_while_the_load_runs(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let call = failing(&cache, &source).await;
    cache.insert("k", 7).await.unwrap();
    source.let_go(1);
    assert_eq!(call.await.unwrap().unwrap(), 7);
    assert_eq!(cache.stats().stale_served, 0, "it is not stale");
}

async fn changed_elsewhere(tiers: Tiers, change: impl AsyncFnOnce(&Cache) -> Stamp) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let other = tiers.node(minute).await;
    let call = failing(&cache, &source).await;
    let heard = cache.stats().invalidations_received;
    change(&other).await;
    until("it is heard", || cache.stats().invalidations_received > heard).await;
    source.let_go(1);
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Loader);
}

async fn invalidated_elsewhere_while_the_load_runs(tiers: Tiers) {
    changed_elsewhere(tiers, async |other| other.invalidate("k").await.unwrap()).await;
}

async fn cleared_elsewhere_while_the_load_runs(tiers: Tiers) {
    changed_elsewhere(tiers, async |other| other.invalidate_all().await.unwrap()).await;
}

async fn a_stamp_rules_a_fallback_out(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    // A fill of version 1 after a change of another key still is from before the stamp for all the
    // cache knows, unless L2 confirms it: and L2 does.
    let stamp = cache.invalidate("other").await.unwrap();
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.failing()).at_least(&stamp).await.unwrap(), 1);
    let stamp = cache.invalidate("k").await.unwrap();
    let error = cache.get_or_load("k", move || source.failing()).at_least(&stamp).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn invalidated_before_the_soft_timeout(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let call = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.held()).soft_timeout(secs(1)).await }
    });
    source.begun(2).await;
    cache.invalidate("k").await.unwrap();
    pass(secs(2)).await;
    assert!(!call.is_finished(), "there is nothing to make do with: it waits for the load");
    source.let_go(1);
    // Those who waited for the load get what it read, as always.
    assert_eq!(*call.await.unwrap().unwrap(), 1);
    assert_eq!(cache.get("k").await.unwrap(), None, "and nobody else does");
}

async fn invalidated_while_it_is_refreshed_behind(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    let behind = cache.get_or_load("k", move || load.held()).stale_while_revalidate(true);
    assert_eq!(*behind.await.unwrap(), 1);
    source.begun(2).await;
    assert_eq!(source.write(), 2);
    cache.invalidate("k").await.unwrap();
    let load = source.clone();
    let after = cache.get_or_load("k", move || load.now()).stale_while_revalidate(true);
    assert_eq!(*after.await.unwrap(), 2, "neither the stale value nor the refresh from before");
    source.let_go(1);
    until("the refresh has ended", || cache.is_idle()).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
}

/// Nobody failed: a node that waits, with an expired value at hand, for a load that a change has met is not told so.
async fn who_waits_for_a_load_that_a_change_meets_loads(tiers: Tiers) {
    let (source, other) = (Source::new(), Source::new());
    let (here, there) = (expired(&tiers, &source).await, tiers.node(minute).await);
    let loading = failing(&there, &other).await;
    let (waits, load) = (here.clone(), source.clone());
    let one =
        tokio::spawn(async move { waits.get_or_load("k", move || load.now()).await.map(|value| *value) });
    until("the node waits", || here.stats().lease_waits == 1).await;
    source.write();
    there.invalidate("k").await.unwrap();
    assert_eq!(one.await.unwrap().expect("no load has failed"), 2);
    other.let_go(1);
    let _ = loading.await;
}
