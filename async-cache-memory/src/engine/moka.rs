//! On moka.

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, Packed};
use async_cache_core::key::Key;

use super::weigh;
use crate::Hasher;
use crate::builder::Weigher;

pub(crate) struct Moka<V> {
    cache: ::moka::sync::Cache<Key, (Packed<V>, u32), Hasher>,
    weigher: Option<Weigher<V>>,
}

impl<V: Send + Sync + 'static> Moka<V> {
    pub(crate) fn new(capacity: u64, weigher: Option<Weigher<V>>) -> Self {
        let mut cache = ::moka::sync::Cache::builder().max_capacity(capacity);
        if weigher.is_some() {
            cache = cache.weigher(|_, (_, weight)| *weight);
        }
        Self { cache: cache.build_with_hasher(Hasher::default()), weigher }
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Moka<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.cache.get(key).map(|(entry, _)| entry.into())
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match self.weigher.as_ref().map_or(Some(1), |weigher| weigh(weigher, key, &entry)) {
            Some(weight) => self.cache.insert(key.clone(), (entry.into(), weight)),
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
