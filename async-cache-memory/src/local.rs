//! As an L1: one engine, for one cache at a time.

use std::sync::{Arc, Weak};

use async_cache_core::backend::Entry;
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, LocalBackend, Result};
use parking_lot::Mutex;

use crate::MemoryBackend;
use crate::engine::{Claim, Plan, Shareable};

/// What the clones of a backend share.
pub(crate) struct Local<V> {
    plan: Plan<V>,
    current: Mutex<Current<V>>,
}

/// The engine, and the cache that it belongs to.
struct Current<V> {
    engine: Arc<dyn Shareable<V>>,
    claim: Option<(Weak<Claim>, String)>,
}

impl<V: Send + Sync + 'static> Local<V> {
    pub(crate) fn new(plan: Plan<V>) -> Self {
        let current = Current { engine: plan.build().into(), claim: None };
        Self { plan, current: Mutex::new(current) }
    }

    fn engine(&self) -> Arc<dyn Shareable<V>> {
        Arc::clone(&self.current.lock().engine)
    }

    /// Gives the engine to a cache. Two caches do not share one: entries are told apart by the key
    /// alone, and what they were verified by is the node's own.
    fn claim(&self, namespace: &str) -> Result<Box<dyn LocalBackend<V>>> {
        let mut current = self.current.lock();
        if let Some((claim, owner)) = &current.claim {
            if claim.upgrade().is_some_and(|claim| !claim.has_ended()) {
                let message = format!(
                    "this MemoryBackend is the L1 of another cache already, of namespace `{owner}`, and a clone is the same memory: give each cache an L1 of its own, `.l1(MemoryBackend::new(..))`"
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
            // A load of the cache before may still end, and store what it brings.
            current.engine = self.plan.build().into();
        }
        let claim = Arc::new(Claim::default());
        current.claim = Some((Arc::downgrade(&claim), namespace.to_owned()));
        Ok(current.engine.handle(claim))
    }
}

impl<V: Send + Sync + 'static> LocalBackend<V> for MemoryBackend<V> {
    fn get(&self, key: &[u8]) -> Option<Entry<V>> {
        self.local.engine().get(key)
    }

    fn insert(&self, key: &Key, entry: Entry<V>) {
        self.local.engine().insert(key, entry);
    }

    fn remove(&self, key: &[u8]) {
        self.local.engine().remove(key);
    }

    fn clear(&self) {
        self.local.engine().clear();
    }

    fn len(&self) -> u64 {
        self.local.engine().len()
    }

    fn refused(&self) -> u64 {
        self.local.engine().refused()
    }

    fn open(self, namespace: &str) -> Result<Box<dyn LocalBackend<V>>> {
        self.check_settings()?;
        self.local.claim(namespace)
    }
}
