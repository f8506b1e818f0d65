//! The return of leases that are not filled, so that other nodes need not wait until they expire.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::backend::Lease;
use crate::error::Result;
use crate::format::key::Key;
use crate::inner::Inner;
use crate::liveness::pauses::Pauses;
use crate::liveness::unreturned::Owed;
use crate::lookup::many::keep::PART;

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
        drop(attempt(&at_work, owed).await);
    });
}

/// Returns leases. If that fails, they are kept for the next attempt: the connection may have been lost together with
/// the fill, and another one is made within the second.
async fn attempt<V: Send + Sync + 'static>(inner: &Inner<V>, owed: Vec<Owed>) -> Result<()> {
    let Some(l2) = inner.remote.as_ref().filter(|_| !owed.is_empty()) else { return Ok(()) };
    let leases: Vec<(Key, Lease)> = owed.iter().map(|owed| owed.lease.clone()).collect();
    l2.region.release(&leases).await.map_err(|error| {
        inner.local.liveness.unreturned.add(owed);
        inner.local.liveness.l2_failed(error)
    })
}

/// Retries what could not be returned, until the cache is closed. An outage is waited for without a command.
pub(crate) async fn run<V: Send + Sync + 'static>(inner: Arc<Inner<V>>) {
    let liveness = &inner.local.liveness;
    let mut pauses = Pauses::new(RETRY_EVERY);
    loop {
        if liveness.unreturned.is_empty() {
            pauses.over();
            liveness.unreturned.added.notified().await;
        } else if liveness.is_cut_off() {
            sleep(pauses.short()).await;
        } else {
            match attempt(&inner, liveness.unreturned.take(PART)).await {
                Ok(()) => pauses.over(),
                Err(error) if error.is_temporary() => sleep(pauses.short()).await,
                Err(_) => liveness.pause(pauses.longer().min(LONGEST_PAUSE)).await,
            }
        }
    }
}

/// The last attempt before the node ends.
pub(crate) async fn last<V: Send + Sync + 'static>(inner: &Inner<V>) {
    while !inner.local.liveness.unreturned.is_empty() {
        if attempt(inner, inner.local.liveness.unreturned.take(PART)).await.is_err() {
            return;
        }
    }
}
