//! Frees the entries of L1 that can never answer again: expired ones, and those that a clear or a tag has
//! voided.
//!
//! An engine would keep them until it needs their room. The rate is bounded: each tick looks at a part of the
//! entries.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::backend::{Entry, Phase};
use crate::error::guard;
use crate::liveness::node::Node;
use crate::local::l1::L1;

const EVERY: Duration = Duration::from_millis(250);
/// After this number of ticks all entries are checked, although none is known to be dead.
const AT_LEAST: u32 = 240;
/// The maximum number of entries that are checked in one tick, and without letting other tasks run.
const PART: usize = 8192;
const AT_ONCE: usize = 256;

/// Checks all entries whenever one of them may have died, until the cache is closed.
pub(crate) async fn run<V: Send + Sync + 'static>(l1: Arc<L1<V>>) {
    let Some(engine) = l1.engine() else { return };
    let is_dead = |key: &[u8], entry: &Entry<V>| is_dead(&l1, key, entry);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut voided, mut idle) = (voided_now(&l1.liveness.node), 0);
    loop {
        ticks.tick().await;
        let (before, now) = (std::mem::replace(&mut voided, voided_now(&l1.liveness.node)), l1.now());
        idle += 1;
        if before == voided && now < l1.stripes.first_end() && idle < AT_LEAST {
            continue;
        }
        idle = 0;
        l1.stripes.forget_ends();
        let mut rest = engine.sweep(&is_dead);
        let mut seen = 0;
        // If the `Drop` of a value panics, the value is gone. The loop continues with the next one.
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

fn is_dead<V: 'static>(l1: &L1<V>, key: &[u8], entry: &Entry<V>) -> bool {
    let (_, partition) = l1.partition_of(key);
    let is_dead = entry.life.phase(l1.coarse_now()) == Phase::Expired || partition.voids(entry);
    if !is_dead {
        l1.stripes.note_end(entry.life.ends);
    }
    is_dead
}

/// The numbers that decide which entries are void. While they are unchanged, no further entry has become
/// void.
fn voided_now(node: &Node) -> Vec<(u64, u64, u64)> {
    node.partitions().map(|(_, partition)| partition.voided()).collect()
}
