//! The in-process tier of async-cache.
//!
//! [`MemoryBackend`] is two things. As an L1 ([`LocalBackend`](async_cache_core::LocalBackend)) it holds
//! typed values in a bounded map: [quick_cache], or [moka] if asked for. As a shared tier
//! ([`Backend`](async_cache_core::Backend)) it stands in for Redis inside one process: several
//! caches on clones of one value share what is loaded, wait for each other's loads and hear each
//! other's invalidations, with nothing installed.
//!
//! [quick_cache]: https://docs.rs/quick_cache
//! [moka]: https://docs.rs/moka

#![forbid(unsafe_code)]

mod builder;
mod engine;
mod local;
mod region;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(not(feature = "testing"))]
mod testing;

use std::fmt;
use std::sync::Arc;

use async_cache_core::{Error, ErrorKind, Result};
pub use builder::MemoryBackendBuilder;
use bytes::Bytes;
pub use engine::Engine;
use local::Local;
use store::Stores;

/// Most partitions of a shared tier.
const MAX_PARTITIONS: u16 = 1024;

/// Hashes are seeded at random for each cache, so that keys chosen from outside cannot be made to
/// collide; four times as fast as the standard library's on short keys.
type Hasher = foldhash::quality::RandomState;

/// A tier in this process. Clones share everything.
///
/// It is the L1 of one cache at a time: another cache that is given a clone is refused when it is
/// built. As a shared tier it serves any number, apart by their namespaces. It may be both at once.
///
/// As an L1 the type of its values is inferred from the cache it is given to. As a shared tier it
/// is a `MemoryBackend<Bytes>`, which is what `MemoryBackend` alone means.
///
/// A value that is dropped from it may be dropped under a lock of the cache's: `V`'s `Drop` must not call
/// the cache.
///
/// What it holds is bounded by its capacity. As an L1 it drops what has expired or was made void by a tag or a
/// clear in the background, a part at a time, and everything when the cache is shut down.
pub struct MemoryBackend<V: 'static = Bytes> {
    local: Arc<Local<V>>,
    stores: Arc<Stores>,
}

impl<V: Send + Sync + 'static> MemoryBackend<V> {
    /// A tier for at most `max_entries` entries.
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::builder().max_capacity(max_entries).build()
    }

    /// What a cache is told that is built on it.
    fn check_settings(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::new(ErrorKind::Config, format!("a MemoryBackend {what}")));
        let Stores { capacity, partitions, .. } = &*self.stores;
        match (capacity, partitions) {
            (0, _) => wrong(
                "with `max_capacity` 0 keeps nothing: give it 1 or more, or leave the tier out".to_owned(),
            ),
            (_, 1..=MAX_PARTITIONS) => Ok(()),
            (_, other) => wrong(format!("has 1 to {MAX_PARTITIONS} `partitions`, not {other}")),
        }
    }

    /// Starts to describe a tier.
    pub fn builder() -> MemoryBackendBuilder<V> {
        MemoryBackendBuilder::new()
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
