//! Heartbeats, and new baselines after a missed change.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::backend::Region;
use crate::liveness::news::Baseline;
use crate::liveness::partition::Partition;
use crate::liveness::pauses::Pauses;
use crate::liveness::refusals::Asked;
use crate::liveness::state::Liveness;

/// Pause before a failed baseline is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

// The background tasks of a cache are generic in its values, so they are compiled in the crate of the user. These two are
// not: each is compiled here, because its caller sees a box.

/// Sends a heartbeat for each partition in every period. A partition whose last heartbeat has no answer yet is
/// passed over: the others do not wait for its server.
pub(crate) fn beat<'a>(
    liveness: &'a Liveness,
    region: &'a dyn Region,
    period: Duration,
) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = FuturesUnordered::new();
        let mut waiting = vec![false; usize::from(liveness.node.partition_count())];
        loop {
            tokio::select! {
                biased;
                Some(index) = under_way.next() => {
                    waiting[usize::from(index)] = false;
                    if under_way.is_empty() {
                        liveness.emit_state_changes(None);
                    }
                }
                _ = ticks.tick() => {
                    let idle = liveness.node.partitions().filter(|(index, _)| !waiting[usize::from(*index)]);
                    idle.for_each(|(index, partition)| under_way.push(beat_one(liveness, region, index, partition)));
                    waiting.fill(true);
                    liveness.emit_state_changes(None);
                }
            }
        }
    })
}

/// Sends a heartbeat for one partition, and gives its index when the answer is there.
async fn beat_one(liveness: &Liveness, region: &dyn Region, index: u16, partition: &Partition) -> u16 {
    let sent = liveness.node.clock.now();
    let beat = liveness.node.begin_beat(partition);
    let pulse = region.heartbeat(index, beat).await;
    liveness.asked(Asked::Heartbeat(index), &pulse);
    match pulse {
        Ok(pulse) => partition.server_clock.observe(pulse.time_ms, sent, liveness.node.clock.now()),
        Err(error) => drop(liveness.attempt_failed(error)),
    }
    index
}

/// Reads a new baseline for each partition that needs one.
pub(crate) fn resync<'a>(liveness: &'a Liveness, region: &'a dyn Region) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        loop {
            liveness.node.resync.notified().await;
            let mut pauses = Pauses::new(RETRY_EVERY);
            while let Err(again) = resync_all(liveness, region).await {
                match again {
                    TryAgain::Soon => sleep(pauses.short()).await,
                    TryAgain::Refused => liveness.pause(pauses.longer()).await,
                }
            }
            liveness.emit_state_changes(None);
        }
    })
}

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryAgain {
    /// Soon: the obstacle may be gone by then.
    Soon,
    /// L2 refused. Its settings or permissions must change first.
    Refused,
}

pub(crate) async fn resync_all(liveness: &Liveness, region: &dyn Region) -> Result<(), TryAgain> {
    let syncing = liveness.node.partitions().filter(|(_, partition)| partition.is_syncing());
    let read = syncing.map(|(index, partition)| resync_one(liveness, region, index, partition));
    let outcomes = join_all(read.collect::<Vec<_>>()).await;
    match outcomes.contains(&Err(TryAgain::Soon)) {
        true => Err(TryAgain::Soon),
        false => outcomes.into_iter().find(Result::is_err).unwrap_or(Ok(())),
    }
}

async fn resync_one(
    liveness: &Liveness,
    region: &dyn Region,
    index: u16,
    partition: &Partition,
) -> Result<(), TryAgain> {
    let sent = liveness.node.clock.now();
    let read = liveness.read_baseline(region, index).await;
    liveness.asked(Asked::Baseline(index), &read);
    let known =
        read.map_err(|error| if error.is_temporary() { TryAgain::Soon } else { TryAgain::Refused })?;
    match partition.baseline(&known, sent, liveness.node.max_staleness) {
        Baseline::Flushed => {
            liveness.observer.counters.flushes.add(1);
            liveness.put_in_doubt();
            Ok(())
        }
        Baseline::Again => Err(TryAgain::Soon),
        Baseline::Continued | Baseline::NotNow => Ok(()),
    }
}
