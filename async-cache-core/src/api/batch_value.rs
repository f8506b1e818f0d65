//! The result of a batch loader for one key, and batch loaders with fewer type parameters.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::error::{BoxError, Result, boxed};
use crate::lookup::loader::Given;
use crate::lookup::many::plan::{PerKey, Picked};
use crate::options::Loaded;

/// The result of a batch loader for one key.
///
/// A batch loader returns a map. The values of the map may be plain values, [`Loaded`] values, or `Option`s of
/// either. `None` means that the key has no value; the absence is cached for `negative_ttl`. If the map lacks a
/// key, the callers get `None`, and nothing is cached.
#[derive(Debug, Clone)]
pub struct BatchValue<V>(Option<Loaded<V>>);

impl<V> From<V> for BatchValue<V> {
    fn from(value: V) -> Self {
        Self(Some(Loaded::new(value)))
    }
}

impl<V> From<Loaded<V>> for BatchValue<V> {
    fn from(loaded: Loaded<V>) -> Self {
        Self(Some(loaded))
    }
}

impl<V> From<Option<V>> for BatchValue<V> {
    fn from(found: Option<V>) -> Self {
        Self(found.map(Loaded::new))
    }
}

impl<V> From<Option<Loaded<V>>> for BatchValue<V> {
    fn from(found: Option<Loaded<V>>) -> Self {
        Self(found)
    }
}

/// A batch loader whose only type parameters are the keys and the value of the cache.
pub(crate) type TypedBatch<K, V> =
    Arc<dyn Fn(Vec<K>) -> BoxFuture<'static, Result<Picked<Given<V>>, BoxError>> + Send + Sync>;

pub(crate) fn box_batch<K, V, F, Fut, R, E>(batch: F) -> TypedBatch<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<HashMap<K, R>, E>> + Send + 'static,
    R: Into<BatchValue<V>>,
    E: Into<BoxError> + 'static,
{
    Arc::new(move |keys| {
        let asked = keys.clone();
        let found = batch(keys);
        async move {
            let found = found.await.map_err(boxed)?;
            Ok(Picked::new(&asked, found, |value| Ok(Given::new(value.into().0))))
        }
        .boxed()
    })
}

pub(crate) fn box_batch_each<K, V, F, Fut, R>(batch: F) -> TypedBatch<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: PerKey<K, R>> + Send + 'static,
    R: Into<BatchValue<V>>,
{
    Arc::new(move |keys| {
        let asked = keys.clone();
        let found = batch(keys);
        async move {
            let found = found.await.per_key()?;
            Ok(Picked::new(&asked, found, |value| value.map(|value| Given::new(value.into().0))))
        }
        .boxed()
    })
}
