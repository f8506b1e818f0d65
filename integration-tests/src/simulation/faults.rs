//! The faults of a run, and their times.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_cache_memory::testing::Snapshot;
use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::history::Event;
use super::servers::Server;
use super::{Trouble, World};

/// Starts the faults of a run. They end with its traffic.
pub(super) fn start(world: &Rc<World>) -> JoinHandle<()> {
    spawn_local(strike(Rc::clone(world), Rng::with_seed(world.plan.seed ^ 0xfa17)))
}

async fn strike(world: Rc<World>, mut rng: Rng) {
    let mut others = Rng::with_seed(world.plan.seed ^ 0x5e4e);
    let end = Instant::now() + world.plan.traffic;
    let mut snapshots: Vec<Option<Snapshot>> = world.servers.0.iter().map(|_| None).collect();
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
        let server = others.usize(..world.plan.servers);
        let bound = world.plan.max_staleness.as_millis() as u64;
        let span = Duration::from_millis(rng.u64(1..bound * 3));
        let link = Arc::clone(&world.links[node][server]);
        let harmed = |server, span| world.ward.harmed(&world.plan, node, server, span);
        let what = match kind {
            0 => {
                let after = Duration::from_millis(rng.u64(..bound * 2));
                harmed(server, span + after);
                under_way.push(spawn_local(link.cut(span, after)));
                format!("cut, noticed in {span:?}, back {after:?} later")
            }
            1 => {
                harmed(server, span);
                under_way.push(spawn_local(link.go_deaf(span)));
                format!("deaf for {span:?}")
            }
            2 => {
                // The node is stopped.
                for (server, link) in world.links[node].iter().enumerate() {
                    harmed(server, span);
                    link.block(span);
                }
                format!("stopped for {span:?}")
            }
            3 => {
                harmed(server, span);
                link.unreachable(span);
                format!("unreachable for {span:?}")
            }
            4 => {
                snapshots[server] = Some(world.servers.0[server].memory.snapshot());
                "snapshot".to_owned()
            }
            // The time between two server replacements is longer than the leap of the epoch: see `epoch.lua`.
            _ if replaced.is_some_and(|last| last.elapsed() < Duration::from_millis(150)) => continue,
            _ => {
                replaced = Some(Instant::now());
                let next = Next { server, kind, snapshot: snapshots[server].as_ref() };
                replace_server(&world, next, &mut rng, &mut under_way)
            }
        };
        world.history.borrow_mut().note(node, &Event::Fault { what: format!("server {server}: {what}") });
    }
    for fault in under_way {
        fault.await.expect("a fault does not panic");
    }
}

/// What takes the place of a server process: an empty one, one with its data, or one with older data.
#[derive(Clone, Copy)]
struct Next<'a> {
    server: usize,
    kind: u8,
    snapshot: Option<&'a Snapshot>,
}

/// Replaces a server process.
fn replace_server(
    world: &World,
    next: Next<'_>,
    rng: &mut Rng,
    under_way: &mut Vec<JoinHandle<()>>,
) -> String {
    let Next { server, kind, snapshot } = next;
    let Server { memory: process, network } = &world.servers.0[server];
    let current = process.snapshot();
    let (memory, what) = match (kind, snapshot) {
        (5, _) => (None, "empty"),
        (6, Some(old)) => (Some(old), "old"),
        _ => (Some(&current), "current"),
    };
    network.server_died();
    process.restart(memory);
    let bound = world.plan.max_staleness.as_millis() as u64;
    let (away, unnoticed) = if world.plan.sudden { (10, bound) } else { (100, 60) };
    let away = Duration::from_millis(rng.u64(..away));
    for (node, links) in world.links.iter().enumerate() {
        let link = &links[server];
        link.unreachable(away);
        let (notice, after) =
            (Duration::from_millis(rng.u64(..unnoticed)), Duration::from_millis(rng.u64(..200)));
        world.ward.harmed(&world.plan, node, server, away.max(notice + after));
        under_way.push(spawn_local(Arc::clone(link).cut(notice, after)));
    }
    format!("replaced, memory {what}")
}
