//! Whose load failed is told how in its own words: the error is the one that the function gave.
#![cfg(feature = "full")]

use std::collections::HashMap;
use std::error::Error as StdError;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_cache::{DataLoader, Error, ErrorKind, MemoryBackend, TieredCache, cached};
use futures_util::FutureExt;
use tokio::sync::Semaphore;

type Cache = TieredCache<String, u64>;
type Boxed = Box<dyn StdError + Send + Sync>;

fn cache() -> Cache {
    TieredCache::builder().namespace("errors").l1(MemoryBackend::new(100)).build().expect("a valid cache")
}

/// As a database driver's: it cannot be cloned.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("no row {0}")]
struct NoRow(u64);

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("not found: {0}")]
    NotFound(u64),
    #[error("the database failed")]
    Database(#[from] NoRow),
    #[error("the cache failed")]
    Cache(#[from] Error),
}

/// As `axum`'s examples have it: no error to anybody else, and made of whatever is one.
#[derive(Debug)]
struct Response(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Response {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

#[cached(cache = cache, key = "a:{id}", skip(cache))]
async fn of_an_enum(cache: &Cache, id: u64) -> Result<u64, AppError> {
    if id == 404 { Err(AppError::NotFound(id)) } else { Err(NoRow(id).into()) }
}

#[cached(cache = cache, key = "b:{id}", skip(cache))]
async fn of_anyhow(cache: &Cache, id: u64) -> anyhow::Result<u64> {
    use anyhow::Context;
    Err(NoRow(id)).context("looking for a row")
}

#[cached(cache = cache, key = "c:{id}", skip(cache))]
async fn of_a_box(cache: &Cache, id: u64) -> Result<u64, Boxed> {
    Err(NoRow(id).into())
}

#[cached(cache = cache, key = "d:{id}", skip(cache))]
async fn of_a_response(cache: &Cache, id: u64) -> Result<Option<u64>, Response> {
    Err(NoRow(id).into())
}

#[cached(cache = cache, key = "e:{id}", skip(cache))]
async fn of_ours(cache: &Cache, id: u64) -> Result<u64, Error> {
    let other: Cache = TieredCache::builder().namespace("other").l1(MemoryBackend::new(9)).build()?;
    other.get_or_load("k", move || async move { Err::<u64, _>(NoRow(id)) }).await.map(|value| *value)
}

#[tokio::test]
async fn a_function_fails_with_its_own_error() {
    let cache = cache();
    for _ in 0..2 {
        assert!(matches!(of_an_enum(&cache, 404).await, Err(AppError::NotFound(404))));
        assert!(matches!(of_an_enum(&cache, 1).await, Err(AppError::Database(NoRow(1)))));
        assert!(matches!(of_an_enum_refresh(&cache, 404).await, Err(AppError::NotFound(404))));
        let error = of_anyhow(&cache, 2).await.unwrap_err();
        assert_eq!(error.downcast_ref::<NoRow>(), Some(&NoRow(2)));
        assert_eq!(error.to_string(), "looking for a row");
        let error = of_anyhow_refresh(&cache, 2).await.unwrap_err();
        assert_eq!(error.downcast::<NoRow>().unwrap(), NoRow(2));
        assert_eq!(*of_a_box(&cache, 3).await.unwrap_err().downcast::<NoRow>().unwrap(), NoRow(3));
        let Response(error) = of_a_response(&cache, 4).await.unwrap_err();
        assert_eq!(error.downcast_ref::<NoRow>(), Some(&NoRow(4)));
        let error = of_ours(&cache, 5).await.unwrap_err();
        assert_eq!((error.namespace(), error.loader_error()), (Some("other"), Some(&NoRow(5))));
    }
}

#[tokio::test]
async fn what_the_cache_fails_with_is_converted() {
    let cache = cache();
    cache.shutdown().await;
    let shut = |error: &Error| error.kind() == ErrorKind::Shutdown;
    assert!(matches!(of_an_enum(&cache, 404).await, Err(AppError::Cache(error)) if shut(&error)));
    assert!(of_anyhow(&cache, 2).await.unwrap_err().downcast_ref().is_some_and(shut));
    assert!(of_a_box(&cache, 3).await.unwrap_err().downcast_ref().is_some_and(shut));
    assert!(of_a_response(&cache, 4).await.unwrap_err().0.downcast_ref().is_some_and(shut));
}

/// A run that fails when it is told to.
#[derive(Clone)]
struct Failing {
    runs: Arc<AtomicUsize>,
    begun: Arc<Semaphore>,
    go: Arc<Semaphore>,
}

impl Failing {
    fn new() -> Self {
        Self { runs: Arc::default(), begun: Arc::new(Semaphore::new(0)), go: Arc::new(Semaphore::new(0)) }
    }

    async fn run(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
        self.begun.add_permits(1);
        self.go.acquire().await.expect("never closed").forget();
    }
}

#[cached(cache = cache, key = "slow:{id}", skip(cache, source))]
async fn slow(cache: &Cache, source: &Failing, id: u64) -> Result<u64, AppError> {
    source.run().await;
    Err(AppError::NotFound(id))
}

#[tokio::test]
async fn who_waits_for_the_run_of_another_is_told_what_it_said() {
    let (cache, source) = (cache(), Failing::new());
    let (ours, theirs) = (cache.clone(), source.clone());
    let leader = tokio::spawn(async move { slow(&ours, &theirs, 404).await });
    source.begun.acquire().await.unwrap().forget();
    let mut waiter = pin!(slow(&cache, &source, 404));
    assert!(waiter.as_mut().now_or_never().is_none(), "it has joined");
    source.go.add_permits(1);
    assert!(matches!(leader.await.unwrap(), Err(AppError::NotFound(404))));
    let Err(AppError::Cache(error)) = waiter.await else { panic!("the error of another's run") };
    assert_eq!(
        (error.kind(), error.source().unwrap().to_string()),
        (ErrorKind::Loader, "not found: 404".into())
    );
    assert_eq!(source.runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn who_waits_for_the_run_of_a_caller_that_is_gone_reaches_its_error() {
    let (cache, source) = (cache(), Failing::new());
    let (ours, theirs) = (cache.clone(), source.clone());
    let leader = tokio::spawn(async move { slow(&ours, &theirs, 404).await });
    source.begun.acquire().await.unwrap().forget();
    let mut waiter = pin!(slow(&cache, &source, 404));
    assert!(waiter.as_mut().now_or_never().is_none(), "it has joined");
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    source.go.add_permits(1);
    let Err(AppError::Cache(error)) = waiter.await else { panic!("the error of another's run") };
    assert!(matches!(error.loader_error(), Some(AppError::NotFound(404))));
    assert!(matches!(error.source().unwrap().downcast_ref(), Some(AppError::NotFound(404))));
    assert_eq!(source.runs.load(Ordering::SeqCst), 1);
}

/// Everyone gets the same error from a loader, and finds in it what the loader said.
#[tokio::test]
async fn the_error_of_a_loader_is_found_in_whatever_it_was_wrapped() {
    let cache = cache();
    let found = |error: &Error| assert_eq!(error.loader_error(), Some(&NoRow(7)), "{error:?}");
    found(&cache.get_or_load("k", || async { Err::<u64, _>(NoRow(7)) }).await.unwrap_err());
    found(&cache.get_or_load("k", || async { Err::<u64, Boxed>(NoRow(7).into()) }).await.unwrap_err());
    found(&cache.get_or_load("k", || async { Err::<u64, _>(Box::new(NoRow(7))) }).await.unwrap_err());
    found(&cache.get_or_load("k", || async { Err::<u64, _>(Arc::new(NoRow(7))) }).await.unwrap_err());
    let shared = || async { Err::<u64, _>(Arc::new(NoRow(7)) as Arc<dyn StdError + Send + Sync>) };
    found(&cache.get_or_load("k", shared).await.unwrap_err());
    found(&cache.get_or_load("k", || async { Err::<u64, _>(AppError::from(NoRow(7))) }).await.unwrap_err());

    let opaque = || async { Err::<u64, _>(anyhow::Error::from(NoRow(7))) };
    let error = cache.get_or_load("k", opaque).await.unwrap_err();
    found(&error);
    assert_eq!(error.source().unwrap().downcast_ref(), Some(&NoRow(7)));
    let told: Vec<String> = anyhow::Error::from(error).chain().map(ToString::to_string).collect();
    assert_eq!(told, ["namespace `errors`: loading a key failed", "no row 7"], "each said once");

    let below = || async { Err::<u64, _>(anyhow::Error::from(NoRow(7)).context("on the way")) };
    found(&cache.get_or_load("k", below).await.unwrap_err());
    let above = || async { Err::<u64, _>(anyhow::anyhow!("a cause").context(NoRow(7))) };
    found(&cache.get_or_load("k", above).await.unwrap_err());
    // Through a load inside the load.
    let inner = cache.clone();
    let nested = move || async move { inner.get_or_load("other", opaque).await.map(|value| *value) };
    found(&cache.get_or_load("k", nested).await.unwrap_err());
    let inner = cache.clone();
    let nested = move || async move { anyhow::Ok(*inner.get_or_load("other", opaque).await?) };
    found(&cache.refresh("k", nested).await.unwrap_err());
}

#[tokio::test]
async fn so_is_that_of_a_batch() {
    let cache = cache();
    let found = |error: &Error| assert_eq!(error.loader_error(), Some(&NoRow(7)), "{error:?}");
    let none = |_: Vec<String>| async { Err::<HashMap<String, u64>, _>(anyhow::Error::from(NoRow(7))) };
    let each = |keys: Vec<String>| async {
        let fail = |key| (key, Err::<u64, _>(anyhow::Error::from(NoRow(7))));
        keys.into_iter().map(fail).collect::<HashMap<_, _>>()
    };
    found(&cache.get_many_or_load(["k"], none).await.unwrap_err());
    found(&cache.data_loader(none).load("k".to_owned()).await.unwrap_err());
    found(&cache.data_loader_each(each).load("k".to_owned()).await.unwrap_err());
    found(&DataLoader::new(none).load("k".to_owned()).await.unwrap_err());
    found(&DataLoader::each(each).load("k".to_owned()).await.unwrap_err());
    let report =
        cache.warm(["k".to_owned()], |_| async { Err::<u64, _>(anyhow::Error::from(NoRow(7))) }).await;
    found(&report.failed[0].1);
}
