//! The in-process tier of async-cache.
//!
//! [`MemoryBackend`] is an L1, an L2, or both. As an L1 ([`LocalBackend`](async_cache_core::LocalBackend)) it
//! holds typed values in a bounded map: [quick_cache], or [moka] if that is chosen. As an L2
//! ([`Backend`](async_cache_core::Backend)) it takes the place of Redis inside one process. Caches on clones
//! of one value then share loaded values, wait for each other's loads, and receive each other's changes.
//!
//! [quick_cache]: https://docs.rs/quick_cache
//! [moka]: https://docs.rs/moka

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

mod backend;
mod builder;
mod engine;
mod eviction;
mod faults;
mod hasher;
mod local;
mod region;
mod store;

pub use backend::MemoryBackend;
pub use builder::MemoryBackendBuilder;
pub use engine::Engine;
pub use eviction::EvictionCause;

/// Faults for tests (feature `testing`).
#[cfg(feature = "testing")]
pub mod testing {
    pub use crate::faults::Mutant;
    pub use crate::faults::restart::Snapshot;
}
