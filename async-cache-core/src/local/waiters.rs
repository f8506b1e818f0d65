//! Wake-ups: where a waiter is told that the load it waits for has ended elsewhere.

use std::sync::Arc;

use bytes::Bytes;

use crate::faults::planted;
use crate::sync::{Mutex, Notify};

/// Where one waiter is told.
#[derive(Debug)]
pub(crate) struct WakeSlot {
    wake: Mutex<Option<Wake>>,
    notify: Arc<Notify>,
}

/// The end of a load elsewhere, or of the news about it.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    /// It was stored, and here is what was stored.
    Value(Bytes),
    /// It was stored, and is too large to come along.
    Stored,
    /// It was not stored.
    Ended,
    /// It may have ended: the bus was lost, and a wake-up with it.
    Lost,
}

impl WakeSlot {
    /// One waiter may have many, of one `notify`.
    pub(crate) fn new(notify: &Arc<Notify>) -> Self {
        Self { wake: Mutex::default(), notify: Arc::clone(notify) }
    }

    pub(crate) fn tell(&self, wake: Wake) {
        if planted!(RingBeforeTelling) {
            self.notify.notify_one();
            *self.wake.lock() = Some(wake);
            return;
        }
        *self.wake.lock() = Some(wake);
        self.notify.notify_one();
    }

    /// What has come already is worth more.
    pub(crate) fn tell_of_loss(&self) {
        self.wake.lock().get_or_insert(Wake::Lost);
        self.notify.notify_one();
    }

    /// Forgets what has come and was not read.
    pub(crate) fn forget(&self) {
        *self.wake.lock() = None;
    }

    /// The next wake-up. Cancel-safe.
    pub(crate) async fn woken(&self) -> Wake {
        loop {
            if let Some(wake) = self.take() {
                return wake;
            }
            self.notify.notified().await;
        }
    }

    /// A wake-up that has come.
    pub(crate) fn take(&self) -> Option<Wake> {
        self.wake.lock().take()
    }
}
