//! The listener that a backend is given while the cache is still being put together.

use std::sync::{Arc, Weak};

use crate::backend::{BusEvent, Listener};
use crate::inner::Inner;
use crate::sync::{Mutex, OnceLock};

/// Hands events to the cache, and keeps those that come before there is one.
///
/// 1. the cache opens its namespace, and gives the backend its listener; 2. the backend's own task
///    subscribes, and tells so; 3. the cache is complete. Were the listener the cache itself, what
///    is told in 2 would reach nobody, and L1 would never come to serve.
pub(crate) struct EarlyEventBuffer<V> {
    inner: OnceLock<Weak<Inner<V>>>,
    early: Mutex<Vec<BusEvent>>,
}

impl<V: Send + Sync + 'static> EarlyEventBuffer<V> {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { inner: OnceLock::new(), early: Mutex::default() })
    }

    /// The cache is complete: delivers what has come so far, then lets events through.
    pub(crate) fn open(&self, inner: &Arc<Inner<V>>) {
        // Held to the end, so that a later event does not overtake an earlier one.
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
