//! The error of a failed load answers for `error_ttl`.

use std::collections::HashMap;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms};
use async_cache_core::{Error, ErrorKind, Loaded, Result};

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        by_default_every_lookup_loads_again,
        within_error_ttl_the_error_answers_and_nothing_is_loaded,
        a_change_of_the_key_or_of_a_tag_ends_it,
        a_load_that_a_change_overtook_leaves_no_error,
        a_stale_value_comes_before_the_error,
        a_refresh_loads_and_its_failure_counts,
        a_panic_and_a_timeout_are_failures_too,
        the_shorter_time_of_both_calls_counts,
        a_caller_that_joins_no_remembered_error_loads,
        a_load_that_succeeds_ends_it,
        batches_learn_from_single_keys_and_single_keys_from_batches,
    }
    both: crate::rig::Tiers::both() => {
        by_default_every_lookup_loads_again,
        within_error_ttl_the_error_answers_and_nothing_is_loaded,
        a_change_of_the_key_or_of_a_tag_ends_it,
        a_load_that_a_change_overtook_leaves_no_error,
        a_stale_value_comes_before_the_error,
        a_refresh_loads_and_its_failure_counts,
        the_shorter_time_of_both_calls_counts,
        a_caller_that_joins_no_remembered_error_loads,
        a_load_that_succeeds_ends_it,
        batches_learn_from_single_keys_and_single_keys_from_batches,
        a_change_on_another_node_ends_it,
        no_other_node_learns_of_it,
        a_value_of_another_node_answers_before_the_error,
        an_entry_that_l2_confirms_answers_before_the_error,
    }
    l2: crate::rig::Tiers::l2() => {
        within_error_ttl_the_error_answers_and_nothing_is_loaded,
        a_change_of_the_key_or_of_a_tag_ends_it,
        a_load_that_a_change_overtook_leaves_no_error,
        a_stale_value_comes_before_the_error,
        a_change_on_another_node_ends_it,
        a_value_of_another_node_answers_before_the_error,
        batches_learn_from_single_keys_and_single_keys_from_batches,
    }
}

fn remembering(builder: Builder) -> Builder {
    builder.ttl(secs(60)).error_ttl(secs(5))
}

/// The number of the query whose error this is.
fn query(outcome: Result<impl Sized>) -> Option<usize> {
    let error: Error = outcome.err()?;
    error.loader_error::<No>().map(|no| no.0)
}

/// Asks for the row, with a query that fails.
async fn fail(cache: &Cache, source: &Source) -> Option<usize> {
    let load = source.clone();
    query(cache.get_or_load("k", move || load.failing()).await)
}

/// Asks for the row, with a query that succeeds.
async fn ask(cache: &Cache, source: &Source) -> Result<u64> {
    let load = source.clone();
    cache.get_or_load("k", move || load.now()).await.map(|row| *row)
}

async fn by_default_every_lookup_loads_again(tiers: Tiers) {
    let (cache, source) = (tiers.node(|builder| builder).await, Source::new());
    assert_eq!(fail(&cache, &source).await, Some(1));
    assert_eq!(fail(&cache, &source).await, Some(2));
}

async fn within_error_ttl_the_error_answers_and_nothing_is_loaded(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    for _ in 0..5 {
        assert_eq!(fail(&cache, &source).await, Some(1), "the same error for all");
        pass(ms(900)).await;
    }
    let calls = (0..20).map(|_| fail(&cache, &source));
    assert!(futures_util::future::join_all(calls).await.iter().all(|query| *query == Some(1)));
    let stats = cache.stats();
    assert_eq!((source.loads(), stats.loads, stats.load_failures), (1, 1, 1));
    assert_eq!(cache.get("k").await.unwrap(), None, "a lookup without a loader gets no error");
    pass(secs(1)).await;
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);
    assert!(cache.is_idle());
}

async fn a_change_of_the_key_or_of_a_tag_ends_it(tiers: Tiers) {
    for change in 0..7 {
        let (cache, source) = (tiers.node(remembering).await, Source::new());
        assert_eq!(fail(&cache, &source).await, Some(1));
        let changed = match change {
            0 => cache.invalidate("k").await,
            1 => cache.invalidate_many(["k"]).await,
            2 => cache.expire("k").await,
            3 => cache.invalidate_tag("any").await,
            4 => cache.expire_tag("any").await,
            5 => cache.invalidate_all().await,
            _ => cache.insert("k", 1).await,
        };
        changed.unwrap();
        assert_eq!(ask(&cache, &source).await.unwrap(), 1, "change {change}");
        cache.invalidate_all().await.unwrap();
        cache.shutdown().await;
    }
}

