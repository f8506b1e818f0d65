//! A handle that invalidates without the types of a cache.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::api::cache::{Shutdown, TieredCache, with_key_type};
use crate::changes::invalidate;
use crate::error::Result;
use crate::format::key::Key;
use crate::liveness::stamp::Stamp;

/// Invalidates entries of one cache by encoded keys and by tags. It does not have the cache's types, so a list can hold the
/// invalidators of many caches. It is for code that stores or transports invalidations, such as an outbox.
///
/// A cheap handle, made by [`TieredCache::invalidator`]. It keeps the cache open, as a clone of the cache does.
///
/// ```
/// # use async_cache_core::{Result, TieredCache, key::Key}; use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// # let users: TieredCache<u64, String> = TieredCache::builder().namespace("users").l1(MemoryBackend::new(100)).build()?;
/// users.insert(&42, "user 42".to_owned()).await?;
/// let bytes = Key::encode(&42_u64)?.as_bytes().to_vec(); // stored somewhere, and read again later
///
/// let invalidator = users.invalidator();
/// assert_eq!(invalidator.namespace(), "users");
/// invalidator.invalidate_many(vec![Key::from_encoded(&bytes)]).await?;
/// assert!(!users.contains(&42).await?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Invalidator(Arc<dyn Invalidate>);

impl Invalidator {
    /// The namespace of the cache.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.0.namespace()
    }

    /// Whether the cache has an L2. Without one, an invalidation reaches only the cache of this process.
    #[must_use]
    pub fn has_l2(&self) -> bool {
        self.0.has_l2()
    }

    pub(crate) async fn ready(&self) -> Result<()> {
        self.0.ready().await
    }

    pub(crate) async fn shutdown(&self) -> Shutdown {
        self.0.shutdown().await
    }

    /// Does what [`TieredCache::invalidate_many`] does.
    ///
    /// # Errors
    ///
    /// As [`TieredCache::invalidate`], for all of them together.
    pub async fn invalidate_many(&self, keys: Vec<Key>) -> Result<Stamp> {
        self.0.keys(keys).await
    }

    /// Does what [`TieredCache::invalidate_tags`] does.
    ///
    /// # Errors
    ///
    /// As [`TieredCache::invalidate_tag`], for all of them together.
    pub async fn invalidate_tags(&self, tags: Vec<String>) -> Result<Stamp> {
        self.0.tags(tags).await
    }

    /// Does what [`TieredCache::expire_many`] does.
    ///
    /// # Errors
    ///
    /// As [`TieredCache::expire`], for all of them together.
    pub async fn expire_many(&self, keys: Vec<Key>) -> Result<Stamp> {
        self.0.expire_keys(keys).await
    }

    /// Does what [`TieredCache::expire_tags`] does.
    ///
    /// # Errors
    ///
    /// As [`TieredCache::expire_tag`], for all of them together.
    pub async fn expire_tags(&self, tags: Vec<String>) -> Result<Stamp> {
        self.0.expire_tags(tags).await
    }

    /// Does what [`TieredCache::invalidate_all`] does.
    ///
    /// # Errors
    ///
    /// As [`TieredCache::invalidate`].
    pub async fn invalidate_all(&self) -> Result<Stamp> {
        self.0.all().await
    }
}

impl fmt::Debug for Invalidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidator").field("namespace", &self.namespace()).finish_non_exhaustive()
    }
}

/// The invalidator of a cache. The type of the keys is replaced, because it may borrow.
pub(crate) fn invalidator<K, V: Send + Sync + 'static>(cache: &TieredCache<K, V>) -> Invalidator {
    Invalidator(Arc::new(with_key_type::<String, K, V>(cache)))
}

#[async_trait]
trait Invalidate: Send + Sync {
    fn namespace(&self) -> &str;
    fn has_l2(&self) -> bool;
    async fn ready(&self) -> Result<()>;
    async fn shutdown(&self) -> Shutdown;
    async fn keys(&self, keys: Vec<Key>) -> Result<Stamp>;
    async fn tags(&self, tags: Vec<String>) -> Result<Stamp>;
    async fn expire_keys(&self, keys: Vec<Key>) -> Result<Stamp>;
    async fn expire_tags(&self, tags: Vec<String>) -> Result<Stamp>;
    async fn all(&self) -> Result<Stamp>;
}

#[async_trait]
impl<V: Send + Sync + 'static> Invalidate for TieredCache<String, V> {
    fn namespace(&self) -> &str {
        self.namespace()
    }

    fn has_l2(&self) -> bool {
        self.inner.remote.is_some()
    }

    async fn ready(&self) -> Result<()> {
        self.ready().await
    }

    async fn shutdown(&self) -> Shutdown {
        self.shutdown().await
    }

    async fn keys(&self, keys: Vec<Key>) -> Result<Stamp> {
        invalidate::invalidate(&self.inner, keys).await
    }

    async fn tags(&self, tags: Vec<String>) -> Result<Stamp> {
        self.invalidate_tags(tags).await
    }

    async fn expire_keys(&self, keys: Vec<Key>) -> Result<Stamp> {
        invalidate::expire(&self.inner, keys).await
    }

    async fn expire_tags(&self, tags: Vec<String>) -> Result<Stamp> {
        self.expire_tags(tags).await
    }

    async fn all(&self) -> Result<Stamp> {
        self.invalidate_all().await
    }
}
