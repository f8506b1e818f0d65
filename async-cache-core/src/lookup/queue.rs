//! A place among the lookups that wait for a load elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::Reuse;
use crate::local::lead::Lead;
use crate::local::ticket::Ticket;
use crate::local::waiters::{Wake, WakeSlot};
use crate::lookup::progress::Seen;
use crate::lookup::step::{Learnt, Reply};
use crate::sync::Notify;

/// Loads elsewhere that came to nothing after which a node stops queueing for a lease that is taken again.
/// A key that is invalidated faster than it loads, or whose loads fail everywhere, must not make
/// the fleet's callers wait for one another in turn.
const PATIENCE: u32 = 2;

/// How often a waiter asks again by itself, in case a wake-up was lost: at first, while the bus is
/// not known to be complete; at first, while it is; and at last. Each pause is twice the one before.
const POLL_BLIND: Duration = Duration::from_millis(10);
const POLL_LISTENING: Duration = Duration::from_millis(100);
const POLL_MAX: Duration = Duration::from_millis(250);

/// A place among those who wait for a load of the key.
pub(crate) struct Queue<'a, V: 'static> {
    inner: &'a Inner<V>,
    key: Key,
    slot: Arc<WakeSlot>,
    reuse: Reuse,
    min_seq: u64,
    wakes: Wakes,
    poll: Option<Duration>,
    disappointments: u32,
}

/// What a wake-up's value is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wakes {
    /// It is from after the last question.
    Timely,
    /// It may have been on the way for long: ask again.
    MayBeOld,
}

impl<'a, V: 'static> Queue<'a, V> {
    /// Registers before the first question is sent: the wake-up may come before its answer. Who
    /// waits for many keys gives the same `notify` for each.
    pub(crate) fn join(inner: &'a Inner<V>, lead: &Lead<V>, notify: &Arc<Notify>) -> Self {
        let slot = inner.local.stripes.listen(&lead.key, notify);
        let (key, flight) = (lead.key.clone(), lead.flight());
        let (reuse, min_seq) = (flight.reuse, flight.min_seq);
        Self { inner, key, slot, reuse, min_seq, wakes: Wakes::MayBeOld, poll: None, disappointments: 0 }
    }

    /// The ticket for what the next question or a wake-up after it brings. A wake-up still unread
    /// is thrown away with the old ticket:
    ///
    /// 1. version 1 is filled, and the wake-up with it arrives; 2. an invalidation arrives;
    /// 3. a ticket is taken; 4. the wake-up is read, and version 1 stored under a ticket of after 2.
    ///
    /// It may also be late, and answer a question it was not sent for:
    ///
    /// 1. version 1 is filled, the wake-up with it is slow to arrive; 2. the key is invalidated;
    /// 3. another node leads; 4. a get that starts here now is to wait for that node; 5. the
    ///    wake-up arrives.
    ///
    /// So its value counts only if this node serves, and thus has heard what came before 2 unless
    /// 2 is recent; if it has heard of all that the caller insists on; and if it is no older than
    /// a change that was made here, of the key or of a tag (see [`acquire`]). Looked up first, emptied then: with the
    /// slot emptied first, 5 and the news of 2 could come between.
    pub(crate) fn ticket(&mut self) -> Ticket {
        let (_, partition) = self.inner.local.liveness.node.partition_of(self.key.as_bytes());
        let serving = partition.serving_at(self.inner.local.liveness.node.clock.now());
        self.wakes = match serving && partition.applied() >= self.min_seq {
            true => Wakes::Timely,
            false => Wakes::MayBeOld,
        };
        self.inner.local.stripes.ticket_for(&self.key, partition, &self.slot)
    }

    /// Whether a load elsewhere has ended without a value.
    pub(crate) fn is_disappointed(&self) -> bool {
        self.disappointments > 0
    }

    /// Whether there is no point in waiting any longer.
    fn is_out_of_patience(&self, give_up: Instant) -> bool {
        self.disappointments >= PATIENCE || Instant::now() >= give_up
    }

    /// A reply, unless it asks for a wait that is not worth it any more.
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

    /// How long to wait, at most, before asking again by itself.
    pub(crate) fn pause(&mut self, lapses_in: Duration, give_up: Instant) -> Duration {
        let (_, partition) = self.inner.local.liveness.node.partition_of(self.key.as_bytes());
        let poll = match self.poll {
            Some(last) => (last * 2).min(POLL_MAX),
            None => {
                self.inner.observer.counters.lease_waits.add(1);
                if let Some(l2) = &self.inner.remote {
                    l2.miss_rate.missed(self.reuse);
                }
                if partition.serving_at(self.inner.local.liveness.node.clock.now()) {
                    POLL_LISTENING
                } else {
                    POLL_BLIND
                }
            }
        };
        self.poll = Some(poll);
        // Spread, so that waiting nodes do not ask all at once.
        let jittered = poll.mul_f64(0.75 + 0.5 * fastrand::f64());
        jittered.min(lapses_in + Duration::from_millis(1)).min(give_up - Instant::now())
    }

    /// Waits for a wake-up, for the lease to lapse, or for the next poll; gives the value, if one came along.
    pub(crate) async fn wait(&mut self, lapses_in: Duration, give_up: Instant) -> Option<Bytes> {
        let pause = self.pause(lapses_in, give_up);
        let wake = tokio::select! {
            biased;
            wake = self.slot.woken() => Some(wake),
            () = sleep(pause) => None,
        };
        wake.and_then(|wake| self.value(wake))
    }

    /// A wake-up that has come, if one has; and the value, if one came along.
    pub(crate) fn woken(&mut self) -> Option<Option<Bytes>> {
        let wake = self.slot.take()?;
        Some(self.value(wake))
    }

    fn value(&mut self, wake: Wake) -> Option<Bytes> {
        match wake {
            Wake::Value(stored) => (self.wakes == Wakes::Timely).then_some(stored),
            // Asking again brings it, or the lease to whoever is to load anew.
            Wake::Stored => None,
            Wake::Ended => {
                self.disappointments += 1;
                None
            }
            Wake::Lost => {
                // As if it had begun to wait without a bus.
                self.poll = Some(POLL_BLIND / 2);
                None
            }
        }
    }
}

impl<V: 'static> Drop for Queue<'_, V> {
    fn drop(&mut self) {
        self.inner.local.stripes.unlisten(&self.key, &self.slot);
    }
}
