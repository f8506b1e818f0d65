//! Warming: a cache filled before anyone asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream;

use crate::cache::TieredCache;
use crate::error::{BoxError, Error, Result};
use crate::key::{CacheKey, Key};
use crate::loaded::Loaded;
use crate::options::{EntryOptions, option_setters};
use crate::path::{Origin, Plan, Reuse, Want, box_loader};
use crate::shared::Shared;

/// Failures listed in a report; the rest are counted.
const MAX_LISTED: usize = 10_000;

/// What became of one key.
pub(super) enum Warmed {
    Loaded,
    Skipped,
    #[expect(dead_code, reason = "to be given by batch loaders")]
    Absent,
}

/// What became of the keys of one step.
pub(super) type Step<K> = Vec<(K, Result<Warmed>)>;

type Steps<'a, K> = Box<dyn Iterator<Item = Vec<K>> + Send + 'a>;
type Work<'a, K> = Box<dyn Fn(Vec<K>, EntryOptions) -> BoxFuture<'a, Step<K>> + Send + 'a>;

/// Warming a cache: [`TieredCache::warm`] and [`TieredCache::warm_many`].
#[must_use = "a request does nothing until it is awaited"]
pub struct Warm<'a, K, V: 'static> {
    shared: &'a Arc<Shared<V>>,
    keys: Box<dyn Iterator<Item = K> + Send + 'a>,
    work: Work<'a, K>,
    step: usize,
    concurrency: usize,
    on_progress: Box<dyn FnMut(WarmProgress) + Send + 'a>,
    options: EntryOptions,
}

/// How far warming has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WarmProgress {
    /// Keys done with, in whatever way.
    pub done: usize,
    /// Keys in all, if the iterator knows.
    pub total: Option<usize>,
    /// Keys loaded.
    pub loaded: usize,
    /// Keys that a tier had already, or that someone else was loading.
    pub skipped: usize,
    /// Keys the batch loader had nothing for.
    pub absent: usize,
    /// Keys whose load failed.
    pub failed: usize,
}

/// What warming came to.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "one failure stops nothing: the report has them"]
pub struct WarmReport<K> {
    /// Keys loaded.
    pub loaded: usize,
    /// Keys that a tier had already, or that someone else was loading.
    pub skipped: usize,
    /// Keys the batch loader had nothing for.
    pub absent: usize,
    /// Keys whose load failed, each with its error; the first 10,000.
    pub failed: Vec<(K, Error)>,
    /// Failures beyond those listed.
    pub failed_unlisted: usize,
}

impl<'a, K: CacheKey, V: Send + Sync + 'static> Warm<'a, K, V> {
    pub(super) fn new(
        shared: &'a Arc<Shared<V>>,
        keys: impl Iterator<Item = K> + Send + 'a,
        (step, concurrency): (usize, usize),
        work: Work<'a, K>,
    ) -> Self {
        let options = shared.defaults;
        Self { shared, keys: Box::new(keys), work, step, concurrency, on_progress: Box::new(drop), options }
    }

    /// Most loads that run at once: at least 1. Default 16 for [`warm`](TieredCache::warm), 4 for
    /// [`warm_many`](TieredCache::warm_many).
    pub fn concurrency(mut self, loads: usize) -> Self {
        self.concurrency = loads.max(1);
        self
    }

    /// Calls back after every load, from the task that awaits this.
    pub fn on_progress(mut self, callback: impl FnMut(WarmProgress) + Send + 'a) -> Self {
        self.on_progress = Box::new(callback);
        self
    }

    option_setters!(|this| this.options);
}

impl<'a, K: CacheKey + 'a, V: Send + Sync + 'static> IntoFuture for Warm<'a, K, V> {
    type Output = WarmReport<K>;
    type IntoFuture = BoxFuture<'a, WarmReport<K>>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { shared, mut keys, work, step, concurrency, mut on_progress, options } = self;
        Box::pin(async move {
            let total = keys.size_hint().1.filter(|most| *most == keys.size_hint().0);
            let mut report = WarmReport::new();
            // Pulled as there is room, and no further once the cache is shut down.
            let steps: Steps<'a, K> = Box::new(std::iter::from_fn(move || {
                let keys: Vec<K> = keys.by_ref().take(step).collect();
                (!keys.is_empty() && shared.check_open().is_ok()).then_some(keys)
            }));
            let mut done =
                stream::iter(steps).map(move |keys| work(keys, options)).buffer_unordered(concurrency);
            while let Some(step) = done.next().await {
                step.into_iter().for_each(|(key, outcome)| report.add(key, outcome));
                on_progress(report.progress(total));
                // Nothing above waits while every key is fresh.
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

/// Loads one key, unless it is fresh.
pub(super) async fn warm_one<K, V, F, Fut, R, E>(
    shared: Arc<Shared<V>>,
    key: K,
    load: Arc<F>,
    mut options: EntryOptions,
) -> (K, Result<Warmed>)
where
    K: CacheKey + Clone + 'static,
    V: Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError>,
{
    let encoded = match Key::encode(&key) {
        Ok(encoded) => encoded,
        Err(error) => return (key, Err(error.in_namespace(&shared.namespace))),
    };
    let begun = Arc::new(AtomicBool::new(false));
    let (own, flag) = (key.clone(), Arc::clone(&begun));
    let loader = move || {
        flag.store(true, Ordering::Relaxed);
        load(own)
    };
    let loader = box_loader::<V, _, _, R, E>(loader, &mut options);
    let plan = Plan::new((Want::Value, Reuse::Cached, Origin::Caller), options, loader);
    let warmed = match shared.get_or_load(&encoded, None, plan).await {
        Ok(_) if begun.load(Ordering::Relaxed) => Ok(Warmed::Loaded),
        Ok(_) => Ok(Warmed::Skipped),
        Err(error) => Err(error),
    };
    (key, warmed)
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Fills the cache: loads each key that no tier has, with bounded concurrency.
    ///
    /// The keys are pulled from their iterator as loads end, so that their number is limited by
    /// neither memory nor tasks. One failure stops nothing: the report lists the failures (the
    /// first 10,000). Dropped half way, it pulls no more; loads under way land.
    ///
    /// ```
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
    /// # Ok(()) }
    /// ```
    pub fn warm<'a, I, F, Fut, R, E>(&'a self, keys: I, load: F) -> Warm<'a, K, V>
    where
        K: Clone + 'static,
        I: IntoIterator<Item = K>,
        I::IntoIter: Send + 'a,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, E>> + Send + 'static,
        R: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        let (shared, load) = (&self.shared, Arc::new(load));
        let work: Work<'a, K> = Box::new(move |keys, options| {
            let (shared, load) = (Arc::clone(shared), Arc::clone(&load));
            Box::pin(async move {
                let mut step = Step::new();
                for key in keys {
                    let warm = warm_one(Arc::clone(&shared), key, Arc::clone(&load), options);
                    step.push(warm.await);
                }
                step
            })
        });
        Warm::new(shared, keys.into_iter(), (1, 16), work)
    }
}

impl<K, V> fmt::Debug for Warm<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Warm")
            .field("namespace", &self.shared.namespace)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
