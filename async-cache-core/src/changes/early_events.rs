//! The listener that a backend gets while the cache is still being built.

use std::sync::{Arc, Weak};

use crate::backend::{BusEvent, Listener};
use crate::inner::Inner;
use crate::sync::{Mutex, OnceLock};

/// Passes events to the cache. Until the cache exists, it keeps them.
///
/// 1. The cache opens its namespace, and gives the backend its listener; 2. the backend's own task
///    subscribes, and reports that; 3. the cache is complete. If the cache itself were the listener, the
///    report of step 2 would be lost, and L1 would never answer.
pub(crate) struct EarlyEventBuffer<V> {
    inner: OnceLock<Weak<Inner<V>>>,
    early: Mutex<Vec<BusEvent>>,
}

impl<V: Send + Sync + 'static> EarlyEventBuffer<V> {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { inner: OnceLock::new(), early: Mutex::default() })
    }

    /// The cache is complete. Delivers the events kept so far, in order. Later events pass through.
    pub(crate) fn open(&self, inner: &Arc<Inner<V>>) {
        // The lock is held to the end, so that a later event does not overtake an earlier one.
        let mut early = self.early.lock();
        early.drain(..).for_each(|event| inner.notify(event));
        let _ = self.inner.set(Arc::downgrade(inner));
    }
}

impl<V: Send + Sync + 'static> Listener for EarlyEventBuffer<V> {
    fn notify(&self, event: BusEvent) {
        if self.inner.get().is_none() {
            let mut early = self.early.lock();
            if self.inner.get().is_none() {
                return early.push(event);
            }
        }
        if let Some(inner) = self.inner.get().and_then(Weak::upgrade) {
            inner.notify(event);
        }
    }
}
