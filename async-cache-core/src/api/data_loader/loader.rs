//! [`DataLoader`]: loads single keys in batches.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::api::data_loader::alone::{Alone, BatchFn};
use crate::api::data_loader::gather::{Entered, Gathering, Settings, outside_tokio};
use crate::api::data_loader::source::Source;
use crate::error::{BoxError, Result, boxed};
use crate::lookup::many::get::MAX_KEYS;
use crate::lookup::many::plan::{PerKey, Picked};
use crate::observe::trace;
use crate::options::{Defaults, Options};

/// Gathers loads of single keys into batches. This is the remedy for "N + 1" queries.
///
/// A call of [`load`](Self::load) waits until its batch is full ([`max_batch_size`](Self::max_batch_size),
/// default 100 keys), or until the [`delay`](Self::delay) after the first key of the batch is over (default
/// 1 ms). Then the batch function is called once with all distinct keys of the batch. Batches run concurrently,
/// each in its own task. A caller that is cancelled does not stop its batch.
///
/// If the map of the batch function lacks a key, the callers get `None`, and the loader does not remember it:
/// the map may lack the key for another reason than its absence. A key in the map that was not requested is
/// ignored.
///
/// If a batch fails, all its callers get the error, and the loader does not remember it. A batch fails with an
/// error of its function, with a panic (an error of kind
/// [`LoaderPanicked`](crate::error::ErrorKind::LoaderPanicked)), or with a timeout (`load_timeout`, default
/// 30 s).
///
/// There are two kinds:
///
/// * over a cache ([`TieredCache::data_loader`](crate::api::cache::TieredCache::data_loader)): the loader asks
///   the cache first, and the cache remembers the values;
/// * alone ([`DataLoader::new`]): the loader remembers the values until they are cleared. Make one for each
///   request.
///
/// It is a cheap handle, and all clones share one loader.
///
/// ```
/// # use std::collections::HashMap;
/// # use std::time::Duration;
/// # use async_cache_core::TieredCache;
/// # use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
/// let users: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(10_000)).build()?;
/// let authors = users
///     .data_loader(|ids: Vec<u64>| async move {
///         // SELECT id, name FROM users WHERE id = ANY(ids)
///         Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
///     })
///     .max_batch_size(100)
///     .delay(Duration::from_millis(1))
///     .build();
///
/// let names = authors.load_many([1, 2, 1]).await;
/// assert_eq!(names[2].as_ref().unwrap().as_ref().unwrap().as_str(), "user 1");
/// assert_eq!(users.stats().loads, 1);
/// # Ok(()) }
/// ```
///
/// Without a cache:
///
/// ```
/// # use async_cache_core as async_cache;
/// # use std::collections::HashMap;
/// use async_cache::DataLoader;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
/// let names = DataLoader::new(|ids: Vec<u64>| async move {
///     // SELECT id, name FROM users WHERE id = ANY(ids)
///     Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
/// });
/// let (a, b) = tokio::join!(names.load(1), names.load(2)); // one batch
/// assert_eq!((&**a?.unwrap(), &**b?.unwrap()), ("user 1", "user 2"));
/// # Ok(()) }
/// ```
pub struct DataLoader<K, V> {
    inner: Arc<Gathering<K, V>>,
}

