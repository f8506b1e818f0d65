//! Changes of state worth an event: told once, when they begin and when they end.

use std::cmp::Ordering::{Equal, Greater, Less};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::inner::Shared;
use crate::observe::{Event, Resumed, SuspendCause, trace};

/// What a node asks of L2 in order to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To be told of changes.
    Subscription,
    /// What has changed so far.
    Baseline,
    /// To send what proves that nothing was missed.
    Heartbeat,
}

/// What was told last.
#[derive(Debug)]
pub(crate) struct Watch {
    l1_suspended: AtomicBool,
    /// Since L1 was suspended, what it holds was put in doubt.
    in_doubt: AtomicBool,
    l2_lost: AtomicBool,
    pending: AtomicUsize,
    /// Why the shared tier will not have this node, if it said so when it was last asked: by [`Asked`].
    refusals: Mutex<[Option<Error>; 3]>,
    /// The node serves, or has been refused: for those who wait until it is ready.
    news: Notify,
    /// L2 permits what it had refused: for what pauses because of a refusal.
    mended: Notify,
}

impl Watch {
    /// Until a node has heard of its fleet, its L1 does not answer.
    pub(crate) fn new() -> Self {
        Self {
            l1_suspended: AtomicBool::new(true),
            in_doubt: AtomicBool::new(false),
            l2_lost: AtomicBool::new(false),
            pending: AtomicUsize::new(0),
            refusals: Mutex::default(),
            news: Notify::new(),
            mended: Notify::new(),
        }
    }

    /// Why the shared tier will not have this node.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.refusals.lock().iter().flatten().next().cloned()
    }

    /// Pauses before what L2 refused is tried again, or until L2 permits something that it had refused.
    pub(crate) async fn pause(&self, longest: Duration) {
        let _ = timeout(longest, self.mended.notified()).await;
    }

    pub(crate) fn put_in_doubt(&self) {
        self.in_doubt.store(true, Ordering::Relaxed);
    }
}

impl<V: 'static> Shared<V> {
    /// L2 was asked for something that this node needs in order to serve, and this is how that ended. An
    /// outage says nothing about what L2 permits.
    pub(crate) fn asked<T>(&self, what: Asked, outcome: &Result<T>) {
        let refusal = match outcome {
            Err(error) if error.is_temporary() => return,
            Err(error) => Some(error.clone()),
            Ok(_) => None,
        };
        let mut refusals = self.watch.refusals.lock();
        let before = refusals.iter().any(Option::is_some);
        let mended = refusal.is_none() && refusals[what as usize].is_some();
        refusals[what as usize] = refusal;
        let now = refusals.iter().any(Option::is_some);
        drop(refusals);
        if mended {
            self.watch.mended.notify_waiters();
        }
        if now {
            self.watch.news.notify_waiters();
            if !before {
                self.events.tell(|| Event::L2Refused);
                if let Err(error) = outcome {
                    trace::refused(&self.namespace, error);
                }
            }
        }
    }

    /// L1 has stopped answering.
    pub(crate) fn suspended(&self, cause: SuspendCause) {
        if self.l1.is_some() && !self.watch.l1_suspended.swap(true, Ordering::Relaxed) {
            self.events.tell(|| Event::L1Suspended { cause });
        }
    }

    /// L1 answers.
    fn resumed(&self) {
        if self.l1.is_some() && self.watch.l1_suspended.swap(false, Ordering::Relaxed) {
            let in_doubt = self.watch.in_doubt.swap(false, Ordering::Relaxed);
            let held = if in_doubt { Resumed::InDoubt } else { Resumed::Kept };
            self.events.tell(|| Event::L1Resumed { held });
        }
        self.watch.news.notify_waiters();
    }

    /// Waits until the node serves.
    pub(crate) async fn ready(&self) -> Result<()> {
        loop {
            // Registered before the look, so that news between the look and the wait are not missed.
            let mut news = pin!(self.watch.news.notified());
            news.as_mut().enable();
            // The work that is to bring it about may end with another runtime: it is begun again here.
            let mut ended = pin!(self.background.news.notified());
            ended.as_mut().enable();
            self.check_open()?;
            if self.node.is_serving() {
                return Ok(());
            }
            if let Some(refusal) = self.watch.refusal() {
                return Err(refusal);
            }
            self.closing.run_until_cancelled(future::select(news, ended)).await;
        }
    }

    /// Looks for what happens without anybody being told: once a heartbeat, and after each failure, with its error.
    pub(crate) fn look_around(&self, failure: Option<&Error>) {
        if self.node.is_serving() {
            self.resumed();
        } else {
            self.suspended(SuspendCause::Silence);
        }
        let lost = self.l2.as_ref().is_some_and(|l2| !l2.region.available());
        if self.watch.l2_lost.swap(lost, Ordering::Relaxed) != lost {
            self.events.tell(|| if lost { Event::L2Lost } else { Event::L2Regained });
            if lost {
                trace::lost(&self.namespace, failure);
            }
        }
        let pending = self.pending.len();
        match pending.cmp(&self.watch.pending.swap(pending, Ordering::Relaxed)) {
            Greater => self.events.tell(|| Event::InvalidationPending { pending }),
            Less => self.events.tell(|| Event::InvalidationLanded { pending }),
            Equal => {}
        }
    }
}
