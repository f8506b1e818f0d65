//! A fleet in virtual time, on the in-process double of the shared tier. The network in between delays,
//! reorders, loses and breaks. Everything is drawn from one seed, so a run can be repeated exactly.

mod faults;
mod health;
mod history;
mod network;
mod plan;
mod servers;
mod traffic;
pub mod whole;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::testing::Mutant;
use async_cache::{
    EventStream, Evidence, Knowledge, MemoryBackend, OutagePolicy, StaleCause, TieredCache, Verify,
};
use async_cache_memory::testing::Mutant as TierMutant;
use fastrand::Rng;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use health::Ward;
pub use history::{Event, History, Owed, Violation};
pub use network::{Link, Network, Weather, Wire, Wires};
pub use plan::{Plan, Stale, Trouble};
use servers::Servers;

/// The caches under test. The value contains the key and the version.
pub type Cache = TieredCache<u64, u64>;

/// A safeguard that is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// No safeguard.
    Nothing,
    /// One safeguard of every node.
    Node(Mutant),
    /// One safeguard of the shared tier.
    Tier(TierMutant),
}

/// The outcome of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The first broken rule.
    pub violation: Option<Violation>,
    /// A number that differs between runs with different events.
    pub fingerprint: u64,
    /// The number of answered lookups.
    pub reads: u64,
    /// The number of lookups within ten bounds after a change of their key.
    pub at_risk: u64,
    /// The number of changes that returned.
    pub changes: u64,
    /// The number of loads that began.
    pub loads: u64,
}

/// What the verifiers of a run did.
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    /// The number of verified hits.
    pub verified: u64,
    /// How long the traffic lasted.
    pub lasted: Duration,
    /// The reports, in their order.
    pub reports: Vec<Report>,
}

/// A report of a verifier.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// The time since the start of the run.
    pub after: Duration,
    /// The node that reported.
    pub node: usize,
    /// Why.
    pub evidence: Evidence,
    /// What the node knew.
    pub knew: Knowledge,
}

/// The state that the actors of a run share. They all run on one thread.
struct World {
    plan: Plan,
    nodes: Vec<Cache>,
    /// The links of each node, one to each server.
    links: Vec<Vec<Arc<Link>>>,
    servers: Servers,
    ward: Ward,
    rows: Arc<Vec<Row>>,
    /// A lock for each key, so that one writer at a time inserts. Two racing inserts of one key have no defined
    /// order.
    locks: Vec<tokio::sync::Mutex<()>>,
    history: RefCell<History>,
    /// For each key the newest stamp, and its version.
    stamps: RefCell<Vec<Option<(async_cache::Stamp, u64)>>>,
    /// The events of each node, and the number of its answers without a server.
    told: Vec<RefCell<(EventStream, u64)>>,
}

/// A row of the database.
#[derive(Debug, Default)]
struct Row {
    version: AtomicU64,
    loads: AtomicU64,
    /// The number of loads for `refresh`, and of loads that failed.
    extra: AtomicU64,
    /// The number of loads under way.
    running: AtomicU64,
    /// The time at which the last load ended.
    ended: Mutex<Option<Instant>>,
}

/// Loads of rows that are under way. Its `Drop` notes their end, however they end.
struct Running<'a> {
    rows: &'a [Row],
    keys: &'a [usize],
}

impl<'a> Running<'a> {
    fn begin(rows: &'a [Row], keys: &'a [usize]) -> Self {
        for key in keys {
            rows[*key].loads.fetch_add(1, Ordering::SeqCst);
            rows[*key].running.fetch_add(1, Ordering::SeqCst);
        }
        Self { rows, keys }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        for key in self.keys {
            self.rows[*key].running.fetch_sub(1, Ordering::SeqCst);
            *self.rows[*key].ended.lock() = Some(Instant::now());
        }
    }
}

impl World {
    /// A number that changes when a node returns an unverified value.
    fn unverified(&self, node: usize) -> u64 {
        let (events, count) = &mut *self.told[node].borrow_mut();
        while let Some(Some(event)) = events.next().now_or_never() {
            match event {
                async_cache::Event::StaleServed { cause: StaleCause::Outage, .. }
                | async_cache::Event::Dropped { .. } => *count += 1,
                _ => {}
            }
        }
        *count
    }

