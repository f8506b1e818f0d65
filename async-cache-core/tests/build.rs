//! What happens while a cache is being put together.

use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener, Region, RegionSpec};
use async_cache_core::testing::until;
use async_cache_core::{Backend, Result, TieredCache};
use async_cache_memory::MemoryBackend;

/// A backend whose subscription is acknowledged before `open` returns, and only then.
#[derive(Debug)]
struct Eager {
    tier: MemoryBackend,
    quiet: Arc<Quiet>,
}

/// Passes on everything but the acknowledgement.
#[derive(Default)]
struct Quiet(std::sync::OnceLock<Weak<dyn Listener>>);

impl std::fmt::Debug for Quiet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Quiet")
    }
}

impl Listener for Quiet {
    fn notify(&self, event: BusEvent) {
        if event != BusEvent::Subscribed
            && let Some(listener) = self.0.get().and_then(Weak::upgrade)
        {
            listener.notify(event);
        }
    }
}

impl Backend for Eager {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        if let Some(listener) = listener.upgrade() {
            listener.notify(BusEvent::Subscribed);
        }
        let _ = self.quiet.0.set(listener);
        let quiet: Arc<dyn Listener> = Arc::clone(&self.quiet) as _;
        self.tier.open(spec, Arc::downgrade(&quiet))
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_acknowledged_before_the_cache_is_complete_counts() {
    let backend = Eager { tier: MemoryBackend::new(100), quiet: Arc::default() };
    let cache: TieredCache<u64, u64> =
        TieredCache::builder().l1(MemoryBackend::new(100)).l2(backend).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
}
