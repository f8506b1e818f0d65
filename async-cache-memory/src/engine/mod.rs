//! The engines of an L1: bounded concurrent maps.

pub(crate) mod claim;
mod erased;
mod heavy;
mod leaving;
mod moka;
mod quick;
mod weigh;
mod weighed;

use std::sync::Arc;
use std::time::Duration;

use self::claim::Shareable;
use self::moka::Moka;
use self::quick::Quick;
use self::weigh::Weigher;
use self::weighed::Weighed;
use crate::eviction::Outlet;

/// The map that holds the entries of an L1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Engine {
    /// [quick_cache](https://docs.rs/quick_cache): Clock-PRO in shards. A hit takes the shard's lock for
    /// reading, and writes at most one counter.
    #[default]
    Quick,
    /// [moka](https://docs.rs/moka): W-TinyLFU. A hit costs several times as much, because moka notes it in a
    /// log that it processes from time to time. Keys that are read once do not drive out keys that are read
    /// often. A value that leaves it may be dropped some operations later.
    Moka,
}

type BuildWeighed<V> = fn(&Plan<V>, Arc<Weigher<V>>) -> Box<dyn Shareable<V>>;

/// How entries are weighed.
pub(crate) struct Weighing<V> {
    weigher: Arc<Weigher<V>>,
    /// Builds quick_cache's engine for it. Behind a pointer, so that only an L1 with a weigher compiles that engine.
    quick: BuildWeighed<V>,
}

impl<V: Send + Sync + 'static> Weighing<V> {
    pub(crate) fn by(weigher: impl Fn(&[u8], &V) -> u32 + Send + Sync + 'static) -> Self {
        Self {
            weigher: Arc::new(Box::new(weigher)),
            quick: |plan, weigher| Box::new(Weighed::new(plan.capacity, weigher, plan.evicted.clone())),
        }
    }
}

/// The settings of an engine.
pub(crate) struct Plan<V> {
    /// The engine, if one was chosen.
    pub(crate) engine: Option<Engine>,
    pub(crate) capacity: u64,
    pub(crate) weighing: Option<Weighing<V>>,
    pub(crate) time_to_idle: Option<Duration>,
    pub(crate) evicted: Option<Arc<Outlet<V>>>,
}

impl<V: Send + Sync + 'static> Plan<V> {
    pub(crate) fn build(&self) -> Box<dyn Shareable<V>> {
        match (self.engine(), &self.weighing) {
            (Engine::Quick, None) => Box::new(Quick::new(self.capacity, self.evicted.clone())),
            (Engine::Quick, Some(weighing)) => (weighing.quick)(self, Arc::clone(&weighing.weigher)),
            (Engine::Moka, weighing) => {
                let weigher = weighing.as_ref().map(|weighing| Arc::clone(&weighing.weigher));
                Box::new(Moka::new(self.capacity, weigher, self.time_to_idle, self.evicted.clone()))
            }
        }
    }

    /// Only one engine knows which entries are idle.
    fn engine(&self) -> Engine {
        match self.time_to_idle {
            Some(_) => Engine::Moka,
            None => self.engine.unwrap_or_default(),
        }
    }
}
