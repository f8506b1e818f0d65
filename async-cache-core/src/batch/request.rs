//! The verb `get_many_or_load`, and keys that may repeat.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;

use super::many::{BatchLoader, PlanMany};
use super::value::{BatchValue, TypedBatch, box_batch};
use crate::cache::TieredCache;
use crate::coherence::Stamp;
use crate::error::{BoxError, Result};
use crate::key::{CacheKey, Key};
use crate::options::{Options, load_setters, negative_setters, stale_setters, store_setters};
use crate::path::Answer;
use crate::shared::Shared;

/// Keys, each once.
pub(super) struct Distinct<K> {
    keys: Vec<K>,
    pub(super) encoded: Vec<Key>,
    /// Which of them each of the keys given is.
    places: Vec<usize>,
}

impl<K> Distinct<K> {
    pub(super) fn new<'a, Q>(keys: impl IntoIterator<Item = &'a Q>) -> Result<Self>
    where
        Q: CacheKey + ToOwned<Owned = K> + ?Sized + 'a,
    {
        let (mut known, mut places): (HashMap<Key, usize>, _) = (HashMap::new(), Vec::new());
        let (mut owned, mut encoded) = (Vec::new(), Vec::new());
        for key in keys {
            let place = match known.entry(Key::encode(key)?) {
                Slot::Occupied(slot) => *slot.get(),
                Slot::Vacant(slot) => {
                    owned.push(key.to_owned());
                    encoded.push(slot.key().clone());
                    *slot.insert(encoded.len() - 1)
                }
            };
            places.push(place);
        }
        Ok(Self { keys: owned, encoded, places })
    }
}

/// A typed batch loader, told the places of its keys.
pub(super) fn by_place<K, V>(keys: Vec<K>, batch: TypedBatch<K, V>) -> BatchLoader<V>
where
    K: Clone + Send + Sync + 'static,
    V: 'static,
{
    Arc::new(move |places: Vec<usize>| batch(places.into_iter().map(|place| keys[place].clone()).collect()))
}

/// A lookup of many keys with a loader: [`TieredCache::get_many_or_load`].
#[must_use = "a request does nothing until it is awaited"]
pub struct GetManyOrLoad<'a, K, V: 'static> {
    shared: &'a Arc<Shared<V>>,
    keys: Result<Distinct<K>>,
    need: Option<&'a Stamp>,
    options: Options,
    batch: TypedBatch<K, V>,
}

impl<'a, K, V> GetManyOrLoad<'a, K, V> {
    /// Never answers from before this point in the namespace's history, on any node.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.need = Some(stamp);
        self
    }

    store_setters!(|this| this.options.store);
    negative_setters!(|this| this.options.store);
    load_setters!(|this| this.options.load);
    stale_setters!(|this| this.options.load);
}

impl<'a, K, V> IntoFuture for GetManyOrLoad<'a, K, V>
where
    K: Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Output = Result<Vec<Answer<V>>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { shared, keys, need, options, batch } = self;
        Box::pin(async move {
            let Distinct { keys, encoded, places } =
                keys.map_err(|error| error.in_namespace(&shared.namespace))?;
            let plan = PlanMany { options, loader: by_place(keys, batch) };
            // Here, because an error must not depend on there being a key to give it to.
            shared.check_plan(&encoded, need, &plan)?;
            let answers: Result<Vec<Answer<V>>> =
                shared.get_many_or_load(&encoded, need, plan).await.into_iter().collect();
            answers.map(|answers| places.into_iter().map(|place| answers[place].clone()).collect())
        })
    }
}

impl<K: CacheKey, V: Send + Sync + 'static> TieredCache<K, V> {
    /// Looks many keys up, and loads those that no tier has with one call of the loader. Answers
    /// stand in the order of the keys, which may repeat; at most 100,000 in one call.
    ///
    /// The loader is given the distinct keys that this node is to load. Keys that other tasks or
    /// nodes are loading are waited for. Should that be in vain, because a load elsewhere failed or its
    /// node died, the loader is called again for those: that is why it must be `Clone`, which a
    /// closure is if what it captures is.
    ///
    /// It gives a map of values, [`Loaded`](crate::Loaded) values, or `Option`s of either. `None` says
    /// that there is none, and is cached for `negative_ttl`. A key that the map lacks is `None` here,
    /// too, but not cached: a map that is short for any other reason would hide what exists. A key
    /// nobody asked for is ignored, and counted in [`Stats::unasked_keys`](crate::Stats::unasked_keys).
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// # use async_cache_core::TieredCache;
    /// # use async_cache_memory::MemoryBackend;
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> async_cache_core::Result<()> {
    /// let names: TieredCache<u64, String> = TieredCache::builder().l1(MemoryBackend::new(10_000)).build()?;
    /// names.insert(&1, "Ada".to_string()).await?;
    ///
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
    /// As [`get_or_load`](Self::get_or_load): that of the first key, in their order, that could be
    /// neither found nor loaded. What the others came to is cached all the same.
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
        let loader = Mutex::new(loader);
        let batch = box_batch(move |keys| {
            let loader = loader.lock().clone();
            loader(keys)
        });
        let (keys, options) = (Distinct::new(keys), self.shared.defaults.clone());
        GetManyOrLoad { shared: &self.shared, keys, need: None, options, batch }
    }
}

impl<K, V> fmt::Debug for GetManyOrLoad<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetManyOrLoad").field("namespace", &self.shared.namespace).finish_non_exhaustive()
    }
}
