//! The public methods of a cache. They encode their keys and call `lookup` and `changes`.

mod changes;
mod lookups;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::api::figures;
use crate::changes::retry::flush;
use crate::error::{Result, guard};
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::lookup::release;
use crate::observe::{EventStream, Stats};

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
    /// The number of changes that have not reached L2: keys, tags and clears. A clear that replaces many of
    /// them counts once.
    pub pending_invalidations: u64,
}

/// Closes the cache when the last handle is dropped. Loads under way hold `Inner` alone.
struct Last<V: 'static>(Arc<Inner<V>>);

impl<V: 'static> Drop for Last<V> {
    fn drop(&mut self) {
        close(&self.0);
    }
}

impl<K, V: 'static> TieredCache<K, V> {
    pub(crate) fn new(inner: Arc<Inner<V>>) -> Self {
        Self { _last: Arc::new(Last(Arc::clone(&inner))), inner, _key: PhantomData }
    }
}

impl<K, V: 'static> TieredCache<K, V> {
    /// The same cache for keys of another type.
    pub(crate) fn with_key_type<Q>(&self) -> TieredCache<Q, V> {
        TieredCache { inner: Arc::clone(&self.inner), _last: Arc::clone(&self._last), _key: PhantomData }
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Returns a stream of the events from now on. It ends when the cache is dropped. `next` is a method of
    /// `StreamExt` in the crate `futures-util`.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// use futures_util::StreamExt;
    /// let mut events = users.subscribe();
    /// let _ = users.get_or_load(&42, || async { Err::<String, _>(std::io::Error::other("no database")) }).await;
    /// println!("{:?}", events.next().await); // a load has failed: of which key, and how
    /// # Ok(()) }
    /// ```
    pub fn subscribe(&self) -> EventStream {
        self.inner.observer.events.subscribe()
    }

    /// Returns the counters and gauges of this cache on this node.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.get_or_load(&42, || find(42)).await?;
    /// users.get(&42).await?;
    /// assert_eq!((users.stats().loads, users.stats().l1_hits), (1, 1));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn stats(&self) -> Stats {
        figures::stats(&self.inner)
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.observer.namespace
    }

    /// Shuts the cache down. It stops background tasks and loads, waits until they have ended, and sends the
    /// invalidations that have not reached L2 yet. Every later lookup returns an error of kind
    /// [`Shutdown`](crate::error::ErrorKind::Shutdown). The namespace can be opened again, even while clones of
    /// this handle live.
    ///
    /// This takes at most three seconds. The result counts the invalidations that have not reached L2 by then.
    /// Other nodes may serve the old values of those keys until they expire.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// let left = users.shutdown().await;
    /// assert_eq!(left.pending_invalidations, 0);
    /// assert!(users.get(&42).await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self) -> Shutdown {
        let inner = &self.inner;
        close(inner);
        if tokio::runtime::Handle::try_current().is_ok() {
            let end = async {
                tokio::join!(inner.lifecycle.tasks.wait(), flush(inner));
                // A change that was under way may have failed, and then its invalidation is pending.
                flush(inner).await;
                release::last(inner).await;
            };
            // A task does not end if nothing runs its runtime, so the wait has a limit.
            let _ = tokio::time::timeout(SHUTDOWN, end).await;
        }
        Shutdown { pending_invalidations: inner.local.liveness.unsent.len() as u64 }
    }

    /// Waits until L1 may answer: see [`is_serving`](Self::is_serving). Without an L2 it returns at once.
    ///
    /// It is for a service that takes its first requests only when its cache works fully. The cache is also
    /// correct without this wait: until L1 may answer, lookups go to L2. The wait has no limit while L2 cannot
    /// be reached, so set one:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use async_cache_core::{Result, TieredCache};
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(MemoryBackend::new(100)).build()?;
    /// match tokio::time::timeout(Duration::from_secs(5), users.ready()).await {
    ///     Ok(ready) => ready?, // an error is for good: another codec, a shutdown
    ///     Err(_) => eprintln!("L2 cannot be reached: starting all the same"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Shutdown`](crate::error::ErrorKind::Shutdown): the cache was shut down.
    /// * The error with which L2 refuses this node, such as [`Config`](crate::error::ErrorKind::Config) if
    ///   other nodes use another codec.
    pub async fn ready(&self) -> Result<()> {
        self.inner.lifecycle.ready(&self.inner.local.liveness).await
    }

    /// Returns whether no load, read, wait or pending change is left. Tests use it to find leaks.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inner.local.stripes.is_idle() && self.inner.local.liveness.unsent.len() == 0
    }

    /// Returns for each partition whether L1 may answer for its keys. Tests use it to find what a fault has harmed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn serving_partitions(&self) -> Vec<bool> {
        self.inner.local.liveness.node.serving_partitions()
    }

    /// Returns whether L1 may answer. It may while the node knows every change that is older than
    /// `max_staleness`.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.inner.local.liveness.node.is_serving()
    }
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

/// The maximum number of keys for which space is reserved in advance. The size hint of an iterator may be any
/// number.
const FORETOLD_KEYS: usize = 1024;

fn encode_all<'a, Q: CacheKey + ?Sized + 'a>(keys: impl IntoIterator<Item = &'a Q>) -> Result<Vec<Key>> {
    let keys = keys.into_iter();
    let mut encoded = Vec::with_capacity(keys.size_hint().0.min(FORETOLD_KEYS));
    for key in keys {
        encoded.push(Key::encode(key)?);
    }
    Ok(encoded)
}

impl<K, V: 'static> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        self.with_key_type()
    }
}

impl<K, V: 'static> fmt::Debug for TieredCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
