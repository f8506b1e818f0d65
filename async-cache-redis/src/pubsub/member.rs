//! A region, as the bus sees it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

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
    awaited: HashSet<Bytes>,
    /// When they were asked for.
    since: Instant,
    /// The listener has been told `Subscribed`, and not yet `Lost`.
    live: bool,
}

impl Member {
    pub(super) fn new(id: u64, channels: Vec<Channels>, listener: Weak<dyn Listener>) -> Self {
        Self {
            id,
            channels,
            listener,
            hearing: Mutex::new(Hearing {
                connection: 0,
                awaited: HashSet::new(),
                since: Instant::now(),
                live: false,
            }),
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

    /// Starts waiting for the acknowledgements of a connection. Called right before SUBSCRIBE is sent.
    pub(super) fn subscribing(&self, connection: u64) {
        let awaited = self.names().cloned().collect();
        let mut hearing = self.hearing.lock();
        if std::mem::replace(
            &mut *hearing,
            Hearing { connection, awaited, since: Instant::now(), live: false },
        )
        .live
        {
            self.notify(BusEvent::Lost);
        }
    }

    /// Notes that the server has subscribed this connection to a channel.
    pub(super) fn acknowledged(&self, connection: u64, channel: &[u8]) {
        let mut hearing = self.hearing.lock();
        if hearing.connection == connection && hearing.awaited.remove(channel) && hearing.awaited.is_empty() {
            hearing.live = true;
            self.notify(BusEvent::Subscribed);
        }
    }

    /// Whether acknowledgements have been missing for this long.
    pub(super) fn is_overdue(&self, limit: Duration) -> bool {
        let hearing = self.hearing.lock();
        !hearing.awaited.is_empty() && hearing.since.elapsed() >= limit
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

    /// Notes that the server has ended subscriptions of this connection. False if it is not the current one.
    pub(super) fn dropped(&self, connection: u64) -> bool {
        let is_current = self.hearing.lock().connection == connection;
        if is_current {
            self.lost();
        }
        is_current
    }

    pub(crate) fn lost(&self) {
        let mut hearing = self.hearing.lock();
        if std::mem::take(&mut hearing.live) {
            self.notify(BusEvent::Lost);
        }
        hearing.awaited.clear();
    }

    /// One listener's panic must not end the task that serves them all.
    fn notify(&self, event: BusEvent) {
        if let Some(listener) = self.listener.upgrade() {
            let _ = catch_unwind(AssertUnwindSafe(|| listener.notify(event)));
        }
    }
}
