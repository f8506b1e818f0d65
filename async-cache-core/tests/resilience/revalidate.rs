//! Stale while revalidate: an answer at once, a refresh behind it.

use async_cache_core::testing::{Source, ms, until};
use tokio::time::Instant;

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        the_answer_waits_for_nothing, a_hundred_callers_cause_one_refresh, a_failed_refresh_is_retried_after_the_backoff,
        a_caller_that_does_not_ask_for_it_waits,
    }
    both: crate::rig::Tiers::both() => {
        the_answer_waits_for_nothing, a_hundred_callers_cause_one_refresh, a_failed_refresh_is_retried_after_the_backoff,
        a_caller_that_does_not_ask_for_it_waits, nobody_waits_for_another_nodes_refresh,
        a_refresh_takes_what_another_node_has_loaded, a_node_that_never_had_it_answers_what_l2_has,
    }
    l2: crate::rig::Tiers::l2() => {
        a_failed_refresh_is_retried_after_the_backoff,
        the_answer_waits_for_nothing, a_hundred_callers_cause_one_refresh, a_caller_that_does_not_ask_for_it_waits,
        nobody_waits_for_another_nodes_refresh,
    }
}

fn minute(builder: Builder) -> Builder {
    builder.ttl(secs(60)).stale_for(secs(600)).stale_while_revalidate(true)
}

async fn expired(tiers: &Tiers, source: &Source) -> Cache {
    let cache = tiers.node(minute).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
    pass(secs(61)).await;
    source.write();
    cache
}

async fn the_answer_waits_for_nothing(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let (begun, load) = (Instant::now(), source.clone());
    assert_eq!(*cache.get_or_load("k", move || load.slow(secs(5))).await.unwrap(), 1);
    assert!(begun.elapsed() < ms(5), "{:?}", begun.elapsed());
    assert_eq!(cache.stats().stale_served, 1);
    pass(secs(6)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2), "refreshed behind the answer");
    assert_eq!(source.loads(), 2);
    assert!(cache.is_idle());
}

async fn a_hundred_callers_cause_one_refresh(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let begun = Instant::now();
    for _ in 0..100 {
        let load = source.clone();
        assert_eq!(*cache.get_or_load("k", move || load.slow(secs(5))).await.unwrap(), 1);
    }
    assert!(begun.elapsed() < ms(5), "{:?}", begun.elapsed());
    source.begun(2).await;
    assert_eq!(source.loads(), 2);
}

async fn a_failed_refresh_is_retried_after_the_backoff(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    for _ in 0..10 {
        let load = source.clone();
        let call = cache.get_or_load("k", move || load.failing()).error_backoff(secs(2));
        assert_eq!(*call.await.unwrap(), 1);
        pass(ms(200)).await;
    }
    assert_eq!(source.loads(), 2, "one attempt within the backoff");
    pass(ms(300)).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
    until("the refresh has landed", || cache.is_idle()).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
}

async fn a_caller_that_does_not_ask_for_it_waits(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let behind = source.clone();
    assert_eq!(*cache.get_or_load("k", move || behind.slow(ms(100))).await.unwrap(), 1);
    let unused = source.clone();
    let waits = cache.get_or_load("k", move || unused.now()).stale_while_revalidate(false);
    assert_eq!(*waits.await.unwrap(), 2, "for the refresh under way");
    assert_eq!(source.loads(), 2);
}

async fn nobody_waits_for_another_nodes_refresh(tiers: Tiers) {
    let source = Source::new();
    let nodes = [expired(&tiers, &source).await, tiers.node(minute).await, tiers.node(minute).await];
    let begun = Instant::now();
    for node in nodes.iter().chain(&nodes) {
        let load = source.clone();
        assert_eq!(*node.get_or_load("k", move || load.slow(ms(500))).await.unwrap(), 1);
    }
    assert!(begun.elapsed() < ms(10), "{:?}", begun.elapsed());
    pass(ms(600)).await;
    for node in &nodes {
        assert_eq!(node.get("k").await.unwrap().as_deref(), Some(&2));
        assert!(node.is_idle());
    }
    assert_eq!(source.loads(), 2, "one refresh in the fleet");
}

async fn a_refresh_takes_what_another_node_has_loaded(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let other = tiers.node(minute).await;
    let load = source.clone();
    let fresh = other.get_or_load("k", move || load.now()).stale_while_revalidate(false);
    assert_eq!(*fresh.await.unwrap(), 2);
    let unused = source.clone();
    assert_eq!(*cache.get_or_load("k", move || unused.now()).await.unwrap(), 1);
    until("the refresh has landed", || cache.is_idle()).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(source.loads(), 2, "L2 was asked first");
}

async fn a_node_that_never_had_it_answers_what_l2_has(tiers: Tiers) {
    let source = Source::new();
    drop(expired(&tiers, &source).await);
    let cache = tiers.node(minute).await;
    let begun = Instant::now();
    let calls = (0..10).map(|_| {
        let load = source.clone();
        cache.get_or_load("k", move || load.slow(secs(5)))
    });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(*answer.unwrap(), 1);
    }
    assert!(begun.elapsed() < ms(10), "{:?}", begun.elapsed());
    pass(secs(6)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(source.loads(), 2);
}
