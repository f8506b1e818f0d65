//! A region, as the bus sees it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use async_cache_core::backend::{BusEvent, Listener};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::keys::Channels;

/// A region that listens.
pub(crate) struct Member {
    pub(super) id: u64,
    /// The channels of each partition.
    pub(super) channels: Vec<Channels>,
    listener: Weak<dyn Listener>,
    hearing: Mutex<Hearing>,
}

/// How far a member's subscription has come. The lock is held while its listener is told, so
/// that nothing of an old connection is delivered after `Lost`.
struct Hearing {
    /// The connection subscribed on.
    connection: u64,
    /// Channels not acknowledged yet.
    awaited: usize,
    /// The listener has been told `Subscribed`, and not yet `Lost`.
    live: bool,
}

impl Member {
    pub(super) fn new(id: u64, channels: Vec<Channels>, listener: Weak<dyn Listener>) -> Self {
        Self {
            id,
            channels,
            listener,
            hearing: Mutex::new(Hearing { connection: 0, awaited: 0, live: false }),
        }
    }

    /// All its channels.
    pub(super) fn names(&self) -> impl Iterator<Item = &Bytes> {
        self.channels.iter().flat_map(|channels| [&channels.bus, &channels.node])
    }

    /// Whether every message is being delivered.
    pub(crate) fn live(&self) -> bool {
        self.hearing.lock().live
    }

    /// Starts counting the acknowledgements of a connection. Called right before SUBSCRIBE is
    /// sent, and never while another is under way: all later acknowledgements answer this SUBSCRIBE.
    pub(super) fn subscribing(&self, connection: u64) {
        *self.hearing.lock() = Hearing { connection, awaited: 2 * self.channels.len(), live: false };
    }

    pub(super) fn acknowledged(&self, connection: u64) {
        let mut hearing = self.hearing.lock();
        if hearing.connection != connection || hearing.awaited == 0 {
            return;
        }
        hearing.awaited -= 1;
        if hearing.awaited == 0 {
            hearing.live = true;
            self.notify(BusEvent::Subscribed);
        }
    }

    pub(super) fn tell(&self, connection: u64, event: BusEvent) {
        let hearing = self.hearing.lock();
        if hearing.live && hearing.connection == connection {
            self.notify(event);
        }
    }

    /// Tells the listener that the server refuses its subscription.
    pub(super) fn refused(&self, why: &Arc<str>) {
        self.notify(BusEvent::Refused { why: Arc::clone(why) });
    }

    pub(super) fn lost(&self) {
        let mut hearing = self.hearing.lock();
        if std::mem::take(&mut hearing.live) {
            self.notify(BusEvent::Lost);
        }
        hearing.awaited = 0;
    }

    /// One listener's panic must not end the task that serves them all.
    fn notify(&self, event: BusEvent) {
        if let Some(listener) = self.listener.upgrade() {
            let _ = catch_unwind(AssertUnwindSafe(|| listener.notify(event)));
        }
    }
}
