//! A lookup of many keys without a loader.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::error::Result;
use crate::format::key::{CacheKey, Key};
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::local::request::{Answer, FirstTier};
use crate::lookup::many::get;

/// The maximum number of keys for which space is reserved in advance. The size hint of an iterator may be any
/// number.
const FORETOLD_KEYS: usize = 1024;

fn encode_all<'a, Q: CacheKey + ?Sized + 'a>(keys: impl IntoIterator<Item = &'a Q>) -> Result<Vec<Key>> {
    let keys = keys.into_iter();
    let mut encoded = Vec::with_capacity(keys.size_hint().0.min(FORETOLD_KEYS));
    for key in keys {
        encoded.push(Key::encode(key)?);
    }
    Ok(encoded)
}

/// A lookup of many keys: [`TieredCache::get_many`](crate::api::cache::TieredCache::get_many).
#[must_use = "a request does nothing until it is awaited"]
pub struct GetMany<'a, V> {
    inner: &'a Arc<Inner<V>>,
    keys: Result<Vec<Key>>,
    min_stamp: Option<&'a Stamp>,
    first_tier: FirstTier,
}

impl<'a, V> GetMany<'a, V> {
    pub(crate) fn new<'q, Q: CacheKey + ?Sized + 'q>(
        inner: &'a Arc<Inner<V>>,
        keys: impl IntoIterator<Item = &'q Q>,
    ) -> Self {
        Self { inner, keys: encode_all(keys), min_stamp: None, first_tier: FirstTier::L1 }
    }

    /// Makes the lookup return no value from before this stamp, on any node.
    ///
    /// Never take a [`Stamp`] from a client unsigned: a forged one empties the cache.
    pub fn at_least(mut self, stamp: &'a Stamp) -> Self {
        self.min_stamp = Some(stamp);
        self
    }

    /// Asks L2 although L1 may have the keys: see [`Get::skip_l1`](crate::api::request::Get::skip_l1).
    pub fn skip_l1(mut self) -> Self {
        self.first_tier = FirstTier::L2;
        self
    }
}

impl<'a, V: Send + Sync + 'static> IntoFuture for GetMany<'a, V> {
    type Output = Result<Vec<Answer<V>>>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let keys = self.keys.map_err(|error| error.in_namespace(&self.inner.observer.namespace))?;
            get::get_many(self.inner, keys, self.min_stamp, self.first_tier).await
        })
    }
}

impl<V> fmt::Debug for GetMany<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GetMany").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}
