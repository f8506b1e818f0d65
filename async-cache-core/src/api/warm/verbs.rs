//! The methods `warm` and `warm_many`, and the work of each step.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::api::batch_value::{BatchValue, TypedBatch, box_batch};
use crate::api::cache::TieredCache;
use crate::api::many::by_place;
use crate::api::warm::report::{Pace, Step, Warm, Warmed, Work};
use crate::error::{BoxError, Result};
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::local::request::{CacheMode, FirstTier, LookupRequest};
use crate::lookup::loaded::Loaded;
use crate::lookup::loader::box_loader;
use crate::lookup::many::get_or_load;
use crate::lookup::many::plan::{BatchLoader, PlanMany};
use crate::lookup::one;
use crate::options::Options;

/// Loads one key if neither tier has it.
async fn warm_one<K, V, F, Fut, R, E>(
    inner: Arc<Inner<V>>,
    key: K,
    load: Arc<F>,
    mut options: Options,
) -> (K, Result<Warmed>)
where
    K: CacheKey + Clone + 'static,
    V: Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    let encoded = match Key::encode(&key) {
        Ok(encoded) => encoded,
        Err(error) => return (key, Err(error.in_namespace(&inner.observer.namespace))),
    };
    let begun = Arc::new(AtomicBool::new(false));
    let (own, flag) = (key.clone(), Arc::clone(&begun));
    let loader = move || {
        flag.store(true, Ordering::Relaxed);
        load(own)
    };
    let loader = box_loader::<V, _, _, R, E>(loader, &mut options.store);
    let mode = CacheMode::Use;
    let request = LookupRequest {
        key: encoded,
        min_stamp: None,
        mode,
        absent_ok: false,
        first_tier: FirstTier::L1,
        background: false,
        options,
    };
    let warmed = match one::get_or_load(&inner, request, loader).await {
        Ok(_) if begun.load(Ordering::Relaxed) => Ok(Warmed::Loaded),
        Ok(_) => Ok(Warmed::Skipped),
        Err(error) => Err(error),
    };
    (key, warmed)
}

/// Loads the keys of a step that neither tier has.
async fn warm_step<K, V>(
    inner: Arc<Inner<V>>,
    keys: Vec<K>,
    batch: TypedBatch<K, V>,
    options: Options,
) -> Step<K>
where
    K: CacheKey + Clone + 'static,
    V: Send + Sync + 'static,
{
    let (mut sound, mut encoded, mut step) = (Vec::new(), Vec::new(), Step::new());
    for key in keys {
        match Key::encode(&key) {
            Ok(bytes) => {
                sound.push(key);
                encoded.push(bytes);
            }
            Err(error) => step.push((key, Err(error.in_namespace(&inner.observer.namespace)))),
        }
    }
    let asked = Arc::new(Mutex::new(HashSet::new()));
    let (noted, by_place) = (Arc::clone(&asked), by_place(sound.clone(), batch));
    let loader: BatchLoader<V> = Arc::new(move |places: Vec<usize>| {
        noted.lock().extend(places.iter().copied());
        by_place(places)
    });
    let plan = PlanMany { first_tier: FirstTier::L1, options, loader };
    let outcomes = get_or_load::get_many_or_load(&inner, &encoded, None, plan).await;
    let asked = asked.lock();
    for (place, (key, outcome)) in sound.into_iter().zip(outcomes).enumerate() {
        let warmed = outcome.map(|answer| match answer {
            _ if !asked.contains(&place) => Warmed::Skipped,
            Some(_) => Warmed::Loaded,
            None => Warmed::Absent,
        });
        step.push((key, warmed));
    }
    step
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Fills the cache: loads each key that neither tier has, with bounded concurrency.
    ///
    /// The keys are taken from the iterator as loads end. So memory and tasks do not grow with the number of
    /// keys. A failure does not stop the others: the report lists the first 10,000 failures. If the request is
    /// dropped before its end, it takes no more keys, and the loads under way run to their end.
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
        E: Into<BoxError> + 'static,
    {
        let (inner, load) = (&self.inner, Arc::new(load));
        let work: Work<'a, K> = Box::new(move |keys, options| {
            let (inner, load) = (Arc::clone(inner), Arc::clone(&load));
            Box::pin(async move {
                let mut step = Step::new();
                for key in keys {
                    let warm = warm_one(Arc::clone(&inner), key, Arc::clone(&load), options.clone());
                    step.push(warm.await);
                }
                step
            })
        });
        Warm::new(inner, keys.into_iter(), Pace::One, 16, work)
    }

    /// Works like [`warm`](Self::warm), with a batch loader. Each call of the loader gets at most
    /// [`batch_size`](Warm::batch_size) of the keys that neither tier has, like the loader of
    /// [`get_many_or_load`](Self::get_many_or_load). By default up to 4 calls run at once. If a call fails, its
    /// error is listed for each of its keys.
    ///
    /// ```
    /// # use std::collections::{HashMap, HashSet};
    /// # use async_cache_core::TieredCache;
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// let squares: TieredCache<u64, u64> = TieredCache::builder().l1(MemoryBackend::new(10_000)).build()?;
    /// let load = |keys: Vec<u64>| async move {
    ///     Ok::<HashMap<u64, u64>, std::io::Error>(keys.into_iter().map(|n| (n, n * n)).collect())
    /// };
    /// let report = squares.warm_many(1..=1000, load).batch_size(250).await;
    /// assert_eq!((report.loaded, squares.stats().loads), (1000, 4));
    /// # Ok(()) }
    /// ```
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
        let (inner, batch) = (&self.inner, box_batch(load));
        let work: Work<'a, K> = Box::new(move |keys, options| {
            Box::pin(warm_step(Arc::clone(inner), keys, Arc::clone(&batch), options))
        });
        Warm::new(inner, keys.into_iter(), Pace::Batch(100), 4, work)
    }
}
