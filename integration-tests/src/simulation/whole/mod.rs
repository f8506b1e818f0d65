//! Fleets that use all public methods, in virtual time.
//!
//! The rest of the simulation tests staleness after an invalidation under every kind of fault. Here calls are
//! drawn from every method and every option. Nodes start and are called at once, and some end during their
//! calls. Each promise has its own judge: see [`Promise`].

mod book;
mod breach;
mod database;
mod faults;
mod judge;
mod loads;
mod plan;
mod traffic;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_cache::{Event, EventStream, MemoryBackend, StaleCause, Stamp, TieredCache};
use fastrand::Rng;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{sleep, timeout};

use super::servers::Servers;
use super::{Link, Off, Wires};
use crate::surface::{Cache, Tiers, configure};
use book::{Book, Landed, Node};
pub use breach::{Breach, Promise};
pub use plan::{Plan, Trouble};

/// The payload of a planned panic in a loader.
#[derive(Debug)]
struct Planned;

/// The outcome of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first broken promise.
    pub breach: Option<Breach>,
    /// A number that differs between runs with different events.
    pub fingerprint: u64,
    /// The number of judged answers.
    pub answers: u64,
    /// The number of judged loads.
    pub loads: u64,
    /// The number of changes.
    pub changes: u64,
}

/// The state that the actors of a run share. They all run on one thread.
struct World {
    plan: Plan,
    off: Off,
    book: Book,
    servers: Servers,
    slots: Vec<RefCell<Slot>>,
    calls: Cell<u64>,
    /// A lock for each key, so that one writer at a time inserts. Two racing inserts of one key have no defined
    /// order.
    locks: Vec<tokio::sync::Mutex<()>>,
    /// For each key the newest stamp, and its change.
    stamps: RefCell<Vec<Option<(Stamp, usize)>>>,
}

/// A place in the fleet, and its present node.
struct Slot {
    node: usize,
    cache: Cache,
    /// One to each server.
    links: Vec<Arc<Link>>,
    /// The events of the node, and the number of unverified answers that it has reported.
    told: (EventStream, u64),
}

/// Runs a seed.
///
/// # Panics
///
/// If a runtime cannot be built.
#[must_use]
pub fn run(seed: u64, off: Off, verbose: bool) -> Outcome {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !panic.payload().is::<Planned>() {
                report(panic);
            }
        }));
    });
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(Plan::draw(seed), off, verbose))
}

async fn live(plan: Plan, off: Off, verbose: bool) -> Outcome {
    if verbose {
        println!("{plan:#?}");
    }
    let world = build(plan, off, verbose);
    let (actors, faults) = (traffic::start(&world), faults::start(&world));
    let ended = async {
        for actor in actors {
            actor.await.expect("an actor does not panic");
        }
        faults.await.expect("the faults do not panic");
    };
    let breach = |promise, what: &str| world.book.pages().breach(promise, None, what.to_owned());
    match timeout(world.plan.traffic + 2 * world.plan.longest_call(), ended).await {
        Ok(()) => settle(&world).await,
        Err(_) => breach(Promise::Liveness, "the traffic does not come to an end"),
    }
    let pages = world.book.pages();
    Outcome {
        breach: pages.breach.clone(),
        fingerprint: pages.fingerprint(),
        answers: pages.answers,
        loads: pages.loads.len() as u64,
        changes: pages.changes.len() as u64,
    }
}

fn build(plan: Plan, off: Off, verbose: bool) -> Rc<World> {
    let servers = Servers::new(plan.servers, plan.weather, verbose, || {
        let server = MemoryBackend::builder().max_capacity(10_000).partitions(plan.partitions);
        match off {
            Off::Tier(mutant) => server.mutant(mutant).build(),
            _ => server.build(),
        }
    });
    let book = Book::open(plan.clone(), verbose);
    let slots = (0..plan.tiers.len()).map(|slot| open(&plan, off, &servers, &book, slot)).map(RefCell::new);
    let (rows, slots) = (plan.rows(), slots.collect());
    Rc::new(World {
        off,
        book,
        servers,
        slots,
        calls: Cell::new(0),
        locks: (0..rows).map(|_| tokio::sync::Mutex::default()).collect(),
        stamps: RefCell::new(vec![None; rows]),
        plan,
    })
}

