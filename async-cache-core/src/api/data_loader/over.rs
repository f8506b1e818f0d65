//! A batch function behind a cache.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::api::batch_value::{BatchValue, TypedBatch, box_batch, box_batch_each};
use crate::api::cache::TieredCache;
use crate::api::data_loader::loader::DataLoader;
use crate::api::data_loader::source::{Memory, Source};
use crate::api::many::{Distinct, Terms, look_up};
use crate::changes::invalidate;
use crate::error::{BoxError, Result};
use crate::format::key::{CacheKey, Key, with_encoded};
use crate::local::request::FirstTier;
use crate::lookup::check;
use crate::lookup::many::picked::{Outcome, PerKey};
use crate::options::Options;

struct Over<K, V: 'static> {
    cache: TieredCache<K, V>,
    batch: TypedBatch<K, V>,
}

impl<K, V> Source<K, V> for Over<K, V>
where
    K: CacheKey + Clone + Eq + Hash + 'static,
    V: Send + Sync + 'static,
{
    fn memory(&self) -> Memory {
        Memory::WhileGathered
    }

    /// Answers a hit in L1 at once. Otherwise the key waits for a batch.
    fn peek(&self, key: &K) -> Option<Outcome<V>> {
        let inner = &self.cache.inner;
        let probed = with_encoded(key, |bytes| match inner.local.hit_of_many(bytes, None) {
            Some(answer) => Some(Ok(answer)),
            // If the calling task is a load of this key, it would wait for itself. That is an error.
            None => check::check_reentry(inner, &Key::from_encoded(bytes)).err().map(Err),
        });
        // A key that is too long to be cached has no entry in L1. It is loaded each time.
        probed.ok().flatten()
    }

    fn run(self: Arc<Self>, keys: Vec<K>, options: Options) -> BoxFuture<'static, Vec<Outcome<V>>> {
        Box::pin(async move {
            let inner = &self.cache.inner;
            let terms = Terms { min_stamp: None, first_tier: FirstTier::L1, options };
            let found = look_up(inner, Distinct::new(&keys), terms, Arc::clone(&self.batch)).await;
            found.unwrap_or_else(|error| vec![Err(error); keys.len()])
        })
    }

    fn prime(&self, key: K, value: V, options: Options) -> Result<BoxFuture<'static, Result<()>>, (K, V)> {
        let cache = self.cache.clone();
        Ok(Box::pin(async move {
            let inner = &cache.inner;
            let key = Key::encode(&key).map_err(|error| error.in_namespace(&inner.observer.namespace))?;
            invalidate::insert(inner, vec![(key, Arc::new(value))], options.store).await.map(drop)
        }))
    }

    fn clear(&self, key: Option<&K>) -> Option<BoxFuture<'static, Result<()>>> {
        let (cache, key) = (self.cache.clone(), key.cloned());
        Some(Box::pin(async move {
            match key {
                Some(key) => cache.invalidate(&key).await.map(drop),
                None => cache.invalidate_all().await.map(drop),
            }
        }))
    }
}

impl<K, V> TieredCache<K, V>
where
    K: CacheKey + Clone + Eq + Hash + 'static,
    V: Send + Sync + 'static,
{
    /// Makes a [`DataLoader`] over this cache. It gathers requests for single keys into batches, and looks each
    /// batch up and loads it like [`get_many_or_load`](Self::get_many_or_load).
    ///
    /// A hit in L1 returns at once. The loader itself remembers no values, so every invalidation of the cache
    /// also holds for the loader. It may live as long as the cache.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use std::time::Duration;
    /// # use async_cache_core::TieredCache;
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(10_000)).build()?;
    /// let authors = users
    ///     .data_loader(|ids: Vec<u64>| async move {
    ///         // SELECT id, name FROM users WHERE id = ANY(ids)
    ///         Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    ///     })
    ///     .max_batch_size(100)
    ///     .delay(Duration::from_millis(1))
    ///     .build();
    ///
    /// let names = authors.load_many([1, 2, 1]).await;
    /// assert_eq!(names[2].as_ref().unwrap().as_ref().unwrap().as_str(), "user 1");
    /// assert_eq!(users.stats().loads, 1);
    /// # Ok(()) }
    /// ```
    pub fn data_loader<F, Fut, R, E>(&self, batch: F) -> DataLoader<K, V>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        self.loader_over(box_batch(batch))
    }

    /// Works like [`data_loader`](Self::data_loader), for a batch function that returns an outcome for each
    /// key. Only the callers of a key get the error of that key.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::TieredCache;
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// let lengths: TieredCache<String, usize> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// let lengths = lengths.data_loader_each(|paths: Vec<String>| async move {
    ///     let outcome = |path: &str| match path {
    ///         "secret" => Err(std::io::Error::other("not for you")),
    ///         path => Ok(path.len()),
    ///     };
    ///     paths.into_iter().map(|path| (path.clone(), outcome(&path))).collect::<HashMap<_, _>>()
    /// });
    /// let (open, secret) = tokio::join!(lengths.load("open".to_owned()), lengths.load("secret".to_owned()));
    /// assert_eq!(open?.as_deref(), Some(&4));
    /// assert_eq!(secret.unwrap_err().loader_error::<std::io::Error>().unwrap().to_string(), "not for you");
    /// # Ok(()) }
    /// ```
    pub fn data_loader_each<F, Fut, R>(&self, batch: F) -> DataLoader<K, V>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: PerKey<K, R>> + Send + 'static,
        R: Into<BatchValue<V>>,
    {
        self.loader_over(box_batch_each(batch))
    }

    fn loader_over(&self, batch: TypedBatch<K, V>) -> DataLoader<K, V> {
        DataLoader::over(Arc::new(Over { cache: self.clone(), batch }), self.inner.policy.defaults.clone())
    }
}