    fn version(&self, key: usize) -> u64 {
        self.rows[key].version.load(Ordering::SeqCst)
    }
}

/// Runs a seed.
///
/// # Panics
///
/// If a runtime cannot be built.
#[must_use]
pub fn run(seed: u64, off: Off, verbose: bool) -> Outcome {
    run_with(seed, off, verbose, None).0
}

/// Runs a seed with verifiers that sample this share of the hits.
///
/// # Panics
///
/// If a runtime cannot be built.
#[must_use]
pub fn run_verified(seed: u64, off: Off, share: f64) -> (Outcome, Verifier) {
    run_with(seed, off, false, Some(share))
}

fn run_with(seed: u64, off: Off, verbose: bool, verify: Option<f64>) -> (Outcome, Verifier) {
    // The random numbers of the core (identities, jitter) also come from the seed.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, live(Plan::draw(seed), off, verbose, verify))
}

fn build(plan: Plan, off: Off, verbose: bool, verify: Option<f64>) -> Rc<World> {
    let mut rng = Rng::with_seed(plan.seed ^ 0x5eed);
    let servers = Servers::new(plan.servers, plan.weather, verbose, || {
        let server = MemoryBackend::builder().max_capacity(10_000).partitions(plan.partitions);
        match off {
            Off::Tier(mutant) => server.tag_table(plan.tag_table).mutant(mutant).build(),
            _ => server.tag_table(plan.tag_table).build(),
        }
    });
    let links: Vec<_> = (0..plan.nodes).map(|node| servers.links(node, || rng.u64(..))).collect();
    let node = |links: &Vec<Arc<Link>>| {
        let builder = Cache::builder()
            .namespace("rows")
            .l1(MemoryBackend::new(1_000))
            .l2(Wires { links: links.clone(), partitions: plan.partitions })
            .max_staleness(plan.max_staleness)
            .ttl(plan.ttl)
            .lease_ttl(plan.lease_ttl)
            .wait_timeout(plan.wait_timeout)
            .load_timeout(Duration::from_secs(2))
            .negative_ttl(plan.negative_ttl)
            .stale_for(plan.stale.stale_for)
            .stale_while_revalidate(plan.stale.stale_while_revalidate)
            .stale_on_error(plan.stale.stale_on_error)
            .error_backoff(plan.stale.error_backoff)
            .tag_slots(2 * plan.tag_table)
            .outage(plan.outage);
        let builder = match plan.stale.soft_timeout {
            Some(limit) => builder.soft_timeout(limit),
            None => builder,
        };
        let builder = match plan.refresh_ahead {
            Some(eagerness) => builder.refresh_ahead(eagerness),
            None => builder,
        };
        let builder = match verify {
            Some(share) => builder.verify(Verify::sample(share).per_second(10_000)),
            None => builder,
        };
        match off {
            Off::Node(mutant) => builder.mutant(mutant),
            _ => builder,
        }
        .build()
        .expect("a valid cache")
    };
    let rows: Vec<Row> = (0..plan.keys).map(|_| Row::default()).collect();
    rows.iter().for_each(|row| row.version.store(1, Ordering::SeqCst));
    let nodes: Vec<Cache> = links.iter().map(node).collect();
    Rc::new(World {
        plan,
        told: nodes.iter().map(|node| RefCell::new((node.subscribe(), 0))).collect(),
        nodes,
        links,
        servers,
        ward: Ward::new(&plan),
        rows: Arc::new(rows),
        locks: (0..plan.keys).map(|_| tokio::sync::Mutex::default()).collect(),
        history: RefCell::new(History::new(plan.max_staleness, verbose)),
        stamps: RefCell::new(vec![None; plan.keys]),
    })
}

