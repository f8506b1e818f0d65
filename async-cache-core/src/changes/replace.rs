//! Removes what a load has shown to be old, where nothing takes its place.

use crate::changes::send;
use crate::changes::send::is_retried;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::Reuse;

/// The same where L2 can be reached: at once, and later only if that fails. Other lookups of the key
/// go on meanwhile: what is replaced is no older than what a reload began from.
pub(crate) async fn remove_replaced<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, reuse: Reuse) {
    if reuse == Reuse::Nothing
        && send::send_invalidate(inner, std::slice::from_ref(key))
            .await
            .is_err_and(|error| is_retried(&error))
    {
        replaces(inner, key, reuse);
    }
}

/// Removes what is known to be old, everywhere and at once: until that has landed, this node may not read the
/// keys from L2. Later only if that fails.
pub(crate) async fn forget<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) {
    keys.iter().for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
    if send::send_invalidate(inner, keys).await.is_err() {
        inner.local.liveness.unsent.add(keys);
    }
}

/// A reload that cannot store what it loads must at least remove what it was to replace.
pub(crate) fn replaces<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, reuse: Reuse) {
    if reuse == Reuse::Nothing && inner.remote.is_some() {
        inner.local.liveness.unsent.add(std::slice::from_ref(key));
    }
}
