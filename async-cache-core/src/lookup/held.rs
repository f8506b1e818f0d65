//! A lease that is given back however its load ends.

use std::sync::Arc;

use crate::backend::Lease;
use crate::format::key::Key;
use crate::inner::Inner;

/// A lease, given back however the load ends: with an error, a panic, a deadline, a fill of which
/// nothing was heard. Others need not wait for it to lapse.
pub(crate) struct Held<'a, V: Send + Sync + 'static> {
    pub(crate) inner: &'a Arc<Inner<V>>,
    pub(crate) key: Key,
    pub(crate) lease: Option<Lease>,
}

impl<V: Send + Sync + 'static> Held<'_, V> {
    pub(crate) fn lease(&self) -> Option<Lease> {
        self.lease
    }

    /// A fill has ended it.
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

/// Ends a lease that will not be filled, so that others need not wait for it to lapse.
fn give_back<V: Send + Sync + 'static>(inner: &Arc<Inner<V>>, key: &Key, lease: Lease) {
    let (at_work, key) = (Arc::clone(inner), key.clone());
    inner.lifecycle.tasks.spawn(async move {
        if let Some(l2) = &at_work.remote
            && let Err(error) = l2.region.release(&key, lease).await
        {
            drop(at_work.local.liveness.l2_failed(error));
        }
    });
}
