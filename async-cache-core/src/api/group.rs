//! Changes of several caches with one call.

use std::fmt;

use futures_util::future::{join_all, try_join_all};

use crate::api::cache::{Shutdown, TieredCache};
use crate::api::invalidator::Invalidator;
use crate::error::{Error, Result};
use crate::format::key::CacheKey;
use crate::liveness::stamp::Stamp;

/// Several caches of any types. One call changes the entries with a tag in all of them, waits until all are ready, or shuts
/// all down.
///
/// A cheap handle. It keeps its caches open, as clones of them do.
///
/// ```
/// # use async_cache_core::{CacheGroup, Result, TieredCache}; use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
/// # let l2 = MemoryBackend::new(100);
/// let users: TieredCache<u64, String> = TieredCache::builder().namespace("users").l2(l2.clone()).build()?;
/// let teams: TieredCache<String, u32> = TieredCache::builder().namespace("teams").l2(l2).build()?;
/// let group = CacheGroup::new().with(&users).with(&teams);
///
/// users.insert(&42, "Ada".to_owned()).tag("team:9").await?;
/// teams.insert("nine", 7).tag("team:9").await?;
/// let report = group.invalidate_tag("team:9").await;
/// assert_eq!((report.stamps.len(), report.failed.len()), (2, 0));
/// assert!(!users.contains(&42).await? && !teams.contains("nine").await?);
///
/// // Each stamp is for lookups in its own cache:
/// let stamp = report.stamp("users").expect("it has not failed");
/// assert!(users.get(&42).at_least(stamp).await?.is_none());
/// report.into_result()?; // the first error, if one cache has failed
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
#[must_use = "a group does nothing until one of its methods is called"]
pub struct CacheGroup(Vec<Invalidator>);

/// The outcome of a change in each cache of a group. A failure in one cache stops none of the others.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "one failure stops nothing: the report has them"]
pub struct GroupReport {
    /// The stamps of the caches that were changed, in the order of the group. Each names its namespace.
    pub stamps: Vec<Stamp>,
    /// The namespaces of the caches whose change has failed, each with its error. The errors are those of
    /// [`TieredCache::invalidate`]: after a `Backend` or `Config` error of L2 the cache retries the change.
    pub failed: Vec<(String, Error)>,
}

impl CacheGroup {
    /// A group without caches.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a cache.
    pub fn with<K: CacheKey, V: Send + Sync + 'static>(self, cache: &TieredCache<K, V>) -> Self {
        self.0.into_iter().chain([cache.invalidator()]).collect()
    }

    /// Does in every cache, at the same time, what [`TieredCache::invalidate_tag`] does.
    pub async fn invalidate_tag(&self, tag: impl AsRef<str>) -> GroupReport {
        self.invalidate_tags([tag]).await
    }

    /// Does in every cache, at the same time, what [`TieredCache::invalidate_tags`] does.
    pub async fn invalidate_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> GroupReport {
        let tags = owned(tags);
        self.in_all(|cache| cache.invalidate_tags(tags.clone())).await
    }

    /// Does in every cache, at the same time, what [`TieredCache::expire_tag`] does.
    pub async fn expire_tag(&self, tag: impl AsRef<str>) -> GroupReport {
        self.expire_tags([tag]).await
    }

    /// Does in every cache, at the same time, what [`TieredCache::expire_tags`] does.
    pub async fn expire_tags<T: AsRef<str>>(&self, tags: impl IntoIterator<Item = T>) -> GroupReport {
        let tags = owned(tags);
        self.in_all(|cache| cache.expire_tags(tags.clone())).await
    }

    /// Does in every cache, at the same time, what [`TieredCache::invalidate_all`] does.
    pub async fn invalidate_all(&self) -> GroupReport {
        self.in_all(Invalidator::invalidate_all).await
    }

    /// Waits until L1 may answer in every cache: see [`TieredCache::ready`]. The caches wait at the same time. The wait has no
    /// limit while L2 cannot be reached, so set one with `tokio::time::timeout`.
    ///
    /// # Errors
    ///
    /// The first error of [`TieredCache::ready`], at once. It names the namespace.
    pub async fn ready(&self) -> Result<()> {
        try_join_all(self.0.iter().map(Invalidator::ready)).await.map(drop)
    }

    /// Shuts every cache down, at the same time: see [`TieredCache::shutdown`]. This takes at most three seconds. The result
    /// is the number of invalidations, of all caches together, that have not reached L2 by then.
    pub async fn shutdown(&self) -> Shutdown {
        let left = join_all(self.0.iter().map(Invalidator::shutdown)).await;
        Shutdown { pending_invalidations: left.iter().map(|left| left.pending_invalidations).sum() }
    }

    async fn in_all<'a, Changing>(&'a self, change: impl Fn(&'a Invalidator) -> Changing) -> GroupReport
    where
        Changing: Future<Output = Result<Stamp>>,
    {
        let outcomes = join_all(self.0.iter().map(change)).await;
        let mut report = GroupReport { stamps: Vec::new(), failed: Vec::new() };
        for (cache, outcome) in self.0.iter().zip(outcomes) {
            match outcome {
                Ok(stamp) => report.stamps.push(stamp),
                Err(error) => report.failed.push((cache.namespace().to_owned(), error)),
            }
        }
        report
    }
}

impl GroupReport {
    /// The stamp of the change in this namespace. `None` if it has failed, or the group has no such cache.
    #[must_use]
    pub fn stamp(&self, namespace: &str) -> Option<&Stamp> {
        self.stamps.iter().find(|stamp| stamp.namespace() == namespace)
    }

    /// All stamps if no cache has failed.
    ///
    /// # Errors
    ///
    /// The error of the first cache that has failed. It names the namespace.
    pub fn into_result(self) -> Result<Vec<Stamp>> {
        match self.failed.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.stamps),
        }
    }
}

impl FromIterator<Invalidator> for CacheGroup {
    fn from_iter<I: IntoIterator<Item = Invalidator>>(caches: I) -> Self {
        Self(caches.into_iter().collect())
    }
}

impl fmt::Debug for CacheGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(Invalidator::namespace)).finish()
    }
}

fn owned<T: AsRef<str>>(tags: impl IntoIterator<Item = T>) -> Vec<String> {
    tags.into_iter().map(|tag| tag.as_ref().to_owned()).collect()
}
