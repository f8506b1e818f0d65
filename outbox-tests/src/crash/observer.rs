//! A node that notes every invalidation.

use std::sync::{Arc, Weak};

use async_cache::Result;
use async_cache::backend::{Backend, BusEvent, Listener, Region, RegionSpec};
use parking_lot::Mutex;

use crate::crash::marked;

/// What was heard on the bus.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Transactions whose marks were invalidated, in order.
    pub(super) transactions: Vec<i64>,
    /// Times that the subscription was lost.
    pub(super) lost: usize,
    /// The backend itself holds its listener weakly.
    listeners: Vec<Arc<Tee>>,
}

/// A backend that notes the events of the one behind it.
#[derive(Debug)]
pub(super) struct Observed<B> {
    backend: B,
    heard: Arc<Mutex<Heard>>,
}

impl<B: Backend> Observed<B> {
    pub(super) fn new(backend: B) -> (Self, Arc<Mutex<Heard>>) {
        let heard = Arc::new(Mutex::new(Heard::default()));
        (Self { backend, heard: Arc::clone(&heard) }, heard)
    }
}

impl<B: Backend> Backend for Observed<B> {
    fn open(&self, spec: RegionSpec, listener: Weak<dyn Listener>) -> Result<Arc<dyn Region>> {
        let tee = Arc::new(Tee { heard: Arc::clone(&self.heard), listener });
        let weak: Weak<Tee> = Arc::downgrade(&tee);
        self.heard.lock().listeners.push(tee);
        self.backend.open(spec, weak)
    }
}

/// Notes events, and passes them on.
struct Tee {
    heard: Arc<Mutex<Heard>>,
    listener: Weak<dyn Listener>,
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee").finish_non_exhaustive()
    }
}

impl Listener for Tee {
    fn notify(&self, event: BusEvent) {
        {
            let mut heard = self.heard.lock();
            match &event {
                BusEvent::Invalidated { key, .. } => heard.transactions.extend(marked(key)),
                BusEvent::TagsInvalidated { tags, .. } => {
                    heard.transactions.extend(tags.iter().filter_map(marked));
                }
                BusEvent::Lost => heard.lost += 1,
                _ => {}
            }
        }
        if let Some(listener) = self.listener.upgrade() {
            listener.notify(event);
        }
    }
}
