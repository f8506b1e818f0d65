//! What to do when L2 cannot be asked.

use crate::backend::{Entry, Phase};
use crate::error::Error;
use crate::inner::Inner;
use crate::options::OutagePolicy;

/// What the lookup does in an outage.
pub(crate) enum OutageDecision<V> {
    /// Answer with the unverified entry of L1.
    Serve(Entry<V>),
    /// Load if there is a loader.
    Load(Error),
    /// Return the error.
    Fail(Error),
}

/// Decides by the outage policy. `held` is the entry of L1 that has not expired, if there is one.
pub(crate) fn decide_in_outage<V>(
    inner: &Inner<V>,
    key: &[u8],
    held: Option<Entry<V>>,
    error: Error,
) -> OutageDecision<V> {
    let (_, partition) = inner.local.liveness.node.partition_of(key);
    match (inner.policy.outage, held) {
        (OutagePolicy::Fail, _) => OutageDecision::Fail(error),
        // A void value does not answer, not even in an outage. An entry that has expired while L2 was asked
        // does not answer, either.
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
