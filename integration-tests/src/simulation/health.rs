//! Judges that a fault of one server concerns only its own partitions, and that L1 goes on answering for the others.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

use super::history::Violation;
use super::network::server_of;
use super::{Plan, World};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// What is known about the partitions of one server on one node.
#[derive(Debug, Clone, Copy)]
enum Health {
    /// A fault of the server, or of the way to it, may last until then.
    Harmed(Instant),
    /// They have been served since then. An echo from before the subscription may still arrive, and end that once more.
    Recovering(Instant),
    /// They are served, and nothing is wrong.
    Sound,
}

/// The health of each server, as each node must see it.
#[derive(Debug)]
pub(super) struct Ward(RefCell<Vec<Vec<Health>>>);

impl Ward {
    /// No node serves yet.
    pub(super) fn new(plan: &Plan) -> Self {
        Self(RefCell::new(vec![vec![Health::Harmed(Instant::now()); plan.servers]; plan.nodes]))
    }

    /// Notes a fault that lasts for `span`.
    pub(super) fn harmed(&self, plan: &Plan, node: usize, server: usize, span: Duration) {
        // A message may be late. If it is lost, the next heartbeat shows it.
        let until = Instant::now() + span + plan.max_staleness * 2 + plan.weather.worst * 4;
        let health = &mut self.0.borrow_mut()[node][server];
        *health = match *health {
            Health::Harmed(known) if known > until => Health::Harmed(known),
            _ => Health::Harmed(until),
        };
    }

    fn look(&self, world: &World) {
        for (node, servers) in self.0.borrow_mut().iter_mut().enumerate() {
            let serving = world.nodes[node].serving_partitions();
            for (server, health) in servers.iter_mut().enumerate() {
                let mut own = (0..world.plan.partitions)
                    .filter(|partition| server_of(*partition, world.plan.servers) == server);
                let serves = own.all(|partition| serving[usize::from(partition)]);
                let (now, plan) = (Instant::now(), &world.plan);
                *health = match *health {
                    Health::Harmed(until) if serves && until <= now => Health::Recovering(now),
                    Health::Recovering(_) if !serves => Health::Harmed(now),
                    Health::Recovering(since)
                        if since + plan.max_staleness + plan.weather.worst * 4 <= now =>
                    {
                        Health::Sound
                    }
                    Health::Sound if !serves => {
                        world.history.borrow_mut().violated(Violation::Suspended { node, server });
                        Health::Harmed(now)
                    }
                    same => same,
                };
            }
        }
    }
}

/// Watches the nodes of a run, if nothing but its faults can suspend them.
pub(super) fn watch(world: &Rc<World>) -> Option<JoinHandle<()>> {
    let world = world.plan.steady.then(|| Rc::clone(world))?;
    Some(spawn_local(async move {
        let end = Instant::now() + world.plan.traffic;
        while Instant::now() < end {
            world.ward.look(&world);
            sleep(LOOK).await;
        }
    }))
}
