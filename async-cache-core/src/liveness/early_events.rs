//! The listener a backend is given while the cache is still being put together.

use std::sync::{Arc, Weak};

use crate::backend::{BusEvent, Listener};
use crate::inner::Shared;
use crate::sync::{Mutex, OnceLock};

/// Hands events to the cache, and keeps those that come before there is one.
///
/// 1. the cache opens its namespace, and gives the backend its listener; 2. the backend's own task
///    subscribes, and tells so; 3. the cache is complete. Were the listener the cache itself, what
///    is told in 2 would reach nobody, and L1 would never come to serve.
pub(crate) struct Door<V> {
    shared: OnceLock<Weak<Shared<V>>>,
    early: Mutex<Vec<BusEvent>>,
}

impl<V: Send + Sync + 'static> Door<V> {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { shared: OnceLock::new(), early: Mutex::default() })
    }

    /// The cache is complete: delivers what has come so far, then lets events through.
    pub(crate) fn open(&self, shared: &Arc<Shared<V>>) {
        // Held to the end, so that a later event does not overtake an earlier one.
        let mut early = self.early.lock();
        early.drain(..).for_each(|event| shared.notify(event));
        let _ = self.shared.set(Arc::downgrade(shared));
    }
}

impl<V: Send + Sync + 'static> Listener for Door<V> {
    fn notify(&self, event: BusEvent) {
        if self.shared.get().is_none() {
            let mut early = self.early.lock();
            if self.shared.get().is_none() {
                return early.push(event);
            }
        }
        if let Some(shared) = self.shared.get().and_then(Weak::upgrade) {
            shared.notify(event);
        }
    }
}
