//! A loader of [`async_graphql`] over an [`async_cache_core::TieredCache`].
//!
//! async-graphql's `DataLoader` gathers the keys of the fields of a query into batches. With a [`CacheLoader`] each batch is
//! looked up in the cache, and only its missing keys are loaded, by one node of the fleet.
//!
//! ```
//! use std::collections::HashMap;
//! use std::sync::Arc;
//!
//! use async_cache::{MemoryBackend, TieredCache};
//! use async_cache_graphql::CacheLoader;
//! use async_graphql::dataloader::DataLoader;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), async_cache::Error> {
//! let users: TieredCache<u64, String> =
//!     TieredCache::builder().namespace("users").l1(MemoryBackend::new(10_000)).build()?;
//! let loader = CacheLoader::new(&users, |ids: Vec<u64>| async move {
//!     // SELECT id, name FROM users WHERE id = ANY(ids)
//!     Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
//! });
//! let loader = DataLoader::new(loader, tokio::spawn); // `Schema::build(..).data(loader)`
//!
//! let name: Option<Arc<String>> = loader.load_one(42).await?; // in a resolver
//! assert_eq!(name.as_deref().map(String::as_str), Some("user 42"));
//! # Ok(()) }
//! ```
//!
//! Leave `DataLoader`'s own cache off, as it is by default: no invalidation reaches it. Then one `DataLoader` may live as long
//! as the schema.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use async_cache_core::batch::BatchValue;
use async_cache_core::{BoxError, CacheKey, Error, TieredCache};
use async_graphql::dataloader::Loader;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

type Loading<K, V> = BoxFuture<'static, Result<HashMap<K, BatchValue<V>>, BoxError>>;
type Batch<K, V> = Arc<dyn Fn(Vec<K>) -> Loading<K, V> + Send + Sync>;

/// A [`Loader`] that looks keys up in a cache, and loads the missing ones with a batch function.
///
/// Its values are `Arc`s: a hit copies a pointer. A key that neither the cache nor the batch function knows is missing in the
/// result, so `load_one` returns `None`.
pub struct CacheLoader<K, V: 'static> {
    cache: TieredCache<K, V>,
    batch: Batch<K, V>,
}

impl<K, V> CacheLoader<K, V>
where
    K: CacheKey + Clone + Eq + Hash + 'static,
    V: Send + Sync + 'static,
{
    /// Makes a loader over this cache.
    ///
    /// `batch` gets the keys that are not cached, and returns a map like the loader of
    /// [`TieredCache::get_many_or_load`]: values, [`Loaded`](async_cache_core::Loaded) values with a ttl and tags, or
    /// `Option`s of either. `None` is cached as an absence. It runs in a task of its own, so a client that goes away does not
    /// end it.
    pub fn new<F, Fut, R, E>(cache: &TieredCache<K, V>, batch: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        let batch = move |keys| {
            let open = |found: Result<HashMap<K, R>, E>| match found {
                Ok(found) => Ok(found.into_iter().map(|(key, value)| (key, value.into())).collect()),
                Err(error) => Err(error.into()),
            };
            batch(keys).map(open).boxed()
        };
        Self { cache: cache.clone(), batch: Arc::new(batch) }
    }
}

impl<K, V> Loader<K> for CacheLoader<K, V>
where
    K: CacheKey + Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Value = Arc<V>;
    type Error = Error;

    /// One round trip to L2 for the keys that L1 does not have, and one batch for those that L2 does not have.
    ///
    /// async-graphql has one error for a batch: that of the first key that could neither be found nor loaded.
    async fn load(&self, keys: &[K]) -> Result<HashMap<K, Arc<V>>, Error> {
        let batch = Arc::clone(&self.batch);
        let found = self.cache.get_many_or_load(keys, move |missing| batch(missing)).await?;
        Ok(keys.iter().zip(found).filter_map(|(key, value)| Some((key.clone(), value?))).collect())
    }
}

impl<K, V: 'static> Clone for CacheLoader<K, V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), batch: Arc::clone(&self.batch) }
    }
}

impl<K, V: 'static> fmt::Debug for CacheLoader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLoader").field("cache", &self.cache).finish_non_exhaustive()
    }
}
