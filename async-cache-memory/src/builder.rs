//! The settings of a tier in this process.

use std::fmt;
use std::sync::Arc;

use crate::backend::MemoryBackend;
use crate::engine::weigh::Weigher;
use crate::engine::{Engine, Plan};
#[cfg(feature = "testing")]
use crate::faults::{Faults, Mutant};
use crate::local::Local;
use crate::store::Stores;

/// Describes a [`MemoryBackend`].
#[must_use = "nothing is built until `build` is called"]
pub struct MemoryBackendBuilder<V> {
    max_capacity: u64,
    partitions: u16,
    engine: Engine,
    weigher: Option<Weigher<V>>,
    #[cfg(feature = "testing")]
    faults: Faults,
}

impl<V: Send + Sync + 'static> MemoryBackend<V> {
    /// A tier for at most `max_entries` entries.
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::builder().max_capacity(max_entries).build()
    }

    /// Starts to describe a tier.
    pub fn builder() -> MemoryBackendBuilder<V> {
        MemoryBackendBuilder::new()
    }
}

impl<V: Send + Sync + 'static> MemoryBackendBuilder<V> {
    fn new() -> Self {
        Self {
            max_capacity: 10_000,
            partitions: 1,
            engine: Engine::default(),
            weigher: None,
            #[cfg(feature = "testing")]
            faults: Faults::default(),
        }
    }

    /// Sets the capacity: a number of entries, or with a weigher the sum of their weights.
    /// Default 10,000. With 0 nothing could be kept: an error of the cache's `build`.
    pub fn max_capacity(mut self, capacity: u64) -> Self {
        self.max_capacity = capacity;
        self
    }

    /// Sets how much of the capacity an entry takes, from its encoded key and its value. A cached
    /// absence weighs 1, and nothing weighs less. Called once per insert.
    ///
    /// A value is kept if it fits the whole capacity. One that does not, or at which the weigher panics, is not kept,
    /// and counted in [`Stats::l1_refused`](async_cache_core::Stats::l1_refused).
    pub fn weigher(mut self, weigher: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weigher = Some(Box::new(weigher));
        self
    }

    /// Sets the engine that the L1 runs on. Default [`Engine::Quick`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = engine;
        self
    }

    /// Sets the number of partitions this tier has as a shared tier, 1 to 1,024. Default 1. Another number is
    /// an error of the cache's `build`.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// Breaks one rule of the shared tier, to show that a proof objects.
    #[cfg(feature = "testing")]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.faults.mutant = Some(mutant);
        self
    }

    /// Sets how many invalidated tags a partition of the shared tier remembers.
    #[cfg(feature = "testing")]
    pub fn tag_table(mut self, tags: usize) -> Self {
        self.faults.tag_table = Some(tags);
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(self) -> MemoryBackend<V> {
        let weigher = self.weigher.map(Arc::new);
        let plan = Plan { engine: self.engine, capacity: self.max_capacity, weigher };
        let stores = Stores::new(self.max_capacity, self.partitions);
        #[cfg(feature = "testing")]
        let stores = Stores { faults: self.faults, ..stores };
        MemoryBackend { local: Arc::new(Local::new(plan)), stores: Arc::new(stores) }
    }
}

impl<V> fmt::Debug for MemoryBackendBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackendBuilder")
            .field("max_capacity", &self.max_capacity)
            .finish_non_exhaustive()
    }
}
