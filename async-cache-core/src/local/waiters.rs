//! Wake-ups: they tell a waiter that a load on another node has ended.

use std::sync::Arc;

use bytes::Bytes;

use crate::faults::planted;
use crate::sync::{Mutex, Notify};

/// The place where one waiter receives its wake-up.
#[derive(Debug)]
pub(crate) struct WakeSlot {
    wake: Mutex<Option<Wake>>,
    notify: Arc<Notify>,
}

/// What a wake-up says about the load of another node.
#[derive(Debug, Clone)]
pub(crate) enum Wake {
    /// The value was stored. These are the stored bytes.
    Value(Bytes),
    /// The value was stored, but is too large for the wake-up.
    Stored,
    /// The load has ended, and nothing was stored.
    Ended,
    /// The load may have ended. The bus was lost, and the wake-up may be lost with it.
    Lost,
}

impl WakeSlot {
    /// A new slot. One waiter may have many slots with the same `notify`.
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

    /// Tells the waiter of a loss. A wake-up that it has not read yet is kept, because it says more.
    pub(crate) fn tell_of_loss(&self) {
        self.wake.lock().get_or_insert(Wake::Lost);
        self.notify.notify_one();
    }

    /// Drops a wake-up that was not read.
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

    /// The wake-up that has arrived, if there is one.
    pub(crate) fn take(&self) -> Option<Wake> {
        self.wake.lock().take()
    }
}
