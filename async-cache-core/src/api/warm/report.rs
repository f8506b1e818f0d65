//! The request that warms a cache, and its report.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};

use crate::error::{Error, Result};
use crate::format::key::CacheKey;
use crate::inner::Inner;
use crate::lookup::many::get::MAX_KEYS;
use crate::options::{Options, load_setters, negative_setters, store_setters};

/// The maximum number of failures that a report lists. Further ones are counted.
const MAX_LISTED: usize = 10_000;

/// The outcome of one key.
pub(crate) enum Warmed {
    Loaded,
    Skipped,
    Absent,
}

/// The outcomes of the keys of one step.
pub(crate) type Step<K> = Vec<(K, Result<Warmed>)>;

type Steps<'a, K> = Box<dyn Iterator<Item = Vec<K>> + Send + 'a>;
pub(crate) type Work<'a, K> = Box<dyn Fn(Vec<K>, Options) -> BoxFuture<'a, Step<K>> + Send + 'a>;

/// A request that warms a cache: [`TieredCache::warm`](crate::api::cache::TieredCache::warm) and
/// [`TieredCache::warm_many`](crate::api::cache::TieredCache::warm_many).
///
/// The keys are taken from the iterator as loads end. So memory and tasks do not grow with the number of
/// keys. A failure does not stop the others: the report lists the first 10,000 failures. If the request is
/// dropped before its end, it takes no more keys, and the loads under way run to their end.
///
/// ```
/// # use std::collections::HashMap;
/// # use async_cache_core::TieredCache;
/// # use async_cache_memory::MemoryBackend;
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
/// let squares: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10_000)).build()?;
/// squares.insert(&1, 1).await?;
/// let load = |n: u64| async move { if n == 13 { Err(std::io::Error::other("unlucky")) } else { Ok(n * n) } };
///
/// let report = squares.warm(1..=100, load).concurrency(16).on_progress(|p| println!("{} done", p.done)).await;
/// assert_eq!((report.loaded, report.skipped), (98, 1));
/// assert_eq!(report.failed[0].0, 13);
///
/// let load = |keys: Vec<u64>| async move {
///     Ok::<HashMap<u64, u64>, std::io::Error>(keys.into_iter().map(|n| (n, n * n)).collect())
/// };
/// let report = squares.warm_many(1001..=2000, load).batch_size(250).await;
/// assert_eq!((report.loaded, squares.stats().loads), (1000, 99 + 4));
/// # Ok(()) }
/// ```
#[must_use = "a request does nothing until it is awaited"]
pub struct Warm<'a, K, V: 'static> {
    inner: &'a Arc<Inner<V>>,
    keys: Box<dyn Iterator<Item = K> + Send + 'a>,
    work: Work<'a, K>,
    pace: Pace,
    concurrency: usize,
    on_progress: Box<dyn FnMut(WarmProgress) + Send + 'a>,
    options: Options,
}

/// The number of keys in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    One,
    Batch(usize),
}

/// The progress of warming.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WarmProgress {
    /// The number of finished keys, with any outcome.
    pub done: usize,
    /// The number of all keys, if the iterator knows it.
    pub total: Option<usize>,
    /// The number of loaded keys.
    pub loaded: usize,
    /// The number of keys that a tier already had, or that another task or node was loading.
    pub skipped: usize,
    /// The number of keys for which the batch loader returned no value.
    pub absent: usize,
    /// The number of keys whose load failed.
    pub failed: usize,
}

/// The result of warming.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "one failure stops nothing: the report has them"]
pub struct WarmReport<K> {
    /// The number of loaded keys.
    pub loaded: usize,
    /// The number of keys that a tier already had, or that another task or node was loading.
    pub skipped: usize,
    /// The number of keys for which the batch loader returned no value.
    pub absent: usize,
    /// The keys whose load failed, each with its error. At most 10,000 are listed.
    pub failed: Vec<(K, Error)>,
    /// The number of failed keys that are not listed.
    pub failed_unlisted: usize,
}

