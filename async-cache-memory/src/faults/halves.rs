//! The two halves of [`Mutant::PublishBeforeDelete`](super::Mutant::PublishBeforeDelete).

use async_cache_core::key::Key;

use crate::store::state::State;

/// Numbers and announces a change before it is made.
pub(crate) fn announce(state: &mut State, key: &Key) -> u64 {
    let seq = state.partition(key).next_seq();
    state.publish_invalidated(seq, key);
    seq
}

/// Removes a value whose change has been announced before.
pub(crate) fn remove(state: &mut State, key: &Key) {
    let waiting = state.partition(key).break_lock(key);
    state.values.invalidate(key.as_bytes());
    state.wake(key, waiting, None);
}
