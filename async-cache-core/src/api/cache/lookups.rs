//! The builder, and the methods that look up or load.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;

use crate::api::batch_value::{BatchValue, box_batch, box_batch_each};
use crate::api::builder::TieredCacheBuilder;
use crate::api::cache::TieredCache;
use crate::api::data_loader::loader::DataLoader;
use crate::api::data_loader::over::over;
use crate::api::many::GetManyOrLoad;
use crate::api::request::{Get, GetMany, GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
use crate::api::warm::report::Warm;
use crate::api::warm::steps;
use crate::error::{BoxError, Result};
use crate::format::key::{CacheKey, FoundBy};
use crate::lookup::loader::{LoadContext, box_informed_loader, box_loader, box_optional_loader};
use crate::lookup::many::plan::PerKey;
use crate::options::IntoLoaded;

// The bound is on the method and not on the `impl`. So the compiler reports the bound that a key type lacks,
// and not a missing method.
impl<K, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Starts to put a cache together.
    pub fn builder() -> TieredCacheBuilder<K, V>
    where
        K: CacheKey,
    {
        TieredCacheBuilder::new()
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Looks a key up in both tiers. The result is `None` if neither tier has the key, or if its absence is
    /// cached.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// assert!(users.get(&42).await?.is_none());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Backend`](crate::error::ErrorKind::Backend) if L2 was needed and could not be asked.
    pub fn get<'a, Q, By>(&'a self, key: &'a Q) -> Get<'a, V, Q>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        Get::new(&self.inner, key)
    }

    /// Looks many keys up, with at most one round trip to L2 for each partition. The answers are in the order
    /// of the keys.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&2, "user 2".to_owned()).await?;
    /// let found = users.get_many(&[1, 2]).await?;
    /// assert_eq!((found[0].is_some(), found[1].is_some()), (false, true));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Self::get).
    pub fn get_many<'a, Q, By>(&'a self, keys: impl IntoIterator<Item = &'a Q>) -> GetMany<'a, V>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized + 'a,
    {
        GetMany::new(&self.inner, keys)
    }

    /// Returns whether a tier has a value for the key. A cached absence is not a value.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).await?;
    /// assert!(users.contains(&42).await? && !users.contains(&43).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get`](Self::get).
    pub async fn contains<Q, By>(&self, key: &Q) -> Result<bool>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
    {
        Ok(self.get(key).await?.is_some())
    }

    /// Looks a key up, and loads it if neither tier has it. If many callers in the fleet ask at the same time, the
    /// loader runs once.
    ///
    /// The load runs in its own task. A caller that is cancelled does not stop it. All waiting callers get its
    /// error, and the error is not cached. [`GetOrLoad`] tells what the loader may borrow and inherits.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// let user = users.get_or_load(&42, || find(42)).await?; // loads
    /// assert_eq!(*user, "user 42");
    /// users.get_or_load(&42, || find(42)).ttl(std::time::Duration::from_secs(60)).tag("team:9").await?; // does not
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The error of the load: [`Loader`](crate::error::ErrorKind::Loader),
    /// [`LoaderPanicked`](crate::error::ErrorKind::LoaderPanicked),
    /// [`Timeout`](crate::error::ErrorKind::Timeout) or [`Reentrant`](crate::error::ErrorKind::Reentrant). If
    /// L2 cannot be reached, that is an error only with the policy
    /// [`OutagePolicy::Fail`](crate::options::OutagePolicy::Fail).
    pub fn get_or_load<'a, Q, By, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> GetOrLoad<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoad::new(&self.inner, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`get_or_load`](Self::get_or_load). The loader receives the previous value, and may return
    /// [`Loaded::unchanged`](crate::options::Loaded::unchanged).
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// // If the source has nothing newer, `unchanged` keeps the cached value for another `ttl`.
    /// let load = |context: LoadContext<String>| async move {
    ///     Ok::<_, Error>(match context.previous() {
    ///         Some(_) => Loaded::unchanged(),
    ///         None => Loaded::new(find(42).await?),
    ///     })
    /// };
    /// assert_eq!(*users.get_or_load_with(&42, load).await?, "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_with<'a, Q, By, F, Fut, R, E>(
        &'a self,
        key: &'a Q,
        loader: F,
    ) -> GetOrLoad<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoad::new(&self.inner, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`get_or_load`](Self::get_or_load). The loader may return `None`, and the absence is cached
    /// for `negative_ttl`.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// let nobody = users.get_or_load_optional(&7, || async { Ok::<_, Error>(None::<String>) }).await?;
    /// assert!(nobody.is_none()); // and not asked for again for `negative_ttl`
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load).
    pub fn get_or_load_optional<'a, Q, By, F, Fut, R, E>(
        &'a self,
        key: &'a Q,
        loader: F,
    ) -> GetOrLoadOptional<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoadOptional::new(&self.inner, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Looks many keys up, and loads the keys that neither tier has with one call of the loader. The answers are
    /// in the order of the keys, which may repeat. [`GetManyOrLoad`] tells what the loader receives and returns.
    /// One call takes at most 100,000 keys.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # use std::collections::HashMap; let names: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// names.insert(&1, "Ada".to_string()).await?;
    /// let found = names
    ///     .get_many_or_load(&[1, 2, 3, 2], |missing: Vec<u64>| async move {
    ///         assert_eq!(missing, [2, 3]); // SELECT id, name FROM users WHERE id = ANY(missing)
    ///         Ok::<_, std::io::Error>(HashMap::from([(2, "Grace".to_string())]))
    ///     })
    ///     .await?;
    /// let found: Vec<Option<&str>> = found.iter().map(|name| name.as_ref().map(|name| name.as_str())).collect();
    /// assert_eq!(found, [Some("Ada"), Some("Grace"), None, Some("Grace")]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load). The call returns the error of the first key, in their
    /// order, that could not be found or loaded. The values of the other keys are still cached. For a result of
    /// each key use [`data_loader_each`](Self::data_loader_each).
    pub fn get_many_or_load<'a, Q, F, Fut, R, E>(
        &'a self,
        keys: impl IntoIterator<Item = &'a Q>,
        loader: F,
    ) -> GetManyOrLoad<'a, K, V>
    where
        K: Borrow<Q> + Clone + Eq + Hash + 'static,
        Q: CacheKey + ToOwned<Owned = K> + ?Sized + 'a,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        GetManyOrLoad::new(&self.inner, keys, loader)
    }

    /// Loads a key even if it is cached, and replaces the entries on every node. If the load fails, the cached
    /// entries stay.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// users.insert(&42, "before".to_owned()).await?;
    /// assert_eq!(*users.refresh(&42, || find(42)).await?, "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load).
    pub fn refresh<'a, Q, By, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> Refresh<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        Refresh::new(&self.inner, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`refresh`](Self::refresh). The loader receives the previous value, and may return
    /// [`Loaded::unchanged`](crate::options::Loaded::unchanged).
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).await?;
    /// let load = |_: LoadContext<String>| async { Ok::<_, Error>(Loaded::unchanged()) }; // the source says: as before
    /// assert_eq!(*users.refresh_with(&42, load).await?, "user 42");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load).
    pub fn refresh_with<'a, Q, By, F, Fut, R, E>(&'a self, key: &'a Q, loader: F) -> Refresh<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce(LoadContext<V>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        Refresh::new(&self.inner, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`refresh`](Self::refresh). The loader may return `None`, and the absence replaces the
    /// entries on every node.
    ///
    /// ```
    /// # use async_cache_core::*; use async_cache_memory::MemoryBackend; #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// users.insert(&42, "user 42".to_owned()).await?;
    /// users.refresh_optional(&42, || async { Ok::<_, Error>(None::<String>) }).await?; // gone
    /// assert!(!users.contains(&42).await?);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`get_or_load`](Self::get_or_load).
    pub fn refresh_optional<'a, Q, By, F, Fut, R, E>(
        &'a self,
        key: &'a Q,
        loader: F,
    ) -> RefreshOptional<'a, V, Q, F>
    where
        K: FoundBy<Q, By>,
        Q: CacheKey + ?Sized,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Option<R>, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        RefreshOptional::new(&self.inner, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Fills the cache: loads each key that neither tier has. By default up to 16 loads run at once. [`Warm`]
    /// tells more.
    pub fn warm<'a, I, F, Fut, R, E>(&'a self, keys: I, load: F) -> Warm<'a, K, V>
    where
        K: Clone + 'static,
        I: IntoIterator<Item = K>,
        I::IntoIter: Send + 'a,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: IntoLoaded<V>,
        E: Into<BoxError> + 'static,
    {
        steps::of_one(&self.inner, keys.into_iter(), load)
    }

    /// Works like [`warm`](Self::warm), with a batch loader. Each call of the loader gets at most
    /// [`batch_size`](Warm::batch_size) of the keys that neither tier has, like the loader of
    /// [`get_many_or_load`](Self::get_many_or_load). By default up to 4 calls run at once. If a call fails, its
    /// error is listed for each of its keys.
    pub fn warm_many<'a, I, F, Fut, R, E>(&'a self, keys: I, load: F) -> Warm<'a, K, V>
    where
        K: Clone + Eq + Hash + 'static,
        I: IntoIterator<Item = K>,
        I::IntoIter: Send + 'a,
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        steps::of_many(&self.inner, keys.into_iter(), box_batch(load))
    }
}

impl<K, V> TieredCache<K, V>
where
    K: CacheKey + Clone + Eq + Hash + 'static,
    V: Send + Sync + 'static,
{
    /// Makes a [`DataLoader`] over this cache. It gathers requests for single keys into batches, and looks each
    /// batch up and loads it like [`get_many_or_load`](Self::get_many_or_load).
    ///
    /// A hit in L1 returns at once. The loader itself remembers no values, so every invalidation of the cache
    /// also holds for the loader. It may live as long as the cache.
    ///
    /// If the batch function returns an error, every key of the batch gets it: see
    /// [`data_loader_each`](Self::data_loader_each).
    pub fn data_loader<F, Fut, R, E>(&self, batch: F) -> DataLoader<K, V>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        over(self, box_batch(batch))
    }

    /// Works like [`data_loader`](Self::data_loader), for a batch function that returns an outcome for each
    /// key. Only the callers of a key get the error of that key.
    pub fn data_loader_each<F, Fut, R>(&self, batch: F) -> DataLoader<K, V>
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: PerKey<K, R>> + Send + 'static,
        R: Into<BatchValue<V>>,
    {
        over(self, box_batch_each(batch))
    }
}
