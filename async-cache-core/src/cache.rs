//! The public verbs. No logic: each encodes its keys and enters the path.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::builder::TieredCacheBuilder;
use crate::coherence::Stamp;
use crate::error::{BoxError, Result};
use crate::key::{CacheKey, Key};
use crate::loaded::{LoadContext, Loaded};
use crate::observe::{EventStream, Stats};
use crate::path::{box_informed_loader, box_loader, box_optional_loader};
use crate::request::{Get, GetMany, GetOrLoad, GetOrLoadOptional, Insert, Refresh, RefreshOptional};
use crate::shared::Shared;
use crate::tags::{MAX_TAGS, Tags};

/// A cache of values in up to two tiers: L1 in this process, L2 shared by a fleet.
///
/// A cheap handle: clones share everything. When the last is dropped, background work ends.
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
    pub(crate) shared: Arc<Shared<V>>,
    _last: Arc<Last<V>>,
    _key: PhantomData<fn(&K)>,
}

/// Closes the cache when the last handle is gone; loads under way hold `Shared` alone.
struct Last<V: 'static>(Arc<Shared<V>>);

impl<V: 'static> Drop for Last<V> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<K, V: 'static> TieredCache<K, V> {
    pub(crate) fn new(shared: Arc<Shared<V>>) -> Self {
        Self { _last: Arc::new(Last(Arc::clone(&shared))), shared, _key: PhantomData }
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Starts to put a cache together.
    pub fn builder() -> TieredCacheBuilder<K, V> {
        TieredCacheBuilder::new()
    }

    /// Looks a key up in the tiers. `None` if neither has it, or if its absence is cached.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) if L2 had to be asked and could not be.
    pub fn get<'a, Q>(&'a self, key: &'a Q) -> Get<'a, V, Q>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        Get::new(&self.shared, key)
    }

