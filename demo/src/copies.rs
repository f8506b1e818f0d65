//! An L1 that lets the dashboard look at its copies, and remembers when they were dropped.

use std::collections::HashMap;
use std::sync::Arc;

use async_cache::backend::Entry;
use async_cache::key::Key;
use async_cache::{LocalBackend, MemoryBackend, Result};
use parking_lot::Mutex;

use crate::catalogue::Product;
use crate::clock;

/// Most products whose drop is remembered.
const MAX_DROPPED: usize = 1024;

/// The L1 of one instance. Clones share everything.
#[derive(Clone)]
pub(crate) struct Copies {
    memory: MemoryBackend<Product>,
    dropped: Arc<Mutex<HashMap<Vec<u8>, u64>>>,
}

impl Copies {
    pub(crate) fn new(entries: u64) -> Self {
        Self { memory: MemoryBackend::new(entries), dropped: Arc::default() }
    }

    /// The copy of a product, whether or not it may answer at the moment.
    pub(crate) fn look_at(&self, product: u32) -> Option<Arc<Product>> {
        let key = Key::encode(&product).ok()?;
        self.memory.get(key.as_bytes())?.value
    }

    /// When a copy of the product was dropped last, because it was invalidated.
    pub(crate) fn dropped(&self, product: u32) -> Option<u64> {
        let key = Key::encode(&product).ok()?;
        self.dropped.lock().get(key.as_bytes()).copied()
    }
}

impl LocalBackend<Product> for Copies {
    fn get(&self, key: &[u8]) -> Option<Entry<Product>> {
        self.memory.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry<Product>) {
        self.memory.insert(key, entry);
    }

    fn remove(&self, key: &[u8]) {
        let held = self.memory.get(key).is_some();
        self.memory.remove(key);
        if held {
            let mut dropped = self.dropped.lock();
            if dropped.len() >= MAX_DROPPED {
                dropped.clear();
            }
            dropped.insert(key.to_vec(), clock::now());
        }
    }

    fn clear(&self) {
        self.memory.clear();
    }

    fn len(&self) -> u64 {
        self.memory.len()
    }

    fn open(self, namespace: &str) -> Result<Box<dyn LocalBackend<Product>>> {
        let inner = self.memory.clone().open(namespace)?;
        Ok(Box::new(Opened { inner, copies: self }))
    }
}

/// The L1 as its cache has it.
struct Opened {
    inner: Box<dyn LocalBackend<Product>>,
    copies: Copies,
}

impl LocalBackend<Product> for Opened {
    fn get(&self, key: &[u8]) -> Option<Entry<Product>> {
        self.inner.get(key)
    }

    fn insert(&self, key: &Key, entry: Entry<Product>) {
        self.inner.insert(key, entry);
    }

    fn remove(&self, key: &[u8]) {
        self.copies.remove(key);
    }

    fn clear(&self) {
        self.inner.clear();
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn close(&self) {
        self.inner.close();
    }

    fn refused(&self) -> u64 {
        self.inner.refused()
    }

    fn sweep<'a>(
        &'a self,
        is_dead: &'a (dyn Fn(&[u8], &Entry<Product>) -> bool + Send + Sync),
    ) -> Box<dyn Iterator<Item = ()> + Send + 'a> {
        self.inner.sweep(is_dead)
    }
}
