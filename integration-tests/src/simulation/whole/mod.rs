//! Fleets that use the whole public surface, in virtual time.
//!
//! The rest of the simulation is about staleness after an invalidation, under every kind of fault. Here
//! calls are drawn from every verb and every option, nodes start and call at once, and end in the middle;
//! and every promise has a judge of its own: see [`Promise`].

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

use super::{Link, Network, Off, Wire};
use crate::surface::{Cache, Tiers, configure};
use book::{Book, Landed, Node};
pub use breach::{Breach, Promise};
pub use plan::{Plan, Trouble};

/// What a loader panics with where it is to.
#[derive(Debug)]
struct Planned;

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was promised and not kept.
    pub breach: Option<Breach>,
    /// A number that two runs share only if the same happened in both.
    pub fingerprint: u64,
    /// Answers judged.
    pub answers: u64,
    /// Loads judged.
    pub loads: u64,
    /// Changes made.
    pub changes: u64,
}

/// What the actors of a run share. All on one thread.
struct World {
    plan: Plan,
    off: Off,
    book: Book,
    network: Arc<Network>,
    server: MemoryBackend,
    slots: Vec<RefCell<Slot>>,
    calls: Cell<u64>,
    /// One writer at a time for each key: two inserts of one key race for their own account.
    locks: Vec<tokio::sync::Mutex<()>>,
    /// For each key the newest stamp, and the change it stands for.
    stamps: RefCell<Vec<Option<(Stamp, usize)>>>,
}

/// A place in the fleet, and the node that is there now.
struct Slot {
    node: usize,
    cache: Cache,
    link: Arc<Link>,
    /// What it tells of itself, and how often it has told of an answer that nothing verifies.
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
    let server = MemoryBackend::builder().max_capacity(10_000).partitions(plan.partitions);
    let server = match off {
        Off::Tier(mutant) => server.mutant(mutant).build(),
        _ => server.build(),
    };
    let network = Network::new(server.clone(), plan.weather, verbose);
    let book = Book::open(plan.clone(), verbose);
    let slots = (0..plan.tiers.len()).map(|slot| open(&plan, off, &network, &book, slot)).map(RefCell::new);
    let (rows, slots) = (plan.rows(), slots.collect());
    Rc::new(World {
        off,
        book,
        network,
        server,
        slots,
        calls: Cell::new(0),
        locks: (0..rows).map(|_| tokio::sync::Mutex::default()).collect(),
        stamps: RefCell::new(vec![None; rows]),
        plan,
    })
}

/// Starts a node; nobody waits for it to be ready.
fn open(plan: &Plan, off: Off, network: &Arc<Network>, book: &Book, slot: usize) -> Slot {
    let node = {
        let mut pages = book.pages();
        let born_ms = pages.now().ms;
        pages.nodes.push(Node { born_ms, ..Node::default() });
        let node = pages.nodes.len() - 1;
        pages.note(node, None, format!("starts in place {slot}"));
        node
    };
    let seed = Rng::with_seed(plan.seed ^ (node as u64) << 40).u64(..);
    let link = network.link(node, seed);
    let builder: async_cache::TieredCacheBuilder<u64, crate::surface::Written> = TieredCache::builder();
    let builder = builder.namespace("rows").max_staleness(plan.max_staleness).outage(plan.outage);
    let builder = match plan.tiers[slot] {
        Tiers::L1 => builder.l1(MemoryBackend::new(10_000)),
        Tiers::L2 => builder.l2(Wire(Arc::clone(&link))),
        Tiers::Both => builder.l1(MemoryBackend::new(10_000)).l2(Wire(Arc::clone(&link))),
    };
    let builder = match off {
        Off::Node(mutant) => builder.mutant(mutant),
        _ => builder,
    };
    let cache = configure(builder, &plan.defaults).build().expect("a valid cache");
    Slot { node, told: (cache.subscribe(), 0), cache, link }
}

impl Slot {
    /// A number that changes when the node answers with what it could not verify.
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

/// After the last call: everything lands, comes to rest, and is given back.
async fn settle(world: &World) {
    world.network.clear_up();
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
    // Each network link carries messages for as long as its cache is held.
    let links = world.plan.tiers.iter().filter(|tiers| **tiers != Tiers::L1).count();
    if tasks > links {
        let left = tasks - links;
        breach(Promise::Growth, format!("{left} tasks are left after every cache was shut down"));
    }
}

/// Shuts a node down, in order; and judges what it says of itself.
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
        // What it could not say had landed has.
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
