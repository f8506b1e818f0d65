//! The engines an L1 can run on: bounded concurrent maps, which know nothing of what they hold.

mod heavy;
mod moka;
mod quick;
mod weighed;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_cache_core::LocalBackend;
use async_cache_core::backend::Entry;
use async_cache_core::key::Key;

use self::moka::Moka;
use self::quick::Quick;
use self::weighed::Weighed;
use crate::builder::Weigher;

/// What an L1 runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Engine {
    /// [quick_cache](https://docs.rs/quick_cache): Clock-PRO in shards. A hit takes the shard's
    /// lock for reading and writes at most one counter; nothing is left to be done later.
    #[default]
    Quick,
    /// [moka](https://docs.rs/moka): W-TinyLFU. A hit costs several times as much, for it is
    /// recorded in a log that is worked off now and then; what is scanned once does not drive out
    /// what is asked for often. A value that it forgets may be dropped some operations later.
    Moka,
}

/// An engine of which a cache can have a handle: called through one pointer, with nothing in between.
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

/// Whether what was just stored must be removed again, because the cache was closed meanwhile:
///
/// 1. a load ends, and its value is about to be stored; 2. the cache is closed, and the engine emptied;
/// 3. the value is stored: nobody would free it.
///
/// Asked after the insert: either the claim has ended, or the emptying comes after the insert.
fn too_late(claim: Option<&Arc<Claim>>) -> bool {
    claim.is_some_and(|claim| claim.has_ended())
}

/// What an engine is built from.
pub(crate) struct Plan<V> {
    pub(crate) engine: Engine,
    pub(crate) capacity: u64,
    pub(crate) weigher: Option<Arc<Weigher<V>>>,
}

impl<V: Send + Sync + 'static> Plan<V> {
    pub(crate) fn build(&self) -> Box<dyn Shareable<V>> {
        match (self.engine, self.weigher.clone()) {
            (Engine::Quick, None) => Box::new(Quick::new(self.capacity)),
            (Engine::Quick, Some(weigher)) => Box::new(Weighed::new(self.capacity, weigher)),
            (Engine::Moka, weigher) => Box::new(Moka::new(self.capacity, weigher)),
        }
    }
}

/// Weighs an entry once, before it goes in: engines ask for a weight whenever they move an entry,
/// under a lock, and lose count if it has changed or the weigher panics. `None` if it panicked.
fn weigh<V>(weigher: &Weigher<V>, key: &Key, entry: &Entry<V>) -> Option<u32> {
    let Some(value) = &entry.value else { return Some(1) };
    let weighed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| weigher(key.as_bytes(), value)));
    // Without weight an entry would be there for ever.
    weighed.ok().map(|weight| weight.max(1))
}
