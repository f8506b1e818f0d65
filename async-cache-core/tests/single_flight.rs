//! One process: single-flight, errors, panics, cancellation, deadlines, re-entry.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{ErrorKind, Loaded, TieredCache, TieredCacheBuilder};
use async_cache_memory::MemoryBackend;
use futures_util::future::join_all;
use tokio::time::Instant;

type Cache = TieredCache<String, u64>;

fn builder() -> TieredCacheBuilder<String, u64> {
    TieredCache::builder().namespace("rows")
}

fn l1_only() -> Cache {
    builder().l1(MemoryBackend::new(10_000)).build().expect("a valid cache")
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_on_a_cold_key_cost_one_load() {
    let (cache, source) = (l1_only(), Source::new());
    let begun = Instant::now();
    let tasks = (0..1000).map(|_| {
        let (cache, source) = (cache.clone(), source.clone());
        tokio::spawn(async move { cache.get_or_load("k", move || source.slow(ms(100))).await })
    });
    for outcome in join_all(tasks).await {
        assert_eq!(*outcome.unwrap().unwrap(), 1);
    }
    assert_eq!(source.loads(), 1);
    assert!(begun.elapsed() < ms(130), "{:?}", begun.elapsed());
    let stats = cache.stats();
    assert_eq!((stats.loads, stats.misses, stats.coalesced_waits), (1, 1, 999));
    assert!(cache.is_idle());
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_by_all_who_waited_and_not_cached() {
    let (cache, source) = (l1_only(), Source::new());
    let begun = Instant::now();
    let calls = (0..20).map(|_| {
        let source = source.clone();
        cache.get_or_load("k", move || source.failing())
    });
    for outcome in join_all(calls).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Loader);
        assert_eq!(error.loader_error::<No>(), Some(&No(1)));
        assert!(error.to_string().contains("`rows`"), "{error}");
    }
    assert!(begun.elapsed() < ms(110), "callers waited one after another: {:?}", begun.elapsed());
    let again = source.clone();
    assert_eq!(*cache.get_or_load("k", move || again.now()).await.unwrap(), 1);
    assert_eq!(source.loads(), 2);
    assert_eq!(cache.stats().load_failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_error_for_everyone_and_nothing_hangs() {
    let cache = l1_only();
    let load = || async {
        tokio::time::sleep(ms(10)).await;
        if true {
            panic!("out of cheese");
        }
        Ok::<u64, No>(0)
    };
    for outcome in join_all((0..5).map(|_| cache.get_or_load("k", load))).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
        assert!(error.to_string().contains("out of cheese"), "{error}");
    }
    // The closure itself may panic, too, before there is a future.
    let at_once = || -> std::future::Ready<Result<u64, No>> { panic!("at once") };
    let error = cache.get_or_load("k", at_once).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
    assert!(cache.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_goes_away_strands_nobody_and_its_load_lands() {
    let (cache, source) = (l1_only(), Source::new());
    let leader = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.held()).await }
    });
    source.begun(1).await;
    let follower = tokio::spawn({
        let (cache, source) = (cache.clone(), source.clone());
        async move { cache.get_or_load("k", move || source.now()).await }
    });
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    source.let_go(1);
    assert_eq!(*follower.await.unwrap().unwrap(), 1);
    assert_eq!(source.loads(), 1);
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1), "the load landed in L1");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_and_the_load_still_lands() {
    let (cache, source) = (l1_only(), Source::new());
    let load = source.clone();
    let abandoned = tokio::time::timeout(ms(10), cache.get_or_load("k", move || load.slow(ms(100)))).await;
    assert!(abandoned.is_err());
    until("the load has landed", || cache.stats().entries == 1 && cache.is_idle()).await;
    assert_eq!(cache.get("k").await.unwrap().as_deref(), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn a_load_over_its_limit_is_ended_and_everyone_is_told() {
    let (cache, source) = (l1_only(), Source::new());
    let begun = Instant::now();
    let calls = (0..3).map(|_| {
        let source = source.clone();
        cache.get_or_load("k", move || source.slow(Duration::from_secs(3600))).load_timeout(ms(200))
    });
    for outcome in join_all(calls).await {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
    }
    assert!(begun.elapsed() < ms(210));
    assert!(cache.is_idle());
    assert!(cache.get_or_load("k", move || source.now()).await.is_ok(), "the key is free again");
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_shorter_limit_than_the_load_is_told_so() {
    let (cache, source) = (l1_only(), Source::new());
    let (slow, other) = (source.clone(), source.clone());
    let loads = cache
        .get_or_load("k", move || slow.slow(Duration::from_secs(3)))
        .load_timeout(Duration::from_secs(5));
    let joins = cache.get_or_load("k", move || other.now()).load_timeout(ms(200));
    let (loaded, joined) = tokio::join!(loads, joins);
    assert_eq!(*loaded.unwrap(), 1);
    let error = joined.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let told = error.to_string();
    assert!(told.contains("`load_timeout`") && !told.contains("blocks a thread"), "{told}");
    assert_eq!(source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_is_told_so() {
    let cache = l1_only();
    let inner = cache.clone();
    let outcome = cache
        .get_or_load("k", move || async move {
            inner.get_or_load("k", || async { Ok::<u64, No>(1) }).await.map(|value| *value)
        })
        .await;
    let cause = outcome.unwrap_err();
    assert_eq!(cause.kind(), ErrorKind::Loader);
    let reentrant = cause.loader_error::<async_cache_core::Error>().expect("the cause is there");
    assert_eq!(reentrant.kind(), ErrorKind::Reentrant);
}

#[tokio::test(start_paused = true)]
async fn a_ring_of_loaders_is_told_so_and_a_chain_is_not() {
    let cache = l1_only();
    let (b, a) = (cache.clone(), cache.clone());
    let ring = cache.get_or_load("a", move || async move {
        b.get_or_load("b", move || async move {
            a.get_or_load("a", || async { Ok::<u64, No>(1) }).await.map(|value| *value)
        })
        .await
        .map(|value| *value)
    });
    let mut error = ring.await.unwrap_err();
    while let Some(inner) = error.loader_error::<async_cache_core::Error>() {
        error = inner.clone();
    }
    assert_eq!(error.kind(), ErrorKind::Reentrant);

    let inner = cache.clone();
    let chain = cache.get_or_load("c", move || async move {
        inner.get_or_load("d", || async { Ok::<u64, No>(4) }).await.map(|value| *value)
    });
    assert_eq!(*chain.await.unwrap(), 4);
}

/// A loader may ask another cache for the key that it loads, by every verb: it is another key there.
#[tokio::test(start_paused = true)]
async fn a_loader_asks_another_cache_for_the_same_key() {
    let all = |keys: Vec<String>| async move {
        Ok::<_, No>(keys.into_iter().map(|key| (key, 4)).collect::<HashMap<_, _>>())
    };
    let (cache, other) = (l1_only(), builder().l2(MemoryBackend::new(100)).build().unwrap());
    let outcome = cache.get_or_load("k", move || async move {
        let one = *other.get_or_load("k", || async { Ok::<u64, No>(1) }).await?;
        other.invalidate("k").await?;
        let two = *other.refresh("k", || async { Ok::<u64, No>(2) }).await?;
        other.invalidate("k").await?;
        let many = other.get_many_or_load(["k"], all).await?.remove(0);
        other.invalidate("k").await?;
        let gathered = other.data_loader(all).build().load("k".to_owned()).await?;
        Ok::<_, async_cache_core::Error>(one + two + *many.unwrap() + *gathered.unwrap())
    });
    assert_eq!(*outcome.await.unwrap(), 1 + 2 + 4 + 4);
    // Nor does a batch keep it from that.
    let (first, second) =
        (cache.clone(), builder().namespace("other").l1(MemoryBackend::new(100)).build().unwrap());
    let batch = move |keys: Vec<String>| {
        let second: Cache = second.clone();
        async move {
            let found = second.get_many_or_load(&keys, all).await?;
            let found = found.into_iter().map(|value| *value.unwrap());
            Ok::<_, async_cache_core::Error>(keys.into_iter().zip(found).collect::<HashMap<_, _>>())
        }
    };
    let found = first.get_many_or_load(["a", "b"], batch).await.unwrap();
    assert_eq!(found.iter().map(|value| **value.as_ref().unwrap()).sum::<u64>(), 8);
}

#[tokio::test(start_paused = true)]
async fn a_value_lives_as_long_as_it_was_told() {
    let (cache, source) = (l1_only(), Source::new());
    let load = |source: &Source| {
        let source = source.clone();
        move || source.now()
    };
    cache.get_or_load("short", load(&source)).ttl(ms(50)).await.unwrap();
    cache.get_or_load("long", load(&source)).await.unwrap();
    cache.get_or_load("capped", load(&source)).l1_ttl(ms(50)).await.unwrap();
    let chosen = || async { Ok::<_, No>(Loaded::new(1).ttl(ms(50))) };
    cache.get_or_load("chosen", chosen).await.unwrap();
    cache.get_or_load("never", || async { Ok::<_, No>(Loaded::new(1).uncached()) }).await.unwrap();
    cache.insert("inserted", 7).ttl(ms(50)).await.unwrap();

    for (key, before) in [
        ("short", true),
        ("long", true),
        ("capped", true),
        ("chosen", true),
        ("never", false),
        ("inserted", true),
    ] {
        assert_eq!(cache.contains(key).await.unwrap(), before, "{key}, before");
    }
    tokio::time::advance(ms(51)).await;
    for key in ["short", "capped", "chosen", "inserted"] {
        assert!(!cache.contains(key).await.unwrap(), "{key}, after");
    }
    assert!(cache.contains("long").await.unwrap());
    tokio::time::advance(Duration::from_secs(300)).await;
    assert!(!cache.contains("long").await.unwrap(), "the default is five minutes");
}

#[tokio::test(start_paused = true)]
async fn an_absence_is_cached_and_told_from_a_miss() {
    let (cache, source) = (l1_only(), Source::new());
    let absent = |source: &Source| {
        let source = source.clone();
        move || async move { source.now().await.map(|_| None::<u64>) }
    };
    let ask = || cache.get_or_load_optional("k", absent(&source)).negative_ttl(ms(100));
    assert_eq!(ask().await.unwrap(), None);
    assert_eq!(ask().await.unwrap(), None);
    assert_eq!(source.loads(), 1, "the absence was cached");
    assert_eq!(cache.get("k").await.unwrap(), None);

    // A caller who needs a value is not answered by an absence.
    let value = source.clone();
    assert_eq!(*cache.get_or_load("k", move || value.now()).await.unwrap(), 1);
    assert_eq!(ask().await.unwrap().as_deref(), Some(&1));

    cache.invalidate("k").await.unwrap();
    assert_eq!(ask().await.unwrap(), None);
    tokio::time::advance(ms(101)).await;
    assert_eq!(ask().await.unwrap(), None);
    assert_eq!(source.loads(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_needs_a_value_does_not_take_the_absence_it_waited_for() {
    let (cache, source) = (l1_only(), Source::new());
    let absent = source.clone();
    let optional = cache
        .get_or_load_optional("k", move || async move { absent.slow(ms(100)).await.map(|_| None::<u64>) });
    let value = source.clone();
    let (nothing, something) = tokio::join!(optional, cache.get_or_load("k", move || value.now()));
    assert_eq!(nothing.unwrap(), None);
    assert_eq!(*something.unwrap(), 1);
    assert_eq!(source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_keys_at_once() {
    let cache = l1_only();
    cache.insert_many([("a".to_owned(), 1), ("b".to_owned(), 2)]).await.unwrap();
    let answers = cache.get_many(["b", "x", "a", "b"]).await.unwrap();
    let plain: Vec<Option<u64>> = answers.iter().map(|answer| answer.as_deref().copied()).collect();
    assert_eq!(plain, [Some(2), None, Some(1), Some(2)]);
    cache.invalidate_many(["a", "nothing"]).await.unwrap();
    assert!(!cache.contains("a").await.unwrap());
    assert!(cache.contains("b").await.unwrap());
    cache.invalidate_all().await.unwrap();
    assert!(!cache.contains("b").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn clear_errors_for_what_cannot_work() {
    let said = |outcome: async_cache_core::Result<Cache>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        error.to_string()
    };
    let l1 = || MemoryBackend::new(10);
    assert!(said(builder().build()).contains("tier"));
    assert!(said(builder().l1(l1()).ttl(Duration::ZERO).build()).contains("`ttl`"));
    assert!(said(builder().l1(l1()).namespace("").build()).contains("empty"));
    assert!(said(builder().l1(l1()).namespace("n".repeat(129)).build()).contains("128"));
    assert!(said(builder().l1(l1()).namespace("a{b").build()).contains("`{`"));
    assert!(said(builder().l1(l1()).max_staleness(Duration::ZERO).build()).contains("max_staleness"));

    let cache = l1_only();
    let long = "k".repeat(1025);
    for error in [
        cache.get(&long).await.unwrap_err(),
        cache.insert(&long, 1).await.unwrap_err(),
        cache.invalidate(&long).await.unwrap_err(),
        cache.get_many([&long]).await.unwrap_err(),
        cache.get_or_load(&long, || async { Ok::<u64, No>(1) }).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Key);
        assert!(error.to_string().contains("1024") && error.to_string().contains("`rows`"), "{error}");
        assert!(!error.to_string().contains("kkk"), "an error shows no key: {error}");
    }
    let zero = cache.get_or_load("k", || async { Ok::<u64, No>(1) }).ttl(Duration::ZERO).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::Config);
    let zero = cache.insert("k", 1).ttl(Duration::ZERO).await;
    assert_eq!(zero.unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn without_a_runtime_it_says_so() {
    let error = builder().l1(MemoryBackend::new(10)).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("Tokio"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_loads_and_every_later_call() {
    let (cache, source) = (l1_only(), Source::new());
    cache.insert("warm", 1).await.unwrap();
    let load = source.clone();
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load("k", move || load.held()).await }
    });
    source.begun(1).await;
    cache.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(cache.get("warm").await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(cache.insert("k", 1).await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert_eq!(cache.invalidate("k").await.unwrap_err().kind(), ErrorKind::Shutdown);
    assert!(cache.is_idle());
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_ends_the_loads_it_leaves() {
    struct Witness(Arc<()>);
    let alive = Arc::new(());
    let witness = Witness(Arc::clone(&alive));
    let cache = l1_only();
    let load = move || async move {
        let _held = witness.0;
        std::future::pending::<Result<u64, No>>().await
    };
    assert!(tokio::time::timeout(ms(10), cache.get_or_load("k", load)).await.is_err());
    assert_eq!(Arc::strong_count(&alive), 2, "the load goes on without its caller");
    drop(cache);
    until("the load has been dropped", || Arc::strong_count(&alive) == 1).await;
}
