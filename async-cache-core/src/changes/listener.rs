//! Applies the events of the bus to L1, in the order in which they happened.

use std::sync::{Arc, Weak};

use crate::backend::{BusEvent, Effect, Listener};
use crate::error::ErrorKind;
use crate::faults::planted;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::ledger::{Changes, Noted};
use crate::liveness::news::News;
use crate::liveness::partition::Partition;
use crate::liveness::questions::Question;
use crate::liveness::state::Asked;
use crate::local::stripe::Wake;
use crate::observe::SuspendCause;
use crate::sync::{Mutex, OnceLock};

impl<V: Send + Sync + 'static> Listener for Inner<V> {
    fn notify(&self, event: BusEvent) {
        let news = match event {
            BusEvent::Subscribed => subscribed(self),
            BusEvent::Lost => lost(self),
            BusEvent::PartitionSubscribed { partition } => {
                self.local.liveness.asked(Asked::Subscription, &Ok(()));
                about(self, partition, |partition| {
                    partition.subscribed();
                    News::Gap
                })
            }
            BusEvent::PartitionLost { partition } => partition_lost(self, partition),
            BusEvent::Refused { why } => {
                let refused = self.observer.error(ErrorKind::Config, &*why);
                self.local.liveness.asked::<()>(Asked::Subscription, &Err(refused));
                News::Expected
            }
            BusEvent::Invalidated { partition, seq, key } => {
                self.observer.counters.invalidations_received.add(1);
                if planted!(CountBeforeRemoval) {
                    let _ =
                        self.local.liveness.node.partition(partition).map(|partition| partition.heard(seq));
                }
                // The key is removed first, and the number is counted after that: see `Partition::heard`. The
                // node's own changes are not skipped. L2 may execute a command after this node has given it
                // up, and only the bus reports that.
                self.local.stripes.changed(self.local.engine(), &key, seq);
                let news = about(self, partition, |partition| partition.heard(seq));
                note(self, partition, seq, |received, change| received.note(&key, change));
                news
            }
            BusEvent::Expired { partition, seq, key } => {
                self.observer.counters.invalidations_received.add(1);
                let now = self.local.now();
                self.local.stripes.expired(self.local.engine(), &Key::from_encoded(&key), seq, now);
                about(self, partition, |partition| partition.heard(seq))
            }
            BusEvent::Cleared { partition, seq } => {
                self.observer.counters.invalidations_received.add(1);
                about(self, partition, |partition| {
                    partition.cleared(seq);
                    partition.heard(seq)
                })
            }
            BusEvent::TagsInvalidated { partition, seq, tags } => {
                self.observer.counters.invalidations_received.add(1);
                let news = about(self, partition, |partition| {
                    partition.tags_changed(&tags, seq, Effect::Void);
                    partition.heard(seq)
                });
                note(self, partition, seq, |received, change| received.note_tags(partition, &tags, change));
                news
            }
            BusEvent::TagsExpired { partition, seq, tags } => {
                self.observer.counters.invalidations_received.add(1);
                about(self, partition, |partition| {
                    partition.tags_changed(&tags, seq, Effect::Expire);
                    partition.heard(seq)
                })
            }
            BusEvent::Echo { partition, seq, beat } => {
                let max_staleness = self.local.liveness.node.max_staleness;
                about(self, partition, |partition| {
                    let news = partition.echoed(seq, beat, max_staleness);
                    if partition.proven() == beat
                        && let Some(sent) = partition.proved_at()
                    {
                        // The echo came behind every change, so they were under way as long.
                        self.observer.lagged(self.local.now().since(sent));
                    }
                    news
                })
            }
            BusEvent::Woken { key, value } => {
                self.local.stripes.wake(&key, &value.map_or(Wake::Ended, Wake::Value));
                News::Expected
            }
            BusEvent::Asked { asker, id, question } => {
                self.lifecycle.questions.put(Question { asker, id, text: question });
                News::Expected
            }
            // Only tools ask.
            BusEvent::Answered { .. } => News::Expected,
            BusEvent::Foreign => {
                self.observer.counters.unreadable.add(1);
                News::Expected
            }
            BusEvent::Stored { key } => {
                self.local.stripes.wake(&key, &Wake::Stored);
                News::Expected
            }
        };
        if news == News::Gap {
            self.local.liveness.suspended(SuspendCause::Missed);
            self.local.liveness.node.resync.notify_one();
        }
    }
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
