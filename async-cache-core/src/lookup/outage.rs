//! What to answer when L2 cannot be asked.

use crate::backend::{Entry, Phase};
use crate::error::Error;
use crate::inner::Inner;
use crate::options::OutagePolicy;

/// What is left to do.
pub(crate) enum OutageDecision<V> {
    /// Answer what L1 holds, unverified.
    Serve(Entry<V>),
    /// Load, if there is a loader.
    Load(Error),
    /// Give the error.
    Fail(Error),
}

/// Decides by the outage policy. `held` is what L1 has for the key, if it is within its life.
pub(crate) fn decide_in_outage<V>(
    inner: &Inner<V>,
    key: &[u8],
    held: Option<Entry<V>>,
    error: Error,
) -> OutageDecision<V> {
    let (_, partition) = inner.local.liveness.node.partition_of(key);
    match (inner.policy.outage, held) {
        (OutagePolicy::Fail, _) => OutageDecision::Fail(error),
        // What was invalidated stays so, outage or not; and what has expired while L2 was asked is no answer.
        (OutagePolicy::ServeL1, Some(entry))
            if matches!(
                entry.life.phase(inner.local.liveness.node.clock.now()),
                Phase::Fresh | Phase::Ripe
            ) && !partition.voids(&entry)
                && !inner.local.liveness.unsent.voids(&entry) =>
        {
            OutageDecision::Serve(entry)
        }
        (OutagePolicy::ServeL1 | OutagePolicy::Load, _) => OutageDecision::Load(error),
    }
}
