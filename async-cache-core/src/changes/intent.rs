//! A change that has begun, and whose outcome is not known yet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::Effect;
use crate::faults::planted;
use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Inner;

/// A change to be retried as an invalidation if its outcome stays unknown.
pub(crate) enum Change {
    Keys(Arc<[Key]>),
    Tags(Vec<Tags>, Landed),
    Clear(Landed),
}

/// The partitions in which a change of the whole namespace has been made. It is retried in the others alone: a
/// partition whose server answers has nothing to do with one whose server is away.
#[derive(Clone)]
pub(crate) struct Landed(Arc<[AtomicBool]>);

impl Landed {
    /// Nowhere yet.
    pub(crate) fn nowhere(partitions: u16) -> Self {
        Self((0..partitions).map(|_| AtomicBool::new(false)).collect())
    }

    pub(crate) fn note(&self, partition: u16) {
        self.0[usize::from(partition)].store(true, Ordering::Release);
    }

    fn is_missing(&self, partition: u16) -> bool {
        !self.0[usize::from(partition)].load(Ordering::Acquire)
    }
}

/// The note that a change is being made. It is created before anything is sent or removed. If the outcome
/// stays unknown, it is dropped undecided: L2 did not answer, a `Drop` of `V` panicked, or the runtime ended.
/// Then the change becomes pending, so that it is not lost.
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
        // The removal from L1 drops values, and their `Drop` may panic again. The change is pending by then.
        let _ = catch_unwind(AssertUnwindSafe(|| keep(&self.inner, &change)));
    }
}

/// Makes a change pending, and removes its entries from L1 once more: see [`retry_later`].
fn keep<V: Send + Sync + 'static>(inner: &Inner<V>, change: &Change) {
    if inner.remote.is_none() {
        return change_alone(inner, change);
    }
    let liveness = &inner.local.liveness;
    let missing = |landed: &Landed| {
        liveness.node.partitions().filter(|(index, _)| landed.is_missing(*index)).collect::<Vec<_>>()
    };
    match change {
        Change::Keys(keys) => retry_later(inner, keys),
        Change::Tags(tags, landed) => {
            for (index, partition) in missing(landed) {
                liveness.unsent.of(index).add_tags(tags, || partition.next_generation());
            }
        }
        Change::Clear(landed) => {
            for (index, partition) in missing(landed) {
                liveness.unsent.of(index).add_clear();
                partition.move_generation();
            }
        }
    }
}

/// Makes a change on a node without L2. No other node needs to hear of it.
fn change_alone<V: Send + Sync + 'static>(inner: &Inner<V>, change: &Change) {
    match change {
        Change::Keys(keys) => {
            keys.iter()
                .for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
        }
        Change::Tags(tags, _) => {
            for (_, partition) in inner.local.liveness.node.partitions() {
                tags.iter().for_each(|tags| partition.change_tags_alone(tags, Effect::Void));
            }
        }
        Change::Clear(_) => {
            inner.local.liveness.node.partitions().for_each(|(_, partition)| partition.move_generation());
        }
    }
}

/// Makes a change of unknown outcome pending, and removes its keys from L1 once more. The removal is needed
/// because of this order:
///
/// 1. The change begins, and its command is delayed; 2. on another connection a get reads the old value and
///    stores it in L1; 3. the command times out, and the caller is told that this node has dropped the key.
///
/// The change becomes pending first, and the keys leave L1 after that. So a lookup that takes its ticket
/// later finds the key [covered](crate::liveness::unsent::Unsent::covers), and does not read L2.
pub(crate) fn retry_later<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) {
    if planted!(EmptyThenQueue) {
        keys.iter().for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
        return inner.local.liveness.add_unsent(keys);
    }
    inner.local.liveness.add_unsent(keys);
    for key in keys {
        inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes());
    }
}
