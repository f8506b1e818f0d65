//! Applies the events of the bus to L1, in the order in which they happened.

use std::sync::{Arc, Weak};

use crate::backend::{BusEvent, Effect, Listener};
use crate::error::ErrorKind;
use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Inner;
use crate::liveness::ledger::{Changes, Noted};
use crate::liveness::news::News;
use crate::liveness::partition::Partition;
use crate::liveness::questions::Question;
use crate::liveness::refusals::Asked;
use crate::local::stripe::Wake;
use crate::observe::SuspendCause;
use crate::sync::{Mutex, OnceLock};

impl<V: Send + Sync + 'static> Listener for Inner<V> {
    fn notify(&self, event: BusEvent) {
        if apply(self, event) == News::Gap {
            self.local.liveness.suspended(SuspendCause::Missed);
            self.local.liveness.node.resync.notify_one();
        }
    }
}

fn apply<V: Send + Sync + 'static>(inner: &Inner<V>, event: BusEvent) -> News {
    match event {
        BusEvent::Subscribed => subscribed(inner),
        BusEvent::Lost => lost(inner),
        BusEvent::PartitionSubscribed { partition } => partition_subscribed(inner, partition),
        BusEvent::PartitionLost { partition } => partition_lost(inner, partition),
        BusEvent::Invalidated { partition, seq, key } => invalidated(inner, partition, seq, &key),
        BusEvent::Expired { partition, seq, key } => expired(inner, partition, seq, &key),
        BusEvent::Cleared { partition, seq } => cleared(inner, partition, seq),
        BusEvent::TagsInvalidated { partition, seq, tags } => tags_invalidated(inner, partition, seq, &tags),
        BusEvent::TagsExpired { partition, seq, tags } => {
            tags_changed(inner, partition, seq, &tags, Effect::Expire)
        }
        BusEvent::Echo { partition, seq, beat } => echoed(inner, partition, seq, beat),
        BusEvent::Woken { key, value } => woken(inner, &key, &value.map_or(Wake::Ended, Wake::Value)),
        BusEvent::Stored { key } => woken(inner, &key, &Wake::Stored),
        BusEvent::Asked { asker, id, question } => {
            inner.lifecycle.questions.put(Question { asker, id, text: question });
            News::Expected
        }
        // Only tools ask.
        BusEvent::Answered { .. } => News::Expected,
        BusEvent::Refused { why } => refused(inner, &why),
        BusEvent::Foreign => {
            inner.observer.counters.unreadable.add(1);
            News::Expected
        }
    }
}

/// Wakes the lookups that wait for a load of another node.
fn woken<V: 'static>(inner: &Inner<V>, key: &[u8], wake: &Wake) -> News {
    inner.local.stripes.wake(key, wake);
    News::Expected
}

fn refused<V>(inner: &Inner<V>, why: &str) -> News {
    let refused = inner.observer.error(ErrorKind::Config, why);
    inner.local.liveness.asked::<()>(Asked::Subscription, &Err(refused));
    News::Expected
}

/// A key was invalidated. The key is removed first, and the number is counted after that: see [`Partition::heard`].
/// The node's own changes are not skipped. L2 may execute a command after this node has given it up, and only the
/// bus reports that.
fn invalidated<V: Send + Sync + 'static>(inner: &Inner<V>, partition: u16, seq: u64, key: &[u8]) -> News {
    inner.observer.counters.invalidations_received.add(1);
    if planted!(CountBeforeRemoval) {
        let _ = inner.local.liveness.node.partition(partition).map(|partition| partition.heard(seq));
    }
    inner.local.stripes.changed(inner.local.engine(), key, seq);
    let news = about(inner, partition, |partition| partition.heard(seq));
    note(inner, partition, seq, |received, change| received.note(key, change));
    news
}

fn expired<V: Send + Sync + 'static>(inner: &Inner<V>, partition: u16, seq: u64, key: &[u8]) -> News {
    inner.observer.counters.invalidations_received.add(1);
    let now = inner.local.now();
    inner.local.stripes.expired(inner.local.engine(), &Key::from_encoded(key), seq, now);
    about(inner, partition, |partition| partition.heard(seq))
}

fn cleared<V>(inner: &Inner<V>, partition: u16, seq: u64) -> News {
    inner.observer.counters.invalidations_received.add(1);
    about(inner, partition, |partition| {
        partition.cleared(seq);
        partition.heard(seq)
    })
}

fn tags_invalidated<V: 'static>(inner: &Inner<V>, partition: u16, seq: u64, tags: &Tags) -> News {
    let news = tags_changed(inner, partition, seq, tags, Effect::Void);
    note(inner, partition, seq, |received, change| received.note_tags(partition, tags, change));
    news
}

