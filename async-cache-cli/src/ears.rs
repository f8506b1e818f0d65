//! Receives the events of a namespace's bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_cache::backend::{BusEvent, Listener};
use tokio::sync::mpsc;

/// The maximum number of events that wait to be taken.
const ROOM: usize = 65_536;

/// Keeps the events until they are taken, up to a limit.
pub(crate) struct Ears {
    events: mpsc::Sender<BusEvent>,
    dropped: AtomicU64,
}

impl Ears {
    /// The listener, and the events.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<BusEvent>) {
        let (events, receiver) = mpsc::channel(ROOM);
        (Arc::new(Self { events, dropped: AtomicU64::new(0) }), receiver)
    }

    /// The number of events that were dropped for want of room since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Listener for Ears {
    fn notify(&self, event: BusEvent) {
        if self.events.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
