//! Caches over the tiers that a scenario is to hold on.

use std::time::Duration;

use async_cache_core::testing::until;
use async_cache_core::{TieredCache, TieredCacheBuilder};
use async_cache_memory::MemoryBackend;

pub(crate) type Cache = TieredCache<String, u64>;
pub(crate) type Builder = TieredCacheBuilder<String, u64>;

/// Which tiers.
#[derive(Clone)]
pub(crate) enum Tiers {
    L1,
    L2(MemoryBackend),
    Both(MemoryBackend),
}

impl Tiers {
    pub(crate) fn both() -> Self {
        Self::Both(MemoryBackend::new(10_000))
    }

    pub(crate) fn l2() -> Self {
        Self::L2(MemoryBackend::new(10_000))
    }

    /// A node on them.
    pub(crate) async fn node(&self, options: impl FnOnce(Builder) -> Builder) -> Cache {
        let builder = TieredCache::builder().namespace("rows");
        let builder = match self {
            Self::L1 => builder.l1(MemoryBackend::new(10_000)),
            Self::L2(l2) => builder.l2(l2.clone()),
            Self::Both(l2) => builder.l1(MemoryBackend::new(10_000)).l2(l2.clone()),
        };
        let cache = options(builder).build().expect("a valid cache");
        until("the node serves", || cache.is_serving()).await;
        cache
    }
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Lets time pass, and everything that happens in it happen.
pub(crate) async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Makes a test of each scenario on each of the tiers named.
macro_rules! on {
    ($($tiers:ident: $make:expr => { $($name:ident),* $(,)? })*) => {$(
        mod $tiers {
            $(#[tokio::test(start_paused = true)] async fn $name() { super::$name($make).await; })*
        }
    )*};
}
pub(crate) use on;
