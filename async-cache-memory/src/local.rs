//! The L1 of a backend: one engine, for one cache at a time.

use std::sync::{Arc, Weak};

use async_cache_core::{Error, ErrorKind, LocalBackend, Result};
use parking_lot::Mutex;

use crate::engine::Plan;
use crate::engine::claim::{Claim, Shareable};

/// The L1 that the clones of a backend share.
pub(crate) struct Local<V> {
    plan: Plan<V>,
    /// The message about an invalid setting.
    pub(crate) wrong: Option<&'static str>,
    current: Mutex<Current<V>>,
}

/// The engine, once it is used, and the cache that it belongs to.
struct Current<V> {
    engine: Option<Arc<dyn Shareable<V>>>,
    claim: Option<(Weak<Claim>, String)>,
}

impl<V: Send + Sync + 'static> Local<V> {
    /// Builds no engine: a backend that is an L2 needs none.
    pub(crate) fn new(plan: Plan<V>, wrong: Option<&'static str>) -> Self {
        Self { plan, wrong, current: Mutex::new(Current { engine: None, claim: None }) }
    }

    pub(crate) fn missed_evictions(&self) -> u64 {
        self.plan.evicted.as_ref().map_or(0, |outlet| outlet.missed())
    }

    pub(crate) fn engine(&self) -> Arc<dyn Shareable<V>> {
        Arc::clone(self.current.lock().engine.get_or_insert_with(|| self.plan.build().into()))
    }

    /// Gives the engine to a cache. Two caches must not share one, because entries of two caches could have
    /// one key, and each entry was checked by the numbers of its own node.
    pub(crate) fn claim(&self, namespace: &str) -> Result<Box<dyn LocalBackend<V>>> {
        let mut current = self.current.lock();
        if let Some((claim, owner)) = &current.claim {
            if claim.upgrade().is_some_and(|claim| !claim.has_ended()) {
                let message = format!(
                    "this MemoryBackend is the L1 of another cache already, of namespace `{owner}`, and a clone is the same memory: give each cache an L1 of its own, `.l1(MemoryBackend::new(..))`"
                );
                return Err(Error::new(ErrorKind::Config, message));
            }
            // A load of the previous cache may still end, and store its value.
            current.engine = None;
        }
        let claim = Arc::new(Claim::default());
        current.claim = Some((Arc::downgrade(&claim), namespace.to_owned()));
        Ok(current.engine.get_or_insert_with(|| self.plan.build().into()).handle(claim))
    }
}

#[cfg(test)]
mod tests {
    use async_cache_core::TieredCache;

    use crate::MemoryBackend;

    #[tokio::test]
    async fn a_backend_that_is_an_l2_alone_builds_no_l1() {
        let l2 = MemoryBackend::new(10);
        let rows = TieredCache::<u64, u64>::builder().namespace("rows").l2(l2.clone()).build().unwrap();
        rows.insert(&1, 1).await.unwrap();
        assert_eq!(rows.get(&1).await.unwrap().as_deref(), Some(&1));
        assert!(l2.local.current.lock().engine.is_none());
    }
}
