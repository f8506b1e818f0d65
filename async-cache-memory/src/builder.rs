//! The settings of a tier in this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::MemoryBackend;
use crate::engine::{Engine, Plan, Weighing};
use crate::eviction::{EvictionCause, Outlet};
#[cfg(feature = "testing")]
use crate::faults::{Faults, Mutant};
use crate::local::Local;
use crate::store::Stores;

/// The settings of a [`MemoryBackend`].
#[must_use = "nothing is built until `build` is called"]
pub struct MemoryBackendBuilder<V> {
    max_capacity: u64,
    partitions: u16,
    engine: Option<Engine>,
    weighing: Option<Weighing<V>>,
    time_to_idle: Option<Duration>,
    /// Opens the queue to the listener, and starts its thread.
    evicted: Option<Box<dyn FnOnce() -> Arc<Outlet<V>> + Send>>,
    #[cfg(feature = "testing")]
    faults: Faults,
}

impl<V: Send + Sync + 'static> MemoryBackend<V> {
    /// Makes a tier for at most `max_entries` entries.
    #[must_use]
    pub fn new(max_entries: u64) -> Self {
        Self::builder().max_capacity(max_entries).build()
    }

    /// Starts with the default settings.
    pub fn builder() -> MemoryBackendBuilder<V> {
        MemoryBackendBuilder::new()
    }
}

impl<V: Send + Sync + 'static> MemoryBackendBuilder<V> {
    fn new() -> Self {
        Self {
            max_capacity: 10_000,
            partitions: 1,
            engine: None,
            weighing: None,
            time_to_idle: None,
            evicted: None,
            #[cfg(feature = "testing")]
            faults: Faults::default(),
        }
    }

    /// Sets the capacity: a number of entries, or with a weigher the sum of their weights. The default is 10,000. With
    /// 0 the cache's `build` returns an error.
    pub fn max_capacity(mut self, capacity: u64) -> Self {
        self.max_capacity = capacity;
        self
    }

    /// Sets how much of the capacity an entry takes, from its encoded key and its value. A cached absence weighs 1,
    /// which is the minimum. The function is called once for each insert.
    ///
    /// A value that is heavier than the whole capacity, or at which the weigher panics, is not kept, and counts in
    /// [`Stats::l1_refused`](async_cache_core::Stats::l1_refused).
    pub fn weigher(mut self, weigher: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static) -> Self {
        self.weighing = Some(Weighing::by(weigher));
        self
    }

    /// Sets the engine of the L1. The default is [`Engine::Quick`], and with [`time_to_idle`](Self::time_to_idle)
    /// [`Engine::Moka`].
    pub fn engine(mut self, engine: Engine) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Drops an entry of the L1 that no lookup has asked for in this time: 1 ms to 100 years. By default entries stay
    /// until their life is over or their room is needed. It changes nothing in L2, which answers the next lookup.
    ///
    /// Every lookup of the key in this L1 counts as a use, even if the entry is only a fallback. Storing the entry
    /// counts, too. An idle entry answers no lookup, neither as a hit nor as a fallback. Its memory is freed when the
    /// cache is used, or within about a minute. The time is real time, also where a test pauses the clock.
    ///
    /// Such an L1 uses [`Engine::Moka`], which knows when an entry was used. Its hits cost more. With another engine,
    /// or a time out of range, the cache's `build` returns an error.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.time_to_idle = Some(idle);
        self
    }

    /// Calls `listener` for each entry that leaves the L1, with its encoded key, its value (`None` is a cached absence),
    /// and the [cause](EvictionCause).
    ///
    /// It is called after the entry has left, on a thread of its own, for one entry at a time. It may block, and may
    /// use the cache. By then the key may have a value again, and calls for different keys may come in another order
    /// than the entries left. If it panics, it is still called for the next entries. At most 8,192 entries wait for it.
    /// For further ones it is not called, but they are [counted](MemoryBackend::missed_evictions). The thread ends when
    /// the backend and its cache are dropped. So a listener that owns a handle of the cache keeps both for ever.
    ///
    /// An entry that only gets another life, such as one that a change expires, has not left. The listener is not
    /// called for values of the L2.
    ///
    /// ```
    /// # use async_cache_core::{Result, TieredCache}; use async_cache_memory::{EvictionCause, MemoryBackend};
    /// # use std::sync::mpsc;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// let (sender, evicted) = mpsc::channel();
    /// let l1 = MemoryBackend::builder().max_capacity(100).on_evict(move |key, value, cause| {
    ///     let _ = sender.send((String::from_utf8_lossy(key).into_owned(), value.cloned(), cause));
    /// });
    /// let users: TieredCache<u64, String> = TieredCache::builder().l1(l1.build()).build()?;
    /// users.insert(&42, "Ada".to_owned()).await?;
    /// users.invalidate(&42).await?;
    /// let (key, value, cause) = evicted.recv().expect("the entry has left");
    /// assert_eq!((&*key, value.as_deref().map(|name| &**name), cause), ("42", Some("Ada"), EvictionCause::Removed));
    /// # Ok(()) }
    /// ```
    pub fn on_evict(
        mut self,
        listener: impl FnMut(&[u8], Option<&Arc<V>>, EvictionCause) + Send + 'static,
    ) -> Self {
        self.evicted = Some(Box::new(|| Outlet::open(Box::new(listener))));
        self
    }

    /// Sets the number of partitions of this tier as an L2: 1 to 1,024. The default is 1. With another number the
    /// cache's `build` returns an error.
    pub fn partitions(mut self, partitions: u16) -> Self {
        self.partitions = partitions;
        self
    }

    /// Breaks one rule of the L2, to show that a test fails then.
    #[cfg(feature = "testing")]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.faults.mutant = Some(mutant);
        self
    }

    /// Sets how many invalidated tags a partition of the L2 remembers.
    #[cfg(feature = "testing")]
    pub fn tag_table(mut self, tags: usize) -> Self {
        self.faults.tag_table = Some(tags);
        self
    }

    /// Builds the tier.
    #[must_use]
    pub fn build(self) -> MemoryBackend<V> {
        let plan = Plan {
            engine: self.engine,
            capacity: self.max_capacity,
            weighing: self.weighing,
            time_to_idle: self.time_to_idle.filter(is_possible),
            evicted: self.evicted.map(|open| open()),
        };
        let stores = Stores::new(self.max_capacity, self.partitions);
        #[cfg(feature = "testing")]
        let stores = Stores { faults: self.faults, ..stores };
        let wrong = match (self.time_to_idle, self.engine) {
            (Some(idle), _) if !is_possible(&idle) => Some("has a `time_to_idle` of 1 ms to 100 years"),
            (Some(_), Some(Engine::Quick)) => Some(
                "with `time_to_idle` runs on `Engine::Moka`, because no other engine knows which entries are idle: leave `engine` out",
            ),
            _ => None,
        };
        MemoryBackend { local: Arc::new(Local::new(plan, wrong)), stores: Arc::new(stores) }
    }
}

/// The engine would panic if it were given a longer time.
fn is_possible(idle: &Duration) -> bool {
    (Duration::from_millis(1)..=Duration::from_secs(100 * 365 * 24 * 3600)).contains(idle)
}

impl<V> fmt::Debug for MemoryBackendBuilder<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBackendBuilder")
            .field("max_capacity", &self.max_capacity)
            .finish_non_exhaustive()
    }
}
