//! Removes the values that a load has shown to be old, if the loaded value does not replace them.

use crate::changes::send;
use crate::changes::send::is_retried;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::request::CacheMode;

/// Invalidates the key in L2 after a reload whose value is not stored. If that fails, the key becomes a
/// pending invalidation. Other lookups of the key continue meanwhile. The value they find is not older than
/// the value that the reload was to replace.
pub(crate) async fn remove_replaced<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, mode: CacheMode) {
    if mode == CacheMode::Reload
        && send::send_invalidate(inner, std::slice::from_ref(key))
            .await
            .is_err_and(|error| is_retried(&error))
    {
        replaces(inner, key, mode);
    }
}

/// Removes keys whose values are known to be old, on all nodes. L1 drops them at once, and then the
/// invalidation is sent to L2. If that fails, they become pending invalidations, and this node does not read
/// them from L2 until the retry succeeds.
pub(crate) async fn forget<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) {
    keys.iter().for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
    if send::send_invalidate(inner, keys).await.is_err() {
        inner.local.liveness.unsent.add(keys);
    }
}

/// Makes the key a pending invalidation after a reload whose value L2 did not store. So at least the old
/// value is removed.
pub(crate) fn replaces<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, mode: CacheMode) {
    if mode == CacheMode::Reload && inner.remote.is_some() {
        inner.local.liveness.unsent.add(std::slice::from_ref(key));
    }
}