impl<K, V> DataLoader<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Makes a loader without a cache, for one request or one unit of work.
    pub fn new<F, Fut, E>(batch: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<HashMap<K, V>, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        Self::alone(Box::new(move |keys| {
            let asked = keys.clone();
            let found = batch(keys);
            async move { Ok(Picked::new(&asked, found.await.map_err(boxed)?, Ok)) }.boxed()
        }))
    }

    /// Works like [`new`](Self::new), for a batch function that returns an outcome for each key. Only the
    /// callers of a key get the error of that key.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::DataLoader;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// let lengths = DataLoader::each(|paths: Vec<&'static str>| async move {
    ///     let outcome = |path: &'static str| match path {
    ///         "secret" => Err(std::io::Error::other("not for you")),
    ///         path => Ok(path.len()),
    ///     };
    ///     paths.into_iter().map(|path| (path, outcome(path))).collect::<HashMap<_, _>>()
    /// });
    /// let (open, secret) = tokio::join!(lengths.load("open"), lengths.load("secret"));
    /// assert_eq!(open?.as_deref(), Some(&4));
    /// assert_eq!(secret.unwrap_err().loader_error::<std::io::Error>().unwrap().to_string(), "not for you");
    /// # Ok(()) }
    /// ```
    pub fn each<F, Fut>(batch: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: PerKey<K, V>> + Send + 'static,
    {
        Self::alone(Box::new(move |keys| {
            let asked = keys.clone();
            let found = batch(keys);
            async move { Ok(Picked::new(&asked, found.await.per_key()?, |outcome| outcome)) }.boxed()
        }))
    }

    fn alone(batch: BatchFn<K, V>) -> Self {
        Self::over(Arc::new(Alone::new(batch)), Options::default())
    }

    pub(crate) fn over(source: Arc<dyn Source<K, V>>, options: Options) -> Self {
        let settings = Settings {
            max_batch_size: 100,
            delay: Duration::from_millis(1),
            max_pending: 100_000,
            max_entries: 100_000,
            options,
        };
        Self { inner: Arc::new(Gathering::new(source, settings)) }
    }

    /// Sets the maximum number of keys in one call of the batch function, from 1 to 100,000. The default is
    /// 100.
    #[must_use]
    pub fn max_batch_size(self, keys: usize) -> Self {
        self.set(|settings| settings.max_batch_size = keys.clamp(1, MAX_KEYS))
    }

    /// Sets how long the first key of a batch waits for others. The default is 1 ms. With zero it waits only
    /// for the tasks that are ready to run. `load_timeout` begins after this delay, so a call may take both.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.set(|settings| settings.delay = delay)
    }

    /// Sets the maximum number of keys that may be waiting or loading at once. Further keys get an error of
    /// kind [`ErrorKind::Overloaded`](crate::error::ErrorKind::Overloaded). The default is 100,000.
    #[must_use]
    pub fn max_pending(self, keys: usize) -> Self {
        self.set(|settings| settings.max_pending = keys)
    }

    /// Sets the maximum number of values that a loader without a cache remembers. Further values are returned
    /// and not remembered. The default is 100,000.
    #[must_use]
    pub fn max_entries(self, values: usize) -> Self {
        self.set(|settings| settings.max_entries = values)
    }

    /// Sets the hard limit on one call of the batch function. The default is 30 s, or the default of the cache.
    #[must_use]
    pub fn load_timeout(self, limit: Duration) -> Self {
        self.set(|settings| settings.options.load.load_timeout = limit)
    }

    /// Sets how the cache of this loader loads and stores values. The argument is a
    /// [`StoreOptions`](crate::options::StoreOptions), a [`LoadOptions`](crate::options::LoadOptions), or a
    /// pair of both. The defaults are those of the cache. A loader without a cache has only the option
    /// `load_timeout`: with any other option, every load returns an error of kind
    /// [`Config`](crate::error::ErrorKind::Config).
    #[must_use]
    pub fn options(self, options: impl Into<Defaults>) -> Self {
        self.set(|settings| settings.options.set(options.into()))
    }

    /// Ends the settings. A loader also works without this call.
    #[must_use]
    pub fn build(self) -> Self {
        self
    }

    /// Returns a loader with other settings. It shares only the batch function with the clones of this one.
    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.inner.settings.clone();
        change(&mut settings);
        Self { inner: Arc::new(Gathering::new(Arc::clone(&self.inner.source), settings)) }
    }

    /// Loads one key, together with other keys that are requested at the same time. It needs a Tokio runtime.
    ///
    /// A batch function may load other keys through its own loader. If it asks for a key that it is loading, it
    /// gets an error of kind [`Reentrant`](crate::error::ErrorKind::Reentrant). A circle of batches that wait
    /// for each other is not detected; `load_timeout` ends it.
    ///
    /// # Errors
    ///
    /// The error of the batch. See [`DataLoader`].
    pub fn load(&self, key: K) -> impl Future<Output = Result<Option<Arc<V>>>> + Send + use<K, V> {
        let inner = Arc::clone(&self.inner);
        async move {
            let entered = inner.enter(key);
            entered.outcome().await
        }
    }

    /// Loads many keys, which may repeat. The outcomes are in the order of the keys, one for each.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::DataLoader;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// # let names = DataLoader::new(|ids: Vec<u64>| async move {
    /// #     Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    /// # });
    /// for (id, name) in [2, 1, 2].into_iter().zip(names.load_many([2, 1, 2]).await) {
    ///     assert_eq!(*name?.unwrap(), format!("user {id}"));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn load_many(
        &self,
        keys: impl IntoIterator<Item = K>,
    ) -> BoxFuture<'static, Vec<Result<Option<Arc<V>>>>> {
        let (inner, keys) = (Arc::clone(&self.inner), keys.into_iter().collect::<Vec<K>>());
        Box::pin(async move {
            let entered: Vec<Entered<K, V>> = keys.into_iter().map(|key| inner.enter(key)).collect();
            let mut outcomes = Vec::with_capacity(entered.len());
            for entered in entered {
                outcomes.push(entered.outcome().await);
            }
            outcomes
        })
    }

    /// Sets the value of a key. Loads from now on return it, even if a load of the key is under way.
    ///
    /// Over a cache this is [`insert`](crate::api::cache::TieredCache::insert), with its errors.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::DataLoader;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// # let names = DataLoader::new(|ids: Vec<u64>| async move {
    /// #     Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    /// # });
    /// names.prime(1, "just created".to_owned()).await?;
    /// assert_eq!(*names.load(1).await?.unwrap(), "just created"); // no batch
    /// # Ok(()) }
    /// ```
    pub fn prime(&self, key: K, value: V) -> Update {
        let Gathering { source, settings, .. } = &*self.inner;
        match source.prime(key, value, settings.options.clone()) {
            Ok(work) => Update::begin(work),
            Err((key, value)) => {
                self.inner.keep(key, value);
                Update(None, None)
            }
        }
    }

    /// Forgets a key. Loads from now on read the source again, and do not join a batch that has started.
    ///
    /// Over a cache this is [`invalidate`](crate::api::cache::TieredCache::invalidate), with its errors.
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::DataLoader;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// # let names = DataLoader::new(|ids: Vec<u64>| async move {
    /// #     Ok::<HashMap<u64, String>, std::io::Error>(ids.into_iter().map(|id| (id, format!("user {id}"))).collect())
    /// # });
    /// names.prime(1, "before the change".to_owned()).await?;
    /// names.clear(&1).await?;
    /// assert_eq!(*names.load(1).await?.unwrap(), "user 1"); // loaded afresh
    /// # Ok(()) }
    /// ```
    pub fn clear(&self, key: &K) -> Update {
        self.inner.forget(key);
        self.inner.source.clear(Some(key)).map_or(Update(None, None), Update::begin)
    }

    /// Forgets every key; see [`clear`](Self::clear).
    ///
    /// Over a cache this is [`invalidate_all`](crate::api::cache::TieredCache::invalidate_all), with its errors.
    pub fn clear_all(&self) -> Update {
        self.inner.forget_all();
        self.inner.source.clear(None).map_or(Update(None, None), Update::begin)
    }
}

impl<K, V> Clone for DataLoader<K, V> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, V> fmt::Debug for DataLoader<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader").field("settings", &self.inner.settings).finish_non_exhaustive()
    }
}

/// A change to a [`DataLoader`]. The call that returned it has begun the change.
///
/// Without a cache the change is finished. Over a cache the tiers are still being changed; await this to wait
/// for the end.
pub struct Update(Option<tokio::task::JoinHandle<Result<()>>>, Option<crate::error::Error>);

impl Update {
    fn begin(work: BoxFuture<'static, Result<()>>) -> Self {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => Self(Some(runtime.spawn(trace::here(work))), None),
            Err(_) => Self(None, Some(outside_tokio())),
        }
    }
}

impl IntoFuture for Update {
    type Output = Result<()>;
    type IntoFuture = BoxFuture<'static, Result<()>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            match self.0 {
                None => self.1.map_or(Ok(()), Err),
                Some(task) => task.await.unwrap_or_else(|cause| {
                    let message = "the task of a change ended early";
                    Err(crate::error::Error::new(crate::error::ErrorKind::Backend, message)
                        .with_source(cause))
                }),
            }
        })
    }
}

impl fmt::Debug for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Update").field("under_way", &self.0.is_some()).finish()
    }
}
