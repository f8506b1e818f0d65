//! A stale value stands in for a failed load.

use async_cache_core::testing::{No, Source, ms};
use async_cache_core::{ErrorKind, Loaded};

use crate::rig::{Builder, Cache, Tiers, on, pass, secs};

on! {
    l1: crate::rig::Tiers::L1 => {
        a_failed_load_is_answered_with_the_stale_value,
        a_panic_and_a_timeout_are_failures_too,
        without_the_option_it_is_an_error,
        without_a_stale_value_it_is_an_error,
        past_its_second_end_nothing_is_left,
        the_next_attempt_waits_for_the_backoff,
        a_success_starts_a_new_life,
        an_absence_stands_in_where_it_is_an_answer,
        a_plain_get_does_not_take_stale_values,
        refresh_tells_its_error,
    }
    both: crate::rig::Tiers::both() => {
        a_failed_load_is_answered_with_the_stale_value,
        a_panic_and_a_timeout_are_failures_too,
        without_the_option_it_is_an_error,
        without_a_stale_value_it_is_an_error,
        past_its_second_end_nothing_is_left,
        the_next_attempt_waits_for_the_backoff,
        a_success_starts_a_new_life,
        an_absence_stands_in_where_it_is_an_answer,
        a_plain_get_does_not_take_stale_values,
        refresh_tells_its_error,
        a_node_that_never_had_it_falls_back_on_what_l2_has,
        one_failure_in_the_fleet_is_enough,
        a_refresh_does_not_take_anothers_failure_for_its_own,
        the_backoff_holds_in_batches,
        the_cap_on_l1_is_no_expiry,
        what_l2_has_lost_stands_in_past_its_cap_on_l1,
    }
    l2: crate::rig::Tiers::l2() => {
        the_next_attempt_waits_for_the_backoff, the_backoff_holds_in_batches, one_alone_that_takes_no_stale_value_loads,
        a_failed_load_is_answered_with_the_stale_value,
        a_panic_and_a_timeout_are_failures_too,
        without_a_stale_value_it_is_an_error,
        past_its_second_end_nothing_is_left,
        a_success_starts_a_new_life,
        a_plain_get_does_not_take_stale_values,
        refresh_tells_its_error,
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

async fn a_failed_load_is_answered_with_the_stale_value(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    source.write();
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
    assert_eq!(source.loads(), 2, "it was tried");
    let stats = cache.stats();
    assert_eq!((stats.stale_served, stats.load_failures), (1, 1));
    assert!(cache.is_idle());
}

async fn a_panic_and_a_timeout_are_failures_too(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let panics = || async {
        if true {
            panic!("no");
        }
        Ok::<u64, No>(0)
    };
    assert_eq!(*cache.get_or_load("k", panics).await.unwrap(), 1);
    pass(secs(2)).await;
    let load = source.clone();
    let hangs = cache.get_or_load("k", move || load.slow(secs(3600))).load_timeout(ms(200));
    assert_eq!(*hangs.await.unwrap(), 1);
    assert_eq!(cache.stats().stale_served, 2);
    // A hung load holds nobody: the key is free for the next.
    pass(secs(2)).await;
    source.write();
    assert_eq!(*cache.get_or_load("k", move || source.now()).await.unwrap(), 2);
}

async fn without_the_option_it_is_an_error(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    let error = cache.get_or_load("k", move || load.failing()).stale_on_error(false).await.unwrap_err();
    assert_eq!(error.loader_error::<No>(), Some(&No(2)));
    // Nor does the backoff of others keep such a caller from trying.
    let error = cache.get_or_load("k", move || source.failing()).stale_on_error(false).await.unwrap_err();
    assert_eq!(error.loader_error::<No>(), Some(&No(3)));
}

async fn without_a_stale_value_it_is_an_error(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    let error = cache.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn past_its_second_end_nothing_is_left(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    pass(secs(598)).await;
    let load = source.clone();
    assert!(cache.get_or_load("k", move || load.failing()).await.is_ok());
    pass(secs(2)).await;
    let error = cache.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn the_next_attempt_waits_for_the_backoff(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let ask = |source: &Source| {
        let source = source.clone();
        cache.get_or_load("k", move || source.failing()).error_backoff(secs(5))
    };
    assert_eq!(*ask(&source).await.unwrap(), 1);
    for _ in 0..4 {
        pass(secs(1)).await;
        assert_eq!(*ask(&source).await.unwrap(), 1);
    }
    assert_eq!(source.loads(), 2, "one attempt, and none during the backoff");
    pass(secs(1)).await;
    assert_eq!(*ask(&source).await.unwrap(), 1);
    assert_eq!(source.loads(), 3, "and one after it, not at the end of another life");
}

async fn the_backoff_holds_in_batches(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let ask = |source: &Source| {
        let load = source.clone();
        let batch = move |_: Vec<String>| async move {
            load.failing().await.map(|_| std::collections::HashMap::<String, u64>::new())
        };
        cache.get_many_or_load(["k"], batch).error_backoff(secs(5)).into_future()
    };
    for _ in 0..5 {
        assert_eq!(ask(&source).await.unwrap()[0].as_deref(), Some(&1));
        pass(secs(1)).await;
    }
    assert_eq!(source.loads(), 2, "one attempt, and none during the backoff");
    assert_eq!(ask(&source).await.unwrap()[0].as_deref(), Some(&1));
    assert_eq!(source.loads(), 3, "and one after it");
    assert_eq!(cache.stats().stale_served, 6);
}

/// A caller that wants no stale value loads in spite of the backoff, also beside those that take one.
async fn one_alone_that_takes_no_stale_value_loads(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    cache.get_or_load("k", move || load.failing()).error_backoff(secs(5)).await.unwrap();
    source.write();
    let (one, two) = (source.clone(), source.clone());
    let taking = cache.get_or_load("k", move || one.now()).error_backoff(secs(5));
    let refusing = cache.get_or_load("k", move || two.now()).stale_on_error(false);
    let (taking, refusing) = tokio::join!(taking, refusing);
    assert_eq!((*taking.unwrap(), *refusing.unwrap()), (1, 2));
}

async fn a_success_starts_a_new_life(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
    pass(secs(2)).await;
    source.write();
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 2);
    pass(secs(59)).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&2));
    assert_eq!(source.loads(), 3);
}

async fn an_absence_stands_in_where_it_is_an_answer(tiers: Tiers) {
    let (cache, source) = (tiers.node(minute).await, Source::new());
    let none = || async { Ok::<_, No>(None::<u64>) };
    assert_eq!(cache.get_or_load_optional("k", none).negative_ttl(secs(10)).await.unwrap(), None);
    pass(secs(11)).await;
    let fails = || async { Err::<Option<u64>, _>(No(0)) };
    assert_eq!(cache.get_or_load_optional("k", fails).await.unwrap(), None);
    let error = cache.get_or_load("k", move || source.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
}

async fn a_plain_get_does_not_take_stale_values(tiers: Tiers) {
    let cache = expired(&tiers, &Source::new()).await;
    assert_eq!(cache.get("k").await.unwrap(), None);
    assert_eq!(cache.get_many(["k"]).await.unwrap(), [None]);
    assert!(!cache.contains("k").await.unwrap());
}

async fn refresh_tells_its_error(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let load = source.clone();
    let error = cache.refresh("k", move || load.failing()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Loader);
    pass(secs(2)).await;
    assert_eq!(*cache.get_or_load("k", move || source.failing()).await.unwrap(), 1, "and spoils nothing");
}

async fn a_node_that_never_had_it_falls_back_on_what_l2_has(tiers: Tiers) {
    let source = Source::new();
    drop(expired(&tiers, &source).await);
    let cache = tiers.node(minute).await;
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
    // From here on it has it, and its backoff.
    assert_eq!(*cache.get_or_load("k", move || source.failing()).await.unwrap(), 1);
    assert_eq!(cache.stats().loads, 1);
}

async fn one_failure_in_the_fleet_is_enough(tiers: Tiers) {
    let source = Source::new();
    let mut nodes = vec![expired(&tiers, &source).await];
    for _ in 0..4 {
        nodes.push(tiers.node(minute).await);
    }
    let begun = tokio::time::Instant::now();
    let calls = nodes.iter().map(|node| {
        let source = source.clone();
        async move { node.get_or_load("k", move || source.failing()).await }
    });
    for outcome in futures_util::future::join_all(calls).await {
        assert_eq!(*outcome.unwrap(), 1);
    }
    assert_eq!(source.loads(), 2, "the others take the one failure for theirs");
    assert!(begun.elapsed() < ms(150), "they waited one after another: {:?}", begun.elapsed());
}

async fn the_cap_on_l1_is_no_expiry(tiers: Tiers) {
    let cache = tiers.node(|builder| minute(builder).l1_ttl(secs(10))).await;
    let load = || async { Ok::<_, No>(Loaded::new(7)) };
    assert_eq!(*cache.get_or_load("k", load).await.unwrap(), 7);
    pass(secs(11)).await;
    let source = Source::new();
    let unused = source.clone();
    assert_eq!(*cache.get_or_load("k", move || unused.now()).await.unwrap(), 7);
    assert_eq!((source.loads(), cache.stats().stale_served), (0, 0), "L2 still has it, fresh");
}

async fn what_l2_has_lost_stands_in_past_its_cap_on_l1(tiers: Tiers) {
    let Tiers::Both(l2) = &tiers else { unreachable!("there is an L2") };
    let cache = tiers.node(|builder| minute(builder).l1_ttl(secs(10))).await;
    let before = l2.snapshot();
    let source = Source::new();
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 1);
    // As an eviction would: the server goes on, and tells nobody.
    l2.revert(&before);
    pass(secs(11)).await;
    source.write();
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.failing()).await.unwrap(), 1);
    let stats = cache.stats();
    assert_eq!((source.loads(), stats.load_failures), (2, 1), "L2 has nothing, so the source is asked");
    assert_eq!((stats.l1_hits, stats.stale_served), (1, 0), "it has not expired");
    let load = source.clone();
    let without = cache.get_or_load("k", move || load.failing()).stale_on_error(false).await;
    assert_eq!(without.unwrap_err().kind(), ErrorKind::Loader, "it was not asked for");
    let load = source.clone();
    assert_eq!(*cache.get_or_load("k", move || load.now()).await.unwrap(), 2);
}

async fn a_refresh_does_not_take_anothers_failure_for_its_own(tiers: Tiers) {
    let source = Source::new();
    let cache = expired(&tiers, &source).await;
    let other = tiers.node(minute).await;
    let load = source.clone();
    let failing = tokio::spawn(async move { other.get_or_load("k", move || load.failing()).await });
    source.begun(2).await;
    source.write();
    let load = source.clone();
    assert_eq!(*cache.refresh("k", move || load.now()).await.unwrap(), 2);
    assert_eq!(*failing.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 3);
}
