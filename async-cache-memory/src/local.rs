//! As an L1.

use async_cache_core::backend::Entry;
use async_cache_core::key::Key;
use async_cache_core::{LocalBackend, Result};

use crate::MemoryBackend;

impl<V: Send + Sync + 'static> LocalBackend<V> for MemoryBackend<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.engine.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        self.engine.insert(key, entry);
    }

    fn remove(&self, key: &[u8]) {
        self.engine.remove(key);
    }

    fn clear(&self) {
        self.engine.clear();
    }

    fn len(&self) -> u64 {
        self.engine.len()
    }

    fn check(&self) -> Result<()> {
        self.check_settings()
    }

    fn into_shared(self) -> Box<dyn LocalBackend<V>> {
        self.engine.into_handle()
    }
}