/// Starts a node, without waiting until it is ready.
fn open(plan: &Plan, off: Off, servers: &Servers, book: &Book, slot: usize) -> Slot {
    let node = {
        let mut pages = book.pages();
        let born_ms = pages.now().ms;
        pages.nodes.push(Node { born_ms, ..Node::default() });
        let node = pages.nodes.len() - 1;
        pages.note(node, None, format!("starts in place {slot}"));
        node
    };
    let mut seeds = Rng::with_seed(plan.seed ^ (node as u64) << 40);
    let links = servers.links(node, || seeds.u64(..));
    let wires = Wires { links: links.clone(), partitions: plan.partitions };
    let builder: async_cache::TieredCacheBuilder<u64, crate::surface::Written> = TieredCache::builder();
    let builder = builder.namespace("rows").max_staleness(plan.max_staleness).outage(plan.outage);
    let builder = match plan.tiers[slot] {
        Tiers::L1 => builder.l1(MemoryBackend::new(10_000)),
        Tiers::L2 => builder.l2(wires),
        Tiers::Both => builder.l1(MemoryBackend::new(10_000)).l2(wires),
    };
    let builder = match off {
        Off::Node(mutant) => builder.mutant(mutant),
        _ => builder,
    };
    let cache = configure(builder, &plan.defaults).build().expect("a valid cache");
    Slot { node, told: (cache.subscribe(), 0), cache, links }
}

impl Slot {
    /// A number that changes when the node returns an unverified value.
    fn unverified(&mut self) -> u64 {
        let (events, count) = &mut self.told;
        while let Some(Some(event)) = events.next().now_or_never() {
            match event {
                Event::StaleServed { cause: StaleCause::Outage, .. } | Event::Dropped { .. } => *count += 1,
                _ => {}
            }
        }
        *count
    }
}

/// Runs after the last call: all changes must reach the server, and all resources must be released.
async fn settle(world: &World) {
    world.servers.clear_up();
    let breach = |promise, what: String| world.book.pages().breach(promise, None, what);
    let rests = |slot: &RefCell<Slot>| {
        let cache = &slot.borrow().cache;
        cache.is_idle() && cache.stats().pending_invalidations == 0
    };
    for _ in 0..2_000 {
        if world.slots.iter().all(rests) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    if let Some(slot) = world.slots.iter().position(|slot| !rests(slot)) {
        let stats = world.slots[slot].borrow().cache.stats();
        breach(Promise::Growth, format!("after 20 s of rest there is left behind: {stats:?}"));
    }
    for slot in 0..world.slots.len() {
        end(world, slot).await;
    }
    if world.book.pages().breach.is_some() {
        return;
    }
    sleep(Duration::from_secs(5)).await;
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    // A network link carries messages while its cache exists.
    let links = world.plan.servers * world.plan.tiers.iter().filter(|tiers| **tiers != Tiers::L1).count();
    if tasks > links {
        let left = tasks - links;
        breach(Promise::Growth, format!("{left} tasks are left after every cache was shut down"));
    }
}

/// Shuts a node down, and judges the result of the shutdown.
async fn end(world: &World, slot: usize) {
    let (cache, node) = {
        let slot = world.slots[slot].borrow();
        (slot.cache.clone(), slot.node)
    };
    {
        let mut pages = world.book.pages();
        pages.nodes[node].ended_ms = Some(pages.now().ms);
        pages.note(node, None, "is shut down".to_owned());
    }
    let breach =
        |promise, what: String| world.book.pages().breach(promise, None, format!("node {node}: {what}"));
    let pending = cache.stats().pending_invalidations;
    if timeout(world.plan.longest_call(), cache.shutdown()).await.is_err() {
        return breach(Promise::Liveness, "shutdown does not end".to_owned());
    }
    let left = cache.stats().pending_invalidations;
    let mut pages = world.book.pages();
    if left == 0 {
        // Pending changes that the shutdown did not count have been executed.
        let now = pages.now();
        let known = |change: &&mut book::Change| change.node == node && change.returned <= now;
        for change in pages.changes.iter_mut().filter(known).filter(|change| change.landed == Landed::Perhaps)
        {
            (change.landed, change.returned) = (Landed::Surely, now);
        }
    }
    drop(pages);
    if left > 0 && world.plan.trouble != Trouble::Everything {
        breach(
            Promise::Shutdown,
            format!("{left} of {pending} pending changes are left, with the server in reach"),
        );
    }
    let exact = world.plan.trouble == Trouble::None;
    let (stats, seen) = (cache.stats(), world.book.pages().nodes[node].clone());
    if exact && stats.loads != seen.loads {
        breach(Promise::Stats, format!("loads are {}, and {} were seen", stats.loads, seen.loads));
    }
    let (surely, perhaps) = seen.stale;
    if exact && !(surely..=perhaps).contains(&stats.stale_served) {
        let what = "stale_served is";
        breach(Promise::Stats, format!("{what} {}; {surely} to {perhaps} were seen", stats.stale_served));
    }
}
