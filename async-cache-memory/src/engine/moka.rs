//! On moka.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache_core::LocalBackend;
use async_cache_core::backend::{Entry, PackedEntry};
use async_cache_core::key::Key;

use super::claim::{Claim, Shareable, too_late};
use super::weigh::{Weigher, weigh};
use crate::hasher::Hasher;

/// Value, all else of the entry, weight.
type Held<V> = (Option<Arc<V>>, PackedEntry, u32);

/// Handles share everything.
pub(crate) struct Moka<V> {
    cache: ::moka::sync::Cache<Key, Held<V>, Hasher>,
    weigher: Option<Arc<Weigher<V>>>,
    refused: Arc<AtomicU64>,
    capacity: u64,
    claim: Option<Arc<Claim>>,
}

impl<V: Send + Sync + 'static> Moka<V> {
    pub(crate) fn new(capacity: u64, weigher: Option<Arc<Weigher<V>>>) -> Self {
        let mut cache = ::moka::sync::Cache::builder().max_capacity(capacity);
        if weigher.is_some() {
            cache = cache.weigher(|_, (_, _, weight)| *weight);
        }
        let cache = cache.build_with_hasher(Hasher::default());
        Self { cache, weigher, refused: Arc::default(), capacity, claim: None }
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for Moka<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.cache.get(key).map(|(value, terms, _)| terms.with(value))
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        match self.weigher.as_ref().map_or(Some(1), |weigher| weigh(weigher, key, &entry)) {
            Some(weight) if u64::from(weight) <= self.capacity => {
                let (terms, value) = PackedEntry::of(entry);
                self.cache.insert(key.clone(), (value, terms, weight));
            }
            _ => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                self.remove(key.as_bytes());
            }
        }
        if too_late(self.claim.as_ref()) {
            self.remove(key.as_bytes());
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

    fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn close(&self) {
        if let Some(claim) = &self.claim {
            claim.end();
        }
        self.clear();
        // The engine frees nothing before it has worked off its log.
        self.cache.run_pending_tasks();
    }

    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<V>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        Box::new(self.cache.iter().map(move |(key, (value, terms, _))| {
            if is_dead(key.as_bytes(), &terms.with(value)) {
                // The entry may have been replaced a moment ago: then the new one is removed, which costs a read.
                self.cache.invalidate(&*key);
            }
        }))
    }
}

impl<V: Send + Sync + 'static> Shareable<V> for Moka<V> {
    fn handle(&self, claim: Arc<Claim>) -> Box<dyn LocalBackend<V>> {
        Box::new(Self {
            cache: self.cache.clone(),
            weigher: self.weigher.clone(),
            refused: Arc::clone(&self.refused),
            capacity: self.capacity,
            claim: Some(claim),
        })
    }
}
