//! A change that has begun and whose outcome is not known yet.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::format::key::Key;
use crate::format::tags::Tags;
use crate::inner::Shared;

/// What is to be retried as an invalidation if a change is not seen to its end.
pub(crate) enum Change {
    Keys(Arc<[Key]>),
    Tags(Vec<Tags>),
    Clear,
}

/// Made before anything is sent or removed, and dropped when the outcome is unknown: because L2 did not answer,
/// because `V`'s `Drop` panicked, because the runtime ended. The change is queued then, so that none is lost.
pub(crate) struct Intent<V: Send + Sync + 'static> {
    shared: Arc<Shared<V>>,
    change: Option<Change>,
}

impl<V: Send + Sync + 'static> Intent<V> {
    pub(crate) fn new(shared: &Arc<Shared<V>>, change: Change) -> Self {
        Self { shared: Arc::clone(shared), change: Some(change) }
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
        let _ = catch_unwind(AssertUnwindSafe(|| self.shared.keep(&change)));
    }
}

impl<V: Send + Sync + 'static> Shared<V> {
    /// Queues a change, and empties L1 of it once more: see [`retry_later`](Self::retry_later).
    fn keep(&self, change: &Change) {
        if self.l2.is_none() {
            return self.change_alone(change);
        }
        match change {
            Change::Keys(keys) => self.retry_later(keys),
            Change::Tags(tags) => self.pending.add_tags(tags, || self.node.move_generations()),
            Change::Clear => {
                self.pending.add_clear();
                self.node.partitions().for_each(|(_, partition)| partition.move_generation());
            }
        }
    }

    /// Without an L2 there is nobody to tell.
    fn change_alone(&self, change: &Change) {
        match change {
            Change::Keys(keys) => {
                keys.iter().for_each(|key| self.fence.change_begins(self.l1(), key.as_bytes()));
            }
            Change::Tags(tags) => {
                for (_, partition) in self.node.partitions() {
                    tags.iter().for_each(|tags| partition.change_tags_alone(tags));
                }
            }
            Change::Clear => self.node.partitions().for_each(|(_, partition)| partition.move_generation()),
        }
    }
}