async fn live(plan: Plan, off: Off, verbose: bool, verify: Option<f64>) -> (Outcome, Verifier) {
    if verbose {
        println!("{plan:#?}");
    }
    let world = build(plan, off, verbose, verify);
    let reports = Rc::default();
    for (node, cache) in world.nodes.iter().enumerate().filter(|_| verify.is_some()) {
        spawn_local(collect(node, cache.subscribe(), Rc::clone(&reports)));
    }
    let begun = Instant::now();
    let (actors, faults, watch) = (traffic::start(&world), faults::start(&world), health::watch(&world));
    let ended = async {
        for actor in actors {
            actor.await.expect("an actor does not panic");
        }
        faults.await.expect("the faults do not panic");
        if let Some(watch) = watch {
            watch.await.expect("the watch does not panic");
        }
    };
    if timeout(plan.traffic + Duration::from_secs(60), ended).await.is_err() {
        world.history.borrow_mut().violated(Violation::Hangs("a call"));
    } else {
        settle(&world).await;
    }
    let verifier = Verifier {
        verified: world.nodes.iter().map(|node| node.stats().verified_hits).sum(),
        lasted: begun.elapsed(),
        reports: reports.take(),
    };
    let loads = world.rows.iter().map(|row| row.loads.load(Ordering::SeqCst)).sum();
    for node in &world.nodes {
        if timeout(Duration::from_secs(60), node.shutdown()).await.is_err() {
            world.history.borrow_mut().violated(Violation::Hangs("shutdown"));
        }
    }
    let history = world.history.borrow();
    let outcome = Outcome {
        violation: history.violation.clone(),
        fingerprint: history.fingerprint(),
        reads: history.reads,
        at_risk: history.at_risk,
        changes: history.changed,
        loads,
    };
    (outcome, verifier)
}

/// Collects the reports of a node's verifier.
async fn collect(node: usize, mut events: EventStream, reports: Rc<RefCell<Vec<Report>>>) {
    let begun = Instant::now();
    while let Some(event) = events.next().await {
        if let async_cache::Event::StaleHit { evidence, knew, .. } = event {
            reports.borrow_mut().push(Report { after: begun.elapsed(), node, evidence, knew });
        }
    }
}

/// Runs after the last fault: the fleet must come to rest, and agree with the database.
async fn settle(world: &World) {
    world.servers.clear_up();
    let violated = |violation| world.history.borrow_mut().violated(violation);
    let until = async |what: &'static str, holds: &dyn Fn(&Cache) -> bool| {
        for _ in 0..6_000 {
            if world.nodes.iter().all(holds) {
                return true;
            }
            sleep(Duration::from_millis(10)).await;
        }
        violated(Violation::Hangs(what));
        false
    };
    if !until("an invalidation that never lands", &|node| node.stats().pending_invalidations == 0).await
        || !until("a node that never serves again", &Cache::is_serving).await
    {
        return;
    }
    // The time covers the bound, the last stop of a node (see `faults`), and messages under way.
    sleep(world.plan.max_staleness * 4 + world.plan.weather.worst * 4).await;
    for node in 0..world.nodes.len() {
        for key in 0..world.plan.keys {
            let committed = world.version(key);
            match traffic::read_settled(world, node, key).await {
                Some(version) if version == committed => {}
                version => violated(Violation::Diverged {
                    node,
                    key,
                    version: version.unwrap_or_default(),
                    committed,
                }),
            }
        }
    }
    for _ in 0..6_000 {
        if world.nodes.iter().all(Cache::is_idle) {
            break;
        }
        sleep(Duration::from_millis(10)).await;
    }
    if let Some(node) = world.nodes.iter().position(|node| !node.is_idle()) {
        violated(Violation::LeftBehind { node });
    }
    if world.plan.loads_are_counted() {
        count_loads(world);
    }
}

/// Checks, for a run without faults, that a change costs each node at most one load.
fn count_loads(world: &World) {
    for (key, row) in world.rows.iter().enumerate() {
        let loads = row.loads.load(Ordering::SeqCst);
        let changes = row.version.load(Ordering::SeqCst);
        let lives = world.plan.traffic.as_millis() / world.plan.ttl.as_millis();
        let allowed = (changes + lives as u64 + 1) * (world.plan.nodes as u64 + 1)
            + row.extra.load(Ordering::SeqCst) * 2;
        if loads > allowed {
            world.history.borrow_mut().violated(Violation::TooManyLoads { key, loads, changes });
        }
    }
}
