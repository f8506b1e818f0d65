//! A change that stores values.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use crate::changes::invalidate;
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::stamp::Stamp;
use crate::options::{StoreOptions, store_setters};

/// A change that stores values: [`TieredCache::insert`](crate::api::cache::TieredCache::insert) and
/// [`TieredCache::insert_many`](crate::api::cache::TieredCache::insert_many).
#[must_use = "a request does nothing until it is awaited"]
pub struct Insert<'a, V> {
    inner: &'a Arc<Inner<V>>,
    values: Result<Vec<(Key, Arc<V>)>>,
    options: StoreOptions,
}

impl<'a, V> Insert<'a, V> {
    pub(crate) fn new(inner: &'a Arc<Inner<V>>, values: Result<Vec<(Key, Arc<V>)>>) -> Self {
        Self { inner, values, options: inner.policy.defaults.store.clone() }
    }

    store_setters!(|this| this.options);
}

impl<'a, V: Send + Sync + 'static> IntoFuture for Insert<'a, V> {
    type Output = Result<Stamp>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let values = self.values.map_err(|error| error.in_namespace(&self.inner.observer.namespace))?;
            invalidate::insert(self.inner, values, self.options).await
        })
    }
}

impl<V> fmt::Debug for Insert<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Insert").field("namespace", &self.inner.observer.namespace).finish_non_exhaustive()
    }
}