impl<'a, K: CacheKey, V: Send + Sync + 'static> Warm<'a, K, V> {
    pub(crate) fn new(
        inner: &'a Arc<Inner<V>>,
        keys: impl Iterator<Item = K> + Send + 'a,
        pace: Pace,
        concurrency: usize,
        work: Work<'a, K>,
    ) -> Self {
        let options = inner.policy.defaults.clone();
        Self { inner, keys: Box::new(keys), work, pace, concurrency, on_progress: Box::new(drop), options }
    }

    /// Sets the maximum number of loads that run at once: at least 1. The default is 16 for
    /// [`warm`](crate::api::cache::TieredCache::warm) and 4 for
    /// [`warm_many`](crate::api::cache::TieredCache::warm_many).
    pub fn concurrency(mut self, loads: usize) -> Self {
        self.concurrency = loads.max(1);
        self
    }

    /// Sets a callback. It is called after every load, by the task that awaits this request.
    pub fn on_progress(mut self, callback: impl FnMut(WarmProgress) + Send + 'a) -> Self {
        self.on_progress = Box::new(callback);
        self
    }

    /// Sets the maximum number of keys in one call of a batch loader, from 1 to 100,000. The default is 100. It
    /// has no effect on [`warm`](crate::api::cache::TieredCache::warm), whose loader takes one key.
    pub fn batch_size(mut self, keys: usize) -> Self {
        if let Pace::Batch(size) = &mut self.pace {
            *size = keys.clamp(1, MAX_KEYS);
        }
        self
    }

    store_setters!(|this| this.options.store);
    negative_setters!(|this| this.options.store);
    load_setters!(|this| this.options.load);
}

impl<'a, K: CacheKey + 'a, V: Send + Sync + 'static> IntoFuture for Warm<'a, K, V> {
    type Output = WarmReport<K>;
    type IntoFuture = BoxFuture<'a, WarmReport<K>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { inner, mut keys, work, pace, concurrency, mut on_progress, options } = self;
        Box::pin(async move {
            let total = keys.size_hint().1.filter(|most| *most == keys.size_hint().0);
            let mut report = WarmReport::new();
            let step = match pace {
                Pace::One => 1,
                Pace::Batch(keys) => keys,
            };
            // Takes keys from the iterator as loads end. It stops when the cache is shut down.
            let steps: Steps<'a, K> = Box::new(std::iter::from_fn(move || {
                let keys: Vec<K> = keys.by_ref().take(step).collect();
                (!keys.is_empty() && inner.lifecycle.check_open().is_ok()).then_some(keys)
            }));
            let mut done = stream::iter(steps)
                .map(move |keys| work(keys, options.clone()))
                .buffer_unordered(concurrency);
            while let Some(step) = done.next().await {
                step.into_iter().for_each(|(key, outcome)| report.add(key, outcome));
                on_progress(report.progress(total));
                // If every key is fresh, nothing above waits, so this task yields here.
                tokio::task::coop::consume_budget().await;
            }
            report
        })
    }
}

impl<K> WarmReport<K> {
    fn new() -> Self {
        Self { loaded: 0, skipped: 0, absent: 0, failed: Vec::new(), failed_unlisted: 0 }
    }

    fn add(&mut self, key: K, outcome: Result<Warmed>) {
        match outcome {
            Ok(Warmed::Loaded) => self.loaded += 1,
            Ok(Warmed::Skipped) => self.skipped += 1,
            Ok(Warmed::Absent) => self.absent += 1,
            Err(error) if self.failed.len() < MAX_LISTED => self.failed.push((key, error)),
            Err(_) => self.failed_unlisted += 1,
        }
    }

    fn progress(&self, total: Option<usize>) -> WarmProgress {
        let Self { loaded, skipped, absent, .. } = *self;
        let failed = self.failed.len() + self.failed_unlisted;
        WarmProgress { done: loaded + skipped + absent + failed, total, loaded, skipped, absent, failed }
    }
}

impl<K, V> fmt::Debug for Warm<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm")
            .field("namespace", &self.inner.observer.namespace)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
