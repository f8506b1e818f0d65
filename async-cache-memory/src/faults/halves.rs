//! The two halves of [`Mutant::PublishBeforeDelete`](super::Mutant::PublishBeforeDelete).

use async_cache_core::key::Key;

use crate::store::state::State;

impl State {
    /// Numbers and announces a change before it is made.
    pub(crate) fn announce(&mut self, key: &Key) -> u64 {
        let seq = self.partition(key).next_seq();
        self.publish_invalidated(seq, key);
        seq
    }

    /// Removes a value whose change has been announced before.
    pub(crate) fn remove(&mut self, key: &Key) {
        let waiting = self.partition(key).break_lock(key);
        self.values.invalidate(key.as_bytes());
        self.wake(key, waiting, None);
    }
}
