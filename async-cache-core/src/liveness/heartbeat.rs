//! The background work of a node: heartbeats, and new baselines after a gap.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::backend::{Baseline as Known, Region, State};
use crate::error::Result;
use crate::inner::Shared;
use crate::liveness::partition::Baseline;
use crate::liveness::pauses::Pauses;
use crate::liveness::watch::Asked;

/// Pause before a failed baseline is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(50);

/// Starts the background work; it ends when the cache closes.
pub(crate) fn run<V: Send + Sync + 'static>(shared: &Arc<Shared<V>>, heartbeat: Duration) {
    #[cfg(feature = "metrics")]
    until_closed(shared, crate::observe::run_metrics);
    if shared.l1.is_some() {
        until_closed(shared, crate::local::sweep::run);
    }
    let Some(l2) = &shared.l2 else { return };
    let region = Arc::clone(&l2.region);
    until_closed(shared, move |shared| beat(shared, Arc::clone(&region), heartbeat));
    let region = Arc::clone(&l2.region);
    until_closed(shared, move |shared| resync(shared, Arc::clone(&region)));
    until_closed(shared, crate::changes::retry::run);
}

/// Runs background work until the cache closes. It drops values, and `V`'s `Drop` is not ours: after a panic the
/// work begins anew.
fn until_closed<V, Work>(
    shared: &Arc<Shared<V>>,
    work: impl Fn(Arc<Shared<V>>) -> Work + Send + Sync + 'static,
) where
    V: Send + Sync + 'static,
    Work: Future<Output = ()> + Send + 'static,
{
    let (closing, at_work) = (shared.closing.clone(), Arc::clone(shared));
    let piece = shared.background.piece();
    shared.tasks.spawn(piece.run(async move {
        let supervised = async {
            while AssertUnwindSafe(work(Arc::clone(&at_work))).catch_unwind().await.is_err() {
                sleep(RETRY_EVERY).await;
            }
        };
        closing.run_until_cancelled(supervised).await;
    }));
}

/// Sends a heartbeat for each partition, one period after the other.
async fn beat<V: Send + Sync + 'static>(shared: Arc<Shared<V>>, region: Arc<dyn Region>, period: Duration) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let beats = shared.node.partitions().map(|(index, partition)| {
            let (shared, region) = (&shared, &region);
            async move {
                let sent = shared.node.clock.now();
                let beat = shared.node.begin_beat(partition);
                let pulse = region.heartbeat(index, beat).await;
                shared.asked(Asked::Heartbeat, &pulse);
                match pulse {
                    Ok(pulse) => {
                        let received = shared.node.clock.now();
                        shared.node.server_clock.observe(pulse.time_ms, sent, received);
                    }
                    Err(error) => drop(shared.l2_failed(error)),
                }
            }
        });
        futures_util::future::join_all(beats).await;
        shared.look_around(None);
    }
}

/// Takes a new baseline for each partition that asks for one.
async fn resync<V: Send + Sync + 'static>(shared: Arc<Shared<V>>, region: Arc<dyn Region>) {
    loop {
        shared.node.resync.notified().await;
        let mut pauses = Pauses::new(RETRY_EVERY);
        while let Err(again) = resync_all(&shared, &*region).await {
            match again {
                TryAgain::Soon => sleep(pauses.short()).await,
                TryAgain::Refused => shared.watch.pause(pauses.longer()).await,
            }
        }
        shared.look_around(None);
    }
}

/// When to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TryAgain {
    /// What stood in the way may be over.
    Soon,
    /// L2 refused: somebody has to change something first.
    Refused,
}

pub(crate) async fn resync_all<V: Send + Sync + 'static>(
    shared: &Shared<V>,
    region: &dyn Region,
) -> Result<(), TryAgain> {
    let mut outcome = Ok(());
    for (index, partition) in shared.node.partitions() {
        if !partition.is_syncing() {
            continue;
        }
        let sent = shared.node.clock.now();
        let read = shared.read_baseline(region, index).await;
        shared.asked(Asked::Baseline, &read);
        let known = match read {
            Ok(known) => known,
            Err(error) => {
                outcome = Err(if error.is_temporary() { TryAgain::Soon } else { TryAgain::Refused });
                continue;
            }
        };
        match partition.baseline(&known, sent, shared.node.max_staleness) {
            Baseline::Flushed => {
                shared.counters.flushes.add(1);
                shared.watch.put_in_doubt();
            }
            Baseline::Again => outcome = Err(TryAgain::Soon),
            Baseline::Continued | Baseline::NotNow => {}
        }
    }
    outcome
}

impl<V: 'static> Shared<V> {
    /// Reads a partition's state, and the server's time with it.
    pub(crate) async fn read_state(&self, region: &dyn Region, partition: u16) -> Result<State> {
        let sent = self.node.clock.now();
        let state = region.state(partition).await.map_err(|error| self.l2_failed(error))?;
        self.node.server_clock.observe(state.time_ms, sent, self.node.clock.now());
        Ok(state)
    }

    /// The same, with the tag table.
    async fn read_baseline(&self, region: &dyn Region, partition: u16) -> Result<Known> {
        let sent = self.node.clock.now();
        let known = region.baseline(partition).await.map_err(|error| self.l2_failed(error))?;
        self.node.server_clock.observe(known.state.time_ms, sent, self.node.clock.now());
        Ok(known)
    }
}
