//! The fill: L2 first, then L1. It is refused if an invalidation came during the load. And the return of leases that
//! are not filled, so that other nodes need not wait until they expire.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::{Announce, Entry, Fill, Filled, Lease};
use crate::changes::replace;
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::pauses::Pauses;
use crate::liveness::unreturned::Owed;
use crate::local::l1::{NewEntry, new_entry};
use crate::local::request::{CacheMode, LookupRequest};
use crate::lookup::loader::Produced;
use crate::lookup::many::keep::PART;
use crate::observe::Stage;
use crate::options::Term;

/// Stores a value in L2 that was loaded under a lease. Returns the entry that L1 is offered. It is `None` if
/// an invalidation has broken the lease, because the loaded value may be old.
pub(crate) async fn fill<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    request: &LookupRequest,
    lease: Lease,
    held: &mut Held<'_, V>,
    produced: &Produced<V>,
) -> Option<Entry<V>> {
    let l2 = inner.remote.as_ref()?;
    let term = produced.options.store.draw_term(produced.value.is_none());
    let entry = entry(inner, produced, term, lease.seq);
    let frame = match l2.frame_of(&request.key, &entry, term, produced.cost) {
        Ok(frame) => frame,
        Err(error) => {
            // The callers still get their value, and L1 may keep it.
            inner.observer.not_encoded(request.key.as_bytes(), &error);
            replace::replaces(inner, &request.key, request.mode);
            return Some(entry);
        }
    };
    let announce = match request.mode {
        // Other nodes may hold the value that this one replaces. They ask L2 anyway when it expires.
        CacheMode::Use | CacheMode::Revalidate(_) => Announce::No,
        CacheMode::Reload => Announce::Yes,
    };
    let fill = Fill { key: request.key.clone(), lease, frame, life: term.kept(), announce };
    let outcome = inner.observer.stage(Stage::Fill, l2.region.fill_one(fill)).await;
    if outcome.is_ok() {
        held.leases.clear();
    }
    filled(inner, request, outcome, entry).await
}

/// The entry that L1 is offered after a fill of L2.
pub(crate) async fn filled<V: Send + Sync + 'static>(
    inner: &Inner<V>,
    request: &LookupRequest,
    outcome: Result<Filled>,
    entry: Entry<V>,
) -> Option<Entry<V>> {
    let LookupRequest { key, mode, .. } = request;
    match outcome {
        Ok(Filled::Stored { seq }) => {
            if *mode == CacheMode::Reload {
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
            replace::remove_replaced(inner, key, *mode).await;
            None
        }
        // Whether L1 may store the value does not depend on L2. The ticket decides.
        Err(error) => {
            drop(inner.local.liveness.l2_failed(error));
            inner.observer.fill_rejected(key.as_bytes());
            replace::replaces(inner, key, *mode);
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
    let ahead = produced.options.load.ahead(|| produced.cost);
    let tags = &produced.options.store.tags.tags;
    new_entry(&inner.local.liveness.node, NewEntry { value: produced.value.clone(), term, ahead, seq, tags })
}

/// Leases that are released however their load ends: with an error, a panic, a timeout, or a fill of unknown
/// outcome. So other nodes need not wait until they expire.
pub(crate) struct Held<'a, V: Send + Sync + 'static> {
    pub(crate) inner: &'a Arc<Inner<V>>,
    pub(crate) leases: Vec<(Key, Lease)>,
    /// The time after which they have expired if nobody renews them.
    pub(crate) ttl: Duration,
}

impl<V: Send + Sync + 'static> Held<'_, V> {
    /// Releases the leases that will not be filled. The leases and `fills` are in the order of the keys.
    pub(crate) fn release_but(&mut self, fills: &[Fill]) {
        let mut filled = fills.iter().map(|fill| fill.lease.token).peekable();
        let (kept, unfilled) = std::mem::take(&mut self.leases)
            .into_iter()
            .partition(|(_, lease)| filled.next_if_eq(&lease.token).is_some());
        self.leases = kept;
        release(self.inner, unfilled, self.ttl);
    }
}

impl<V: Send + Sync + 'static> Drop for Held<'_, V> {
    fn drop(&mut self) {
        release(self.inner, std::mem::take(&mut self.leases), self.ttl);
    }
}

/// The pause between attempts while L2 cannot be reached.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The longest pause between attempts while L2 refuses them. It must be well below the duration of a lease.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Releases leases that will not be filled, in a task of its own. They expire within `ttl` if nobody renews them.
///
/// A release also follows a fill of unknown outcome. If the fill has stored the value, its lease is gone, and the
/// release finds nothing. If the fill is executed after the release, L2 refuses it. The fill itself is not sent again.
/// It would be refused if the first one has stored the value, and also if a change has broken the lease, and the answer
/// does not tell which.
pub(crate) fn release<V: Send + Sync + 'static>(
    inner: &Arc<Inner<V>>,
    leases: Vec<(Key, Lease)>,
    ttl: Duration,
) {
    if leases.is_empty() {
        return;
    }
    let expires = Instant::now() + ttl;
    let at_work = Arc::clone(inner);
    inner.lifecycle.tasks.spawn(async move {
        let owed = leases.into_iter().map(|lease| Owed { lease, expires }).collect();
        drop(try_return(&at_work, owed).await);
    });
}

/// Returns leases. If that fails, they are kept for the next attempt: the connection may have been lost together with
/// the fill, and another one is made within the second.
async fn try_return<V: Send + Sync + 'static>(inner: &Inner<V>, owed: Vec<Owed>) -> Result<()> {
    let Some(l2) = inner.remote.as_ref().filter(|_| !owed.is_empty()) else { return Ok(()) };
    let leases: Vec<(Key, Lease)> = owed.iter().map(|owed| owed.lease.clone()).collect();
    l2.region.release(&leases).await.map_err(|error| {
        inner.local.liveness.unreturned.add(owed);
        inner.local.liveness.l2_failed(error)
    })
}

/// Retries what could not be returned, until the cache is closed. An outage is waited for without a command.
pub(crate) async fn return_leases<V: Send + Sync + 'static>(inner: Arc<Inner<V>>) {
    let liveness = &inner.local.liveness;
    let mut pauses = Pauses::new(RETRY_EVERY);
    loop {
        if liveness.unreturned.is_empty() {
            pauses.over();
            liveness.unreturned.added.notified().await;
        } else if liveness.is_cut_off() {
            sleep(pauses.short()).await;
        } else {
            match try_return(&inner, liveness.unreturned.take(PART)).await {
                Ok(()) => pauses.over(),
                Err(error) if error.is_temporary() => sleep(pauses.short()).await,
                Err(_) => liveness.pause(pauses.longer().min(LONGEST_PAUSE)).await,
            }
        }
    }
}

/// The last attempt before the node ends.
pub(crate) async fn return_last<V: Send + Sync + 'static>(inner: &Inner<V>) {
    while !inner.local.liveness.unreturned.is_empty() {
        if try_return(inner, inner.local.liveness.unreturned.take(PART)).await.is_err() {
            return;
        }
    }
}
