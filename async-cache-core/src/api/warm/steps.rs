//! The work of each step of warming, for one key and for a batch of keys.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::api::batch_value::TypedBatch;
use crate::api::many::by_place;
use crate::api::warm::report::{Pace, Step, Warm, Warmed, Work};
use crate::error::{BoxError, Result};
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::local::request::{FirstTier, LookupRequest};
use crate::lookup::loader::box_loader;
use crate::lookup::many::get_or_load;
use crate::lookup::many::plan::{BatchLoader, PlanMany};
use crate::lookup::one;
use crate::options::{Loaded, Options};

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
    let request = Arc::new(LookupRequest::of(encoded, options));
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

/// A request whose steps load one key each.
pub(crate) fn of_one<'a, K, V, F, Fut, R, E>(
    inner: &'a Arc<Inner<V>>,
    keys: impl Iterator<Item = K> + Send + 'a,
    load: F,
) -> Warm<'a, K, V>
where
    K: CacheKey + Clone + 'static,
    V: Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, E>> + Send + 'static,
    R: Into<Loaded<V>>,
    E: Into<BoxError> + 'static,
{
    let load = Arc::new(load);
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
    Warm::new(inner, keys, Pace::One, 16, work)
}

/// A request whose steps load a batch of keys each.
pub(crate) fn of_many<'a, K, V>(
    inner: &'a Arc<Inner<V>>,
    keys: impl Iterator<Item = K> + Send + 'a,
    batch: TypedBatch<K, V>,
) -> Warm<'a, K, V>
where
    K: CacheKey + Clone + 'static,
    V: Send + Sync + 'static,
{
    let work: Work<'a, K> = Box::new(move |keys, options| {
        Box::pin(warm_step(Arc::clone(inner), keys, Arc::clone(&batch), options))
    });
    Warm::new(inner, keys, Pace::Batch(100), 4, work)
}
