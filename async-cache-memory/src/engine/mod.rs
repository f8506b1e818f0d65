//! The engines of an L1: bounded concurrent maps.

pub(crate) mod claim;
mod heavy;
mod leaving;
mod moka;
mod quick;
pub(crate) mod weigh;
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

/// The settings of an engine.
pub(crate) struct Plan<V> {
    /// The engine, if one was chosen.
    pub(crate) engine: Option<Engine>,
    pub(crate) capacity: u64,
    pub(crate) weigher: Option<Arc<Weigher<V>>>,
    pub(crate) time_to_idle: Option<Duration>,
    pub(crate) evicted: Option<Arc<Outlet<V>>>,
}

impl<V: Send + Sync + 'static> Plan<V> {
    pub(crate) fn build(&self) -> Box<dyn Shareable<V>> {
        match (self.engine(), self.weigher.clone()) {
            (Engine::Quick, None) => Box::new(Quick::new(self.capacity, self.evicted.clone())),
            (Engine::Quick, Some(weigher)) => {
                Box::new(Weighed::new(self.capacity, weigher, self.evicted.clone()))
            }
            (Engine::Moka, weigher) => {
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