fn tags_changed<V>(inner: &Inner<V>, partition: u16, seq: u64, tags: &Tags, effect: Effect) -> News {
    inner.observer.counters.invalidations_received.add(1);
    about(inner, partition, |partition| {
        partition.tags_changed(tags, seq, effect);
        partition.heard(seq)
    })
}

/// The echo of a heartbeat has arrived.
fn echoed<V: 'static>(inner: &Inner<V>, partition: u16, seq: u64, beat: u64) -> News {
    let max_staleness = inner.local.liveness.node.max_staleness;
    about(inner, partition, |partition| {
        let news = partition.echoed(seq, beat, max_staleness);
        if partition.proven() == beat
            && let Some(sent) = partition.proved_at()
        {
            // The echo came behind every change, so they were under way as long.
            inner.observer.lagged(inner.local.now().since(sent));
        }
        news
    })
}

/// Applies an event to its partition. An event of a partition that this node does not know changes nothing.
fn about<V>(inner: &Inner<V>, partition: u16, apply: impl FnOnce(&Partition) -> News) -> News {
    inner.local.liveness.node.partition(partition).map_or(News::Expected, apply)
}

/// Notes a change for the verifier, if this node has applied all changes up to it. While it has not, a
/// load may begin later and end with a lower number.
fn note<V>(inner: &Inner<V>, partition: u16, seq: u64, note: impl FnOnce(&Changes, Noted)) {
    let node = &inner.local.liveness.node;
    if let Some(ledger) = &node.ledger
        && let Some(partition) = node.partition(partition)
        && partition.applied() >= seq
        && let Some(run) = partition.run()
    {
        note(&ledger.received, Noted { seq, at: node.clock.now(), run });
    }
}

/// The bus is subscribed. Changes before this moment may have been missed, so a new baseline is needed.
fn subscribed<V: Send + Sync + 'static>(inner: &Inner<V>) -> News {
    inner.local.liveness.asked(Asked::Subscription, &Ok(()));
    inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.subscribed());
    News::Gap
}

/// The bus is subscribed for one partition.
fn partition_subscribed<V: Send + Sync + 'static>(inner: &Inner<V>, partition: u16) -> News {
    inner.local.liveness.asked(Asked::Subscription, &Ok(()));
    about(inner, partition, |partition| {
        partition.subscribed();
        News::Gap
    })
}

/// The bus is lost for one partition.
fn partition_lost<V: Send + Sync + 'static>(inner: &Inner<V>, partition: u16) -> News {
    let news = about(inner, partition, |partition| {
        partition.lost();
        News::Expected
    });
    inner.local.stripes.bus_lost();
    inner.local.liveness.suspended(SuspendCause::BusLost);
    news
}

/// The bus is lost, so this node misses changes. Waiting lookups ask L2 again at once. If the server is gone,
/// too, waiting for the next poll would be useless.
fn lost<V: Send + Sync + 'static>(inner: &Inner<V>) -> News {
    inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.lost());
    inner.local.stripes.bus_lost();
    inner.local.liveness.suspended(SuspendCause::BusLost);
    News::Expected
}

/// Passes events to the cache. Until the cache exists, it keeps them.
///
/// 1. The cache opens its namespace, and gives the backend its listener; 2. the backend's own task
///    subscribes, and reports that; 3. the cache is complete. If the cache itself were the listener, the
///    report of step 2 would be lost, and L1 would never answer.
pub(crate) struct EarlyEventBuffer<V> {
    inner: OnceLock<Weak<Inner<V>>>,
    early: Mutex<Vec<BusEvent>>,
}

impl<V: Send + Sync + 'static> EarlyEventBuffer<V> {
    pub(crate) fn closed() -> Arc<Self> {
        Arc::new(Self { inner: OnceLock::new(), early: Mutex::default() })
    }

    /// The cache is complete. Delivers the events kept so far, in order. Later events pass through.
    pub(crate) fn open(&self, inner: &Arc<Inner<V>>) {
        // The lock is held to the end, so that a later event does not overtake an earlier one.
        let mut early = self.early.lock();
        early.drain(..).for_each(|event| inner.notify(event));
        let _ = self.inner.set(Arc::downgrade(inner));
    }
}

impl<V: Send + Sync + 'static> Listener for EarlyEventBuffer<V> {
    fn notify(&self, event: BusEvent) {
        if self.inner.get().is_none() {
            let mut early = self.early.lock();
            if self.inner.get().is_none() {
                return early.push(event);
            }
        }
        if let Some(inner) = self.inner.get().and_then(Weak::upgrade) {
            inner.notify(event);
        }
    }
}
