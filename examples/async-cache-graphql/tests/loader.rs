//! The loader below async-graphql's `DataLoader`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache::testing::No;
use async_cache::{Error, Loaded, MemoryBackend, TieredCache};
use async_cache_graphql::CacheLoader;
use async_graphql::dataloader::DataLoader;

fn node(l2: &MemoryBackend) -> TieredCache<u64, String> {
    let builder = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100));
    builder.l2(l2.clone()).build().expect("a cache")
}

/// A loader that knows the users below 100, and counts the queries and the rows they ask for.
fn loader(
    cache: &TieredCache<u64, String>,
    queries: &Arc<[AtomicUsize; 2]>,
) -> DataLoader<CacheLoader<u64, String>> {
    let queries = Arc::clone(queries);
    let loader = CacheLoader::new(cache, move |ids: Vec<u64>| {
        queries[0].fetch_add(1, Ordering::SeqCst);
        queries[1].fetch_add(ids.len(), Ordering::SeqCst);
        async move {
            if ids.contains(&13) {
                return Err(No(13));
            }
            let user = |id: u64| (id < 100).then(|| Loaded::new(format!("user {id}")).tag("users"));
            Ok(ids.into_iter().map(|id| (id, user(id))).collect::<HashMap<_, _>>())
        }
    });
    DataLoader::new(loader, tokio::spawn)
}

fn counts(queries: &[AtomicUsize; 2]) -> [usize; 2] {
    [queries[0].load(Ordering::SeqCst), queries[1].load(Ordering::SeqCst)]
}

#[tokio::test]
async fn the_fields_of_a_query_are_one_batch_and_only_missing_keys_are_loaded() -> Result<(), Error> {
    let l2 = MemoryBackend::new(1_000);
    let (a, b) = (node(&l2), node(&l2));
    let queries = Arc::default();
    let (on_a, on_b) = (loader(&a, &queries), loader(&b, &queries));

    let found = on_a.load_many(0..10).await?;
    assert_eq!(found.len(), 10);
    assert_eq!(counts(&queries), [1, 10]);
    let found = on_b.load_many(5..15_u64).await;
    assert!(found.is_err(), "13 is refused");
    let found = on_b.load_many(5..12).await?;
    assert_eq!(*found[&11], "user 11");
    assert_eq!(counts(&queries)[1], 10 + 5 + 2, "those that another node loaded are not loaded again");
    Ok(())
}

#[tokio::test]
async fn an_absence_is_missing_in_the_result_and_cached() -> Result<(), Error> {
    let queries = Arc::default();
    let loader = loader(&node(&MemoryBackend::new(100)), &queries);
    assert_eq!(loader.load_one(100).await?, None);
    assert_eq!(loader.load_one(100).await?, None);
    assert_eq!(counts(&queries), [1, 1]);
    Ok(())
}

#[tokio::test]
async fn an_invalidation_reaches_the_next_query() -> Result<(), Error> {
    let cache = node(&MemoryBackend::new(100));
    let queries = Arc::default();
    let loader = loader(&cache, &queries);
    loader.load_one(1).await?;
    cache.invalidate(&1).await?;
    loader.load_one(1).await?;
    cache.invalidate_tag("users").await?;
    loader.load_one(1).await?;
    assert_eq!(counts(&queries), [3, 3]);
    Ok(())
}

#[tokio::test]
async fn the_error_of_the_batch_is_the_callers_by_its_type() {
    let loader = loader(&node(&MemoryBackend::new(100)), &Arc::default());
    let error = loader.load_one(13).await.expect_err("13 is refused");
    assert_eq!(error.loader_error::<No>(), Some(&No(13)));
}
