//! Pending invalidations. They are retried until L2 has executed them. And the removal of values that a load has shown to
//! be old, if the loaded value does not replace them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::sleep;

use crate::backend::Effect;
use crate::changes::send::{self, Place, is_retried};
use crate::error::Result;
use crate::faults::mutant::Mutant;
use crate::format::key::Key;
use crate::format::tags::{MAX_TAGS, Tags};
use crate::inner::Inner;
use crate::liveness::pauses::Pauses;
use crate::liveness::refusals::Asked;
use crate::liveness::unsent::Work;
use crate::local::request::CacheMode;

/// Pause between attempts.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// The pause between attempts while the cache is being shut down.
const FLUSH_EVERY: Duration = Duration::from_millis(25);

/// Retries pending invalidations until the cache is closed. A partition whose server is away keeps no other one
/// waiting.
pub(crate) async fn run<V: Send + Sync + 'static>(inner: Arc<Inner<V>>) {
    let mut retrying = FuturesUnordered::new();
    let mut busy = HashSet::new();
    loop {
        for index in inner.local.liveness.unsent.partitions() {
            if busy.insert(index) {
                retrying.push(retry(&inner, index));
            }
        }
        // In this order, so that a seed of a simulation decides all.
        tokio::select! {
            biased;
            Some(index) = retrying.next() => drop(busy.remove(&index)),
            () = inner.local.liveness.unsent.added() => {}
        }
    }
}

/// Retries the pending invalidations of a partition until it has none. Returns the partition.
async fn retry<V: Send + Sync + 'static>(inner: &Inner<V>, index: u16) -> u16 {
    let liveness = &inner.local.liveness;
    let mut pauses = Pauses::new(RETRY_EVERY);
    while let Some(work) = liveness.unsent.of(index).next() {
        let attempted = attempt(inner, index, &work).await;
        liveness.asked(Asked::Retry(index), &attempted);
        match attempted {
            Ok(()) => {
                pauses.over();
                liveness.unsent.of(index).landed(&work);
                liveness.emit_state_changes(None);
            }
            Err(error) => {
                let like_outage =
                    error.is_temporary() || inner.policy.faults.is(Mutant::RefusalsRetriedLikeOutages);
                match like_outage {
                    true => sleep(pauses.short()).await,
                    false => liveness.pause(pauses.longer()).await,
                }
            }
        }
    }
    index
}

/// Sends the pending invalidations, also those that become pending meanwhile. If L2 cannot be reached, it tries again. If
/// L2 refuses, it stops for that partition.
pub(crate) async fn flush<V: Send + Sync + 'static>(inner: &Inner<V>) {
    let mut flushing = FuturesUnordered::new();
    let mut begun = HashSet::new();
    loop {
        for index in inner.local.liveness.unsent.partitions() {
            if begun.insert(index) {
                flushing.push(flush_of(inner, index));
            }
        }
        tokio::select! {
            biased;
            flushed = flushing.next() => match flushed {
                Some((index, true)) => drop(begun.remove(&index)),
                Some((_, false)) => {}
                None => return,
            },
            () = sleep(FLUSH_EVERY) => {}
        }
    }
}

/// Returns the partition, and whether it has nothing pending any more.
async fn flush_of<V: Send + Sync + 'static>(inner: &Inner<V>, index: u16) -> (u16, bool) {
    let unsent = inner.local.liveness.unsent.of(index);
    while let Some(work) = unsent.next() {
        match attempt(inner, index, &work).await {
            Ok(()) => unsent.landed(&work),
            Err(error) if error.is_temporary() => sleep(FLUSH_EVERY).await,
            Err(_) => return (index, false),
        }
    }
    (index, true)
}

async fn attempt<V: Send + Sync + 'static>(inner: &Inner<V>, index: u16, work: &Work) -> Result<()> {
    let place = inner.local.liveness.node.partition(index).map(|partition| Place { index, partition });
    let (Some(l2), Some(place)) = (&inner.remote, place) else { return Ok(()) };
    let sent = match work {
        Work::Clear(_) => send::send_clear_to(inner, l2, place).await.map(drop),
        Work::Keys(keys) => {
            let keys: Vec<Key> = keys.iter().map(|(key, _)| key.clone()).collect();
            send::send_invalidate(inner, &keys).await.map(drop)
        }
        Work::Tags(tags) => {
            let tags: Result<Vec<Tags>> =
                tags.chunks(MAX_TAGS).map(|tags| Tags::new(tags.iter().map(|(tag, _)| tag))).collect();
            send::send_tags_to(inner, l2, place, &tags?, Effect::Void).await.map(drop)
        }
    };
    sent.map_err(|error| inner.local.liveness.attempt_failed(error))
}

/// Invalidates the key in L2 after a reload whose value is not stored. If that fails, the key becomes a
/// pending invalidation. Other lookups of the key continue meanwhile. The value they find is not older than
/// the value that the reload was to replace.
pub(crate) async fn remove_replaced<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, mode: CacheMode) {
    if mode == CacheMode::Reload
        && send::send_invalidate(inner, std::slice::from_ref(key))
            .await
            .is_err_and(|error| is_retried(&inner.local.liveness.l2_failed(error)))
    {
        replaces(inner, key, mode);
    }
}

/// Removes keys whose values are known to be old, on all nodes. L1 drops them at once, and then the
/// invalidation is sent to L2. If that fails, they become pending invalidations, and this node does not read
/// them from L2 until the retry succeeds.
pub(crate) async fn forget<V: Send + Sync + 'static>(inner: &Inner<V>, keys: &[Key]) {
    keys.iter().for_each(|key| inner.local.stripes.change_begins(inner.local.engine(), key.as_bytes()));
    if let Err(error) = send::send_invalidate(inner, keys).await {
        drop(inner.local.liveness.l2_failed(error));
        inner.local.liveness.add_unsent(keys);
    }
}

/// Makes the key a pending invalidation after a reload whose value L2 did not store. So at least the old
/// value is removed.
pub(crate) fn replaces<V: Send + Sync + 'static>(inner: &Inner<V>, key: &Key, mode: CacheMode) {
    if mode == CacheMode::Reload && inner.remote.is_some() {
        inner.local.liveness.add_unsent(std::slice::from_ref(key));
    }
}