/// 1. A load begins. 2. The key is invalidated. 3. The load fails. 4. Another lookup must not get its error.
async fn a_load_that_a_change_overtook_leaves_no_error(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    let failing = { (cache.clone(), source.clone()) };
    let failing = tokio::spawn(async move { fail(&failing.0, &failing.1).await });
    source.begun(1).await;
    cache.invalidate("k").await.unwrap();
    assert_eq!(failing.await.unwrap(), Some(1));
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);

    cache.invalidate("k").await.unwrap();
    let failing = { (cache.clone(), source.clone()) };
    let failing = tokio::spawn(async move { fail(&failing.0, &failing.1).await });
    source.begun(3).await;
    cache.invalidate_tag("any").await.unwrap();
    assert_eq!(failing.await.unwrap(), Some(3));
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);
}

async fn a_stale_value_comes_before_the_error(tiers: Tiers) {
    let stale = |builder: Builder| remembering(builder).stale_for(secs(600)).error_backoff(ms(1));
    let (cache, source) = (tiers.node(stale).await, Source::new());
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);
    pass(secs(61)).await;
    for _ in 0..4 {
        let load = source.clone();
        assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
        let load = source.clone();
        let batch = move |_: Vec<String>| async move {
            load.failing().await.map(|row| HashMap::from([("k".to_owned(), row)]))
        };
        assert_eq!(cache.get_many_or_load(["k"], batch).await.unwrap()[0].as_deref(), Some(&1));
        pass(secs(1)).await;
    }
    assert_eq!(source.loads(), 2, "one attempt in the whole time");
    let load = source.clone();
    let without = cache.get_or_load("k", move || load.failing()).stale_on_error(false).await;
    assert_eq!(query(without), Some(2), "a caller that takes no stale value gets the error");
    pass(secs(5)).await;
    source.write();
    assert_eq!(ask(&cache, &source).await.unwrap(), 2);
}

async fn a_refresh_loads_and_its_failure_counts(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    assert_eq!(fail(&cache, &source).await, Some(1));
    let load = source.clone();
    assert_eq!(query(cache.refresh("k", move || load.failing()).await), Some(2), "it loads");
    assert_eq!(fail(&cache, &source).await, Some(2), "the last error answers");
    let load = source.clone();
    assert_eq!(*cache.refresh("k", move || load.now()).await.unwrap(), 1);
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);
    cache.invalidate("k").await.unwrap();
    assert_eq!(fail(&cache, &source).await, Some(4));
}

