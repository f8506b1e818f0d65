//! The request of `get_many_or_load`, and keys that may repeat.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use parking_lot::Mutex;

use crate::api::batch_value::{BatchValue, TypedBatch, box_batch};
use crate::error::{BoxError, ErrorKind, Result};
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::request::{Answer, FirstTier};
use crate::lookup::loader::{Given, Payload, run_loader};
use crate::lookup::many::get_or_load;
use crate::lookup::many::plan::{BatchLoader, Outcome, PlanMany};
use crate::observe::Event;
use crate::options::{Options, load_setters, negative_setters, stale_setters, store_setters};

/// The distinct keys of a call.
pub(crate) struct Distinct<K> {
    keys: Vec<K>,
    encoded: Vec<Key>,
    /// The keys that are too long to be cached.
    long: Vec<K>,
    /// The place of each given key among the distinct keys.
    places: Vec<Place>,
}

#[derive(Clone, Copy)]
enum Place {
    Cached(usize),
    TooLong(usize),
}

impl<K: Clone + Eq + Hash> Distinct<K> {
    pub(crate) fn new<'a, Q>(keys: impl IntoIterator<Item = &'a Q>) -> Self
    where
        Q: CacheKey + ToOwned<Owned = K> + ?Sized + 'a,
    {
        let (mut known, mut places): (HashMap<Key, usize>, _) = (HashMap::new(), Vec::new());
        let (mut owned, mut encoded, mut long) = (Vec::new(), Vec::new(), Vec::new());
        let mut known_long: HashMap<K, usize> = HashMap::new();
        for key in keys {
            let Ok(name) = Key::encode(key) else {
                let place = *known_long.entry(key.to_owned()).or_insert_with_key(|key| {
                    long.push(key.clone());
                    long.len() - 1
                });
                places.push(Place::TooLong(place));
                continue;
            };
            let place = match known.entry(name) {
                Slot::Occupied(slot) => *slot.get(),
                Slot::Vacant(slot) => {
                    owned.push(key.to_owned());
                    encoded.push(slot.key().clone());
                    *slot.insert(encoded.len() - 1)
                }
            };
            places.push(Place::Cached(place));
        }
        Self { keys: owned, encoded, long, places }
    }
}

/// What a lookup of many keys demands.
pub(crate) struct Terms<'a> {
    pub(crate) min_stamp: Option<&'a Stamp>,
    pub(crate) first_tier: FirstTier,
    pub(crate) options: Options,
}

/// Looks the keys up. Returns one outcome for each given key, in their order.
pub(crate) async fn look_up<K, V>(
    inner: &Arc<Inner<V>>,
    distinct: Distinct<K>,
    terms: Terms<'_>,
    batch: TypedBatch<K, V>,
) -> Result<Vec<Outcome<V>>>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    let Distinct { keys, encoded, long, places } = distinct;
    let Terms { min_stamp, first_tier, options } = terms;
    let limit = options.load.load_timeout;
    let plan = PlanMany { first_tier, options, loader: by_place(keys, Arc::clone(&batch)) };
    // The check is here, because its error must be returned even if there is no key.
    get_or_load::check_plan(inner, &encoded, min_stamp, &plan)?;
    let (cached, too_long) = join(
        get_or_load::get_many_or_load(inner, &encoded, min_stamp, plan),
        load_uncached(inner, long, limit, batch),
    )
    .await;
    let outcome = |place| match place {
        Place::Cached(at) => cached[at].clone(),
        Place::TooLong(at) => too_long[at].clone(),
    };
    Ok(places.into_iter().map(outcome).collect())
}

/// Loads the keys that are too long to be cached. Such a key must not fail the other keys of the call.
async fn load_uncached<K, V>(
    inner: &Arc<Inner<V>>,
    keys: Vec<K>,
    limit: Duration,
    batch: TypedBatch<K, V>,
) -> Vec<Outcome<V>>
where
    V: Send + Sync + 'static,
{
    let count = keys.len();
    if count == 0 {
        return Vec::new();
    }
    inner.observer.counters.misses.add(count);
    inner.observer.counters.loads.add(1);
    (0..count).for_each(|_| inner.observer.events.tell(|| Event::KeyTooLong));
    match run_loader(inner, || batch(keys), limit).await {
        Ok(picked) => {
            let outcomes: Vec<_> = picked.answers.into_iter().map(|answer| uncached(inner, answer)).collect();
            inner
                .observer
                .counters
                .load_failures
                .add(outcomes.iter().filter(|outcome| outcome.is_err()).count());
            outcomes
        }
        Err(error) => {
            inner.observer.counters.load_failures.add(1);
            vec![Err(error); count]
        }
    }
}

