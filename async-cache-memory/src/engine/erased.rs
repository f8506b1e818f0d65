//! moka's map, of values of any type. moka is large: so it is compiled once, and not for each type of values.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use async_cache_core::backend::PackedEntry;
use async_cache_core::key::Key;
use moka::notification::RemovalCause;
use moka::sync::Cache;

use crate::hasher::Hasher;

pub(super) type AnyValue = Arc<dyn Any + Send + Sync>;

/// Is called for each entry that leaves.
pub(super) type Listener = Box<dyn Fn(&Key, Option<AnyValue>, RemovalCause) + Send + Sync>;

/// An entry, and its weight.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) value: Option<AnyValue>,
    pub(super) terms: PackedEntry,
    pub(super) weight: u32,
}

/// Clones are the same map.
#[derive(Clone)]
pub(super) struct Map(Cache<Key, Held, Hasher>);

impl Map {
    pub(super) fn new(
        capacity: u64,
        is_weighed: bool,
        time_to_idle: Option<Duration>,
        listener: Option<Listener>,
    ) -> Self {
        let mut cache = Cache::builder().max_capacity(capacity);
        if is_weighed {
            cache = cache.weigher(|_, held: &Held| held.weight);
        }
        if let Some(idle) = time_to_idle {
            cache = cache.time_to_idle(idle);
        }
        if let Some(listener) = listener {
            cache = cache
                .eviction_listener(move |key: Arc<Key>, held: Held, cause| listener(&key, held.value, cause));
        }
        Self(cache.build_with_hasher(Hasher::default()))
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Held> {
        self.0.get(key)
    }

    pub(super) fn insert(&self, key: Key, held: Held) {
        self.0.insert(key, held);
    }

    pub(super) fn remove(&self, key: &[u8]) {
        self.0.invalidate(key);
    }

    pub(super) fn clear(&self) {
        self.0.invalidate_all();
    }

    /// The number of entries, as of the last time that the log was processed.
    pub(super) fn len(&self) -> u64 {
        self.0.entry_count()
    }

    /// Processes the log of reads and writes. Until then expired entries may stay.
    pub(super) fn process_log(&self) {
        self.0.run_pending_tasks();
    }

    pub(super) fn entries(&self) -> Box<dyn Iterator<Item = (Arc<Key>, Held)> + Send + '_> {
        Box::new(self.0.iter())
    }
}
