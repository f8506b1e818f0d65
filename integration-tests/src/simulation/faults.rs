//! The faults of a run, and their times.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_cache_memory::testing::Snapshot;
use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::history::Event;
use super::{Trouble, World};

/// Starts the faults of a run. They end with its traffic.
pub(super) fn start(world: &Rc<World>) -> JoinHandle<()> {
    spawn_local(strike(Rc::clone(world), Rng::with_seed(world.plan.seed ^ 0xfa17)))
}

async fn strike(world: Rc<World>, mut rng: Rng) {
    let end = Instant::now() + world.plan.traffic;
    let mut snapshot = None;
    let mut replaced: Option<Instant> = None;
    let mut under_way = Vec::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(rng.u64(20..world.plan.calm))).await;
        let kind = match world.plan.trouble {
            Trouble::None => return,
            Trouble::Bus => rng.u8(..3),
            Trouble::Commands => rng.u8(2..4),
            Trouble::Server if world.plan.sudden => [4, 6, 6, 7][rng.usize(..4)],
            Trouble::Server => rng.u8(4..8),
            Trouble::Everything => rng.u8(..8),
        };
        let node = rng.usize(..world.plan.nodes);
        let bound = world.plan.max_staleness.as_millis() as u64;
        let span = Duration::from_millis(rng.u64(1..bound * 3));
        let link = Arc::clone(&world.links[node]);
        let what = match kind {
            0 => {
                let after = Duration::from_millis(rng.u64(..bound * 2));
                under_way.push(spawn_local(link.cut(span, after)));
                format!("cut, noticed in {span:?}, back {after:?} later")
            }
            1 => {
                under_way.push(spawn_local(link.go_deaf(span)));
                format!("deaf for {span:?}")
            }
            2 => {
                link.block(span);
                format!("stopped for {span:?}")
            }
            3 => {
                link.unreachable(span);
                format!("unreachable for {span:?}")
            }
            4 => {
                snapshot = Some(world.server.snapshot());
                "snapshot".to_owned()
            }
            // The time between two server replacements is longer than the leap of the epoch: see `epoch.lua`.
            _ if replaced.is_some_and(|last| last.elapsed() < Duration::from_millis(150)) => continue,
            _ => {
                replaced = Some(Instant::now());
                replace_server(&world, kind, snapshot.as_ref(), &mut rng, &mut under_way)
            }
        };
        world.history.borrow_mut().note(node, &Event::Fault { what });
    }
    for fault in under_way {
        fault.await.expect("a fault does not panic");
    }
}

/// Replaces the server process: by an empty one, by one with its data, or by one with older data.
fn replace_server(
    world: &World,
    kind: u8,
    snapshot: Option<&Snapshot>,
    rng: &mut Rng,
    under_way: &mut Vec<JoinHandle<()>>,
) -> String {
    let current = world.server.snapshot();
    let (memory, what) = match (kind, snapshot) {
        (5, _) => (None, "empty"),
        (6, Some(old)) => (Some(old), "old"),
        _ => (Some(&current), "current"),
    };
    world.network.server_died();
    world.server.restart(memory);
    let bound = world.plan.max_staleness.as_millis() as u64;
    let (away, unnoticed) = if world.plan.sudden { (10, bound) } else { (100, 60) };
    let away = Duration::from_millis(rng.u64(..away));
    for link in &world.links {
        link.unreachable(away);
        let (notice, after) =
            (Duration::from_millis(rng.u64(..unnoticed)), Duration::from_millis(rng.u64(..200)));
        under_way.push(spawn_local(Arc::clone(link).cut(notice, after)));
    }
    format!("server replaced, memory {what}")
}
