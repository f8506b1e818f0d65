//! A lease that is released however its load ends.

use std::sync::Arc;

use crate::backend::Lease;
use crate::format::key::Key;
use crate::inner::Inner;

/// A lease that is released however the load ends: with an error, a panic, a timeout, or a fill of unknown
/// outcome. So other nodes need not wait until it expires.
pub(crate) struct Held<'a, V: Send + Sync + 'static> {
    pub(crate) inner: &'a Arc<Inner<V>>,
    pub(crate) key: Key,
    pub(crate) lease: Option<Lease>,
}

impl<V: Send + Sync + 'static> Held<'_, V> {
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// Notes that a fill has ended the lease.
    pub(crate) fn ended(&mut self) {
        self.lease = None;
    }
}

impl<V: Send + Sync + 'static> Drop for Held<'_, V> {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take() {
            give_back(self.inner, &self.key, lease);
        }
    }
}

/// Releases a lease that will not be filled, so that other nodes need not wait until it expires.
fn give_back<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, key: &Key, lease: Lease) {
    let (at_work, key) = (Arc::clone(inner), key.clone());
    inner.lifecycle.tasks.spawn(async move {
        if let Some(l2) = &at_work.remote
            && let Err(error) = l2.region.release_one(&key, lease).await
        {
            drop(at_work.local.liveness.l2_failed(error));
        }
    });
}
