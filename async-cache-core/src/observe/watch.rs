//! Changes of state worth an event: told once, when they begin and when they end.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::event::{Event, Resumed, SuspendCause};
use crate::shared::Shared;

/// What was told last.
#[derive(Debug)]
pub(crate) struct Watch {
    l1_suspended: AtomicBool,
    /// Since L1 was suspended, what it holds was put in doubt.
    in_doubt: AtomicBool,
    l2_lost: AtomicBool,
    pending: AtomicUsize,
}

impl Watch {
    /// Until a node has heard of its fleet, its L1 does not answer.
    pub(crate) fn new() -> Self {
        Self {
            l1_suspended: AtomicBool::new(true),
            in_doubt: AtomicBool::new(false),
            l2_lost: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
        }
    }

    pub(crate) fn put_in_doubt(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }
}

impl<V: 'static> Shared<V> {
    /// L1 has stopped answering.
    pub(crate) fn suspended(&self, cause: SuspendCause) {
        if self.l1.is_some() && !self.watch.l1_suspended.swap(true, Ordering::Relaxed) {
            self.events.tell(|| Event::L1Suspended { cause });
        }
    }

    /// Looks for what happens without anybody being told: once a heartbeat, and after each failure.
    pub(crate) fn look_around(&self) {
        if !self.node.is_serving() {
            self.suspended(SuspendCause::Silence);
        } else if self.l1.is_some() && self.watch.l1_suspended.swap(false, Ordering::Relaxed) {
            let in_doubt = self.watch.in_doubt.swap(false, Ordering::Relaxed);
            let held = if in_doubt { Resumed::InDoubt } else { Resumed::Kept };
            self.events.tell(|| Event::L1Resumed { held });
        }
        let lost = self.l2.as_ref().is_some_and(|l2| !l2.region.available());
        if self.watch.l2_lost.swap(lost, Ordering::Relaxed) != lost {
            self.events.tell(|| if lost { Event::L2Lost } else { Event::L2Regained });
        }
        let pending = self.pending.len();
        match pending.cmp(&self.watch.pending.swap(pending, Ordering::Relaxed)) {
            Greater => self.events.tell(|| Event::InvalidationPending { pending }),
            Less => self.events.tell(|| Event::InvalidationLanded { pending }),
            Equal => {}
        }
    }
}