    /// Looks a key up, and loads it if no tier has it: once in the fleet, however many ask.
    ///
    /// The load runs in a task of its own, which a caller that goes away does not stop. Its error
    /// is shared by all who waited, and not cached.
    ///
    /// # Errors
    ///
    /// What the load ended with: [`Loader`](crate::ErrorKind::Loader),
    /// [`LoaderPanicked`](crate::ErrorKind::LoaderPanicked), [`Timeout`](crate::ErrorKind::Timeout),
    /// [`Reentrant`](crate::ErrorKind::Reentrant). L2 being away is no error here unless the
    /// policy is [`Outage::Fail`](crate::Outage::Fail).
    pub fn get_or_load<'a, Q, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> GetOrLoad<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        GetOrLoad::new(&self.shared, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// As [`get_or_load`](Self::get_or_load), for a loader that is told of the value it is to
    /// replace, and may answer [`Loaded::unchanged`].
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_with<'a, Q, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> GetOrLoad<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        GetOrLoad::new(&self.shared, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// As [`get_or_load`](Self::get_or_load), for a loader that may find nothing: the absence is
    /// cached for `negative_ttl`.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_optional<'a, Q, F, Fut, R, E>(
        &'a self,
        key: &'a Q,
        loader: F,
    ) -> GetOrLoadOptional<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        GetOrLoadOptional::new(&self.shared, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Looks many keys up, with at most one question to L2 for each of its partitions. Answers stand in the order of
    /// the keys.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn get_many<'a, Q>(&'a self, keys: impl IntoIterator<Item = &'a Q>) -> GetMany<'a, V>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized + 'a,
    {
        GetMany::new(&self.shared, encode_all(keys))
    }

    /// Stores a value in both tiers, replaces what other nodes hold, and breaks loads under way.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend): the outcome in L2 is unknown; the key is
    /// dropped here and retried as an invalidation. [`Codec`](crate::ErrorKind::Codec): the value
    /// cannot be encoded, and nothing is stored.
    pub fn insert<'a, Q>(&'a self, key: &'a Q, value: V) -> Insert<'a, V>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        Insert::new(&self.shared, Key::encode(key).map(|key| vec![(key, Arc::new(value))]))
    }

    /// Stores many values, in one round trip for each partition; see [`insert`](Self::insert).
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), for all of them together.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Insert<'_, V> {
        let encode = |(key, value): (K, V)| Key::encode(&key).map(|key| (key, Arc::new(value)));
        Insert::new(&self.shared, entries.into_iter().map(encode).collect())
    }

    /// Loads a key whatever is cached, and replaces what every node holds. What is cached stays
    /// as it is if the load fails.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn refresh<'a, Q, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> Refresh<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        Refresh::new(&self.shared, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// As [`refresh`](Self::refresh), for a loader that is told of the value it is to replace, and
    /// may answer [`Loaded::unchanged`].
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn refresh_with<'a, Q, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> Refresh<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        Refresh::new(&self.shared, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// As [`refresh`](Self::refresh), for a loader that may find nothing: the absence replaces what
    /// every node holds.
    ///
    /// # Errors
    ///
    /// As [`get_or_load`](Self::get_or_load).
    pub fn refresh_optional<'a, Q, F, Fut, R, E>(
        &'a self,
        key: &'a Q,
        loader: F,
    ) -> RefreshOptional<'a, V, Q, F>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        RefreshOptional::new(&self.shared, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Whether a tier has a value for the key. A cached absence is no value.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn contains<Q>(&self, key: &Q) -> Result<bool>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        Ok(self.get(key).await?.is_some())
    }

    /// Makes every node forget the key: what it holds, and what it is loading.
    ///
    /// To be called when the change to the source is committed. Returns the point in the
    /// namespace's history from which every read reflects that change.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend): the outcome is unknown. The key is
    /// dropped on this node, and the invalidation is retried until it lands.
    pub async fn invalidate<Q>(&self, key: &Q) -> Result<Stamp>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized,
    {
        self.shared
            .invalidate(vec![Key::encode(key).map_err(|error| error.in_namespace(&self.shared.namespace))?])
            .await
    }

    /// Invalidates many keys; see [`invalidate`](Self::invalidate).
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate), for all of them together.
    pub async fn invalidate_many<'a, Q>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Stamp>
    where
        K: Borrow<Q>,
        Q: CacheKey + ?Sized + 'a,
    {
        let keys = encode_all(keys).map_err(|error| error.in_namespace(&self.shared.namespace))?;
        self.shared.invalidate(keys).await
    }

    /// Makes every node forget every entry that has this tag: what it holds, and what it is
    /// loading, even where only the loader's result names the tag. Takes the same time, and one
    /// round trip for each partition, whatever the number of entries.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate). [`ErrorKind::Config`](crate::ErrorKind::Config) for a
    /// tag that no entry can have.
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Result<Stamp> {
        self.invalidate_tags([tag]).await
    }

    /// Invalidates many tags; see [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag), for all of them together.
    pub async fn invalidate_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Result<Stamp> {
        let changes = tag_changes(tags).map_err(|error| error.in_namespace(&self.shared.namespace))?;
        self.shared.invalidate_tags(changes).await
    }

    /// Makes every node forget everything in this namespace, in the same time whatever it holds.
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<Stamp> {
        self.shared.invalidate_all().await
    }

    /// Events from now on, for as long as the stream is kept.
    pub fn subscribe(&self) -> EventStream {
        self.shared.events.subscribe()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.shared.namespace
    }

    /// Ends background work and loads under way, and waits until they have ended. Every later
    /// lookup is an error of kind [`Shutdown`](crate::ErrorKind::Shutdown).
    pub async fn shutdown(&self) {
        self.shared.close();
        self.shared.tasks.wait().await;
    }

    /// Waits until L1 may answer: see [`is_serving`](Self::is_serving). With a tier in this process alone, that
    /// is at once.
    ///
    /// For a service that is to take its first requests with its caches in working order. None needs
    /// this to be right: until then lookups go to L2. Waits for as long as L2 is away, so a limit belongs
    /// around it:
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use async_cache_core::{Result, TieredCache};
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).l2(MemoryBackend::new(100)).build()?;
    /// match tokio::time::timeout(Duration::from_secs(5), users.ready()).await {
    ///     Ok(ready) => ready?, // an error is for good: another codec, a shutdown
    ///     Err(_) => eprintln!("L2 cannot be reached: starting all the same"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Shutdown`](crate::ErrorKind::Shutdown); or what L2 says that will not have this node, such as
    /// [`Config`](crate::ErrorKind::Config) where other nodes use another codec.
    pub async fn ready(&self) -> Result<()> {
        self.shared.ready().await
    }

    /// Whether no load, read, wait or pending change is left: what a test of leaks asks.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.fence.is_idle() && self.shared.pending.len() == 0
    }

    /// Whether L1 may answer: the node knows of every change up to `max_staleness` ago.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.shared.node.is_serving()
    }
}

fn encode_all<'a, Q: CacheKey + ?Sized + 'a>(keys: impl IntoIterator<Item = &'a Q>) -> Result<Vec<Key>> {
    keys.into_iter().map(Key::encode).collect()
}

/// Tags as changes, each of as many as one change may have.
fn tag_changes<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Result<Vec<Tags>> {
    let tags: Vec<T> = tags.into_iter().collect();
    tags.chunks(MAX_TAGS).map(|tags| Tags::new(tags.iter().map(|tag| tag.as_ref().as_bytes()))).collect()
}

impl<K, V: 'static> Clone for TieredCache<K, V> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), _last: Arc::clone(&self._last), _key: PhantomData }
    }
}

impl<K, V: 'static> fmt::Debug for TieredCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}