/// The outcome of a key that is not cached, from the result of its batch loader.
fn uncached<V: 'static>(inner: &Inner<V>, answer: Option<Result<Given<V>, BoxError>>) -> Outcome<V> {
    match answer.transpose() {
        Ok(None) => Ok(None),
        Ok(Some(Given { payload: Payload::New(value), .. })) => Ok(value),
        Ok(Some(Given { payload: Payload::Unchanged, .. })) => Err(inner
            .observer
            .error(ErrorKind::Loader, "a loader answered `unchanged`, but there is no previous value")),
        Err(cause) => {
            Err(inner.observer.error(ErrorKind::Loader, "loading a key of a batch failed").with_source(cause))
        }
    }
}

/// Turns a batch loader by keys into one that is called with the places of the keys.
pub(crate) fn by_place<K, V>(keys: Vec<K>, batch: TypedBatch<K, V>) -> BatchLoader<V>
where
    K: Clone + Send + Sync + 'static,
    V: 'static,
{
    Arc::new(move |places: Vec<usize>| batch(places.into_iter().map(|place| keys[place].clone()).collect()))
}

/// A lookup of many keys with a loader:
/// [`TieredCache::get_many_or_load`](crate::api::cache::TieredCache::get_many_or_load).
///
/// The loader receives the distinct keys that this node must load. For keys that other tasks or nodes are
/// loading, the call waits. If such a load fails, or if its node dies, the loader is called again for those
/// keys. So the loader must be `Clone`. A closure is `Clone` if everything that it captures is.
///
/// The loader returns a map. The values of the map may be plain values,
/// [`Loaded`](crate::options::Loaded) values, or `Option`s of either. `None` means that the key has
/// no value; the absence is cached for `negative_ttl`. If the map lacks a key, the answer is `None`, too,
/// but it is not cached: the map may lack the key for another reason than its absence. A key in the map
/// that was not requested is ignored, and counted in
/// [`Stats::unasked_keys`](crate::observe::Stats::unasked_keys).
///
/// A key that is too long to be cached is loaded by each call.
#[must_use = "a request does nothing until it is awaited"]
pub struct GetManyOrLoad<'a, K, V: 'static> {
    inner: &'a Arc<Inner<V>>,
    keys: Distinct<K>,
    terms: Terms<'a>,
    batch: TypedBatch<K, V>,
}

impl<'a, K, V> GetManyOrLoad<'a, K, V> {
    pub(crate) fn new<Q, F, Fut, R, E>(
        inner: &'a Arc<Inner<V>>,
        keys: impl IntoIterator<Item = &'a Q>,
        loader: F,
    ) -> Self
    where
        K: Clone + Eq + Hash + Send + 'static,
        Q: CacheKey + ToOwned<Owned = K> + ?Sized + 'a,
        F: FnOnce(Vec<K>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
        R: Into<BatchValue<V>>,
        E: Into<BoxError> + 'static,
    {
        let loader = Mutex::new(loader);
        let batch = box_batch(move |keys| {
            let loader = loader.lock().clone();
            loader(keys)
        });
        let (keys, options) = (Distinct::new(keys), inner.policy.defaults.clone());
        let terms = Terms { min_stamp: None, first_tier: FirstTier::L1, options };
        Self { inner, keys, terms, batch }
    }

    /// Makes the lookup return no value from before this stamp, on any node.
    ///
    /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.terms.min_stamp = Some(stamp);
        self
    }

    /// Asks L2 although L1 may have the keys: see [`GetOrLoad::skip_l1`](crate::api::request::GetOrLoad::skip_l1).
    pub fn skip_l1(mut self) -> Self {
        self.terms.first_tier = FirstTier::L2;
        self
    }

    store_setters!(|this| this.terms.options.store);
    negative_setters!(|this| this.terms.options.store);
    load_setters!(|this| this.terms.options.load);
    stale_setters!(|this| this.terms.options.load);
}

impl<'a, K, V> IntoFuture for GetManyOrLoad<'a, K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Output = Result<Vec<Answer<V>>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { inner, keys, terms, batch } = self;
        Box::pin(async move { look_up(inner, keys, terms, batch).await?.into_iter().collect() })
    }
}

impl<K, V> fmt::Debug for GetManyOrLoad<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetManyOrLoad")
            .field("namespace", &self.inner.observer.namespace)
            .finish_non_exhaustive()
    }
}
