//! The verbs that change: what they return is a stamp.

use std::sync::Arc;

use crate::api::cache::TieredCache;
use crate::api::request::Insert;
use crate::changes::invalidate;
use crate::error::Result;
use crate::format::key::{CacheKey, FoundBy, Key};
use crate::format::tags::{MAX_TAGS, Tags};
use crate::liveness::stamp::Stamp;

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Stores a value in both tiers, replaces what other nodes hold, and breaks loads under way.
    ///
    /// After a write to the source prefer [`invalidate`](Self::invalidate): two inserts of one key that race are ordered
    /// by L2, not by the source, so that the older row may stay.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "user 42".to_owned()).ttl(std::time::Duration::from_secs(60)).await?;
    /// assert!(users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::error::ErrorKind::Backend): the outcome in L2 is unknown; the key is
    /// dropped here and retried as an invalidation. So it is if L2 refused it ([`Config`](crate::error::ErrorKind::Config)). [`Codec`](crate::error::ErrorKind::Codec): the value
    /// cannot be encoded, and nothing is stored.
    pub fn insert<'a, Q, By>(&'a self, key: &'a Q, value: V) -> Insert<'a, V>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        Insert::new(&self.inner, Key::encode(key).map(|key| vec![(key, Arc::new(value))]))
    }

    /// Stores many values, in one round trip for each partition; see [`insert`](Self::insert).
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert_many([(1, "user 1".to_owned()), (2, "user 2".to_owned())]).await?;
    /// assert!(users.contains(&2).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`insert`](Self::insert), for all of them together.
    pub fn insert_many(&self, entries: impl IntoIterator<Item = (K, V)>) -> Insert<'_, V> {
        let encode = |(key, value): (K, V)| Key::encode(&key).map(|key| (key, Arc::new(value)));
        Insert::new(&self.inner, entries.into_iter().map(encode).collect())
    }

    /// Makes every node forget the key: what it holds, and what it is loading.
    ///
    /// To be called when the change to the source is committed. Returns the point in the
    /// namespace's history from which every read reflects that change.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "old".to_owned()).await?;
    /// // First commit the change, then:
    /// let stamp = users.invalidate(&42).await?;
    /// assert!(users.get(&42).at_least(&stamp).await?.is_none()); // on any node
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::error::ErrorKind::Backend): the outcome is unknown.
    /// [`Config`](crate::error::ErrorKind::Config): L2 refused it, for a wrong password or a missing right. After both the key is
    /// dropped on this node, and the invalidation is retried until it lands, the process ends or the last handle is
    /// dropped. The change to the source is committed, so do not tell its caller that it failed.
    ///
    /// [`Key`](crate::error::ErrorKind::Key) for a key that is too long to be cached,
    /// [`Shutdown`](crate::error::ErrorKind::Shutdown) after a shutdown: nothing is retried.
    pub async fn invalidate<Q, By>(&self, key: &Q) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        invalidate::invalidate(
            &self.inner,
            vec![Key::encode(key).map_err(|error| error.in_namespace(&self.inner.observer.namespace))?],
        )
        .await
    }

    /// Invalidates many keys; see [`invalidate`](Self::invalidate). Those that are too long to be cached need none.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&1, "user 1".to_owned()).await?;
    /// users.invalidate_many([&1, &2]).await?;
    /// assert!(!users.contains(&1).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate), for all of them together.
    pub async fn invalidate_many<'a, Q, By>(&self, keys: impl IntoIterator<Item = &'a Q>) -> Result<Stamp>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized + 'a,
    {
        invalidate::invalidate(
            &self.inner,
            keys.into_iter().filter_map(|key| Key::encode(key).ok()).collect(),
        )
        .await
    }

    /// Makes every node forget every entry of this namespace that has this tag: what it holds, and what it is
    /// loading, even where only the loader's result names the tag. Takes the same time, and one
    /// round trip for each partition, whatever the number of entries.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "user 42".to_owned()).tag("team:9").await?;
    /// users.invalidate_tag("team:9").await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate). [`ErrorKind::Config`](crate::error::ErrorKind::Config) for a
    /// tag that no entry can have.
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> Result<Stamp> {
        self.invalidate_tags([tag]).await
    }

    /// Invalidates many tags; see [`invalidate_tag`](Self::invalidate_tag).
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "user 42".to_owned()).tag("team:9").await?;
    /// users.invalidate_tags(["team:8", "team:9"]).await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate_tag`](Self::invalidate_tag), for all of them together.
    pub async fn invalidate_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> Result<Stamp> {
        let changes =
            tag_changes(tags).map_err(|error| error.in_namespace(&self.inner.observer.namespace))?;
        invalidate::invalidate_tags(&self.inner, changes).await
    }

    /// Makes every node forget everything in this namespace, in the same time whatever it holds.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "user 42".to_owned()).await?;
    /// users.invalidate_all().await?;
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self) -> Result<Stamp> {
        invalidate::invalidate_all(&self.inner).await
    }
}

/// Tags as changes, each of as many as one change may have.
fn tag_changes<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Result<Vec<Tags>> {
    let tags: Vec<T> = tags.into_iter().collect();
    tags.chunks(MAX_TAGS).map(|tags| Tags::new(tags.iter().map(|tag| tag.as_ref().as_bytes()))).collect()
}
