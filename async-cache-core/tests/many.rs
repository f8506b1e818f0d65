//! Many keys with a loader, in one process: one call, in order, under the fences of single keys.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache_core::testing::{No, Source, ms, until};
use async_cache_core::{ErrorKind, Loaded, TieredCache};
use async_cache_memory::MemoryBackend;
use parking_lot::Mutex;
use tokio::time::Instant;

type Cache = TieredCache<u64, u64>;

fn cache() -> Cache {
    TieredCache::builder().namespace("rows").l1(MemoryBackend::new(10_000)).build().expect("a valid cache")
}

/// The keys each call of a loader was given.
type Calls = Arc<Mutex<Vec<Vec<u64>>>>;

fn plain(answers: Vec<Option<Arc<u64>>>) -> Vec<Option<u64>> {
    answers.into_iter().map(|answer| answer.map(|value| *value)).collect()
}

/// Gives its keys doubled, but none of 90 or more.
async fn doubled(calls: Calls, keys: Vec<u64>) -> Result<HashMap<u64, u64>, No> {
    calls.lock().push(keys.clone());
    tokio::time::sleep(ms(10)).await;
    Ok(keys.into_iter().filter(|key| *key < 90).map(|key| (key, 2 * key)).collect())
}

#[tokio::test(start_paused = true)]
async fn the_loader_is_called_once_with_the_distinct_keys_that_are_missing() {
    let (cache, calls) = (cache(), Calls::default());
    cache.insert(&2, 0).await.unwrap();
    let noted = calls.clone();
    let answers =
        cache.get_many_or_load(&[3, 2, 1, 3, 91, 1], |missing| doubled(noted, missing)).await.unwrap();
    assert_eq!(plain(answers), [Some(6), Some(0), Some(2), Some(6), None, Some(2)]);
    assert_eq!(*calls.lock(), [vec![3, 1, 91]]);
    let noted = calls.clone();
    let answers = cache.get_many_or_load(&[1, 2, 3], |missing| doubled(noted, missing)).await.unwrap();
    assert_eq!(plain(answers), [Some(2), Some(0), Some(6)]);
    assert_eq!(calls.lock().len(), 1, "nothing was missing");
    assert_eq!(cache.stats().loads, 1);
    assert!(cache.is_idle());
    let none: [u64; 0] = [];
    assert_eq!(cache.get_many_or_load(&none, |missing| doubled(calls, missing)).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn only_an_absence_that_was_said_is_cached() {
    let (cache, calls) = (cache(), Calls::default());
    let load = |calls: Calls| {
        move |missing: Vec<u64>| async move {
            calls.lock().push(missing);
            Ok::<HashMap<u64, Option<u64>>, No>(HashMap::from([(1, None)]))
        }
    };
    for _ in 0..2 {
        let answers =
            cache.get_many_or_load(&[1, 2], load(calls.clone())).negative_ttl(ms(100)).await.unwrap();
        assert_eq!(answers, [None, None]);
    }
    assert_eq!(*calls.lock(), [vec![1, 2], vec![2]]);
    tokio::time::advance(ms(101)).await;
    cache.get_many_or_load(&[1], load(calls.clone())).await.unwrap();
    assert_eq!(calls.lock().len(), 3, "an absence lives as long as it was told");
}

#[tokio::test(start_paused = true)]
async fn keys_nobody_asked_for_are_ignored_and_counted() {
    let cache = cache();
    let strays = |_: Vec<u64>| async { Ok::<_, No>(HashMap::from([(1, 1), (7, 7), (8, 8)])) };
    assert_eq!(plain(cache.get_many_or_load(&[1], strays).await.unwrap()), [Some(1)]);
    assert!(!cache.contains(&7).await.unwrap());
    assert_eq!(cache.stats().unasked_keys, 2);
}

#[tokio::test(start_paused = true)]
async fn a_loader_may_choose_for_each_key() {
    let cache = cache();
    let load = |_: Vec<u64>| async {
        Ok::<_, No>(HashMap::from([
            (1, Loaded::new(1).ttl(ms(50))),
            (2, Loaded::new(2).uncached()),
            (3, Loaded::new(3)),
        ]))
    };
    assert_eq!(plain(cache.get_many_or_load(&[1, 2, 3], load).await.unwrap()), [Some(1), Some(2), Some(3)]);
    assert_eq!(plain(cache.get_many(&[1, 2, 3]).await.unwrap()), [Some(1), None, Some(3)]);
    tokio::time::advance(ms(51)).await;
    assert_eq!(plain(cache.get_many(&[1, 2, 3]).await.unwrap()), [None, None, Some(3)]);
    let wrong = |_: Vec<u64>| async { Ok::<_, No>(HashMap::from([(4, Loaded::new(4).ttl(ms(0)))])) };
    assert_eq!(plain(cache.get_many_or_load(&[4], wrong).await.unwrap()), [Some(4)]);
    assert_eq!(plain(cache.get_many(&[4]).await.unwrap()), [None]);
}

#[tokio::test(start_paused = true)]
async fn single_lookups_join_a_batch_and_a_batch_joins_them() {
    let (cache, calls, source) = (cache(), Calls::default(), Source::new());
    let (single, load) = (cache.clone(), source.clone());
    let single = tokio::spawn(async move { single.get_or_load(&1, move || load.held()).await });
    source.begun(1).await;
    let (batch, noted) = (cache.clone(), calls.clone());
    let batch =
        tokio::spawn(async move { batch.get_many_or_load(&[1, 2], |keys| doubled(noted, keys)).await });
    until("the batch loads", || calls.lock().len() == 1).await;
    let load = source.clone();
    let joined = cache.get_or_load(&2, move || load.now());
    source.let_go(1);
    assert_eq!(*joined.await.unwrap(), 4, "what the batch loads");
    assert_eq!(*single.await.unwrap().unwrap(), 1);
    assert_eq!(plain(batch.await.unwrap().unwrap()), [Some(1), Some(4)]);
    assert_eq!((calls.lock().clone(), source.loads()), (vec![vec![2]], 1));
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_makes_it_forget_a_batch_under_way() {
    let (cache, source) = (cache(), Source::new());
    let (batch, load) = (cache.clone(), source.clone());
    let old = tokio::spawn(async move {
        let load = |missing: Vec<u64>| async move {
            let version = load.held().await?;
            Ok::<HashMap<u64, u64>, No>(missing.into_iter().map(|key| (key, version)).collect())
        };
        batch.get_many_or_load(&[1, 2], load).await
    });
    source.begun(1).await;
    source.write();
    cache.invalidate(&1).await.unwrap();
    let load = source.clone();
    assert_eq!(*cache.get_or_load(&1, move || load.now()).await.unwrap(), 2, "not joined");
    source.let_go(1);
    assert_eq!(plain(old.await.unwrap().unwrap()), [Some(1), Some(1)]);
    assert_eq!(
        plain(cache.get_many(&[1, 2]).await.unwrap()),
        [Some(2), Some(1)],
        "1 is not put back to the old"
    );
    assert!(cache.is_idle());
}

#[tokio::test(start_paused = true)]
async fn a_failing_panicking_or_hanging_loader_is_an_error_for_all_who_wait_and_leaves_nothing() {
    let cache = cache();
    let failing = |_: Vec<u64>| async { Err::<HashMap<u64, u64>, No>(No(3)) };
    let error = cache.get_many_or_load(&[1, 2], failing).await.unwrap_err();
    assert_eq!(error.loader_error::<No>(), Some(&No(3)));
    assert!(error.to_string().contains("`rows`"), "{error}");
    let panicking =
        |_: Vec<u64>| -> std::future::Ready<Result<HashMap<u64, u64>, No>> { panic!("out of cheese") };
    let error = cache.get_many_or_load(&[1, 2], panicking).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LoaderPanicked);
    let hanging = |_: Vec<u64>| std::future::pending::<Result<HashMap<u64, u64>, No>>();
    let begun = Instant::now();
    let error = cache.get_many_or_load(&[1, 2], hanging).load_timeout(ms(100)).await.unwrap_err();
    assert_eq!((error.kind(), begun.elapsed() < ms(110)), (ErrorKind::Timeout, true));
    assert!(cache.is_idle());
    assert_eq!((cache.stats().loads, cache.stats().load_failures), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_strands_nobody_and_its_load_lands() {
    let (cache, calls) = (cache(), Calls::default());
    let (gone, noted) = (cache.clone(), calls.clone());
    let gone = tokio::spawn(async move { gone.get_many_or_load(&[1, 2], |keys| doubled(noted, keys)).await });
    until("the batch loads", || calls.lock().len() == 1).await;
    gone.abort();
    let noted = calls.clone();
    let answers = cache.get_many_or_load(&[2, 1], |keys| doubled(noted, keys)).await.unwrap();
    assert_eq!((plain(answers), calls.lock().len()), (vec![Some(4), Some(2)], 1));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_one_of_its_own_keys_is_told_so() {
    let cache = cache();
    let inner = cache.clone();
    let own = move |_: Vec<u64>| async move {
        inner.get_or_load(&2, || async { Ok::<u64, No>(1) }).await?;
        Ok::<HashMap<u64, u64>, async_cache_core::Error>(HashMap::new())
    };
    let error = cache.get_many_or_load(&[1, 2], own).await.unwrap_err();
    let cause = error.loader_error::<async_cache_core::Error>().expect("the cause is there");
    assert_eq!(cause.kind(), ErrorKind::Reentrant);
    let inner = cache.clone();
    let own = move |_: Vec<u64>| async move {
        let mut found = inner.get_many_or_load(&[3, 2], |keys| doubled(Calls::default(), keys)).await?;
        Ok::<HashMap<u64, u64>, async_cache_core::Error>(HashMap::from([(1, *found.remove(0).expect("3"))]))
    };
    let error = cache.get_many_or_load(&[1, 2], own).await.unwrap_err();
    let cause = error.loader_error::<async_cache_core::Error>().expect("the cause is there");
    assert_eq!(cause.kind(), ErrorKind::Reentrant, "a batch inside a batch");
    let inner = cache.clone();
    let other = move |_: Vec<u64>| async move {
        let value = *inner.get_or_load(&4, || async { Ok::<u64, No>(1) }).await?;
        Ok::<HashMap<u64, u64>, async_cache_core::Error>(HashMap::from([(1, value), (2, value)]))
    };
    assert!(cache.get_many_or_load(&[1, 2], other).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_a_batch() {
    let (cache, source) = (cache(), Source::new());
    let (batch, load) = (cache.clone(), source.clone());
    let waiting = tokio::spawn(async move {
        let load = |_: Vec<u64>| async move { load.held().await.map(|_| HashMap::<u64, u64>::new()) };
        batch.get_many_or_load(&[1, 2], load).await
    });
    source.begun(1).await;
    cache.shutdown().await;
    assert_eq!(waiting.await.unwrap().unwrap_err().kind(), ErrorKind::Shutdown);
    let late = cache.get_many_or_load(&[1], |keys| doubled(Calls::default(), keys)).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Shutdown);
    assert!(cache.is_idle());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_limit_on_the_keys_of_one_call() {
    let keys: Vec<u64> = (0..100_001).collect();
    let error = cache().get_many_or_load(&keys, |keys| doubled(Calls::default(), keys)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Key);
    assert!(error.to_string().contains("100000") && error.to_string().contains("`rows`"), "{error}");
}

#[tokio::test]
async fn there_is_a_limit_on_the_changes_of_one_call() {
    let cache = cache();
    let over = 0..100_001_u64;
    let keys: Vec<u64> = over.clone().collect();
    cache.insert(&1, 1).await.unwrap();
    for error in [
        cache.invalidate_many(&keys).await.unwrap_err(),
        cache.invalidate_tags(over.clone().map(|tag| tag.to_string())).await.unwrap_err(),
        cache.insert_many(over.map(|key| (key, 2))).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Key);
        assert!(error.to_string().contains("100000") && error.to_string().contains("`rows`"), "{error}");
    }
    assert_eq!(cache.get(&1).await.unwrap().as_deref(), Some(&1), "nothing was changed");
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_answers_while_a_batch_refreshes_it_or_fails_to() {
    let cache: Cache = TieredCache::builder()
        .l1(MemoryBackend::new(100))
        .ttl(ms(100))
        .stale_for(std::time::Duration::from_secs(60))
        .stale_while_revalidate(true)
        .build()
        .unwrap();
    let calls = Calls::default();
    cache.insert(&1, 100).await.unwrap();
    cache.insert(&2, 200).await.unwrap();
    tokio::time::advance(ms(101)).await;
    let noted = calls.clone();
    let answers = cache.get_many_or_load(&[1, 2], |keys| doubled(noted, keys)).await.unwrap();
    assert_eq!(plain(answers), [Some(100), Some(200)]);
    until("both are refreshed by one call", || cache.is_idle() && calls.lock().len() == 1).await;
    assert_eq!(plain(cache.get_many(&[1, 2]).await.unwrap()), [Some(2), Some(4)]);

    tokio::time::advance(ms(101)).await;
    let failing = |_: Vec<u64>| async { Err::<HashMap<u64, u64>, No>(No(3)) };
    let answers = cache.get_many_or_load(&[1, 2], failing).stale_while_revalidate(false).await.unwrap();
    assert_eq!(plain(answers), [Some(2), Some(4)], "the failure is made do with");
}

#[tokio::test(start_paused = true)]
async fn a_loader_over_a_cache_asks_it_first_and_obeys_its_invalidations() {
    let (cache, calls, source) = (cache(), Calls::default(), Source::new());
    let (noted, rows) = (calls.clone(), source.clone());
    let loader = cache
        .data_loader(move |keys: Vec<u64>| {
            noted.lock().push(keys.clone());
            let load = rows.held();
            async move {
                let version = load.await?;
                Ok::<HashMap<u64, u64>, No>(keys.into_iter().map(|key| (key, version)).collect())
            }
        })
        .max_batch_size(100)
        .delay(ms(1))
        .build();
    cache.insert(&9, 9).await.unwrap();
    assert_eq!(loader.load(9).await.unwrap().as_deref(), Some(&9));
    assert!(calls.lock().is_empty(), "a hit waits for nothing and loads nothing");

    let old = tokio::spawn(loader.load_many([1, 2, 1]));
    source.begun(1).await;
    source.write();
    cache.invalidate(&1).await.unwrap();
    let fresh = tokio::spawn(loader.load_many([1, 2]));
    source.begun(2).await;
    source.let_go(2);
    let old: Vec<u64> = old.await.unwrap().into_iter().map(|value| *value.unwrap().unwrap()).collect();
    let fresh: Vec<u64> = fresh.await.unwrap().into_iter().map(|value| *value.unwrap().unwrap()).collect();
    assert_eq!((old, fresh), (vec![1, 1, 1], vec![2, 1]), "1 is loaded afresh, 2 is joined");
    assert_eq!(*calls.lock(), [vec![1, 2], vec![1]]);

    loader.clear(&1).await.unwrap();
    assert!(!cache.contains(&1).await.unwrap());
    loader.prime(1, 50).await.unwrap();
    assert_eq!(cache.get(&1).await.unwrap().as_deref(), Some(&50));
    loader.clear_all().await.unwrap();
    assert_eq!(plain(cache.get_many(&[1, 2, 9]).await.unwrap()), [None, None, None]);
}

#[tokio::test(start_paused = true)]
async fn a_loader_over_a_cache_tells_keys_apart_that_fail() {
    let cache = cache();
    let loader = cache.data_loader_each(|keys: Vec<u64>| async move {
        let outcome = |key| if key == 1 { Err(No(1)) } else { Ok(Some(key)) };
        keys.into_iter().map(|key| (key, outcome(key))).collect::<HashMap<u64, Result<Option<u64>, No>>>()
    });
    let outcomes = loader.load_many([1, 2]).await;
    assert_eq!(outcomes[0].as_ref().unwrap_err().loader_error::<No>(), Some(&No(1)));
    assert_eq!(outcomes[1].as_ref().unwrap().as_deref(), Some(&2));
    assert!(!cache.contains(&1).await.unwrap());

    let own = Arc::new(Mutex::new(None::<async_cache_core::DataLoader<u64, u64>>));
    let inner = Arc::clone(&own);
    let loader = cache.data_loader(move |_: Vec<u64>| {
        let loader = inner.lock().clone().expect("set below");
        async move { loader.load(5).await.map(|_| HashMap::<u64, u64>::new()) }
    });
    *own.lock() = Some(loader.clone());
    let error = loader.load(5).await.unwrap_err();
    let cause = error.loader_error::<async_cache_core::Error>().expect("the cause is there");
    assert_eq!(cause.kind(), ErrorKind::Reentrant);
}

#[tokio::test(start_paused = true)]
async fn warming_with_a_batch_loader() {
    let (cache, calls) = (cache(), Calls::default());
    cache.insert(&5, 0).await.unwrap();
    let noted = calls.clone();
    let keys = (0..95).chain([5]);
    let mut seen = Vec::new();
    let report = cache
        .warm_many(keys, move |keys| doubled(noted.clone(), keys))
        .batch_size(10)
        .concurrency(2)
        .on_progress(|progress| seen.push(progress.done))
        .await;
    assert_eq!((report.loaded, report.skipped, report.absent, report.failed.len()), (89, 2, 5, 0));
    assert_eq!(calls.lock().len(), 10);
    assert!(calls.lock().iter().all(|keys| keys.len() <= 10 && !keys.contains(&5)));
    assert_eq!((seen.len(), seen.last()), (10, Some(&96)));
    let failing = |_: Vec<u64>| async { Err::<HashMap<u64, u64>, No>(No(3)) };
    let report = cache.warm_many([1, 1000, 1001], failing).await;
    let mut failed: Vec<u64> = report.failed.iter().map(|(key, _)| *key).collect();
    failed.sort_unstable();
    assert_eq!((report.skipped, failed), (1, vec![1000, 1001]));
}

/// Each value meets the messages about all the others, which come before the reply.
#[tokio::test(start_paused = true)]
async fn l1_keeps_every_value_of_an_insert_of_many() {
    const KEYS: u64 = 2_000;
    let (l1, l2) = (MemoryBackend::new(10_000), MemoryBackend::new(10_000));
    let cache: TieredCache<u64, u64> =
        TieredCache::builder().namespace("rows").l1(l1).l2(l2).build().unwrap();
    cache.ready().await.unwrap();
    cache.insert_many((0..KEYS).map(|key| (key, key))).await.unwrap();
    let before = cache.stats();
    assert_eq!(before.fills_rejected, 0);
    let keys: Vec<u64> = (0..KEYS).collect();
    let found = cache.get_many(&keys).await.unwrap();
    assert!(found.iter().zip(&keys).all(|(found, key)| found.as_deref() == Some(key)));
    assert_eq!(cache.stats().l1_hits - before.l1_hits, KEYS);
}
