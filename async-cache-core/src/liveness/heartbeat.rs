//! Heartbeats, and new baselines after a missed change.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::backend::Region;
use crate::liveness::news::Baseline;
use crate::liveness::pauses::Pauses;
use crate::liveness::state::{Asked, Liveness};

/// Pause before a failed baseline is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Sends a heartbeat for each partition in every period.
pub(crate) async fn beat(liveness: &Liveness, region: &dyn Region, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let beats = liveness.node.partitions().map(|(index, partition)| async move {
            let sent = liveness.node.clock.now();
            let beat = liveness.node.begin_beat(partition);
            let pulse = region.heartbeat(index, beat).await;
            liveness.asked(Asked::Heartbeat, &pulse);
            match pulse {
                Ok(pulse) => {
                    let received = liveness.node.clock.now();
                    liveness.node.server_clock.observe(pulse.time_ms, sent, received);
                }
                Err(error) => drop(liveness.l2_failed(error)),
            }
        });
        futures_util::future::join_all(beats).await;
        liveness.emit_state_changes(None);
    }
}

/// Reads a new baseline for each partition that needs one.
pub(crate) async fn resync(liveness: &Liveness, region: &dyn Region) {
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
    let mut outcome = Ok(());
    for (index, partition) in liveness.node.partitions() {
        if !partition.is_syncing() {
            continue;
        }
        let sent = liveness.node.clock.now();
        let read = liveness.read_baseline(region, index).await;
        liveness.asked(Asked::Baseline, &read);
        let known = match read {
            Ok(known) => known,
            Err(error) => {
                outcome = Err(if error.is_temporary() { TryAgain::Soon } else { TryAgain::Refused });
                continue;
            }
        };
        match partition.baseline(&known, sent, liveness.node.max_staleness) {
            Baseline::Flushed => {
                liveness.observer.counters.flushes.add(1);
                liveness.put_in_doubt();
            }
            Baseline::Again => outcome = Err(TryAgain::Soon),
            Baseline::Continued | Baseline::NotNow => {}
        }
    }
    outcome
}
