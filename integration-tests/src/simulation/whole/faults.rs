//! Nodes that end and start, and all other faults.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::super::servers::Server;
use super::plan::Trouble;
use super::{World, end, open};

/// Starts the faults of a run. They end with its traffic.
pub(super) fn start(world: &Rc<World>) -> JoinHandle<()> {
    spawn_local(strike(Rc::clone(world), Rng::with_seed(world.plan.seed ^ 0xfa17)))
}

async fn strike(world: Rc<World>, mut rng: Rng) {
    let until = Instant::now() + world.plan.traffic;
    let mut others = Rng::with_seed(world.plan.seed ^ 0x5e4e);
    let mut under_way = Vec::new();
    while Instant::now() < until {
        sleep(Duration::from_millis(rng.u64(50..600))).await;
        let slot = rng.usize(..world.slots.len());
        let kind = match world.plan.trouble {
            Trouble::None => return,
            Trouble::Restarts => 0,
            Trouble::Everything => rng.u8(..7),
        };
        if kind < 2 {
            restart(&world, slot, kind).await;
            continue;
        }
        let server = others.usize(..world.plan.servers);
        let link = Arc::clone(&world.slots[slot].borrow().links[server]);
        let span = Duration::from_millis(rng.u64(1..world.plan.max_staleness.as_millis() as u64 * 2));
        let what = match kind {
            2 => {
                under_way.push(spawn_local(link.cut(span, Duration::from_millis(rng.u64(..200)))));
                "is cut off from messages"
            }
            3 => {
                under_way.push(spawn_local(link.go_deaf(span)));
                "loses messages"
            }
            4 => {
                world.slots[slot].borrow().links.iter().for_each(|link| link.block(span));
                "is stopped"
            }
            5 => {
                link.unreachable(span);
                "cannot reach a server"
            }
            _ => {
                replace_server(&world, server, &mut rng, &mut under_way);
                sleep(Duration::from_millis(150)).await;
                "sees a server replaced"
            }
        };
        let node = world.slots[slot].borrow().node;
        world.book.pages().note(node, None, format!("{what} for {span:?}"));
    }
    for fault in under_way {
        fault.await.expect("a fault does not panic");
    }
}

/// Replaces a node by a new one, which is called at once. The old one is shut down, or just dropped.
async fn restart(world: &World, slot: usize, kind: u8) {
    if kind == 0 {
        end(world, slot).await;
    } else {
        let node = world.slots[slot].borrow().node;
        let mut pages = world.book.pages();
        let now = pages.now().ms;
        pages.nodes[node].ended_ms = Some(now);
    }
    let next = open(&world.plan, world.off, &world.servers, &world.book, slot);
    *world.slots[slot].borrow_mut() = next;
}

/// Replaces a server process, by an empty one or by one with its data.
fn replace_server(world: &World, server: usize, rng: &mut Rng, under_way: &mut Vec<JoinHandle<()>>) {
    let Server { memory, network } = &world.servers.0[server];
    let current = memory.snapshot();
    network.server_died();
    memory.restart(rng.bool().then_some(&current));
    let away = Duration::from_millis(rng.u64(..100));
    for slot in &world.slots {
        let link = Arc::clone(&slot.borrow().links[server]);
        link.unreachable(away);
        let (notice, after) = (Duration::from_millis(rng.u64(..60)), Duration::from_millis(rng.u64(..200)));
        under_way.push(spawn_local(link.cut(notice, after)));
    }
}
