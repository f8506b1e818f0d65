//! What happens while a cache is being put together.

use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener, Region, RegionSpec};
use async_cache_core::testing::{ms, until};
use async_cache_core::{Backend, ErrorKind, Result, TieredCache};
use async_cache_memory::MemoryBackend;
use futures_util::FutureExt;
use tokio::time::{sleep, timeout};

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
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(backend).build().unwrap();
    until("the node serves", || cache.is_serving()).await;
}

/// A backend that is never heard of.
#[derive(Debug)]
struct Mute(MemoryBackend);

impl Backend for Mute {
    fn open(&self, spec: RegionSpec, _: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let nobody: Arc<dyn Listener> = Arc::new(Quiet::default());
        self.0.open(spec, Arc::downgrade(&nobody))
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_ready_when_it_serves() {
    let builder = || TieredCache::<u64, u64>::builder().namespace("rows");
    let alone = builder().l1(MemoryBackend::new(100)).build().unwrap();
    assert!(matches!(alone.ready().now_or_never(), Some(Ok(()))));

    for l1 in [true, false] {
        let builder = if l1 { builder().l1(MemoryBackend::new(100)) } else { builder() };
        let cache = builder.l2(MemoryBackend::new(100)).build().unwrap();
        assert!(!cache.is_serving());
        timeout(ms(60_000), cache.ready()).await.expect("it is told").unwrap();
        assert!(cache.is_serving());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_cache_that_is_shut_down_is_told() {
    let mute = Mute(MemoryBackend::new(100));
    let cache: TieredCache<u64, u64> =
        TieredCache::builder().namespace("rows").l1(MemoryBackend::new(100)).l2(mute).build().unwrap();
    let (waited, ()) = tokio::join!(timeout(ms(60_000), cache.ready()), async {
        sleep(ms(10_000)).await;
        cache.shutdown().await;
    });
    let error = waited.expect("the wait ends with the cache").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shutdown);
    assert_eq!(cache.ready().await.unwrap_err().kind(), ErrorKind::Shutdown);
}
