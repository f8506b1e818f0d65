//! The hooks that quick_cache calls when an entry makes room for another.

use std::sync::Arc;

use async_cache_core::key::Key;
use quick_cache::Lifecycle;

use crate::eviction::{EvictionCause, Outlet, is_same};

/// Tells the listener, if there is one.
pub(super) struct Leaving<V>(pub(super) Option<Arc<Outlet<V>>>);

impl<V> Clone for Leaving<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The state of one insert.
pub(super) struct Request<K, V> {
    /// The entry that is inserted, if there is a listener.
    pub(super) incoming: Option<(Key, Option<Arc<V>>)>,
    /// The entries to drop when the lock is free. There are rarely more than two.
    stash: [Option<(K, Option<Arc<V>>)>; 2],
}

impl<K, V> Default for Request<K, V> {
    #[inline]
    fn default() -> Self {
        Self { incoming: None, stash: [None, None] }
    }
}

impl<V, K: AsRef<Key>> Lifecycle<K, Option<Arc<V>>> for Leaving<V> {
    type RequestState = Request<K, V>;

    #[inline]
    fn on_evict(&self, request: &mut Request<K, V>, slot: K, value: Option<Arc<V>>) {
        if let Some(outlet) = &self.0 {
            match &request.incoming {
                Some((key, incoming)) if key == slot.as_ref() => {
                    if !is_same(incoming.as_ref(), value.as_ref()) {
                        outlet.tell(slot.as_ref(), value.clone(), EvictionCause::Replaced);
                    }
                }
                _ => outlet.tell(slot.as_ref(), value.clone(), EvictionCause::Size),
            }
        }
        if let Some(free) = request.stash.iter_mut().find(|free| free.is_none()) {
            *free = Some((slot, value));
        }
    }
}
