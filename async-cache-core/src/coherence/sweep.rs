//! Frees what L1 holds and can never answer again: what has expired, or was made void by a clear or a tag.
//!
//! An engine would keep it until its room is needed. At a bounded rate: a part of the entries at each tick.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::backend::{Entry, Phase};
use crate::path::guard;
use crate::shared::Shared;

const EVERY: Duration = Duration::from_millis(250);
/// Most entries looked at in one tick, and without letting other tasks run.
const PART: usize = 8192;
const AT_ONCE: usize = 256;

/// Looks at all entries, again and again, until the cache is closed.
pub(super) async fn run<V: Send + Sync + 'static>(shared: Arc<Shared<V>>) {
    let Some(l1) = shared.l1() else { return };
    let is_dead = |key: &[u8], entry: &Entry<V>| shared.is_dead(key, entry);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut rest = l1.sweep(&is_dead);
        let mut seen = 0;
        // A value whose end panics is gone, and the next is looked at.
        while let Ok(Some(())) | Err(_) = guard::call("dropping a value", || Ok(rest.next())) {
            seen += 1;
            if seen % PART == 0 {
                ticks.tick().await;
            } else if seen % AT_ONCE == 0 {
                yield_now().await;
            }
        }
    }
}

impl<V: 'static> Shared<V> {
    fn is_dead(&self, key: &[u8], entry: &Entry<V>) -> bool {
        let (_, partition) = self.node.partition_of(key);
        entry.life.phase(self.node.clock.now()) == Phase::Over || partition.voids(entry)
    }
}
