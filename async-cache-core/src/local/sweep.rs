//! Frees what L1 holds and can never answer again: what has expired, or was made void by a clear or a tag.
//!
//! An engine would keep it until its room is needed. At a bounded rate: a part of the entries at each tick.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};

use crate::backend::{Entry, Phase};
use crate::error::guard;
use crate::liveness::node::Node;
use crate::local::l1::L1;

const EVERY: Duration = Duration::from_millis(250);
/// Ticks after which all entries are looked at although none is known to be dead.
const AT_LEAST: u32 = 240;
/// Most entries looked at in one tick, and without letting other tasks run.
const PART: usize = 8192;
const AT_ONCE: usize = 256;

/// Looks at all entries whenever one of them may have died, again and again, until the cache is closed.
pub(crate) async fn run<V: Send + Sync + 'static>(l1: Arc<L1<V>>) {
    let Some(engine) = l1.engine() else { return };
    let is_dead = |key: &[u8], entry: &Entry<V>| is_dead(&l1, key, entry);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut voided, mut idle) = (voided_now(&l1.liveness.node), 0);
    loop {
        ticks.tick().await;
        let (before, now) =
            (std::mem::replace(&mut voided, voided_now(&l1.liveness.node)), l1.liveness.node.clock.now());
        idle += 1;
        if before == voided && now < l1.stripes.first_end() && idle < AT_LEAST {
            continue;
        }
        idle = 0;
        l1.stripes.forget_ends();
        let mut rest = engine.sweep(&is_dead);
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

fn is_dead<V: 'static>(l1: &L1<V>, key: &[u8], entry: &Entry<V>) -> bool {
    let (_, partition) = l1.liveness.node.partition_of(key);
    let is_dead =
        entry.life.phase(l1.liveness.node.clock.coarse_now()) == Phase::Expired || partition.voids(entry);
    if !is_dead {
        l1.stripes.note_end(entry.life.ends);
    }
    is_dead
}

/// What has made entries void; while it is the same, no more are.
fn voided_now(node: &Node) -> Vec<(u64, u64, u64)> {
    node.partitions().map(|(_, partition)| partition.voided()).collect()
}
