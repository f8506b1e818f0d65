//! A node process: cache handles, the traffic on each, and the judgement of every read.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_cache::testing::Mutant;
use async_cache::{MemoryBackend, Outage, RedisBackend, TieredCache};
use clap::Args;

use crate::ledger::{Count, Global, KEYS, LOOK_EVERY, Ledger, look_for_stalls, now};
use crate::{canary, read, write};

/// What a node process is told.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeArgs {
    #[arg(long)]
    pub ledger: PathBuf,
    /// One for each cache handle.
    #[arg(long = "url", required = true)]
    pub urls: Vec<String>,
    /// Number of the first handle.
    #[arg(long)]
    pub first: usize,
    /// Handles in the fleet.
    #[arg(long)]
    pub fleet: usize,
    /// Reads per second of each handle.
    #[arg(long)]
    pub reads_per_s: u32,
    /// Changes per second of each handle.
    #[arg(long)]
    pub changes_per_s: u32,
    #[arg(long)]
    pub max_staleness_ms: u64,
    #[arg(long)]
    pub seed: u64,
    #[arg(long, value_parser = crate::mutant)]
    pub mutant: Option<Mutant>,
}

pub(crate) type Cache = TieredCache<u64, u64>;

/// The namespace of the traffic.
pub(crate) const NAMESPACE: &str = "rows";
/// A wait that goes on for so long after the load it was for was not woken: the first poll of a
/// waiter that trusts the bus comes no sooner, and a wake-up takes the way that the canary takes,
/// which is known to have taken a third of this at most.
pub(crate) const WAKE_NS: u64 = 75_000_000;

/// Readers and writers of each handle.
const READERS: u64 = 4;
const WRITERS: u64 = 2;

/// One cache handle, and what its tasks share.
#[derive(Debug)]
pub(crate) struct Handle {
    pub cache: Cache,
    pub ledger: &'static Ledger,
    pub index: usize,
    pub bound_ns: u64,
    /// By key: the highest version whose change returned on this handle.
    pub own: Box<[AtomicU64]>,
    pub args: NodeArgs,
}

/// Runs until the parent goes away.
pub(crate) fn run(args: NodeArgs) {
    let ledger: &'static Ledger = Box::leak(Box::new(Ledger::open(&args.ledger).expect("the ledger")));
    let first = args.first;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        ledger.add(first, Count::Panics, 1);
        report(panic);
    }));
    // The end of the input is the end of the parent.
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(serve(args, ledger));
}

async fn serve(args: NodeArgs, ledger: &'static Ledger) {
    // What is tested is a hit as it is shipped.
    async_cache::testing::real_time();
    for at in 0..args.urls.len() {
        // A predecessor was killed in the middle of its loads.
        (0..KEYS).for_each(|key| ledger.loading(args.first + at, key).store(0, Ordering::Release));
    }
    let mut handles = Vec::new();
    for (at, url) in args.urls.iter().enumerate() {
        handles.push(Arc::new(Handle {
            cache: open(&args, args.first + at, url).await,
            ledger,
            index: args.first + at,
            bound_ns: args.max_staleness_ms * 1_000_000,
            own: (0..KEYS).map(|_| AtomicU64::new(0)).collect(),
            args: args.clone(),
        }));
    }
    tokio::spawn(look_for_stalls(ledger));
    for url in &args.urls {
        tokio::spawn(canary::sing(url.clone(), ledger));
    }
    let watched = handles.clone();
    std::thread::spawn(move || watch(&watched));
    let mut tasks = tokio::task::JoinSet::new();
    for handle in handles {
        for task in 0..READERS {
            let seed = args.seed ^ ((handle.index as u64) << 8 | task);
            tasks.spawn(read::reads(Arc::clone(&handle), seed, f64::from(args.reads_per_s) / READERS as f64));
        }
        for task in 0..WRITERS {
            let seed = !args.seed ^ ((handle.index as u64) << 8 | task);
            let rate = f64::from(args.changes_per_s) / WRITERS as f64;
            tasks.spawn(write::changes(Arc::clone(&handle), seed, rate, task == 0));
        }
    }
    tasks.join_all().await;
}

/// Opens a cache. The server may be away just now: tries until it is not.
async fn open(args: &NodeArgs, index: usize, url: &str) -> Cache {
    let redis = loop {
        match RedisBackend::connect(url).await {
            Ok(redis) => break redis,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    // Nothing unverified is served under either policy, so that the bound holds whatever happens.
    let outage = if index % 3 == 2 { Outage::Fail } else { Outage::Load };
    let builder = TieredCache::builder();
    let builder = match args.mutant {
        Some(mutant) => builder.mutant(mutant),
        None => builder,
    };
    builder
        .namespace(NAMESPACE)
        .l1(MemoryBackend::new(10_000))
        .l2(redis)
        .max_staleness(Duration::from_millis(args.max_staleness_ms))
        .outage(outage)
        .ttl(Duration::from_secs(20))
        .ttl_jitter(0.3)
        .lease_ttl(Duration::from_secs(1))
        .load_timeout(Duration::from_secs(5))
        .wait_timeout(Duration::from_secs(3))
        .build()
        .expect("a valid cache")
}

/// Looks at the caches now and then: how long L1 serves, and what they count themselves.
fn watch(handles: &[Arc<Handle>]) {
    let Some(ledger) = handles.first().map(|handle| handle.ledger) else { return };
    let mut known: HashMap<usize, (u64, u64)> = HashMap::new();
    let mut last = now();
    let mut was_quiet = false;
    handles.iter().for_each(|handle| ledger.add(handle.index, Count::Starts, 1));
    loop {
        std::thread::sleep(LOOK_EVERY);
        let at = now();
        let passed = at - last;
        last = at;
        let quiet = ledger.global(Global::Fault).load(Ordering::Relaxed) == 0;
        for handle in handles {
            let serving = handle.cache.is_serving();
            let add = |count, when| ledger.add(handle.index, count, if when { passed } else { 0 });
            add(Count::TotalNs, true);
            add(Count::SuspendedNs, !serving);
            add(Count::QuietNs, quiet && was_quiet);
            add(Count::QuietSuspendedNs, quiet && was_quiet && !serving);
            let gauge = |count, value| ledger.count(handle.index, count).store(value, Ordering::Release);
            let stats = handle.cache.stats();
            gauge(Count::Serving, u64::from(serving));
            gauge(Count::Pending, stats.pending_invalidations);
            gauge(Count::SeenAt, at);
            let (hits, waits) = known.entry(handle.index).or_default();
            ledger.add(handle.index, Count::L1Hits, stats.l1_hits - *hits);
            ledger.add(handle.index, Count::Waits, stats.lease_waits - *waits);
            (*hits, *waits) = (stats.l1_hits, stats.lease_waits);
        }
        was_quiet = quiet;
    }
}
