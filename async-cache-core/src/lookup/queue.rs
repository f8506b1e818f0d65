//! A place in the queue for a lease that another node holds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::flight::Ticket;
use crate::local::lead::Lead;
use crate::local::request::CacheMode;
use crate::local::stripe::{Wake, WakeSlot};
use crate::lookup::progress::Seen;
use crate::lookup::step::{Learnt, Reply};
use crate::observe::Timer;
use crate::sync::Notify;

/// After this number of loads on other nodes without a value, a node stops waiting if the lease is held
/// again. Otherwise the fleet's callers would wait for one another in turn, if a key is invalidated faster
/// than it loads or if its loads fail on all nodes.
const PATIENCE: u32 = 2;

/// The pauses after which a waiter asks again by itself, because a wake-up may get lost. In order: the first
/// pause if the node may miss messages of the bus, the first pause if it misses none, the longest pause. Each
/// pause is twice the one before.
const POLL_BLIND: Duration = Duration::from_millis(10);
const POLL_LISTENING: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_millis(250);

/// A place among the waiters of this node for a load of the key.
pub(crate) struct Queue<'a, V: 'static> {
    inner: &'a Inner<V>,
    key: Key,
    slot: Arc<WakeSlot>,
    mode: CacheMode,
    min_seq: u64,
    wakes: Wakes,
    poll: Option<Duration>,
    /// Runs from the first pause.
    waiting: Option<Timer>,
    /// The number of loads on other nodes that have ended without a value.
    empty_loads: u32,
}

/// Whether the value of a wake-up may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wakes {
    /// The value is newer than the waiter's last question.
    Timely,
    /// The wake-up may have been delayed for long. The waiter must ask again.
    MayBeOld,
}

impl<'a, V: 'static> Queue<'a, V> {
    /// Registers the waiter before its first question is sent, because the wake-up may arrive before the
    /// answer. A waiter for many keys gives the same `notify` for each.
    pub(crate) fn join(inner: &'a Inner<V>, lead: &Lead<V>, notify: &Arc<Notify>) -> Self {
        let slot = inner.local.stripes.listen(lead.key(), notify);
        let (key, flight) = (lead.key().clone(), lead.flight());
        let (mode, min_seq) = (flight.mode, flight.min_seq);
        Self {
            inner,
            key,
            slot,
            mode,
            min_seq,
            wakes: Wakes::MayBeOld,
            poll: None,
            waiting: None,
            empty_loads: 0,
        }
    }

    /// The ticket for the answer to the next question, and for a later wake-up. An unread wake-up is dropped
    /// together with the old ticket:
    ///
    /// 1. version 1 is filled, and the wake-up with it arrives; 2. an invalidation arrives;
    /// 3. a ticket is taken; 4. the wake-up is read, and version 1 is stored under a ticket newer than step
    ///    2.
    ///
    /// A wake-up may also be delayed, and arrive after a question for which it was not sent:
    ///
    /// 1. version 1 is filled, and the wake-up with it is delayed; 2. the key is invalidated;
    /// 3. another node leads; 4. a get starts on this node, and waits for that node; 5. the wake-up arrives.
    ///
    /// So the value of a wake-up answers only under three conditions. This node served when it last asked L2.
    /// So it knew every change, except those of the last `max_staleness`. It had applied every change up to
    /// the caller's stamp. The value is not older than a change of the key or of a tag made on this node (see
    /// `lease::ask`). The first two are checked before the slot is emptied. In the other order step 5 and the
    /// message of step 2 could arrive in between.
    pub(crate) fn ticket(&mut self) -> Ticket {
        let (_, partition) = self.inner.local.partition_of(self.key.as_bytes());
        let serving = partition.serving_at(self.inner.local.now());
        self.wakes = match serving && partition.applied() >= self.min_seq {
            true => Wakes::Timely,
            false => Wakes::MayBeOld,
        };
        self.inner.local.stripes.ticket_for(&self.key, partition, &self.slot)
    }

    /// Whether a load on another node has ended without a value.
    pub(crate) fn saw_empty_load(&self) -> bool {
        self.empty_loads > 0
    }

    /// Whether further waiting is useless.
    fn is_out_of_patience(&self, give_up: Instant) -> bool {
        self.empty_loads >= PATIENCE || Instant::now() >= give_up
    }

    /// The reply. If it asks for a wait that is no longer useful, it becomes `OutOfPatience`.
    pub(crate) fn within_patience(
        &self,
        seen: Seen<V>,
        give_up: Instant,
        makes_do: impl FnOnce() -> bool,
    ) -> Seen<V> {
        match seen.learnt {
            Learnt::Lease(Reply::Busy(_)) if self.is_out_of_patience(give_up) => {
                Seen::bare(Learnt::Lease(Reply::OutOfPatience { makes_do: makes_do() }))
            }
            _ => seen,
        }
    }

    /// The longest time to wait before the waiter asks again by itself.
    pub(crate) fn pause(&mut self, lapses_in: Duration, give_up: Instant) -> Duration {
        let (_, partition) = self.inner.local.partition_of(self.key.as_bytes());
        let poll = match self.poll {
            Some(last) => (last * 2).min(POLL_MAX),
            None => {
                self.inner.observer.counters.lease_waits.add(1);
                self.waiting = Some(Timer::start());
                if let Some(l2) = &self.inner.remote {
                    l2.miss_rate.missed(self.mode);
                }
                if partition.serving_at(self.inner.local.now()) { POLL_LISTENING } else { POLL_BLIND }
            }
        };
        self.poll = Some(poll);
        // The pauses are spread, so that waiting nodes do not ask all at once.
        let jittered = poll.mul_f64(0.75 + 0.5 * fastrand::f64());
        jittered.min(lapses_in + Duration::from_millis(1)).min(give_up - Instant::now())
    }

    /// Waits for a wake-up, for the lease to expire, or for the next poll. Returns the value of the wake-up
    /// if it has one.
    pub(crate) async fn wait(&mut self, lapses_in: Duration, give_up: Instant) -> Option<Bytes> {
        let pause = self.pause(lapses_in, give_up);
        let wake = tokio::select! {
            biased;
            wake = self.slot.woken() => Some(wake),
            () = sleep(pause) => None,
        };
        wake.and_then(|wake| self.value(wake))
    }

    /// The wake-up that has arrived, if there is one, and its value, if it has one.
    pub(crate) fn woken(&mut self) -> Option<Option<Bytes>> {
        let wake = self.slot.take()?;
        Some(self.value(wake))
    }

    fn value(&mut self, wake: Wake) -> Option<Bytes> {
        match wake {
            Wake::Value(stored) => (self.wakes == Wakes::Timely).then_some(stored),
            // The next question brings the value, or the lease if this node has to load again.
            Wake::Stored => None,
            Wake::Ended => {
                self.empty_loads += 1;
                None
            }
            Wake::Lost => {
                // The waiter polls as if it had begun to wait without a bus.
                self.poll = Some(POLL_BLIND / 2);
                None
            }
        }
    }
}

impl<V: 'static> Drop for Queue<'_, V> {
    fn drop(&mut self) {
        self.inner.local.stripes.unlisten(&self.key, &self.slot);
        if let Some(timer) = self.waiting {
            self.inner.observer.waited_for_lease(timer);
        }
    }
}
