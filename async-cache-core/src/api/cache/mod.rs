//! The handle of a cache. Its public methods encode their keys and call `lookup` and `changes`.

// The documentation lists the methods in this order.
mod lookups;

mod changes;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "metrics")]
use crate::api::figures;
use crate::changes::retry::flush;
use crate::error::{Result, guard};
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::lookup::load;

/// A cache of values in up to two tiers: L1 in this process, and L2 that a fleet shares.
///
/// It is a cheap handle, and all clones share one cache. When the last handle is dropped, the background tasks
/// end. Invalidations that are still being retried are then lost, so call [`shutdown`](Self::shutdown) before.
///
/// ```
/// # use async_cache_core::{TieredCache, Result, backend::*, key::Key};
/// # fn l1() -> impl LocalBackend<String> { struct None; impl LocalBackend<String> for None {
/// #   fn get(&self, _: &[u8]) -> Option<Entry<String>> { Option::None } fn insert(&self, _: &Key, _: Entry<String>) {}
/// #   fn remove(&self, _: &[u8]) {} fn clear(&self) {} fn len(&self) -> u64 { 0 } } None }
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// let names: TieredCache<u64, String> = TieredCache::builder().namespace("names").l1(l1()).build()?;
/// let name = names.get_or_load(&42, || async { Ok::<_, std::io::Error>("Ada".to_string()) }).await?;
/// assert_eq!(*name, "Ada");
/// # Ok(()) }
/// ```
pub struct TieredCache<K, V: 'static> {
    pub(crate) inner: Arc<Inner<V>>,
    _last: Arc<Last<V>>,
    _key: PhantomData<fn(&K)>,
}

/// The maximum duration of a shutdown.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// The work that a shutdown has not finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Shutdown {
    /// The number of changes that have not reached L2: keys, tags and clears. A tag, and a clear, counts once for
    /// each partition that it has not reached. A clear that replaces many changes of a partition counts once.
    pub pending_invalidations: u64,
}

/// Closes the cache when the last handle is dropped. Loads under way hold `Inner` alone.
struct Last<V: 'static>(Arc<Inner<V>>);

impl<V: 'static> Drop for Last<V> {
    fn drop(&mut self) {
        close(&self.0);
    }
}

/// The first handle of a cache.
pub(crate) fn first_handle<K, V>(inner: Arc<Inner<V>>) -> TieredCache<K, V> {
    TieredCache { _last: Arc::new(Last(Arc::clone(&inner))), inner, _key: PhantomData }
}

/// The same cache for keys of another type.
pub(crate) fn with_key_type<Q, K, V>(cache: &TieredCache<K, V>) -> TieredCache<Q, V> {
    TieredCache { inner: Arc::clone(&cache.inner), _last: Arc::clone(&cache._last), _key: PhantomData }
}

/// Encodes a key. Its error names the cache.
pub(crate) fn encode<V: 'static, Q: CacheKey + ?Sized>(inner: &Inner<V>, key: &Q) -> Result<Key> {
    Key::encode(key).map_err(|error| error.in_namespace(&inner.observer.namespace))
}

/// Closes the cache, and waits for the end of what is under way.
async fn shut_down<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>) -> Shutdown {
    close(inner);
    if tokio::runtime::Handle::try_current().is_ok() {
        let end = async {
            tokio::join!(inner.lifecycle.tasks.wait(), flush(inner), load::return_last(inner));
            // A change that was under way may have failed, and then its invalidation is pending. A load that was under
            // way has ended.
            tokio::join!(flush(inner), load::return_last(inner));
        };
        // A task does not end if nothing runs its runtime, so the wait has a limit.
        let _ = tokio::time::timeout(SHUTDOWN, end).await;
    }
    Shutdown { pending_invalidations: inner.local.liveness.unsent.len() as u64 }
}

/// Closes the cache: L1 stops answering, and loads and background tasks stop.
fn close<V: 'static>(inner: &Inner<V>) {
    inner.lifecycle.closing.cancel();
    inner.local.liveness.node.retire();
    if let Some(l2) = &inner.remote {
        l2.region.close();
    }
    inner.lifecycle.tasks.close();
    #[cfg(feature = "metrics")]
    figures::publish(inner);
    if let Some(engine) = inner.local.engine() {
        // The `Drop` of a value may panic. The panic must not stop the end of the cache.
        let close = || {
            engine.close();
            Ok(())
        };
        drop(guard::call("dropping values", close));
    }
}

impl<K, V: 'static> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        with_key_type(self)
    }
}

impl<K, V: 'static> fmt::Debug for TieredCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
