//! What proves to the verifier that a hit was stale.

use std::time::Duration;

use tokio::time::Instant;

use crate::backend::{Baseline, Entry, Tick};
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::ledger::Changes;
use crate::observe::Evidence;

/// An entry that L2 or the source did not confirm.
pub(crate) struct Suspect<V> {
    pub(crate) key: Key,
    pub(crate) entry: Entry<V>,
    /// The state of L2 when it did not confirm the entry. Empty if only the source disagrees.
    pub(crate) state: Option<Baseline>,
    /// Whether the source had another value.
    pub(crate) source_differs: bool,
    /// When the answers had arrived.
    pub(crate) seen: Tick,
    /// When to look again.
    pub(crate) due: Instant,
}

/// The proof that a hit does not reflect a change that it had to reflect, and the state of L2 afterwards. The node
/// had applied the change before the lookup began: a change of its own, or one that it had received `max_staleness`
/// before.
///
/// The state of L2 is needed, because L2 may have gone back to an older memory in the same process, which nothing
/// promises to notice at once:
///
/// 1. this node has applied change 7; 2. the server is demoted, takes over the memory of a replica without change 7,
///    and is promoted; 3. a lookup reads the old value from it, before a heartbeat has told the node.
///
/// Then the floor leaps above 7 at the latest when this function reads the state. And another process may have
/// succeeded to such a server. A server whose clock was far ahead may even begin again below 7.
pub(crate) async fn at_once<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    entry: &Entry<V>,
    begun: Tick,
) -> Result<Option<(Evidence, Baseline)>> {
    let node = &inner.local.liveness.node;
    let (Some(ledger), Some(l2)) = (&node.ledger, &inner.remote) else { return Ok(None) };
    let key = key.as_bytes();
    let (index, _) = node.partition_of(key);
    let unreflected = |changes: &Changes, bound: Duration| {
        let mut changes = changes.of(key, index, &entry.tags);
        changes.find(|change| entry.seq < change.seq && change.at.after(bound) < begun)
    };
    let (change, evidence) = match unreflected(&ledger.returned, Duration::ZERO) {
        Some(change) => (change, Evidence::ChangeReturned),
        None => match unreflected(&ledger.received, node.max_staleness) {
            Some(change) => (change, Evidence::ChangeReceived),
            None => return Ok(None),
        },
    };
    let read = l2.region.baseline(index, Some(&entry.tags)).await?;
    let remembers = read.state.run == change.run && (read.state.floor..=read.state.seq).contains(&change.seq);
    Ok(remembers.then_some((evidence, read)))
}

/// The proof that an entry of L1 answers beyond the bound, if there is one. It answers at `now`, when the node
/// had applied every change up to `applied`.
pub(crate) fn proof<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    suspect: &Suspect<V>,
    entry: &Entry<V>,
    now: Tick,
    applied: u64,
) -> Option<Evidence> {
    let node = &inner.local.liveness.node;
    let key = suspect.key.as_bytes();
    let (index, partition) = node.partition_of(key);
    let mut received = node.ledger.iter().flat_map(|ledger| ledger.received.of(key, index, &entry.tags));
    if received.any(|change| {
        entry.seq < change.seq && change.seq <= applied && change.at.after(node.max_staleness) < now
    }) {
        return Some(Evidence::ChangeReceived);
    }
    let read = suspect.state.as_ref()?;
    if suspect.seen.after(node.max_staleness) >= now {
        return None;
    }
    if partition.is_about(read.state.run) && applied < read.state.seq {
        return Some(Evidence::ChangeUnknown);
    }
    if entry.seq < read.state.floor {
        return Some(Evidence::Cleared);
    }
    let voids = |tag: &[u8]| read.tags.iter().any(|(other, seq)| other == tag && entry.seq < *seq);
    entry.tags.iter().any(voids).then_some(Evidence::TagInvalidated)
}
