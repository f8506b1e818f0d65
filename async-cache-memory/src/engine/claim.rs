//! The right of one cache to an engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_cache_core::LocalBackend;

/// An engine that can give a handle to a cache. So the cache calls it through one pointer.
pub(crate) trait Shareable<V>: LocalBackend<V> {
    /// A handle for one cache, which ends with `claim`.
    fn handle(&self, claim: Arc<Claim>) -> Box<dyn LocalBackend<V>>;
}

/// A cache's right to an engine, until the cache is closed.
#[derive(Debug, Default)]
pub(crate) struct Claim {
    ended: AtomicBool,
}

impl Claim {
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }
}

/// Whether an entry that was just stored must be removed again, because the cache was closed meanwhile:
///
/// 1. a load ends, and its value is about to be stored; 2. the cache is closed, and the engine emptied;
/// 3. the value is stored, and would never be freed.
///
/// It is called after the insert. Then either the claim has ended, or the engine is emptied after the insert.
pub(super) fn too_late(claim: Option<&Arc<Claim>>) -> bool {
    claim.is_some_and(|claim| claim.has_ended())
}
