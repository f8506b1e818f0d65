//! `DataLoader`: loads asked for one by one, run in batches.

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
use crate::lookup::many::picked::{PerKey, Picked};
use crate::observe::trace;
use crate::options::{Defaults, Options};

/// Gathers loads of single keys into batches: the remedy for "N + 1" queries.
///
/// Whoever asks for a key waits until the batch is full ([`max_batch_size`](Self::max_batch_size),
/// default 100) or its time has come ([`delay`](Self::delay), default 1 ms after its first key);
/// then the batch function is called once, with every distinct key. Batches run concurrently, each
/// in a task of its own: callers that go away strand nobody.
///
/// A key that the batch function's map lacks is `None` to those who asked, and is not remembered: a
/// result that is short for any other reason would otherwise stay. A key nobody asked for is ignored.
///
/// A batch's error, panic (an error of kind [`LoaderPanicked`](crate::error::ErrorKind::LoaderPanicked))
/// or timeout (`load_timeout`, default 30 s) reaches everyone in that batch, and is not remembered.
///
/// There are two kinds:
///
/// * over a cache ([`TieredCache::data_loader`](crate::api::cache::TieredCache::data_loader)), which is asked first,
///   and remembers;
/// * alone ([`DataLoader::new`]), remembering by itself until cleared: one for each request.
///
/// A cheap handle: clones share everything.
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
    /// A loader without a cache behind it, for one request or one unit of work.
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

    /// As [`new`](Self::new), for a batch function that gives an outcome for each key: a key's error
    /// reaches only those who asked for it.
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

    /// Most keys in one call of the batch function, from 1 to 100,000. Default 100.
    #[must_use]
    pub fn max_batch_size(self, keys: usize) -> Self {
        self.set(|settings| settings.max_batch_size = keys.clamp(1, MAX_KEYS))
    }

    /// How long the first key of a batch waits for others. Default 1 ms. Zero waits only for
    /// the tasks that are ready to run. It comes before the load, and so before `load_timeout`: a call may take both.
    #[must_use]
    pub fn delay(self, delay: Duration) -> Self {
        self.set(|settings| settings.delay = delay)
    }

    /// Most keys that may be waiting or loading at once: more are refused with
    /// [`ErrorKind::Overloaded`](crate::error::ErrorKind::Overloaded). Default 100,000.
    #[must_use]
    pub fn max_pending(self, keys: usize) -> Self {
        self.set(|settings| settings.max_pending = keys)
    }

    /// Most values that a loader without a cache remembers; what is loaded beyond is given out and
    /// not remembered. Default 100,000.
    #[must_use]
    pub fn max_entries(self, values: usize) -> Self {
        self.set(|settings| settings.max_entries = values)
    }

    /// Hard limit on one call of the batch function. Default 30 s, or what the cache says.
    #[must_use]
    pub fn load_timeout(self, limit: Duration) -> Self {
        self.set(|settings| settings.options.load.load_timeout = limit)
    }

    /// How a cache behind this loader loads and keeps values: [`StoreOptions`](crate::options::StoreOptions),
    /// [`LoadOptions`](crate::options::LoadOptions), or both as a pair. Default: as the cache says. A loader without a cache
    /// knows `load_timeout` alone: with others, every load is an error of kind
    /// [`Config`](crate::error::ErrorKind::Config).
    #[must_use]
    pub fn options(self, options: impl Into<Defaults>) -> Self {
        self.set(|settings| settings.options.set(options.into()))
    }

    /// Ends the settings. A loader is usable without this, too.
    #[must_use]
    pub fn build(self) -> Self {
        self
    }

    /// A loader with other settings, that shares nothing with clones of this one but the function.
    fn set(self, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = self.inner.settings.clone();
        change(&mut settings);
        Self { inner: Arc::new(Gathering::new(Arc::clone(&self.inner.source), settings)) }
    }

    /// Loads one key, with others that are asked for at the same time. Needs a Tokio runtime.
    ///
    /// A batch function may load through its own loader, too, other keys than its own: asking for
    /// a key it is loading is an error of kind [`Reentrant`](crate::error::ErrorKind::Reentrant). A ring
    /// of batches that wait for one another is not seen; `load_timeout` ends it.
    ///
    /// # Errors
    ///
    /// What the batch ended with; see [`DataLoader`].
    pub fn load(&self, key: K) -> impl Future<Output = Result<Option<Arc<V>>>> + Send + use<K, V> {
        let inner = Arc::clone(&self.inner);
        async move {
            let entered = inner.enter(key);
            entered.outcome().await
        }
    }

    /// Loads many keys, each with its own outcome, in the order of the keys. They may repeat.
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

    /// Makes a value known: loads from now on answer it, whatever is being loaded.
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

    /// Forgets a key: loads from now on load it afresh, and do not join one that has set out.
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

/// A change to a [`DataLoader`], begun by the call that returned this.
///
/// Without a cache it is done. Over one, await it to know that it is: the tiers are being changed.
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
                    let message = "the task making a change ended early";
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
