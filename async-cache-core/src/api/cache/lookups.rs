//! The methods that look up or load.

use crate::api::cache::{TieredCache, encode_all};
use crate::api::request::{Get, GetMany, GetOrLoad, GetOrLoadOptional, Refresh, RefreshOptional};
use crate::error::{BoxError, Result};
use crate::format::key::{CacheKey, FoundBy};
use crate::lookup::loaded::{LoadContext, Loaded};
use crate::lookup::loader::{box_informed_loader, box_loader, box_optional_loader};

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Looks a key up in both tiers. The result is `None` if neither tier has the key, or if its absence is
    /// cached.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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

    /// Looks a key up, and loads it if neither tier has it. If many callers in the fleet ask at the same time, the
    /// loader runs once.
    ///
    /// The load runs in its own task. A caller that is cancelled does not stop it. All waiting callers get its
    /// error, and the error is not cached.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// let user = users.get_or_load(&42, || find(42)).await?; // loads
    /// assert_eq!(*user, "user 42");
    /// users.get_or_load(&42, || find(42)).ttl(std::time::Duration::from_secs(60)).tag("team:9").await?; // does not
    /// # Ok(()) }
    /// ```
    ///
    /// The load inherits the `tracing` span of its caller, and nothing else of the caller's task. A
    /// `tokio::task_local!` that the caller has set is not set in the load, and reading it panics
    /// ([`LoaderPanicked`](crate::error::ErrorKind::LoaderPanicked)). Read it before, and move it into the
    /// closure. If the value depends on it, such as on a tenant, make it a part of the key: all callers of one
    /// key get the same value.
    ///
    /// ```
    /// # use async_cache_core::{Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<(u32, u64), String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(tenant: u32, id: u64) -> Result<String> { Ok(format!("user {id} of {tenant}")) }
    /// tokio::task_local! { static TENANT: u32; }
    ///
    /// # TENANT.scope(9, async {
    /// let tenant = TENANT.get(); // here, not in the loader
    /// let user = users.get_or_load(&(tenant, 42), move || find(tenant, 42)).await?;
    /// assert_eq!(*user, "user 42 of 9");
    /// # Result::Ok(()) }).await
    /// # }
    /// ```
    ///
    /// The load outlives the call, so it must own what it uses. `|| self.load(id)` borrows `self`, and the
    /// compiler reports "borrowed data escapes outside of method" (E0521). Give the load its own handle:
    ///
    /// ```
    /// # use async_cache_core::{Error, TieredCache};
    /// # #[derive(Clone)] struct Pool;
    /// #[derive(Clone)] // of handles: cheap
    /// struct Repository {
    ///     pool: Pool,
    ///     users: TieredCache<u64, String>,
    /// }
    ///
    /// impl Repository {
    ///     async fn load(&self, id: u64) -> Result<String, std::io::Error> {
    /// #       let _ = &self.pool;
    ///         Ok(format!("user {id}")) // a query
    ///     }
    ///
    ///     async fn user(&self, id: u64) -> Result<std::sync::Arc<String>, Error> {
    ///         let this = self.clone(); // or of what the load needs: `self.pool.clone()`
    ///         self.users.get_or_load(&id, move || async move { this.load(id).await }).await
    ///     }
    /// }
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoad::new(&self.inner, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`get_or_load`](Self::get_or_load). The loader receives the previous value, and may return
    /// [`Loaded::unchanged`].
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
    /// // Asks the source for what is newer than what is cached; `unchanged` makes that last another while.
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoad::new(&self.inner, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`get_or_load`](Self::get_or_load). The loader may return `None`, and the absence is cached
    /// for `negative_ttl`.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        GetOrLoadOptional::new(&self.inner, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Looks many keys up, with at most one round trip to L2 for each partition. The answers are in the order
    /// of the keys.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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
        GetMany::new(&self.inner, encode_all(keys))
    }

    /// Loads a key even if it is cached, and replaces the entries on every node. If the load fails, the cached
    /// entries stay.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        Refresh::new(&self.inner, key, loader, box_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`refresh`](Self::refresh). The loader receives the previous value, and may return
    /// [`Loaded::unchanged`].
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        Refresh::new(&self.inner, key, loader, box_informed_loader::<V, F, Fut, R, E>)
    }

    /// Works like [`refresh`](Self::refresh). The loader may return `None`, and the absence replaces the
    /// entries on every node.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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
        R: Into<Loaded<V>>,
        E: Into<BoxError> + 'static,
    {
        RefreshOptional::new(&self.inner, key, loader, box_optional_loader::<V, F, Fut, R, E>)
    }

    /// Returns whether a tier has a value for the key. A cached absence is not a value.
    ///
    /// ```
    /// # use async_cache_core::{Error, Loaded, LoadContext, Result, TieredCache}; use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<()> {
    /// # let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(100)).build()?;
    /// # async fn find(id: u64) -> Result<String> { Ok(format!("user {id}")) }
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
}
