//! The methods that change the cache, each of which returns a stamp, and the methods about the cache itself.

use std::sync::Arc;

use crate::api::cache::{Shutdown, TieredCache, encode, shut_down};
use crate::api::figures;
use crate::api::invalidator::{Invalidator, invalidator};
use crate::api::request::Insert;
use crate::backend::Effect;
use crate::changes::invalidate;
use crate::error::Result;
use crate::format::key::{CacheKey, FoundBy, Key};
use crate::liveness::stamp::Stamp;
use crate::observe::{EventStream, Stats};

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Stores a value in both tiers, and replaces the entries on other nodes. Loads of the key that are under
    /// way are not stored.
    ///
    /// After a write to the source, prefer [`invalidate`](Self::invalidate). If two inserts of one key race, L2
    /// decides their order, not the source. So the older value may stay in the cache.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).ttl(std::time::Duration::from_secs(60)).await?;
    /// assert!(users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Backend`](crate::error::ErrorKind::Backend): the outcome in L2 is unknown. The key is removed from
    ///   L1, and its invalidation is retried.
    /// * [`Config`](crate::error::ErrorKind::Config): L2 refused the insert. The key is removed from L1, and
    ///   its invalidation is retried.
    /// * [`Codec`](crate::error::ErrorKind::Codec): the value cannot be encoded, and nothing is stored.
    pub fn insert<'a, Q, By>(&'a self, key: &'a Q, value: V) -> Insert<'a, V>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        Insert::new(&self.inner, Key::encode(key).map(|key| vec![(key, Arc::new(value))]))
    }

    /// Stores many values, with one round trip for each partition. See [`insert`](Self::insert).
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert_many([(1, "user 1".to_owned()), (2, "user 2".to_owned())]).await?;
    /// assert!(users.contains(&2).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`insert`](Self::insert). An error concerns all values of the call.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Insert<'_, V> {
        let encode = |(key, value): (K, V)| Key::encode(&key).map(|key| (key, Arc::new(value)));
        Insert::new(&self.inner, entries.into_iter().map(encode).collect())
    }

    /// Removes a key from the cache of every node. Loads of the key that are under way are not stored.
    ///
    /// Call it after the change to the source is committed. It returns a stamp: the point in the history of the
    /// namespace from which every read reflects that change.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "old".to_owned()).await?;
    /// // First commit the change, then:
    /// let stamp = users.invalidate(&42).await?;
    /// assert!(users.get(&42).at_least(&stamp).await?.is_none()); // on any node
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Backend`](crate::error::ErrorKind::Backend): the outcome is unknown.
    /// * [`Config`](crate::error::ErrorKind::Config): L2 refused the invalidation, because of a wrong password
    ///   or a missing right.
    /// * [`Key`](crate::error::ErrorKind::Key): the key is too long to be cached. Nothing is retried.
    /// * [`Shutdown`](crate::error::ErrorKind::Shutdown): the cache was shut down. Nothing is retried.
    ///
    /// After the first two errors the key is removed on this node. The invalidation is retried until it
    /// succeeds, the process ends, or the last handle is dropped. The change to the source is committed, so do
    /// not report it as failed.
    pub async fn invalidate<Q, By>(&self, key: &Q) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        invalidate::invalidate(&self.inner, vec![encode(&self.inner, key)?]).await
    }

    /// Invalidates many keys. See [`invalidate`](Self::invalidate). Keys that are too long to be cached are
    /// skipped.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&1, "user 1".to_owned()).await?;
    /// users.invalidate_many([&1, &2]).await?;
    /// assert!(!users.contains(&1).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`invalidate`](Self::invalidate). An error concerns all keys of the call.
    pub async fn invalidate_many<'a, Q, By>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized + 'a,
    {
        let keys = keys.into_iter().filter_map(|key| Key::encode(key).ok()).collect();
        invalidate::invalidate(&self.inner, keys).await
    }

    /// Removes every entry of this namespace that has the tag, on every node. Loads under way are not stored
    /// either, even if only the result of the loader names the tag. The call takes one round trip for each
    /// partition, whatever the number of entries.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).tag("team:9").await?;
    /// users.invalidate_tag("team:9").await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`invalidate`](Self::invalidate), and
    /// [`ErrorKind::Config`](crate::error::ErrorKind::Config) for an invalid tag.
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Result<Stamp> {
        self.invalidate_tags([tag]).await
    }

    /// Invalidates many tags. See [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).tag("team:9").await?;
    /// users.invalidate_tags(["team:8", "team:9"]).await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`invalidate_tag`](Self::invalidate_tag). An error concerns all tags of the call.
    pub async fn invalidate_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Result<Stamp> {
        invalidate::change_tags(&self.inner, tags, Effect::Void).await
    }

    /// Expires a key on every node: its value is not fresh any more, wherever it is, and the next lookup loads. Until its
    /// end (`ttl` and `stale_for` after its load) the value remains a fallback, as if its `ttl` had passed: with
    /// `stale_on_error` it answers if that load fails, with `stale_while_revalidate` while it runs. Loads of the key that
    /// are under way are not stored. A value without `stale_for` is removed, as by [`invalidate`](Self::invalidate).
    ///
    /// It is for data that should be renewed, and of which an old version is better than none. A lookup with the stamp
    /// of the expiry (`at_least`) never gets the old value.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn down() -> Result<String, std::io::Error> { Err(std::io::Error::other("the source is down")) }
    /// users.insert(&42, "Ada".to_owned()).stale_for(std::time::Duration::from_secs(3600)).await?;
    /// users.expire(&42).await?;
    /// assert!(users.get(&42).await?.is_none()); // not fresh
    /// let found = users.get_or_load(&42, down).traced().await?;
    /// assert_eq!((&**found.value, found.source), ("Ada", Source::Stale)); // better than an error
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`invalidate`](Self::invalidate). After an error of kind `Backend` or `Config` the key is removed on
    /// this node, and the change is retried as an invalidation: the old value is no fallback any more.
    pub async fn expire<Q, By>(&self, key: &Q) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        invalidate::expire(&self.inner, vec![encode(&self.inner, key)?]).await
    }

    /// Expires many keys. See [`expire`](Self::expire). Keys that are too long to be cached are skipped.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn down() -> Result<String, std::io::Error> { Err(std::io::Error::other("the source is down")) }
    /// users.insert(&1, "Ada".to_owned()).stale_for(std::time::Duration::from_secs(3600)).await?;
    /// users.expire_many([&1, &2]).await?;
    /// assert!(!users.contains(&1).await?);
    /// assert_eq!(*users.get_or_load(&1, down).await?, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`expire`](Self::expire). An error concerns all keys of the call.
    pub async fn expire_many<'a, Q, By>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized + 'a,
    {
        let keys = keys.into_iter().filter_map(|key| Key::encode(key).ok()).collect();
        invalidate::expire(&self.inner, keys).await
    }

    /// Expires every entry of this namespace that has the tag, on every node. See [`expire`](Self::expire). The call
    /// takes one round trip for each partition, whatever the number of entries.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn down() -> Result<String, std::io::Error> { Err(std::io::Error::other("the source is down")) }
    /// users.insert(&42, "Ada".to_owned()).tag("team:9").stale_for(std::time::Duration::from_secs(3600)).await?;
    /// users.expire_tag("team:9").await?;
    /// assert!(!users.contains(&42).await?);
    /// assert_eq!(*users.get_or_load(&42, down).await?, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`expire`](Self::expire), and [`ErrorKind::Config`](crate::error::ErrorKind::Config) for an invalid
    /// tag.
    pub async fn expire_tag(&self, tag: impl AsRef<str>) -> Result<Stamp> {
        self.expire_tags([tag]).await
    }

    /// Expires many tags. See [`expire_tag`](Self::expire_tag).
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn down() -> Result<String, std::io::Error> { Err(std::io::Error::other("the source is down")) }
    /// users.insert(&42, "Ada".to_owned()).tag("team:9").stale_for(std::time::Duration::from_secs(3600)).await?;
    /// users.expire_tags(["team:8", "team:9"]).await?;
    /// assert_eq!(*users.get_or_load(&42, down).await?, "Ada");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`expire_tag`](Self::expire_tag). An error concerns all tags of the call.
    pub async fn expire_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Result<Stamp> {
        invalidate::change_tags(&self.inner, tags, Effect::Expire).await
    }

    /// Removes every entry of this namespace, on every node. The time does not depend on the number of entries.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).await?;
    /// users.invalidate_all().await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<Stamp> {
        invalidate::invalidate_all(&self.inner).await
    }

    /// A handle that invalidates by encoded keys, without the types of this cache.
    #[must_use]
    pub fn invalidator(&self) -> Invalidator {
        invalidator(self)
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// The namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.inner.observer.namespace
    }

    /// Returns whether L1 may answer. It may while the node knows every change that is older than
    /// `max_staleness`.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.inner.local.liveness.node.is_serving()
    }

    /// Returns for each partition whether L1 may answer for its keys. Tests use it to find what a fault has harmed.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn serving_partitions(&self) -> Vec<bool> {
        self.inner.local.liveness.node.serving_partitions()
    }

    /// Waits until L1 may answer: see [`is_serving`](Self::is_serving). Without an L2 it returns at once.
    ///
    /// It is for a service that takes its first requests only when its cache works fully. The cache is also
    /// correct without this wait: until L1 may answer, lookups go to L2. The wait has no limit while L2 cannot
    /// be reached, so set one:
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).l2(MemoryBackend::new(100)).build()?;
    /// match tokio::time::timeout(std::time::Duration::from_secs(5), users.ready()).await {
    ///     Ok(Ok(())) => {}
    ///     Ok(Err(error)) => eprintln!("L2 refuses this node: {error:#}"), // or return the error, to end the start
    ///     Err(_) => eprintln!("L2 cannot be reached: starting all the same"),
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// * [`Shutdown`](crate::error::ErrorKind::Shutdown): the cache was shut down.
    /// * The error with which L2 refuses this node now, such as [`Config`](crate::error::ErrorKind::Config) if the
    ///   password is wrong or other nodes use another codec. The cache goes on trying. Once L2 accepts the node, `ready`
    ///   returns `Ok`.
    pub async fn ready(&self) -> Result<()> {
        self.inner.lifecycle.ready(&self.inner.local.liveness).await
    }

    /// Returns the counters and gauges of this cache on this node.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
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

    /// Returns a stream of the events from now on. It ends when the cache is dropped. `next` is a method of
    /// `StreamExt` in the crate `futures-util`.
    pub fn subscribe(&self) -> EventStream {
        self.inner.observer.events.subscribe()
    }

    /// Returns whether no load, read, wait or pending change is left. Tests use it to find leaks.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inner.local.stripes.is_idle() && self.inner.local.liveness.unsent.len() == 0
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
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// let left = users.shutdown().await;
    /// assert_eq!(left.pending_invalidations, 0);
    /// assert!(users.get(&42).await.is_err());
    /// # Ok(()) }
    /// ```
    pub async fn shutdown(&self) -> Shutdown {
        shut_down(&self.inner).await
    }
}
