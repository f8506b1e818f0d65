//! The fill: L2 first, then L1. It is refused if an invalidation came during the load.

use std::sync::Arc;

use crate::backend::{Announce, Entry, Fill, Filled};
use crate::changes::replace;
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::local::approach::Reuse;
use crate::local::entry::{NewEntry, new_entry};
use crate::lookup::held::Held;
use crate::lookup::produced::Produced;
use crate::options::Term;

/// Stores a value in L2 that was loaded under a lease. Returns the entry that L1 is offered. It is `None` if
/// an invalidation has broken the lease, because the loaded value may be old.
pub(crate) async fn fill<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    mut held: Held<'_, V>,
    produced: &Produced<V>,
    reuse: Reuse,
) -> Option<Entry<V>> {
    let (lease, l2) = (held.lease()?, inner.remote.as_ref()?);
    let term = produced.options.store.draw_term(produced.value.is_none());
    let entry = entry(inner, produced, term, lease.seq);
    let frame = match l2.frame_of(&entry, term, produced.cost) {
        Ok(frame) => frame,
        Err(error) => {
            // The callers still get their value, and L1 may keep it.
            inner.observer.not_encoded(held.key.as_bytes(), &error);
            replace::replaces(inner, &held.key, reuse);
            return Some(entry);
        }
    };
    let announce = match reuse {
        // Other nodes may hold the value that this one replaces. They ask L2 anyway when it expires.
        Reuse::Cached | Reuse::Newer(_) => Announce::No,
        Reuse::Nothing => Announce::Yes,
    };
    let fill = Fill { key: held.key.clone(), lease, frame, life: term.kept(), announce };
    let outcome = l2.region.fill_one(fill).await;
    if outcome.is_ok() {
        held.ended();
    }
    filled(inner, &held.key, reuse, outcome, entry).await
}

/// The entry that L1 is offered after a fill of L2.
pub(crate) async fn filled<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    key: &Key,
    reuse: Reuse,
    outcome: Result<Filled>,
    entry: Entry<V>,
) -> Option<Entry<V>> {
    match outcome {
        Ok(Filled::Stored { seq }) => {
            if reuse == Reuse::Nothing {
                // This fill is a change made on this node. L1 may refuse the new value, because another key
                // of its stripe has changed. Then it must not keep the old value.
                inner.local.stripes.changed(inner.local.engine(), key.as_bytes(), seq);
            }
            Some(Entry { seq, ..entry })
        }
        Ok(Filled::Refused) => {
            inner.observer.fill_rejected(key.as_bytes());
            // An invalidation has broken the lease, or the lease was lost. In the second case the old value
            // is still stored.
            replace::remove_replaced(inner, key, reuse).await;
            None
        }
        // Whether L1 may store the value does not depend on L2. The ticket decides.
        Err(error) => {
            drop(inner.local.liveness.l2_failed(error));
            inner.observer.fill_rejected(key.as_bytes());
            replace::replaces(inner, key, reuse);
            Some(entry)
        }
    }
}

/// The loaded value as an entry with its own token.
pub(crate) fn entry<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    produced: &Produced<V>,
    term: Term,
    seq: u64,
) -> Entry<V> {
    let ahead = produced.options.load.ahead(produced.cost);
    let tags = &produced.options.store.tags.tags;
    new_entry(&inner.local.liveness.node, NewEntry { value: produced.value.clone(), term, ahead, seq, tags })
}
