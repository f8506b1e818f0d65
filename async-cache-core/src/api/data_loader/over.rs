//! A batch function behind a cache.

use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::api::batch_value::TypedBatch;
use crate::api::cache::{TieredCache, encode};
use crate::api::data_loader::loader::DataLoader;
use crate::api::data_loader::source::{Memory, Source};
use crate::api::many::{Distinct, Terms, look_up};
use crate::changes::invalidate;
use crate::error::Result;
use crate::format::key::{CacheKey, Key, with_encoded};
use crate::local::request::FirstTier;
use crate::lookup::loader::check_reentry;
use crate::lookup::many::plan::Outcome;
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
            None => check_reentry(inner, &Key::from_encoded(bytes)).err().map(Err),
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
            let key = encode(inner, &key)?;
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

/// Makes a loader over a cache.
pub(crate) fn over<K, V>(cache: &TieredCache<K, V>, batch: TypedBatch<K, V>) -> DataLoader<K, V>
where
    K: CacheKey + Clone + Eq + Hash + 'static,
    V: Send + Sync + 'static,
{
    let options = cache.inner.policy.defaults.clone();
    DataLoader::over(Arc::new(Over { cache: cache.clone(), batch }), options)
}
