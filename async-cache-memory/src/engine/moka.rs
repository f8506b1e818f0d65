//! On moka.

use std::sync::Arc;

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, Terms};
use async_cache_core::key::Key;

use super::weigh;
use crate::Hasher;
use crate::builder::Weigher;

/// Value, all else of the entry, weight.
type Held<V> = (Option<Arc<V>>, Terms, u32);

/// Clones share everything.
pub(crate) struct Moka<V> {
    cache: ::moka::sync::Cache<Key, Held<V>, Hasher>,
    weigher: Option<Arc<Weigher<V>>>,
}

impl<V> Clone for Moka<V> {
    fn clone(&self) -> Self {
        Self { cache: self.cache.clone(), weigher: self.weigher.clone() }
    }
}

impl<V: Send + Sync + 'static> Moka<V> {
    pub(crate) fn new(capacity: u64, weigher: Option<Weigher<V>>) -> Self {
        let mut cache = ::moka::sync::Cache::builder().max_capacity(capacity);
        if weigher.is_some() {
            cache = cache.weigher(|_, (_, _, weight)| *weight);
        }
        Self { cache: cache.build_with_hasher(Hasher::default()), weigher: weigher.map(Arc::new) }
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Moka<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.cache.get(key).map(|(value, terms, _)| terms.with(value))
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match self.weigher.as_ref().map_or(Some(1), |weigher| weigh(weigher, key, &entry)) {
            Some(weight) => {
                let (terms, value) = Terms::of(entry);
                self.cache.insert(key.clone(), (value, terms, weight));
            }
            None => self.remove(key.as_bytes()),
        }
    }

    fn remove(&self, key: &[u8]) {
        self.cache.invalidate(key);
    }

    fn clear(&self) {
        self.cache.invalidate_all();
    }

    fn len(&self) -> u64 {
        self.cache.run_pending_tasks();
        self.cache.entry_count()
    }
}