async fn a_panic_and_a_timeout_are_failures_too(tiers: Tiers) {
    let source = Source::new();
    let cache = tiers.node(remembering).await;
    let panics = || async {
        if true {
            panic!("on purpose");
        }
        Ok::<u64, No>(1)
    };
    assert_eq!(cache.get_or_load("k", panics).await.unwrap_err().kind(), ErrorKind::LoaderPanicked);
    assert_eq!(ask(&cache, &source).await.unwrap_err().kind(), ErrorKind::LoaderPanicked);
    cache.invalidate("k").await.unwrap();
    let load = source.clone();
    let slow = cache.get_or_load("k", move || load.held()).load_timeout(ms(20)).await;
    assert_eq!(slow.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(ask(&cache, &source).await.unwrap_err().kind(), ErrorKind::Timeout);
}

async fn the_shorter_time_of_both_calls_counts(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    let failing = |span: Duration| {
        let load = source.clone();
        cache.get_or_load("k", move || load.failing()).error_ttl(span)
    };
    assert_eq!(query(failing(secs(2)).await), Some(1));
    pass(secs(1)).await;
    assert_eq!(query(failing(secs(60)).await), Some(1));
    pass(secs(1)).await;
    assert_eq!(query(failing(secs(60)).await), Some(2), "of the call that failed");
    pass(secs(2)).await;
    assert_eq!(query(failing(secs(1)).await), Some(3), "of the call that asks");
    assert_eq!(query(failing(Duration::ZERO).await), Some(4));
    assert_eq!(query(failing(secs(60)).await), Some(3), "a call without the option leaves none");
}

/// Callers with and without the option ask together.
async fn a_caller_that_joins_no_remembered_error_loads(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    assert_eq!(fail(&cache, &source).await, Some(1));
    let load = source.clone();
    let plain = cache.get_or_load("k", move || load.now()).error_ttl(Duration::ZERO);
    let (remembered, loaded) = tokio::join!(fail(&cache, &source), plain);
    assert_eq!((remembered, *loaded.unwrap(), source.loads()), (Some(1), 1, 2));
}

async fn a_load_that_succeeds_ends_it(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    assert_eq!(fail(&cache, &source).await, Some(1));
    let uncached = || async { Ok::<_, No>(Loaded::new(7).uncached()) };
    assert_eq!(*cache.get_or_load("k", uncached).error_ttl(Duration::ZERO).await.unwrap(), 7);
    assert_eq!(ask(&cache, &source).await.unwrap(), 1);
}

async fn batches_learn_from_single_keys_and_single_keys_from_batches(tiers: Tiers) {
    let (cache, source) = (tiers.node(remembering).await, Source::new());
    let batch = |keys: [&'static str; 2]| {
        let load = source.clone();
        let batch = move |keys: Vec<String>| async move {
            load.failing().await.map(|row| keys.into_iter().map(|key| (key, row)).collect::<HashMap<_, _>>())
        };
        cache.get_many_or_load(keys, batch).into_future()
    };
    assert_eq!(fail(&cache, &source).await, Some(1));
    let load = source.clone();
    let fine = move |keys: Vec<String>| async move {
        let row = load.now().await?;
        Ok::<HashMap<String, u64>, No>(keys.into_iter().map(|key| (key, row)).collect())
    };
    assert_eq!(query(cache.get_many_or_load(["k", "other"], fine).await), Some(1));
    assert_eq!(cache.get("other").await.unwrap().as_deref(), Some(&1), "its other keys are loaded");
    assert_eq!(query(batch(["a", "b"]).await), Some(3));
    let load = source.clone();
    assert_eq!(query(cache.get_or_load("b", move || load.now()).await), Some(3));
}

async fn a_change_on_another_node_ends_it(tiers: Tiers) {
    let (here, there, source) = (tiers.node(remembering).await, tiers.node(remembering).await, Source::new());
    for change in 0..5 {
        let before = source.loads();
        assert_eq!(fail(&here, &source).await, Some(before + 1));
        let stamp = match change {
            0 => there.invalidate("k").await,
            1 => there.expire("k").await,
            2 => there.invalidate_tag("any").await,
            3 => there.expire_tags(["any"]).await,
            _ => there.invalidate_all().await,
        };
        let (stamp, load) = (stamp.unwrap(), source.clone());
        let insisting = here.get_or_load("k", move || load.failing()).at_least(&stamp).await;
        assert_eq!(query(insisting), Some(before + 2), "change {change}: it must reflect the change");
        there.invalidate("k").await.unwrap();
        pass(secs(1)).await;
    }
}

async fn no_other_node_learns_of_it(tiers: Tiers) {
    let (here, there, source) = (tiers.node(remembering).await, tiers.node(remembering).await, Source::new());
    assert_eq!(fail(&here, &source).await, Some(1));
    assert_eq!(fail(&there, &source).await, Some(2));
    assert_eq!(fail(&here, &source).await, Some(1));
}

async fn a_value_of_another_node_answers_before_the_error(tiers: Tiers) {
    let (here, there, source) = (tiers.node(remembering).await, tiers.node(remembering).await, Source::new());
    assert_eq!(fail(&here, &source).await, Some(1));
    assert_eq!(ask(&there, &source).await.unwrap(), 1);
    assert_eq!(fail(&here, &source).await, None);
    assert_eq!(source.loads(), 2);
}

/// The entry is past its cap in L1. L2 is asked for it by a read, since nothing is to be loaded.
async fn an_entry_that_l2_confirms_answers_before_the_error(tiers: Tiers) {
    // Nothing else answers: no fallback is accepted.
    let capped = |builder: Builder| remembering(builder).l1_ttl(ms(500)).stale_on_error(false);
    let (here, there, source) = (tiers.node(capped).await, tiers.node(capped).await, Source::new());
    assert_eq!(fail(&here, &source).await, Some(1));
    assert_eq!(ask(&there, &source).await.unwrap(), 1);
    for _ in 0..3 {
        assert_eq!(fail(&here, &source).await, None);
        pass(secs(1)).await;
    }
    assert_eq!(source.loads(), 2);
}
