//! A change that has begun and whose outcome is not known yet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Inner;

/// What is to be retried as an invalidation if a change is not seen to its end.
pub(crate) enum Change {
    Keys(Arc<[Key]>),
    Tags(Vec<Tags>),
    Clear,
}

/// Made before anything is sent or removed, and dropped when the outcome is unknown: because L2 did not answer,
/// because `V`'s `Drop` panicked, because the runtime ended. The change is queued then, so that none is lost.
pub(crate) struct Intent<V: Send + Sync + 'static> {
    inner: Arc<Inner<V>>,
    change: Option<Change>,
}

impl<V: Send + Sync + 'static> Intent<V> {
    pub(crate) fn new(inner: &Arc<Inner<V>>, change: Change) -> Self {
        Self { inner: Arc::clone(inner), change: Some(change) }
    }

    /// The outcome is known: there is nothing to retry.
    pub(crate) fn decided(mut self) {
        self.change = None;
    }
}

impl<V: Send + Sync + 'static> Drop for Intent<V> {
    fn drop(&mut self) {
        let Some(change) = self.change.take() else { return };
        // Emptying L1 drops values, which may panic again; the change is queued by then.
        let _ = catch_unwind(AssertUnwindSafe(|| keep(&self.inner, &change)));
    }
}

/// Queues a change, and empties L1 of it once more: see [`retry_later`](Self::retry_later).
fn keep<V: Send + Sync + 'static>(inner: &Inner<V>, change: &Change) {
    if inner.remote.is_none() {
        return change_alone(inner, change);
    }
    match change {
        Change::Keys(keys) => retry_later(inner, keys),
        Change::Tags(tags) => {
            inner.local.liveness.unsent.add_tags(tags, || inner.local.liveness.node.move_generations());
        }
        Change::Clear => {
            inner.local.liveness.unsent.add_clear();
            inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.move_generation());
        }
    }
}

/// Without an L2 there is nobody to tell.
fn change_alone<V: Send + Sync + 'static>(inner: &Inner<V>, change: &Change) {
    match change {
        Change::Keys(keys) => {
            keys.iter()
                .for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
        }
        Change::Tags(tags) => {
            for (_, partition) in inner.local.liveness.node.partitions() {
                tags.iter().for_each(|tags| partition.change_tags_alone(tags));
            }
        }
        Change::Clear => {
            inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.move_generation());
        }
    }
}

/// Queues a change of unknown outcome, and empties L1 of it once more:
///
/// 1. the change begins, and its command is stuck; 2. on another connection, a get reads the
///    old value and stores it in L1; 3. the command times out, and its caller is told that the
///    key is dropped here.
///
/// First queued, then emptied: whoever takes a ticket after that finds the key
/// [covered](crate::changes::retry::Pending::covers), and does not read L2.
pub(crate) fn retry_later<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) {
    if planted!(EmptyThenQueue) {
        keys.iter().for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
        return inner.local.liveness.unsent.add(keys);
    }
    inner.local.liveness.unsent.add(keys);
    for key in keys {
        inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes());
    }
}
