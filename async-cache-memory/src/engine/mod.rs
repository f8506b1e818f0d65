//! The engines an L1 can run on: bounded concurrent maps, which know nothing of what they hold.

mod moka;
mod quick;

use async_cache_core::LocalBackend;
use async_cache_core::backend::Entry;
use async_cache_core::key::Key;

use self::moka::Moka;
use self::quick::Quick;
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
    /// what is asked for often.
    Moka,
}

/// An engine of which several caches can have a handle each: called through one pointer, with nothing
/// in between.
pub(crate) trait Shareable<V>: LocalBackend<V> {
    fn share(&self) -> Box<dyn Shareable<V>>;
    fn into_handle(self: Box<Self>) -> Box<dyn LocalBackend<V>>;
}

impl<V: 'static, E: LocalBackend<V> + Clone> Shareable<V> for E {
    fn share(&self) -> Box<dyn Shareable<V>> {
        Box::new(self.clone())
    }

    fn into_handle(self: Box<Self>) -> Box<dyn LocalBackend<V>> {
        self
    }
}

/// Builds the engine of one L1.
pub(crate) fn build<V: Send + Sync + 'static>(
    engine: Engine,
    capacity: u64,
    weigher: Option<Weigher<V>>,
) -> Box<dyn Shareable<V>> {
    match (engine, weigher) {
        (Engine::Quick, None) => Box::new(Quick::new(capacity)),
        (Engine::Quick, Some(weigher)) => Box::new(Quick::weighed(capacity, weigher)),
        (Engine::Moka, weigher) => Box::new(Moka::new(capacity, weigher)),
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
