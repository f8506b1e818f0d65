//! The backend, and its part as an L1.

use std::fmt;
use std::sync::Arc;

use async_cache_core::backend::Entry;
use async_cache_core::key::Key;
use async_cache_core::{Error, ErrorKind, LocalBackend, Result};
use bytes::Bytes;

#[cfg(feature = "testing")]
use crate::faults::restart::{self, Snapshot};
use crate::local::Local;
use crate::store::Stores;

/// The maximum number of partitions of an L2.
const MAX_PARTITIONS: u16 = 1024;

/// A tier in this process: an L1, an L2 for the nodes of this process, or both. Clones share everything.
///
/// It is the L1 of one cache at a time. If another cache is built with a clone, `build` returns an error. As
/// an L2 it serves any number of namespaces.
///
/// As an L1 it has the type of the cache's values, which the compiler infers. As an L2 it is a
/// `MemoryBackend<Bytes>`, for which `MemoryBackend` is short.
///
/// It may drop a value under a lock of the cache. So `V`'s `Drop` must not call the cache.
///
/// Its entries are bounded by its capacity. As an L1 it drops entries that have expired, or that a tag or a
/// clear has made void, in the background, a part at a time; and all entries when the cache is shut down.
pub struct MemoryBackend<V: 'static = Bytes> {
    pub(crate) local: Arc<Local<V>>,
    pub(crate) stores: Arc<Stores>,
}

impl<V: 'static> MemoryBackend<V> {
    /// Refuses invalid settings.
    pub(crate) fn check_settings(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Config, format!("a MemoryBackend {what}")));
        let Stores { capacity, partitions, .. } = &*self.stores;
        if let Some(message) = self.local.wrong {
            return wrong(message.to_owned());
        }
        match (capacity, partitions) {
            (0, _) => wrong(
                "with `max_capacity` 0 keeps nothing: give it 1 or more, or leave the tier out".to_owned(),
            ),
            (_, 1..=MAX_PARTITIONS) => Ok(()),
            (_, other) => wrong(format!("has 1 to {MAX_PARTITIONS} `partitions`, not {other}")),
        }
    }
}

impl<V: Send + Sync + 'static> MemoryBackend<V> {
    /// The number of entries that have left the L1 and were not passed to the
    /// [listener](crate::MemoryBackendBuilder::on_evict), because too many were waiting for it.
    #[must_use]
    pub fn missed_evictions(&self) -> u64 {
        self.local.missed_evictions()
    }
}

#[cfg(feature = "testing")]
impl MemoryBackend<Bytes> {
    /// The content of the shared tier now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        restart::snapshot(&self.stores)
    }

    /// Goes on as the same server process with the older memory of `snapshot`: a master that was
    /// demoted, followed its former replica, and was promoted again. A namespace opened
    /// since stays as it is.
    pub fn revert(&self, snapshot: &Snapshot) {
        restart::revert(&self.stores, snapshot);
    }

    /// Goes on as another server process with the memory of `snapshot`; with none, empty.
    pub fn restart(&self, snapshot: Option<&Snapshot>) {
        restart::restart(&self.stores, snapshot);
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

impl<V: 'static> Clone for MemoryBackend<V> {
    fn clone(&self) -> Self {
        Self { local: Arc::clone(&self.local), stores: Arc::clone(&self.stores) }
    }
}

impl<V: 'static> fmt::Debug for MemoryBackend<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackend").field("capacity", &self.stores.capacity).finish_non_exhaustive()
    }
}
