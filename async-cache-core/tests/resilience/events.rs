//! What listeners are told.

use async_cache_core::testing::{Source, ms, until};
use async_cache_core::{ErrorKind, Event, EventStream, Resumed, StaleCause};
use futures_util::{FutureExt, StreamExt};

use crate::rig::{Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => { each_stale_answer_says_why, a_rejected_fill_is_told, keys_and_values_are_not_told }
    both: crate::rig::Tiers::both() => { each_stale_answer_says_why, a_rejected_fill_is_told, l1_comes_to_answer }
}

fn told(events: &mut EventStream) -> Vec<Event> {
    std::iter::from_fn(|| events.next().now_or_never().flatten()).collect()
}

fn causes(events: &mut EventStream) -> Vec<StaleCause> {
    let cause = |event| match event {
        Event::StaleServed { cause, .. } => Some(cause),
        _ => None,
    };
    told(events).into_iter().filter_map(cause).collect()
}

async fn expired(tiers: &Tiers) -> (Cache, Source) {
    let (cache, source) =
        (tiers.node(|builder| builder.ttl(secs(60)).stale_for(secs(600))).await, Source::new());
    let load = source.clone();
    cache.get_or_load("secret-key", move || load.now()).await.unwrap();
    pass(secs(61)).await;
    (cache, source)
}

async fn each_stale_answer_says_why(tiers: Tiers) {
    let (cache, source) = expired(&tiers).await;
    let mut events = cache.subscribe();
    let ask = || {
        let load = source.clone();
        cache.get_or_load("secret-key", move || load.failing())
    };
    ask().soft_timeout(ms(50)).await.unwrap();
    until("the load has failed", || cache.is_idle()).await;
    ask().await.unwrap();
    assert_eq!(causes(&mut events), [StaleCause::SlowLoad, StaleCause::Backoff]);
    pass(secs(2)).await;
    ask().await.unwrap();
    pass(secs(2)).await;
    ask().stale_while_revalidate(true).await.unwrap();
    assert_eq!(causes(&mut events), [StaleCause::LoadFailed(ErrorKind::Loader), StaleCause::Revalidating]);
}

async fn a_rejected_fill_is_told(tiers: Tiers) {
    let (cache, source) = expired(&tiers).await;
    let mut events = cache.subscribe();
    let call = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.held()).await }
    });
    source.begun(2).await;
    cache.invalidate("k").await.unwrap();
    source.let_go(1);
    call.await.unwrap().unwrap();
    let rejected =
        told(&mut events).iter().filter(|event| matches!(event, Event::FillRejected { .. })).count();
    assert_eq!(rejected, 1);
}

async fn l1_comes_to_answer(tiers: Tiers) {
    let cache = {
        let builder = async_cache_core::TieredCache::<String, u64>::builder().namespace("rows");
        let Tiers::Both(l2) = &tiers else { unreachable!("on both") };
        builder.l1(async_cache_memory::MemoryBackend::new(10)).l2(l2.clone()).build().unwrap()
    };
    let mut events = cache.subscribe();
    assert_eq!(events.next().await, Some(Event::L1Resumed { held: Resumed::InDoubt }));
    cache.shutdown().await;
    drop(cache);
    assert_eq!(events.collect::<Vec<_>>().await, [], "the stream ends with the cache");
}

async fn keys_and_values_are_not_told(tiers: Tiers) {
    let (cache, source) = expired(&tiers).await;
    let mut events = cache.subscribe();
    cache.get_or_load("secret-key", move || source.failing()).await.unwrap();
    let told = format!("{:?}", told(&mut events));
    assert!(told.contains("StaleServed") && told.contains("LoadFailed"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}
