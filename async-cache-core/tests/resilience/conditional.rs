//! Conditional refresh: the loader is told what there was, and may say that it still holds.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_cache_core::testing::{No, until};
use async_cache_core::{ErrorKind, LoadContext, Loaded};

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        a_cold_load_is_told_of_nothing, an_unchanged_value_starts_a_new_life, the_value_and_its_age_are_told,
        attempts_are_counted, unchanged_needs_something_before, a_refresh_is_told_too,
        an_invalidated_value_is_not_told, a_changed_value_replaces,
    }
    both: crate::rig::Tiers::both() => {
        a_cold_load_is_told_of_nothing, an_unchanged_value_starts_a_new_life, the_value_and_its_age_are_told,
        attempts_are_counted, unchanged_needs_something_before, a_refresh_is_told_too,
        an_invalidated_value_is_not_told, a_changed_value_replaces, a_new_node_is_told_what_l2_has,
    }
    l2: crate::rig::Tiers::l2() => {
        a_cold_load_is_told_of_nothing, an_unchanged_value_starts_a_new_life, the_value_and_its_age_are_told,
        attempts_are_counted, unchanged_needs_something_before, a_refresh_is_told_too,
        an_invalidated_value_is_not_told, a_changed_value_replaces,
    }
}

fn minute(builder: Builder) -> Builder {
    builder.ttl(secs(60)).stale_for(secs(600))
}

async fn expired(tiers: &Tiers) -> Cache {
    let cache = tiers.node(minute).await;
    assert_eq!(*cache.get_or_load("k", || async { Ok::<_, No>(1) }).await.unwrap(), 1);
    pass(secs(61)).await;
    cache
}

type Told = Arc<Mutex<Vec<(Option<u64>, Option<Duration>, u32)>>>;

/// A loader that notes what it is told, and answers as given.
fn told(
    notes: &Told,
    answer: Result<Loaded<u64>, No>,
) -> impl FnOnce(LoadContext<u64>) -> std::future::Ready<Result<Loaded<u64>, No>> + Send + 'static {
    let notes = Arc::clone(notes);
    move |context| {
        let previous = context.previous().map(|value| **value);
        notes.lock().unwrap().push((previous, context.age(), context.attempt()));
        std::future::ready(answer)
    }
}

async fn a_cold_load_is_told_of_nothing(tiers: Tiers) {
    let (cache, notes) = (tiers.node(minute).await, Told::default());
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::new(1)))).await.unwrap();
    assert_eq!(*notes.lock().unwrap(), [(None, None, 1)]);
}

async fn an_unchanged_value_starts_a_new_life(tiers: Tiers) {
    let (cache, notes) = (expired(&tiers).await, Told::default());
    let before = cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap();
    assert_eq!(*before, 1);
    pass(secs(59)).await;
    let after = cache.get("k").await.unwrap().unwrap();
    if matches!(tiers, Tiers::L1 | Tiers::Both(_)) {
        assert!(Arc::ptr_eq(&before, &after), "the value itself stays");
    }
    pass(secs(2)).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged().ttl(secs(100))))).await.unwrap();
    pass(secs(99)).await;
    assert!(cache.contains("k").await.unwrap(), "for as long as the loader says");
}

async fn the_value_and_its_age_are_told(tiers: Tiers) {
    let (cache, notes) = (expired(&tiers).await, Told::default());
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap();
    pass(secs(70)).await;
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap();
    let seconds: Vec<_> =
        notes.lock().unwrap().iter().map(|(value, age, _)| (*value, age.unwrap().as_secs())).collect();
    assert_eq!(seconds, [(Some(1), 61), (Some(1), 70)]);
}

async fn attempts_are_counted(tiers: Tiers) {
    let (cache, notes) = (expired(&tiers).await, Told::default());
    for _ in 0..3 {
        assert_eq!(*cache.get_or_load_with("k", told(&notes, Err(No(0)))).await.unwrap(), 1);
        pass(secs(2)).await;
    }
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap();
    pass(secs(61)).await;
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap();
    let attempts: Vec<u32> = notes.lock().unwrap().iter().map(|(.., attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3, 4, 1]);
}

async fn unchanged_needs_something_before(tiers: Tiers) {
    let cache = tiers.node(minute).await;
    let error = cache.get_or_load("k", || async { Ok::<_, No>(Loaded::unchanged()) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    assert!(error.to_string().contains("previous"), "{error}");
}

async fn a_refresh_is_told_too(tiers: Tiers) {
    let (cache, notes) = (tiers.node(minute).await, Told::default());
    cache.insert("k", 5).await.unwrap();
    pass(secs(50)).await;
    assert_eq!(*cache.refresh_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap(), 5);
    assert_eq!(*notes.lock().unwrap(), [(Some(5), Some(secs(50)), 1)]);
    pass(secs(50)).await;
    assert!(cache.contains("k").await.unwrap(), "a new life");
}

async fn an_invalidated_value_is_not_told(tiers: Tiers) {
    let (cache, notes) = (expired(&tiers).await, Told::default());
    cache.invalidate("k").await.unwrap();
    cache.get_or_load_with("k", told(&notes, Ok(Loaded::new(2)))).await.unwrap();
    assert_eq!(*notes.lock().unwrap(), [(None, None, 1)]);
}

async fn a_changed_value_replaces(tiers: Tiers) {
    let (cache, notes) = (expired(&tiers).await, Told::default());
    assert_eq!(*cache.get_or_load_with("k", told(&notes, Ok(Loaded::new(2)))).await.unwrap(), 2);
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
}

async fn a_new_node_is_told_what_l2_has(tiers: Tiers) {
    drop(expired(&tiers).await);
    let (cache, notes) = (tiers.node(minute).await, Told::default());
    assert_eq!(*cache.get_or_load_with("k", told(&notes, Ok(Loaded::unchanged()))).await.unwrap(), 1);
    let age = notes.lock().unwrap()[0].1.unwrap();
    assert!((60_990..=61_010).contains(&age.as_millis()), "older than the node itself, to some ms: {age:?}");
    // Renewed in L2 as well.
    let other = tiers.node(minute).await;
    assert_eq!(other.get("k").await.unwrap().as_deref(), Some(&1));
    until("nothing is left", || cache.is_idle()).await;
}
